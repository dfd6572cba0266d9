//! `siprtc ice`.

use crate::exit::Exit;
use crate::output::Output;
use serde_json::json;
use siprtc::registry;
use siprtc_testkit::ice::IceMatrix;

pub(crate) async fn run(output: &Output) -> Exit {
    let (told, mut steps) = tokio::sync::watch::channel((0, 0));
    let work = tokio::task::spawn_blocking(move || {
        IceMatrix::run(&registry::ice_agents(), &|count, all| {
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
        output.progress(format!("{count} of {all} trials"));
    }
    output.done();
    match work.await {
        Ok(matrix) => {
            output.emit(json!({ "event": "ice", "matrix": matrix }));
            output.say(matrix.to_text().trim_end());
            match matrix.is_as_it_should_be() {
                true => Exit::Ok,
                false => Exit::Incompatible,
            }
        }
        Err(error) => {
            output.failure(&format!("the trials could not be run: {error}"));
            Exit::Internal
        }
    }
}
