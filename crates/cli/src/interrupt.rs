//! Ctrl-C, and a service manager's SIGTERM: both end a program in good order.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its making on: a signal between two waits is not lost.
pub(crate) struct Interrupts {
    signals: Option<(Signal, Signal)>,
}

impl Interrupts {
    pub(crate) fn new() -> Self {
        let signals =
            signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
        let signals =
            signals.inspect_err(|error| tracing::warn!(%error, "no signals here: the program ends by force"));
        Interrupts {
            signals: signals.ok(),
        }
    }

    /// The next one; never, where there are no signals.
    pub(crate) async fn next(&mut self) {
        match &mut self.signals {
            Some((int, term)) => {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
            }
            None => std::future::pending().await,
        }
    }
}
