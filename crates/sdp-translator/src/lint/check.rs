//! What is looked for: each check with its severity, the reason, and what to do.

use super::Severity::{self, Degrades, Note, Refuses};
use serde::{Serialize, Serializer};
use std::fmt;

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $severity:ident, $why:literal, $advice:literal;)*) => {
        /// What a finding is about.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Check {
            $($(#[$doc])* $name,)*
        }

        impl Check {
            /// Every check.
            pub const ALL: &'static [Check] = &[$(Check::$name),*];

            /// The id in JSON: `payload-twice`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Check::$name => $id,)*
                }
            }

            /// What comes of it.
            pub fn severity(self) -> Severity {
                match self {
                    $(Check::$name => $severity,)*
                }
            }

            /// The reason, with the section of the RFC that it rests on.
            pub fn why(self) -> &'static str {
                match self {
                    $(Check::$name => $why,)*
                }
            }

            /// What to do.
            pub fn advice(self) -> &'static str {
                match self {
                    $(Check::$name => $advice,)*
                }
            }
        }
    };
}

checks! {
    /// The answer's direction is none that the offer allows.
    AnswerDirection = "answer-direction", Degrades,
        "an answer may receive only what is sent, and send only what is received (RFC 3264 section 6.1)",
        "reverse the offer's direction and narrow it";
    /// The answer has what the offer did not have.
    AnswerExtra = "answer-extra", Degrades,
        "an answer adds no mid, group or rtcp-mux (RFC 5888 section 9.1, RFC 9143 section 7.3, RFC 5761 section 5.1.1)",
        "leave it out";
    /// No format of the answer was offered.
    AnswerFormats = "answer-formats", Refuses,
        "an m-line that is accepted has at least one of the offer's formats (RFC 3264 section 6.1)",
        "answer with formats of the offer, or reject the m-line with port 0";
    /// The m-lines are not the offer's.
    AnswerMedia = "answer-media", Refuses,
        "an answer has the offer's m-lines, in number, order and medium (RFC 3264 section 6)",
        "answer each m-line in its place; reject with port 0 what is not wanted";
    /// Another mid than the offer's.
    AnswerMid = "answer-mid", Refuses,
        "an answer repeats the offer's mid (RFC 5888 section 9.1)",
        "copy a=mid from the offer";
    /// A payload type that is another encoding in the offer.
    AnswerPayload = "answer-payload", Degrades,
        "one payload type should mean one encoding both ways (RFC 3264 section 6.1)",
        "use the offer's payload types";
    /// Another profile than the offer's.
    AnswerProfile = "answer-profile", Refuses,
        "an answer repeats the offer's transport protocol (RFC 3264 section 6)",
        "copy the profile from the offer's m= line";
    /// No role that answers the offer's.
    AnswerSetup = "answer-setup", Refuses,
        "an answer is active or passive, and the offer's counterpart (RFC 4145 section 4.1, RFC 5763 section 5)",
        "answer active to actpass and passive, and passive to active";
    /// bundle-only outside of a group, or with a port.
    BundleOnly = "bundle-only", Degrades,
        "a bundle-only m-line has port 0 and is in a BUNDLE group (RFC 9143 section 6)",
        "set its port to 0 and name its mid in the group";
    /// One payload type, two encodings, one transport.
    BundlePayload = "bundle-payload", Degrades,
        "a payload type means one encoding in all m-lines of a BUNDLE group (RFC 9143 section 9.1)",
        "give each encoding a payload type of its own";
    /// One mid in two BUNDLE groups.
    BundleTwice = "bundle-twice", Refuses,
        "an m-line is in one BUNDLE group at most (RFC 9143 section 7)",
        "name each mid in one group";
    /// A candidate of RTCP's own beside rtcp-mux.
    CandidateComponent = "candidate-component", Note,
        "with rtcp-mux candidates of component 2 serve only a peer that does not multiplex (RFC 5761 section 5.1.3)",
        "leave out those with the address of component 1";
    /// A candidate that cannot be read.
    CandidateInvalid = "candidate-invalid", Degrades,
        "a candidate has a foundation, component, transport, priority, address, port and type (RFC 8839 section 5.1); one that cannot be read is ignored",
        "correct the line or leave it out";
    /// Candidates in an m-line that is rejected.
    CandidatePlace = "candidate-place", Degrades,
        "candidates stand in the m-line that names the transport (RFC 9143 section 7.1.3); those of a rejected one count for nothing",
        "move them to the first m-line that lives";
    /// An m-line without a connection address.
    ConnectionMissing = "connection-missing", Refuses,
        "a c= line stands in the session or in each m-line (RFC 8866 section 5.7)",
        "add a c= line";
    /// A key that cannot be read, or whose tag is another's.
    CryptoInvalid = "crypto-invalid", Degrades,
        "a=crypto has a tag of its own, a suite and a key of the suite's length (RFC 4568 section 4.1); a line that cannot be read is passed over",
        "correct the line or leave it out";
    /// The default candidate is not told.
    DefaultCandidate = "default-candidate", Degrades,
        "the m= and c= lines carry the default candidate when there are candidates (RFC 8839 section 4.2.1.2)",
        "put the address of the default candidate there";
    /// Two directions.
    DirectionTwice = "direction-twice", Degrades,
        "an m-line has one direction (RFC 8866 section 6.7)",
        "leave one of them";
    /// A header extension without a URI.
    ExtmapInvalid = "extmap-invalid", Degrades,
        "a=extmap names an extension by URI (RFC 8285 section 5)",
        "correct the line or leave it out";
    /// A fingerprint that cannot be read.
    FingerprintInvalid = "fingerprint-invalid", Refuses,
        "a fingerprint is the hash function's name and its octets in hexadecimal, with colons (RFC 8122 section 5)",
        "write it as the certificate's hash gives it";
    /// Only SHA-1 or MD5.
    FingerprintWeak = "fingerprint-weak", Degrades,
        "SHA-256 is the hash function that every endpoint has (RFC 8122 section 5)",
        "add a sha-256 fingerprint";
    /// The zero address means hold without ICE.
    HoldZero = "hold-zero", Degrades,
        "c=IN IP4 0.0.0.0 was hold in RFC 2543; RFC 3264 section 8.4 wants a=sendonly or a=inactive instead",
        "keep the address, and say the direction";
    /// Of fragment and password one is missing.
    IceCredentialsHalf = "ice-credentials-half", Refuses,
        "ice-ufrag and ice-pwd come together (RFC 8839 section 5.4)",
        "add the one that is missing";
    /// Fragment or password of a forbidden length.
    IceCredentialsLength = "ice-credentials-length", Refuses,
        "ice-ufrag has 4 to 256 characters and ice-pwd 22 to 256, of letters, digits, + and / (RFC 8839 section 5.4)",
        "make new ones";
    /// Candidates without credentials.
    IceCredentialsMissing = "ice-credentials-missing", Degrades,
        "without ice-ufrag and ice-pwd no check can be sent (RFC 8839 section 4.2.1)",
        "add both, or leave the candidates out";
    /// The default address is no candidate.
    IceMismatch = "ice-mismatch", Degrades,
        "the address of the m= and c= lines must be a candidate; else the peer gives ICE up (RFC 8839 section 4.2.5)",
        "add the candidate, or let whatever rewrote the address rewrite the candidates too";
    /// Keys in the description beside a fingerprint.
    KeyingTwice = "keying-twice", Degrades,
        "a WebRTC endpoint must not negotiate SDES (RFC 8827 section 6.5), and browsers refuse a=crypto beside a=fingerprint",
        "leave a=crypto out";
    /// A secure profile without keys.
    KeyingMissing = "keying-missing", Refuses,
        "a secure profile needs keys: a=fingerprint (RFC 5763 section 5) or a=crypto (RFC 4568 section 6)",
        "add keys, or offer RTP/AVP";
    /// Keys under a profile that has none.
    KeyingProfile = "keying-profile", Degrades,
        "a=crypto belongs to a secure profile (RFC 4568 section 6); under RTP/AVP peers pass over it and send in clear",
        "offer RTP/SAVP or RTP/SAVPF";
    /// Lines that do not end in CRLF.
    LineEnd = "line-end", Note,
        "lines end in CRLF (RFC 8866 section 5)",
        "write CRLF";
    /// Not an SDP line.
    LineInvalid = "line-invalid", Refuses,
        "a line is a letter, an equals sign and a value, and a letter that is not known makes the whole description unreadable (RFC 8866 section 5)",
        "take the line out";
    /// A mandatory line is missing.
    LineMissing = "line-missing", Refuses,
        "v=, o=, s= and t= are mandatory (RFC 8866 section 5)",
        "add the line";
    /// A line in the wrong place.
    LineOrder = "line-order", Degrades,
        "lines stand in a fixed order (RFC 8866 section 5)",
        "sort them";
    /// Too long for a datagram.
    LongForDatagram = "long-for-datagram", Note,
        "a request of more than 1,300 octets goes over TCP (RFC 3261 section 18.1.1)",
        "use TCP, or the INVITE diet";
    /// An m= line that cannot be read.
    MediaLine = "media-line", Refuses,
        "an m= line has a medium, a port, a protocol and a format (RFC 8866 section 5.14)",
        "write all four";
    /// A group names a mid that is not there.
    MidMissing = "mid-missing", Refuses,
        "a group names m-lines by their mid (RFC 5888 section 5)",
        "add the a=mid, or take the name out of the group";
    /// Two m-lines with one mid.
    MidTwice = "mid-twice", Refuses,
        "a mid is unique (RFC 5888 section 4)",
        "give each m-line a mid of its own";
    /// One channel, spelled out.
    MonoChannel = "mono-channel", Note,
        "the number of channels is left out when it is one (RFC 8866 section 6.6); some peers compare the text",
        "leave /1 out";
    /// More findings than are told.
    More = "more", Note,
        "the findings are bounded",
        "correct those that are told first";
    /// Media goes to a group.
    MulticastAddress = "multicast-address", Refuses,
        "a call is between two hosts; who accepts a multicast stream joins it, and answers with its address (RFC 3264 section 6.2)",
        "name the address of one host";
    /// Not a description at all.
    NotSdp = "not-sdp", Refuses,
        "a description begins with v= and is bounded (RFC 8866 section 5)",
        "send a session description";
    /// One payload type with two encodings, or twice in the m= line.
    PayloadTwice = "payload-twice", Degrades,
        "a payload type stands once in an m= line and has one encoding (RFC 8866 sections 5.14 and 6.6)",
        "give each encoding a payload type of its own";
    /// What is no payload type.
    PayloadRange = "payload-range", Degrades,
        "the formats of RTP are payload types of 0 to 127 (RFC 3551 section 6)",
        "take it out";
    /// A payload type that looks like RTCP.
    PayloadRtcp = "payload-rtcp", Degrades,
        "with rtcp-mux payload types 64 to 95 cannot be told from RTCP (RFC 5761 section 4)",
        "use 96 to 127";
    /// An attribute of a payload type that is not offered.
    PayloadStray = "payload-stray", Note,
        "a=rtpmap and a=fmtp describe formats of their m= line (RFC 8866 section 6.6)",
        "take the line out, or add the format";
    /// A dynamic payload type without rtpmap.
    PayloadUnmapped = "payload-unmapped", Degrades,
        "a dynamic payload type without a=rtpmap means nothing (RFC 8866 section 5.14)",
        "add the a=rtpmap, or take the payload type out";
    /// No address that the peer could send to.
    PeerAddress = "peer-address", Refuses,
        "without ICE media goes to the address of the m= and c= lines, and there is none (RFC 3264 section 5.1)",
        "put an address there that the peer can reach";
    /// An attribute that the peer cannot do without.
    PeerAttribute = "peer-attribute", Refuses,
        "the RFCs leave the attribute out, and this peer fails without it",
        "add it";
    /// Several m-lines on one transport, for a peer that knows no BUNDLE.
    PeerBundle = "peer-bundle", Degrades,
        "a peer that does not know BUNDLE sends each m-line to its own address (RFC 9143 section 7.3)",
        "be ready for a transport per m-line, or offer one m-line";
    /// A bundle-only m-line, for a peer that knows no BUNDLE.
    PeerBundleOnly = "peer-bundle-only", Refuses,
        "a bundle-only m-line has port 0, which is rejected by who does not know BUNDLE (RFC 9143 section 6)",
        "offer the m-line with a port of its own";
    /// No codec in common.
    PeerCodec = "peer-codec", Refuses,
        "no codec in common: the m-line is rejected (RFC 3264 section 6)",
        "add one of the peer's codecs, or one of ours to the peer";
    /// The name of a hash function in another case.
    PeerHash = "peer-hash", Refuses,
        "names of hash functions are compared without case (RFC 8122 section 5), but not by this peer",
        "write the name in lower case";
    /// A word for hold that the peer does not understand.
    PeerHold = "peer-hold", Degrades,
        "the peer misses that the medium is on hold (RFC 3264 section 8.4)",
        "say it in the words that it understands";
    /// No ICE, for a peer that fails without.
    PeerIce = "peer-ice", Refuses,
        "without ice-ufrag and ice-pwd a full agent that demands ICE refuses the description (RFC 8839 section 4.2.1)",
        "switch ICE on";
    /// Keys of another kind.
    PeerKeying = "peer-keying", Refuses,
        "both sides must take their keys from the same place (RFC 5763, RFC 4568)",
        "offer keys as the peer takes them, or change its configuration";
    /// More m-lines than the peer takes.
    PeerMaxMedia = "peer-max-media", Degrades,
        "m-lines beyond what the peer takes are rejected (RFC 3264 section 6)",
        "offer fewer, the important ones first";
    /// A candidate by name that stops the peer.
    PeerMdns = "peer-mdns", Refuses,
        "candidates with names should be ignored by who cannot resolve them (RFC 8839 section 5.1), but this peer fails",
        "leave out the candidates that end in .local";
    /// A candidate by name that the peer cannot use.
    PeerMdnsIgnored = "peer-mdns-ignored", Note,
        "candidates with names are ignored by who cannot resolve them (RFC 8839 section 5.1)",
        "see that there are others";
    /// A medium that the peer rejects.
    PeerMedium = "peer-medium", Degrades,
        "a medium that a peer does not have is rejected with port 0 (RFC 3264 section 6)",
        "nothing, if the rest is enough";
    /// A profile that the peer does not take.
    PeerProfile = "peer-profile", Refuses,
        "an m-line with a transport protocol that is not known is rejected (RFC 3264 section 6)",
        "offer a profile that the peer takes, or change its configuration";
    /// RTCP goes where nobody listens.
    PeerRtcp = "peer-rtcp", Degrades,
        "a peer that does not multiplex sends RTCP to a=rtcp, else to the next port (RFC 3605, RFC 5761 section 5.1.1)",
        "name the port in a=rtcp, or do without RTCP";
    /// No rtcp-mux, for a peer that fails without.
    PeerRtcpMux = "peer-rtcp-mux", Refuses,
        "a WebRTC endpoint has one port for RTP and RTCP (RFC 8834 section 4.5)",
        "switch rtcp-mux on at who made this";
    /// A static payload type without the rtpmap that the peer needs.
    PeerRtpmap = "peer-rtpmap", Refuses,
        "static payload types need no a=rtpmap (RFC 3551 section 6), but this peer fails without",
        "add the a=rtpmap of RFC 3551's table";
    /// Telephone events on a clock that the peer does not take.
    PeerTelephoneEvent = "peer-telephone-event", Degrades,
        "telephone events are agreed by clock rate (RFC 4733 section 2.1): keys will not be heard",
        "offer telephone-event with a clock rate that the peer takes";
    /// Trickle, for a peer that does not.
    PeerTrickle = "peer-trickle", Degrades,
        "a peer that does not trickle takes the candidates of the description for all there are (RFC 8838 section 16)",
        "send a description with every candidate, and without the trickle option";
    /// A packet time that is none, or longer than the longest.
    PtimeInvalid = "ptime-invalid", Degrades,
        "a=ptime and a=maxptime are milliseconds, and what is wanted is not longer than what is taken (RFC 8866 section 6.4)",
        "write a=ptime:20, or leave it out";
    /// A bundled m-line without rtcp-mux.
    RtcpMuxBundle = "rtcp-mux-bundle", Degrades,
        "bundled RTP m-lines have a=rtcp-mux (RFC 9143 section 9.3)",
        "add a=rtcp-mux";
    /// rtcp-mux-only without rtcp-mux.
    RtcpMuxOnly = "rtcp-mux-only", Degrades,
        "an offer with a=rtcp-mux-only has a=rtcp-mux too (RFC 8858 section 4.2)",
        "add a=rtcp-mux";
    /// A role that is none.
    SetupInvalid = "setup-invalid", Degrades,
        "a role is active, passive, actpass or holdconn (RFC 4145 section 4)",
        "write one of the four";
    /// A fingerprint without a role.
    SetupMissing = "setup-missing", Degrades,
        "a=setup tells who begins the DTLS handshake (RFC 5763 section 5)",
        "add a=setup:actpass to an offer, active or passive to an answer";
    /// Telephone events on no codec's clock.
    TelephoneEventClock = "telephone-event-clock", Note,
        "telephone events share the clock of the audio that they stand in for (RFC 4733 section 2.1)",
        "offer telephone-event for each clock rate of the codecs";
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
