use super::*;
use proptest::prelude::*;
use siprtc_core::media::RtpPacket;

const FRAME: u32 = 160;

/// A buffer and the clock that drives it: 20 ms packets of 160 units, each with its number as payload.
struct Bench {
    start: Instant,
    buffer: JitterBuffer,
    played: Vec<Play>,
}

impl Bench {
    fn new(live: bool) -> Self {
        let start = Instant::now();
        Bench {
            start,
            buffer: JitterBuffer::new(8_000, live, start),
            played: Vec::new(),
        }
    }

    /// Packets as (arrival in ms, number); time then runs on to `until` in steps of 10 ms.
    fn run(&mut self, arrivals: &[(u64, u32)], until: u64) {
        let mut arrivals = arrivals.to_vec();
        arrivals.sort_unstable();
        let mut arrivals = arrivals.into_iter().peekable();
        for tick in (0..=until).step_by(10) {
            while let Some((ms, number)) = arrivals.next_if(|(ms, _)| *ms <= tick) {
                let at = self.start + Duration::from_millis(ms);
                self.buffer.insert(
                    Arrived {
                        bare: false,
                        at,
                        packet: packet(number),
                    },
                    FRAME,
                );
            }
            self.play(tick);
        }
    }

    fn play(&mut self, ms: u64) {
        while let Some(play) = self.buffer.poll(self.start + Duration::from_millis(ms), false) {
            self.played.push(play);
        }
    }

    fn numbers(&self) -> Vec<u32> {
        self.played.iter().filter_map(number).collect()
    }

    fn concealed_frames(&self) -> usize {
        self.played
            .iter()
            .filter(|play| matches!(play, Play::Conceal { .. }))
            .count()
    }
}

fn packet(number: u32) -> RtpPacket {
    RtpPacket {
        payload_type: 0,
        marker: false,
        sequence: (number as u16).wrapping_add(65_500),
        // Wraps around soon.
        timestamp: (number * FRAME).wrapping_add(u32::MAX - 1_000),
        ssrc: 1,
        payload: Bytes::copy_from_slice(&number.to_be_bytes()),
    }
}

fn number(play: &Play) -> Option<u32> {
    match play {
        Play::Packet { payload, .. } => payload[..].try_into().ok().map(u32::from_be_bytes),
        _ => None,
    }
}

fn steady(count: u32) -> Vec<(u64, u32)> {
    (0..count)
        .map(|number| (u64::from(number) * 20, number))
        .collect()
}

#[test]
fn a_steady_stream_comes_out_as_it_went_in() {
    let mut bench = Bench::new(true);
    bench.run(&steady(500), 500 * 20);
    assert_eq!(
        bench.numbers(),
        (0..bench.played.len() as u32).collect::<Vec<_>>()
    );
    assert!(bench.played.len() >= 497, "{}", bench.played.len());
    assert!(
        bench
            .played
            .iter()
            .all(|play| matches!(play, Play::Packet { shorten: false, .. }))
    );
}

#[test]
fn jitter_below_the_start_delay_is_not_heard() {
    let mut bench = Bench::new(false);
    let arrivals: Vec<_> = steady(200)
        .into_iter()
        .map(|(ms, n)| (ms + u64::from(n * 7 % 5) * 10, n))
        .collect();
    bench.run(&arrivals, 3_900);
    assert_eq!(bench.concealed_frames(), 0);
    assert_eq!(
        bench.numbers(),
        (0..bench.numbers().len() as u32).collect::<Vec<_>>()
    );
}

#[test]
fn a_lost_packet_is_concealed_in_its_place_with_the_next_one_at_hand() {
    let mut bench = Bench::new(false);
    let arrivals: Vec<_> = steady(50)
        .into_iter()
        .filter(|(_, number)| *number != 20)
        .collect();
    bench.run(&arrivals, 990);
    assert!(
        matches!(&bench.played[20], Play::Conceal { units: FRAME, next: Some(next) } if next[..] == 21u32.to_be_bytes())
    );
    assert_eq!(number(&bench.played[21]), Some(21));
    assert_eq!(bench.buffer.concealed(), Duration::from_millis(20));
}

#[test]
fn a_packet_that_comes_after_its_turn_is_late_and_not_played() {
    let mut bench = Bench::new(false);
    let arrivals: Vec<_> = steady(50)
        .into_iter()
        .map(|(ms, n)| if n == 20 { (ms + 100, n) } else { (ms, n) })
        .collect();
    bench.run(&arrivals, 990);
    assert_eq!(bench.buffer.late, 1);
    assert!(!bench.numbers().contains(&20));
    assert_eq!(bench.concealed_frames(), 1);
}

#[test]
fn packets_that_overtake_each_other_are_put_in_order_even_at_the_very_beginning() {
    let mut bench = Bench::new(false);
    let arrivals: Vec<_> = steady(50).into_iter().map(|(ms, n)| (ms, n ^ 1)).collect();
    bench.run(&arrivals, 990);
    assert_eq!(bench.numbers()[..40], (0..40).collect::<Vec<_>>()[..]);
    assert_eq!(bench.buffer.late, 0);
}

#[test]
fn a_burst_of_lateness_loses_nothing_and_is_made_up_for_by_a_longer_delay() {
    let mut bench = Bench::new(false);
    // The network holds packets 20 to 29 back and hands all over at 600 ms.
    let arrivals: Vec<_> = steady(100)
        .into_iter()
        .map(|(ms, n)| if (20..30).contains(&n) { (600, n) } else { (ms, n) })
        .collect();
    bench.run(&arrivals, 1_900);
    assert_eq!(bench.numbers()[..60], (0..60).collect::<Vec<_>>()[..]);
    assert_eq!(bench.buffer.late, 0);
    assert!(
        (5..=12).contains(&bench.concealed_frames()),
        "{}",
        bench.concealed_frames()
    );
}

#[test]
fn a_live_listener_gets_the_surplus_delay_taken_out_again() {
    let mut bench = Bench::new(true);
    let arrivals: Vec<_> = steady(3_000)
        .into_iter()
        .map(|(ms, n)| if (20..40).contains(&n) { (800, n) } else { (ms, n) })
        .collect();
    let mut arrivals = arrivals;
    arrivals.sort_unstable();
    let mut arrivals = arrivals.into_iter().peekable();
    for tick in (0..=60_000u64).step_by(10) {
        while let Some((ms, number)) = arrivals.next_if(|(ms, _)| *ms <= tick) {
            let at = bench.start + Duration::from_millis(ms);
            bench.buffer.insert(
                Arrived {
                    bare: false,
                    at,
                    packet: packet(number),
                },
                FRAME,
            );
        }
        while let Some(play) = bench
            .buffer
            .poll(bench.start + Duration::from_millis(tick), false)
        {
            if matches!(play, Play::Packet { shorten: true, .. }) {
                bench.buffer.shortened(40);
            }
            bench.played.push(play);
        }
    }
    assert!(
        bench.buffer.delay() < Duration::from_millis(200),
        "{:?}",
        bench.buffer.delay()
    );
}

#[test]
fn two_lost_packets_in_a_row_that_starve_the_buffer_do_not_stretch_time() {
    let mut bench = Bench::new(false);
    let arrivals: Vec<_> = steady(100)
        .into_iter()
        .filter(|(_, n)| !(20..25).contains(n))
        .collect();
    bench.run(&arrivals, 2_060);
    // 100 packets were sent; 5 are lost, and their time is filled.
    let frames = bench
        .played
        .iter()
        .filter(|play| !matches!(play, Play::Pause(_)))
        .count();
    let trailing = bench
        .played
        .iter()
        .rev()
        .take_while(|play| matches!(play, Play::Conceal { .. }))
        .count();
    assert!((frames - trailing).abs_diff(100) <= 2, "{frames} - {trailing}");
}

#[test]
fn the_senders_own_silence_is_silence_and_no_loss() {
    let mut bench = Bench::new(false);
    // Numbers 0 to 9, then a second of nothing, with the sequence numbers going on.
    for index in 0..30u32 {
        let number = if index < 10 { index } else { index + 50 };
        let ms = u64::from(number) * 20;
        let mut packet = packet(number);
        packet.sequence = index as u16;
        bench.play(ms.saturating_sub(1));
        bench.buffer.insert(
            Arrived {
                bare: false,
                at: bench.start + Duration::from_millis(ms),
                packet,
            },
            FRAME,
        );
    }
    bench.play(1_700);
    assert_eq!(bench.numbers().len(), 30);
    assert_eq!(bench.buffer.late, 0);
}

#[test]
fn a_pause_keeps_the_timeline() {
    let mut bench = Bench::new(false);
    let arrivals: Vec<_> = (0..50)
        .chain(500..550)
        .map(|number| (u64::from(number) * 20, number))
        .collect();
    bench.run(&arrivals, 11_100);
    let total: Duration = bench
        .played
        .iter()
        .map(|play| match play {
            Play::Pause(time) => *time,
            _ => Duration::from_millis(20),
        })
        .sum();
    let trailing = bench
        .played
        .iter()
        .rev()
        .take_while(|play| matches!(play, Play::Conceal { .. }))
        .count();
    let total = total - Duration::from_millis(20) * trailing as u32;
    assert!(total.as_millis().abs_diff(11_000) <= 80, "{total:?}");
}

#[test]
fn when_the_peer_is_gone_playing_stops_after_a_second() {
    let mut bench = Bench::new(false);
    bench.run(&steady(50), 20_000);
    assert!(
        (50..=52).contains(&bench.concealed_frames()),
        "{}",
        bench.concealed_frames()
    );
}

#[test]
fn a_process_that_was_not_run_does_not_fill_its_pause_with_concealment() {
    let mut bench = Bench::new(false);
    bench.run(&steady(50), 980);
    let at = |ms| bench.start + Duration::from_millis(ms);
    let mut plays = Vec::new();
    let mut buffer = std::mem::replace(&mut bench.buffer, JitterBuffer::new(8_000, false, at(0)));
    // Not run from 980 to 1500; then packets are handed over.
    while let Some(play) = buffer.poll(at(1_500), true) {
        plays.push(play);
    }
    for number in 50..75 {
        buffer.insert(
            Arrived {
                bare: false,
                at: at(1_505),
                packet: packet(number),
            },
            FRAME,
        );
    }
    for ms in (1_510..2_000).step_by(10) {
        while let Some(play) = buffer.poll(at(ms), false) {
            plays.push(play);
        }
    }
    assert!(
        plays.iter().all(|play| matches!(play, Play::Packet { .. })),
        "{plays:?}"
    );
}

#[test]
fn a_stream_that_begins_anew_is_played() {
    let mut bench = Bench::new(false);
    bench.run(&steady(20), 400);
    bench.buffer.restart();
    for number in 1_000_000..1_000_020u32 {
        let at = bench.start + Duration::from_millis(400 + u64::from(number - 1_000_000) * 20);
        bench.buffer.insert(
            Arrived {
                bare: false,
                at,
                packet: packet(number),
            },
            FRAME,
        );
    }
    bench.play(900);
    assert!(
        bench.numbers().ends_with(&[1_000_018, 1_000_019]),
        "{:?}",
        bench.numbers()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_that_arrives_makes_it_panic_or_play_more_than_time_allows(
        packets in proptest::collection::vec((0u64..3_000, any::<u16>(), any::<u32>(), 1u32..1_600), 0..300),
        live in any::<bool>(),
    ) {
        let mut bench = Bench::new(live);
        let mut packets = packets;
        packets.sort_unstable();
        let mut packets = packets.into_iter().peekable();
        let mut played = 0u64;
        for tick in (0..4_000u64).step_by(10) {
            while let Some((ms, sequence, timestamp, units)) = packets.next_if(|(ms, ..)| *ms <= tick) {
                let at = bench.start + Duration::from_millis(ms);
                let packet = RtpPacket { sequence, timestamp, ..packet(0) };
                bench.buffer.insert(Arrived { at, packet, bare: false }, units);
            }
            while let Some(play) = bench.buffer.poll(bench.start + Duration::from_millis(tick), false) {
                played += match play {
                    Play::Conceal { units, .. } | Play::Silence { units } => u64::from(units),
                    _ => 0,
                };
            }
        }
        prop_assert!(played <= 8 * 4_000 + 1_600, "{played}");
    }
}

/// A packet of a given time, and how it comes.
fn at(bench: &Bench, ms: u64, sequence: u16, timestamp: u32) -> Arrived {
    let mut packet = packet(u32::from(sequence));
    (packet.sequence, packet.timestamp) = (sequence, timestamp);
    Arrived {
        bare: false,
        at: bench.start + Duration::from_millis(ms),
        packet,
    }
}

#[tokio::test(start_paused = true)]
async fn comfort_noise_fills_the_time_to_the_next_packet_and_nothing_is_concealed() {
    let mut bench = Bench::new(true);
    let first = at(&bench, 0, 0, 0);
    bench.buffer.insert(first, FRAME);
    let noise = at(&bench, 20, 1, FRAME);
    bench.buffer.insert_noise(noise);
    (0..=1_000).step_by(10).for_each(|ms| bench.play(ms));
    assert!(bench.buffer.is_noise());
    let voice = at(&bench, 1_010, 2, FRAME * 50);
    bench.buffer.insert(voice, FRAME);
    (1_010..=1_070).step_by(10).for_each(|ms| bench.play(ms));
    assert!(!bench.buffer.is_noise());
    let described = bench
        .played
        .iter()
        .filter(|play| matches!(play, Play::Noise { payload: Some(_), .. }));
    assert_eq!(described.count(), 1);
    let units: u32 = bench
        .played
        .iter()
        .map(|play| match play {
            Play::Noise { units, .. } => *units,
            _ => 0,
        })
        .sum();
    assert_eq!(units, FRAME * 49);
    assert_eq!(
        (bench.concealed_frames(), bench.buffer.concealed()),
        (0, Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn a_voice_that_comes_early_by_the_senders_clock_ends_the_noise() {
    let mut bench = Bench::new(true);
    let noise = at(&bench, 0, 0, 0);
    bench.buffer.insert_noise(noise);
    (0..=1_000).step_by(10).for_each(|ms| bench.play(ms));
    // 1000 ms here are 900 ms there.
    let voice = at(&bench, 1_000, 1, 7_200);
    bench.buffer.insert(voice, FRAME);
    (1_000..=1_080).step_by(10).for_each(|ms| bench.play(ms));
    assert_eq!(bench.buffer.late, 0);
    assert!(
        bench
            .played
            .iter()
            .any(|play| matches!(play, Play::Packet { .. }))
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_without_a_word_is_no_concealment_once_it_is_known_to_be_one() {
    let mut bench = Bench::new(true);
    for number in 0..5u16 {
        let packet = at(&bench, u64::from(number) * 20, number, FRAME * u32::from(number));
        bench.buffer.insert(packet, FRAME);
    }
    (0..=500).step_by(10).for_each(|ms| bench.play(ms));
    assert!(bench.concealed_frames() > 0);
    // The sender was silent for 20 packets, and its numbers go on.
    let voice = at(&bench, 500, 5, FRAME * 25);
    bench.buffer.insert(voice, FRAME);
    (500..=700).step_by(10).for_each(|ms| bench.play(ms));
    assert_eq!(bench.numbers().last(), Some(&5));
    assert_eq!(bench.buffer.concealed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn noise_that_nobody_renews_ends() {
    let mut bench = Bench::new(true);
    let noise = at(&bench, 0, 0, 0);
    bench.buffer.insert_noise(noise);
    (0..=70_000).step_by(20).for_each(|ms| bench.play(ms));
    assert!(!bench.buffer.is_noise());
    assert_eq!(bench.played.len() as u64, MAX_NOISE.as_millis() as u64 / 20);
}
