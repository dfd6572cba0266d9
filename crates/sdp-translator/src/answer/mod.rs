//! An answer without an engine (RFC 3264 section 6).

mod formats;
mod write;

use crate::RtpProfile;
use crate::needs::is_multicast;
use crate::sdp::{Sdp, Section};
use crate::transport::group_of;
use siprtc_core::media::Direction;
use siprtc_core::{Error, Fault, Result};
use siprtc_sdp_words::{Crypto, SessionParameter};

pub(crate) use formats::is_voice;

/// Who answers, with what.
#[derive(Clone, Debug, Default)]
pub struct LocalSession {
    /// The value of o=: `bob 1 1 IN IP4 192.0.2.2`.
    pub origin: String,
    /// The value of c=: `IN IP4 192.0.2.2`.
    pub connection: String,
    /// What there is to answer with. Each serves one m-line of the offer: the first of its medium that it fits.
    pub media: Vec<LocalMedia>,
    /// The one transport for m-lines with DTLS-SRTP; without it they are rejected.
    pub transport: Option<LocalTransport>,
    /// A key for each suite that m-lines with keys in the SDP (`a=crypto`) are answered with, better one for each m-line; without any
    /// they are rejected. The answer's tag is the offer's.
    pub keys: Vec<Crypto>,
}

/// One medium to answer with.
#[derive(Clone, Debug)]
pub struct LocalMedia {
    /// `audio`.
    pub medium: String,
    /// Where it receives.
    pub port: u16,
    /// Encodings as in `a=rtpmap`: `PCMU/8000`, `opus/48000/2`; behind a blank may follow what `a=fmtp` is to say of us:
    /// `telephone-event/8000 0-16`.
    pub codecs: Vec<String>,
    /// What is wanted; the offer may allow less.
    pub direction: Direction,
}

/// What a DTLS-SRTP transport says of itself; an offer without ICE is answered without ICE. With ICE the m-lines have the port of the
/// first candidate with the session's address, if there is one (RFC 8839 section 4.2.1.2).
#[derive(Clone, Debug)]
pub struct LocalTransport {
    /// The value of `a=fingerprint`.
    pub fingerprint: String,
    /// The value of `a=ice-ufrag`.
    pub ice_ufrag: String,
    /// The value of `a=ice-pwd`.
    pub ice_pwd: String,
    /// The values of `a=candidate`.
    pub candidates: Vec<String>,
}

/// The least answer to an offer: its m-lines in their order; what cannot be answered is rejected with port 0; the offer's
/// payload types, in its order, of what both have; the direction reversed and narrowed.
///
/// RTP/AVP and RTP/AVPF are answered in kind, and with a key of ours where the offer has `a=crypto` beside them (RFC 8643); secure
/// profiles by DTLS-SRTP with the given transport, else by the first `a=crypto` whose suite we have a key for. M-lines that are not
/// RTP, or that go to a multicast group, are rejected. Of the format parameters (`a=fmtp`) those are the offer's that both must have alike:
/// profile and packetization mode of H.264 and H.265, the profile of VP9 and AV1, how AMR packs its frames, G.729 without Annex B, what RTX
/// and RED carry. Each of the others is said by whoever receives, for itself:
/// those of [`LocalMedia::codecs`].
///
/// Feedback (`a=rtcp-fb`) is answered for video in RTP/AVPF and RTP/SAVPF, of what is offered that which [`FeedbackKinds::OURS`] has
/// (RFC 4585 section 4.2), as the engines of a call answer it. RTP and RTCP share a port where the offer wants it (RFC 5761).
///
/// [`FeedbackKinds::OURS`]: siprtc_core::media::FeedbackKinds::OURS
///
/// # Errors
/// `PeerMisbehaved` for what is no SDP; `PeerIncompatible` when no m-line can be answered although some are offered (answer
/// 488), with the reason of each; `ApiMisuse` for a line end in what is ours.
///
/// ```
/// use siprtc_sdp_translator::{LocalMedia, LocalSession, answer};
///
/// let offer = "v=0\r\no=alice 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
///              m=audio 49170 RTP/AVP 8 0 97\r\na=rtpmap:97 iLBC/8000\r\na=sendonly\r\n\
///              m=video 51372 RTP/AVP 31\r\n";
/// let local = LocalSession {
///     origin: "bob 1 1 IN IP4 192.0.2.2".to_owned(),
///     connection: "IN IP4 192.0.2.2".to_owned(),
///     media: vec![LocalMedia {
///         medium: "audio".to_owned(),
///         port: 49920,
///         codecs: vec!["PCMU/8000".to_owned(), "iLBC/8000".to_owned()],
///         direction: Default::default(),
///     }],
///     transport: None,
///     keys: Vec::new(),
/// };
/// let sdp = answer(offer, &local)?;
/// assert!(sdp.contains("m=audio 49920 RTP/AVP 0 97\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:97 iLBC/8000\r\na=recvonly\r\n"));
/// assert!(sdp.ends_with("m=video 0 RTP/AVP 31\r\n"));
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub fn answer(offer: &str, local: &LocalSession) -> Result<String> {
    local.check()?;
    let offer = Sdp::parse(offer)?;
    let mut free: Vec<&LocalMedia> = local.media.iter().collect();
    let mut taken: Vec<Option<Taken<'_>>> = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    for (index, media) in offer.media.iter().enumerate() {
        let bearer = bearer(&offer, index, local, &taken);
        let fit = bearer.and_then(|bearer| {
            let fits = |(at, own): (usize, &&LocalMedia)| Some((at, own.common(media)?));
            let (at, formats) = (free.iter().enumerate().find_map(fits)).ok_or("has no codec of ours")?;
            let own = free.remove(at);
            Ok(Taken { own, formats, bearer })
        });
        if let Some(why) = fit.as_ref().err().filter(|_| media.is_live()) {
            let line = media.media_line();
            reasons.push(format!("m-line {index} ({} {}) {why}", line.media, line.proto));
        }
        taken.push(fit.ok());
    }
    if !reasons.is_empty() && taken.iter().all(Option::is_none) {
        reasons.truncate(MOST_REASONS);
        let what = format!("no m-line of the offer can be answered: {}", reasons.join("; "));
        return Err(Error::new(Fault::PeerIncompatible, "answer SDP", what)
            .advice("answer 488; lint tells what the offer asks for"));
    }
    Ok(write::write(&offer, local, &taken))
}

/// Why m-lines cannot be answered, told at most.
const MOST_REASONS: usize = 4;

/// How an m-line is carried.
enum Bearer {
    Dtls { has_ice: bool },
    Plain,
    Sdes(Crypto),
}

impl Bearer {
    fn is_dtls(&self) -> bool {
        matches!(self, Bearer::Dtls { .. })
    }
}

/// An m-line of the offer that is accepted.
struct Taken<'a> {
    own: &'a LocalMedia,
    /// In the offer's order.
    formats: Vec<formats::Format>,
    bearer: Bearer,
}

impl LocalSession {
    fn check(&self) -> Result<()> {
        let media = self
            .media
            .iter()
            .flat_map(|media| std::iter::once(&media.medium).chain(&media.codecs));
        let transport = self.transport.iter().flat_map(|transport| {
            [&transport.fingerprint, &transport.ice_ufrag, &transport.ice_pwd]
                .into_iter()
                .chain(&transport.candidates)
        });
        let texts = [&self.origin, &self.connection]
            .into_iter()
            .chain(media)
            .chain(transport);
        for text in texts {
            if text.contains(['\r', '\n']) {
                let what = format!("{text:?} has a line end");
                return Err(
                    Error::new(Fault::ApiMisuse, "answer SDP", what).advice("give values without line ends")
                );
            }
        }
        Ok(())
    }
}

/// What the m-line can be carried by; or why it cannot.
fn bearer(
    offer: &Sdp<'_>,
    index: usize,
    local: &LocalSession,
    taken: &[Option<Taken<'_>>],
) -> std::result::Result<Bearer, &'static str> {
    let media = &offer.media[index];
    let line = media.media_line();
    if !media.is_live() {
        return Err("is rejected by the offer itself");
    }
    let profile = RtpProfile::from_name(line.proto).ok_or("is not RTP over UDP")?;
    let number = line.port.split('/').next().unwrap_or_default();
    let Ok(port) = number.parse::<u16>() else {
        return Err("has no port");
    };
    // RFC 3264 section 6.2: who accepts one answers with the group's address and port, and joins it.
    if is_multicast(offer, media) {
        return Err("is sent to a multicast group");
    }
    let sdes = || match profile.is_dtls() {
        true => None,
        false => sdes(media, &local.keys, taken),
    };
    if !profile.is_secure() {
        // Without bundling a bundle-only m-line is rejected (RFC 9143 section 7.3.3).
        return match port {
            0 => Err("has no port of its own (a=bundle-only)"),
            _ => Ok(sdes().map_or(Bearer::Plain, Bearer::Sdes)),
        };
    }
    match (dtls(offer, index, local, taken), sdes()) {
        (Ok(bearer), _) => Ok(bearer),
        (Err(_), Some(crypto)) if port != 0 => Ok(Bearer::Sdes(crypto)),
        (Err(why), _) => Err(match media.attribute("crypto") {
            Some(_) if !profile.is_dtls() => "has no a=crypto that we have a key for",
            _ => why,
        }),
    }
}

fn dtls(
    offer: &Sdp<'_>,
    index: usize,
    local: &LocalSession,
    taken: &[Option<Taken<'_>>],
) -> std::result::Result<Bearer, &'static str> {
    let media = &offer.media[index];
    let group = group_of(offer, index);
    let has = |name: &str| {
        let its = |&mate: &usize| offer.media[mate].attribute(name).is_some();
        offer.attribute(media, name).is_some() || group.iter().any(its)
    };
    if !has("fingerprint") {
        return Err("has no fingerprint");
    }
    if local.transport.is_none() {
        return Err("wants keys by DTLS, and there is no fingerprint to answer with");
    }
    // RFC 4145 section 4.1: for the time being there shall be no connection.
    if offer.attribute(media, "setup") == Some("holdconn") {
        return Err("wants no connection for now (a=setup:holdconn)");
    }
    // One transport: the first m-line that takes it, and those that are bundled with it.
    let is_its = |taken: &Option<Taken<'_>>| taken.as_ref().is_some_and(|taken| taken.bearer.is_dtls());
    let has_ice = has("ice-ufrag") && has("ice-pwd");
    match taken.iter().position(is_its) {
        None if media.media_line().port == "0" => Err("has no port of its own (a=bundle-only)"),
        Some(first) if !group.contains(&first) => Err("is not bundled with the one that has the transport"),
        _ => Ok(Bearer::Dtls { has_ice }),
    }
}

/// The first `a=crypto` that can be answered (RFC 4568 section 5.1.2): one whose suite we have, and that changes nothing of what is
/// encrypted. No two m-lines have one key, as long as there are enough (RFC 3711 section 9.1: a key stream is used once).
fn sdes(media: &Section<'_>, keys: &[Crypto], taken: &[Option<Taken<'_>>]) -> Option<Crypto> {
    let is_used = |key: &Crypto| {
        let others = taken.iter().flatten();
        others
            .into_iter()
            .any(|other| matches!(&other.bearer, Bearer::Sdes(used) if used.keys == key.keys))
    };
    let offered = media
        .attributes("crypto")
        .filter_map(|text| text.parse::<Crypto>().ok());
    let mut ours = offered.filter_map(|line: Crypto| {
        let is_plain = |parameter: &SessionParameter| {
            use SessionParameter::{Kdr, Optional, Wsh};
            matches!(parameter, Optional(_) | Wsh(_) | Kdr(0))
        };
        let of_suite = || keys.iter().filter(|key| key.suite == line.suite);
        let key = of_suite()
            .find(|key| !is_used(key))
            .or_else(|| of_suite().next())?;
        line.session.iter().all(is_plain).then(|| Crypto {
            tag: line.tag,
            ..key.clone()
        })
    });
    ours.next()
}
