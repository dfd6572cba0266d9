//! What a classic description shall look like, and who is on the other side.

use crate::needs::RtpProfile;
use crate::profile::{Hold, Keying, PeerProfile, Support};
use crate::sdp::Sdp;
use crate::{LocalTransport, candidate};
use siprtc_core::{Error, Fault, Result};
use siprtc_sdp_words::{Crypto, Setup, Suite};
use std::collections::HashSet;
use std::net::SocketAddr;

/// The policy of [`crate::to_classic`]: what the reader of a classic description takes, and where it shall send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The profile of each m-line; an answer has its offer's instead.
    pub profile: RtpProfile,
    /// Each m-line's own transport, by its index. An m-line without one is declined.
    pub transports: Vec<Option<ClassicTransport>>,
    /// Where RTCP goes.
    pub rtcp: RtcpPort,
    /// The words for hold.
    pub hold: Hold,
    /// The media that it takes; others are declined.
    pub media: Vec<String>,
    /// The most m-lines that it takes; those beyond are declined.
    pub max_media: Option<usize>,
    /// The encodings of audio that it takes, as in `a=rtpmap`, without case and with or without channels; `None` for all.
    /// `telephone-event` and `CN` are not asked for here.
    pub codecs: Option<Vec<String>>,
    /// The clock rates of `telephone-event` that it takes; `None` for all.
    pub telephone_event: Option<Vec<u32>>,
    /// Payload types here and there, for a bridge: those of the WebRTC side with those of the classic side. What is not
    /// named stays as it is.
    pub payload_types: Vec<(u8, u8)>,
}

/// Where RTCP goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RtcpPort {
    /// To the port of RTP if the other side wants that too, else to its own (RFC 5761 section 5.1.1).
    Both,
    /// To the port of RTP.
    Multiplexed,
    /// To its own port.
    Own,
}

/// An address of its own for an m-line, and its keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClassicTransport {
    /// Where RTP is received.
    pub rtp: SocketAddr,
    /// Where RTCP is received; `None` for the next port of the same address.
    pub rtcp: Option<SocketAddr>,
    /// `a=crypto`, in the order of preference: all of them in an offer, the chosen one in an answer.
    pub crypto: Vec<Crypto>,
    /// `a=fingerprint` and `a=setup`.
    pub dtls: Option<Dtls>,
}

/// What a DTLS transport without ICE says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dtls {
    /// The value of `a=fingerprint`.
    pub fingerprint: String,
    /// The role.
    pub setup: Setup,
}

/// The WebRTC side of a bridge: its one transport, and the role in its DTLS association.
#[derive(Clone, Debug)]
pub struct WebrtcSide {
    /// Fingerprint, ICE credentials and candidates.
    pub transport: LocalTransport,
    /// Our role, when the association is there already: answers keep it.
    pub established: Option<Setup>,
    /// Payload types here and there: those of the WebRTC side with those of the classic side. What is not named stays.
    pub payload_types: Vec<(u8, u8)>,
}

impl Target {
    /// Plain RTP for everybody: `RTP/AVP`, RTCP on its own port.
    pub fn plain(transports: Vec<Option<ClassicTransport>>) -> Self {
        Target {
            profile: RtpProfile::Avp,
            transports,
            rtcp: RtcpPort::Own,
            hold: Hold::Direction,
            media: vec!["audio".to_owned(), "video".to_owned()],
            max_media: None,
            codecs: None,
            telephone_event: None,
            payload_types: Vec::new(),
        }
    }

    /// What a peer needs, as far as its profile says; what it does not say is as in [`Target::plain`].
    ///
    /// The profile of RTP is the first that the peer takes and that the transports have keys for.
    ///
    /// ```
    /// use siprtc_sdp_translator::{ClassicTransport, PeerProfile, RtcpPort, RtpProfile, Target};
    ///
    /// let cisco = PeerProfile::named("cisco")?;
    /// let transport = ClassicTransport::plain("192.0.2.9:4000".parse().unwrap());
    /// let target = Target::of(&cisco, vec![Some(transport)]);
    /// assert_eq!((target.profile, target.rtcp), (RtpProfile::Avp, RtcpPort::Own));
    /// assert_eq!(target.telephone_event, Some(vec![8_000]));
    /// # Ok::<(), siprtc_core::Error>(())
    /// ```
    pub fn of(peer: &PeerProfile, transports: Vec<Option<ClassicTransport>>) -> Self {
        let plain = Target::plain(transports);
        let named = peer.profiles.iter().flat_map(|fact| &fact.is);
        let profile = named
            .filter_map(|name| RtpProfile::from_name(name))
            .find(|profile| plain.keys_fit(*profile) && takes_keys(peer, *profile));
        let words = peer.hold.as_ref().map(|fact| fact.is.as_slice());
        Target {
            profile: profile.unwrap_or(plain.profile),
            rtcp: match peer.rtcp_mux.as_ref().map(|fact| fact.is) {
                Some(Support::Required) => RtcpPort::Multiplexed,
                Some(Support::Accepted) => RtcpPort::Both,
                Some(Support::Unknown) | None => RtcpPort::Own,
            },
            hold: match words {
                Some([Hold::ZeroAddress]) => Hold::ZeroAddress,
                _ => Hold::Direction,
            },
            media: peer
                .media
                .as_ref()
                .map_or(plain.media.clone(), |fact| fact.is.clone()),
            max_media: peer.max_media.as_ref().map(|fact| fact.is),
            codecs: peer.codecs.as_ref().map(|fact| fact.is.clone()),
            telephone_event: peer.telephone_event.as_ref().map(|fact| fact.is.clone()),
            ..plain
        }
    }

    fn keys_fit(&self, profile: RtpProfile) -> bool {
        self.transports.iter().flatten().all(|own| own.keys_fit(profile))
    }

    pub(super) fn check(&self) -> Result<()> {
        if !self.keys_fit(self.profile) {
            let what = format!("a transport has no keys for {}", self.profile);
            return Err(misuse(what).advice("RTP/SAVP needs crypto or dtls, UDP/TLS/RTP/SAVP needs dtls"));
        }
        let mut numbers = self.payload_types.clone();
        numbers.sort_unstable();
        numbers.dedup();
        let here: HashSet<u8> = numbers.iter().map(|(here, _)| *here).collect();
        let there: HashSet<u8> = numbers.iter().map(|(_, there)| *there).collect();
        if here.len() != numbers.len() || there.len() != numbers.len() {
            return Err(misuse("payload_types has two numbers for one".to_owned()));
        }
        if numbers.iter().any(|(here, there)| *here > 127 || *there > 127) {
            return Err(misuse("payload_types has a number over 127".to_owned()));
        }
        let fingerprints = self
            .transports
            .iter()
            .flatten()
            .filter_map(|own| own.dtls.as_ref());
        if fingerprints
            .into_iter()
            .any(|dtls| dtls.fingerprint.contains(['\r', '\n']))
        {
            return Err(misuse("a fingerprint has a line end".to_owned()));
        }
        Ok(())
    }
}

fn takes_keys(peer: &PeerProfile, profile: RtpProfile) -> bool {
    let Some(fact) = &peer.keying else { return true };
    let any = |wanted: &[Keying]| fact.is.iter().any(|keying| wanted.contains(keying));
    match profile.is_secure() {
        true if profile.is_dtls() => any(&[Keying::DtlsSrtp]),
        true => any(&[Keying::DtlsSrtp, Keying::Sdes]),
        false => any(&[Keying::None]),
    }
}

impl ClassicTransport {
    /// An address without keys.
    pub fn plain(rtp: SocketAddr) -> Self {
        ClassicTransport {
            rtp,
            rtcp: None,
            crypto: Vec::new(),
            dtls: None,
        }
    }

    /// The default candidate of each m-line that is not rejected: where a WebRTC description can be reached without ICE.
    ///
    /// # Errors
    /// `PeerMisbehaved` for what is no SDP.
    pub fn defaults(webrtc_sdp: &str) -> Result<Vec<Option<Self>>> {
        let sdp = Sdp::parse(webrtc_sdp)?;
        let own = |index: usize| {
            let media = sdp.media.get(index).filter(|media| media.is_live())?;
            let (address, port) = candidate::default_of(media)?;
            Some(ClassicTransport::plain(SocketAddr::new(address, port)))
        };
        Ok((0..sdp.media.len()).map(own).collect())
    }

    fn keys_fit(&self, profile: RtpProfile) -> bool {
        !profile.is_secure() || self.dtls.is_some() || (!profile.is_dtls() && !self.crypto.is_empty())
    }

    /// Where RTCP is received when it is not multiplexed; `None` when there is no next port.
    pub fn rtcp_addr(&self) -> Option<SocketAddr> {
        let next = || Some(SocketAddr::new(self.rtp.ip(), self.rtp.port().checked_add(1)?));
        self.rtcp.or_else(next)
    }
}

/// The crypto of an answer: the first of the offer's lines whose suite is ours, with the offer's tag (RFC 4568 section
/// 5.1.2); its key is to be put in place of the offer's. `None` when there is none.
pub fn choose_crypto(offer: &str, index: usize, suites: &[Suite]) -> Result<Option<Crypto>> {
    let sdp = Sdp::parse(offer)?;
    let Some(media) = sdp.media.get(index) else {
        return Ok(None);
    };
    let readable = media
        .attributes("crypto")
        .filter_map(|text| text.parse::<Crypto>().ok());
    Ok(readable.into_iter().find(|crypto| suites.contains(&crypto.suite)))
}

pub(super) fn misuse(what: String) -> Error {
    Error::new(Fault::ApiMisuse, "translate SDP", what)
}
