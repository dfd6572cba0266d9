//! Hands a stack's events to the actor that began the transaction.

use actix::Recipient;
use siprtc_core::sip::{EventSink, SinkFull, StackEvent, TxOwner};
use siprtc_dialog_manager::FromStack as ToDialogs;
use siprtc_registrar_client::FromStack as ToRegistrar;
use std::sync::OnceLock;

/// The dialog manager's client transactions.
pub(crate) const DIALOGS: TxOwner = TxOwner::user(1);
/// The registrar client's.
pub(crate) const REGISTRAR: TxOwner = TxOwner::user(2);

/// An [`EventSink`] that a stack is started with before the actors exist. A transaction's id names its owner, so
/// there is no table to keep.
///
/// **Policy when a mailbox is full**: the event is refused, and the stack answers a request with 503. Before the
/// actors are there every event is refused.
#[derive(Default)]
pub struct Router {
    dialogs: OnceLock<Recipient<ToDialogs>>,
    registrar: OnceLock<Recipient<ToRegistrar>>,
}

impl Router {
    /// Routes nothing yet.
    pub fn new() -> Self {
        Router::default()
    }

    pub(crate) fn bind(&self, dialogs: Recipient<ToDialogs>, registrar: Recipient<ToRegistrar>) {
        // A second gateway on one router would steal the first one's events: the first stays.
        if self.dialogs.set(dialogs).is_err() || self.registrar.set(registrar).is_err() {
            tracing::error!("a router serves one gateway; give each gateway its own stack and router");
        }
    }

    fn to_dialogs(&self, event: StackEvent) -> Result<(), SinkFull> {
        let dialogs = self.dialogs.get().ok_or(SinkFull)?;
        dialogs.try_send(ToDialogs(event)).map_err(|_| SinkFull)
    }

    fn to_registrar(&self, event: StackEvent) -> Result<(), SinkFull> {
        let registrar = self.registrar.get().ok_or(SinkFull)?;
        registrar.try_send(ToRegistrar(event)).map_err(|_| SinkFull)
    }
}

impl EventSink for Router {
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        let owner = match &event {
            StackEvent::Response { tx, .. } | StackEvent::TxEnded { tx, .. } => tx.owner(),
            StackEvent::FlowDown { .. } | StackEvent::FlowUp(_) => {
                let _ = self.to_registrar(event.clone());
                TxOwner::STACK
            }
            StackEvent::KeepaliveAnswered { .. } => REGISTRAR,
            _ => TxOwner::STACK,
        };
        match owner {
            REGISTRAR => self.to_registrar(event),
            _ => self.to_dialogs(event),
        }
    }
}
