//! What the gateway is told and what it tells.

use crate::asking::ReferralEvent;
use crate::control::CallControl;
use crate::machine;
use crate::referrals::AskedCall;
use crate::subscriptions::SubscriptionEvent;
use actix::prelude::*;
use siprtc_core::ice::{CandidatePair, IceState};
use siprtc_core::media::{Codec, Direction, MediaEngine, NegotiatedAudio, NegotiatedVideo, VideoCodec};
use siprtc_core::sip::{DigestAlgorithm, DigestSecret, Headers, NameAddr, SipUri, TimerConfig, Uri};
use siprtc_core::{CallId, Error};
use siprtc_dialog_manager::{Head, Note, Occasion, SessionTimer, Side};
use siprtc_media_session::{
    Carriage, PartedBy, QuietConfig, SessionStats, Sink, Source, Stages, VideoPlan, VideoSink,
};
use siprtc_nat_agent::{NatConfig, NatEvent};
use siprtc_registrar_client::{Backoff, RegistrationEvent};
use std::sync::Arc;
use std::time::Duration;

pub use machine::Ending;

/// Whose telephone this is.
#[derive(Clone, Debug)]
pub struct Account {
    /// The address-of-record: `sip:alice@example.com`.
    pub aor: SipUri,
    /// The name shown to people who are called.
    pub display_name: Option<String>,
    /// What peers reach us by; its host and port are a listener's.
    pub contact: NameAddr,
    /// For digest challenges.
    pub secret: Option<DigestSecret>,
    /// Where every out-of-dialog request goes first.
    pub outbound: Option<SipUri>,
    /// Registrars, tried in order; empty: the address-of-record's own host.
    pub registrars: Vec<SipUri>,
    /// Seconds asked of the registrar.
    pub expires: u32,
    /// Between attempts to register.
    pub backoff: Backoff,
    /// `+sip.instance` (RFC 5626): a URN that stays the same for this device.
    pub instance: Option<String>,
    /// How many flows to keep registered (RFC 5626); 0: none. See
    /// [`RegistrarConfig::flows`](siprtc_registrar_client::RegistrarConfig::flows).
    pub flows: usize,
    /// Between attempts to bring a flow back up.
    pub recovery: Backoff,
    /// How often to send a keepalive over a registered flow at least; `None`: as the registrar wants it.
    pub keepalive: Option<Duration>,
    /// Ask for a GRUU (RFC 5627), and be reached by it within dialogs.
    pub gruu: bool,
    /// The weakest digest that is sent.
    pub weakest_digest: DigestAlgorithm,
    /// Nobody can open a connection to `contact`: calls go out over the registered flows.
    pub connected_only: bool,
}

impl Account {
    /// An account without password and proxy, bound to no flow.
    pub fn new(aor: SipUri, contact: NameAddr) -> Self {
        Account {
            aor,
            display_name: None,
            contact,
            secret: None,
            outbound: None,
            registrars: Vec::new(),
            expires: 3600,
            backoff: Backoff::default(),
            instance: None,
            flows: 0,
            recovery: Backoff::recovery(),
            keepalive: None,
            gruu: false,
            weakest_digest: DigestAlgorithm::Md5,
            connected_only: false,
        }
    }
}

/// How a gateway starts.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Whose telephone.
    pub account: Account,
    /// Transaction timers, the same as the stack's.
    pub timers: TimerConfig,
    /// Most calls at once; beyond it an INVITE is answered 486 and dialling is an error.
    pub max_calls: usize,
    /// How long a call may ring before it is given up.
    pub no_answer: Duration,
    /// How long a session stands without a refresh (RFC 4028). `None`: for ever.
    pub session_timer: Option<SessionTimer>,
    /// The media engine behind the port.
    pub engine: Arc<dyn MediaEngine>,
    /// The engine for peers that the first one cannot serve: a call that comes in with an offer for it, and one that goes out
    /// after the first one's offer was refused as unfit (once).
    pub classic: Option<Arc<dyn MediaEngine>>,
    /// Where media peers, packets and probes run.
    pub runtime: tokio::runtime::Handle,
    /// Codecs to offer and to accept, best first.
    pub codecs: Vec<Codec>,
    /// Of video, for a plan that names none.
    pub video_codecs: Vec<VideoCodec>,
    /// Packet time in milliseconds.
    pub ptime: u32,
    /// Silence is sent as comfort noise (RFC 3389) where the peer takes it, and not at all where an Opus peer says `usedtx=1`.
    pub silence_detection: bool,
    /// When a side that falls quiet is told ([`CallEventKind::Quiet`]); `None`: never.
    pub quiet: Option<QuietConfig>,
    /// Interfaces, servers and budgets.
    pub nat: NatConfig,
    /// An engine that can does ICE itself; [`NatConfig::agent`] is for the others.
    pub builtin_ice: bool,
    /// What becomes of candidates that are found after their description.
    pub trickle: Trickle,
    /// Most octets of an INVITE that goes over UDP: the description loses what the peer misses least until it fits. `None`:
    /// it keeps everything.
    pub datagram: Option<usize>,
    /// The account's contact as this host's addresses are, asked for when they have changed; it gives `None` as long as no
    /// route leads to the account's server. Without it the contact stays.
    pub contact_now: Option<ContactNow>,
    /// Transfers, and what is taken from peers beside calls.
    pub control: CallControl,
}

/// What becomes of candidates that are found after their description (RFC 8838, RFC 8840).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trickle {
    /// A description waits for no candidate at all where the peer may take them in INFOs: calls go out at once, and a
    /// peer that does not trickle gets a new offer.
    Full,
    /// A description waits for candidates as long as the gathering budget says; peers that trickle are told the rest in
    /// INFOs, others in a new offer if nothing works without it.
    #[default]
    Half,
    /// The same without INFOs, and without a word of them in SIP and SDP.
    Off,
}

/// Finds out how we are reached. Called within an actor: it must not wait for anybody.
pub type ContactNow = Arc<dyn Fn() -> Option<NameAddr> + Send + Sync>;

/// What a call plays and where what it hears goes.
#[derive(Clone, Debug)]
pub struct MediaPlan {
    /// What is sent.
    pub source: Source,
    /// What becomes of what is received.
    pub sink: Sink,
    /// Which way audio shall flow, from our side.
    pub direction: Direction,
    /// Video beside it. `None`: none is offered, and the peer's is declined.
    pub video: Option<VideoPlan>,
    /// What is done to audio between codec and source or sink: gain, a level meter, echo cancellation, your own. Of what
    /// comes nothing is decoded for [`Sink::Null`].
    pub stages: Stages,
}

impl MediaPlan {
    /// The same for another call: without the files that it records to, for two calls cannot be recorded into one.
    #[must_use]
    pub fn unrecorded(mut self) -> Self {
        if let Sink::File { .. } = self.sink {
            self.sink = Sink::Null;
        }
        if let Some(video) = &mut self.video
            && let VideoSink::File { .. } = video.sink
        {
            video.sink = VideoSink::Null;
        }
        self
    }
}

impl Default for MediaPlan {
    /// Sends silence, drops what comes.
    fn default() -> Self {
        MediaPlan {
            source: Source::Silence,
            sink: Sink::Null,
            direction: Direction::SendRecv,
            video: None,
            stages: Stages::default(),
        }
    }
}

/// Calls somebody. Everything that follows comes as [`CallEvent`]s.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Dial {
    /// The call's id, [`CallId::fresh`]: chosen by the caller, so that no event can come before it is known.
    pub call: CallId,
    /// Whom.
    pub target: Uri,
    /// With what media.
    pub media: MediaPlan,
    /// More header fields for the INVITE. Those that the dialog manager writes itself are an error; `Privacy: id` makes the call
    /// anonymous (RFC 3325).
    pub headers: Headers,
}

/// Answers an incoming call.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Answer {
    /// Which.
    pub call: CallId,
    /// With what media; `None` is silence. After [`AnswerEarly`] `None` goes on with what began then; another plan takes its place: its
    /// source and its sink at once, what the peer has to know of it (direction, video) in an offer of its own right after the ACK, for the
    /// 200 repeats what the 183 said (RFC 3261 section 13.2.1). [`CallEventKind::MediaChanged`] or `MediaRefused` tells how that went.
    /// What both plans have alike goes on.
    pub media: Option<MediaPlan>,
}

/// Media before an incoming call is answered: a ringback tone, an announcement, a voice that asks before it costs anything (early
/// media, RFC 3261 section 13.3.1.1). Our description goes into a 183, acknowledged where the caller can (RFC 3262). [`Answer`],
/// [`Refuse`] or [`Hangup`] follows, or the caller gives up.
///
/// Errors: [`Fault::PeerIncompatible`](siprtc_core::Fault) when the INVITE has no offer and its caller acknowledges nothing;
/// [`Fault::ApiMisuse`](siprtc_core::Fault) when it does not ring, or has media already.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct AnswerEarly {
    /// Which.
    pub call: CallId,
    /// With what media, from now on.
    pub media: MediaPlan,
}

/// Refuses an incoming call.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Refuse {
    /// Which.
    pub call: CallId,
    /// 400 to 699: 486 is busy here, 603 is decline.
    pub status: u16,
}

/// Sends the caller of an incoming call elsewhere: 302 (RFC 3261 section 21.3.3).
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Redirect {
    /// Which.
    pub call: CallId,
    /// Where to, best first; one at least.
    pub contacts: Vec<NameAddr>,
}

/// Header fields of the application's own for what is sent later in a call.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Attach {
    /// Which.
    pub call: CallId,
    /// To our answers, to our BYE, or to our other requests.
    pub to: Occasion,
    /// The header fields.
    pub headers: Headers,
}

/// Ends a call, in any state.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Hangup {
    /// Which.
    pub call: CallId,
}

/// Holds a call (RFC 3264 section 8.4) or resumes it, with a re-INVITE; [`CallEventKind::Held`], `Resumed` or `HoldRefused`
/// tells how it went. During another negotiation the wish waits for its end.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) before the call is confirmed.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Hold {
    /// Which.
    pub call: CallId,
    /// Held from now on, or not.
    pub held: bool,
    /// While it is held the source is sent on: music for who waits. Otherwise nothing is sent.
    pub plays_on: bool,
}

/// Sends DTMF digits, as telephone-event (RFC 4733) or in INFOs, as [`CallControl::dtmf`] says.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct SendDtmf {
    /// In which call.
    pub call: CallId,
    /// 0 to 9, `*`, `#`, A to D.
    pub digits: String,
    /// Of each digit.
    pub duration: Duration,
}

/// The media's numbers so far.
#[derive(Debug, Message)]
#[rtype(result = "Result<SessionStats, Error>")]
pub struct Snapshot {
    /// Of which call.
    pub call: CallId,
}

/// Registers the account, and keeps it registered.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct StartRegistration;

/// Hangs every call up, unregisters, and stops; the answer comes when all is clean or `grace` is over.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown {
    /// How long calls may take to end.
    pub grace: Duration,
}

/// What the gateway tells its application.
#[derive(Debug, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub enum GatewayEvent {
    /// Somebody wants us to call somebody, outside of any call.
    Asked(AskedCall),
    /// Of one call.
    Call(CallEvent),
    /// A MESSAGE that belongs to no call.
    Message(Note),
    /// Of a STUN or TURN server.
    Nat(NatEvent),
    /// Of a call that we asked somebody for outside of any call, by the referral's id.
    Referral(CallId, ReferralEvent),
    /// Of the registration.
    Registration(RegistrationEvent),
    /// Of a subscription, by its id; of waiting messages that a server tells of unasked, by an id that is nobody's.
    Subscription(CallId, SubscriptionEvent),
}

/// What happened in a call, and when.
#[derive(Debug)]
pub struct CallEvent {
    /// Which call.
    pub call: CallId,
    /// When; by tokio's clock.
    pub at: tokio::time::Instant,
    /// What.
    pub kind: CallEventKind,
}

/// In the words that SIP developers know. The last event of a call is `Ended` or `Failed`, exactly once.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallEventKind {
    /// The call is answered: a 2xx came, or went.
    Accepted,
    /// The call is bridged to another; told anew when something else is negotiated and packets go in another way.
    Bridged {
        /// The other call.
        with: CallId,
        /// How packets of our peer's go to the other's.
        from_peer: Carriage,
        /// And back.
        to_peer: Carriage,
    },
    /// The dialog is confirmed and both descriptions are set.
    Confirmed,
    /// DTLS is up: audio can flow.
    Connected,
    /// The peer pressed a key.
    Dtmf {
        /// 0 to 9, `*`, `#`, A to D.
        digit: char,
        /// How long.
        duration: Duration,
    },
    /// An answered call is over.
    Ended(Ending),
    /// A call that nobody answered is over.
    Failed(Ending),
    /// The first whole frame of the peer's video came.
    FirstFrame,
    /// The first packet came (`inbound`) or went.
    FirstPacket {
        /// Came.
        inbound: bool,
    },
    /// A side holds the call: it hears nothing from now on.
    Held {
        /// Who.
        by: Side,
    },
    /// The peer refused to have the call held, or resumed; it is as it was.
    HoldRefused {
        /// What was wanted.
        held: bool,
    },
    /// ICE changed.
    Ice(IceState),
    /// Somebody calls; answer with [`Answer`], [`AnswerEarly`] or [`Refuse`].
    Incoming {
        /// Who.
        from: NameAddr,
        /// Whom.
        to: NameAddr,
        /// The call of ours in whose place it comes (RFC 3891): it is answered with that one's media, and nobody is asked.
        replaces: Option<CallId>,
        /// What else the INVITE says: its header fields, who is vouched for, who had the call before.
        head: Box<Head>,
    },
    /// Codecs or video are agreed on as [`ChangeMedia`](crate::ChangeMedia) wanted them offered.
    MediaChanged,
    /// What [`ChangeMedia`](crate::ChangeMedia) wanted came to nothing: the peer refused it, or it could not be offered. The call is as
    /// it was.
    MediaRefused,
    /// The peer sent a MESSAGE.
    Message(Note),
    /// Both sides agreed on this audio.
    Negotiated(NegotiatedAudio),
    /// And on this video; told when it changes, and at first if [`MediaPlan::video`] wants some. `None`: there is none, or none any
    /// more.
    NegotiatedVideo(Option<NegotiatedVideo>),
    /// The bridge to another call is gone; this call goes on, unless the bridge was made to hang it up.
    Parted(PartedBy),
    /// It rings there, or early media comes.
    Progress {
        /// 180, 183 ...
        status: u16,
        /// The answer carried SDP.
        early_media: bool,
    },
    /// A side has fallen quiet by level: its packets go on, or say so themselves (comfort noise).
    Quiet {
        /// Who.
        by: Side,
        /// How long it has been.
        since: Duration,
    },
    /// Another call takes this one's place (RFC 3891), and this one is hung up.
    Replaced {
        /// The call that goes on.
        by: CallId,
    },
    /// A side that held the call does so no more.
    Resumed {
        /// Who.
        by: Side,
    },
    /// Nothing has been received for this long; the call goes on.
    Silent(Duration),
    /// The recording failed; what was recorded is kept, the call goes on.
    SinkFailed(Arc<Error>),
    /// This pair carries media from now on.
    Selected(CandidatePair),
    /// The SIP Call-ID is known.
    Signalling {
        /// As on the wire.
        sip_call_id: String,
    },
    /// The source played to its end.
    SourceEnded,
    /// The source failed; silence is sent.
    SourceFailed(Arc<Error>),
    /// Both sides of a bridge have video. Where they have another codec, or do not want it, it does not go across.
    VideoBridged {
        /// The other call.
        with: CallId,
        /// Whether our peer's goes to the other's.
        from_peer: bool,
        /// And back.
        to_peer: bool,
    },
    /// Video's own path failed, or its handshake; the call goes on without it. The text says what failed.
    VideoFailed(String),
    /// The video played to its end.
    VideoSourceEnded,
    /// A side is heard, for the first time or again. Told where [`CallEventKind::Quiet`] is.
    Voice {
        /// Who.
        by: Side,
    },
    /// Nobody answered [`TransferWanted`](Self::TransferWanted) in time; the peer was told 603, the call goes on.
    TransferLapsed,
    /// What the peer says of the call that [`Transfer`](crate::Transfer) asked for.
    TransferProgress {
        /// 100, 180 ...
        status: u16,
    },
    /// The transfer came to nothing; this call goes on.
    TransferRefused {
        /// What the peer, or whom it called, answered; 408 when nobody said.
        status: u16,
    },
    /// The call that the peer asked for is made; what happens to it comes as its own events.
    TransferTaken {
        /// The new one.
        call: CallId,
    },
    /// The peer asks us to call somebody else. [`AcceptTransfer`](crate::AcceptTransfer) or
    /// [`RefuseTransfer`](crate::RefuseTransfer) answers; the call goes on until the peer hangs up.
    TransferWanted {
        /// Whom.
        to: Uri,
        /// Who wants it, as the peer says.
        referred_by: Option<NameAddr>,
        /// In the place of another call, which the peer has there: an attended transfer.
        replaces: bool,
    },
    /// The peer talks to whom we sent it to; this call is hung up.
    Transferred,
}
