//! What a program does with its endpoint, as its test reads it.

use siprtc_core::media::{Codec, Direction};
use siprtc_core::sip::Headers;
use siprtc_media_session::Sides;
use std::path::PathBuf;

/// What the program under test did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Deed {
    /// It makes the call that it was asked for ([`Fake::asks_for_call`](super::Fake::asks_for_call)), and has a new one.
    AcceptedReferral,
    /// It took the transfer that [`CallEventKind::TransferWanted`](siprtc_gateway::CallEventKind::TransferWanted) asked for, and has a new call.
    AcceptedTransfer,
    /// It answered the call that rang.
    Answered,
    /// It speaks before it answers.
    AnsweredEarly,
    /// It has another source or sink, which [`Fake::plan`](super::Fake::plan), `say` and `hear` mean from now on.
    ChangedAudio,
    /// It wants these codecs from now on.
    ChangedCodecs(Vec<Codec>),
    /// It wants audio to flow this way from now on.
    ChangedDirection(Direction),
    /// It wants video from now on, or none any more. The fake takes it and has none.
    ChangedVideo(bool),
    /// It asked somebody to call somebody ([`Endpoint::refer`](crate::Endpoint::refer)). [`Fake::report`](super::Fake::report) says how it goes.
    AskedForCall {
        /// Who is asked.
        target: String,
        /// Whom they shall call; `None`: the peer of one of its calls, in the place of that call.
        to: Option<String>,
        /// What it wants in the REFER.
        headers: Headers,
    },
    /// It called this address, with these header fields of its own.
    Dialled {
        /// Whom.
        target: String,
        /// What it wants in the INVITE.
        headers: Headers,
    },
    /// It sent these digits.
    Digits(String),
    /// It wants to hear no more of the call that it asked somebody for.
    EndedNews,
    /// It sent the caller elsewhere.
    Forwarded(Vec<String>),
    /// It held the call.
    Held,
    /// It hung up, or took its own call back.
    HungUp,
    /// It sent this text, within a call or to an address.
    Message {
        /// To whom; `None`: to the call's peer.
        to: Option<String>,
        /// What.
        text: String,
    },
    /// It muted its side, or not any more.
    Muted(bool),
    /// It told those who have subscribed ([`Endpoint::notify`](crate::Endpoint::notify)).
    Notified {
        /// The event package.
        event: String,
        /// The whole state.
        body: Vec<u8>,
    },
    /// It read the call's numbers, which [`Fake::measure`](super::Fake::measure) gave.
    ReadStats,
    /// It records the call. The fake writes no file.
    Records {
        /// Where to.
        path: PathBuf,
        /// Whom.
        sides: Sides,
    },
    /// It refused the call that rang.
    Refused(u16),
    /// It does not make the call that it was asked for.
    RefusedReferral(u16),
    /// It refused the transfer that was asked for.
    RefusedTransfer(u16),
    /// It took the held call up again.
    Resumed,
    /// It shut the endpoint down.
    ShutDown,
    /// It ended the recording.
    StoppedRecording,
    /// It subscribed. [`Fake::notify`](super::Fake::notify) says what it is told.
    Subscribed {
        /// To whose state.
        target: String,
        /// Which event package.
        event: String,
        /// What it wants in each SUBSCRIBE.
        headers: Headers,
    },
    /// It wants the peer to call this address; `None`: the peer of another of its calls.
    Transferred(Option<String>),
    /// It ended its subscription.
    Unsubscribed,
}
