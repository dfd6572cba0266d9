//! `siprtc automaton`.

use crate::args::AutomatonArgs;
use crate::exit::Exit;
use crate::output::Output;
use siprtc::automaton::Automaton;
use siprtc_core::{Error, Fault};

pub(crate) fn run(args: &AutomatonArgs, output: &Output) -> Exit {
    let automaton = Automaton::of_table();
    let drawn = match (output.json(), args.dot) {
        (true, _) => format!("{}\n", automaton.to_json()),
        (false, true) => automaton.to_dot(),
        (false, false) => automaton.to_svg(),
    };
    let Some(path) = &args.out else {
        output.raw(drawn.trim_end());
        return Exit::Ok;
    };
    match std::fs::write(path, drawn) {
        Ok(()) => Exit::Ok,
        Err(error) => output.error(
            &Error::new(
                Fault::ConfigInvalid,
                "write the automaton",
                path.display().to_string(),
            )
            .caused_by(error)
            .advice("choose a path that can be written"),
        ),
    }
}
