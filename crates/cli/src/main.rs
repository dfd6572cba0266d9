//! The `siprtc` program: a call in ten minutes, and the tools around it.

mod args;
mod commands;
mod compare;
mod control;
mod exit;
mod interrupt;
mod output;
mod song;

use args::{Args, Command};
use clap::Parser;
use exit::Exit;
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&format!(
                "the system gives no threads: {error}; check the limits (ulimit -u)"
            ));
            return Exit::Internal.code();
        }
    };
    let exit = runtime.block_on(run(args, &output));
    // What still runs has had its time: a stuck file or socket must not keep a finished program alive.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    exit.code()
}

async fn run(args: Args, output: &Output) -> Exit {
    let config = match args.config(matches!(args.command, Command::Demo(_))) {
        Ok(config) => config,
        Err(error) => return output.error(&error),
    };
    let telemetry = match siprtc::telemetry::install(&config.log, &config.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return output.error(&error),
    };
    let exit = match &args.command {
        Command::Answer(answer) => commands::answer::run(&config, answer, output).await,
        Command::Automaton(automaton) => commands::automaton::run(automaton, output),
        Command::Bridge(bridge) => commands::bridge::run(&config, bridge, output).await,
        Command::Call(call) => commands::call::run(&config, call, output).await,
        Command::Compare(compare) => commands::compare::run(compare, output),
        Command::Devices => commands::devices::run(output),
        Command::Demo(demo) => commands::demo::run(&config, demo, output).await,
        Command::Register(register) => commands::register::run(&config, register, output).await,
        Command::ServeHome => commands::serve_home::run(&config, output).await,
        Command::Ice => commands::ice::run(output).await,
        Command::Sdp(sdp) => commands::sdp::run(sdp, output),
        Command::Stacks(stacks) => commands::stacks::run(stacks, output).await,
        Command::Refer(refer) => commands::refer::run(&config, refer, output).await,
        Command::Subscribe(subscribe) => commands::subscribe::run(&config, subscribe, output).await,
        Command::Turn => commands::turn::run(&config, output).await,
    };
    // The exporters flush over the network: not on a thread that drives it.
    drop(tokio::task::spawn_blocking(move || drop(telemetry)).await);
    exit
}
