use super::*;
use crate::signal::{delayed_correlation, speech, tone};
use proptest::prelude::*;

fn round_trip(codec: Codec) -> f64 {
    let rate = codec.sample_rate();
    let original = speech(rate, 2.0);
    let (mut encoder, mut decoder) = (encoder(codec), decoder(codec));
    let (mut payload, mut decoded) = (Vec::new(), Vec::new());
    for frame in original.chunks_exact(rate as usize / 50) {
        encoder.encode(frame, &mut payload);
        assert_eq!(packet_units(codec, &payload), Some(codec.clock_rate() / 50));
        assert!(decoder.decode(&payload, &mut decoded));
    }
    assert_eq!(decoded.len(), original.len());
    delayed_correlation(&original, &decoded, rate as usize / 20)
}

#[test]
fn every_codec_gives_back_what_was_encoded() {
    for codec in Codec::ALL {
        let correlation = round_trip(codec);
        assert!(correlation > 0.95, "{codec}: {correlation}");
    }
}

#[test]
fn every_packet_time_that_is_called_usable_can_be_encoded() {
    for codec in Codec::ALL {
        for ptime in [0, 10, 15, 20, 25, 30, 40, 50, 60, 61, 120] {
            let usable = usable_ptime(ptime);
            let samples = vec![0; (codec.sample_rate() * usable / 1_000) as usize];
            let mut payload = Vec::new();
            encoder(codec).encode(&samples, &mut payload);
            assert_eq!(
                packet_units(codec, &payload),
                Some(codec.clock_rate() * usable / 1_000),
                "{codec} {usable}"
            );
        }
    }
}

#[test]
fn a_missing_packet_is_bridged_and_a_long_gap_fades_to_silence() {
    for codec in Codec::ALL {
        let rate = codec.sample_rate() as usize;
        let (mut encoder, mut decoder) = (encoder(codec), decoder(codec));
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        for frame in speech(rate as u32, 1.0).chunks_exact(rate / 50) {
            encoder.encode(frame, &mut payload);
            decoder.decode(&payload, &mut out);
        }
        let (heard, start) = (energy(&out[out.len() - rate / 50..]), out.len());
        for _ in 0..50 {
            decoder.conceal(rate / 50, None, &mut out);
        }
        assert_eq!(out.len(), start + rate);
        let bridged = energy(&out[start..start + rate / 100]);
        assert!(bridged > heard / 20.0, "{codec}: {bridged} after {heard}");
        let end = energy(&out[out.len() - rate / 50..]);
        assert!(end < heard / 100.0, "{codec}: {end} after {heard}");
    }
}

/// A voice that changes too fast to be guessed: another pitch and another colour every 70 ms.
fn restless(seconds: usize) -> Vec<i16> {
    let mut phase = 0.0f64;
    (0..48_000 * seconds)
        .map(|index| {
            let piece = index / 3_360;
            let pitch = 95.0 + (piece * 37 % 11) as f64 * 14.0;
            phase += std::f64::consts::TAU * pitch / 48_000.0;
            let colour = 2 + piece * 29 % 13;
            let harmonics: f64 = (1..24)
                .map(|n| {
                    let away = (n as f64 - colour as f64).abs();
                    (phase * n as f64).sin() / (1.0 + away)
                })
                .sum();
            (harmonics * 4_000.0) as i16
        })
        .collect()
}

/// Encodes, and says what a decoder that misses every tenth packet makes of the missing ones, against one that misses
/// none: signal to noise in dB.
fn rebuilt(tuning: &Tuning, corrected: bool) -> f64 {
    let original = restless(6);
    let mut encoder = encoder(Codec::Opus);
    encoder.tune(tuning);
    let packets: Vec<Vec<u8>> = original
        .chunks_exact(960)
        .map(|frame| {
            let mut payload = Vec::new();
            encoder.encode(frame, &mut payload);
            payload
        })
        .collect();
    let (mut whole, mut holed) = (decoder(Codec::Opus), decoder(Codec::Opus));
    let (mut signal, mut noise) = (0.0, 0.0);
    for (index, packet) in packets.iter().enumerate() {
        let (mut truth, mut heard) = (Vec::new(), Vec::new());
        whole.decode(packet, &mut truth);
        if index % 10 == 9 {
            let next = packets.get(index + 1).filter(|_| corrected).map(Vec::as_slice);
            holed.conceal(960, next, &mut heard);
            signal += energy(&truth);
            let error: Vec<i16> = truth
                .iter()
                .zip(&heard)
                .map(|(a, b)| a.saturating_sub(*b))
                .collect();
            noise += energy(&error);
        } else {
            holed.decode(packet, &mut heard);
        }
    }
    10.0 * (signal / noise).log10()
}

#[test]
fn forward_error_correction_rebuilds_what_concealment_can_only_guess() {
    let tuning = Tuning {
        inband_fec: true,
        max_average_bitrate: None,
        loss: 0.1,
    };
    let (rebuilt, guessed) = (rebuilt(&tuning, true), rebuilt(&tuning, false));
    println!("rebuilt with {rebuilt:.1} dB, guessed with {guessed:.1} dB");
    assert!(rebuilt > guessed + 3.0, "{rebuilt} {guessed}");
}

#[test]
fn error_correction_is_sent_only_to_a_peer_that_uses_it_and_loses_packets() {
    let silk = |tuning: Tuning| {
        let mut encoder = encoder(Codec::Opus);
        encoder.tune(&tuning);
        let mut payload = Vec::new();
        speech(48_000, 0.1)
            .chunks_exact(960)
            .for_each(|frame| encoder.encode(frame, &mut payload));
        // RFC 6716 section 3.1: configurations from 16 on are CELT only.
        payload[0] >> 3 < 16
    };
    let tuning = Tuning {
        inband_fec: true,
        max_average_bitrate: None,
        loss: 0.05,
    };
    assert!(silk(tuning));
    assert!(!silk(Tuning { loss: 0.0, ..tuning }));
    assert!(!silk(Tuning {
        inband_fec: false,
        ..tuning
    }));
}

#[test]
fn the_peers_bit_rate_is_kept() {
    let octets = |most: Option<u32>| {
        let mut encoder = encoder(Codec::Opus);
        encoder.tune(&Tuning {
            inband_fec: false,
            max_average_bitrate: most,
            loss: 0.0,
        });
        let mut sum = 0;
        for frame in speech(48_000, 4.0).chunks_exact(960) {
            let mut payload = Vec::new();
            encoder.encode(frame, &mut payload);
            sum += payload.len();
        }
        sum as f64 * 8.0 / 4.0
    };
    assert!((24_000.0..40_000.0).contains(&octets(None)), "{}", octets(None));
    assert!(octets(Some(20_000)) < 22_000.0, "{}", octets(Some(20_000)));
}

#[test]
fn stereo_is_heard_as_the_mix_of_both_sides() {
    let (left, right) = (tone(48_000, 440.0, 1.0), tone(48_000, 1_000.0, 1.0));
    let both: Vec<i16> = left
        .iter()
        .zip(&right)
        .flat_map(|(&left, &right)| [left, right])
        .collect();
    let mut encoder = opus_rs::OpusEncoder::new(48_000, 2, opus_rs::Application::Audio).unwrap();
    encoder.bitrate_bps = 96_000;
    let (mut decoder, mut heard) = (decoder(Codec::Opus), Vec::new());
    for frame in both.chunks_exact(1_920) {
        let mut payload = vec![0; 1_275];
        let written = encoder.encode_i16(frame, 960, &mut payload).unwrap();
        assert!(payload[0] & 4 != 0, "the packet is mono");
        assert!(decoder.decode(&payload[..written], &mut heard));
    }
    let mixed: Vec<i16> = left
        .iter()
        .zip(&right)
        .map(|(left, right)| left / 2 + right / 2)
        .collect();
    let correlation = delayed_correlation(&mixed, &heard, 1_000);
    assert!(correlation > 0.95, "{correlation}");
}

#[test]
fn audio_survives_every_packet_time() {
    for codec in Codec::ALL {
        for ptime in [10, 20, 30, 40, 50, 60] {
            let rate = codec.sample_rate();
            let original = speech(rate, 1.2);
            let (mut encoder, mut decoder) = (encoder(codec), decoder(codec));
            let (mut payload, mut decoded) = (Vec::new(), Vec::new());
            for frame in original.chunks_exact((rate * ptime / 1_000) as usize) {
                encoder.encode(frame, &mut payload);
                assert!(decoder.decode(&payload, &mut decoded), "{codec} {ptime}");
            }
            assert_eq!(decoded.len(), original.len(), "{codec} {ptime}");
            let correlation = delayed_correlation(&original, &decoded, rate as usize / 50);
            assert!(correlation > 0.95, "{codec} {ptime}: {correlation}");
        }
    }
}

#[test]
fn a_codec_is_told_how_long_a_packet_is_by_its_first_octets() {
    assert_eq!(packet_units(Codec::Opus, &[]), None);
    // SILK wideband 60 ms, two frames: 120 ms; three frames: longer than RFC 6716 allows.
    assert_eq!(packet_units(Codec::Opus, &[(11 << 3) | 1, 0, 0]), Some(5_760));
    assert_eq!(packet_units(Codec::Opus, &[(11 << 3) | 3, 3]), None);
    assert_eq!(packet_units(Codec::Opus, &[3]), None);
    assert_eq!(packet_units(Codec::Pcmu, &[0; 160]), Some(160));
    assert_eq!(packet_units(Codec::G722, &[0; 2_000]), None);
}

fn energy(samples: &[i16]) -> f64 {
    samples
        .iter()
        .map(|&sample| f64::from(sample).powi(2))
        .sum::<f64>()
        / samples.len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_payload_from_the_network_ends_a_decoder(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6),
    ) {
        for codec in Codec::ALL {
            let mut decoder = decoder(codec);
            let mut out = Vec::new();
            for payload in &payloads {
                decoder.decode(payload, &mut out);
                decoder.conceal(codec.sample_rate() as usize / 50, Some(payload), &mut out);
            }
            prop_assert!(out.len() >= payloads.len() * codec.sample_rate() as usize / 50);
        }
    }
}
