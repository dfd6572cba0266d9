//! What is common of the payload formats, and what an answer says of each (RFC 3264 section 6.1).

use super::LocalMedia;
use crate::RtpProfile;
use crate::sdp::{RtpMaps, Section, static_encoding};
use siprtc_core::media::FeedbackKinds;
use siprtc_sdp_words::{TRANSPORT_SEQUENCE, element_number};

/// A format of the answer.
pub(super) struct Format {
    /// The offer's payload type.
    pub(super) number: String,
    /// The offer's `a=rtpmap`.
    pub(super) encoding: String,
    /// What we say of ourselves in `a=fmtp`; or nothing.
    own: String,
}

impl LocalMedia {
    /// The formats of both in the offer's order, unless nothing but events, comfort noise and repair is, beside codecs of ours.
    pub(super) fn common(&self, media: &Section<'_>) -> Option<Vec<Format>> {
        let line = media.media_line();
        if line.media != self.medium {
            return None;
        }
        let maps = media.rtpmaps();
        let mut formats: Vec<Format> = Vec::new();
        for format in line.formats {
            let Some(encoding) = encoding(&maps, format) else {
                continue;
            };
            let is_new = !formats.iter().any(|known| known.number == *format);
            let mut codecs = self.codecs.iter().map(|codec| said(codec));
            if let Some((_, own)) = codecs.find(|(own, _)| is_new && is_same(own, encoding)) {
                formats.push(Format {
                    number: (*format).to_owned(),
                    encoding: encoding.to_owned(),
                    own: own.to_owned(),
                });
            }
        }
        keep_carried(media, &mut formats);
        let is_wanted = self.codecs.iter().any(|own| is_voice(own));
        let is_there = formats.iter().any(|format| is_voice(&format.encoding));
        (!formats.is_empty() && (is_there || !is_wanted)).then_some(formats)
    }
}

/// An encoding of ours, and what follows it.
fn said(codec: &str) -> (&str, &str) {
    let (encoding, own) = codec.trim().split_once(' ').unwrap_or((codec, ""));
    (encoding, own.trim())
}

fn encoding<'m>(maps: &RtpMaps<'m>, format: &str) -> Option<&'m str> {
    let table = || format.parse().ok().and_then(static_encoding);
    maps.of(format).or_else(table)
}

/// Neither events, comfort noise nor repair: something to hear, or to see.
pub(crate) fn is_voice(encoding: &str) -> bool {
    let others = ["telephone-event", "CN"];
    let name = name(encoding);
    !is_carrier(encoding) && !others.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// RTX (RFC 4588) and RED (RFC 2198): what they carry are other payload types of the m-line.
fn is_carrier(encoding: &str) -> bool {
    ["red", "rtx"]
        .iter()
        .any(|other| other.eq_ignore_ascii_case(name(encoding)))
}

fn name(encoding: &str) -> &str {
    encoding.split('/').next().unwrap_or_default().trim()
}

/// Takes those out that carry what is not answered.
fn keep_carried(media: &Section<'_>, formats: &mut Vec<Format>) {
    let carried = formats.iter().filter(|format| !is_carrier(&format.encoding));
    let carried: Vec<String> = carried.map(|format| format.number.clone()).collect();
    let is_there = |number: &str| carried.iter().any(|carried| carried == number);
    formats.retain(|format| {
        let parameters = parameters(media, &format.number);
        match is_carrier(&format.encoding) {
            false => true,
            true if name(&format.encoding).eq_ignore_ascii_case("rtx") => parameters
                .and_then(|text| value_of(text, "apt"))
                .is_some_and(is_there),
            // RED of video carries what is beside it, and says nothing.
            true => parameters.is_none_or(|text| text.split('/').map(str::trim).all(is_there)),
        }
    });
}

/// Names without case, clock rates, and channels, of which one need not be said (RFC 8866 section 6.6). Opus has two in every `a=rtpmap`
/// (RFC 7587 section 7), and who leaves them out means no other codec.
fn is_same(own: &str, other: &str) -> bool {
    let read = |text: &str| {
        let mut words = text.trim().split('/');
        let name = words.next().unwrap_or_default().to_ascii_lowercase();
        let clock = words.next().and_then(|clock| clock.parse::<u32>().ok());
        let said = words.next().map(|channels| channels.parse::<u32>().ok());
        let channels = said.unwrap_or(Some(if name == "opus" { 2 } else { 1 }));
        (name, clock, channels)
    };
    read(own) == read(other)
}

/// Parameters without which a payload type of the answer would be another format than the offer's (RFC 6184 section 8.2.2, RFC 7798
/// section 7.2.2, RFC 9628 section 6, AV1's payload format section 7.2.1, RFC 4867 section 8.3.1, RFC 7261 section 3, RFC 4588
/// section 8.1).
const CONFIGURATION: [(&str, &[&str]); 8] = [
    ("AMR", &AMR),
    ("AMR-WB", &AMR),
    ("AV1", &["level-idx", "profile", "tier"]),
    ("G729", &["annexb"]),
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
    ("rtx", &["apt"]),
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

/// What an `a=fmtp` of the answer says of a format: the offer's words that belong to [`CONFIGURATION`], and ours; `None`: nothing.
pub(super) fn parameters_of(media: &Section<'_>, format: &Format) -> Option<String> {
    let offered = parameters(media, &format.number).unwrap_or_default();
    if is_carrier(&format.encoding) && !offered.contains('=') {
        return (!offered.is_empty()).then(|| offered.to_owned());
    }
    let name = name(&format.encoding);
    let known = CONFIGURATION
        .iter()
        .find(|(codec, _)| codec.eq_ignore_ascii_case(name));
    let alike = known.map_or::<&[&str], _>(&[], |(_, alike)| *alike);
    let is_alike = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default().trim();
        alike.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    let said = offered.split(';').map(str::trim).filter(is_alike);
    let said: Vec<&str> = said
        .chain(Some(format.own.as_str()).filter(|own| !own.is_empty()))
        .collect();
    (!said.is_empty()).then(|| said.join(";"))
}

/// What the first `a=fmtp` of a format says.
fn parameters<'m>(media: &'m Section<'_>, format: &str) -> Option<&'m str> {
    media.attributes("fmtp").find_map(|value| {
        let (of, parameters) = value.trim().split_once([' ', '\t'])?;
        (of == format).then_some(parameters.trim())
    })
}

fn value_of<'t>(parameters: &'t str, name: &str) -> Option<&'t str> {
    parameters.split(';').find_map(|parameter| {
        let (own, value) = parameter.split_once('=')?;
        own.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The feedback about a format that is offered and that our engines have: about video, in a profile with feedback. An answer adds none
/// and alters none (RFC 4585 section 4.2).
pub(super) fn feedback(media: &Section<'_>, format: &Format) -> FeedbackKinds {
    let line = media.media_line();
    let profile = RtpProfile::from_name(line.proto);
    if line.media != "video" || !profile.is_some_and(RtpProfile::has_feedback) || !is_voice(&format.encoding)
    {
        return FeedbackKinds::default();
    }
    let about = |value: &'_ str| -> Option<String> {
        let (of, kind) = value.trim().split_once([' ', '\t'])?;
        (of == "*" || of == format.number).then(|| kind.to_owned())
    };
    let offered = media.attributes("rtcp-fb").filter_map(about);
    let kinds = offered.fold(FeedbackKinds::default(), |kinds, kind| kinds.with(&kind));
    FeedbackKinds {
        transport_cc: kinds.transport_cc && transport_sequence(media).is_some(),
        ..kinds
    }
    .and(FeedbackKinds::OURS)
}

/// The number of the element without which nobody can be told when a packet came.
pub(super) fn transport_sequence(media: &Section<'_>) -> Option<u8> {
    let mut maps = media.attributes("extmap");
    maps.find_map(|map| element_number(map, TRANSPORT_SEQUENCE))
}
