//! The sound card of this machine as a source and a sink, with the Cargo feature `sound-card`.
//!
//! ```no_run
//! # async fn example(endpoint: siprtc::Endpoint) -> siprtc::core::Result<()> {
//! use siprtc::prelude::*;
//! use siprtc::sound;
//!
//! let media = MediaPlan {
//!     source: sound::microphone("default").await?,
//!     sink: sound::loudspeaker("default").await?,
//!     ..MediaPlan::default()
//! };
//! let call = endpoint.dial("sip:bob@example.com", media).await?;
//! # Ok(())
//! # }
//! ```

use siprtc_core::Result;
use siprtc_media_session::{Sink, Source};

/// A device of the system's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SoundDevice {
    /// What [`microphone`] and [`loudspeaker`] know it by.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whether it is a microphone.
    pub hears: bool,
    /// Whether it is a loudspeaker.
    pub plays: bool,
}

/// Every sound device of the system's.
///
/// Errors: [`Fault::Unsupported`](siprtc_core::Fault) without the feature, [`Fault::Backend`](siprtc_core::Fault) when the
/// system's sound library does not answer.
pub fn devices() -> Result<Vec<SoundDevice>> {
    cards::devices()
}

/// Opens a microphone, `default` or one of [`devices`], which runs from now on and as long as the source is there.
///
/// Errors: as [`devices`], and [`Fault::ConfigInvalid`](siprtc_core::Fault) when there is no such device.
pub async fn microphone(device: &str) -> Result<Source> {
    cards::microphone(device.to_owned()).await
}

/// Opens a loudspeaker, as [`microphone`] does.
pub async fn loudspeaker(device: &str) -> Result<Sink> {
    cards::loudspeaker(device.to_owned()).await
}

#[cfg(feature = "sound-card")]
mod cards {
    use super::SoundDevice;
    use siprtc_audio_cpal::{Loudspeaker, Microphone};
    use siprtc_core::{Error, Fault, Result};
    use siprtc_media_session::{AudioSink, AudioSource, Sink, Source};
    use std::sync::Arc;
    use tokio::task::spawn_blocking;

    struct From(Microphone);

    impl AudioSource for From {
        fn read(&self, rate: u32, frame: &mut [i16]) -> usize {
            self.0.read(rate, frame)
        }
    }

    struct To(Loudspeaker);

    impl AudioSink for To {
        fn write(&self, rate: u32, frame: &[i16]) {
            self.0.write(rate, frame);
        }
    }

    pub(super) fn devices() -> Result<Vec<SoundDevice>> {
        let devices = siprtc_audio_cpal::devices()?.into_iter();
        let device = |device: siprtc_audio_cpal::Device| SoundDevice {
            id: device.id,
            name: device.name,
            hears: device.hears,
            plays: device.plays,
        };
        Ok(devices.map(device).collect())
    }

    pub(super) async fn microphone(device: String) -> Result<Source> {
        let opened = opened(move || Microphone::open(&device)).await?;
        Ok(Source::Samples(Arc::new(From(opened))))
    }

    pub(super) async fn loudspeaker(device: String) -> Result<Sink> {
        let opened = opened(move || Loudspeaker::open(&device)).await?;
        Ok(Sink::Samples(Arc::new(To(opened))))
    }

    /// A driver takes its time.
    async fn opened<T: Send + 'static>(open: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        spawn_blocking(open).await.map_err(|error| {
            Error::new(
                Fault::Backend,
                "open a sound card",
                "the thread that opens it ended",
            )
            .caused_by(error)
        })?
    }
}

#[cfg(not(feature = "sound-card"))]
mod cards {
    use super::SoundDevice;
    use siprtc_core::{Error, Fault, Result};
    use siprtc_media_session::{Sink, Source};

    pub(super) fn devices() -> Result<Vec<SoundDevice>> {
        Err(missing())
    }

    pub(super) async fn microphone(_: String) -> Result<Source> {
        Err(missing())
    }

    pub(super) async fn loudspeaker(_: String) -> Result<Sink> {
        Err(missing())
    }

    fn missing() -> Error {
        Error::new(Fault::Unsupported, "use a sound card", "this build has no sound cards")
            .advice("build it with --features sound-card, which on Linux needs ALSA's headers (Debian: libasound2-dev)")
    }
}
