//! Devices, and the streams of the library.

use crate::adapt::{Reader, Writer};
use crate::ring::{Capture, Playback, Shared, ring};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, ErrorKind, FromSample, Sample, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedBufferSize, SupportedStreamConfigRange,
};
use parking_lot::Mutex;
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Wanted of a card, if it has it: what Opus has, so that nothing is resampled but for the clocks.
const RATE: u32 = 48_000;
/// How often the card is served, in parts of a second; some serve themselves when they like.
const PERIODS: u32 = 100;
/// The device that the system chooses.
const DEFAULT: &str = "default";

/// A device of the system's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// What [`Microphone::open`] and [`Loudspeaker::open`] know it by.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whether it is a microphone.
    pub hears: bool,
    /// Whether it is a loudspeaker.
    pub plays: bool,
}

/// What a card did since it was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CardStats {
    /// Samples dropped, at the card's rate: nobody took them, or they were too old.
    pub dropped: u64,
    /// Times that there was nothing when something was wanted: silence took its place.
    pub starved: u64,
    /// Times that the system did not serve the card in time.
    pub xruns: u64,
    /// The card is gone: unplugged, or its driver failed.
    pub is_gone: bool,
}

/// Every device of the system's; the default is not among them where the system hides what it stands for.
///
/// Errors: [`Fault::Backend`] when the system's sound library does not answer.
pub fn devices() -> Result<Vec<Device>> {
    let found = cpal::default_host()
        .devices()
        .map_err(|error| failed("list devices", error).advice("look whether the sound system runs"))?;
    let device = |device: cpal::Device| {
        Some(Device {
            id: device.id().ok()?.id().to_owned(),
            name: device.to_string(),
            hears: device.supports_input(),
            plays: device.supports_output(),
        })
    };
    Ok(found.filter_map(device).collect())
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Way {
    In,
    Out,
}

impl Way {
    fn operation(self) -> &'static str {
        match self {
            Way::In => "open a microphone",
            Way::Out => "open a loudspeaker",
        }
    }
}

/// A stream of the library's; it ends with this.
struct Card {
    stream: Option<Stream>,
    shared: Arc<Shared>,
}

impl Card {
    fn stats(&self) -> CardStats {
        CardStats {
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            starved: self.shared.starved.load(Ordering::Relaxed),
            xruns: self.shared.xruns.load(Ordering::Relaxed),
            is_gone: self.shared.gone.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // The library waits for its own thread, and that for the card: not on a thread that carries calls. Where there is no
        // thread to be had, it is done here.
        if let Some(stream) = self.stream.take() {
            drop(std::thread::Builder::new().spawn(move || drop(stream)));
        }
    }
}

/// A microphone that runs.
pub struct Microphone {
    card: Card,
    reader: Mutex<Reader>,
}

impl Microphone {
    /// Opens a device, `default` or one of [`devices`]; it runs from now on. Blocks for as long as the system takes.
    ///
    /// Errors: [`Fault::ConfigInvalid`] when there is no such device or it cannot hear, [`Fault::Backend`] when the system
    /// refuses it.
    pub fn open(device: &str) -> Result<Self> {
        let (device, config, format) = find(device, Way::In)?;
        let (to, from, shared) = ring(config.sample_rate);
        let capture = Capture {
            to,
            channels: usize::from(config.channels),
            shared: Arc::clone(&shared),
        };
        let stream = match format {
            SampleFormat::F32 => listen::<f32>(&device, config, capture),
            SampleFormat::I32 => listen::<i32>(&device, config, capture),
            SampleFormat::U8 => listen::<u8>(&device, config, capture),
            _ => listen::<i16>(&device, config, capture),
        };
        let card = run(Way::In, stream, Arc::clone(&shared))?;
        let reader = Mutex::new(Reader::new(from, config.sample_rate, shared));
        Ok(Microphone { card, reader })
    }

    /// Fills a frame of mono at `rate` Hz with what was said last; how many samples of it. 0 where nothing is there: the card
    /// has just begun, is slow, or is gone.
    pub fn read(&self, rate: u32, frame: &mut [i16]) -> usize {
        self.reader.lock().read(rate, frame).unwrap_or_else(|error| {
            tracing::warn!(%error, "the microphone is not heard");
            0
        })
    }

    /// The numbers so far.
    pub fn stats(&self) -> CardStats {
        self.card.stats()
    }
}

/// A loudspeaker that runs.
pub struct Loudspeaker {
    card: Card,
    writer: Mutex<Writer>,
}

impl Loudspeaker {
    /// As [`Microphone::open`].
    pub fn open(device: &str) -> Result<Self> {
        let (device, config, format) = find(device, Way::Out)?;
        let (to, from, shared) = ring(config.sample_rate);
        let playback = Playback {
            from,
            channels: usize::from(config.channels),
            shared: Arc::clone(&shared),
            flows: false,
        };
        let stream = match format {
            SampleFormat::F32 => play::<f32>(&device, config, playback),
            SampleFormat::I32 => play::<i32>(&device, config, playback),
            SampleFormat::U8 => play::<u8>(&device, config, playback),
            _ => play::<i16>(&device, config, playback),
        };
        let card = run(Way::Out, stream, Arc::clone(&shared))?;
        let writer = Mutex::new(Writer::new(to, config.sample_rate, shared));
        Ok(Loudspeaker { card, writer })
    }

    /// Plays a frame of mono at `rate` Hz behind what waits already.
    pub fn write(&self, rate: u32, frame: &[i16]) {
        if let Err(error) = self.writer.lock().write(rate, frame) {
            tracing::warn!(%error, "the loudspeaker is silent");
        }
    }

    /// The numbers so far.
    pub fn stats(&self) -> CardStats {
        self.card.stats()
    }
}

/// What a stream tells outside its samples. Called on the library's thread.
fn told(shared: Arc<Shared>) -> impl FnMut(cpal::Error) + Send + 'static {
    move |error| {
        if error.kind() == ErrorKind::Xrun {
            shared.xruns.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Once: a driver that fails may fail a thousand times a second.
        if !shared.gone.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the sound card failed");
        }
    }
}

fn listen<T>(
    device: &cpal::Device,
    config: StreamConfig,
    mut capture: Capture,
) -> std::result::Result<Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let told = told(Arc::clone(&capture.shared));
    let heard = move |samples: &[T], _: &_| capture.heard(samples, f32::from_sample);
    device.build_input_stream(config, heard, told, None)
}

fn play<T>(
    device: &cpal::Device,
    config: StreamConfig,
    mut playback: Playback,
) -> std::result::Result<Stream, cpal::Error>
where
    T: SizedSample + FromSample<f32>,
{
    let told = told(Arc::clone(&playback.shared));
    let wanted = move |samples: &mut [T], _: &_| playback.wanted(samples, Sample::from_sample);
    device.build_output_stream(config, wanted, told, None)
}

fn run(way: Way, stream: std::result::Result<Stream, cpal::Error>, shared: Arc<Shared>) -> Result<Card> {
    let advice = "look whether another program has it, and at what `siprtc devices` lists";
    let refused = |error| failed(way.operation(), error).advice(advice);
    let stream = stream.map_err(refused)?;
    stream.play().map_err(refused)?;
    Ok(Card {
        stream: Some(stream),
        shared,
    })
}

/// The device of that name, and how it is to run.
fn find(name: &str, way: Way) -> Result<(cpal::Device, StreamConfig, SampleFormat)> {
    let host = cpal::default_host();
    let is_default = name.is_empty() || name == DEFAULT;
    let device = match (is_default, way) {
        (true, Way::In) => host.default_input_device(),
        (true, Way::Out) => host.default_output_device(),
        (false, _) => {
            let mut all = host.devices().map_err(|error| failed(way.operation(), error))?;
            all.find(|device| device.id().is_ok_and(|id| id.id() == name))
        }
    };
    let device = device.ok_or_else(|| unknown(name, way))?;
    let ranges = match way {
        Way::In => device.supported_input_configs().map(Iterator::collect),
        Way::Out => device.supported_output_configs().map(Iterator::collect),
    };
    let ranges: Vec<SupportedStreamConfigRange> = ranges.map_err(|error| {
        // ALSA has a "default" also where there is no card.
        let (what, advice) = match is_default {
            true => (
                "there is no sound card that can be used",
                "connect one, or name a device",
            ),
            false => (
                "the system refuses the device",
                "look at what `siprtc devices` lists",
            ),
        };
        Error::new(Fault::ConfigInvalid, way.operation(), what)
            .backend(crate::NAME)
            .caused_by(error)
            .advice(advice)
    })?;
    let (config, format) = choose(&ranges).ok_or_else(|| {
        let what = match way {
            Way::In => "hears nothing that can be used",
            Way::Out => "plays nothing that can be used",
        };
        Error::new(Fault::ConfigInvalid, way.operation(), format!("{device} {what}"))
            .backend(crate::NAME)
            .advice("name another device of those that `siprtc devices` lists")
    })?;
    Ok((device, config, format))
}

/// The rate that needs least resampling, in a format without loss, with as few channels as there are.
fn choose(ranges: &[SupportedStreamConfigRange]) -> Option<(StreamConfig, SampleFormat)> {
    let formats = [
        SampleFormat::I16,
        SampleFormat::F32,
        SampleFormat::I32,
        SampleFormat::U8,
    ];
    let best = ranges.iter().filter_map(|range| {
        let format = formats
            .iter()
            .position(|format| *format == range.sample_format())?;
        let rate = RATE.clamp(range.min_sample_rate(), range.max_sample_rate());
        let worse = (rate.abs_diff(RATE), format, range.channels());
        (range.channels() > 0 && rate >= 8_000).then_some((worse, rate, range))
    });
    let (_, sample_rate, range) = best.min_by_key(|(worse, ..)| *worse)?;
    let period = sample_rate / PERIODS;
    let buffer_size = match range.buffer_size() {
        SupportedBufferSize::Range { min, max } if (*min..=*max).contains(&period) => {
            BufferSize::Fixed(period)
        }
        _ => BufferSize::Default,
    };
    let config = StreamConfig {
        channels: range.channels(),
        sample_rate,
        buffer_size,
    };
    Some((config, range.sample_format()))
}

fn unknown(name: &str, way: Way) -> Error {
    let fits = |device: &Device| {
        if way == Way::In {
            device.hears
        } else {
            device.plays
        }
    };
    let known: Vec<String> = devices()
        .unwrap_or_default()
        .into_iter()
        .filter(fits)
        .map(|device| device.id)
        .collect();
    let advice = match known.is_empty() {
        true => "there is none here: connect a sound card".to_owned(),
        false => format!("choose one of: {}", known.join(", ")),
    };
    Error::new(
        Fault::ConfigInvalid,
        way.operation(),
        format!("there is no sound device {name:?}"),
    )
    .backend(crate::NAME)
    .advice(advice)
}

fn failed(operation: &'static str, error: cpal::Error) -> Error {
    Error::new(Fault::Backend, operation, "the system's sound library refused")
        .backend(crate::NAME)
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(channels: u16, rates: (u32, u32), format: SampleFormat) -> SupportedStreamConfigRange {
        let buffer = SupportedBufferSize::Range { min: 64, max: 65_536 };
        SupportedStreamConfigRange::new(channels, rates.0, rates.1, buffer, format)
    }

    #[test]
    fn a_card_runs_as_near_to_opus_as_it_can() {
        let chosen = |ranges: &[_]| {
            choose(ranges).map(|(config, format)| (config.sample_rate, config.channels, format))
        };
        let two = range(2, (8_000, 192_000), SampleFormat::I16);
        let one = range(1, (8_000, 192_000), SampleFormat::I16);
        let float = range(1, (8_000, 192_000), SampleFormat::F32);
        assert_eq!(chosen(&[two, float, one]), Some((48_000, 1, SampleFormat::I16)));
        let cd = range(2, (44_100, 44_100), SampleFormat::I16);
        assert_eq!(chosen(&[cd, float]), Some((48_000, 1, SampleFormat::F32)));
        assert_eq!(chosen(&[cd]), Some((44_100, 2, SampleFormat::I16)));
        assert_eq!(chosen(&[range(1, (4_000, 4_000), SampleFormat::I16)]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn a_device_that_is_not_there_is_named_in_a_sentence() {
        let error = Microphone::open("no-such-card")
            .err()
            .map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("no-such-card")));
    }
}
