//! An answer without an engine (RFC 3264 section 6).

use crate::RtpProfile;
use crate::sdp::{Sdp, Section, static_encoding};
use crate::transport::group_of;
use siprtc_core::media::Direction;
use siprtc_core::{Error, Fault, Result};
use siprtc_sdp_words::{Crypto, SessionParameter, Setup};

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
    /// A key for each suite that m-lines with keys in the SDP (`a=crypto`) are answered with; without any they are rejected. The
    /// answer's tag is the offer's.
    pub keys: Vec<Crypto>,
}

/// One medium to answer with.
#[derive(Clone, Debug)]
pub struct LocalMedia {
    /// `audio`.
    pub medium: String,
    /// Where it receives.
    pub port: u16,
    /// Encodings as in `a=rtpmap`: `PCMU/8000`, `opus/48000/2`, `telephone-event/8000`.
    pub codecs: Vec<String>,
    /// What is wanted; the offer may allow less.
    pub direction: Direction,
}

/// What a DTLS-SRTP transport says of itself; an offer without ICE is answered without ICE.
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
/// RTP are rejected. Of the format parameters (`a=fmtp`) those are the offer's that both must have alike: profile and packetization mode of
/// H.264 and H.265, the profile of VP9 and AV1, how AMR packs its frames. Each of the others is said by whoever receives, for itself;
/// none is said here.
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
    Ok(write(&offer, local, &taken))
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
    /// Payload type and `a=rtpmap`'s value, in the offer's order.
    formats: Vec<(String, String)>,
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

impl LocalMedia {
    /// The formats of both, unless nothing but events and comfort noise is, beside codecs of ours.
    fn common(&self, media: &Section<'_>) -> Option<Vec<(String, String)>> {
        let line = media.media_line();
        if line.media != self.medium {
            return None;
        }
        let maps = media.rtpmaps();
        let mut formats: Vec<(String, String)> = Vec::new();
        for format in line.formats {
            let table = || format.parse().ok().and_then(static_encoding);
            let Some(encoding) = maps.of(format).or_else(table) else {
                continue;
            };
            let is_new = !formats.iter().any(|(known, _)| known == format);
            if is_new && self.codecs.iter().any(|own| is_same(own, encoding)) {
                formats.push((format.to_owned(), encoding.to_owned()));
            }
        }
        let is_wanted = self.codecs.iter().any(|own| is_voice(own));
        let is_there = formats.iter().any(|(_, encoding)| is_voice(encoding));
        (!formats.is_empty() && (is_there || !is_wanted)).then_some(formats)
    }
}

/// Parameters without which a payload type of the answer would be another format than the offer's (RFC 6184 section 8.2.2, RFC 7798
/// section 7.2.2, RFC 9628 section 6, AV1's payload format section 7.2.1, RFC 4867 section 8.3.1).
const CONFIGURATION: [(&str, &[&str]); 6] = [
    ("AMR", &AMR),
    ("AMR-WB", &AMR),
    ("AV1", &["level-idx", "profile", "tier"]),
    (
        "H264",
        &[
            "level-asymmetry-allowed",
            "packetization-mode",
            "profile-level-id",
        ],
    ),
    (
        "H265",
        &[
            "interop-constraints",
            "level-id",
            "profile-compatibility-indicator",
            "profile-id",
            "profile-space",
            "tier-flag",
            "tx-mode",
        ],
    ),
    ("VP9", &["profile-id"]),
];

const AMR: [&str; 6] = [
    "crc",
    "interleaving",
    "mode-change-period",
    "mode-set",
    "octet-align",
    "robust-sorting",
];

/// What an `a=fmtp` of the answer says of a format: the offer's words that belong to [`CONFIGURATION`]; `None`: nothing.
fn configuration(media: &Section<'_>, format: &str, encoding: &str) -> Option<String> {
    let name = encoding.split('/').next().unwrap_or_default().trim();
    let (_, alike) = CONFIGURATION
        .iter()
        .find(|(codec, _)| codec.eq_ignore_ascii_case(name))?;
    let offered = media.attributes("fmtp").find_map(|value| {
        let (of, parameters) = value.trim().split_once([' ', '\t'])?;
        (of == format).then_some(parameters)
    })?;
    let is_alike = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default().trim();
        alike.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    let said: Vec<&str> = offered.split(';').map(str::trim).filter(is_alike).collect();
    (!said.is_empty()).then(|| said.join(";"))
}

/// Neither events nor comfort noise: something to hear, or to see.
pub(crate) fn is_voice(encoding: &str) -> bool {
    let name = encoding.split('/').next().unwrap_or_default();
    !["telephone-event", "CN"]
        .iter()
        .any(|other| other.eq_ignore_ascii_case(name.trim()))
}

/// Names without case, clock rates, and channels, of which one need not be said (RFC 8866 section 6.6).
fn is_same(own: &str, other: &str) -> bool {
    let read = |text: &str| {
        let mut words = text.trim().split('/');
        let name = words.next().unwrap_or_default().to_ascii_lowercase();
        let clock = words.next().and_then(|clock| clock.parse::<u32>().ok());
        let channels = words
            .next()
            .map_or(Some(1), |channels| channels.parse::<u32>().ok());
        (name, clock, channels)
    };
    read(own) == read(other)
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
    let sdes = || match profile.is_dtls() {
        true => None,
        false => sdes(media, &local.keys),
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
/// encrypted.
fn sdes(media: &Section<'_>, keys: &[Crypto]) -> Option<Crypto> {
    let offered = media
        .attributes("crypto")
        .filter_map(|text| text.parse::<Crypto>().ok());
    let mut ours = offered.filter_map(|line: Crypto| {
        let is_plain = |parameter: &SessionParameter| {
            use SessionParameter::{Kdr, Optional, Wsh};
            matches!(parameter, Optional(_) | Wsh(_) | Kdr(0))
        };
        let key = keys.iter().find(|key| key.suite == line.suite)?;
        line.session.iter().all(is_plain).then(|| Crypto {
            tag: line.tag,
            ..key.clone()
        })
    });
    ours.next()
}

fn write(offer: &Sdp<'_>, local: &LocalSession, taken: &[Option<Taken<'_>>]) -> String {
    let times = offer
        .session
        .lines
        .iter()
        .filter(|line| line.letter() == Some(b't'));
    let mut times: Vec<String> = times.map(|line| line.0.trim_ascii_end().to_owned()).collect();
    if times.is_empty() {
        times.push("t=0 0".to_owned());
    }
    let mut lines = vec![
        "v=0".to_owned(),
        format!("o={}", local.origin),
        "s=-".to_owned(),
        format!("c={}", local.connection),
    ];
    lines.append(&mut times);
    let secure: Vec<usize> = (0..taken.len())
        .filter(|&index| taken[index].as_ref().is_some_and(|taken| taken.bearer.is_dtls()))
        .collect();
    let mids: Vec<&str> = secure
        .iter()
        .filter_map(|&index| offer.media[index].attribute("mid"))
        .filter(|mid| offer.bundles().any(|mids| mids.contains(mid)))
        .collect();
    if !mids.is_empty() {
        lines.push(format!("a=group:BUNDLE {}", mids.join(" ")));
    }
    // Bundled m-lines have one address (RFC 9143 section 7.3).
    let shared = secure
        .first()
        .and_then(|&first| taken[first].as_ref())
        .map(|first| first.own.port);
    for (media, taken) in offer.media.iter().zip(taken) {
        match taken {
            Some(taken) => {
                let port = shared
                    .filter(|_| taken.bearer.is_dtls())
                    .unwrap_or(taken.own.port);
                accept(&mut lines, offer, media, taken, port, local);
            }
            None => reject(&mut lines, media),
        }
    }
    lines
        .iter()
        .fold(String::new(), |text, line| text + line + "\r\n")
}

fn accept(
    lines: &mut Vec<String>,
    offer: &Sdp<'_>,
    media: &Section<'_>,
    taken: &Taken<'_>,
    port: u16,
    local: &LocalSession,
) {
    let line = media.media_line();
    let formats: Vec<&str> = taken.formats.iter().map(|(format, _)| format.as_str()).collect();
    lines.push(format!(
        "m={} {} {} {}",
        line.media,
        port,
        line.proto,
        formats.join(" ")
    ));
    lines.extend(
        taken
            .formats
            .iter()
            .map(|(format, encoding)| format!("a=rtpmap:{format} {encoding}")),
    );
    lines.extend(taken.formats.iter().filter_map(|(format, encoding)| {
        configuration(media, format, encoding).map(|said| format!("a=fmtp:{format} {said}"))
    }));
    if let Some(mid) = media.attribute("mid") {
        lines.push(format!("a=mid:{mid}"));
    }
    let direction = offer.direction(media).answer(taken.own.direction);
    if direction != Direction::SendRecv {
        lines.push(format!("a={direction}"));
    }
    let (transport, has_ice) = match (&taken.bearer, &local.transport) {
        (Bearer::Sdes(crypto), _) => return lines.push(format!("a=crypto:{crypto}")),
        (Bearer::Dtls { has_ice }, Some(transport)) => (transport, *has_ice),
        _ => return,
    };
    let offered = offer.attribute(media, "setup").and_then(Setup::from_name);
    let (role, _) = Setup::answering(offered, None);
    if media.position("rtcp-mux").is_some() {
        lines.push("a=rtcp-mux".to_owned());
    }
    lines.push(format!("a=setup:{role}"));
    lines.push(format!("a=fingerprint:{}", transport.fingerprint));
    if !has_ice {
        return;
    }
    lines.push(format!("a=ice-ufrag:{}", transport.ice_ufrag));
    lines.push(format!("a=ice-pwd:{}", transport.ice_pwd));
    lines.extend(
        transport
            .candidates
            .iter()
            .map(|candidate| format!("a=candidate:{candidate}")),
    );
}

/// At least one format must stand in a rejected m-line, whichever (RFC 3264 section 6).
fn reject(lines: &mut Vec<String>, media: &Section<'_>) {
    let line = media.media_line();
    let format = line.formats.first().copied().unwrap_or("0");
    let (medium, proto) = (or(line.media, "audio"), or(line.proto, "RTP/AVP"));
    lines.push(format!("m={medium} 0 {proto} {format}"));
    if let Some(encoding) = media.rtpmaps().of(format).filter(|_| line.is_rtp()) {
        lines.push(format!("a=rtpmap:{format} {encoding}"));
    }
    if let Some(mid) = media.attribute("mid") {
        lines.push(format!("a=mid:{mid}"));
    }
}

fn or<'t>(text: &'t str, other: &'t str) -> &'t str {
    if text.is_empty() { other } else { text }
}
