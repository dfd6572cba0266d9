//! What a session is told, and what it tells.

use crate::{
    BridgeEnd, Carriage, Estate, PartedBy, Seat, Sides, Sink, Source, Talker, VideoPlan, VideoStats,
};
use actix::Message;
use siprtc_core::ice::{Candidate, CandidatePair};
use siprtc_core::media::{
    Codec, Direction, MediaEvent, NegotiatedAudio, NegotiatedVideo, SdpKind, TransportStats,
};
use siprtc_core::{CallId, Error, Result};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A session's id within this process: a call that forked has several.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(u64);

impl SessionId {
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        SessionId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "media-{}", self.0)
    }
}

/// Makes an offer and sets it; the peer is created on first use. The answer is the complete local SDP.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) while an offer is pending, [`Fault::ConfigInvalid`](siprtc_core::Fault)
/// when the source's file cannot be read, and whatever the engine says.
#[derive(Debug, Message)]
#[rtype(result = "Result<String>")]
pub struct CreateOffer;

/// Sets the answer to our offer (RFC 9429 section 4.1.10).
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct AcceptAnswer {
    /// The peer's answer, in WebRTC's SDP.
    pub sdp: String,
    /// `Answer` or `Pranswer`; after a `Pranswer` another answer may follow.
    pub kind: SdpKind,
}

/// Sets the peer's offer, answers it and sets the answer; the peer is created on first use. The answer is the complete
/// local SDP.
#[derive(Debug, Message)]
#[rtype(result = "Result<String>")]
pub struct AnswerOffer {
    /// The peer's offer, in WebRTC's SDP.
    pub sdp: String,
}

/// Starts audio with what was negotiated, or changes it. To be sent after each negotiation; nothing happens when
/// nothing changed. The codec may change in the middle of a call.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct Begin {
    /// What the m-line agreed on.
    pub audio: NegotiatedAudio,
    /// And video's; `None`: there is no video, or no more.
    pub video: Option<NegotiatedVideo>,
}

/// One of the dialogs that our INVITE made by forking, and its media peer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fork(pub u32);

impl Fork {
    /// That of the first media peer, which [`AcceptAnswer`] is for.
    pub const FIRST: Fork = Fork(0);
}

/// Makes a media peer beside the first one, of the same offer, and sets this answer there.
///
/// Errors: [`Fault::Unsupported`](siprtc_core::Fault) when the engine or its path does not fork, and
/// [`Fault::ApiMisuse`](siprtc_core::Fault) when eight have a media peer already, or nothing is offered; with all of these, or when
/// the engine does not take the answer, nothing has changed.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct AcceptFork {
    /// Which. Another answer of a fork that has its answer means nothing.
    pub fork: Fork,
    /// The peer's answer, in the engine's words.
    pub sdp: String,
    /// What its m-lines agreed on, if it is to be heard and spoken to from now on, in the place of whoever was.
    pub begin: Option<Begin>,
}

/// Takes one fork for the call: it is heard and spoken to, and the media peers of all others close. One that is not there yet is made.
///
/// Errors: as of [`AcceptFork`].
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct TakeFork {
    /// Which.
    pub fork: Fork,
    /// Its answer, in the engine's words.
    pub sdp: String,
    /// What its m-lines agreed on.
    pub begin: Begin,
}

/// Sends digits as RFC 4733 events, one after the other; returns once they are queued. In a bridged call they go into the stream that
/// the other side's packets pass through, and are sent instead of them.
///
/// Errors: [`Fault::PeerIncompatible`](siprtc_core::Fault) when telephone-event was not negotiated,
/// [`Fault::ApiMisuse`](siprtc_core::Fault) for anything but `0-9 A-D * # ,` (a comma is a pause of one second).
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct SendDtmf {
    /// `0` to `9`, `A` to `D`, `*`, `#`, and `,` for a pause of one second.
    pub digits: String,
    /// How long each digit sounds, in milliseconds: 40 to 6000.
    pub duration_ms: u32,
}

/// Which way audio shall flow at the next offer or answer.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct SetDirection {
    /// Seen from us.
    pub direction: Direction,
}

/// What differs from [`SessionConfig`](crate::SessionConfig) from the next offer or answer on.
#[derive(Clone, Debug, Default)]
pub struct MediaChange {
    /// Codecs to offer and to accept, best first.
    pub codecs: Option<Vec<Codec>>,
    /// Which way audio shall flow; what [`SetDirection`] says on top of it (a hold) has to be said anew after it.
    pub direction: Option<Direction>,
    /// `Some(None)`: no video. Another plan takes the place of the one that runs when the negotiation is over.
    pub video: Option<Option<Arc<VideoPlan>>>,
}

/// Codecs, direction and video as they shall be from the next offer or answer on. What is said now takes the place of what was said before: a
/// change that came to nothing is taken back so. To be sent while no offer is pending.
///
/// Errors: [`Fault::ConfigInvalid`](siprtc_core::Fault) when a file of the plan cannot be read, or made.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct SetMedia {
    /// What differs from the beginning.
    pub change: Arc<MediaChange>,
}

/// Whether a change could be made: its files are there. Nothing changes.
///
/// Errors: as of [`SetMedia`].
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct CheckMedia {
    /// What would differ from the beginning.
    pub change: Arc<MediaChange>,
}

/// Another source and another listener from now on, or from the beginning of audio: what is the same as before goes on, so that neither a
/// file begins anew nor a recording. A recording that goes on no longer is complete with the answer. The peer is not told; what a bridge
/// or a conference brings has precedence.
///
/// Errors: [`Fault::ConfigInvalid`](siprtc_core::Fault) when a file cannot be read, or made; nothing changes then.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct SetAudio {
    /// What is sent.
    pub source: Source,
    /// What becomes of what is received.
    pub sink: Sink,
}

/// Silence in the place of the source, or the source again. Packets go on, so that nobody takes the call for broken. What a
/// bridge or a conference brings is not muted.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct Mute {
    /// From now on.
    pub muted: bool,
}

/// New ICE credentials with the next offer (RFC 8445 section 9): the path is lost, or the machine's addresses changed.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) before the first negotiation, and whatever the engine says.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct RestartIce;

/// Candidates of the peer's that came after its description (RFC 8838). To be sent once that description is set.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) before the first negotiation and for a fork without a media peer, and whatever the
/// engine says.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct AddCandidates {
    /// Whose, while several forks have a media peer; where there is one only, that is meant.
    pub fork: Fork,
    /// Those that are new.
    pub candidates: Vec<Candidate>,
}

/// Joins this session's peer to another's: what is received goes there, and what is sent comes from there. The source waits
/// meanwhile; the sink goes on hearing.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) when it is joined already, sits in a conference, or the bridge has parted.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct Join {
    /// This session's end of the bridge.
    pub end: BridgeEnd,
}

/// Parts what [`Join`] joined. The source goes on, in the same stream.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) when it is not joined.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct Part;

/// Takes a seat in a conference: the others are sent instead of the source, and hear what is received. `None` leaves it.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) when it is joined to another session, or has another seat.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct Confer {
    /// The seat; the session stands up from it when it closes.
    pub seat: Option<Arc<Seat>>,
}

/// Records to a WAV file from now on, in the rate of the codec in use.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) when it records already or audio has not begun,
/// [`Fault::ConfigInvalid`](siprtc_core::Fault) when the file cannot be made.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct Record {
    /// The file; an older one of this name is replaced.
    pub path: PathBuf,
    /// Whom.
    pub sides: Sides,
}

/// Ends the recording, and says how much was recorded.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) when nothing is recorded.
#[derive(Debug, Message)]
#[rtype(result = "Result<Duration>")]
pub struct StopRecording;

/// Takes from a session what another one in its place goes on with ([`Inherit`]): its end of a bridge, its seat in a conference, what
/// [`Record`] began. It goes on with its own source and sink; the other leg of its bridge is sent its own source meanwhile.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Estate>")]
pub struct HandOver {
    /// Also the recording of a [`Sink::File`].
    pub with_sink: bool,
    /// Also that of a [`VideoSink::File`](crate::VideoSink::File).
    pub with_video_sink: bool,
}

/// Goes on with what [`HandOver`] took from another session, in the same files, seat and bridge, whose other leg hears
/// [`SessionEventKind::Bridged`] anew. What this session has of the kind already it keeps, and sinks of its own as well. Video that is
/// recorded goes on with a key frame of the new peer's, which is asked for; in another codec than before the file has ended.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault) when it is joined to another session, or confers: then the bridge parts.
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct Inherit {
    /// What there is.
    pub estate: Estate,
}

/// Takes our pending offer back (RFC 9429 section 4.1.10.2).
#[derive(Debug, Message)]
#[rtype(result = "Result<()>")]
pub struct Rollback;

/// The numbers so far.
#[derive(Debug, Message)]
#[rtype(result = "Result<SessionStats>")]
pub struct Snapshot;

/// Ends the session: the recording is finished and flushed, the peer is closed, and the actor stops. The answer holds
/// the final numbers.
#[derive(Debug, Message)]
#[rtype(result = "Result<SessionStats>")]
pub struct Close;

/// What a session tells.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SessionEvent {
    /// The call it belongs to.
    pub call: CallId,
    /// Which of the call's sessions.
    pub session: SessionId,
    /// What happened.
    pub kind: SessionEventKind,
}

/// What happened in a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SessionEventKind {
    /// It is joined to another session, or what was agreed with one of the two changed how packets go.
    Bridged {
        /// The other's call.
        with: CallId,
        /// How packets of our peer's go to the other's.
        from_peer: Carriage,
        /// And back.
        to_peer: Carriage,
    },
    /// The peer sent a digit (RFC 4733).
    Dtmf {
        /// `0` to `9`, `A` to `D`, `*`, `#`.
        digit: char,
        /// How long it sounded.
        duration: Duration,
    },
    /// The first whole frame of the peer's video was there.
    FirstFrameReceived,
    /// The first RTP packet arrived.
    FirstPacketReceived,
    /// The first RTP packet was taken by the engine.
    FirstPacketSent,
    /// The media peer says so.
    Media(MediaEvent),
    /// Nothing that can be heard arrived for this long although the peer should send. Once per silence. What came all the same is
    /// counted in [`SessionStats::unreadable`] and in [`TransportStats::discarded`].
    NoMedia {
        /// Since the last packet that could be read, or since audio began.
        since: Duration,
    },
    /// It is joined no longer.
    Parted {
        /// Why.
        by: PartedBy,
        /// As [`OnEnd::HangUp`](crate::OnEnd) wants it, this call is over as well.
        hang_up: bool,
    },
    /// A side fell quiet: packets come or go, and nothing in them is louder than [`QuietConfig`](crate::QuietConfig) says. In a
    /// bridge only of the peer.
    Quiet {
        /// Who.
        who: Talker,
        /// How long it has been.
        since: Duration,
    },
    /// The recording failed (the disk is full, say). What was recorded is kept, and the call goes on.
    SinkFailed {
        /// Why.
        error: Arc<Error>,
    },
    /// The WAV file was played to its end; silence follows.
    SourceEnded,
    /// The source failed in the middle; silence follows, or no more video.
    SourceFailed {
        /// Why.
        error: Arc<Error>,
    },
    /// Both sides of a bridge have video. Where they have another codec, or do not want it, it does not go across: nobody transcodes it.
    VideoBridged {
        /// The other's call.
        with: CallId,
        /// Whether our peer's goes to the other's.
        from_peer: bool,
        /// And back.
        to_peer: bool,
    },
    /// The video file was played to its end, or the application has no more frames.
    VideoSourceEnded,
    /// A side is heard, for the first time or again. Told where [`SessionEventKind::Quiet`] is.
    Voice {
        /// Who.
        who: Talker,
    },
}

/// A session's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionStats {
    /// The codec in use, once audio began.
    pub codec: Option<Codec>,
    /// The engine's own counts.
    pub transport: TransportStats,
    /// The pair that carries media.
    pub selected_pair: Option<CandidatePair>,
    /// How many packets the sequence numbers say the peer sent (RFC 3550 appendix A.3).
    pub packets_expected: u64,
    /// Expected and never arrived.
    pub packets_lost: u64,
    /// Arrived after their turn to be played had passed.
    pub packets_late: u64,
    /// Arrived more than once.
    pub duplicates: u64,
    /// Lost of expected, 0 to 1.
    pub loss: f64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter: Duration,
    /// How long the jitter buffer holds a packet back at the moment.
    pub buffer_delay: Duration,
    /// Audio that was made up because nothing was there to be played.
    pub concealed: Duration,
    /// Mean opinion score for conversation, 1 to 4.5 (ITU-T G.107 annex B).
    pub mos: f64,
    /// Transmission rating factor, 0 to 100 (ITU-T G.107).
    pub r_factor: f64,
    /// Audio written to the recording.
    pub recorded: Duration,
    /// Packets that our own queue dropped because we were too slow.
    pub queue_dropped: u64,
    /// Packets whose payload could not be read, or whose payload type stands for nothing that was negotiated.
    pub unreadable: u64,
    /// Round-trip time, when known.
    pub round_trip: Option<Duration>,
    /// Of video, once it began.
    pub video: Option<VideoStats>,
}
