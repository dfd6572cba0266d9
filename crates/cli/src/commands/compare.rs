//! `siprtc compare PLAYED HEARD`.

use crate::args::CompareArgs;
use crate::compare::{Likeness, compare};
use crate::exit::Exit;
use crate::output::Output;
use serde_json::json;

pub(crate) fn run(args: &CompareArgs, output: &Output) -> Exit {
    let likeness = match compare(&args.played, &args.heard) {
        Ok(likeness) => likeness,
        Err(error) => return output.error(&error),
    };
    tell(&likeness, args.least, output)
}

/// Says how alike they are, and whether that is enough.
pub(crate) fn tell(likeness: &Likeness, least: f64, output: &Output) -> Exit {
    let same = likeness.is_same(least);
    output.emit(json!({
        "event": "likeness",
        "same": same,
        "correlation": likeness.correlation,
        "delay_s": likeness.delay,
        "played_s": likeness.played,
        "found_s": likeness.found,
        "heard_s": likeness.heard,
    }));
    output.say(&format!(
        "correlation {:.3}, {:.2} s of {:.2} s found in {:.2} s heard: {}",
        likeness.correlation,
        likeness.found,
        likeness.played,
        likeness.heard,
        if same { "the same" } else { "NOT the same" },
    ));
    if same { Exit::Ok } else { Exit::Different }
}
