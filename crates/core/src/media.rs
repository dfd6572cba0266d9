//! The media port, JSEP-shaped (RFC 9429): an engine makes one peer per early dialog.
//!
//! An engine carries RTP; codecs, jitter buffer, sources and sinks are ours, once, the same over every engine
//! (`media-session`). Packets never pass a mailbox: inbound ones go to a [`PacketSink`] that never blocks, outbound
//! ones straight to [`MediaPeer::send`].

mod video;

pub use video::{Feedback, FeedbackKinds, NegotiatedVideo, VideoCodec, VideoPort, VideoWish};

use crate::ice::{Candidate, CandidatePair, IceConfig, IceState};
use crate::{Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An audio codec's name as in `a=rtpmap`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Codec {
    /// RFC 3551: 16 kHz audio with an RTP clock of 8000 Hz.
    G722,
    /// RFC 7587: `opus/48000/2`.
    Opus,
    /// RFC 3551, static payload type 8.
    Pcma,
    /// RFC 3551, static payload type 0.
    Pcmu,
}

impl Codec {
    /// Every codec, in our order of preference.
    pub const ALL: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];

    /// As in `a=rtpmap`.
    pub fn as_str(self) -> &'static str {
        match self {
            Codec::G722 => "G722",
            Codec::Opus => "opus",
            Codec::Pcma => "PCMA",
            Codec::Pcmu => "PCMU",
        }
    }

    /// From `a=rtpmap`, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Codec::ALL
            .into_iter()
            .find(|codec| codec.as_str().eq_ignore_ascii_case(name))
    }

    /// The RTP clock in Hz.
    pub fn clock_rate(self) -> u32 {
        if self == Codec::Opus { 48_000 } else { 8_000 }
    }

    /// The audio's sampling rate in Hz.
    pub fn sample_rate(self) -> u32 {
        match self {
            Codec::G722 => 16_000,
            Codec::Opus => 48_000,
            Codec::Pcma | Codec::Pcmu => 8_000,
        }
    }

    /// RFC 3551's static payload type, or the dynamic one that we offer.
    pub fn payload_type(self) -> u8 {
        match self {
            Codec::G722 => 9,
            Codec::Opus => 111,
            Codec::Pcma => 8,
            Codec::Pcmu => 0,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an m-line agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NegotiatedAudio {
    /// The codec we send, and expect.
    pub codec: Codec,
    /// Its payload type towards the peer.
    pub payload_type: u8,
    /// telephone-event (RFC 4733) towards the peer: payload type and clock rate.
    pub telephone_event: Option<(u8, u32)>,
    /// Which way audio flows, seen from us.
    pub direction: Direction,
    /// Packet time in milliseconds; 20 unless the peer's `a=ptime` says otherwise.
    pub ptime: u32,
    /// What the peer's other formats and its `a=fmtp` allow.
    pub parameters: AudioParameters,
}

impl NegotiatedAudio {
    /// A codec with its usual payload type, both ways, in packets of 20 ms, and nothing beside it.
    pub fn of(codec: Codec) -> Self {
        NegotiatedAudio {
            codec,
            payload_type: codec.payload_type(),
            telephone_event: None,
            direction: Direction::SendRecv,
            ptime: 20,
            parameters: AudioParameters::default(),
        }
    }
}

/// What the peer allows, or asks for, beside the codec itself. The default is a peer that says nothing of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AudioParameters {
    /// Comfort noise (RFC 3389) towards the peer: payload type and clock rate.
    pub comfort_noise: Option<(u8, u32)>,
    /// Opus: `usedtx=1`, the peer likes silence not to be sent.
    pub dtx: bool,
    /// Opus: `useinbandfec=1`, the peer can use forward error correction within the packets.
    pub inband_fec: bool,
    /// Opus: `maxaveragebitrate`, in bit/s.
    pub max_average_bitrate: Option<u32>,
}

impl AudioParameters {
    /// From the parameters of `a=fmtp` of `opus` (RFC 7587 section 6.1), as `minptime=10;useinbandfec=1`. What is unknown
    /// or out of range is as if it were not there (section 6.1: 6000 to 510000 bit/s). `stereo` and `cbr` change nothing
    /// here: they are wishes, and mono is sent.
    #[must_use]
    pub fn from_opus_fmtp(parameters: &str) -> Self {
        let mut said = AudioParameters::default();
        for parameter in parameters.split(';') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("useinbandfec") {
                said.inband_fec = value == "1";
            } else if name.eq_ignore_ascii_case("usedtx") {
                said.dtx = value == "1";
            } else if name.eq_ignore_ascii_case("maxaveragebitrate") {
                said.max_average_bitrate = value.parse().ok().filter(|rate| (6_000..=510_000).contains(rate));
            }
        }
        said
    }
}

/// Which way media flows, seen from whoever says it (RFC 3264 section 5.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Direction {
    /// Neither way.
    Inactive,
    /// Only in.
    RecvOnly,
    /// Only out.
    SendOnly,
    /// Both.
    #[default]
    SendRecv,
}

impl Direction {
    /// As in SDP.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Inactive => "inactive",
            Direction::RecvOnly => "recvonly",
            Direction::SendOnly => "sendonly",
            Direction::SendRecv => "sendrecv",
        }
    }

    /// Whether media flows out.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendOnly | Direction::SendRecv)
    }

    /// Whether media flows in.
    pub fn receives(self) -> bool {
        matches!(self, Direction::RecvOnly | Direction::SendRecv)
    }

    /// The same seen from the other side.
    #[must_use]
    pub fn reversed(self) -> Self {
        Direction::from_parts(self.receives(), self.sends())
    }

    /// From what flows out and in.
    pub fn from_parts(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (false, false) => Direction::Inactive,
            (false, true) => Direction::RecvOnly,
            (true, false) => Direction::SendOnly,
            (true, true) => Direction::SendRecv,
        }
    }

    /// What we may answer to an offer of `self` when we want `wanted` (RFC 3264 section 6.1).
    #[must_use]
    pub fn answer(self, wanted: Direction) -> Self {
        let mine = self.reversed();
        Direction::from_parts(
            mine.sends() && wanted.sends(),
            mine.receives() && wanted.receives(),
        )
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The type of a session description (RFC 9429 section 4.1.10).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SdpKind {
    /// The final answer.
    Answer,
    /// An offer.
    Offer,
    /// A provisional answer.
    Pranswer,
}

/// One RTP packet (RFC 3550) without its extension.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RtpPacket {
    /// The payload's type.
    pub payload_type: u8,
    /// First packet of a talk spurt or event.
    pub marker: bool,
    /// Goes up by one.
    pub sequence: u16,
    /// In the codec's clock.
    pub timestamp: u32,
    /// The stream; outbound, the engine puts its own.
    pub ssrc: u32,
    /// The payload.
    pub payload: Bytes,
}

/// Where inbound RTP goes. Called on the engine's own task: it must not block and must not wait.
pub trait PacketSink: Send + Sync + 'static {
    /// Takes a packet. A bounded queue that is full drops its oldest and counts it.
    fn push(&self, packet: RtpPacket);
}

/// What a media peer has to say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MediaEvent {
    /// Gathered after [`MediaPeer::set_local`] had returned: to be told to the peer if it takes trickled candidates (RFC
    /// 8838). May come for candidates that the description has already.
    Candidate(Candidate),
    /// The peer is closed; nothing follows.
    Closed,
    /// DTLS is up: media can flow.
    Connected,
    /// The path failed, or the DTLS handshake did; the text says which.
    Failed(String),
    /// Gathering is complete, after [`MediaPeer::set_local`] had returned without waiting for it.
    Gathered,
    /// ICE changed.
    Ice(IceState),
    /// This pair carries media from now on.
    Selected(CandidatePair),
    /// Video's own path failed, or its handshake; the call goes on without it. The text says what failed.
    VideoFailed(String),
}

/// Where a media peer's events go. Called on the engine's own task: it must not block and must not wait.
pub trait MediaEventSink: Send + Sync + 'static {
    /// Takes an event.
    fn emit(&self, event: MediaEvent);
}

impl<F: Fn(MediaEvent) + Send + Sync + 'static> MediaEventSink for F {
    fn emit(&self, event: MediaEvent) {
        self(event);
    }
}

/// What a peer begins with.
#[derive(Clone)]
pub struct PeerConfig {
    /// The network.
    pub ice: IceConfig,
    /// Codecs to offer, best first; telephone-event is always offered beside them.
    pub codecs: Vec<Codec>,
    /// The remote offer, when we answer: the DTLS role depends on its `a=setup`.
    pub remote_offer: Option<String>,
    /// What the peer answered to another engine's offer, when that was no use: a first offer had better speak as it did.
    pub heard: Option<String>,
    /// Inbound RTP.
    pub packets: Arc<dyn PacketSink>,
    /// Video beside the audio; without it video is declined. It is neither offered nor answered before
    /// [`MediaPeer::set_video`] says so.
    pub video: Option<Arc<dyn VideoPort>>,
    /// Events.
    pub events: Arc<dyn MediaEventSink>,
}

/// What a fork of a media peer begins with; all else is the peer's own that it is a fork of.
#[derive(Clone)]
pub struct ForkConfig {
    /// Inbound RTP.
    pub packets: Arc<dyn PacketSink>,
    /// As [`PeerConfig::video`].
    pub video: Option<Arc<dyn VideoPort>>,
    /// Events.
    pub events: Arc<dyn MediaEventSink>,
}

/// Packet counts and times of one peer, both ways; from RTCP where only the other side can know.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TransportStats {
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP payload octets sent.
    pub bytes_sent: u64,
    /// RTP packets received.
    pub packets_received: u64,
    /// RTP payload octets received.
    pub bytes_received: u64,
    /// Datagrams that were dropped, by why.
    pub discarded: Discarded,
    /// Round-trip time, from RTCP when there was a report, else from ICE checks.
    pub round_trip: Option<Duration>,
    /// Fraction of our packets that the peer says it lost, 0 to 1.
    pub remote_loss: Option<f64>,
    /// The jitter that the peer sees.
    pub remote_jitter: Option<Duration>,
}

/// Datagrams that came and were dropped, by why. Each is counted once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Discarded {
    /// Media from before it was known how it is encrypted.
    pub early: u64,
    /// Their authentication tag is wrong or missing: forged, or under another key or rollover counter (RFC 3711 section 3.3).
    pub forged: u64,
    /// With our own SSRC and without encryption: our stream came back (RFC 3550 section 8.2).
    pub looped: u64,
    /// A header, list of sources, extension, padding or RTCP packet that does not fit (RFC 3550), or a DTLS record that cannot be read.
    pub malformed: u64,
    /// Of a payload type that was not negotiated.
    pub payload_type: u64,
    /// Taken by the engine's library, which gave nothing back and does not say why: forged, repeated or malformed.
    pub refused: u64,
    /// Came before, or too old to tell (RFC 3711 section 3.3.2).
    pub replayed: u64,
    /// From an address that is not the peer's.
    pub stranger: u64,
    /// Neither DTLS, RTP nor RTCP by their first octet (RFC 7983), or at a port where they are not expected.
    pub unknown: u64,
}

impl Discarded {
    /// Each reason's word and count, in alphabetical order.
    pub fn by_reason(&self) -> [(&'static str, u64); 9] {
        [
            ("early", self.early),
            ("forged", self.forged),
            ("looped", self.looped),
            ("malformed", self.malformed),
            ("payload_type", self.payload_type),
            ("refused", self.refused),
            ("replayed", self.replayed),
            ("stranger", self.stranger),
            ("unknown", self.unknown),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

/// Who does ICE for an engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IceMode {
    /// The engine itself, unless it is given an [`IceConfig::paths`].
    Any,
    /// The engine itself.
    BuiltIn,
    /// [`IceConfig::paths`], which must be there.
    External,
    /// Nobody: classic RTP.
    None,
}

/// Whose descriptions an engine reads and writes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialect {
    /// SIP telephones' own: they go over the wire as they are.
    Sip,
    /// WebRTC's (RFC 9429): a translator stands before the wire.
    #[default]
    WebRtc,
}

/// Makes media peers. A plugin's one public entry.
#[async_trait]
pub trait MediaEngine: Send + Sync + 'static {
    /// The word that selects it in the configuration.
    fn name(&self) -> &'static str;

    /// Who does ICE.
    fn ice(&self) -> IceMode;

    /// Whose descriptions it reads and writes.
    fn dialect(&self) -> Dialect {
        Dialect::WebRtc
    }

    /// Whether a peer with these codecs could answer this offer, as far as it can be known before there is one: nobody's telephone
    /// rings for an offer that is refused here.
    fn check_offer(&self, _sdp: &str, _codecs: &[Codec]) -> Result<()> {
        Ok(())
    }

    /// Whether its peers fork ([`MediaPeer::fork`]), where the path below them does.
    fn forks(&self) -> bool {
        false
    }

    /// A new peer with one audio transceiver. Called on the runtime on which the peer's tasks shall run.
    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>>;
}

/// A PeerConnection, or what stands for one. The SDP here is in the engine's [`Dialect`].
#[async_trait]
pub trait MediaPeer: Send + Sync + 'static {
    /// A new offer (RFC 9429 section 4.1.8), not yet set.
    async fn create_offer(&self) -> Result<String>;

    /// An answer to the remote offer that is set (RFC 9429 section 4.1.9), not yet set. The transceiver's direction
    /// is [`MediaPeer::set_direction`]'s, narrowed by the offer's.
    async fn create_answer(&self) -> Result<String>;

    /// Sets our description, gathers, and returns it complete with candidates, and `a=end-of-candidates` (RFC 8840 section
    /// 8); or with those that were there when the gathering budget ended, without it. What is found after that comes as
    /// [`MediaEvent::Candidate`].
    async fn set_local(&self, kind: SdpKind, sdp: &str) -> Result<String>;

    /// Sets the peer's description.
    async fn set_remote(&self, kind: SdpKind, sdp: &str) -> Result<()>;

    /// Back to stable from an offer (RFC 9429 section 4.1.10.2).
    async fn rollback(&self) -> Result<()> {
        Err(unsupported("rollback"))
    }

    /// A peer beside this one for another answer to the same offer: an INVITE that forks makes several early dialogs, each with an
    /// answer of its own (RFC 3261 section 13.2.2.4). It shares what the offer says (ports, ICE credentials, certificate or
    /// keys) and nothing that an answer says; each of the two is closed by itself, and what is left has the ports for itself.
    /// Whether this peer was answered does not matter, but no other offer may have been made since.
    ///
    /// Errors: [`Fault::Unsupported`](crate::Fault) by an engine that does not fork ([`MediaEngine::forks`]) or on a path that
    /// does not; [`Fault::ApiMisuse`](crate::Fault) without an offer of ours, or after another one.
    async fn fork(&self, config: ForkConfig) -> Result<Arc<dyn MediaPeer>> {
        let _ = config;
        Err(unsupported("fork"))
    }

    /// Codecs to offer and to accept from the next offer or answer on, best first, in the place of [`PeerConfig::codecs`].
    async fn set_codecs(&self, codecs: &[Codec]) -> Result<()> {
        let _ = codecs;
        Err(unsupported("set codecs"))
    }

    /// Which way audio shall flow, from our side, at the next offer or answer.
    async fn set_direction(&self, direction: Direction) -> Result<()>;

    /// New ICE credentials at the next offer (RFC 9429 section 4.1.8).
    async fn restart_ice(&self) -> Result<()> {
        Err(unsupported("restart ICE"))
    }

    /// A candidate that the peer found after its description (RFC 8838). One that is known already does no harm.
    ///
    /// Errors: no remote description is set.
    async fn add_candidate(&self, candidate: &Candidate) -> Result<()> {
        let _ = candidate;
        Err(unsupported("add candidate"))
    }

    /// Sends a packet; waits only for the engine's own bounded queue. Sequence numbers go up for ever: starting anew
    /// looks like a replay to SRTP. An error when the path is not up.
    async fn send(&self, packet: RtpPacket) -> Result<()>;

    /// Whether [`MediaPeer::send_now`] is there.
    fn sends_now(&self) -> bool {
        false
    }

    /// As [`MediaPeer::send`] for whoever stands on another engine's task and may not wait there: a bridge of two calls. It
    /// takes no more than a sender's locks, and what finds a queue full is not sent.
    ///
    /// Errors: as `send`'s, and one when the engine's own queue is full.
    fn send_now(&self, packet: RtpPacket) -> Result<()> {
        let _ = packet;
        Err(unsupported("send at once"))
    }

    /// What video shall be at the next offer or answer; `None`, as in the beginning: there shall be none. Only for a peer with
    /// [`PeerConfig::video`]. What the peer's offer does not have is not answered.
    async fn set_video(&self, wish: Option<VideoWish>) -> Result<()> {
        match wish {
            Some(_) => Err(unsupported("set video")),
            None => Ok(()),
        }
    }

    /// As [`MediaPeer::send_now`], for video: with timestamps of 90 kHz, and its own sequence numbers. A packet that was sent before
    /// may be sent again.
    fn send_video(&self, packet: RtpPacket) -> Result<()> {
        let _ = packet;
        Err(unsupported("send video"))
    }

    /// Tells the peer what we miss of its video. What it does not understand, or before its first packet, is not sent.
    fn send_feedback(&self, feedback: Feedback) -> Result<()> {
        let _ = feedback;
        Err(unsupported("send feedback"))
    }

    /// The numbers so far, of audio.
    async fn stats(&self) -> TransportStats;

    /// Those of video; `None` as long as there is none.
    async fn video_stats(&self) -> Option<TransportStats> {
        None
    }

    /// The pair in use.
    async fn selected_pair(&self) -> Option<CandidatePair>;

    /// Closes sockets and ends every task; safe to call twice. [`MediaEvent::Closed`] follows.
    async fn close(&self);
}

fn unsupported(operation: &'static str) -> Error {
    Error::new(
        crate::Fault::Unsupported,
        operation,
        "this media engine cannot do it",
    )
    .advice("choose another media.engine in the configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_opus_are_read_from_its_fmtp() {
        let said =
            AudioParameters::from_opus_fmtp("minptime=10; useinbandfec=1;maxaveragebitrate=20000;usedtx=1");
        assert!(said.inband_fec && said.dtx);
        assert_eq!(said.max_average_bitrate, Some(20_000));
        let nothing = AudioParameters::default();
        assert_eq!(
            AudioParameters::from_opus_fmtp("useinbandfec=0;maxaveragebitrate=5"),
            nothing
        );
        assert_eq!(AudioParameters::from_opus_fmtp(";;=;usedtx"), nothing);
    }

    #[test]
    fn an_answer_never_sends_what_the_offer_does_not_receive() {
        use Direction::*;
        assert_eq!(SendOnly.answer(SendRecv), RecvOnly);
        assert_eq!(RecvOnly.answer(SendRecv), SendOnly);
        assert_eq!(Inactive.answer(SendRecv), Inactive);
        assert_eq!(SendRecv.answer(RecvOnly), RecvOnly);
    }
}
