//! `siprtc stacks`.

use crate::args::StacksArgs;
use crate::exit::Exit;
use crate::output::Output;
use serde_json::json;
use siprtc::registry;
use siprtc_core::{Error, Fault};
use siprtc_testkit::sip::{AT_ONCE, Filter, Matrix, scenarios};

pub(crate) async fn run(args: &StacksArgs, output: &Output) -> Exit {
    let filter = match filter(args) {
        Ok(filter) => filter,
        Err(error) => return output.error(&error),
    };
    let (told, mut steps) = tokio::sync::watch::channel((0, 0));
    let work = tokio::task::spawn_blocking(move || {
        Matrix::run(&registry::sip_stacks(), &filter, AT_ONCE, &|count, all| {
            // Threads overtake each other: the line counts up only.
            told.send_if_modified(|step| {
                let later = count > step.0;
                *step = (count.max(step.0), all);
                later
            });
        })
    });
    while steps.changed().await.is_ok() {
        let (count, all) = *steps.borrow_and_update();
        output.progress(format!("{count} of {all} runs"));
    }
    output.done();
    match work.await {
        Ok(matrix) => tell(&matrix, output),
        Err(error) => {
            output.failure(&format!("the scenarios could not be run: {error}"));
            Exit::Internal
        }
    }
}

fn tell(matrix: &Matrix, output: &Output) -> Exit {
    output.emit(json!({ "event": "stacks", "matrix": matrix }));
    output.say(matrix.to_text().trim_end());
    match matrix.wrong().next() {
        None => Exit::Ok,
        Some(_) => Exit::Incompatible,
    }
}

/// Names that nothing has are errors: an empty matrix would look like a good one.
fn filter(args: &StacksArgs) -> Result<Filter, Error> {
    if let Some(name) = &args.only {
        registry::sip_stack(name)?;
    }
    if let Some(part) = &args.scenario
        && !scenarios()
            .iter()
            .any(|scenario| scenario.name.contains(part.as_str()))
    {
        let message = format!("no scenario's name contains {part:?}");
        return Err(Error::new(Fault::ConfigInvalid, "choose scenarios", message)
            .advice("docs/stacks.md lists them; write _ between the words"));
    }
    Ok(Filter {
        stack: args.only.clone(),
        scenario: args.scenario.clone(),
    })
}
