//! Video through a bridge: packets of one peer go to the other with other numbers, and what that one says of them comes back.

use crate::events::Events;
use crate::video::{History, VideoQueue};
use parking_lot::Mutex;
use siprtc_core::media::{Feedback, MediaPeer, NegotiatedVideo, RtpPacket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Between the last packet of one source and the first of the next, as 30 pictures a second have it.
const STEP: u32 = 3_000;

/// The numbers of the stream that goes to one peer, whoever feeds it.
pub(crate) struct VideoNumbers {
    state: Mutex<Numbers>,
    lent: AtomicBool,
}

#[derive(Clone, Copy)]
struct Numbers {
    /// The next packet's.
    sequence: u16,
    /// The last packet's.
    timestamp: u32,
}

impl VideoNumbers {
    /// RFC 3550 section 5.1: both begin anywhere.
    pub(crate) fn starting_at(sequence: u16, timestamp: u32) -> Self {
        VideoNumbers {
            state: Mutex::new(Numbers { sequence, timestamp }),
            lent: AtomicBool::new(false),
        }
    }

    /// Whether a bridge feeds the stream.
    pub(crate) fn is_lent(&self) -> bool {
        self.lent.load(Ordering::Acquire)
    }

    /// The next packet's number.
    pub(crate) fn next(&self) -> u16 {
        self.state.lock().sequence
    }

    /// The numbers of a packet `timestamp` of a source whose timestamps are shifted by `shift`; the source's first has none yet.
    pub(crate) fn take(&self, timestamp: u32, shift: &mut Option<u32>) -> (u16, u32) {
        let mut numbers = self.state.lock();
        let next = numbers.timestamp.wrapping_add(STEP);
        let shift = *shift.get_or_insert(next.wrapping_sub(timestamp));
        let sequence = numbers.sequence;
        numbers.sequence = sequence.wrapping_add(1);
        numbers.timestamp = timestamp.wrapping_add(shift);
        (sequence, numbers.timestamp)
    }
}

/// One direction of a bridge.
#[derive(Default)]
pub(crate) struct VideoWay {
    open: Mutex<Option<Open>>,
}

struct Open {
    from: Outlook,
    to: Outlook,
    source: Option<Source>,
    history: History,
}

/// One side's peer, and what was agreed with it.
#[derive(Clone)]
pub(crate) struct Outlook {
    pub(crate) peer: Arc<dyn MediaPeer>,
    pub(crate) video: NegotiatedVideo,
    pub(crate) numbers: Arc<VideoNumbers>,
    /// Where its packets come in: whoever reads there asks the peer for key frames.
    pub(crate) queue: Arc<VideoQueue>,
    pub(crate) events: Arc<Events>,
}

/// A stream that comes.
struct Source {
    ssrc: u32,
    /// Added to its numbers.
    sequence: u16,
    timestamp: u32,
    /// The highest that went on.
    highest: u16,
}

impl Outlook {
    /// Whether packets need nothing but other numbers.
    pub(crate) fn passes_to(&self, to: &Outlook) -> bool {
        let (from, to) = (self.video, to.video);
        from.codec == to.codec
            && (to.fragments || !from.fragments)
            && from.direction.receives()
            && to.direction.sends()
    }
}

impl VideoWay {
    /// From now on packets go; nothing was shown yet, so a key frame is asked for.
    pub(crate) fn open(&self, from: Outlook, to: Outlook) {
        to.numbers.lent.store(true, Ordering::Release);
        let source = Arc::clone(&from.queue);
        *self.open.lock() = Some(Open {
            from,
            to,
            source: None,
            history: History::default(),
        });
        source.has_onlooker();
    }

    /// The one who receives it is another from now on.
    pub(crate) fn begin_anew(&self) {
        let mut open = self.open.lock();
        let Some(way) = &mut *open else { return };
        // Packets that the one before missed are nothing to this one.
        way.history = History::default();
        let source = Arc::clone(&way.from.queue);
        drop(open);
        source.has_onlooker();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.lock().is_some()
    }

    pub(crate) fn close(&self) {
        if let Some(open) = self.open.lock().take() {
            open.to.numbers.lent.store(false, Ordering::Release);
            open.from.queue.is_taken_no_more();
        }
    }

    /// Sends a packet on. Called on the engine's task: it does not wait.
    pub(crate) fn forward(&self, packet: RtpPacket) {
        let mut open = self.open.lock();
        let Some(open) = open
            .as_mut()
            .filter(|open| open.from.video.payload_type == packet.payload_type)
        else {
            return;
        };
        let is_same = |source: &Source| {
            let jump = packet
                .sequence
                .wrapping_sub(source.highest.wrapping_sub(source.sequence)) as i16;
            source.ssrc == packet.ssrc && jump.unsigned_abs() < 3_000
        };
        if !open.source.as_ref().is_some_and(is_same) {
            let mut state = open.to.numbers.state.lock();
            let next = state.timestamp.wrapping_add(STEP);
            open.source = Some(Source {
                ssrc: packet.ssrc,
                sequence: state.sequence.wrapping_sub(packet.sequence),
                timestamp: next.wrapping_sub(packet.timestamp),
                highest: state.sequence,
            });
            state.timestamp = next;
        }
        let Some(source) = &mut open.source else { return };
        let sequence = packet.sequence.wrapping_add(source.sequence);
        let timestamp = packet.timestamp.wrapping_add(source.timestamp);
        if sequence.wrapping_sub(source.highest) as i16 >= 0 {
            source.highest = sequence;
            let mut state = open.to.numbers.state.lock();
            state.sequence = sequence.wrapping_add(1);
            state.timestamp = timestamp;
        }
        let packet = RtpPacket {
            payload_type: open.to.video.payload_type,
            sequence,
            timestamp,
            ..packet
        };
        open.history.keep(packet.clone());
        if let Err(error) = open.to.peer.send_video(packet) {
            tracing::trace!(%error, "a video packet is not passed on");
        }
    }

    /// What the one who receives it says. What we have no more is the sender's to send again.
    /// `Err`: the way is closed, and this is somebody else's.
    pub(crate) fn feedback(&self, now: Instant, feedback: Feedback) -> Result<(), Feedback> {
        let mut open = self.open.lock();
        let Some(way) = &mut *open else {
            return Err(feedback);
        };
        let (mut again, mut onward) = (Vec::new(), feedback);
        if let Feedback::Lost(lost) = &mut onward {
            again = way.history.again(now, lost);
            let shift = way.source.as_ref().map_or(0, |source| source.sequence);
            lost.retain(|number| !way.history.has(*number));
            lost.iter_mut()
                .for_each(|number| *number = number.wrapping_sub(shift));
        }
        if let Feedback::Bitrate(rate) = &mut onward {
            *rate = way.from.queue.is_taken(*rate);
        }
        let (from, to) = (way.from.peer.clone(), way.to.peer.clone());
        // The peers have locks of their own, and their tasks come here with them.
        drop(open);
        for packet in again {
            let _ = to.send_video(packet); // It is asked for again.
        }
        if onward != Feedback::Lost(Vec::new())
            && let Err(error) = from.send_feedback(onward)
        {
            tracing::trace!(%error, "feedback is not passed on");
        }
        Ok(())
    }
}

impl Drop for VideoWay {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
#[path = "video_tests.rs"]
mod tests;
