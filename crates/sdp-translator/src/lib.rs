#![doc = include_str!("../README.md")]

mod actor;
mod answer;
mod candidate;
mod check;
mod classic;
mod diet;
mod disguise;
mod explain;
mod hold;
mod lint;
mod needs;
mod negotiate;
mod negotiate_video;
mod profile;
mod repair;
mod rule;
mod sdp;
mod sdpfrag;
mod to_sip;
mod to_webrtc;
mod transport;
mod trickle;
mod work;

use actix::Message;
use siprtc_core::Result;
use siprtc_core::media::{NegotiatedAudio, NegotiatedVideo};

pub use actor::SdpTranslator;
pub use answer::{LocalMedia, LocalSession, LocalTransport, answer};
pub use candidate::candidates;
pub use check::{check_answer, check_classic_answer, check_classic_offer, check_offer};
pub use classic::{
    Classic, ClassicTransport, Dtls, RtcpPort, Target, Undo, WebrtcSide, answer_from_classic,
    answer_to_classic, choose_crypto, from_classic, payload_types, to_classic,
};
pub use explain::{Explained, Explanation, Need, Refusal, Way, explain};
pub use hold::says_hold;
pub use lint::{Check, Finding, MAX_FINDINGS, Severity, lint, lint_answer};
pub use needs::{Carried, Needs, RtpProfile, needs};
pub use negotiate::{Answerer, negotiated_audio, negotiated_audio_as};
pub use negotiate_video::negotiated_video;
pub use profile::{
    Fact, HashNames, Hold, IceSupport, Keying, MAX_PROFILE, MdnsSupport, PeerProfile, Support,
};
pub use rule::{Change, Rule};
pub use sdpfrag::{FragMedia, IceCredentials, MAX_CANDIDATES, MAX_FRAG, SdpFrag};
pub use siprtc_sdp_words::{Crypto, MAX_KEYS, MasterKey, Mki, SessionParameter, Setup, Suite};
pub use to_sip::{answer_to_sip, answer_to_sip_as, to_sip, to_sip_as};
pub use to_webrtc::{answer_to_webrtc, to_webrtc};
pub use trickle::{Trickle, says_end_of_candidates, says_trickle};

/// The longest description, in octets. A longer one is an error: the longest that browsers make has about 20 kB.
pub const MAX_SDP: usize = 65_536;

/// The most lines of a description; more is an error.
pub const MAX_LINES: usize = 2_000;

/// The most m-lines of a description; more is an error.
pub const MAX_MEDIA: usize = 32;

/// A description after translation, and everything that is not what it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Translation {
    /// The description, with CRLF after each line.
    pub sdp: String,
    /// What was changed, in the order of the rules.
    pub changes: Vec<Change>,
}

/// The longest request that goes over UDP where the path's MTU is not known, in octets, headers and body (RFC 3261 section
/// 18.1.1). A longer one goes over TCP.
pub const MAX_DATAGRAM: usize = 1_300;

/// In which form a description goes over the wire. The default says nothing of trickle and cuts nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SipForm {
    /// The most octets of the description, line ends included. A longer one is cut down as far as it goes without harm
    /// ([`Rule`]s `diet-...`); whether that was enough is seen by the length, and noted as [`Rule::DietTooLong`]. `None`
    /// by default: over TCP, TLS and WebSocket there is nothing to gain.
    pub octets: Option<usize>,
    /// What it says of candidates to come.
    pub trickle: Trickle,
}

impl SipForm {
    /// A form that fits into a datagram beside `headers` octets of request line and header fields, the blank line
    /// included.
    pub fn beside(headers: usize) -> Self {
        SipForm {
            octets: Some(MAX_DATAGRAM.saturating_sub(headers)),
            ..SipForm::default()
        }
    }
}

/// [`to_sip_as()`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Translation>")]
pub struct ToSip {
    /// The engine's local description.
    pub sdp: String,
    /// The form for the wire.
    pub form: SipForm,
}

/// [`to_webrtc()`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Translation>")]
pub struct ToWebrtc {
    /// The peer's description.
    pub sdp: String,
}

/// [`answer_to_sip_as`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Translation>")]
pub struct AnswerToSip {
    /// The peer's offer as it came from the wire.
    pub offer: String,
    /// The engine's local description: the answer.
    pub answer: String,
    /// The form for the wire.
    pub form: SipForm,
}

/// [`answer_to_webrtc`] as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Translation>")]
pub struct AnswerToWebrtc {
    /// Our offer, as it went out or as the engine made it.
    pub offer: String,
    /// The peer's answer.
    pub answer: String,
}

/// What two descriptions agree on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Negotiated {
    /// Without audio there is no call.
    pub audio: NegotiatedAudio,
    /// Video, if both have it.
    pub video: Option<NegotiatedVideo>,
}

/// [`negotiated_audio`] or [`negotiated_audio_as`], and [`negotiated_video`], as a message.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Negotiated>")]
pub struct Negotiate {
    /// Our description.
    pub local: String,
    /// The peer's.
    pub remote: String,
    /// Whose is the answer; `None`: it is found out, as well as it can be.
    pub answerer: Option<Answerer>,
}
