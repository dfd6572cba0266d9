//! Panics as values: of a scenario, which fails so, and of the tasks that it has brought about.

use super::Run;
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Arc, Once};
use std::task::Poll;

/// What panicked beside the scenario: one line each.
pub(super) type Heap = Arc<Mutex<Vec<String>>>;

thread_local! {
    /// Where this thread's panics go; `None` on threads that run no scenario.
    static HEAP: RefCell<Option<Heap>> = const { RefCell::new(None) };
    /// Whether this thread is in the middle of a scenario's own code.
    static IN_SCENARIO: Cell<bool> = const { Cell::new(false) };
    /// The scenario's own panic.
    static OWN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics on threads with a heap go there instead of to standard error.
pub(super) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !kept(info) {
                before(info);
            }
        }));
    });
}

/// Panics on this thread belong to `heap`.
pub(super) fn collect_on_this_thread(heap: &Heap) {
    HEAP.set(Some(heap.clone()));
}

/// The scenario's end, with what it panicked with and where.
pub(super) async fn caught(mut run: Run) -> Result<(), String> {
    std::future::poll_fn(move |context| {
        IN_SCENARIO.set(true);
        let polled = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context)));
        IN_SCENARIO.set(false);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(OWN.take().unwrap_or_else(|| "it panicked".to_owned()))),
        }
    })
    .await
}

fn kept(info: &PanicHookInfo<'_>) -> bool {
    let payload = info.payload();
    let text = match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text.as_str(),
        (None, Some(text)) => text,
        (None, None) => "a panic without a word",
    };
    let text = match info.location() {
        Some(place) => format!("{text} ({}:{})", place.file(), place.line()),
        None => text.to_owned(),
    };
    if IN_SCENARIO.get() {
        OWN.set(Some(text));
        return true;
    }
    HEAP.with_borrow(|heap| match heap {
        Some(heap) => {
            heap.lock().push(text);
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_its_place() {
        watch();
        let wrong = caught(Box::pin(async { panic!("too many {}", "cooks") })).await;
        let text = wrong.unwrap_err();
        assert!(
            text.starts_with("too many cooks (") && text.contains("panics.rs:"),
            "{text}"
        );
        assert_eq!(caught(Box::pin(async {})).await, Ok(()));
    }
}
