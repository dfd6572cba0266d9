//! The lines of an answer.

use super::formats::{feedback, parameters_of, transport_sequence};
use super::{Bearer, LocalSession, LocalTransport, Taken};
use crate::repair::is_timing;
use crate::sdp::{Line, Sdp, Section};
use siprtc_core::ice::Candidate;
use siprtc_core::media::Direction;
use siprtc_sdp_words::Setup;
use siprtc_sdp_words::TRANSPORT_SEQUENCE;

pub(super) fn write(offer: &Sdp<'_>, local: &LocalSession, taken: &[Option<Taken<'_>>]) -> String {
    let mut lines = vec![
        "v=0".to_owned(),
        format!("o={}", local.origin),
        "s=-".to_owned(),
        format!("c={}", local.connection),
    ];
    lines.append(&mut times(offer));
    let secure: Vec<usize> = (0..taken.len())
        .filter(|&index| taken[index].as_ref().is_some_and(|taken| taken.bearer.is_dtls()))
        .collect();
    let bundle = Bundle::of(offer, &secure);
    if !bundle.mids.is_empty() {
        lines.push(format!("a=group:BUNDLE {}", bundle.mids.join(" ")));
    }
    // Bundled m-lines have one address (RFC 9143 section 7.3).
    let shared = secure
        .iter()
        .find_map(|&index| taken[index].as_ref())
        .map(|first| port(local, first));
    for (index, (media, taken)) in offer.media.iter().zip(taken).enumerate() {
        let Some(taken) = taken else {
            reject(&mut lines, media);
            continue;
        };
        let port = shared
            .filter(|_| taken.bearer.is_dtls())
            .unwrap_or(taken.own.port);
        accept(&mut lines, offer, media, taken, port);
        carry(&mut lines, offer, index, taken, local, &bundle);
    }
    lines
        .iter()
        .fold(String::new(), |text, line| text + line + "\r\n")
}

/// An answer has the offer's times (RFC 3264 section 6), if they are any.
fn times(offer: &Sdp<'_>) -> Vec<String> {
    let times = (offer.session.lines.iter()).filter(|line| line.letter() == Some(b't'));
    let legal = times.filter(|line| is_timing(Line::value(line)));
    let mut times: Vec<String> = legal.map(|line| line.0.trim_ascii_end().to_owned()).collect();
    if times.is_empty() {
        times.push("t=0 0".to_owned());
    }
    times
}

/// Where the first m-line on the transport receives: at the default candidate, where ICE is spoken.
fn port(local: &LocalSession, first: &Taken<'_>) -> u16 {
    let candidates = match (&first.bearer, &local.transport) {
        (Bearer::Dtls { has_ice: true }, Some(transport)) => transport.candidates.as_slice(),
        _ => &[],
    };
    let address = local.connection.split_ascii_whitespace().nth(2);
    let read = candidates
        .iter()
        .filter_map(|text| text.parse::<Candidate>().ok());
    let mut default = read.filter(|candidate| {
        candidate.component == 1
            && candidate.transport.eq_ignore_ascii_case("udp")
            && Some(candidate.host.as_str()) == address
    });
    default.next().map_or(first.own.port, |candidate| candidate.port)
}

/// The m-lines that share the transport.
struct Bundle<'o> {
    /// In the offer's order: the first is the tagged one (RFC 9143 section 7.3.1).
    mids: Vec<&'o str>,
    /// The m-line that says what the transport is.
    tagged: Option<usize>,
}

impl<'o> Bundle<'o> {
    fn of(offer: &'o Sdp<'_>, secure: &[usize]) -> Self {
        let mid_of = |&index: &usize| Some((index, offer.media[index].attribute("mid")?));
        let carried: Vec<(usize, &str)> = secure.iter().filter_map(mid_of).collect();
        let place = |mid: &str| carried.iter().find(|(_, carried)| *carried == mid);
        let group = offer
            .bundles()
            .find(|mids| mids.iter().any(|mid| place(mid).is_some()));
        let mut members: Vec<(usize, &'o str)> = Vec::new();
        for mid in group.into_iter().flatten() {
            members.extend(place(mid).filter(|member| !members.contains(member)).copied());
        }
        // Who does not multiplex is in no group (RFC 9143 section 9.3).
        if let [(only, _)] = members.as_slice()
            && offer.media[*only].position("rtcp-mux").is_none()
        {
            members.clear();
        }
        Bundle {
            tagged: members
                .first()
                .map(|(index, _)| *index)
                .or(secure.first().copied()),
            mids: members.into_iter().map(|(_, mid)| mid).collect(),
        }
    }
}

/// The m-line, its formats and what they are for.
fn accept(lines: &mut Vec<String>, offer: &Sdp<'_>, media: &Section<'_>, taken: &Taken<'_>, port: u16) {
    let line = media.media_line();
    let numbers: Vec<&str> = (taken.formats.iter())
        .map(|format| format.number.as_str())
        .collect();
    let numbers = numbers.join(" ");
    lines.push(format!("m={} {port} {} {numbers}", line.media, line.proto));
    let maps = taken.formats.iter();
    lines.extend(maps.map(|format| format!("a=rtpmap:{} {}", format.number, format.encoding)));
    for format in &taken.formats {
        let parameters = parameters_of(media, format);
        lines.extend(parameters.map(|said| format!("a=fmtp:{} {said}", format.number)));
    }
    let mut is_told = false;
    for format in &taken.formats {
        let kinds = feedback(media, format);
        is_told |= kinds.transport_cc;
        lines.extend(
            kinds
                .words()
                .map(|kind| format!("a=rtcp-fb:{} {kind}", format.number)),
        );
    }
    if let Some(number) = transport_sequence(media).filter(|_| is_told) {
        lines.push(format!("a=extmap:{number}/recvonly {TRANSPORT_SEQUENCE}"));
    }
    if let Some(mid) = media.attribute("mid") {
        lines.push(format!("a=mid:{mid}"));
    }
    let direction = offer.direction(media).answer(taken.own.direction);
    if direction != Direction::SendRecv {
        lines.push(format!("a={direction}"));
    }
}

/// What carries the m-line.
fn carry(
    lines: &mut Vec<String>,
    offer: &Sdp<'_>,
    index: usize,
    taken: &Taken<'_>,
    local: &LocalSession,
    bundle: &Bundle<'_>,
) {
    let media = &offer.media[index];
    // Also in m-lines that are bundled with another: browsers refuse a group that has one without (RFC 9143 section 9.3).
    if media.position("rtcp-mux").is_some() {
        lines.push("a=rtcp-mux".to_owned());
    }
    match (&taken.bearer, &local.transport) {
        (Bearer::Sdes(crypto), _) => lines.push(format!("a=crypto:{crypto}")),
        // The answer's tagged m-line speaks for those that are bundled with it (RFC 9143 section 7.1.3).
        (Bearer::Dtls { has_ice }, Some(transport)) if bundle.tagged == Some(index) => {
            let offered = offer.attribute(media, "setup").and_then(Setup::from_name);
            let (role, _) = Setup::answering(offered, None);
            lines.push(format!("a=setup:{role}"));
            lines.push(format!("a=fingerprint:{}", transport.fingerprint));
            if *has_ice {
                ice(lines, transport);
            }
        }
        _ => {}
    }
}

fn ice(lines: &mut Vec<String>, transport: &LocalTransport) {
    lines.push(format!("a=ice-ufrag:{}", transport.ice_ufrag));
    lines.push(format!("a=ice-pwd:{}", transport.ice_pwd));
    let candidates = transport.candidates.iter();
    lines.extend(candidates.map(|candidate| format!("a=candidate:{candidate}")));
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
