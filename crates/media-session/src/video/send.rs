//! Frames to packets, and packets that were lost once more. No I/O, no clock.

use super::VideoFrame;
use super::payload::{Payloader, Unfit};
use crate::join::VideoNumbers;
use siprtc_core::media::{NegotiatedVideo, RtpPacket};
use std::time::{Duration, Instant};

/// Packets that can be sent again: some 600 kB, at most a second of 5 Mbit/s.
const KEPT: usize = 512;
/// A packet is not sent again sooner: the peer asks by its own clock, and what it misses may be under way.
const AGAIN: Duration = Duration::from_millis(20);

/// What goes out, and what went.
pub(crate) struct Sender {
    payloader: Payloader,
    payload_type: u8,
    /// Added to the frames' own timestamps, once it is known.
    shift: Option<u32>,
    /// The next packet's number, unless a bridge was in between.
    next: Option<u16>,
    history: History,
}

impl Sender {
    pub(crate) fn new(video: NegotiatedVideo) -> Self {
        Sender {
            payloader: Payloader::new(video.codec, video.fragments, 0),
            payload_type: video.payload_type,
            shift: None,
            next: None,
            history: History::default(),
        }
    }

    /// Something else was negotiated; the stream goes on. What went under another payload type is not sent again.
    pub(crate) fn change(&mut self, video: NegotiatedVideo) {
        self.payloader = Payloader::new(video.codec, video.fragments, self.next.unwrap_or_default());
        if std::mem::replace(&mut self.payload_type, video.payload_type) != video.payload_type {
            self.history = History::default();
        }
    }

    /// Another peer receives the stream: what went to the one before is not sent again.
    pub(crate) fn forget(&mut self) {
        self.history = History::default();
    }

    /// The packets of a frame, with the next numbers of the stream.
    pub(crate) fn packets(
        &mut self,
        frame: &VideoFrame,
        numbers: &VideoNumbers,
    ) -> Result<Vec<RtpPacket>, Unfit> {
        let payloads = self.payloader.payloads(&frame.data)?;
        let last = payloads.len().saturating_sub(1);
        // A bridge that fed the stream meanwhile had timestamps of its own.
        if numbers.next() != self.next.unwrap_or(numbers.next()) {
            self.shift = None;
        }
        let packets = payloads.into_iter().enumerate().map(|(index, payload)| {
            let (sequence, timestamp) = numbers.take(frame.timestamp, &mut self.shift);
            self.next = Some(sequence.wrapping_add(1));
            let packet = RtpPacket {
                payload_type: self.payload_type,
                marker: index == last,
                sequence,
                timestamp,
                ssrc: 0,
                payload,
            };
            self.history.keep(packet.clone());
            packet
        });
        Ok(packets.collect())
    }

    /// Those of the packets that the peer missed which may be sent again now.
    pub(crate) fn again(&mut self, now: Instant, lost: &[u16]) -> Vec<RtpPacket> {
        self.history.again(now, lost)
    }
}

/// The last packets of a stream.
#[derive(Default)]
pub(crate) struct History {
    kept: Vec<Option<(RtpPacket, Option<Instant>)>>,
}

impl History {
    pub(crate) fn keep(&mut self, packet: RtpPacket) {
        if self.kept.is_empty() {
            self.kept.resize_with(KEPT, || None);
        }
        let place = usize::from(packet.sequence) % KEPT;
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = Some((packet, None));
        }
    }

    /// Whether it can be sent again.
    pub(crate) fn has(&self, number: u16) -> bool {
        let kept = self.kept.get(usize::from(number) % KEPT);
        kept.and_then(Option::as_ref)
            .is_some_and(|(packet, _)| packet.sequence == number)
    }

    pub(crate) fn again(&mut self, now: Instant, lost: &[u16]) -> Vec<RtpPacket> {
        let mut packets = Vec::new();
        for number in lost.iter().take(KEPT) {
            let kept = self.kept.get_mut(usize::from(*number) % KEPT);
            let Some((packet, sent)) = kept.and_then(Option::as_mut) else {
                continue;
            };
            let is_due = sent.is_none_or(|sent| sent + AGAIN <= now);
            if packet.sequence == *number && is_due {
                *sent = Some(now);
                packets.push(packet.clone());
            }
        }
        packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::receive::{Output, Receiver};
    use siprtc_core::media::{Direction, FeedbackKinds, VideoCodec};

    fn agreed(codec: VideoCodec) -> NegotiatedVideo {
        NegotiatedVideo {
            codec,
            payload_type: 96,
            fragments: true,
            direction: Direction::SendRecv,
            feedback: FeedbackKinds::OURS,
        }
    }

    fn frame(number: u32, length: usize) -> VideoFrame {
        let mut data = vec![0xff; length];
        data[0] = u8::from(number != 0);
        VideoFrame {
            data: data.into(),
            is_key: number == 0,
            timestamp: number * 3_000,
        }
    }

    #[test]
    fn what_is_sent_is_what_is_received_and_the_stream_goes_on_after_a_change() {
        let now = tokio::time::Instant::now().into_std();
        let stream = VideoNumbers::starting_at(65_530, 7);
        let mut sender = Sender::new(agreed(VideoCodec::Vp8));
        let mut receiver = Receiver::new(agreed(VideoCodec::Vp8));
        let mut numbers = Vec::new();
        for number in 0..4 {
            let sent = frame(number, 3_000);
            if number == 2 {
                sender.change(agreed(VideoCodec::Vp8));
            }
            for packet in sender.packets(&sent, &stream).unwrap() {
                numbers.push(packet.sequence);
                receiver.push(now, packet);
            }
            let got = std::iter::from_fn(|| receiver.poll()).find_map(|output| match output {
                Output::Frame(frame) => Some(frame),
                Output::Began | Output::Tell(_) => None,
            });
            let expected = VideoFrame {
                timestamp: sent.timestamp + 3_007,
                ..sent
            };
            assert_eq!(got, Some(expected));
        }
        assert!(
            numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)),
            "{numbers:?}"
        );
    }

    #[test]
    fn what_was_lost_is_sent_again_but_not_at_once_and_not_for_ever() {
        let now = tokio::time::Instant::now().into_std();
        let stream = VideoNumbers::starting_at(0, 0);
        let mut sender = Sender::new(agreed(VideoCodec::Vp8));
        let first = sender.packets(&frame(0, 3_000), &stream).unwrap();
        assert_eq!(sender.again(now, &[1, 2, 99]), first[1..]);
        assert_eq!(sender.again(now + AGAIN / 2, &[0, 1, 2]), first[..1]);
        assert_eq!(sender.again(now + AGAIN, &[1]), first[1..2]);
        for number in 1..200 {
            sender.packets(&frame(number, 3_000), &stream).unwrap();
        }
        assert_eq!(sender.again(now + AGAIN * 2, &[0, 1, 2]), []);
    }
}
