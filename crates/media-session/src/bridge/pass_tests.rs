use super::*;
use crate::dtmf::EventPacket;
use bytes::Bytes;
use proptest::prelude::*;
use siprtc_core::media::{Codec, RtpPacket};

fn side(payload_type: u8) -> NegotiatedAudio {
    NegotiatedAudio {
        payload_type,
        telephone_event: Some((101, 8_000)),
        ..NegotiatedAudio::of(Codec::Opus)
    }
}

fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> RtpPacket {
    RtpPacket {
        payload_type: 111,
        marker: false,
        sequence,
        timestamp,
        ssrc,
        // One frame of 20 ms.
        payload: Bytes::from_static(&[0xf8, 1, 2, 3]),
    }
}

fn pass() -> PassThrough {
    PassThrough::starting_at(side(111), side(96), 65_535, u32::MAX).unwrap()
}

#[test]
fn loss_and_order_pass_through_and_the_payload_is_not_copied() {
    let mut pass = pass();
    let numbers = [10u16, 11, 14, 13, 15];
    let mut out = Vec::new();
    for number in numbers {
        let packet = packet(1, number, 960 * u32::from(number));
        let sent = pass.rewrite(&packet).unwrap();
        assert_eq!(sent.payload.as_ptr(), packet.payload.as_ptr());
        assert_eq!((sent.payload_type, sent.ssrc), (96, 0));
        out.push((sent.sequence, sent.timestamp));
    }
    let expected = numbers.map(|number| {
        let passed = number - 10;
        (
            65_535u16.wrapping_add(passed),
            u32::MAX.wrapping_add(960 * u32::from(passed)),
        )
    });
    assert_eq!(out, expected);
    assert_eq!(pass.stats().lost, 1);
}

#[test]
fn another_source_goes_on_where_the_last_one_was_and_stragglers_are_left_out() {
    let mut pass = pass();
    let last = pass.rewrite(&packet(1, 5, 1_000)).unwrap();
    let first = pass.rewrite(&packet(2, 40_000, 77)).unwrap();
    assert_eq!(first.sequence, last.sequence.wrapping_add(1));
    assert_eq!(first.timestamp, last.timestamp.wrapping_add(960));
    assert!(first.marker);
    assert_eq!(pass.rewrite(&packet(1, 6, 1_960)), None);
    let second = pass.rewrite(&packet(2, 40_001, 77 + 960)).unwrap();
    assert_eq!(second.sequence, first.sequence.wrapping_add(1));
    assert!(!second.marker);
    // The same source from other numbers: it takes two to be believed (RFC 3550 appendix A.1).
    assert_eq!(pass.rewrite(&packet(2, 9, 9)), None);
    let anew = pass.rewrite(&packet(2, 10, 9 + 960)).unwrap();
    assert_eq!(anew.sequence, second.sequence.wrapping_add(1));
    assert_eq!(anew.timestamp, second.timestamp.wrapping_add(960));
}

#[test]
fn what_the_other_side_has_no_type_for_leaves_no_hole() {
    let mut pass = PassThrough::starting_at(side(111), NegotiatedAudio::of(Codec::Opus), 0, 0).unwrap();
    let mut sent = Vec::new();
    for number in 0..6u16 {
        let mut packet = packet(1, number, 960 * u32::from(number));
        if number == 2 || number == 3 {
            (packet.payload_type, packet.payload) = (101, Bytes::from_static(&[1, 2, 3, 4]));
        }
        sent.extend(pass.rewrite(&packet).map(|packet| packet.sequence));
    }
    assert_eq!(sent, [0, 1, 2, 3]);
    assert_eq!(pass.stats().dropped, 2);
}

fn event(timestamp: u32, covers: u32, last: bool) -> EventPacket {
    EventPacket {
        marker: covers <= 960,
        timestamp,
        payload: Bytes::from_static(&[5, 10, 0, 0]),
        covers,
        last,
    }
}

#[test]
fn an_event_of_ours_takes_numbers_of_the_stream_and_what_comes_meanwhile_is_left_out() {
    let mut pass = PassThrough::starting_at(side(111), side(96), 100, 0).unwrap();
    let push =
        |pass: &mut PassThrough, number: u16| pass.rewrite(&packet(1, number, 960 * u32::from(number)));
    let mut sent = Vec::new();
    sent.extend(push(&mut pass, 10));
    let start = pass.next().1;
    sent.push(pass.insert(101, event(start, 960, false)));
    assert_eq!(push(&mut pass, 12), None);
    // The packet before it comes late, while the digit sounds and afterwards.
    assert_eq!(push(&mut pass, 11), None);
    sent.push(pass.insert(101, event(start, 1_920, true)));
    assert_eq!(push(&mut pass, 9), None);
    sent.extend(push(&mut pass, 13));
    let numbers: Vec<u16> = sent.iter().map(|packet| packet.sequence).collect();
    assert_eq!(numbers[..3], [100, 101, 102]);
    // 11 never came in time: its hole is seen behind the event.
    assert_eq!(numbers[3], 104);
    assert_eq!(sent[3].timestamp.wrapping_sub(sent[0].timestamp), 3 * 960);
    assert_eq!(
        sent.iter().map(|packet| packet.payload_type).collect::<Vec<_>>(),
        [96, 101, 101, 96]
    );
}

#[test]
fn after_an_event_into_a_silent_stream_its_time_has_passed() {
    let mut pass = PassThrough::starting_at(side(111), side(96), 0, 500).unwrap();
    let late = 500 + 48_000 * 5;
    pass.insert(101, event(late, 960, false));
    pass.insert(101, event(late, 4_800, true));
    assert_eq!(pass.next(), (2, late + 4_800));
}

#[test]
fn other_codecs_or_clocks_need_a_transcoder() {
    use siprtc_core::Fault::ApiMisuse;
    let other = NegotiatedAudio::of(Codec::Pcmu);
    assert_eq!(PassThrough::new(side(111), other).unwrap_err().fault(), ApiMisuse);
    let clock = NegotiatedAudio {
        telephone_event: Some((101, 48_000)),
        ..side(111)
    };
    assert_eq!(PassThrough::new(side(111), clock).unwrap_err().fault(), ApiMisuse);
}

proptest! {
    /// Sources that come and go, lose, double and jump: no number is used twice, and a clean source is passed on whole.
    #[test]
    fn no_sequence_number_is_used_twice(
        steps in proptest::collection::vec((0u8..20, 0u16..5, any::<u32>()), 1..300),
    ) {
        let mut pass = pass();
        let mut numbers = [0u16; 5];
        let mut used = std::collections::HashSet::new();
        let mut highest = None::<u16>;
        for (what, source, time) in steps {
            if what == 6 {
                let at = pass.next().1;
                let sent = pass.insert(101, event(at, 960, time & 1 == 0));
                prop_assert!(used.insert(sent.sequence), "{} again", sent.sequence);
                highest = Some(sent.sequence);
                continue;
            }
            let place = usize::from(source);
            numbers[place] = numbers[place].wrapping_add(match what { 0 => 0, 1 => 3, 2 => 20_000, _ => 1 });
            let mut next = packet(u32::from(source), numbers[place], u32::from(numbers[place]).wrapping_mul(960));
            match what {
                3 => next.timestamp = time,
                4 => next.payload_type = time as u8 & 0x7f,
                5 => next.sequence = next.sequence.wrapping_sub(2),
                _ => {}
            }
            if let Some(sent) = pass.rewrite(&next) {
                prop_assert!(used.insert(sent.sequence), "{} again", sent.sequence);
                let ahead = highest.map_or(1, |highest| sent.sequence.wrapping_sub(highest) as i16);
                prop_assert!((-110..3_100).contains(&ahead), "{ahead}");
                if ahead > 0 {
                    highest = Some(sent.sequence);
                }
            }
        }
    }
}
