//! What an offer and its answer agreed on.

use crate::sdp::{Encoding, Sdp, Section, is_unspecified};
use siprtc_core::media::{AudioParameters, Codec, Direction, NegotiatedAudio};
use siprtc_core::{Error, Fault, Result};

/// Packet time when nobody says (RFC 3551 section 4.2), in milliseconds.
const DEFAULT_PTIME: u32 = 20;
/// What a peer may ask for, in milliseconds.
const PTIME: std::ops::RangeInclusive<u32> = 10..=120;

/// What our and the peer's final descriptions agree on for audio, whichever of them is the offer.
///
/// The codec is the answer's first that both sides have; payload types are those that the peer wants to receive.
///
/// # Errors
/// `PeerIncompatible` when they have no live audio m-line or no codec in common; `PeerMisbehaved` for what is no SDP.
///
/// ```
/// let ours = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n\
///             m=audio 4000 UDP/TLS/RTP/SAVPF 111 0\r\na=rtpmap:111 opus/48000/2\r\na=setup:actpass\r\n";
/// let theirs = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nt=0 0\r\n\
///               m=audio 5000 UDP/TLS/RTP/SAVPF 0 111\r\na=rtpmap:111 opus/48000/2\r\na=setup:active\r\n";
/// let audio = siprtc_sdp_translator::negotiated_audio(ours, theirs)?;
/// assert_eq!(audio.codec, siprtc_core::media::Codec::Pcmu);
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub fn negotiated_audio(local: &str, remote: &str) -> Result<NegotiatedAudio> {
    negotiate(local, remote, None)
}

/// [`negotiated_audio`] where it is known which of the two is the answer. Classic descriptions have no `a=setup` to tell it
/// by; the codec is the answer's first, whatever stands first in the offer.
///
/// # Errors
/// As [`negotiated_audio`].
pub fn negotiated_audio_as(local: &str, remote: &str, answerer: Answerer) -> Result<NegotiatedAudio> {
    negotiate(local, remote, Some(answerer))
}

/// Whose description is the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answerer {
    /// Ours.
    Local,
    /// The peer's.
    Remote,
}

fn negotiate(local: &str, remote: &str, answerer: Option<Answerer>) -> Result<NegotiatedAudio> {
    let (local, remote) = (Sdp::parse(local)?, Sdp::parse(remote)?);
    let pairs = local.media.iter().zip(&remote.media);
    let is_audio = |media: &Section<'_>| media.is_live() && media.media_line().media == "audio";
    let Some((ours, theirs)) = pairs
        .into_iter()
        .find(|(ours, theirs)| is_audio(ours) && is_audio(theirs))
    else {
        return Err(no_audio("no m-line is audio on both sides", &local, &remote));
    };
    let (offered, accepted) = (ours.encodings(), theirs.encodings());
    let is_ours = match answerer {
        Some(answerer) => answerer == Answerer::Local,
        None => local_is_answer(&local, ours, &remote, theirs),
    };
    let (first, second) = if is_ours {
        (&offered, &accepted)
    } else {
        (&accepted, &offered)
    };
    let has = |list: &[Encoding<'_>], codec| list.iter().any(|encoding| codec_of(encoding) == Some(codec));
    let Some(codec) = first
        .iter()
        .filter_map(codec_of)
        .find(|&codec| has(second, codec))
    else {
        return Err(no_audio("no codec is on both sides", &local, &remote));
    };
    let payload_type = |list: &[Encoding<'_>]| {
        list.iter()
            .find(|encoding| codec_of(encoding) == Some(codec))
            .map(|e| e.payload_type)
    };
    Ok(NegotiatedAudio {
        codec,
        payload_type: payload_type(&accepted).unwrap_or(codec.payload_type()),
        telephone_event: common_to_both(&offered, &accepted, "telephone-event", codec),
        direction: direction(&local, ours, &remote, theirs),
        ptime: ptime(&remote, theirs)
            .or(ptime(&local, ours))
            .unwrap_or(DEFAULT_PTIME)
            .min(longest(&remote, theirs)),
        parameters: AudioParameters {
            comfort_noise: common_to_both(&offered, &accepted, "CN", codec)
                .filter(|(_, clock)| *clock == codec.clock_rate()),
            ..payload_type(&accepted)
                .filter(|_| codec == Codec::Opus)
                .map_or_else(AudioParameters::default, |number| opus_parameters(theirs, number))
        },
    })
}

/// What the peer's `a=fmtp` says of the Opus that it wants to receive (RFC 7587 section 6.1).
fn opus_parameters(theirs: &Section<'_>, payload_type: u8) -> AudioParameters {
    let own = theirs.attributes("fmtp").find_map(|value| {
        let (number, parameters) = value.split_once(' ')?;
        (number.parse() == Ok(payload_type)).then_some(parameters)
    });
    AudioParameters::from_opus_fmtp(own.unwrap_or_default())
}

fn codec_of(encoding: &Encoding<'_>) -> Option<Codec> {
    Codec::from_name(encoding.name).filter(|codec| codec.clock_rate() == encoding.clock_rate)
}

/// Only an offer says `actpass`, and ours always do. Without any role, the shorter list has been narrowed by the
/// other.
pub(crate) fn local_is_answer(
    local: &Sdp<'_>,
    ours: &Section<'_>,
    remote: &Sdp<'_>,
    theirs: &Section<'_>,
) -> bool {
    match (local.attribute(ours, "setup"), remote.attribute(theirs, "setup")) {
        (Some("actpass"), _) => false,
        (_, Some("actpass")) => true,
        (Some(_), _) => true,
        _ => ours.media_line().formats.len() < theirs.media_line().formats.len(),
    }
}

/// The peer's events or comfort noise, with the codec's clock if there is one; none unless we named it too.
fn common_to_both(
    ours: &[Encoding<'_>],
    theirs: &[Encoding<'_>],
    name: &str,
    codec: Codec,
) -> Option<(u8, u32)> {
    let events = |list: &[Encoding<'_>]| -> Vec<(u8, u32)> {
        let is_event = |encoding: &&Encoding<'_>| encoding.name.eq_ignore_ascii_case(name);
        list.iter()
            .filter(is_event)
            .map(|event| (event.payload_type, event.clock_rate))
            .collect()
    };
    let (ours, theirs) = (events(ours), events(theirs));
    let common = || {
        theirs
            .iter()
            .filter(|(_, clock)| ours.iter().any(|(_, other)| other == clock))
    };
    common()
        .find(|(_, clock)| *clock == codec.clock_rate())
        .or_else(|| common().next())
        .copied()
}

pub(crate) fn direction(
    local: &Sdp<'_>,
    ours: &Section<'_>,
    remote: &Sdp<'_>,
    theirs: &Section<'_>,
) -> Direction {
    let mut peer = remote.direction(theirs);
    let is_old_hold = remote.connection_address(theirs).is_some_and(is_unspecified)
        && remote.attribute(theirs, "ice-ufrag").is_none();
    if is_old_hold {
        // RFC 3264 section 8.4: 0.0.0.0 was how RFC 2543 said hold. With ICE it only means "see the candidates".
        peer = Direction::from_parts(peer.sends(), false);
    }
    peer.answer(local.direction(ours))
}

/// The packet time that a side asks for. What is none is not said.
fn ptime(sdp: &Sdp<'_>, media: &Section<'_>) -> Option<u32> {
    milliseconds(sdp, media, "ptime")
}

/// The longest packet that the peer takes.
fn longest(remote: &Sdp<'_>, theirs: &Section<'_>) -> u32 {
    milliseconds(remote, theirs, "maxptime").unwrap_or(*PTIME.end())
}

/// RFC 8866 section 6.4 allows fractions.
fn milliseconds(sdp: &Sdp<'_>, media: &Section<'_>, name: &str) -> Option<u32> {
    let whole = sdp.attribute(media, name)?.trim().split('.').next()?.parse().ok();
    let ms = whole.filter(|ms: &u32| *ms > 0)?;
    Some(ms.clamp(*PTIME.start(), *PTIME.end()))
}

fn no_audio(what: &str, local: &Sdp<'_>, remote: &Sdp<'_>) -> Error {
    let message = format!(
        "{what}: we have {}, the peer has {}",
        codecs(local),
        codecs(remote)
    );
    Error::new(Fault::PeerIncompatible, "negotiate audio", message)
        .advice("add one of the peer's codecs to media.codecs, or one of ours to the peer")
}

fn codecs(sdp: &Sdp<'_>) -> String {
    let audio = sdp
        .media
        .iter()
        .filter(|media| media.is_live() && media.media_line().media == "audio");
    let names: Vec<String> = audio
        .flat_map(|media| {
            media
                .encodings()
                .iter()
                .map(|e| format!("{}/{}", e.name, e.clock_rate))
                .collect::<Vec<_>>()
        })
        .collect();
    if names.is_empty() {
        "no audio".to_owned()
    } else {
        names.join(" ")
    }
}
