//! m-lines: formats, direction, keys, groups.

use super::{Check, Desk, attributes};
use crate::needs::is_multicast;
use crate::rule::Rule;
use crate::sdp::{Section, is_unspecified, static_encoding};
use siprtc_core::media::Direction;
use std::collections::{HashMap, HashSet};

/// RFC 8866 section 5.14.
const MEDIA: [&str; 6] = ["audio", "video", "text", "application", "message", "image"];
/// Payload types that mean nothing without `a=rtpmap` (RFC 3551 section 6).
const DYNAMIC: std::ops::RangeInclusive<u8> = 96..=127;
/// Payload types that RTCP's packet types look like, the marker bit apart (RFC 5761 section 4).
const RTCP: std::ops::RangeInclusive<u8> = 64..=95;

pub(super) fn look(desk: &mut Desk<'_, '_>) {
    for (index, media) in desk.sdp.media.iter().enumerate() {
        media_line(desk, index, media);
    }
    let rtp: Vec<_> = desk.live_rtp().collect();
    for (index, media) in rtp {
        formats(desk, index, media);
        maps(desk, index, media);
        clocks(desk, index, media);
        keying(desk, index, media);
        mux(desk, index, media);
        hold(desk, index, media);
        if is_multicast(desk.sdp, media) {
            let at = media.lines.iter().position(|line| line.letter() == Some(b'c'));
            let address = desk.sdp.connection_address(media).unwrap_or_default();
            let what = format!("{address} is the address of a group");
            desk.find(Check::MulticastAddress, Some(index), at, what);
        }
    }
    for place in std::iter::once(None).chain((0..desk.sdp.media.len()).map(Some)) {
        fingerprints(desk, place);
        directions(desk, place);
    }
    groups(desk);
}

fn media_line(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let line = media.media_line();
    let at = Some(0);
    let port_is_fine = line.port.split('/').count() <= 2
        && line
            .port
            .split('/')
            .next()
            .is_some_and(|port| port.parse::<u16>().is_ok())
        && line
            .port
            .split('/')
            .skip(1)
            .all(|count| count.parse::<u16>().is_ok());
    if line.proto.is_empty() || line.formats.is_empty() {
        desk.find(
            Check::MediaLine,
            Some(index),
            at,
            "the m= line has fewer than four fields".to_owned(),
        );
    } else if MEDIA
        .iter()
        .any(|known| *known != line.media && known.eq_ignore_ascii_case(line.media))
    {
        let what = format!(
            "{:?} is not in lower case, as everybody writes and reads it",
            line.media
        );
        desk.find(Check::MediaLine, Some(index), at, what);
    } else if !port_is_fine {
        desk.find(
            Check::MediaLine,
            Some(index),
            at,
            format!("{:?} is no port", line.port),
        );
    }
    if media.is_live() && desk.sdp.connection_address(media).is_none() {
        let what = "no c= line says where media goes".to_owned();
        desk.find(Check::ConnectionMissing, Some(index), at, what);
    }
    let is_bundled = media
        .attribute("mid")
        .is_some_and(|mid| desk.sdp.bundles().any(|mids| mids.contains(&mid)));
    if let Some(at) = media.position("bundle-only") {
        if !is_bundled {
            desk.find(
                Check::BundleOnly,
                Some(index),
                Some(at),
                "its mid is in no BUNDLE group".to_owned(),
            );
        } else if line.port != "0" {
            desk.find(
                Check::BundleOnly,
                Some(index),
                Some(at),
                format!("its port is {}, not 0", line.port),
            );
        }
    }
    for (at, value) in attributes(media, "extmap") {
        let uri = value.split_ascii_whitespace().nth(1);
        if uri.is_none_or(|uri| !uri.contains(':')) {
            let what = format!("{value:?} names no URI");
            desk.find(Check::ExtmapInvalid, Some(index), Some(at), what)
                .fix(Rule::ExtmapInvalid);
        }
    }
}

fn formats(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let maps: HashSet<&str> = media
        .attributes("rtpmap")
        .filter_map(|value| value.split_ascii_whitespace().next())
        .collect();
    let is_multiplexed = media.position("rtcp-mux").is_some();
    let mut seen = HashSet::new();
    for format in media.media_line().formats {
        let (check, what) = match format.parse::<u8>() {
            _ if !seen.insert(format) => (
                Check::PayloadTwice,
                format!("{format} stands twice in the m= line"),
            ),
            Ok(number) if number > *DYNAMIC.end() => {
                (Check::PayloadRange, format!("{format} is more than 127"))
            }
            Err(_) => (Check::PayloadRange, format!("{format:?} is no payload type")),
            Ok(number) if is_multiplexed && RTCP.contains(&number) => {
                (Check::PayloadRtcp, format!("{format} looks like RTCP"))
            }
            Ok(number)
                if !maps.contains(format)
                    && (DYNAMIC.contains(&number) || static_encoding(number).is_none()) =>
            {
                (Check::PayloadUnmapped, format!("{format} has no a=rtpmap"))
            }
            Ok(_) => continue,
        };
        let finding = desk.find(check, Some(index), Some(0), what);
        if matches!(check, Check::PayloadUnmapped | Check::PayloadRange) {
            finding.fix(Rule::PayloadUnmapped);
        }
    }
}

fn maps(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let formats: HashSet<&str> = media.media_line().formats.into_iter().collect();
    let mut known: HashMap<&str, &str> = HashMap::new();
    for (at, value) in attributes(media, "rtpmap") {
        let (format, encoding) = value.split_once(' ').unwrap_or((value, ""));
        let encoding = encoding.trim();
        if !formats.contains(format) {
            let what = format!("{format} is not in the m= line");
            desk.find(Check::PayloadStray, Some(index), Some(at), what);
        }
        match known.insert(format, encoding) {
            Some(other) if !other.eq_ignore_ascii_case(encoding) => {
                let what = format!("{format} is {other} and {encoding}");
                desk.find(Check::PayloadTwice, Some(index), Some(at), what);
            }
            _ => {}
        }
        if encoding.ends_with("/1") && encoding.matches('/').count() == 2 {
            let what = format!("{encoding} spells one channel out");
            desk.find(Check::MonoChannel, Some(index), Some(at), what)
                .fix(Rule::MonoChannel);
        }
    }
    for (at, value) in attributes(media, "fmtp") {
        let format = value.split_ascii_whitespace().next().unwrap_or_default();
        if !formats.contains(format) {
            let what = format!("{format} is not in the m= line");
            desk.find(Check::PayloadStray, Some(index), Some(at), what);
        }
    }
}

fn clocks(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let encodings = media.encodings();
    let is_event = |name: &str| name.eq_ignore_ascii_case("telephone-event");
    let codecs: HashSet<u32> = encodings
        .iter()
        .filter(|encoding| !is_event(encoding.name))
        .map(|encoding| encoding.clock_rate)
        .collect();
    if codecs.is_empty() {
        return;
    }
    for event in encodings.iter().filter(|encoding| is_event(encoding.name)) {
        if !codecs.contains(&event.clock_rate) {
            let prefix = format!("{} ", event.payload_type);
            let at = attributes(media, "rtpmap")
                .find(|(_, value)| value.starts_with(&prefix))
                .map(|(at, _)| at);
            let what = format!(
                "no codec of this m-line has the clock of telephone-event/{}",
                event.clock_rate
            );
            desk.find(Check::TelephoneEventClock, Some(index), at, what);
        }
    }
}

fn keying(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let line = media.media_line();
    let is_secure = line.proto.split('/').any(|word| matches!(word, "SAVP" | "SAVPF"));
    let has_fingerprint = desk.transport_attribute(index, "fingerprint").is_some();
    let crypto = media.position("crypto");
    match crypto {
        None if is_secure && !has_fingerprint => {
            let what = format!("{} has neither a=fingerprint nor a=crypto", line.proto);
            desk.find(Check::KeyingMissing, Some(index), Some(0), what);
        }
        Some(at) if has_fingerprint => {
            let what = "it offers keys twice, by DTLS and in a=crypto".to_owned();
            desk.find(Check::KeyingTwice, Some(index), Some(at), what);
        }
        Some(at) if !is_secure => {
            let what = format!("a=crypto stands under {}", line.proto);
            desk.find(Check::KeyingProfile, Some(index), Some(at), what);
        }
        _ => {}
    }
    if has_fingerprint && is_secure && desk.transport_attribute(index, "setup").is_none() {
        let at = media.position("fingerprint");
        let what = "a=fingerprint is there, and a=setup is not".to_owned();
        desk.find(Check::SetupMissing, Some(index), at, what);
    }
    if let Some((at, role)) = attributes(media, "setup").next()
        && !matches!(role, "active" | "passive" | "actpass" | "holdconn")
    {
        desk.find(
            Check::SetupInvalid,
            Some(index),
            Some(at),
            format!("{role:?} is no role"),
        );
    }
}

fn mux(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let is_multiplexed = media.position("rtcp-mux").is_some();
    if let Some(at) = media.position("rtcp-mux-only").filter(|_| !is_multiplexed) {
        let what = "a=rtcp-mux-only is there, and a=rtcp-mux is not".to_owned();
        desk.find(Check::RtcpMuxOnly, Some(index), Some(at), what)
            .fix(Rule::RtcpMux);
    }
    let is_bundled = media
        .attribute("mid")
        .is_some_and(|mid| desk.sdp.bundles().any(|mids| mids.contains(&mid)));
    if is_bundled && !is_multiplexed {
        let what = "it is in a BUNDLE group and has no a=rtcp-mux".to_owned();
        desk.find(Check::RtcpMuxBundle, Some(index), Some(0), what)
            .fix(Rule::RtcpMux);
    }
}

/// Without ICE the zero address means hold; with ICE it means "see the candidates".
fn hold(desk: &mut Desk<'_, '_>, index: usize, media: &Section<'_>) {
    let sdp = desk.sdp;
    let is_zero = sdp.connection_address(media).is_some_and(is_unspecified);
    if !is_zero || desk.transport_attribute(index, "ice-ufrag").is_some() || media.media_line().port == "0" {
        return;
    }
    let direction = sdp.direction(media);
    if direction.receives() {
        let at = media.lines.iter().position(|line| line.letter() == Some(b'c'));
        let what = format!("c= is the zero address, and the direction is {direction}");
        desk.find(Check::HoldZero, Some(index), at, what);
    }
}

fn fingerprints(desk: &mut Desk<'_, '_>, place: Option<usize>) {
    let section = match place {
        Some(index) => &desk.sdp.media[index],
        None => &desk.sdp.session,
    };
    let mut weak = None;
    for (at, value) in attributes(section, "fingerprint") {
        let (hash, octets) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let octets: Vec<&str> = octets.trim().split(':').collect();
        let is_hex = |octet: &&str| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
        let length = match hash.to_ascii_lowercase().as_str() {
            "sha-1" => Some(20),
            "sha-224" => Some(28),
            "sha-256" => Some(32),
            "sha-384" => Some(48),
            "sha-512" => Some(64),
            "md5" | "md2" => Some(16),
            _ => None,
        };
        let what = match length {
            _ if !octets.iter().all(is_hex) => {
                format!("{value:?} is not in hexadecimal with colons")
            }
            Some(length) if octets.len() != length => {
                format!(
                    "a {hash} fingerprint has {length} octets, this one {}",
                    octets.len()
                )
            }
            _ => {
                let strong = ["sha-224", "sha-256", "sha-384", "sha-512"];
                let is_strong = strong.iter().any(|name| name.eq_ignore_ascii_case(hash));
                weak = if is_strong {
                    Some(None)
                } else {
                    weak.or(Some(Some(at)))
                };
                if is_strong {
                    break;
                }
                continue;
            }
        };
        desk.find(Check::FingerprintInvalid, place, Some(at), what);
    }
    if let Some(Some(at)) = weak {
        let what = "no fingerprint is of SHA-256".to_owned();
        desk.find(Check::FingerprintWeak, place, Some(at), what);
    }
}

fn directions(desk: &mut Desk<'_, '_>, place: Option<usize>) {
    let section = match place {
        Some(index) => &desk.sdp.media[index],
        None => &desk.sdp.session,
    };
    let words = [
        Direction::Inactive,
        Direction::RecvOnly,
        Direction::SendOnly,
        Direction::SendRecv,
    ]
    .map(Direction::as_str);
    let mut first: Option<&str> = None;
    for (at, line) in section.lines.iter().enumerate() {
        let Some((name, _)) = line.attribute().filter(|(name, _)| words.contains(name)) else {
            continue;
        };
        match first {
            None => first = Some(name),
            Some(other) => {
                let what = format!("the direction is {other} and {name}");
                desk.find(Check::DirectionTwice, place, Some(at), what);
            }
        }
    }
}

fn groups(desk: &mut Desk<'_, '_>) {
    let sdp = desk.sdp;
    let mut mids: HashMap<&str, usize> = HashMap::new();
    for (index, media) in sdp.media.iter().enumerate() {
        for (at, mid) in attributes(media, "mid") {
            if let Some(other) = mids.insert(mid, index) {
                let what = format!("m-line {other} has the mid {mid:?} too");
                desk.find(Check::MidTwice, Some(index), Some(at), what)
                    .fix(Rule::Mid);
            }
        }
    }
    let mut bundled: HashSet<&str> = HashSet::new();
    for (at, value) in attributes(&sdp.session, "group") {
        let mut words = value.split_ascii_whitespace();
        let is_bundle = words.next() == Some("BUNDLE");
        for mid in words {
            if !mids.contains_key(mid) {
                let what = format!("no m-line has the mid {mid:?}");
                desk.find(Check::MidMissing, None, Some(at), what)
                    .fix(Rule::BundleGroup);
            } else if is_bundle && !bundled.insert(mid) {
                let what = format!("{mid:?} is named twice");
                desk.find(Check::BundleTwice, None, Some(at), what)
                    .fix(Rule::BundleGroup);
            }
        }
    }
    for mids in sdp.bundles() {
        payloads(desk, &mids);
    }
}

/// One payload type, one encoding, in all m-lines of a transport.
fn payloads(desk: &mut Desk<'_, '_>, mids: &[&str]) {
    let sdp = desk.sdp;
    let mut known: HashMap<u8, (usize, String)> = HashMap::new();
    let is_member = |media: &Section<'_>| media.attribute("mid").is_some_and(|mid| mids.contains(&mid));
    for (index, media) in sdp.media.iter().enumerate() {
        if !media.is_live() || !media.media_line().is_rtp() || !is_member(media) {
            continue;
        }
        for encoding in media.encodings() {
            let name = format!("{}/{}", encoding.name.to_ascii_lowercase(), encoding.clock_rate);
            match known.get(&encoding.payload_type) {
                Some((other, before)) if *before != name => {
                    let what = format!(
                        "{} is {name} here and {before} in m-line {other}",
                        encoding.payload_type
                    );
                    desk.find(Check::BundlePayload, Some(index), Some(0), what);
                }
                Some(_) => {}
                None => drop(known.insert(encoding.payload_type, (index, name))),
            }
        }
    }
}
