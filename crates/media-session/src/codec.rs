//! The codecs behind one thin trait: Opus (48 kHz, mono), G.722, PCMU and PCMA.
//!
//! Opus runs as `opus-rs` itself and not through `audio-codec`, which hides concealment and takes no packet longer than
//! 20 ms. Its application is `Audio`: at 32 kbit/s `opus-rs` 0.1.40 then gives back the waveform with a correlation of
//! 0.998 in 45 us per frame, where `Voip` (SILK with CELT on top) gives 0.79 in 150 us, and overshoots its rate. Only SILK
//! has in-band forward error correction (RFC 6716 section 2.1.7): the encoder changes to SILK in wide band (`Voip` at 16 kHz)
//! while the peer both can use it and reports loss, and back. At 48 kHz `Voip` makes hybrid frames, for which the bit
//! allocation of `opus-rs` 0.1.40 divides by zero at some rates (`rate.rs`: coded bands less first band). Discontinuous transmission is ours (`silence.rs`): `opus-rs` has no switch for it.

use crate::conceal::{Concealer, FADE_MS};
use crate::polyphase::Polyphase;
use audio_codec::{CodecType, create_decoder, create_encoder};
use siprtc_core::media::{AudioParameters, Codec};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Turns samples into payloads.
pub(crate) trait Encode: Send {
    /// Encodes one frame at the codec's sample rate. An empty `payload` means that it cannot be encoded.
    fn encode(&mut self, samples: &[i16], payload: &mut Vec<u8>);

    /// What the peer asks for, and how its network is.
    fn tune(&mut self, _tuning: &Tuning) {}
}

/// What an encoder is told of the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tuning {
    /// The peer can use forward error correction.
    inband_fec: bool,
    /// In bit/s.
    max_average_bitrate: Option<u32>,
    /// The share of our packets that it says it lost.
    pub(crate) loss: f64,
}

impl Tuning {
    pub(crate) fn of(parameters: &AudioParameters) -> Self {
        Tuning {
            inband_fec: parameters.inband_fec,
            max_average_bitrate: parameters.max_average_bitrate,
            loss: 0.0,
        }
    }
}

/// Turns payloads into samples.
pub(crate) trait Decode: Send {
    /// Appends the decoded samples. `false` when the payload cannot be read; nothing is appended then.
    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> bool;

    /// Appends `count` samples in place of a packet that is missing; `next` is the packet after it, when it is there.
    fn conceal(&mut self, count: usize, next: Option<&[u8]>, out: &mut Vec<i16>);
}

/// Opus's rate for mono in full band.
const OPUS_BITRATE: i32 = 32_000;
/// SILK needs no more for a voice in wide band and a coarse copy of the packet before it.
const OPUS_FEC_BITRATE: i32 = 32_000;
/// SILK's wide band.
const OPUS_FEC_RATE: u32 = 16_000;
/// From this loss on forward error correction is sent, and below the other one no longer.
const FEC_FROM_LOSS: f64 = 0.02;
const FEC_UNTIL_LOSS: f64 = 0.01;
/// What the encoder is told at least: with less it would find that its rate has no room for it.
const FEC_LEAST_PERCENT: i32 = 10;
/// More costs more CPU and gains nothing.
const OPUS_COMPLEXITY: i32 = 5;
/// 10 ms at 48 kHz.
const OPUS_TEN_MS: usize = 480;
/// RFC 6716 section 3.4: no packet is longer than 120 ms.
const OPUS_MAX_SAMPLES: usize = 5_760;
/// The largest Opus payload that we make; 20 ms at 32 kbit/s need about 80 octets.
const OPUS_MAX_PAYLOAD: usize = 1_275;
/// RFC 3551 section 4.2 recommends at most 200 ms in a packet.
const MAX_PACKET_MS: u32 = 200;

/// A new encoder.
pub(crate) fn encoder(codec: Codec) -> Box<dyn Encode> {
    match kind(codec) {
        None => Box::new(OpusEncoder::new()),
        Some(kind) => Box::new(PlainEncoder(create_encoder(kind))),
    }
}

/// A new decoder.
pub(crate) fn decoder(codec: Codec) -> Box<dyn Decode> {
    match kind(codec) {
        None => Box::new(OpusDecoder::new()),
        Some(kind) => Box::new(PlainDecoder {
            inner: create_decoder(kind),
            concealer: Concealer::new(codec.sample_rate()),
        }),
    }
}

/// How long a payload sounds, in units of the codec's RTP clock; `None` for what no sender may send.
pub(crate) fn packet_units(codec: Codec, payload: &[u8]) -> Option<u32> {
    let units = match codec {
        Codec::Opus => return opus_units(payload),
        // One octet per tick of the 8 kHz clock; G.722 has one octet for two samples at 16 kHz (RFC 3551 section 4.5.2).
        _ => u32::try_from(payload.len()).ok()?,
    };
    (1..=codec.clock_rate() * MAX_PACKET_MS / 1_000)
        .contains(&units)
        .then_some(units)
}

/// A packet time in milliseconds that every codec can make: the next lower multiple of 10, from 10 to 60.
pub(crate) fn usable_ptime(ptime: u32) -> u32 {
    (ptime / 10 * 10).clamp(10, 60)
}

/// RFC 6716 section 3.1: the TOC octet tells mode, frame size and frame count.
fn opus_units(payload: &[u8]) -> Option<u32> {
    let toc = *payload.first()?;
    let config = usize::from(toc >> 3);
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880][config % 4],
        12..=15 => [480, 960][config % 2],
        _ => [120, 240, 480, 960][config % 4],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*payload.get(1)? & 0x3f),
    };
    let units = frame * frames;
    (units > 0 && units as usize <= OPUS_MAX_SAMPLES).then_some(units)
}

fn kind(codec: Codec) -> Option<CodecType> {
    match codec {
        Codec::G722 => Some(CodecType::G722),
        Codec::Pcma => Some(CodecType::PCMA),
        Codec::Pcmu => Some(CodecType::PCMU),
        _ => None,
    }
}

struct PlainEncoder(Box<dyn audio_codec::Encoder>);

impl Encode for PlainEncoder {
    fn encode(&mut self, samples: &[i16], payload: &mut Vec<u8>) {
        payload.resize(self.0.max_encode_bytes(samples.len()), 0);
        let written = self.0.encode_into(samples, payload).unwrap_or(0);
        payload.truncate(written);
    }
}

struct PlainDecoder {
    inner: Box<dyn audio_codec::Decoder>,
    concealer: Concealer,
}

impl Decode for PlainDecoder {
    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> bool {
        let start = out.len();
        out.resize(start + self.inner.max_decode_samples(payload.len()), 0);
        let written = self.inner.decode_into(payload, &mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
        self.concealer.heard(&mut out[start..]);
        written > 0
    }

    fn conceal(&mut self, count: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.conceal(count, out);
    }
}

struct OpusEncoder {
    inner: Box<opus_rs::OpusEncoder>,
    bitrate: i32,
    /// There while this encoder sends forward error correction: brings the audio to SILK's rate.
    corrects: Option<Polyphase>,
    wideband: Vec<i16>,
    part: Vec<u8>,
}

impl OpusEncoder {
    fn new() -> Self {
        OpusEncoder {
            inner: Self::fresh(false),
            bitrate: OPUS_BITRATE,
            corrects: None,
            wideband: Vec::new(),
            part: Vec::new(),
        }
    }

    fn fresh(corrects: bool) -> Box<opus_rs::OpusEncoder> {
        let (rate, application) = if corrects {
            (OPUS_FEC_RATE as i32, opus_rs::Application::Voip)
        } else {
            (48_000, opus_rs::Application::Audio)
        };
        let mut inner = opus_rs::OpusEncoder::new(rate, 1, application)
            .expect("BUG: 16 and 48 kHz mono are valid Opus formats");
        inner.bitrate_bps = OPUS_BITRATE;
        inner.complexity = OPUS_COMPLEXITY;
        Box::new(inner)
    }

    fn encode_one(&mut self, samples: &[i16], payload: &mut Vec<u8>) {
        payload.resize(OPUS_MAX_PAYLOAD, 0);
        let mut samples = samples;
        if let Some(down) = &mut self.corrects {
            self.wideband.clear();
            down.push(samples, &mut self.wideband);
            samples = &self.wideband;
        }
        let inner = &mut self.inner;
        // A defect of the encoder costs a packet and not the call.
        let encoded = catch_unwind(AssertUnwindSafe(|| {
            inner.encode_i16(samples, samples.len(), payload)
        }));
        let written = match encoded {
            Ok(written) => written.unwrap_or(0),
            Err(_) => {
                tracing::warn!("the Opus encoder panicked on a frame; it begins anew");
                let mut fresh = Self::fresh(self.corrects.is_some());
                fresh.bitrate_bps = self.inner.bitrate_bps;
                // Whatever made it panic, what it is made for alone is asked of the new one.
                if self.corrects.is_some() {
                    fresh.use_inband_fec = self.inner.use_inband_fec;
                    fresh.packet_loss_perc = self.inner.packet_loss_perc;
                }
                self.inner = fresh;
                0
            }
        };
        payload.truncate(written);
    }

    /// A packet of several frames of 10 ms (RFC 6716 section 3.2.5, code 3 with frames of different sizes): there is no
    /// frame of 30 or 50 ms. When the encoder changes its mode between frames, what came after the change is left out of
    /// the packet as an empty frame, which a decoder conceals (section 3.2.1).
    fn encode_tens(&mut self, samples: &[i16], payload: &mut Vec<u8>) {
        payload.clear();
        let mut frames = Vec::new();
        let mut part = std::mem::take(&mut self.part);
        let count = samples.len() / OPUS_TEN_MS;
        for (index, ten) in samples.chunks_exact(OPUS_TEN_MS).enumerate() {
            self.encode_one(ten, &mut part);
            let Some((&toc, frame)) = part.split_first() else {
                payload.clear();
                break;
            };
            if index == 0 {
                payload.extend([toc | 3, 0x80 | count as u8]);
            }
            let same = payload.first().is_some_and(|first| first & !3 == toc & !3);
            let frame = if same { frame } else { &[] };
            if index + 1 < count {
                // RFC 6716 section 3.2.1: lengths from 252 on take two octets.
                match frame.len() {
                    short @ 0..252 => payload.push(short as u8),
                    long => payload.extend([252 + (long & 3) as u8, ((long - 252 - (long & 3)) / 4) as u8]),
                }
            }
            frames.extend_from_slice(frame);
        }
        if !payload.is_empty() {
            payload.append(&mut frames);
        }
        self.part = part;
    }
}

impl Encode for OpusEncoder {
    fn encode(&mut self, samples: &[i16], payload: &mut Vec<u8>) {
        match samples.len() / OPUS_TEN_MS {
            3 | 5 => self.encode_tens(samples, payload),
            _ => self.encode_one(samples, payload),
        }
    }

    fn tune(&mut self, tuning: &Tuning) {
        let enough = if self.corrects.is_some() {
            FEC_UNTIL_LOSS
        } else {
            FEC_FROM_LOSS
        };
        let corrects = tuning.inband_fec && tuning.loss >= enough;
        if corrects != self.corrects.is_some() {
            self.corrects = corrects.then(|| Polyphase::new(48_000, OPUS_FEC_RATE));
            self.inner = Self::fresh(corrects);
            self.bitrate = if corrects { OPUS_FEC_BITRATE } else { OPUS_BITRATE };
        }
        let most = tuning
            .max_average_bitrate
            .and_then(|most| i32::try_from(most).ok());
        self.inner.bitrate_bps = most.map_or(self.bitrate, |most| most.min(self.bitrate));
        self.inner.use_inband_fec = corrects;
        let percent = (tuning.loss.clamp(0.0, 1.0) * 100.0).round() as i32;
        self.inner.packet_loss_perc = if corrects {
            percent.max(FEC_LEAST_PERCENT)
        } else {
            0
        };
    }
}

struct OpusDecoder {
    inner: Box<opus_rs::OpusDecoder>,
    scratch: Vec<f32>,
    /// Samples made up since the last packet.
    made_up: usize,
}

impl OpusDecoder {
    fn new() -> Self {
        OpusDecoder {
            inner: Self::fresh(),
            scratch: Vec::new(),
            made_up: 0,
        }
    }

    fn fresh() -> Box<opus_rs::OpusDecoder> {
        Box::new(opus_rs::OpusDecoder::new(48_000, 1).expect("BUG: 48 kHz mono is a valid Opus format"))
    }

    /// The decoder is a large port of C code and reads what comes from the network: should a packet make it panic, that
    /// packet is lost and the decoder begins anew, and the call goes on.
    fn guarded(
        &mut self,
        count: usize,
        out: &mut Vec<i16>,
        work: impl FnOnce(&mut opus_rs::OpusDecoder, &mut [f32]) -> Result<usize, &'static str>,
    ) -> bool {
        self.scratch.clear();
        self.scratch.resize(count, 0.0);
        let (inner, scratch) = (&mut self.inner, &mut self.scratch);
        match catch_unwind(AssertUnwindSafe(|| work(inner, scratch))) {
            Ok(Ok(samples)) if samples > 0 => {
                out.extend(self.scratch.iter().take(samples).map(|&sample| to_i16(sample)));
                true
            }
            Ok(_) => false,
            Err(_) => {
                tracing::warn!("the Opus decoder panicked on a packet; it begins anew");
                self.inner = Self::fresh();
                false
            }
        }
    }
}

impl Decode for OpusDecoder {
    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> bool {
        let Some(units) = opus_units(payload) else {
            return false;
        };
        let count = units as usize;
        self.made_up = 0;
        self.guarded(count, out, |decoder, scratch| {
            decoder.decode(payload, count, scratch)
        })
    }

    fn conceal(&mut self, count: usize, next: Option<&[u8]>, out: &mut Vec<i16>) {
        let start = out.len();
        // Opus fades so slowly that a lost peer would hum for seconds: from FADE_MS on it is faded here.
        let fade = (48 * FADE_MS) as usize;
        if self.made_up < 2 * fade {
            // RFC 6716 section 4.4: concealment comes in steps of 2.5 ms.
            let steps = count.next_multiple_of(120).min(OPUS_MAX_SAMPLES);
            self.guarded(steps, out, |decoder, scratch| match next {
                Some(next) => decoder.decode_fec(next, steps, scratch),
                None => decoder.decode(&[], steps, scratch),
            });
        }
        out.resize(start + count, 0);
        for (index, sample) in out[start..].iter_mut().enumerate() {
            let over = (self.made_up.saturating_add(index))
                .saturating_sub(fade)
                .min(fade);
            *sample = (f32::from(*sample) * (1.0 - over as f32 / fade as f32)) as i16;
        }
        self.made_up = self.made_up.saturating_add(count);
    }
}

/// Full scale is 1.0.
pub(crate) fn to_i16(sample: f32) -> i16 {
    // `as` saturates, and makes 0 of what is no number.
    (sample * 32_768.0).round() as i16
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "opus_tests.rs"]
mod opus_tests;
