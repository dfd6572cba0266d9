//! What descriptions say of codecs and video, and how it changes within a call.

use super::{Work, check_folder, opened};
use crate::codec;
use crate::video::{VideoEnds, VideoPumps, names_a_file};
use crate::{MediaChange, SessionEventKind, Sink, Source, VideoPlan};
use siprtc_core::media::{Codec, Direction, NegotiatedVideo, VideoCodec};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// What the next description says.
pub(super) struct Terms {
    /// `None`: the peer's own, from its beginning.
    pub(super) codecs: Option<Vec<Codec>>,
    /// The plan, and what its source has.
    pub(super) video: Option<(Arc<VideoPlan>, Vec<VideoCodec>)>,
    /// The plan of the beginning, which a change may lead back to.
    first: Option<Arc<VideoPlan>>,
    /// Which way audio was to flow at the beginning.
    direction: Direction,
    is_changed: bool,
    /// The plan whose pumps run.
    running: Option<Arc<VideoPlan>>,
}

impl Terms {
    pub(super) fn new(direction: Direction, plan: Option<&VideoPlan>) -> Self {
        Terms {
            codecs: None,
            video: None,
            first: plan.cloned().map(Arc::new),
            direction,
            is_changed: false,
            running: None,
        }
    }

    /// For the first description; what was changed before it holds.
    pub(super) async fn begin(&mut self) -> Result<()> {
        if !self.is_changed {
            self.video = usable(self.first.clone()).await?;
        }
        Ok(())
    }

    /// The plan that comes with `change`.
    fn plan(&self, change: &MediaChange) -> Option<Arc<VideoPlan>> {
        change.video.clone().unwrap_or_else(|| self.first.clone())
    }
}

impl Work {
    pub(crate) async fn set_media(&mut self, change: Arc<MediaChange>) -> Result<()> {
        self.terms.video = usable(self.terms.plan(&change)).await?;
        self.wanted = change.direction.unwrap_or(self.terms.direction);
        self.terms.is_changed = true;
        let is_to_be_said = change.codecs.is_some() || self.terms.codecs.is_some();
        let codecs = || {
            change
                .codecs
                .clone()
                .unwrap_or_else(|| self.config.codecs.clone())
        };
        self.terms.codecs = is_to_be_said.then(codecs);
        Ok(())
    }

    pub(crate) async fn check_media(&self, change: &MediaChange) -> Result<()> {
        usable(self.terms.plan(change)).await.map(drop)
    }

    pub(crate) async fn set_audio(&mut self, source: Source, sink: Sink) -> Result<()> {
        let is_other_source = !self.config.source.is_same(&source);
        let is_other_sink = !self.config.sink.is_same(&sink);
        if !is_other_source && !is_other_sink {
            return Ok(());
        }
        let feed = opened(&source, &sink).await?;
        if is_other_source {
            self.config.source = source;
            if let Some(pumps) = &self.pumps {
                pumps.play(feed);
            }
        }
        if !is_other_sink {
            return Ok(());
        }
        self.config.sink = sink;
        let Some(pumps) = self.pumps.take() else {
            return Ok(());
        };
        let finished = pumps.listen(self.listener()).await;
        self.pumps = Some(pumps);
        if let Err(error) = finished {
            let error = Arc::new(error);
            self.events.emit(SessionEventKind::SinkFailed { error });
        }
        Ok(())
    }

    pub(crate) fn mute(&mut self, muted: bool) -> Result<()> {
        self.is_muted = muted;
        self.connect();
        Ok(())
    }

    /// The plan that was said last.
    pub(super) fn video_plan(&self) -> Option<Arc<VideoPlan>> {
        self.terms.video.as_ref().map(|(plan, _)| Arc::clone(plan))
    }

    /// Video as it was negotiated: with pumps of the plan that was offered or answered with.
    pub(super) async fn begin_video(&mut self, video: Option<NegotiatedVideo>) -> Result<()> {
        self.video = video;
        let plan = self.video_plan();
        let is_same = match (&self.terms.running, &plan) {
            (Some(running), Some(plan)) => Arc::ptr_eq(running, plan),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if !is_same && let Some(pumps) = self.video_pumps.take() {
            pumps.stop().await;
            self.terms.running = None;
        }
        if let Some(pumps) = &self.video_pumps {
            pumps.change(video);
        } else if let (Some(video), Some(plan)) = (video, plan) {
            let ends = VideoEnds {
                peer: self.existing_peer()?,
                recorder: self.inherited_video.take(),
                plan: (*plan).clone(),
                queue: Arc::clone(&self.video_queue),
                numbers: Arc::clone(&self.video_numbers),
                events: Arc::clone(&self.events),
            };
            self.video_pumps = Some(VideoPumps::start(ends, video));
            self.terms.running = Some(plan);
        }
        if let Some(video) = video {
            tracing::info!(
                call_id = %self.events.call, session = %self.events.session,
                codec = %video.codec, direction = %video.direction, "video"
            );
        }
        Ok(())
    }
}

/// The plan with the codecs that its source has, once its files are found to be there.
async fn usable(plan: Option<Arc<VideoPlan>>) -> Result<Option<(Arc<VideoPlan>, Vec<VideoCodec>)>> {
    let Some(plan) = plan else {
        return Ok(None);
    };
    let checked = spawn_blocking(move || {
        if let Some(path) = names_a_file(&plan.sink) {
            check_folder(path)?;
        }
        let codecs = plan.usable_codecs()?;
        Ok(Some((plan, codecs)))
    });
    checked.await.unwrap_or_else(|error| {
        Err(Error::new(Fault::Backend, "check video files", "the checking thread ended").caused_by(error))
    })
}

/// Packets of this length are asked for: the engines say nothing of it. What everybody takes is not said (RFC 3551 section 4.2).
pub(super) fn with_packet_time(sdp: String, ptime: u32) -> String {
    const DEFAULT: u32 = 20;
    if ptime == DEFAULT {
        return sdp;
    }
    let mut told = String::with_capacity(sdp.len() + 32);
    let mut is_audio = false;
    for line in sdp.split_inclusive('\n').chain([""]) {
        let ends = line.is_empty() || line.starts_with("m=");
        if ends && std::mem::take(&mut is_audio) {
            told.push_str(&format!("a=ptime:{}\r\n", codec::usable_ptime(ptime)));
        }
        is_audio |= line.starts_with("m=audio ") && !line.starts_with("m=audio 0 ");
        if !(is_audio && line.starts_with("a=ptime:")) {
            told.push_str(line);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_time_of_our_own_is_said_once_of_audio_that_is_there() {
        let sdp =
            "v=0\r\nm=audio 9 X 0\r\na=ptime:20\r\na=mid:0\r\nm=video 9 X 96\r\na=mid:1\r\nm=audio 0 X 0\r\n";
        assert_eq!(with_packet_time(sdp.to_owned(), 20), sdp);
        let told = with_packet_time(sdp.to_owned(), 40);
        let wanted =
            "v=0\r\nm=audio 9 X 0\r\na=mid:0\r\na=ptime:40\r\nm=video 9 X 96\r\na=mid:1\r\nm=audio 0 X 0\r\n";
        assert_eq!(told, wanted);
        let last = with_packet_time("m=audio 9 X 0\r\n".to_owned(), 60);
        assert_eq!(last, "m=audio 9 X 0\r\na=ptime:60\r\n");
    }
}
