//! Video of a session: taken from files or the application, given to files or the application, as it was encoded.

mod estimate;
mod file;
mod payload;
mod pump;
mod queue;
mod receive;
mod recorder;
mod send;
mod source;

pub(crate) use pump::{VideoEnds, VideoPumps};
#[cfg(test)]
pub(crate) use queue::Came;
pub(crate) use queue::{Relays, VideoQueue};
pub(crate) use recorder::VideoRecorder;
pub(crate) use send::History;

use bytes::Bytes;
use siprtc_core::Result;
use siprtc_core::media::{Direction, TransportStats, VideoCodec};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One encoded picture: a VP8 or VP9 frame, or the NAL units of an H.264 picture with start codes between them (annex B).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VideoFrame {
    /// As the encoder made it.
    pub data: Bytes,
    /// A decoder can begin with it.
    pub is_key: bool,
    /// In 1/90000 s, from any beginning.
    pub timestamp: u32,
}

/// What a call shows and where what it sees goes.
#[derive(Clone, Debug)]
pub struct VideoPlan {
    /// Codecs to offer and to accept, best first; none: what the configuration names. A file's own codec alone is offered for a
    /// file.
    pub codecs: Vec<VideoCodec>,
    /// What is sent.
    pub source: VideoSource,
    /// What becomes of what is received.
    pub sink: VideoSink,
    /// Which way video shall flow, from our side.
    pub direction: Direction,
}

impl VideoPlan {
    /// Whether it would go on where the other one is.
    pub fn is_same(&self, other: &VideoPlan) -> bool {
        let is_same_source = match (&self.source, &other.source) {
            (
                VideoSource::File { path, repeat },
                VideoSource::File {
                    path: other,
                    repeat: again,
                },
            ) => (path, repeat) == (other, again),
            (VideoSource::Frames(one), VideoSource::Frames(other)) => Arc::ptr_eq(one, other),
            (VideoSource::None, VideoSource::None) => true,
            _ => false,
        };
        let is_same_sink = match (&self.sink, &other.sink) {
            (VideoSink::File { path }, VideoSink::File { path: other }) => path == other,
            (VideoSink::Frames(one), VideoSink::Frames(other)) => Arc::ptr_eq(one, other),
            (VideoSink::Null, VideoSink::Null) => true,
            _ => false,
        };
        is_same_source && is_same_sink && (&self.codecs, self.direction) == (&other.codecs, other.direction)
    }

    /// Both ways, in the codecs that the configuration names.
    pub fn new(source: VideoSource, sink: VideoSink) -> Self {
        VideoPlan {
            codecs: Vec::new(),
            source,
            sink,
            direction: Direction::SendRecv,
        }
    }

    /// The same with these codecs, if it names none.
    #[must_use]
    pub fn or_codecs(mut self, codecs: &[VideoCodec]) -> Self {
        if self.codecs.is_empty() {
            self.codecs = codecs.to_vec();
        }
        self
    }

    /// The codecs that can be offered: a file is sent as it is.
    ///
    /// # Errors
    /// [`Fault::ConfigInvalid`](siprtc_core::Fault) when the file cannot be read.
    pub(crate) fn usable_codecs(&self) -> Result<Vec<VideoCodec>> {
        let VideoSource::File { path, .. } = &self.source else {
            return Ok(self.codecs.clone());
        };
        let (_, codec) = file::Reader::open(path)?;
        Ok(vec![codec])
    }
}

/// Where the video comes from that we send.
#[derive(Clone)]
pub enum VideoSource {
    /// An IVF file with VP8 or VP9, or an H.264 byte stream (annex B, 30 pictures a second).
    File {
        /// The file.
        path: PathBuf,
        /// Begin anew at its end. Otherwise nothing follows and
        /// [`VideoSourceEnded`](crate::SessionEventKind::VideoSourceEnded) is reported.
        repeat: bool,
    },
    /// The application's own encoder.
    Frames(Arc<dyn FrameSource>),
    /// Nothing.
    None,
}

impl fmt::Debug for VideoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VideoSource::File { path, repeat } => f
                .debug_struct("File")
                .field("path", path)
                .field("repeat", repeat)
                .finish(),
            VideoSource::Frames(_) => f.write_str("Frames"),
            VideoSource::None => f.write_str("None"),
        }
    }
}

/// Where the video goes to that we receive.
#[derive(Clone)]
pub enum VideoSink {
    /// IVF for VP8 and VP9, a byte stream for H.264; readable at any time while it grows. When the codec changes in the call, the
    /// file ends.
    File {
        /// The file; its folder must exist. An older file of this name is replaced.
        path: PathBuf,
    },
    /// The application's own decoder.
    Frames(Arc<dyn FrameSink>),
    /// Nobody looks: packets are counted and judged, key frames are not asked for.
    Null,
}

impl fmt::Debug for VideoSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VideoSink::File { path } => f.debug_struct("File").field("path", path).finish(),
            VideoSink::Frames(_) => f.write_str("Frames"),
            VideoSink::Null => f.write_str("Null"),
        }
    }
}

/// An application's own encoder.
#[async_trait::async_trait]
pub trait FrameSource: Send + Sync + 'static {
    /// The next frame in this codec, when it is time to send it; `None`: there will be none any more.
    async fn next(&self, codec: VideoCodec) -> Option<VideoFrame>;

    /// The peer cannot go on without a key frame. At most once each 500 ms, and at once when another peer takes the place of the
    /// one before (a fork). Must not block.
    fn key_frame_wanted(&self) {}

    /// No more than this many bit/s reach the peer. Must not block.
    fn bitrate(&self, _bits_per_second: u64) {}
}

/// An application's own decoder. Called on the media runtime for every frame: it must not block.
pub trait FrameSink: Send + Sync + 'static {
    /// Takes a frame of this codec. The first is a key frame, and so is each that follows a gap.
    fn write(&self, codec: VideoCodec, frame: VideoFrame);
}

/// The numbers of a call's video.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VideoStats {
    /// The codec in use.
    pub codec: Option<VideoCodec>,
    /// The engine's own counts.
    pub transport: TransportStats,
    /// Frames that were sent.
    pub frames_sent: u64,
    /// Packets that the peer missed and that were sent again.
    pub packets_resent: u64,
    /// Frames that could not be sent: too long for the peer, or the engine took no more.
    pub unsent: u64,
    /// Key frames that the peer asked for.
    pub key_frames_wanted: u64,
    /// Whole frames that were received, in order.
    pub frames_received: u64,
    /// Of them, those that a decoder can begin with.
    pub key_frames_received: u64,
    /// Packets that never came, or too late.
    pub packets_lost: u64,
    /// Packets that came after we had asked for them.
    pub packets_recovered: u64,
    /// Frames that were not whole, or that depend on one that was not.
    pub frames_dropped: u64,
    /// Key frames that we asked for.
    pub key_frames_asked: u64,
    /// Packets that our own queue dropped because we were too slow.
    pub queue_dropped: u64,
    /// bit/s that the peer was last told to send at most (REMB), for its path to us carries no more, or a bridge takes no more.
    pub bitrate_allowed: Option<u64>,
}

/// Whether a file could be written there.
pub(crate) fn names_a_file(sink: &VideoSink) -> Option<&Path> {
    match sink {
        VideoSink::File { path } => Some(path),
        VideoSink::Frames(_) | VideoSink::Null => None,
    }
}
