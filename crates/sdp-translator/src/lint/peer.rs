//! What one peer would refuse or misread, by its profile.

use super::{Check, Desk, attributes};
use crate::answer::is_voice;
use crate::candidate;
use crate::profile::{Fact, HashNames, Hold, IceSupport, Keying, MdnsSupport, PeerProfile, Support};
use crate::rule::Rule;
use crate::sdp::{Section, is_unspecified, static_encoding};
use crate::trickle;

pub(super) fn look(desk: &mut Desk<'_, '_>, peer: &PeerProfile) {
    session(desk, peer);
    let live: Vec<_> = desk.live().collect();
    for (index, media) in live {
        if let Some(fact) = &peer.media
            && !fact.is.iter().any(|medium| medium == media.media_line().media)
        {
            let what = format!("{} takes no {}", peer.name, media.media_line().media);
            desk.find(Check::PeerMedium, Some(index), Some(0), what)
                .known(&fact.source);
            continue;
        }
        ice(desk, peer, index, media);
        if media.media_line().is_rtp() {
            security(desk, peer, index, media);
            encodings(desk, peer, index, media);
            rtcp(desk, peer, index, media);
            hold(desk, peer, index, media);
            required(desk, peer, index, media);
        }
    }
}

fn session(desk: &mut Desk<'_, '_>, peer: &PeerProfile) {
    let sdp = desk.sdp;
    if let Some(fact) = peer.max_media.as_ref().filter(|fact| sdp.media.len() > fact.is) {
        let what = format!(
            "{} takes {} m-lines, there are {}",
            peer.name,
            fact.is,
            sdp.media.len()
        );
        desk.find(Check::PeerMaxMedia, None, None, what)
            .known(&fact.source);
    }
    let no_bundle = peer.bundle.as_ref().filter(|fact| fact.is == Support::Unknown);
    let group =
        attributes(&sdp.session, "group").find(|(_, value)| value.split_ascii_whitespace().count() > 2);
    if let (Some(fact), Some((at, value))) = (no_bundle, group)
        && value.starts_with("BUNDLE ")
    {
        let what = format!("{} does not know BUNDLE", peer.name);
        desk.find(Check::PeerBundle, None, Some(at), what)
            .known(&fact.source);
    }
    if let Some(fact) = peer.trickle.as_ref().filter(|fact| fact.is == Support::Unknown) {
        for place in std::iter::once(None).chain((0..sdp.media.len()).map(Some)) {
            let section = place
                .and_then(|index| sdp.media.get(index))
                .unwrap_or(&sdp.session);
            if trickle::has_option(section) {
                let what = format!("{} does not wait for candidates", peer.name);
                let at = section.position("ice-options");
                desk.find(Check::PeerTrickle, place, at, what)
                    .known(&fact.source)
                    .fix(Rule::Trickle);
            }
        }
    }
    if let Some(fact) = peer
        .hash_names
        .as_ref()
        .filter(|fact| fact.is == HashNames::LowerCase)
    {
        for place in std::iter::once(None).chain((0..sdp.media.len()).map(Some)) {
            let section = place
                .and_then(|index| sdp.media.get(index))
                .unwrap_or(&sdp.session);
            for (at, value) in attributes(section, "fingerprint") {
                let hash = value.split_ascii_whitespace().next().unwrap_or_default();
                if hash.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    let what = format!("{} does not know {hash}", peer.name);
                    desk.find(Check::PeerHash, place, Some(at), what)
                        .known(&fact.source)
                        .fix(Rule::FingerprintHash);
                }
            }
        }
    }
}

fn ice(desk: &mut Desk<'_, '_>, peer: &PeerProfile, index: usize, media: &Section<'_>) {
    let line = media.media_line();
    let has_ice = desk.transport_attribute(index, "ice-ufrag").is_some()
        && desk.transport_attribute(index, "ice-pwd").is_some();
    if let Some(fact) = &peer.ice {
        let is_nowhere = line.port == "9" || desk.sdp.connection_address(media).is_some_and(is_unspecified);
        if fact.is == IceSupport::Required && !has_ice {
            let what = format!("{} needs ICE, and there is none", peer.name);
            desk.find(Check::PeerIce, Some(index), Some(0), what)
                .known(&fact.source);
        } else if fact.is == IceSupport::None && is_nowhere && has_ice && line.is_rtp() {
            let what = format!("{} has no ICE, and m= and c= name no address", peer.name);
            desk.find(Check::PeerAddress, Some(index), Some(0), what)
                .known(&fact.source)
                .fix(Rule::DefaultCandidate);
        }
    }
    if let Some(fact) = &peer.mdns {
        let check = match fact.is {
            MdnsSupport::Ignored => Check::PeerMdnsIgnored,
            MdnsSupport::Refused => Check::PeerMdns,
            MdnsSupport::Resolved => return,
        };
        for (at, value) in attributes(media, "candidate").filter(|(_, value)| candidate::is_mdns(value)) {
            let name = value.split_ascii_whitespace().nth(4).unwrap_or_default();
            let what = format!("{} cannot use {name}", peer.name);
            desk.find(check, Some(index), Some(at), what)
                .known(&fact.source)
                .fix(Rule::CandidateUnusable);
        }
    }
}

fn security(desk: &mut Desk<'_, '_>, peer: &PeerProfile, index: usize, media: &Section<'_>) {
    let line = media.media_line();
    if let Some(fact) = peer.profiles.as_ref().filter(|fact| !contains(fact, line.proto)) {
        let what = format!("{} takes {}, not {}", peer.name, fact.is.join(", "), line.proto);
        desk.find(Check::PeerProfile, Some(index), Some(0), what)
            .known(&fact.source);
    }
    let Some(fact) = &peer.keying else { return };
    let is_secure = line.proto.split('/').any(|word| matches!(word, "SAVP" | "SAVPF"));
    // A fingerprint of the session says nothing of an m-line that is plain.
    let has_fingerprint = match is_secure {
        true => desk.transport_attribute(index, "fingerprint").is_some(),
        false => media.position("fingerprint").is_some(),
    };
    let mut offered = Vec::new();
    if has_fingerprint {
        offered.push(Keying::DtlsSrtp);
    }
    if media.position("crypto").is_some() {
        offered.push(Keying::Sdes);
    }
    // Keys under a plain profile are an offer to go without (RFC 8643).
    if !is_secure {
        offered.push(Keying::None);
    }
    if !offered.is_empty() && !offered.iter().any(|keying| fact.is.contains(keying)) {
        let names = |list: &[Keying]| {
            list.iter()
                .map(|keying| keying.as_str())
                .collect::<Vec<_>>()
                .join(" or ")
        };
        let what = format!(
            "{} takes keys from {}, the m-line offers {}",
            peer.name,
            names(&fact.is),
            names(&offered)
        );
        desk.find(Check::PeerKeying, Some(index), Some(0), what)
            .known(&fact.source);
    }
}

fn contains(fact: &Fact<Vec<String>>, word: &str) -> bool {
    fact.is.iter().any(|known| known == word)
}

fn encodings(desk: &mut Desk<'_, '_>, peer: &PeerProfile, index: usize, media: &Section<'_>) {
    let line = media.media_line();
    if let Some(fact) = peer
        .rtpmap_static
        .as_ref()
        .filter(|fact| fact.is == Support::Required)
    {
        let maps = media.rtpmaps();
        for format in &line.formats {
            let is_static = format.parse().ok().and_then(static_encoding).is_some();
            if is_static && maps.of(format).is_none() {
                let what = format!("{} needs an a=rtpmap for {format}", peer.name);
                desk.find(Check::PeerRtpmap, Some(index), Some(0), what)
                    .known(&fact.source)
                    .fix(Rule::RtpmapStatic);
            }
        }
    }
    if line.media != "audio" {
        return;
    }
    let offered = media.encodings();
    let is_event = |name: &str| name.eq_ignore_ascii_case("telephone-event");
    let is_known = |name: &str, clock: u32, known: &str| {
        let mut words = known.split('/');
        words.next().is_some_and(|word| word.eq_ignore_ascii_case(name))
            && words.next().and_then(|word| word.parse().ok()) == Some(clock)
    };
    let codecs: Vec<_> = offered
        .iter()
        .filter(|encoding| is_voice(encoding.name))
        .collect();
    if let Some(fact) = peer.codecs.as_ref().filter(|_| !codecs.is_empty()) {
        let has = codecs.iter().any(|codec| {
            fact.is
                .iter()
                .any(|known| is_known(codec.name, codec.clock_rate, known))
        });
        if !has {
            let what = format!(
                "{} takes {}, and none of it is offered",
                peer.name,
                fact.is.join(" ")
            );
            desk.find(Check::PeerCodec, Some(index), Some(0), what)
                .known(&fact.source);
        }
    }
    let events: Vec<u32> = offered
        .iter()
        .filter(|encoding| is_event(encoding.name))
        .map(|encoding| encoding.clock_rate)
        .collect();
    if let Some(fact) = peer.telephone_event.as_ref().filter(|_| !events.is_empty())
        && !events.iter().any(|clock| fact.is.contains(clock))
    {
        let clocks: Vec<String> = fact.is.iter().map(u32::to_string).collect();
        let what = format!(
            "{} takes telephone-event with {} Hz alone",
            peer.name,
            clocks.join(", ")
        );
        desk.find(Check::PeerTelephoneEvent, Some(index), Some(0), what)
            .known(&fact.source);
    }
}

fn rtcp(desk: &mut Desk<'_, '_>, peer: &PeerProfile, index: usize, media: &Section<'_>) {
    let Some(fact) = &peer.rtcp_mux else { return };
    let mux = media.position("rtcp-mux");
    match (fact.is, mux) {
        (Support::Required, None) => {
            let what = format!("{} needs a=rtcp-mux", peer.name);
            desk.find(Check::PeerRtcpMux, Some(index), Some(0), what)
                .known(&fact.source)
                .fix(Rule::RtcpMux);
        }
        (Support::Unknown, Some(at)) => {
            let named = attributes(media, "rtcp").next();
            let port = named.map(|(_, value)| value.split_ascii_whitespace().next().unwrap_or_default());
            let what = match port {
                Some("9") => format!("{} sends RTCP to port 9", peer.name),
                None => format!("{} sends RTCP to the port after RTP's", peer.name),
                Some(_) => return,
            };
            let at = named.map_or(at, |(at, _)| at);
            let finding = desk
                .find(Check::PeerRtcp, Some(index), Some(at), what)
                .known(&fact.source);
            if port.is_some() {
                finding.fix(Rule::RtcpLine);
            }
        }
        _ => {}
    }
}

fn hold(desk: &mut Desk<'_, '_>, peer: &PeerProfile, index: usize, media: &Section<'_>) {
    let Some(fact) = &peer.hold else { return };
    let direction = desk.sdp.direction(media);
    let has_ice = desk.transport_attribute(index, "ice-ufrag").is_some();
    let is_zero = desk.sdp.connection_address(media).is_some_and(is_unspecified) && !has_ice;
    let (is_told, word) = match (direction.receives() && direction.sends(), is_zero) {
        (true, false) => return,
        (true, true) => (
            fact.is.contains(&Hold::ZeroAddress),
            "c= with the zero address".to_owned(),
        ),
        (false, false) => (fact.is.contains(&Hold::Direction), format!("a={direction}")),
        (false, true) => (
            !fact.is.is_empty(),
            format!("a={direction} with the zero address"),
        ),
    };
    if !is_told {
        let what = format!("{} does not take {word} for hold", peer.name);
        desk.find(Check::PeerHold, Some(index), Some(0), what)
            .known(&fact.source);
    }
}

fn required(desk: &mut Desk<'_, '_>, peer: &PeerProfile, index: usize, media: &Section<'_>) {
    if let Some(fact) = peer.bundle.as_ref().filter(|fact| fact.is == Support::Unknown)
        && let Some(at) = media.position("bundle-only")
        && media.media_line().port == "0"
    {
        let what = format!("{} takes port 0 for rejected", peer.name);
        desk.find(Check::PeerBundleOnly, Some(index), Some(at), what)
            .known(&fact.source);
    }
    let Some(fact) = &peer.attributes else { return };
    for name in &fact.is {
        let (is_there, rule) = match name.as_str() {
            "direction" => (media.direction().is_some(), Some(Rule::Direction)),
            "mid" => (
                media.attribute("mid").is_some_and(|mid| !mid.is_empty()),
                Some(Rule::Mid),
            ),
            "setup" => (media.position("setup").is_some(), Some(Rule::SessionSetup)),
            other => (media.position(other).is_some(), None),
        };
        if !is_there {
            let what = match name.as_str() {
                "direction" => format!("{} needs a direction in the m-line", peer.name),
                _ => format!("{} needs a={name} in the m-line", peer.name),
            };
            let finding = desk
                .find(Check::PeerAttribute, Some(index), Some(0), what)
                .known(&fact.source);
            if let Some(rule) = rule {
                finding.fix(rule);
            }
        }
    }
}
