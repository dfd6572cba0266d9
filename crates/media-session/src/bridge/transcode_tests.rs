use super::*;
use crate::codec;
use crate::dtmf::EventPacket;
use crate::signal::{delayed_correlation, speech};
use bytes::Bytes;
use proptest::prelude::*;
use siprtc_core::media::{AudioParameters, Codec, RtpPacket};

const SSRC: u32 = 5;

fn side(codec: Codec, ptime: u32) -> NegotiatedAudio {
    NegotiatedAudio {
        ptime,
        telephone_event: Some((101, 8_000)),
        ..NegotiatedAudio::of(codec)
    }
}

fn with_noise(codec: Codec) -> NegotiatedAudio {
    let parameters = AudioParameters {
        comfort_noise: Some((13, 8_000)),
        ..AudioParameters::default()
    };
    NegotiatedAudio {
        parameters,
        ..side(codec, 20)
    }
}

fn packet(payload_type: u8, sequence: u16, timestamp: u32, payload: Vec<u8>) -> RtpPacket {
    RtpPacket {
        payload_type,
        marker: false,
        sequence,
        timestamp,
        ssrc: SSRC,
        payload: payload.into(),
    }
}

/// A voice in packets of `audio`'s, from these numbers on.
fn packets(audio: &NegotiatedAudio, voice: &[i16], sequence: u16, timestamp: u32) -> Vec<RtpPacket> {
    let frame = (audio.codec.sample_rate() * audio.ptime / 1_000) as usize;
    let units = audio.codec.clock_rate() * audio.ptime / 1_000;
    let mut encoder = codec::encoder(audio.codec);
    let encode = |(index, frame): (usize, &[i16])| {
        let mut payload = Vec::new();
        encoder.encode(frame, &mut payload);
        let timestamp = timestamp.wrapping_add(units * index as u32);
        packet(
            audio.payload_type,
            sequence.wrapping_add(index as u16),
            timestamp,
            payload,
        )
    };
    voice.chunks_exact(frame).enumerate().map(encode).collect()
}

fn hear(audio: &NegotiatedAudio, sent: &[RtpPacket]) -> Vec<i16> {
    let (mut decoder, mut heard) = (codec::decoder(audio.codec), Vec::new());
    for packet in sent
        .iter()
        .filter(|packet| packet.payload_type == audio.payload_type)
    {
        assert!(decoder.decode(&packet.payload, &mut heard));
    }
    heard
}

fn push_all(transcoder: &mut Transcoder, packets: &[RtpPacket]) -> Vec<RtpPacket> {
    let mut out = Vec::new();
    packets
        .iter()
        .for_each(|packet| transcoder.push(packet, &mut out));
    out
}

fn assert_continuous(sent: &[RtpPacket]) {
    for pair in sent.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert!(
            (pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32) >= 0,
            "{pair:?}"
        );
    }
}

#[test]
fn a_voice_survives_every_pair_of_codecs_and_packet_times() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            for (ptime_in, ptime_out) in [(20, 20), (10, 60), (60, 10), (30, 20), (20, 50)] {
                let (from, to) = (side(from, ptime_in), side(to, ptime_out));
                let name = format!("{} {ptime_in} ms to {} {ptime_out} ms", from.codec, to.codec);
                let rate = from.codec.sample_rate();
                let sent = packets(&from, &speech(rate, 0.6), 65_530, u32::MAX - 3_000);
                let mut transcoder =
                    Transcoder::starting_at(from, to, TranscodeOptions::default(), 65_520, u32::MAX - 999);
                let out = push_all(&mut transcoder, &sent);
                assert_continuous(&out);
                assert_eq!(
                    (out[0].sequence, out[0].timestamp, out[0].marker),
                    (65_520, u32::MAX - 999, true)
                );
                let units = to.codec.clock_rate() * ptime_out / 1_000;
                assert!(
                    out.windows(2)
                        .all(|p| p[1].timestamp.wrapping_sub(p[0].timestamp) == units),
                    "{name}"
                );
                assert!(out[1..].iter().all(|packet| !packet.marker));
                let heard = hear(&to, &out);
                // All of it but what does not fill a packet.
                let rate = to.codec.sample_rate();
                let missing = rate as usize * 6 / 10 - heard.len();
                assert!(missing < (rate * ptime_out / 1_000) as usize, "{name}: {missing}");
                let correlation = delayed_correlation(&speech(rate, 0.6), &heard, rate as usize / 60);
                assert!(correlation > 0.93, "{name}: {correlation}");
            }
        }
    }
}

#[test]
fn loss_is_concealed_or_passed_on_as_said() {
    for (from, to) in [
        (Codec::Pcmu, Codec::Opus),
        (Codec::Opus, Codec::Pcma),
        (Codec::G722, Codec::G722),
    ] {
        let (from, to) = (side(from, 20), side(to, 20));
        let mut sent = packets(&from, &speech(from.codec.sample_rate(), 2.0), 10, 0);
        sent.retain(|packet| packet.sequence % 10 != 5);
        for loss in [OnLoss::Conceal, OnLoss::PassOn] {
            let options = TranscodeOptions {
                loss,
                ..TranscodeOptions::default()
            };
            let mut transcoder = Transcoder::starting_at(from, to, options, 0, 0);
            let mut out = push_all(&mut transcoder, &sent);
            transcoder.flush(&mut out);
            let stats = transcoder.stats();
            assert_eq!((stats.lost, stats.concealed, stats.late), (10, 10, 0));
            let units = to.codec.clock_rate() / 50;
            for packet in &out {
                assert_eq!(packet.timestamp, units * u32::from(packet.sequence));
            }
            match loss {
                OnLoss::Conceal => assert_eq!((out.len(), stats.passed_on), (100, 0)),
                OnLoss::PassOn => assert_eq!((out.len(), stats.passed_on), (90, 10)),
            }
        }
    }
}

#[test]
fn packets_that_swap_places_are_no_loss() {
    let (from, to) = (side(Codec::Pcmu, 20), side(Codec::Opus, 20));
    let mut sent = packets(&from, &speech(8_000, 1.0), 0, 0);
    for index in (3..45).step_by(7) {
        sent.swap(index, index + 1);
    }
    let mut transcoder = Transcoder::new(from, to, TranscodeOptions::default());
    let out = push_all(&mut transcoder, &sent);
    assert_eq!(
        (out.len(), transcoder.stats().concealed, transcoder.stats().late),
        (50, 0, 0)
    );
    assert_continuous(&out);
}

#[test]
fn a_pause_of_the_sender_is_a_pause_of_the_same_length() {
    let (from, to) = (side(Codec::Opus, 20), side(Codec::Pcmu, 20));
    let voice = speech(48_000, 0.2);
    let mut sent = packets(&from, &voice, 0, 0);
    sent.extend(packets(&from, &voice, 10, 480_000));
    let mut transcoder = Transcoder::starting_at(from, to, TranscodeOptions::default(), 0, 0);
    let out = push_all(&mut transcoder, &sent);
    assert_continuous(&out);
    assert_eq!((out.len(), out[10].timestamp, out[10].marker), (20, 80_000, true));
    assert_eq!(transcoder.stats().concealed, 0);
}

#[test]
fn a_source_that_begins_anew_continues_the_stream() {
    let (from, to) = (side(Codec::Pcma, 20), side(Codec::Opus, 40));
    let mut sent = packets(&from, &speech(8_000, 0.5), 100, 9_000);
    let mut other = packets(&from, &speech(8_000, 0.5), 40_000, 77);
    other.iter_mut().for_each(|packet| packet.ssrc = 6);
    sent.extend(other);
    let mut transcoder = Transcoder::starting_at(from, to, TranscodeOptions::default(), 0, 0);
    let out = push_all(&mut transcoder, &sent);
    assert_continuous(&out);
    // 25 packets are 12 and a half, filled up, and 12 and a half again.
    assert_eq!(out.len(), 25);
    assert!(
        out.windows(2)
            .all(|pair| pair[1].timestamp - pair[0].timestamp == 1_920)
    );
    assert!(out[13].marker);
}

#[test]
fn codecs_change_in_mid_call_without_a_jump() {
    let (from, to) = (side(Codec::Pcmu, 20), side(Codec::Opus, 20));
    let mut transcoder = Transcoder::starting_at(from, to, TranscodeOptions::default(), 0, 0);
    let mut out = push_all(&mut transcoder, &packets(&from, &speech(8_000, 0.2), 0, 0));
    let (from, to) = (side(Codec::G722, 20), side(Codec::Pcma, 30));
    transcoder.change(from, to, &mut out);
    let later = packets(&from, &speech(16_000, 0.6), 10, 1_600);
    out.extend(push_all(&mut transcoder, &later));
    assert_continuous(&out);
    assert_eq!(
        (out.len(), out[10].timestamp, out[10].payload_type),
        (30, 9_600, 8)
    );
    assert_eq!(out[29].timestamp, 9_600 + 19 * 240);
}

#[test]
fn digits_are_passed_on_with_their_time_and_type() {
    let from = side(Codec::Opus, 20);
    let to = NegotiatedAudio {
        telephone_event: Some((96, 8_000)),
        ..side(Codec::Pcmu, 20)
    };
    let voice = packets(&from, &speech(48_000, 1.0), 0, 0);
    let mut sent = voice[..10].to_vec();
    // An event of 100 ms in six packets, the ends among them, while no audio is sent.
    for (index, duration) in [160u16, 320, 480, 640, 800, 800].into_iter().enumerate() {
        let [high, low] = duration.to_be_bytes();
        let end = if index >= 4 { 0x80 } else { 0 };
        let mut event = packet(101, 10 + index as u16, 9_600, vec![7, end | 10, high, low]);
        event.marker = index == 0;
        sent.push(event);
    }
    for (index, packet) in voice[16..].iter().enumerate() {
        sent.push(RtpPacket {
            sequence: 16 + index as u16,
            ..packet.clone()
        });
    }
    let mut transcoder = Transcoder::starting_at(from, to, TranscodeOptions::default(), 0, 0);
    let out = push_all(&mut transcoder, &sent);
    assert_continuous(&out);
    let events: Vec<&RtpPacket> = out.iter().filter(|packet| packet.payload_type == 96).collect();
    assert_eq!(events.len(), 6);
    assert!(events.iter().all(|event| event.timestamp == 1_600));
    assert_eq!(events[5].payload, Bytes::from_static(&[7, 0x8a, 3, 32]));
    assert!(events[0].marker && !events[1].marker);
    let after = &out[16];
    assert_eq!(
        (after.timestamp, after.payload_type, after.marker),
        (16 * 160, 0, true)
    );
    assert_eq!(transcoder.stats().concealed, 0);
}

#[test]
fn an_event_of_ours_is_heard_instead_of_the_voice_and_the_stream_goes_on() {
    let (from, to) = (side(Codec::Opus, 20), side(Codec::Pcmu, 20));
    let mut transcoder = Transcoder::starting_at(from, to, TranscodeOptions::default(), 7, 1_000);
    let voice = packets(&from, &speech(48_000, 1.0), 0, 0);
    let mut sent = push_all(&mut transcoder, &voice[..20]);
    let start = transcoder.next().1;
    for tick in 1..=5 {
        let event = EventPacket {
            marker: tick == 1,
            timestamp: start,
            payload: Bytes::from_static(&[5, 10, 0, 0]),
            covers: 160 * tick,
            last: tick == 5,
        };
        transcoder.insert(101, event, &mut sent);
        sent.extend(push_all(
            &mut transcoder,
            &voice[19 + tick as usize..20 + tick as usize],
        ));
    }
    sent.extend(push_all(&mut transcoder, &voice[25..]));
    let numbers: Vec<u16> = sent.iter().map(|packet| packet.sequence).collect();
    assert_eq!(numbers, (7..7 + numbers.len() as u16).collect::<Vec<_>>());
    let times: Vec<u32> = sent.iter().map(|packet| packet.timestamp).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    let events = sent.iter().filter(|packet| packet.payload_type == 101).count();
    assert_eq!(events, 5);
    let whole = 1_000 + 8_000;
    assert!(
        transcoder.next().1.abs_diff(whole) <= 320,
        "{}",
        transcoder.next().1
    );
}

#[test]
fn comfort_noise_is_passed_on_where_it_can_be_told() {
    let (from, to) = (with_noise(Codec::G722), with_noise(Codec::Pcmu));
    let voice = packets(&from, &speech(16_000, 0.2), 0, 0);
    let mut transcoder = Transcoder::starting_at(from, to, TranscodeOptions::default(), 0, 0);
    let mut out = push_all(&mut transcoder, &voice);
    transcoder.push(&packet(13, 10, 1_600, vec![60, 100, 120]), &mut out);
    transcoder.idle(&mut out);
    let noise = &out[10];
    // Coefficients of 16 kHz mean nothing at 8 kHz.
    assert_eq!(
        (noise.payload_type, noise.timestamp, &noise.payload[..]),
        (13, 1_600, &[60][..])
    );
    let mut again = packets(&from, &speech(16_000, 0.2), 12, 8_000);
    again.remove(0);
    out.extend(push_all(&mut transcoder, &again));
    assert_continuous(&out);
    assert_eq!((out[11].timestamp, out[11].marker), (8_160, true));
    assert_eq!((transcoder.stats().concealed, transcoder.stats().lost), (0, 2));
}

#[test]
fn comfort_noise_is_made_where_it_cannot_be_told() {
    let (from, to) = (with_noise(Codec::Pcmu), side(Codec::Opus, 20));
    let mut transcoder = Transcoder::starting_at(from, to, TranscodeOptions::default(), 0, 0);
    let mut out = push_all(&mut transcoder, &packets(&from, &speech(8_000, 0.2), 0, 0));
    transcoder.idle(&mut out);
    assert_eq!(
        out.len(),
        10,
        "nothing is made up while the other side only is late"
    );
    transcoder.push(&packet(13, 10, 1_600, vec![40]), &mut out);
    (0..50).for_each(|_| transcoder.idle(&mut out));
    assert_eq!(out.len(), 60);
    let heard = hear(&to, &out);
    let level = crate::level_dbov(&heard[20 * 960..]);
    assert!((level + 40.0).abs() < 4.0, "{level}");
    out.extend(push_all(
        &mut transcoder,
        &packets(&from, &speech(8_000, 0.2), 11, 10_400),
    ));
    assert_continuous(&out);
    assert_eq!(out[60].timestamp, 10_400 * 6);
}

#[test]
fn silence_goes_out_as_comfort_noise_when_that_is_switched_on() {
    let (from, to) = (side(Codec::Opus, 20), with_noise(Codec::Pcma));
    let options = TranscodeOptions {
        silence_detection: true,
        ..TranscodeOptions::default()
    };
    let mut voice = speech(48_000, 1.0);
    voice.extend(vec![0; 48_000 * 2]);
    voice.extend(speech(48_000, 1.0));
    let mut transcoder = Transcoder::starting_at(from, to, options, 0, 0);
    let out = push_all(&mut transcoder, &packets(&from, &voice, 0, 0));
    assert_continuous(&out);
    let noise = out.iter().filter(|packet| packet.payload_type == 13).count();
    assert!((4..=6).contains(&noise), "{noise}");
    assert!(out.len() < 125, "{}", out.len());
    let resumed = out
        .windows(2)
        .find(|pair| pair[0].payload_type == 13 && pair[1].payload_type == 8);
    assert!(resumed.is_some_and(|pair| pair[1].marker));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_comes_in_what_goes_out_is_a_stream(
        codecs in proptest::sample::select(Codec::ALL.iter().flat_map(|a| Codec::ALL.map(|b| (*a, b))).collect::<Vec<_>>()),
        ptimes in (10u32..70, 10u32..70),
        pass_on in any::<bool>(),
        silence_detection in any::<bool>(),
        start in any::<(u16, u32)>(),
        steps in proptest::collection::vec(
            (0u8..12, any::<u16>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..400)), 0..60,
        ),
    ) {
        let (from, to) = (side(codecs.0, ptimes.0), NegotiatedAudio { ptime: ptimes.1, ..with_noise(codecs.1) });
        let loss = if pass_on { OnLoss::PassOn } else { OnLoss::Conceal };
        let options = TranscodeOptions { loss, silence_detection };
        let mut transcoder = Transcoder::starting_at(from, to, options, start.0, start.1);
        let (mut out, mut sequence, mut timestamp) = (Vec::new(), 0u16, 0u32);
        for (what, number, time, payload) in steps {
            let units = codec::packet_units(codecs.0, &payload).unwrap_or(160);
            let mut next = packet(from.payload_type, sequence, timestamp, payload);
            match what {
                0 => next.sequence = number,
                1 => next.timestamp = time,
                2 => next.payload_type = 101,
                3 => next.payload_type = 13,
                4 => next.payload_type = number as u8 & 0x7f,
                5 => next.ssrc = u32::from(number % 2) + SSRC,
                6 => transcoder.idle(&mut out),
                9 => {
                    let event = EventPacket {
                        marker: number % 4 == 0,
                        timestamp: transcoder.next().1,
                        payload: Bytes::from_static(&[1, 10, 0, 0]),
                        covers: time % 2_000,
                        last: number % 2 == 0,
                    };
                    transcoder.insert(101, event, &mut out);
                }
                7 => sequence = sequence.wrapping_add(number % 4),
                8 => timestamp = timestamp.wrapping_add(time % 100_000),
                _ => {}
            }
            sequence = sequence.wrapping_add(1);
            timestamp = timestamp.wrapping_add(units);
            transcoder.push(&next, &mut out);
        }
        transcoder.flush(&mut out);
        let stats = transcoder.stats();
        prop_assert_eq!(stats.sent, out.len() as u64);
        if let Some(first) = out.first() {
            prop_assert!(pass_on || first.sequence == start.0);
        }
        let mut left_out = 0u64;
        for pair in out.windows(2) {
            let step = pair[1].sequence.wrapping_sub(pair[0].sequence);
            prop_assert!(step >= 1);
            left_out += u64::from(step - 1);
        }
        prop_assert!(left_out <= stats.passed_on);
        let audio: Vec<&RtpPacket> = out.iter().filter(|packet| packet.payload_type == to.payload_type).collect();
        for pair in audio.windows(2) {
            prop_assert!((pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32) > 0);
        }
        for packet in audio {
            let expected = to.codec.clock_rate() * codec::usable_ptime(to.ptime) / 1_000;
            prop_assert_eq!(codec::packet_units(to.codec, &packet.payload), Some(expected));
        }
    }
}
