//! Which m-lines one DTLS-SRTP transport can carry.

use crate::sdp::{Sdp, Section, is_rtp};
use siprtc_core::{Error, Fault, Result};
use std::collections::HashMap;

/// The m-lines of one description that share the engine's one transport.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Each m-line's: does the engine carry it?
    pub(crate) carried: Vec<bool>,
    /// The m-line whose fingerprint, ICE credentials and candidates count (RFC 9143 section 7.1.3).
    pub(crate) tagged: usize,
    /// The m-line that was chosen; those that are carried are bundled with it.
    pub(crate) kept: usize,
}

impl Transport {
    /// Chooses the first audio m-line that can be carried, else the first of any kind, and those bundled with it.
    pub(crate) fn choose(sdp: &Sdp<'_>) -> Result<Self> {
        let live: Vec<usize> = (0..sdp.media.len())
            .filter(|&index| sdp.media[index].is_live())
            .collect();
        let fits = |index: &&usize| obstacle(sdp, **index).is_none();
        let is_audio = |index: &&usize| sdp.media[**index].medium().0 == "audio";
        let audio = live.iter().filter(is_audio).find(fits);
        let Some(&kept) = audio.or_else(|| live.iter().find(fits)) else {
            let first = live.iter().find(is_audio).or(live.first());
            return Err(match first {
                Some(&index) => obstacle(sdp, index)
                    .unwrap_or(Obstacle::Medium)
                    .into_error(sdp, index),
                None if sdp.media.is_empty() => incompatible("the description has no m-line".to_owned()),
                None => incompatible("every m-line of the description is rejected (port 0)".to_owned()),
            });
        };
        let group = group_of(sdp, kept);
        let carried: Vec<bool> = (0..sdp.media.len())
            .map(|index| {
                index == kept || (group.contains(&index) && live.contains(&index) && can_join(sdp, index))
            })
            .collect();
        let in_order = || group.iter().copied().filter(|&index| carried[index]);
        let is_whole = |index: &usize| {
            has_ice(sdp, *index) && sdp.attribute(&sdp.media[*index], "fingerprint").is_some()
        };
        let tagged = in_order()
            .find(is_whole)
            .or_else(|| in_order().find(|&index| has_ice(sdp, index)));
        let tagged = tagged.unwrap_or(kept);
        Ok(Transport {
            carried,
            tagged,
            kept,
        })
    }
}

/// The m-lines of the BUNDLE group that `index` is in, in the group's order; itself, if it is in none.
pub(crate) fn group_of(sdp: &Sdp<'_>, index: usize) -> Vec<usize> {
    let Some(mid) = sdp.media[index].attribute("mid") else {
        return vec![index];
    };
    let Some(group) = sdp.bundles().find(|mids| mids.contains(&mid)) else {
        return vec![index];
    };
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, media) in sdp.media.iter().enumerate() {
        if let Some(mid) = media.attribute("mid") {
            places.entry(mid).or_insert(place);
        }
    }
    // Each once: a group may name thousands within the bounds.
    group.iter().filter_map(|mid| places.remove(mid)).collect()
}

/// Why an m-line cannot be carried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Obstacle {
    Encodings,
    Hash,
    Ice,
    Medium,
    Plain,
    Sdes,
}

fn obstacle(sdp: &Sdp<'_>, index: usize) -> Option<Obstacle> {
    let media = &sdp.media[index];
    if !is_known(media) {
        return Some(Obstacle::Medium);
    }
    let is_mate = |mate: &usize| *mate == index || (sdp.media[*mate].is_live() && can_join(sdp, *mate));
    let group: Vec<usize> = group_of(sdp, index).into_iter().filter(is_mate).collect();
    let somewhere = |name: &str| {
        sdp.session.attribute(name).is_some()
            || group
                .iter()
                .any(|&mate| sdp.media[mate].attribute(name).is_some())
    };
    if !somewhere("fingerprint") {
        return Some(if media.attribute("crypto").is_some() {
            Obstacle::Sdes
        } else {
            Obstacle::Plain
        });
    }
    if !group.iter().any(|&mate| has_ice(sdp, mate)) {
        return Some(Obstacle::Ice);
    }
    let fingerprints = |section: &Section<'_>| section.attributes("fingerprint").any(is_sha256);
    if !fingerprints(&sdp.session) && !group.iter().any(|&mate| fingerprints(&sdp.media[mate])) {
        return Some(Obstacle::Hash);
    }
    (is_rtp(media.medium().1) && !media.has_encoding()).then_some(Obstacle::Encodings)
}

/// Both of them, in one place: a user fragment of one m-line and a password of another open nothing.
fn has_ice(sdp: &Sdp<'_>, index: usize) -> bool {
    let media = &sdp.media[index];
    sdp.attribute(media, "ice-ufrag").is_some() && sdp.attribute(media, "ice-pwd").is_some()
}

/// What the engine can carry beside the first m-line. Plain RTP in a BUNDLE group with DTLS is a contradiction that
/// is seen in the field: it stays out.
fn can_join(sdp: &Sdp<'_>, index: usize) -> bool {
    let media = &sdp.media[index];
    let (_, proto) = media.medium();
    let is_plain = is_rtp(proto) && proto.split('/').any(|word| word == "AVP" || word == "AVPF");
    is_known(media)
        && (media.has_encoding() || media.media_line().is_data_channel())
        && (!is_plain || sdp.attribute(media, "fingerprint").is_some())
}

fn is_known(media: &Section<'_>) -> bool {
    let (medium, proto) = media.medium();
    match medium {
        "audio" | "video" => is_rtp(proto),
        _ => media.media_line().is_data_channel(),
    }
}

/// The hash function's name, and the hash.
pub(crate) fn is_sha256(fingerprint: &str) -> bool {
    let mut words = fingerprint.split_ascii_whitespace();
    words
        .next()
        .is_some_and(|hash| hash.eq_ignore_ascii_case("sha-256"))
        && words.next().is_some()
}

impl Obstacle {
    fn into_error(self, sdp: &Sdp<'_>, index: usize) -> Error {
        let line = sdp.media[index].media_line();
        let what = format!("m-line {index} ({} {})", line.media, line.proto);
        match self {
            Obstacle::Encodings => incompatible(format!("{what} names no codec that has an a=rtpmap")),
            Obstacle::Hash => incompatible(format!("{what} has no SHA-256 fingerprint"))
                .advice("media.engine = \"webrtc\" checks certificates by SHA-256 alone: let the peer send that too"),
            Obstacle::Ice => incompatible(format!("{what} has a fingerprint but no ICE credentials"))
                .advice("media.engine = \"webrtc\" needs ICE: switch it on at the peer"),
            Obstacle::Medium => incompatible(format!("{what} is neither audio nor video over RTP")),
            Obstacle::Plain => incompatible(format!("the peer offers plain RTP in {what}, without a fingerprint"))
                .advice("media.engine = \"webrtc\" needs DTLS-SRTP with ICE (RFC 5763): switch it on at the peer, or answer 488"),
            Obstacle::Sdes => incompatible(format!("the peer offers SRTP with keys in the SDP (a=crypto) in {what}"))
                .advice("media.engine = \"webrtc\" needs DTLS-SRTP with ICE (RFC 5763): switch it on at the peer, or answer 488"),
        }
    }
}

fn incompatible(what: String) -> Error {
    Error::new(Fault::PeerIncompatible, "translate SDP", what)
}
