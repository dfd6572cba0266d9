//! What a session leaves to another one that takes its place: its end of a bridge, its seat in a conference, its recordings.

use super::Work;
use crate::receive::Listener;
use crate::recorder::Recorder;
use crate::recording::Recording;
use crate::video::VideoRecorder;
use crate::{BridgeEnd, HandOver, Seat, SessionEventKind, Sink, VideoSink};
use siprtc_core::Result;
use std::fmt;
use std::sync::Arc;

/// What [`HandOver`] takes from one session, for [`Inherit`](crate::Inherit) to give to another. Dropped, the bridge
/// parts, the seat is free and the recordings are complete but for what was not written yet.
#[derive(Default)]
pub struct Estate {
    end: Option<BridgeEnd>,
    seat: Option<Arc<Seat>>,
    recording: Option<Recording>,
    recorder: Option<Box<Recorder>>,
    video: Option<VideoRecorder>,
}

impl fmt::Debug for Estate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Estate")
            .field("end", &self.end)
            .field("seat", &self.seat)
            .field("recording", &self.recording.is_some())
            .field("recorder", &self.recorder.is_some())
            .field("video", &self.video.is_some())
            .finish()
    }
}

impl Work {
    /// Everything that another session can go on with; of the sinks only files' recordings, as far as they are asked for.
    pub(crate) async fn hand_over(&mut self, wanted: HandOver) -> Estate {
        let is_joined = self.is_joined();
        let joined = self.joined.take().filter(|_| is_joined);
        if joined.is_some() {
            self.unlink();
        }
        let estate = Estate {
            end: joined.map(|(end, _)| end.passed_on()),
            seat: self.seat.take(),
            recording: self.recording.take(),
            recorder: match &self.pumps {
                _ if !wanted.with_sink => None,
                Some(pumps) => pumps.give_recorder().await,
                None => self.inherited.get_mut().take(),
            },
            video: match &self.video_pumps {
                _ if !wanted.with_video_sink => None,
                Some(pumps) => pumps.give_recorder().await,
                None => self.inherited_video.take(),
            },
        };
        self.connect();
        estate
    }

    /// Goes on with what another session has left. What it has itself it keeps.
    pub(crate) async fn inherit(&mut self, estate: Estate) -> Result<()> {
        let Estate {
            end,
            seat,
            recording,
            recorder,
            video,
        } = estate;
        match recording {
            Some(recording) if self.recording.is_none() => {
                recording.belongs_to(Arc::clone(&self.events));
                self.recording = Some(recording);
            }
            Some(second) => _ = second.finish().await,
            None => {}
        }
        if let Some(recorder) = recorder {
            self.go_on_recording(recorder).await;
        }
        if let Some(recorder) = video {
            self.go_on_recording_video(recorder).await;
        }
        let joined = end.map_or(Ok(()), |end| self.join(end));
        let seated = seat.map_or(Ok(()), |seat| self.confer(Some(seat)));
        self.connect();
        joined.and(seated)
    }

    async fn go_on_recording(&mut self, mut recorder: Box<Recorder>) {
        if !matches!(self.config.sink, Sink::Null) {
            if let Err(error) = recorder.finish().await {
                let error = Arc::new(error);
                self.events.emit(SessionEventKind::SinkFailed { error });
            }
            return;
        }
        match &self.pumps {
            Some(pumps) => pumps.take_recorder(recorder).await,
            None => *self.inherited.get_mut() = Some(recorder),
        }
    }

    /// Before video begins the recording waits for it.
    async fn go_on_recording_video(&mut self, recorder: VideoRecorder) {
        match &self.video_pumps {
            _ if self.looks() => recorder.finish().await,
            Some(pumps) => pumps.take_recorder(recorder).await,
            None => self.inherited_video = Some(recorder),
        }
    }

    /// Whether the plan of this session has somebody who looks.
    fn looks(&self) -> bool {
        self.video_plan()
            .is_some_and(|plan| !matches!(plan.sink, VideoSink::Null))
    }

    /// Who hears the peer from the beginning of its audio.
    pub(super) fn listener(&mut self) -> Listener {
        match (&self.config.sink, self.inherited.get_mut().take()) {
            (_, Some(recorder)) => Listener::Recorder(recorder),
            (Sink::File { path }, None) => Listener::Recorder(Box::new(Recorder::to_file(path))),
            (Sink::Null, None) => Listener::Nobody,
            (Sink::Samples(sink), None) => Listener::Live(Arc::clone(sink)),
        }
    }
}
