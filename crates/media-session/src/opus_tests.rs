//! What is done about `opus-rs` 0.1.40, each time beside the library alone: a test that fails because the library has been
//! mended says which workaround may go.

use super::*;
use crate::signal::{delayed_correlation, speech};
use opus_rs::Application;

fn bare(rate: i32, application: Application, bitrate: i32) -> opus_rs::OpusEncoder {
    let mut encoder = opus_rs::OpusEncoder::new(rate, 1, application).unwrap();
    encoder.bitrate_bps = bitrate;
    encoder.complexity = OPUS_COMPLEXITY;
    encoder
}

/// The encoder of a call whose peer loses packets, uses forward error correction, and allows so much.
fn correcting(bitrate: u32, loss: f64) -> OpusEncoder {
    let mut encoder = OpusEncoder::new();
    encoder.tune(&Tuning {
        inband_fec: true,
        max_average_bitrate: Some(bitrate),
        loss,
    });
    encoder
}

/// Hybrid frames with forward error correction.
fn hybrid(bitrate: i32) -> opus_rs::OpusEncoder {
    let mut encoder = bare(48_000, Application::Voip, bitrate);
    encoder.use_inband_fec = true;
    encoder.packet_loss_perc = 10;
    encoder
}

fn survives(encoder: &mut opus_rs::OpusEncoder, samples: &[i16]) -> bool {
    let mut payload = vec![0; OPUS_MAX_PAYLOAD];
    let encode = || {
        samples
            .chunks_exact(960)
            .all(|frame| encoder.encode_i16(frame, 960, &mut payload).is_ok())
    };
    catch_unwind(AssertUnwindSafe(encode)).unwrap_or(false)
}

#[test]
fn hybrid_frames_end_the_library_and_ours_has_none_at_any_rate() {
    let voice = speech(48_000, 0.4);
    assert!(
        (17_000..=27_000)
            .step_by(1_000)
            .any(|rate| !survives(&mut hybrid(rate), &voice))
    );
    for rate in (6_000..=64_000).step_by(2_000) {
        for ms in [10, 20, 30, 60] {
            let (mut encoder, mut payload) = (correcting(rate, 0.1), Vec::new());
            for frame in voice.chunks_exact(48 * ms) {
                encoder.encode(frame, &mut payload);
                assert!(!payload.is_empty(), "{rate} bit/s, {ms} ms");
                // RFC 6716 section 3.1: configurations 12 to 15 are hybrid.
                assert!(!(12..16).contains(&(payload[0] >> 3)), "{rate} bit/s, {ms} ms");
            }
        }
    }
}

#[test]
fn an_encoder_that_panics_costs_a_packet_and_not_the_call() {
    let voice = speech(48_000, 1.0);
    let fatal = (17_000..=27_000)
        .step_by(1_000)
        .find(|rate| !survives(&mut hybrid(*rate), &voice))
        .unwrap();
    let mut encoder = OpusEncoder::new();
    *encoder.inner = hybrid(fatal);
    let (mut payload, mut empty, mut after) = (Vec::new(), 0, 0);
    for frame in voice.chunks_exact(960) {
        encoder.encode(frame, &mut payload);
        empty += usize::from(payload.is_empty());
        if empty > 0 && !payload.is_empty() {
            after += 1;
            assert_eq!(packet_units(Codec::Opus, &payload), Some(960));
        }
    }
    assert!(empty == 1 && after > 0, "{empty} {after}");
}

#[test]
fn a_decoder_that_panics_costs_a_packet_and_not_the_call() {
    let (mut encoder, mut decoder) = (OpusEncoder::new(), OpusDecoder::new());
    let (mut payload, mut out) = (Vec::new(), Vec::new());
    encoder.encode(&speech(48_000, 0.02), &mut payload);
    assert!(!decoder.guarded(960, &mut out, |_, _| panic!("as if a packet had done it")));
    assert!(out.is_empty());
    assert!(decoder.decode(&payload, &mut out));
    assert_eq!(out.len(), 960);
}

#[test]
fn the_library_has_no_packets_of_30_and_50_ms_and_ours_are_made_of_several_frames() {
    for ms in [30, 50] {
        let samples = speech(48_000, 0.05);
        let samples = &samples[..48 * ms];
        let mut payload = vec![0; OPUS_MAX_PAYLOAD];
        let encoded =
            bare(48_000, Application::Audio, OPUS_BITRATE).encode_i16(samples, samples.len(), &mut payload);
        assert!(encoded.is_err(), "{ms} ms");
        for rate in [6_000, 20_000, 64_000] {
            let (mut out, mut payload) = (Vec::new(), Vec::new());
            correcting(rate, 0.0).encode(samples, &mut payload);
            assert!(OpusDecoder::new().decode(&payload, &mut out));
            assert_eq!(out.len(), samples.len(), "{ms} ms at {rate} bit/s");
        }
    }
}

/// Has a second of a voice, then a second of nothing: the energy of each one's last frame.
fn lost(mut conceal: impl FnMut(&[u8]) -> Vec<i16>) -> (f64, f64) {
    let mut encoder = OpusEncoder::new();
    let energy = |samples: &[i16]| {
        samples
            .iter()
            .map(|sample| f64::from(*sample).powi(2))
            .sum::<f64>()
    };
    let (mut payload, mut heard) = (Vec::new(), Vec::new());
    for frame in speech(48_000, 1.0).chunks_exact(960) {
        encoder.encode(frame, &mut payload);
        heard = conceal(&payload);
    }
    let before = energy(&heard);
    for _ in 0..50 {
        heard = conceal(&[]);
    }
    (before, energy(&heard))
}

#[test]
fn the_library_hums_on_for_a_lost_peer_and_ours_fades() {
    let mut library = OpusDecoder::fresh();
    let (before, after) = lost(|payload| {
        let mut samples = vec![0.0; 960];
        library.decode(payload, 960, &mut samples).unwrap();
        samples.into_iter().map(to_i16).collect()
    });
    assert!(after > before / 50.0, "{after} of {before}");
    let mut own = OpusDecoder::new();
    let (before, after) = lost(|payload| {
        let mut out = Vec::new();
        match payload {
            [] => own.conceal(960, None, &mut out),
            payload => assert!(own.decode(payload, &mut out)),
        }
        out
    });
    assert!(after < before / 10_000.0, "{after} of {before}");
}

#[test]
fn the_library_conceals_in_steps_of_two_and_a_half_ms_and_ours_as_much_as_is_wanted() {
    let mut samples = vec![0.0; 100];
    assert!(OpusDecoder::fresh().decode(&[], 100, &mut samples).is_err());
    for count in [1, 100, 961] {
        let mut out = Vec::new();
        OpusDecoder::new().conceal(count, None, &mut out);
        assert_eq!(out.len(), count);
    }
}

#[test]
fn the_library_leaves_error_correction_out_at_low_loss_and_ours_has_it() {
    let voice = speech(48_000, 1.0);
    // RFC 6716 section 4.2.3: behind the TOC octet a packet of 20 ms has one flag of activity and one of LBRR.
    let has_copy = |payload: &[u8]| payload.get(1).is_some_and(|octet| octet & 0x40 != 0);
    let mut library = bare(16_000, Application::Voip, 20_000);
    (library.use_inband_fec, library.packet_loss_perc) = (true, 2);
    let bare = speech(16_000, 1.0).chunks_exact(320).any(|frame| {
        let mut payload = vec![0; OPUS_MAX_PAYLOAD];
        library.encode_i16(frame, 320, &mut payload).unwrap();
        has_copy(&payload)
    });
    assert!(!bare);
    let (mut encoder, mut payload, mut copies) = (correcting(20_000, 0.02), Vec::new(), 0);
    for frame in voice.chunks_exact(960) {
        encoder.encode(frame, &mut payload);
        copies += usize::from(has_copy(&payload));
    }
    assert!(copies > 10, "{copies}");
}

#[test]
fn the_librarys_own_mode_for_voices_loses_the_waveform() {
    let voice = speech(48_000, 2.0);
    let through = |mut encoder: opus_rs::OpusEncoder| {
        let (mut decoder, mut heard) = (OpusDecoder::new(), Vec::new());
        for frame in voice.chunks_exact(960) {
            let mut payload = vec![0; OPUS_MAX_PAYLOAD];
            let written = encoder.encode_i16(frame, 960, &mut payload).unwrap();
            assert!(decoder.decode(&payload[..written], &mut heard));
        }
        delayed_correlation(&voice, &heard, 2_400)
    };
    let voip = through(bare(48_000, Application::Voip, OPUS_BITRATE));
    let audio = through(*OpusEncoder::fresh(false));
    assert!(audio > 0.98 && voip < 0.95, "{audio} {voip}");
}
