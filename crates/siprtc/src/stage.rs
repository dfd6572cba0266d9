//! Where actors live: one arbiter for the whole process, on a thread of its own. Sockets, packets and media run on the
//! caller's tokio runtime.

use actix::{ArbiterHandle, System};
use siprtc_core::{Error, Fault, Result};
use std::sync::OnceLock;
use std::sync::mpsc;
use tokio::sync::oneshot;

static ARBITER: OnceLock<ArbiterHandle> = OnceLock::new();

/// The process's arbiter, started on first use.
pub(crate) fn arbiter() -> Result<ArbiterHandle> {
    if let Some(arbiter) = ARBITER.get() {
        return Ok(arbiter.clone());
    }
    let (sender, receiver) = mpsc::channel();
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(
            Fault::Backend,
            "start the actors' thread",
            "the system gave no thread",
        )
        .advice("check the limits on threads (ulimit -u)")
        .caused_by(source)
    };
    std::thread::Builder::new()
        .name("siprtc-actors".to_owned())
        .spawn(move || {
            let runner = System::new();
            // A receiver that is gone has given up: the thread then simply idles.
            drop(sender.send(System::current().arbiter().clone()));
            drop(runner.run());
        })
        .map_err(|error| failed(Box::new(error)))?;
    let started = receiver.recv().map_err(|error| failed(Box::new(error)))?;
    // Two first users at once: the second one's thread idles, and both use the first's.
    Ok(ARBITER.get_or_init(|| started).clone())
}

/// Does `begin` on the arbiter's thread.
pub(crate) async fn on_arbiter<T: Send + 'static>(begin: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (sender, begun) = oneshot::channel();
    // Nobody waits any more when the endpoint's start was given up: what has begun is dropped, and ends.
    arbiter()?.spawn_fn(move || drop(sender.send(begin())));
    begun.await.map_err(|error| {
        Error::new(Fault::Backend, "start the actors", "the actors' thread is gone").caused_by(error)
    })
}
