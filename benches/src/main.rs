//! Whole-process measurements; `benches/README.md` says what each figure means.

mod bare;
mod bridge;
mod callee;
mod calls;
mod children;
mod contest;
mod dial;
mod duel;
mod house;
mod idle;
mod janus;
mod load;
mod paths;
mod process;
mod setup;
mod soak;
mod stacks;
mod stamped;
mod timing;
mod transactions;
mod turn;
mod turn_client;

use siprtc_benches::figure::{self, Figure};
use siprtc_core::{Error, Fault, Result};
use std::process::{Command, ExitCode, Stdio};

/// In the order of the table.
const WHATS: [&str; 11] = [
    "words", "calls", "setup", "load", "idle", "soak", "stacks", "paths", "turn", "bridge", "dial",
];
const USAGE: &str = "siprtc-benches words | calls | setup | load | idle | soak | stacks | paths | turn | bridge | dial | all [--write] [--json]";
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
/// The stacks have a page of their own.
const STACKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/stacks-figures.md");
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let Some(what) = words.iter().find(|word| !word.starts_with("--")) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let load = process::load();
    let measured = match what.as_str() {
        "all" => Ok(all()),
        "bridge" => bridge::apart().map(whole),
        "dial" => dial::apart().map(whole),
        "callee" => inside_callee(words.get(1).map_or("", String::as_str)).map(whole),
        "hub" => inside_hub(&words).map(whole),
        "relay" => turn::serve(words.get(1).map_or("", String::as_str)).map(whole),
        what => inside(what).map(whole),
    };
    // What was measured is told even when something else failed.
    let (figures, failed) = measured.unwrap_or_else(|error| (Vec::new(), vec![error]));
    let told = tell(&figures, &load, has("--json"), has("--write"));
    let failed: Vec<Error> = failed.into_iter().chain(told.err()).collect();
    for error in &failed {
        eprintln!("{error}");
    }
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What was measured, and why the rest was not.
type Measured = (Vec<Figure>, Vec<Error>);

fn whole(figures: Vec<Figure>) -> Measured {
    (figures, Vec::new())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(no_runtime)
}

fn one_thread() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_runtime)
}

fn no_runtime(error: std::io::Error) -> Error {
    Error::new(Fault::Backend, "start", "no runtime").caused_by(error)
}

/// A process that `stacks` calls.
fn inside_callee(stack: &str) -> Result<Vec<Figure>> {
    runtime()?.block_on(callee::serve(stack))
}

/// A process that `bridge` calls through.
fn inside_hub(words: &[String]) -> Result<Vec<Figure>> {
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    // What joins calls and does nothing else is best off with one thread: on more, each packet wakes a second one for nothing.
    one_thread()?.block_on(bridge::serve(word(1), word(2)))
}

/// One measurement in this process.
fn inside(what: &str) -> Result<Vec<Figure>> {
    // The load on a bridge takes one core, so that there is one for the bridge.
    let runtime = if matches!(what, "bridges" | "promptly") {
        one_thread()
    } else {
        runtime()
    };
    runtime?.block_on(async {
        match what {
            "bridges" => bridge::run().await,
            "calls" => calls::run(),
            "contest" => contest::run().await,
            "home" => idle::serve().await,
            "idle" => idle::run().await,
            "load" => load::run().await,
            "paths" => paths::run().await,
            "promptly" => bridge::promptly().await,
            "setup" => setup::run().await,
            "soak" => soak::run().await,
            "stacks" => stacks::run().await,
            "turn" => turn::run().await,
            "words" => timing::run().await,
            other => {
                Err(Error::new(Fault::ApiMisuse, "measure", format!("{other:?} is not known")).advice(USAGE))
            }
        }
    })
}

/// Every measurement, each in a process of its own, so that none finds the memory and threads of another.
fn all() -> Measured {
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for what in WHATS {
        eprintln!("{what} ...");
        match own().and_then(|own| child(Command::new(own).args([what, "--json"]))) {
            Ok(measured) => figures.extend(measured),
            Err(error) => failed.push(error),
        }
    }
    (figures, failed)
}

fn own() -> Result<std::path::PathBuf> {
    std::env::current_exe()
        .map_err(|error| Error::new(Fault::Backend, "measure", "no own path").caused_by(error))
}

/// The figures that a child writes, one JSON object a line.
fn child(command: &mut Command) -> Result<Vec<Figure>> {
    let failed = |what: String| Error::new(Fault::Backend, "measure", what).advice("its own words are above");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("{command:?} cannot be started")).caused_by(error))?;
    if !output.status.success() {
        return Err(failed(format!("{command:?} failed")));
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            serde_json::from_str(line)
                .map_err(|error| failed("unreadable figure".to_owned()).caused_by(error))
        })
        .collect()
}

fn tell(figures: &[Figure], load: &str, json: bool, write: bool) -> Result<()> {
    if figures.is_empty() {
        return Ok(());
    }
    if json {
        for figure in figures {
            println!(
                "{}",
                serde_json::to_string(figure).expect("BUG: a figure has only plain fields")
            );
        }
        return Ok(());
    }
    let about = format!(
        "{}; load {load} before the run and {} after it",
        process::machine(),
        process::load()
    );
    println!("{about}.\n\n{}", figure::table(figures));
    if !write {
        return Ok(());
    }
    let (stacks, others): (Vec<&Figure>, Vec<&Figure>) =
        figures.iter().partition(|figure| figure.what == "stacks");
    if !stacks.is_empty() {
        let page = siprtc_benches::page::of(&stacks, &about);
        std::fs::write(STACKS, page).map_err(|error| unwritten(STACKS, "not writable").caused_by(error))?;
    }
    let others: Vec<Figure> = others.into_iter().cloned().collect();
    match others.is_empty() {
        true => Ok(()),
        false => put_into_readme(&others, &about),
    }
}

fn unwritten(file: &str, what: &str) -> Error {
    Error::new(Fault::ConfigInvalid, "write the table", format!("{file}: {what}"))
}

fn put_into_readme(figures: &[Figure], about: &str) -> Result<()> {
    let failed = |what: &str| unwritten(README, what);
    let readme = std::fs::read_to_string(README).map_err(|error| failed("unreadable").caused_by(error))?;
    let (head, rest) = readme
        .split_once(BEGIN)
        .ok_or_else(|| failed("no begin marker"))?;
    let (block, tail) = rest.split_once(END).ok_or_else(|| failed("no end marker"))?;
    let block = siprtc_benches::readme::merged(block, figures, about, &WHATS);
    let readme = format!("{head}{BEGIN}\n{block}{END}{tail}");
    std::fs::write(README, readme).map_err(|error| failed("not writable").caused_by(error))
}
