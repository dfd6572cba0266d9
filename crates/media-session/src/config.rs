//! What a session begins with: the engine, the network, and where audio comes from and goes to.

use crate::stage::Chain;
use crate::{QuietConfig, VideoPlan};
use siprtc_core::ice::IceConfig;
use siprtc_core::media::{Codec, Direction, MediaEngine};
use siprtc_core::{CallId, Result};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What a [`MediaSession`](crate::MediaSession) begins with.
pub struct SessionConfig {
    /// The call it belongs to; every event and every line of the log carries it.
    pub call: CallId,
    /// Makes the media peer.
    pub engine: Arc<dyn MediaEngine>,
    /// Peers, packets and audio loops run here, never on the arbiter.
    pub runtime: tokio::runtime::Handle,
    /// The network.
    pub ice: IceConfig,
    /// Codecs to offer, best first.
    pub codecs: Vec<Codec>,
    /// Where the audio comes from that we send.
    pub source: Source,
    /// Where the audio goes to that we receive.
    pub sink: Sink,
    /// Which way audio flows at the first offer or answer.
    pub direction: Direction,
    /// Packet time in milliseconds, 10 to 60 by tens: it is asked of the peer, and kept where the peer asks for none.
    pub ptime: u32,
    /// Video beside the audio; `None` declines what the peer offers of it.
    pub video: Option<VideoPlan>,
    /// What the peer answered to another engine's offer, see [`PeerConfig`](siprtc_core::media::PeerConfig).
    pub heard: Option<String>,
}

/// What is done to audio on its way. The default is nothing.
#[derive(Debug, Default)]
pub struct Processing {
    /// Between the source and the encoder.
    pub sending: Chain,
    /// Between the decoder and the sink; nothing is decoded for [`Sink::Null`].
    pub receiving: Chain,
    /// Silence is sent as comfort noise (RFC 3389) where the peer takes it, and as Opus's discontinuous transmission where
    /// it asks for that (`usedtx=1`); to others it is sent as audio.
    pub silence_detection: bool,
    /// When a side that falls quiet is told ([`Quiet`](crate::SessionEventKind::Quiet)), and when it is heard again; `None`:
    /// never. What the peer says is decoded for it, whoever listens.
    pub quiet: Option<QuietConfig>,
}

/// The stages of a call, made anew for each of its media sessions, of which it may have several one after the other. The default is
/// none.
///
/// ```
/// use siprtc_media_session::{Gain, LevelMeter, Stages};
///
/// let stages = Stages::new(|sending, receiving| {
///     let (gain, _control) = Gain::new(-6.0);
///     let (meter, _level) = LevelMeter::new();
///     sending.add(gain)?;
///     receiving.add(meter)?;
///     Ok(())
/// });
/// # drop(stages);
/// ```
#[derive(Clone, Default)]
pub struct Stages(Option<Arc<MakeStages>>);

type MakeStages = dyn Fn(&mut Chain, &mut Chain) -> Result<()> + Send + Sync;

impl Stages {
    /// Those that `make` puts into the chain of what is sent, and of what is received.
    pub fn new(make: impl Fn(&mut Chain, &mut Chain) -> Result<()> + Send + Sync + 'static) -> Self {
        Stages(Some(Arc::new(make)))
    }

    /// Puts them behind what is there.
    ///
    /// # Errors
    /// Those of whoever makes them.
    pub fn put_into(&self, processing: &mut Processing) -> Result<()> {
        match &self.0 {
            Some(make) => make(&mut processing.sending, &mut processing.receiving),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Stages" } else { "no stages" })
    }
}

/// Where the audio comes from that we send.
#[derive(Clone)]
pub enum Source {
    /// A WAV file of any rate, channel count and depth; it is mixed to mono and resampled, and read as it is played.
    File {
        /// The file.
        path: PathBuf,
        /// Begin anew at its end. Otherwise silence follows and [`SourceEnded`](crate::SessionEventKind::SourceEnded)
        /// is reported.
        repeat: bool,
    },
    /// The application's own samples.
    Samples(Arc<dyn AudioSource>),
    /// Silence, encoded once.
    Silence,
    /// A sine.
    Tone {
        /// Its frequency in Hz.
        hz: f32,
        /// Its level relative to full scale; 0 is the loudest.
        level_dbfs: f32,
    },
}

impl Source {
    /// Whether it would go on where the other one is.
    pub fn is_same(&self, other: &Source) -> bool {
        match (self, other) {
            (
                Source::File { path, repeat },
                Source::File {
                    path: other,
                    repeat: again,
                },
            ) => (path, repeat) == (other, again),
            (Source::Samples(one), Source::Samples(other)) => Arc::ptr_eq(one, other),
            (Source::Silence, Source::Silence) => true,
            (
                Source::Tone { hz, level_dbfs },
                Source::Tone {
                    hz: other,
                    level_dbfs: level,
                },
            ) => (hz, level_dbfs) == (other, level),
            _ => false,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File { path, repeat } => f
                .debug_struct("File")
                .field("path", path)
                .field("repeat", repeat)
                .finish(),
            Source::Samples(_) => f.write_str("Samples"),
            Source::Silence => f.write_str("Silence"),
            Source::Tone { hz, level_dbfs } => f
                .debug_struct("Tone")
                .field("hz", hz)
                .field("level_dbfs", level_dbfs)
                .finish(),
        }
    }
}

/// Where the audio goes to that we receive.
#[derive(Clone)]
pub enum Sink {
    /// A WAV file, mono, 16 bit, at the rate of the codec that audio began with (Opus 48 kHz, G.722 16 kHz, G.711
    /// 8 kHz); readable at any time while it grows.
    File {
        /// The file; its folder must exist. An older file of this name is replaced.
        path: PathBuf,
    },
    /// Nobody listens: packets are counted and judged, but not decoded.
    Null,
    /// The application takes the samples.
    Samples(Arc<dyn AudioSink>),
}

impl Sink {
    /// Whether it would go on where the other one is.
    pub fn is_same(&self, other: &Sink) -> bool {
        match (self, other) {
            (Sink::File { path }, Sink::File { path: other }) => path == other,
            (Sink::Null, Sink::Null) => true,
            (Sink::Samples(one), Sink::Samples(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sink::File { path } => f.debug_struct("File").field("path", path).finish(),
            Sink::Null => f.write_str("Null"),
            Sink::Samples(_) => f.write_str("Samples"),
        }
    }
}

/// An application's own source of audio. Called on the media runtime once per packet time: it must not block.
pub trait AudioSource: Send + Sync + 'static {
    /// Fills `frame` with mono samples at `rate` Hz (8000, 16000 or 48000, the codec's) and says how many it wrote;
    /// the rest of the frame is sent as silence.
    fn read(&self, rate: u32, frame: &mut [i16]) -> usize;
}

/// An application's own listener. Called on the media runtime for every packet time (20 ms, as a rule): it must not block.
pub trait AudioSink: Send + Sync + 'static {
    /// Takes mono samples at `rate` Hz (8000, 16000 or 48000, the codec's).
    fn write(&self, rate: u32, frame: &[i16]);
}
