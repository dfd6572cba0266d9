//! What transcoding between Opus and PCMU costs against the bare codecs, in the same run: prints the ratios, and ends with an
//! error when one is above 1.5.

use bytes::Bytes;
use siprtc_core::media::{Codec, NegotiatedAudio, RtpPacket};
use siprtc_media_session::bench::{Decoder, Encoder};
use siprtc_media_session::{TranscodeOptions, Transcoder};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;

/// Seconds of audio in each round.
const SECONDS: u32 = 10;
/// The best of so many counts: what else the machine does only adds.
const ROUNDS: usize = 7;
/// How much more than the codecs a transcoder may cost.
const LIMIT: f64 = 1.5;

fn main() -> ExitCode {
    let ratios = [(Codec::Opus, Codec::Pcmu), (Codec::Pcmu, Codec::Opus)].map(|(from, to)| {
        let packets = packets(from);
        let frames = packets.len() as u32;
        let (mut bare, mut whole) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            bare = bare.min(codecs_alone(from, to, &packets));
            whole = whole.min(transcoded(from, to, &packets));
        }
        let ratio = whole.as_secs_f64() / bare.as_secs_f64();
        println!(
            "{from} to {to}: codecs {:?}, transcoder {:?} for 20 ms, {ratio:.2} times",
            bare / frames,
            whole / frames
        );
        ratio
    });
    if ratios.iter().all(|ratio| *ratio <= LIMIT) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A sound with a moving pitch.
fn voice(rate: u32) -> Vec<i16> {
    let mut phase = 0.0f64;
    (0..rate * SECONDS)
        .map(|index| {
            let time = f64::from(index) / f64::from(rate);
            phase += std::f64::consts::TAU * (150.0 + 40.0 * (time * 3.0).sin()) / f64::from(rate);
            let sum: f64 = (1..12).map(|n| (phase * f64::from(n)).sin() / f64::from(n)).sum();
            (sum * 6_000.0) as i16
        })
        .collect()
}

fn packets(codec: Codec) -> Vec<RtpPacket> {
    let mut encoder = Encoder::new(codec);
    let frame = codec.sample_rate() as usize / 50;
    let packet = |(index, samples): (usize, &[i16])| RtpPacket {
        payload_type: codec.payload_type(),
        marker: index == 0,
        sequence: index as u16,
        timestamp: index as u32 * codec.clock_rate() / 50,
        ssrc: 1,
        payload: Bytes::copy_from_slice(encoder.encode(samples)),
    };
    voice(codec.sample_rate())
        .chunks_exact(frame)
        .enumerate()
        .map(packet)
        .collect()
}

/// Decoding one, and encoding as many frames of the other, without anything between.
fn codecs_alone(from: Codec, to: Codec, packets: &[RtpPacket]) -> Duration {
    let voice = voice(to.sample_rate());
    let (mut decoder, mut encoder) = (Decoder::new(from), Encoder::new(to));
    let begin = Instant::now();
    for (packet, frame) in packets
        .iter()
        .zip(voice.chunks_exact(to.sample_rate() as usize / 50))
    {
        std::hint::black_box(decoder.decode(&packet.payload));
        std::hint::black_box(encoder.encode(frame));
    }
    begin.elapsed()
}

fn transcoded(from: Codec, to: Codec, packets: &[RtpPacket]) -> Duration {
    let (from, to) = (NegotiatedAudio::of(from), NegotiatedAudio::of(to));
    let mut transcoder = Transcoder::new(from, to, TranscodeOptions::default());
    let mut out = Vec::new();
    let begin = Instant::now();
    for packet in packets {
        out.clear();
        transcoder.push(packet, &mut out);
        std::hint::black_box(&out);
    }
    begin.elapsed()
}
