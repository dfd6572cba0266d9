//! The way of a session's events to whoever listens.

use crate::{SessionEvent, SessionEventKind, SessionId};
use actix::Recipient;
use siprtc_core::CallId;
use siprtc_core::media::{MediaEvent, MediaEventSink};
use tokio::sync::Notify;

/// Tells one listener what happens in one session. A listener whose mailbox is full misses the event, and the log says
/// so: media must never wait for it.
pub(crate) struct Events {
    pub(crate) call: CallId,
    pub(crate) session: SessionId,
    recipient: Option<Recipient<SessionEvent>>,
    /// The path came up: audio that waits for it need not wait for its next packet time.
    pub(crate) connected: Notify,
}

impl Events {
    pub(crate) fn new(call: CallId, session: SessionId, recipient: Recipient<SessionEvent>) -> Self {
        Events {
            call,
            session,
            recipient: Some(recipient),
            connected: Notify::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Events {
            call: CallId::fresh(),
            session: SessionId::fresh(),
            recipient: None,
            connected: Notify::new(),
        }
    }

    pub(crate) fn emit(&self, kind: SessionEventKind) {
        tracing::debug!(call_id = %self.call, session = %self.session, event = ?kind, "media event");
        let event = SessionEvent {
            call: self.call,
            session: self.session,
            kind,
        };
        if let Some(recipient) = &self.recipient
            && let Err(error) = recipient.try_send(event)
        {
            tracing::warn!(call_id = %self.call, session = %self.session, %error, "media event lost");
        }
    }
}

impl Events {
    /// What a media peer has to say.
    pub(crate) fn emit_media(&self, event: MediaEvent) {
        if matches!(event, MediaEvent::Connected) {
            self.connected.notify_one();
        }
        self.emit(SessionEventKind::Media(event));
    }
}

impl MediaEventSink for Events {
    fn emit(&self, event: MediaEvent) {
        self.emit_media(event);
    }
}
