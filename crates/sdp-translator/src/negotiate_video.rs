//! What an offer and its answer agreed on about video.

use crate::negotiate::{Answerer, direction, local_is_answer};
use crate::sdp::{Encoding, Sdp, Section};
use siprtc_core::Result;
use siprtc_core::media::{FeedbackKinds, NegotiatedVideo, VideoCodec};

/// What our and the peer's final descriptions agree on for video; `None`: there is none on both sides, or no codec that both have.
///
/// The codec is the answer's first that both sides have; the payload type is the one that the peer wants to receive.
///
/// # Errors
/// `PeerMisbehaved` for what is no SDP.
///
/// ```
/// use siprtc_sdp_translator::{Answerer, negotiated_video};
/// let ours = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n\
///             m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n";
/// let theirs = ours.replace("96", "120").replace("a=rtcp-fb:120", "a=rtcp-fb:*");
/// let video = negotiated_video(ours, &theirs, Some(Answerer::Remote))?.expect("both have VP8");
/// assert_eq!(video.payload_type, 120);
/// assert!(video.feedback.pli && !video.feedback.nack);
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub fn negotiated_video(
    local: &str,
    remote: &str,
    answerer: Option<Answerer>,
) -> Result<Option<NegotiatedVideo>> {
    let (local, remote) = (Sdp::parse(local)?, Sdp::parse(remote)?);
    let is_video = |media: &Section<'_>| media.is_live() && media.media_line().media == "video";
    let mut pairs = local.media.iter().zip(&remote.media);
    let Some((ours, theirs)) = pairs.find(|(ours, theirs)| is_video(ours) && is_video(theirs)) else {
        return Ok(None);
    };
    // Offered in the audio's transport or not at all (RFC 9143 section 6).
    if ours.position("bundle-only").is_some() && remote.bundles().next().is_none() {
        return Ok(None);
    }
    let (mut offered, mut accepted) = (formats(ours), formats(theirs));
    let is_ours = match answerer {
        Some(answerer) => answerer == Answerer::Local,
        None => local_is_answer(&local, ours, &remote, theirs),
    };
    match is_ours {
        true => take_modes(&accepted, &mut offered),
        false => take_modes(&offered, &mut accepted),
    }
    let (first, second) = if is_ours {
        (&offered, &accepted)
    } else {
        (&accepted, &offered)
    };
    let is_common = |format: &&Format| second.iter().any(|other| other.is_same(format));
    let Some(chosen) = first.iter().find(is_common) else {
        return Ok(None);
    };
    let of = |list: &[Format]| list.iter().find(|format| format.is_same(chosen)).copied();
    let (Some(ours_of), Some(theirs_of)) = (of(&offered), of(&accepted)) else {
        return Ok(None);
    };
    Ok(Some(NegotiatedVideo {
        codec: chosen.codec,
        payload_type: theirs_of.payload_type,
        fragments: chosen.fragments,
        direction: direction(&local, ours, &remote, theirs),
        feedback: ours_of.feedback.and(theirs_of.feedback),
    }))
}

/// RFC 6184 section 8.2.2: an answer keeps a format's packetization mode or drops the format; one that keeps the number and says no
/// mode has taken the offer's.
fn take_modes(offer: &[Format], answer: &mut [Format]) {
    for format in answer.iter_mut().filter(|format| !format.says_mode) {
        let is_it =
            |offered: &&Format| offered.payload_type == format.payload_type && offered.codec == format.codec;
        if let Some(offered) = offer.iter().find(is_it) {
            format.fragments = offered.fragments;
        }
    }
}

#[derive(Clone, Copy)]
struct Format {
    payload_type: u8,
    codec: VideoCodec,
    fragments: bool,
    says_mode: bool,
    feedback: FeedbackKinds,
}

impl Format {
    /// RFC 6184 section 8.2.2: the packetization mode is part of an H.264 format.
    fn is_same(&self, other: &Format) -> bool {
        self.codec == other.codec && self.fragments == other.fragments
    }
}

fn formats(section: &Section<'_>) -> Vec<Format> {
    let known = |encoding: &Encoding<'_>| {
        let codec = VideoCodec::from_name(encoding.name)?;
        let parameters = about(section, "fmtp", encoding.payload_type)
            .last()
            .unwrap_or_default();
        let mode = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("packetization-mode")
                .then_some(value.trim())
        });
        let told = about(section, "rtcp-fb", encoding.payload_type);
        (encoding.clock_rate == VideoCodec::CLOCK_RATE).then(|| Format {
            payload_type: encoding.payload_type,
            codec,
            fragments: codec != VideoCodec::H264 || mode == Some("1"),
            says_mode: mode.is_some(),
            feedback: told.fold(FeedbackKinds::default(), FeedbackKinds::with),
        })
    };
    section.encodings().iter().filter_map(known).collect()
}

/// The values of `a=name:payload-type value`, and of those for every payload type.
fn about<'a>(
    section: &'a Section<'_>,
    name: &'static str,
    payload_type: u8,
) -> impl Iterator<Item = &'a str> {
    section.attributes(name).filter_map(move |value| {
        let (number, value) = value.split_once(' ')?;
        (number == "*" || number.parse() == Ok(payload_type)).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::media::Direction;

    const HEAD: &str =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n";

    fn agreed(ours: &str, theirs: &str) -> Option<NegotiatedVideo> {
        let sdp = |video: &str| format!("{HEAD}{video}");
        negotiated_video(&sdp(ours), &sdp(theirs), Some(Answerer::Remote)).unwrap()
    }

    #[test]
    fn the_answers_first_common_format_counts_with_its_packetization_mode() {
        let ours = "m=video 5 RTP/AVP 96 102 104\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:102 H264/90000\r\n\
            a=fmtp:102 packetization-mode=1\r\na=rtpmap:104 H264/90000\r\na=sendonly\r\n";
        let theirs = "m=video 5 RTP/AVP 34 104 96\r\na=rtpmap:104 h264/90000\r\na=rtpmap:96 VP8/90000\r\na=recvonly\r\n";
        let video = agreed(ours, theirs).unwrap();
        assert_eq!(
            (video.codec, video.payload_type, video.fragments),
            (VideoCodec::H264, 104, false)
        );
        assert_eq!(video.direction, Direction::SendOnly);
    }

    #[test]
    fn an_answer_that_keeps_the_number_keeps_the_mode() {
        let ours = "m=video 5 RTP/AVP 102\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1\r\n";
        assert!(
            agreed(ours, "m=video 5 RTP/AVP 102\r\na=rtpmap:102 H264/90000\r\n")
                .unwrap()
                .fragments
        );
        assert_eq!(
            agreed(ours, "m=video 5 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n"),
            None
        );
    }

    #[test]
    fn rejected_missing_and_foreign_video_is_none() {
        let ours = "m=video 5 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";
        for theirs in [
            "",
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n",
            "m=video 5 RTP/AVP 96\r\na=rtpmap:96 AV1/90000\r\n",
        ] {
            assert_eq!(agreed(ours, theirs), None, "{theirs}");
        }
    }
}
