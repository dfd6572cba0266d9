//! The rules' names, and the record of what they changed.

use serde::{Serialize, Serializer};
use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $why:literal;)*) => {
        /// Why a line is not what it was: every change names its rule.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Rule] = &[$(Rule::$name),*];

            /// The id in logs: `fingerprint-hash`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Rule::$name => $id,)*
                }
            }

            /// The reason, with the section of the RFC that it rests on.
            pub fn why(self) -> &'static str {
                match self {
                    $(Rule::$name => $why,)*
                }
            }
        }
    };
}

rules! {
    /// An answer echoes what the offer said, and adds nothing that the offer did not have.
    AnswerFit = "answer-fit",
        "an answer keeps the offer's m-lines and profiles and adds no mid, group or rtcp-mux (RFC 3264 section 6, RFC 9143 section 7.3, RFC 5761 section 5.1.1)";
    /// The DTLS role of an answer that does not say it.
    AnswerSetup = "answer-setup",
        "an answer without a=setup is passive (RFC 4145 section 4), and actpass may stand only in an offer (RFC 5763 section 5)";
    /// One transport: a BUNDLE group of exactly the m-lines that the engine carries.
    BundleGroup = "bundle-group",
        "the engine has one transport and takes an m-line outside the BUNDLE group for rejected (RFC 9143 section 7.3)";
    /// RTCP's own candidates are of no use on one transport.
    CandidateComponent = "candidate-component",
        "RTP and RTCP share component 1 when multiplexed (RFC 5761 section 5.1.3, RFC 8839 section 5.1)";
    /// Candidates stand in an m-line that is rejected.
    CandidatePlace = "candidate-place",
        "candidates stand in the m-line that names the transport (RFC 9143 section 7.1.3)";
    /// A candidate that the engine cannot use and would fail on.
    CandidateUnusable = "candidate-unusable",
        "an agent ignores candidates that it cannot use: names, unknown transports, unreadable fields (RFC 8839 section 5.1)";
    /// Where media goes, in m= and c=.
    ClassicAddress = "classic-address",
        "without ICE media goes to the address of c= and the port of m= (RFC 8866 sections 5.7 and 5.14)";
    /// One transport for several m-lines, or a transport for each.
    ClassicBundle = "classic-bundle",
        "m-lines without a BUNDLE group have a transport each, and a=mid is of no use without a group (RFC 9143 section 7, RFC 5888 section 4)";
    /// An m-line that the other side does not take.
    ClassicDeclined = "classic-declined",
        "what cannot be carried is declined with port 0 and keeps its place (RFC 3264 section 6)";
    /// RTP header extensions.
    ClassicExtension = "classic-extension",
        "a header extension that is not offered is not sent, and the other side does without (RFC 8285 section 7)";
    /// Formats that the other side does not take.
    ClassicFormats = "classic-formats",
        "a description names the formats that can be received, each with its own attributes (RFC 3264 section 5.1); rtx repeats what feedback asks for (RFC 4588 section 6)";
    /// Hold in the other side's words.
    ClassicHold = "classic-hold",
        "hold is a direction, and was c=0.0.0.0 (RFC 3264 section 8.4)";
    /// ICE.
    ClassicIce = "classic-ice",
        "who does without ICE goes by m= and c=, and its peer leaves out what is of ICE (RFC 8839 section 4.2.5)";
    /// Where keys come from.
    ClassicKeys = "classic-keys",
        "keys are those of this transport: a=crypto (RFC 4568 section 5), a=fingerprint with a=setup (RFC 5763 section 5), both may stand beside RTP/AVP (RFC 8643)";
    /// Payload types of the other side.
    ClassicPayload = "classic-payload",
        "a payload type is a number of its own side: each side is sent to with the numbers that it names (RFC 3264 section 5.1)";
    /// The profile, and feedback which is of the profiles in F alone.
    ClassicProfile = "classic-profile",
        "the profile says whether media is encrypted and whether there is early feedback (RFC 4585 section 4, RFC 5124 section 4, RFC 5764 section 8)";
    /// RTCP on a port of its own, or multiplexed.
    ClassicRtcp = "classic-rtcp",
        "RTCP has the next port, the one of a=rtcp (RFC 3605), or the port of RTP with a=rtcp-mux (RFC 5761 section 5.1.1)";
    /// Several encodings of one source.
    ClassicSimulcast = "classic-simulcast",
        "simulcast is taken back by an answer without it (RFC 8853 section 5.3.2), and a=rid restricts nothing without it (RFC 8851 section 6)";
    /// Names of streams and sources.
    ClassicStream = "classic-stream",
        "sources are known by their packets, and stream ids belong to the browser's API (RFC 5576 section 4.1, RFC 8830 section 2)";
    /// Several of what there is one of.
    Contradiction = "contradiction",
        "an m-line has one mid, one role, one direction and one set of ICE credentials (RFC 5888 section 4, RFC 4145 section 4, RFC 3264 section 5.1, RFC 8839 section 5.4): the first counts";
    /// m= and c= name the default candidate.
    DefaultCandidate = "default-candidate",
        "the m= and c= lines carry the default candidate: relayed, else server-reflexive, else host (RFC 8839 section 4.2.1.2, RFC 8445 section 5.1.4)";
    /// Two candidates with one address.
    DietCandidateDuplicate = "diet-candidate-duplicate",
        "of candidates with the same transport address the best is enough (RFC 8445 section 5.1.3); the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// What a candidate says beyond its fields.
    DietCandidateExtension = "diet-candidate-extension",
        "a candidate's extension attributes are ignored by who does not know them (RFC 8839 section 5.1); the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// Several candidates of one foundation.
    DietCandidateFoundation = "diet-candidate-foundation",
        "candidates of one foundation succeed or fail together (RFC 8445 section 5.1.1.3), so that the best is enough; the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// An address that no router knows.
    DietCandidateLinkLocal = "diet-candidate-link-local",
        "a link-local address is reached from its own link alone (RFC 4291 section 2.5.6, RFC 3927 section 2.7); the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// The worst of several candidates.
    DietCandidatePriority = "diet-candidate-priority",
        "an agent may send fewer candidates than it has, the best ones (RFC 8445 section 5.1.3, RFC 8421 section 4); the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// A TCP candidate beside UDP ones.
    DietCandidateTcp = "diet-candidate-tcp",
        "TCP candidates are what is left when UDP is blocked (RFC 6544 section 4.2); the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// A second IPv6 address of one link.
    DietCandidateTemporary = "diet-candidate-temporary",
        "stable and temporary addresses of one link lead the same way (RFC 8981 section 3), so that the best is enough; the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// Header extensions of audio.
    DietHeaderExtension = "diet-header-extension",
        "a header extension that is not offered is not sent, and audio does without (RFC 8285 section 7); the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// Names of streams and sources.
    DietMediaStream = "diet-media-stream",
        "sources are known by their packets, and stream ids belong to the browser's API (RFC 5576 section 4.1, RFC 8830 section 2); the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// `a=rtpmap` of a static payload type.
    DietRtpmapStatic = "diet-rtpmap-static",
        "static payload types need no a=rtpmap (RFC 3551 section 6); the description is too long for a datagram (RFC 3261 section 18.1.1)";
    /// The diet was not enough.
    DietTooLong = "diet-too-long",
        "what is left is needed and still too long for a datagram: the request goes over TCP (RFC 3261 section 18.1.1)";
    /// The direction is spelled out in each m-line.
    Direction = "direction",
        "the direction is sendrecv, or the session's, when an m-line does not say it (RFC 8866 section 6.7); the engine skips such an m-line";
    /// Half trickle: no candidate follows.
    EndOfCandidates = "end-of-candidates",
        "a description that trickles no candidate of its own says that they are complete (RFC 8840 section 8.2)";
    /// A header extension without a URI.
    ExtmapInvalid = "extmap-invalid",
        "a=extmap names an extension by URI (RFC 8285 section 5)";
    /// The hash function's name in lower case, one blank.
    FingerprintHash = "fingerprint-hash",
        "hash function names are compared without case (RFC 8122 section 5); the engine compares them with case";
    /// One SHA-256 fingerprint for the one transport.
    FingerprintSingle = "fingerprint-single",
        "an endpoint may give several fingerprints and the other side picks (RFC 8122 section 5.1); the engine knows only one, of SHA-256";
    /// One transport has one set of ICE credentials.
    IceSingle = "ice-single",
        "bundled m-lines use the transport of the tagged one, with its ICE credentials (RFC 9143 section 7.1.3); the engine fails on two sets";
    /// CRLF after each line.
    LineEnd = "line-end",
        "lines end in CRLF (RFC 8866 section 5)";
    /// Not an SDP line.
    LineInvalid = "line-invalid",
        "a line is a letter, an equals sign and a value (RFC 8866 section 5)";
    /// A mandatory line that is missing or cannot be read.
    LineMissing = "line-missing",
        "v=, o=, s= and t= are mandatory (RFC 8866 section 5)";
    /// The order of the session's lines, or of a medium's.
    LineOrder = "line-order",
        "lines stand in a fixed order (RFC 8866 section 5)";
    /// Plain SIP names no m-line.
    Mid = "mid",
        "plain SIP leaves a=mid out (RFC 5888 section 4); JSEP names each m-line (RFC 9429 section 5.2.1)";
    /// `PCMU/8000/1` is `PCMU/8000`.
    MonoChannel = "mono-channel",
        "the number of channels is left out when it is one (RFC 8866 section 6.6)";
    /// A payload type that nothing says the encoding of.
    PayloadUnmapped = "payload-unmapped",
        "a dynamic payload type without a=rtpmap means nothing (RFC 8866 section 5.14)";
    /// An m-line that the engine must reject, shown in the form in which it can; or that form taken back.
    RejectedLine = "rejected-line",
        "a rejected m-line has port 0 and keeps its place (RFC 3264 section 6); the engine knows audio and video on one transport";
    /// `a=rtcp` names the RTP port when multiplexed.
    RtcpLine = "rtcp-line",
        "with rtcp-mux RTCP goes to the RTP port (RFC 5761 section 5.1.1, RFC 3605)";
    /// The engine multiplexes RTP and RTCP, whatever the peer says.
    RtcpMux = "rtcp-mux",
        "the engine has no second component and takes RTP and RTCP for multiplexed (RFC 8858 section 3): RTCP of a peer that does not multiplex is lost";
    /// Static payload types are spelled out.
    RtpmapStatic = "rtpmap-static",
        "static payload types need no a=rtpmap (RFC 3551 section 6, RFC 8866 section 6.6); the engine needs one";
    /// `a=setup` of the session in each m-line.
    SessionSetup = "session-setup",
        "a=setup of the session counts for each m-line without its own (RFC 4145 section 4)";
    /// No trickle.
    Trickle = "trickle",
        "every candidate is in the description: this is not trickle ICE (RFC 8840 section 4.1.1)";
    /// Trickle.
    TrickleOffered = "trickle-offered",
        "an agent that takes candidates in INFOs says so in every offer and answer (RFC 8840 section 5)";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One line that a rule changed, added or took out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change {
    /// The rule.
    pub rule: Rule,
    /// Which m-line, from 0; `None` for the session.
    pub media: Option<usize>,
    /// The line before, without its line end; `None` when it was added.
    pub before: Option<String>,
    /// The line after, without its line end; `None` when it was taken out.
    pub after: Option<String>,
    /// The reason, with the section of the RFC that it rests on.
    pub why: &'static str,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        match self.media {
            Some(index) => write!(f, " (m-line {index})")?,
            None => write!(f, " (session)")?,
        }
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, ": {before:?} is now {after:?}")?,
            (Some(before), None) => write!(f, ": {before:?} taken out")?,
            (None, Some(after)) => write!(f, ": {after:?} added")?,
            (None, None) => {}
        }
        write!(f, " because {}", self.why)
    }
}

/// The changes so far, and the line's place in its section at the time of each.
#[derive(Debug, Default)]
pub(crate) struct Notes(pub(crate) Vec<Change>, pub(crate) Vec<usize>);

impl Notes {
    /// A note of what is no edit of one line.
    pub(crate) fn push(
        &mut self,
        rule: Rule,
        media: Option<usize>,
        before: Option<String>,
        after: Option<String>,
    ) {
        self.push_at(rule, media, usize::MAX, before, after);
    }

    pub(crate) fn push_at(
        &mut self,
        rule: Rule,
        media: Option<usize>,
        at: usize,
        before: Option<String>,
        after: Option<String>,
    ) {
        self.0.push(Change {
            rule,
            media,
            before,
            after,
            why: rule.why(),
        });
        self.1.push(at);
    }
}
