//! A sender that does as it is told, one that does not, and a path with a queue between them and us; time is the tests' own.

use super::*;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;

const FRAME: Duration = Duration::from_micros(33_334);
const PACKET: usize = 1_100;

/// A path: what it carries, and how long its queue may become.
struct Link {
    bits_per_second: f64,
    longest: Duration,
    /// Until then it is busy.
    busy: Instant,
    /// At most so much later comes each packet, by chance.
    jitter: Duration,
}

impl Link {
    /// When a packet arrives; `None`: the queue is full.
    fn carry(&mut self, now: Instant, size: usize, random: &mut StdRng) -> Option<Instant> {
        self.busy = self.busy.max(now);
        if self.busy - now > self.longest {
            return None;
        }
        self.busy += Duration::from_secs_f64((8 * size) as f64 / self.bits_per_second);
        Some(self.busy + self.jitter.mul_f64(random.random_range(0.0..=1.0)))
    }
}

/// What a second looked like.
#[derive(Debug, Default)]
struct Second {
    sent: f64,
    /// The longest queue.
    queue: Duration,
    told: Vec<u64>,
}

struct World {
    now: Instant,
    link: Link,
    estimator: Estimator,
    random: StdRng,
    /// bit/s of the sender, and whether it follows what it is told.
    rate: f64,
    follows: bool,
    /// Every so many frames one is so many times as large.
    key: Option<(u32, f64)>,
    frames: u32,
    sequence: u16,
    on_the_way: VecDeque<(Instant, RtpPacket)>,
    words: VecDeque<(Instant, u64)>,
}

impl World {
    fn new(bits_per_second: f64, rate: f64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        World {
            now,
            link: Link {
                bits_per_second,
                longest: Duration::from_millis(800),
                busy: now,
                jitter: Duration::from_millis(2),
            },
            estimator: Estimator::default(),
            random: StdRng::seed_from_u64(7),
            rate,
            follows: true,
            key: None,
            frames: 0,
            sequence: 65_000,
            on_the_way: VecDeque::new(),
            words: VecDeque::new(),
        }
    }

    fn second(&mut self) -> Second {
        let mut second = Second::default();
        let end = self.now + Duration::from_secs(1);
        while self.now < end {
            self.frame(&mut second);
            self.now += FRAME;
            self.deliver(&mut second);
        }
        second
    }

    fn seconds(&mut self, count: usize) -> Vec<Second> {
        (0..count).map(|_| self.second()).collect()
    }

    fn frame(&mut self, second: &mut Second) {
        while let Some((_, told)) = self.words.pop_front_if(|(at, _)| *at <= self.now) {
            if self.follows {
                self.rate = told as f64;
            }
        }
        let times = match self.key {
            Some((every, times)) if self.frames.is_multiple_of(every) => times,
            _ => 1.0,
        };
        let mut left = (times * self.rate * FRAME.as_secs_f64() / 8.0) as usize;
        // Far from its wrap in frames, near to it in time.
        let timestamp = (u32::MAX - 50_000).wrapping_add(self.frames.wrapping_mul(3_000));
        self.frames += 1;
        while left > 0 {
            let size = left.min(PACKET);
            left -= size;
            second.sent += (8 * size) as f64;
            self.sequence = self.sequence.wrapping_add(1);
            let packet = RtpPacket {
                payload_type: 96,
                marker: left == 0,
                sequence: self.sequence,
                timestamp,
                ssrc: 1,
                payload: Bytes::from(vec![0; size.saturating_sub(HEADER)]),
            };
            if let Some(at) = self.link.carry(self.now, size, &mut self.random) {
                self.on_the_way.push_back((at, packet));
            }
            second.queue = second.queue.max(self.link.busy - self.now);
        }
        self.on_the_way.make_contiguous().sort_by_key(|(at, _)| *at);
    }

    fn deliver(&mut self, second: &mut Second) {
        while let Some((at, packet)) = self.on_the_way.pop_front_if(|(at, _)| *at <= self.now) {
            self.estimator.push(at, &packet);
            if let Some(told) = self.estimator.poll(at) {
                second.told.push(told);
                self.words.push_back((at + Duration::from_millis(30), told));
            }
        }
    }
}

fn mean(seconds: &[Second]) -> f64 {
    seconds.iter().map(|second| second.sent).sum::<f64>() / seconds.len() as f64
}

fn queue(seconds: &[Second]) -> Duration {
    seconds
        .iter()
        .map(|second| second.queue)
        .max()
        .unwrap_or_default()
}

fn lowest(seconds: &[Second]) -> f64 {
    seconds
        .iter()
        .flat_map(|second| &second.told)
        .copied()
        .min()
        .unwrap_or_default() as f64
}

#[test]
fn a_sender_that_listens_fills_the_path_and_not_its_queue() {
    for capacity in [300_000.0, 600_000.0, 2_000_000.0] {
        let mut world = World::new(capacity, 1_000_000.0);
        world.seconds(15);
        let settled = world.seconds(30);
        let (sent, queue) = (mean(&settled) / capacity, queue(&settled));
        println!("{capacity}: {sent:.2} of it, queue {queue:?}");
        assert!((0.6..1.0).contains(&sent), "{capacity}: {sent}");
        assert!(queue < Duration::from_millis(300), "{capacity}: {queue:?}");
    }
}

#[test]
fn it_follows_a_path_that_becomes_narrow_and_wide_again() {
    let mut world = World::new(2_000_000.0, 1_500_000.0);
    world.seconds(10);
    world.link.bits_per_second = 400_000.0;
    world.seconds(6);
    let narrow = world.seconds(10);
    println!("narrow: {:.0}, queue {:?}", mean(&narrow), queue(&narrow));
    assert!(
        (200_000.0..420_000.0).contains(&mean(&narrow)),
        "{}",
        mean(&narrow)
    );
    assert!(
        queue(&narrow) < Duration::from_millis(300),
        "{:?}",
        queue(&narrow)
    );
    world.link.bits_per_second = 2_000_000.0;
    world.seconds(30);
    let wide = world.second();
    println!("wide: {:.0}", wide.sent);
    assert!(wide.sent > 2.0 * mean(&narrow), "{wide:?}");
}

/// Of a path that is wide enough nothing is said that would slow the sender down.
#[test]
fn who_has_room_is_left_alone_whatever_jitter_and_key_frames_do() {
    let still: fn(&mut World) = |_| {};
    let jitter: fn(&mut World) = |world| world.link.jitter = Duration::from_millis(20);
    let keys: fn(&mut World) = |world| world.key = Some((60, 10.0));
    for (name, trouble) in [("none", still), ("jitter", jitter), ("key frames", keys)] {
        let mut world = World::new(4_000_000.0, 1_000_000.0);
        world.follows = false;
        trouble(&mut world);
        let seconds = world.seconds(60);
        println!("{name}: at least {:.0}", lowest(&seconds));
        assert!(lowest(&seconds) >= 1_000_000.0, "{name}: {:.0}", lowest(&seconds));
    }
}

#[test]
fn it_is_said_once_a_second_and_at_once_when_it_sinks() {
    let mut world = World::new(4_000_000.0, 1_000_000.0);
    world.follows = false;
    let first = world.second().told;
    assert!(first.len() <= 1, "nothing is known yet: {first:?}");
    let counts: Vec<usize> = world.seconds(10).iter().map(|second| second.told.len()).collect();
    assert!(counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
    world.link.bits_per_second = 500_000.0;
    let told: Vec<u64> = world
        .seconds(3)
        .into_iter()
        .flat_map(|second| second.told)
        .collect();
    println!("{told:?}");
    assert!(told.len() > 4 && *told.last().unwrap() < 500_000, "{told:?}");
}

#[test]
fn another_stream_or_a_pause_is_no_delay() {
    let mut world = World::new(4_000_000.0, 1_000_000.0);
    world.follows = false;
    world.seconds(5);
    world.now += Duration::from_secs(60);
    let paused = world.seconds(5);
    assert!(lowest(&paused) >= 1_000_000.0, "{paused:?}");
    world.frames += 500_000;
    let jumped = world.seconds(5);
    assert!(lowest(&jumped) >= 1_000_000.0, "{jumped:?}");
}
