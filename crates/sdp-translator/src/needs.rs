//! Which engine can carry a description, and what it needs for that.

use crate::explain::Refusal;
use crate::profile::Keying;
use crate::sdp::{Line, Sdp, Section, is_unspecified};
use crate::transport::Transport;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use siprtc_core::{Error, Fault, Result};
use siprtc_sdp_words::{Crypto, Suite};
use std::fmt;
use std::net::IpAddr;

/// A profile of RTP over UDP, as in an m= line.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RtpProfile {
    /// `RTP/AVP` (RFC 3551).
    Avp,
    /// `RTP/AVPF` (RFC 4585).
    Avpf,
    /// `UDP/TLS/RTP/SAVP` (RFC 5764).
    DtlsSavp,
    /// `UDP/TLS/RTP/SAVPF` (RFC 5764).
    DtlsSavpf,
    /// `RTP/SAVP` (RFC 3711).
    Savp,
    /// `RTP/SAVPF` (RFC 5124).
    Savpf,
}

impl RtpProfile {
    /// Every profile.
    pub const ALL: [RtpProfile; 6] = [
        RtpProfile::Avp,
        RtpProfile::Avpf,
        RtpProfile::Savp,
        RtpProfile::Savpf,
        RtpProfile::DtlsSavp,
        RtpProfile::DtlsSavpf,
    ];

    /// As in an m= line.
    pub fn as_str(self) -> &'static str {
        match self {
            RtpProfile::Avp => "RTP/AVP",
            RtpProfile::Avpf => "RTP/AVPF",
            RtpProfile::DtlsSavp => "UDP/TLS/RTP/SAVP",
            RtpProfile::DtlsSavpf => "UDP/TLS/RTP/SAVPF",
            RtpProfile::Savp => "RTP/SAVP",
            RtpProfile::Savpf => "RTP/SAVPF",
        }
    }

    /// From an m= line, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        RtpProfile::ALL
            .into_iter()
            .find(|profile| profile.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether media must be SRTP. With [`RtpProfile::Avp`] it may be (RFC 8643).
    pub fn is_secure(self) -> bool {
        !matches!(self, RtpProfile::Avp | RtpProfile::Avpf)
    }

    /// Whether keys come from a DTLS handshake alone.
    pub fn is_dtls(self) -> bool {
        matches!(self, RtpProfile::DtlsSavp | RtpProfile::DtlsSavpf)
    }

    /// Whether RTCP may carry early feedback (RFC 4585): the profile ends in F.
    pub fn has_feedback(self) -> bool {
        matches!(self, RtpProfile::Avpf | RtpProfile::Savpf | RtpProfile::DtlsSavpf)
    }
}

impl fmt::Display for RtpProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RtpProfile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What each kind of engine can do with a description: [`needs`] tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Needs {
    /// The m-line that one transport with ICE and DTLS-SRTP would carry first; or why there is none. It is there when
    /// [`crate::check_offer`] has nothing against the description.
    pub webrtc: Result<Carried, Refusal>,
    /// The m-line that an engine without ICE would carry, over RTP or SRTP at the address of m= and c=; or why there is
    /// none. It is there when [`crate::check_classic_offer`] has nothing against the description.
    pub classic: Result<Carried, Refusal>,
    /// Every m-line is rejected (port 0), or there is none: an answer that takes nothing.
    pub is_rejected: bool,
}

impl Needs {
    fn engines(&self) -> [(&'static str, &Result<Carried, Refusal>); 2] {
        [("webrtc", &self.webrtc), ("classic", &self.classic)]
    }
}

/// A line for each kind of engine.
impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_rejected {
            return f.write_str("needs no engine: every m-line is rejected");
        }
        for (index, (engine, told)) in self.engines().into_iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match told {
                Ok(carried) => write!(f, "needs of a {engine} engine: {carried}")?,
                Err(refusal) => {
                    write!(f, "no {engine} engine can carry it: {}", refusal.what)?;
                    if let Some(advice) = &refusal.advice {
                        write!(f, "; {advice}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Each engine as `{"carried": ...}` or `{"refused": ...}`.
impl Serialize for Needs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        enum Told<'a> {
            Carried(&'a Carried),
            Refused(&'a Refusal),
        }
        let mut map = serializer.serialize_map(Some(3))?;
        for (engine, told) in self.engines() {
            let told = match told {
                Ok(carried) => Told::Carried(carried),
                Err(refusal) => Told::Refused(refusal),
            };
            map.serialize_entry(engine, &told)?;
        }
        map.serialize_entry("is_rejected", &self.is_rejected)?;
        map.end()
    }
}

/// An m-line that can be carried, and how.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Carried {
    /// Which m-line, from 0.
    pub index: usize,
    /// `audio`.
    pub medium: String,
    /// The profile; `None` for one that only a WebRTC engine takes, such as `TCP/DTLS/RTP/SAVPF`, and for a data channel.
    pub profile: Option<RtpProfile>,
    /// Where keys may come from, what protects best first. [`Keying::None`] stands for plain RTP; beside others it is
    /// best-effort SRTP (RFC 8643), and the answer chooses.
    pub keying: Vec<Keying>,
    /// The suites of `a=crypto` that can be read, in the offer's order; empty unless `keying` has [`Keying::Sdes`].
    pub suites: Vec<Suite>,
    /// Whether there are ICE credentials. A classic engine answers without, and ICE is off (RFC 8839 section 4.2.1).
    pub ice: bool,
    /// Whether RTP and RTCP may share a port (RFC 5761). A WebRTC engine shares it whatever is said, and RTCP of a peer
    /// that does not is lost.
    pub rtcp_mux: bool,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m-line {} ({})", self.index, self.medium)?;
        if let Some(profile) = self.profile {
            write!(f, " over {profile}")?;
        }
        for (index, keying) in self.keying.iter().enumerate() {
            f.write_str(if index == 0 { ", " } else { " or " })?;
            match keying {
                Keying::DtlsSrtp => f.write_str("keys by DTLS")?,
                Keying::None => f.write_str("no encryption")?,
                Keying::Sdes => {
                    let suites: Vec<&str> = self.suites.iter().map(|suite| suite.as_str()).collect();
                    write!(f, "keys by a=crypto ({})", suites.join(", "))?;
                }
            }
        }
        f.write_str(if self.ice { ", ICE" } else { ", no ICE" })?;
        f.write_str(match self.rtcp_mux {
            true => ", RTCP on the same port",
            false => ", RTCP on a port of its own",
        })
    }
}

/// Which engine can carry a description, and with what: WebRTC (ICE and DTLS-SRTP on one transport) or classic (RTP and
/// RTCP at the addresses of m= and c=, keys by SDES, by DTLS or none). For offers, and for answers.
///
/// # Errors
/// `PeerMisbehaved` for what is no SDP, or too much of it. That no engine can carry it is no error here: both fields of
/// [`Needs`] say why.
///
/// ```
/// use siprtc_sdp_translator::{Keying, RtpProfile, needs};
///
/// let phone = "v=0\r\no=- 7 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n\
///              a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5yxQ\r\n";
/// let needs = needs(phone)?;
/// assert!(needs.webrtc.is_err_and(|refusal| refusal.what.contains("a=crypto")));
/// let classic = needs.classic.unwrap();
/// assert_eq!(classic.profile, Some(RtpProfile::Avp));
/// assert_eq!(classic.keying, [Keying::Sdes, Keying::None]);
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub fn needs(sdp: &str) -> Result<Needs> {
    let sdp = Sdp::parse(sdp)?;
    let webrtc = Transport::choose(&sdp).map(|transport| {
        let index = transport.kept;
        let media = &sdp.media[index];
        let line = media.media_line();
        Carried {
            index,
            medium: line.media.to_owned(),
            profile: RtpProfile::from_name(line.proto),
            keying: vec![Keying::DtlsSrtp],
            suites: Vec::new(),
            ice: true,
            rtcp_mux: media.position("rtcp-mux").is_some(),
        }
    });
    Ok(Needs {
        webrtc: webrtc.map_err(Refusal::from),
        classic: classic(&sdp).map_err(Refusal::from),
        is_rejected: !sdp.media.iter().any(|media| media.is_live()),
    })
}

/// The first audio m-line that fits, else the first of any medium: an offer with doubles of one m-line has them in the
/// order of its preference.
pub(crate) fn classic(sdp: &Sdp<'_>) -> Result<Carried> {
    let live: Vec<usize> = (0..sdp.media.len())
        .filter(|&index| sdp.media[index].is_live())
        .collect();
    let is_audio = |index: &usize| sdp.media[*index].media_line().media == "audio";
    let (audio, other): (Vec<usize>, Vec<usize>) = live.iter().partition(|index| is_audio(index));
    let mut first = None;
    for index in audio.into_iter().chain(other) {
        match carried(sdp, index) {
            Ok(carried) => return Ok(carried),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(match first {
        Some(error) => error,
        None if sdp.media.is_empty() => incompatible("the description has no m-line".to_owned()),
        None => incompatible("every m-line of the description is rejected (port 0)".to_owned()),
    })
}

fn carried(sdp: &Sdp<'_>, index: usize) -> Result<Carried> {
    let media = &sdp.media[index];
    let line = media.media_line();
    let what = format!("m-line {index} ({} {})", line.media, line.proto);
    let Some(profile) = RtpProfile::from_name(line.proto).filter(|_| matches!(line.media, "audio" | "video"))
    else {
        return Err(
            incompatible(format!("{what} is neither audio nor video over RTP and UDP"))
                .advice("answer it with port 0, or the offer with 488"),
        );
    };
    let ice = sdp.attribute(media, "ice-ufrag").is_some() && sdp.attribute(media, "ice-pwd").is_some();
    address(sdp, index, &what, ice)?;
    if !media.has_encoding() {
        return Err(incompatible(format!(
            "{what} names no codec that has an a=rtpmap"
        )));
    }
    let (keying, suites) = keys(sdp, index, profile, &what)?;
    Ok(Carried {
        index,
        medium: line.media.to_owned(),
        profile: Some(profile),
        keying,
        suites,
        ice,
        rtcp_mux: media.position("rtcp-mux").is_some(),
    })
}

/// Without ICE, m= and c= are where media goes.
fn address(sdp: &Sdp<'_>, index: usize, what: &str, ice: bool) -> Result<()> {
    let media = &sdp.media[index];
    let port = media.media_line().port;
    let number = port.split('/').next().unwrap_or_default();
    if !number.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err(match number {
            "0" => incompatible(format!("{what} has no port of its own (a=bundle-only)")),
            _ => misbehaved(format!("{what} has no port")),
        });
    }
    let Some(address) = sdp.connection_address(media) else {
        return Err(misbehaved(format!("{what} has no c= line")));
    };
    if ice && is_unspecified(address) {
        return Err(
            incompatible(format!("{what} has no address but those of its candidates"))
                .advice("only ICE reaches it: take the engine that does ICE, or answer 488"),
        );
    }
    if is_multicast(sdp, media) {
        return Err(incompatible(format!("{what} is sent to a multicast group"))
            .advice("a call is between two addresses: answer 488"));
    }
    Ok(())
}

/// Its address is a group's, and not one host's.
pub(crate) fn is_multicast(sdp: &Sdp<'_>, media: &Section<'_>) -> bool {
    let address = sdp.connection_address(media).map(str::parse::<IpAddr>);
    address.is_some_and(|address| address.is_ok_and(|address| address.is_multicast()))
}

fn keys(sdp: &Sdp<'_>, index: usize, profile: RtpProfile, what: &str) -> Result<(Vec<Keying>, Vec<Suite>)> {
    let media = &sdp.media[index];
    let mut keying = Vec::new();
    if sdp.attribute(media, "fingerprint").is_some() {
        keying.push(Keying::DtlsSrtp);
    }
    let lines: Vec<Result<Crypto>> = match profile.is_dtls() {
        true => Vec::new(),
        false => media.attributes("crypto").map(str::parse).collect(),
    };
    let suites: Vec<Suite> = lines.iter().flatten().map(|crypto| crypto.suite).collect();
    if !suites.is_empty() {
        keying.push(Keying::Sdes);
    }
    if !profile.is_secure() {
        keying.push(Keying::None);
    }
    if !keying.is_empty() {
        return Ok((keying, suites));
    }
    Err(match lines.into_iter().find_map(Result::err) {
        Some(error) => {
            let told = format!("{what}: no a=crypto can be used: {}", error.message());
            let advice = error.next_step().unwrap_or_default().to_owned();
            Error::new(error.fault(), OPERATION, told).advice(advice)
        }
        None if profile.is_dtls() => misbehaved(format!("{what} has no fingerprint")),
        None => misbehaved(format!(
            "{what} is secure, and has neither a=crypto nor a fingerprint"
        )),
    })
}

/// Whether the lines of `a=crypto` in an answer choose from the offer's (RFC 4568 section 5.1.2).
pub(crate) fn crypto_fits(offer: &Sdp<'_>, answer: &Sdp<'_>, index: usize) -> Result<()> {
    let (Some(asked), Some(given)) = (offer.media.get(index), answer.media.get(index)) else {
        return Ok(());
    };
    let mut lines = given.attributes("crypto");
    let Some(first) = lines.next().filter(|_| given.is_live()) else {
        return Ok(());
    };
    if lines.next().is_some() {
        return Err(misbehaved(format!(
            "m-line {index} of the answer has several a=crypto, and an answer takes one"
        )));
    }
    let first: Crypto = first.parse()?;
    let is_offered = asked
        .attributes("crypto")
        .filter_map(|text| text.parse::<Crypto>().ok())
        .any(|crypto| (crypto.tag, crypto.suite) == (first.tag, first.suite));
    if !is_offered {
        return Err(misbehaved(format!(
            "m-line {index} of the answer takes a=crypto {} {}, which the offer does not have",
            first.tag, first.suite
        )));
    }
    Ok(())
}

/// Whether each m-line can be read at all.
pub(crate) fn media_lines(sdp: &Sdp<'_>) -> Result<()> {
    for (index, media) in sdp.media.iter().enumerate() {
        let line = media.media_line();
        if line.media.is_empty() || line.port.split('/').any(|number| number.parse::<u16>().is_err()) {
            let shown: String = media
                .lines
                .first()
                .map(Line::value)
                .unwrap_or_default()
                .chars()
                .take(60)
                .collect();
            return Err(misbehaved(format!(
                "m-line {index} ({shown:?}) has no medium or no port"
            )));
        }
    }
    Ok(())
}

const OPERATION: &str = "check SDP";

fn incompatible(what: String) -> Error {
    Error::new(Fault::PeerIncompatible, OPERATION, what)
}

fn misbehaved(what: String) -> Error {
    Error::new(Fault::PeerMisbehaved, OPERATION, what)
        .advice("answer 488; RFC 8866 and the RFC of the profile say what must stand there")
}
