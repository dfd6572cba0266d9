//! The actor.

use crate::{
    AcceptAnswer, AnswerOffer, Begin, Close, CreateOffer, Rollback, SendDtmf, SessionConfig, SessionEvent,
    SessionId, SessionStats, SetDirection, Snapshot,
};
use actix::{Actor, Context, Handler, Recipient, ResponseActFuture};
use siprtc_core::Result;

/// One media peer's audio.
pub struct MediaSession {
    id: SessionId,
    _config: SessionConfig,
    _events: Recipient<SessionEvent>,
}

impl MediaSession {
    /// The bound of its mailbox.
    pub const MAILBOX: usize = 64;

    /// A session that did nothing yet.
    pub fn new(config: SessionConfig, events: Recipient<SessionEvent>) -> Self {
        MediaSession { id: SessionId::fresh(), _config: config, _events: events }
    }

    /// Its id, as in every [`SessionEvent`].
    pub fn id(&self) -> SessionId {
        self.id
    }
}

impl Actor for MediaSession {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(Self::MAILBOX);
    }
}

macro_rules! handler {
    ($message:ty, $ok:ty) => {
        impl Handler<$message> for MediaSession {
            type Result = ResponseActFuture<Self, Result<$ok>>;

            fn handle(&mut self, _message: $message, _ctx: &mut Self::Context) -> Self::Result {
                unimplemented!()
            }
        }
    };
}
handler!(CreateOffer, String);
handler!(AcceptAnswer, ());
handler!(AnswerOffer, String);
handler!(Begin, ());
handler!(SendDtmf, ());
handler!(SetDirection, ());
handler!(Rollback, ());
handler!(Snapshot, SessionStats);
handler!(Close, SessionStats);
