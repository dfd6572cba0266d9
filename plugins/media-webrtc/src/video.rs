//! Video beside the one audio that the library knows of.
//!
//! The library sees no video section, ever: of the peer's it is shown a rejected one, and ours is written here. In one BUNDLE
//! group the sections share ICE, DTLS and SRTP (RFC 9143), which are the audio's, so that nothing is missing; and video comes
//! and goes within a call without the library, which cannot give a transceiver back.

use siprtc_core::media::{Direction, FeedbackKinds, VideoWish};
use siprtc_core::{Error, Fault, Result};
use siprtc_rtp::sdp::{audio_lines, map_lines};
use siprtc_rtp::video::{self, VideoFormat, VideoSection};
use std::fmt::Write as _;

const BUNDLE: &str = "a=group:BUNDLE ";
/// What a video section repeats of the audio's: they are one transport.
const TRANSPORT: [&str; 4] = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:"];

/// Where the call's video stands in every description, once it has been there.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    at: usize,
    mid: String,
}

/// Video between the steps of offer and answer.
#[derive(Debug, Default)]
pub(crate) struct Video {
    /// Whether the peer was made for it.
    is_possible: bool,
    /// Ours, in our order.
    ours: Vec<VideoFormat>,
    wanted: Option<Direction>,
    place: Option<Place>,
    /// What our last offer had.
    offering: Vec<VideoFormat>,
    /// In use, under the peer's numbers.
    current: Vec<VideoFormat>,
    /// Of the remote offer that waits for our answer.
    offered: Option<VideoSection>,
    /// Told beside the section: `cname` and SSRC.
    source: String,
}

impl Video {
    /// Of a stream with this SSRC, if the peer was made for video.
    pub(crate) fn new(ssrc: Option<u32>, cname: &str) -> Self {
        Video {
            is_possible: ssrc.is_some(),
            source: ssrc.map_or_else(String::new, |ssrc| format!("a=ssrc:{ssrc} cname:{cname}\r\n")),
            ..Video::default()
        }
    }

    /// As our offer has it, and no answer yet.
    pub(crate) fn fork(&self) -> Self {
        Video {
            is_possible: self.is_possible,
            ours: self.ours.clone(),
            wanted: self.wanted,
            place: self.place.clone(),
            offering: self.offering.clone(),
            source: self.source.clone(),
            ..Video::default()
        }
    }

    pub(crate) fn set_wanted(&mut self, wish: Option<VideoWish>) -> Result<()> {
        if wish.is_some() && !self.is_possible {
            return Err(
                Error::new(Fault::ApiMisuse, "set video", "the peer was made without video")
                    .backend(crate::NAME)
                    .advice("give it PeerConfig::video"),
            );
        }
        self.wanted = wish.as_ref().map(|wish| wish.direction);
        if let Some(wish) = wish {
            self.ours = video::formats(&wish.codecs);
        }
        Ok(())
    }

    /// In use, under the peer's numbers.
    pub(crate) fn current(&self) -> &[VideoFormat] {
        &self.current
    }

    /// What peer and we understand about what is in use.
    pub(crate) fn feedback(&self) -> FeedbackKinds {
        self.current
            .first()
            .map_or_else(FeedbackKinds::default, |format| format.feedback)
    }

    /// The element of the peer's packets by which it is told when they came.
    pub(crate) fn transport_sequence(&self) -> Option<u8> {
        self.current.first()?.transport_sequence
    }

    /// The peer's offer as the library may see it.
    pub(crate) fn hide_offer(&mut self, sdp: &str) -> String {
        self.offered = VideoSection::read(sdp).filter(|_| self.is_possible);
        match &self.offered {
            Some(section) => without(sdp, section, usize::MAX),
            None => sdp.to_owned(),
        }
    }

    /// The peer's answer as the library may see it, whose own offer had this many m-lines; and whether it has video.
    pub(crate) fn hide_answer(&self, sdp: &str, lines: usize) -> String {
        match (&self.place, VideoSection::read(sdp)) {
            (Some(_), Some(section)) => without(sdp, &section, lines),
            (Some(place), None) if place.at >= lines => cut(sdp, place.at),
            _ => sdp.to_owned(),
        }
    }

    /// The peer's answer to our offer is set.
    pub(crate) fn was_answered(&mut self, sdp: &str) {
        let section = VideoSection::read(sdp).filter(|section| section.is_bundled);
        let section =
            section.filter(|section| self.place.as_ref().is_some_and(|place| place.at == section.at));
        self.current = section.map_or_else(Vec::new, |section| {
            let answered = video::answered(&self.offering, &section.formats);
            video::common(&self.ours, &answered)
        });
    }

    /// Our answer is set.
    pub(crate) fn answered(&mut self, is_final: bool) {
        self.current = self.common().unwrap_or_default();
        if let Some(section) = &self.offered {
            self.place = section.mid.clone().map(|mid| Place { at: section.at, mid });
        }
        if is_final {
            self.offered = None;
        }
    }

    pub(crate) fn rollback(&mut self) {
        self.offered = None;
    }

    /// Common with the pending offer; `None`: its video is not for us.
    fn common(&self) -> Option<Vec<VideoFormat>> {
        let section = self.offered.as_ref().filter(|section| section.is_bundled)?;
        self.wanted?;
        Some(video::common(&self.ours, &section.formats)).filter(|common| !common.is_empty())
    }

    /// Our answer with its video section.
    pub(crate) fn answer(&self, sdp: &str) -> String {
        let (Some(section), Some(common), Some(wanted)) = (&self.offered, self.common(), self.wanted) else {
            return sdp.to_owned();
        };
        let Some(mid) = section.mid.clone() else {
            return sdp.to_owned();
        };
        let place = Place { at: section.at, mid };
        self.put(sdp, &place, &common, section.direction.answer(wanted))
    }

    /// Our offer with its video section. An m-line that has been there stays (RFC 3264 section 8): rejected, if there is to be no
    /// video.
    pub(crate) fn offer(&mut self, sdp: &str, taken: &[u8]) -> String {
        let Some(direction) = self.wanted else {
            return match &self.place {
                Some(place) => self.reject(sdp, place),
                None => sdp.to_owned(),
            };
        };
        let lines = sdp.lines().filter(|line| line.starts_with("m=")).count();
        let place = self.place.get_or_insert_with(|| Place {
            at: lines,
            mid: fresh_mid(sdp, lines),
        });
        let place = place.clone();
        let formats = video::offer(&self.ours, &self.current, taken);
        self.offering.clone_from(&formats);
        self.put(sdp, &place, &formats, direction)
    }

    fn put(&self, sdp: &str, place: &Place, formats: &[VideoFormat], direction: Direction) -> String {
        let mut section = String::new();
        // RFC 9143 section 7.2.1 wants a port of its own here, or a=bundle-only and port 0, with which a call with Asterisk 22 came to
        // have no video. Both m-lines have the one port that there is; who knows no BUNDLE gets no video.
        let port = audio_port(sdp);
        let numbers = video::numbers(formats);
        let _ = write!(section, "m=video {port} UDP/TLS/RTP/SAVPF{numbers}\r\n");
        if let Some(line) = audio_lines(sdp).filter(|line| line.starts_with("c=")).last() {
            let _ = write!(section, "{line}\r\n");
        }
        let _ = write!(section, "a=mid:{}\r\na={direction}\r\na=rtcp-mux\r\n", place.mid);
        for prefix in TRANSPORT {
            if let Some(line) = audio_lines(sdp).filter(|line| line.starts_with(prefix)).last() {
                let _ = write!(section, "{line}\r\n");
            }
        }
        section.push_str(&video::lines(formats));
        section.push_str(&self.source);
        grouped(&replaced(sdp, place.at, &section), &place.mid)
    }

    fn reject(&self, sdp: &str, place: &Place) -> String {
        replaced(sdp, place.at, &rejected(&place.mid))
    }
}

/// As little as a rejected section can say (RFC 3264 section 6), in words that the library understands.
fn rejected(mid: &str) -> String {
    format!("m=video 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\na=inactive\r\n")
}

/// Without the video: rejected where the library, whose offer has this many m-lines, knows of an m-line, else not there.
fn without(sdp: &str, section: &VideoSection, lines: usize) -> String {
    let mid = section.mid.as_deref().unwrap_or_default();
    let sdp = ungrouped(sdp, mid);
    match section.at < lines {
        true => replaced(&sdp, section.at, &rejected(mid)),
        false => cut(&sdp, section.at),
    }
}

/// The description without this section.
fn cut(sdp: &str, at: usize) -> String {
    replaced(sdp, at, "")
}

/// The description with this section in the place of another, or at its end.
fn replaced(sdp: &str, at: usize, section: &str) -> String {
    let mut lines = 0;
    let mut is_there = false;
    let mut sdp = map_lines(sdp, |line| {
        let is_head = line.starts_with("m=");
        lines += usize::from(is_head);
        if lines != at + 1 {
            return Some(line.to_owned());
        }
        is_there = true;
        is_head.then(|| section.trim_end().to_owned())
    });
    if !is_there {
        sdp.push_str(section);
    }
    sdp
}

fn grouped(sdp: &str, mid: &str) -> String {
    map_lines(sdp, |line| {
        let is_missing = |group: &str| !group.split_ascii_whitespace().any(|other| other == mid);
        Some(match line.strip_prefix(BUNDLE) {
            Some(group) if is_missing(group) => format!("{line} {mid}"),
            _ => line.to_owned(),
        })
    })
}

fn ungrouped(sdp: &str, mid: &str) -> String {
    map_lines(sdp, |line| {
        let Some(group) = line.strip_prefix(BUNDLE) else {
            return Some(line.to_owned());
        };
        let others: Vec<&str> = group
            .split_ascii_whitespace()
            .filter(|other| *other != mid)
            .collect();
        Some(format!("{BUNDLE}{}", others.join(" ")))
    })
}

fn audio_port(sdp: &str) -> String {
    let port = audio_lines(sdp).find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next());
    port.unwrap_or("9").to_owned()
}

fn fresh_mid(sdp: &str, at: usize) -> String {
    let is_taken = |mid: &str| {
        sdp.lines()
            .any(|line| line.trim_end().strip_prefix("a=mid:") == Some(mid))
    };
    let own = at.to_string();
    if is_taken(&own) { format!("video{at}") } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::media::VideoCodec;

    const OURS: &str = "v=0\r\na=group:BUNDLE 0\r\na=fingerprint:sha-256 AA\r\nm=audio 5000 UDP/TLS/RTP/SAVPF 111\r\n\
        c=IN IP4 192.0.2.1\r\na=mid:0\r\na=setup:actpass\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n";
    const OFFER: &str = "v=0\r\na=group:BUNDLE a v\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 120 121\r\na=mid:v\r\na=sendonly\r\na=rtpmap:120 VP8/90000\r\na=rtpmap:121 VP9/90000\r\n";

    fn video(wanted: Option<Direction>) -> Video {
        let mut video = Video::new(Some(7), "us");
        let wish = wanted.map(|direction| VideoWish {
            direction,
            codecs: vec![VideoCodec::Vp8],
        });
        video.set_wanted(wish).unwrap();
        video
    }

    #[test]
    fn an_offer_has_video_in_the_audios_transport() {
        let mut video = video(Some(Direction::SendRecv));
        let offer = video.offer(OURS, &[111]);
        let section = VideoSection::read(&offer).unwrap();
        assert!(section.is_bundled && !section.is_bundle_only);
        assert_eq!(section.port, 5000);
        assert_eq!((section.at, section.mid.as_deref()), (1, Some("1")));
        for line in [
            "a=setup:actpass",
            "a=ice-ufrag:u",
            "a=ice-pwd:p",
            "c=IN IP4 192.0.2.1",
        ] {
            assert_eq!(offer.matches(line).count(), 2, "{line} in {offer}");
        }
        assert_eq!(offer.matches("a=candidate").count(), 1);
        assert_eq!(
            offer.matches("a=fingerprint").count(),
            2,
            "of the session and of the section: {offer}"
        );
    }

    #[test]
    fn an_answer_to_our_offer_is_hidden_and_remembered() {
        let mut video = video(Some(Direction::SendRecv));
        video.offer(OURS, &[]);
        let answer = OFFER
            .replace("mid:a", "mid:0")
            .replace("mid:v", "mid:1")
            .replace("BUNDLE a v", "BUNDLE 0 1");
        let shown = video.hide_answer(&answer, 1);
        assert!(
            !shown.contains("video") && shown.contains("a=group:BUNDLE 0\r\n"),
            "{shown}"
        );
        video.was_answered(&answer);
        assert_eq!(video.current().len(), 1);
        assert_eq!(video.current()[0].payload_type, 120);
        // Then it is offered under the peer's number, with a port.
        let offer = VideoSection::read(&video.offer(OURS, &[])).unwrap();
        assert_eq!((offer.port, offer.formats[0].payload_type), (5000, 120));
    }

    #[test]
    fn an_answer_that_rejects_video_or_bundle_leaves_audio() {
        for answer in [
            OFFER
                .replace("m=video 9", "m=video 0")
                .replace("BUNDLE a v", "BUNDLE a"),
            OFFER.replace("BUNDLE a v", "BUNDLE a"),
        ] {
            let mut video = video(Some(Direction::SendRecv));
            video.offer(OURS, &[]);
            let shown = video.hide_answer(&answer, 1);
            assert_eq!(shown.matches("m=").count(), 1, "{shown}");
            video.was_answered(&answer);
            assert!(video.current().is_empty());
        }
    }

    #[test]
    fn an_offer_is_answered_with_what_is_wanted_and_common() {
        let mut video = video(Some(Direction::SendRecv));
        let shown = video.hide_offer(OFFER);
        assert!(
            shown.contains("m=video 0 ") && shown.contains("a=group:BUNDLE a\r\n"),
            "{shown}"
        );
        let library = "v=0\r\na=group:BUNDLE a\r\nm=audio 5000 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=setup:active\r\n\
            m=video 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:v\r\n";
        let section = VideoSection::read(&video.answer(library)).unwrap();
        assert_eq!(
            (section.at, section.port, section.direction),
            (1, 5000, Direction::RecvOnly)
        );
        assert_eq!(section.formats.len(), 1);
        assert!(section.is_bundled);
        video.answered(true);
        assert_eq!(video.current()[0].payload_type, 120);
        // Nobody offers it any more: the m-line stays, rejected.
        video.set_wanted(None).unwrap();
        let offer = video.offer(library, &[]);
        assert!(
            offer.ends_with("m=video 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:v\r\na=inactive\r\n"),
            "{offer}"
        );
    }

    #[test]
    fn what_is_not_wanted_is_not_answered() {
        let mut video = video(None);
        video.hide_offer(OFFER);
        let library = "v=0\r\nm=audio 5 X 0\r\nm=video 0 X 0\r\na=mid:v\r\n";
        assert_eq!(video.answer(library), library);
        video.answered(true);
        assert!(video.current().is_empty());
    }
}
