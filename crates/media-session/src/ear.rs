//! Whether one of several media peers of one offer is heard, and what it said while it was not.

use crate::events::Events;
use crate::queue::PacketQueue;
use crate::video::VideoQueue;
use parking_lot::Mutex;
use siprtc_core::media::{Feedback, MediaEvent, MediaEventSink, PacketSink, RtpPacket, VideoPort};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a media peer stands among those of its offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Another one is heard.
    Aside,
    /// It is heard; others may take its place. That it fails ends nothing: somebody else may answer the call.
    Heard,
    /// It is the call's.
    Sole,
}

/// Between one media peer and the session's queues.
pub(crate) struct Ear {
    queue: Arc<PacketQueue>,
    video: Arc<VideoQueue>,
    events: Arc<Events>,
    is_open: AtomicBool,
    notes: Mutex<Notes>,
}

struct Notes {
    standing: Standing,
    /// The last of each kind that nobody was told, in the order in which they came.
    untold: Vec<MediaEvent>,
}

impl Ear {
    pub(crate) fn new(
        queue: Arc<PacketQueue>,
        video: Arc<VideoQueue>,
        events: Arc<Events>,
        standing: Standing,
    ) -> Self {
        Ear {
            queue,
            video,
            events,
            is_open: AtomicBool::new(standing != Standing::Aside),
            notes: Mutex::new(Notes {
                standing,
                untold: Vec::new(),
            }),
        }
    }

    /// From now on. What is news by then is told.
    pub(crate) fn stand(&self, standing: Standing) {
        let mut notes = self.notes.lock();
        notes.standing = standing;
        self.is_open.store(standing != Standing::Aside, Ordering::Release);
        let told: Vec<MediaEvent>;
        (told, notes.untold) = std::mem::take(&mut notes.untold)
            .into_iter()
            .partition(|event| is_told(standing, event));
        for event in told {
            self.events.emit_media(event);
        }
    }
}

/// What a peer found concerns the offer, which is everybody's; that it is closed, nobody but who closed it.
fn is_told(standing: Standing, event: &MediaEvent) -> bool {
    match event {
        MediaEvent::Candidate(_) | MediaEvent::Gathered => true,
        MediaEvent::Failed(_) | MediaEvent::Closed => standing == Standing::Sole,
        _ => standing != Standing::Aside,
    }
}

impl PacketSink for Ear {
    fn push(&self, packet: RtpPacket) {
        if self.is_open.load(Ordering::Acquire) {
            self.queue.push(packet);
        }
    }
}

impl VideoPort for Ear {
    fn push(&self, packet: RtpPacket) {
        if self.is_open.load(Ordering::Acquire) {
            VideoPort::push(&*self.video, packet);
        }
    }

    fn feedback(&self, feedback: Feedback) {
        if self.is_open.load(Ordering::Acquire) {
            self.video.feedback(feedback);
        }
    }
}

impl MediaEventSink for Ear {
    fn emit(&self, event: MediaEvent) {
        let mut notes = self.notes.lock();
        if is_told(notes.standing, &event) {
            return self.events.emit_media(event);
        }
        tracing::debug!(call_id = %self.events.call, session = %self.events.session, ?event, "of a fork");
        let kind = std::mem::discriminant(&event);
        notes.untold.retain(|known| std::mem::discriminant(known) != kind);
        notes.untold.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::ice::IceState;
    use std::collections::VecDeque;

    fn ear(standing: Standing) -> (Arc<PacketQueue>, Ear) {
        let events = Arc::new(Events::nowhere());
        let queue = Arc::new(PacketQueue::new(events.clone()));
        (queue.clone(), Ear::new(queue, Arc::default(), events, standing))
    }

    fn untold(ear: &Ear) -> String {
        format!("{:?}", ear.notes.lock().untold)
    }

    #[test]
    fn what_a_fork_says_waits_until_it_is_heard_and_its_failure_until_it_is_the_calls() {
        let (_, ear) = ear(Standing::Aside);
        ear.emit(MediaEvent::Ice(IceState::Checking));
        ear.emit(MediaEvent::Gathered);
        ear.emit(MediaEvent::Ice(IceState::Connected));
        ear.emit(MediaEvent::Failed("late".into()));
        assert_eq!(untold(&ear), "[Ice(Connected), Failed(\"late\")]");
        ear.stand(Standing::Heard);
        assert_eq!(untold(&ear), "[Failed(\"late\")]");
        ear.stand(Standing::Sole);
        assert_eq!(untold(&ear), "[]");
    }

    #[test]
    fn packets_of_a_fork_are_heard_only_while_it_is() {
        let (queue, ear) = ear(Standing::Aside);
        let packet = RtpPacket {
            payload_type: 0,
            marker: false,
            sequence: 1,
            timestamp: 0,
            ssrc: 1,
            payload: bytes::Bytes::new(),
        };
        PacketSink::push(&ear, packet.clone());
        let mut batch = VecDeque::new();
        queue.drain(&mut batch);
        assert_eq!(batch.len(), 0);
        ear.stand(Standing::Heard);
        PacketSink::push(&ear, packet);
        queue.drain(&mut batch);
        assert_eq!(batch.len(), 1);
    }
}
