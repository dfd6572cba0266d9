//! Digits as RFC 4733 events, both ways.

use bytes::Bytes;
use siprtc_core::{Error, Fault, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// The digits by their event codes (RFC 4733 section 3.2, table 3).
const DIGITS: &[u8; 16] = b"0123456789*#ABCD";
/// RFC 4733 section 2.5.1.4: the last packet is sent three times.
const END_PACKETS: u8 = 3;
/// Between digits, so that the same one twice is heard as two; also ITU-T Q.24's shortest pause with some room.
const PAUSE_MS: u32 = 70;
/// What a comma stands for.
const COMMA_MS: u32 = 1_000;
/// -10 dBm0, as most phones send (RFC 4733 section 2.3.3).
const VOLUME: u8 = 10;
/// How many digits may wait to be sent.
pub(crate) const MAX_WAITING: usize = 64;

/// One thing to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// An event code, and how long it sounds in milliseconds.
    Digit(u8, u32),
    /// Nothing, in milliseconds.
    Pause(u32),
}

/// What the digits ask for.
pub(crate) fn steps(digits: &str, duration_ms: u32) -> Result<Vec<Step>> {
    const SEND: &str = "send DTMF";
    if !(40..=6_000).contains(&duration_ms) {
        return Err(
            Error::new(Fault::ApiMisuse, SEND, format!("a digit of {duration_ms} ms"))
                .advice("choose 40 to 6000 ms; 100 is usual"),
        );
    }
    let mut steps = Vec::new();
    for character in digits.chars() {
        let upper = character.to_ascii_uppercase();
        match DIGITS.iter().position(|&digit| char::from(digit) == upper) {
            Some(code) => steps.extend([Step::Digit(code as u8, duration_ms), Step::Pause(PAUSE_MS)]),
            None if character == ',' => steps.push(Step::Pause(COMMA_MS)),
            None => {
                return Err(
                    Error::new(Fault::ApiMisuse, SEND, format!("{character:?} is no digit"))
                        .advice("use 0-9, A-D, *, # and a comma for a pause of one second"),
                );
            }
        }
    }
    if steps.len() > MAX_WAITING * 2 {
        return Err(Error::new(
            Fault::ApiMisuse,
            SEND,
            format!("{} digits at once", digits.chars().count()),
        )
        .advice(format!("send at most {MAX_WAITING} at a time")));
    }
    Ok(steps)
}

/// A packet of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EventPacket {
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    pub(crate) payload: Bytes,
    /// How long it has sounded since `timestamp`, in the audio's clock.
    pub(crate) covers: u32,
    /// Nothing of this event follows.
    pub(crate) last: bool,
}

/// Makes the packets of what is to be sent, one per packet time.
#[derive(Debug, Default)]
pub(crate) struct EventSender {
    waiting: VecDeque<Step>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    code: u8,
    /// Of this segment.
    timestamp: u32,
    /// In units of the events' clock, of this segment.
    duration: u32,
    /// Left of the whole digit, in milliseconds.
    left_ms: u32,
    first: bool,
    ends: u8,
}

impl EventSender {
    pub(crate) fn push(&mut self, step: Step) {
        self.waiting.push_back(step);
    }

    /// The packet for this packet time instead of audio. `timestamp` is the audio's; the clocks are the audio's and the
    /// events'.
    pub(crate) fn next(&mut self, timestamp: u32, ptime: u32, clocks: (u32, u32)) -> Option<EventPacket> {
        if self.current.is_none() {
            match self.waiting.pop_front()? {
                Step::Pause(ms) => {
                    if let Some(left) = ms.checked_sub(ptime).filter(|left| *left > 0) {
                        self.waiting.push_front(Step::Pause(left));
                    }
                    return None;
                }
                Step::Digit(code, left_ms) => {
                    self.current = Some(Current {
                        code,
                        timestamp,
                        duration: 0,
                        left_ms,
                        first: true,
                        ends: 0,
                    });
                }
            }
        }
        let current = self.current.as_mut()?;
        let packet = current.packet(ptime, clocks);
        if current.ends == END_PACKETS {
            self.current = None;
        }
        Some(packet)
    }

    /// Whether the next packet is the first of a digit.
    pub(crate) fn begins(&self) -> bool {
        self.current.is_none() && matches!(self.waiting.front(), Some(Step::Digit(..)))
    }

    /// Whether something is being sent or waits.
    pub(crate) fn is_busy(&self) -> bool {
        self.current.is_some() || !self.waiting.is_empty()
    }
}

impl Current {
    fn packet(&mut self, ptime: u32, (audio_clock, clock): (u32, u32)) -> EventPacket {
        if self.ends == 0 {
            let step = ptime.min(self.left_ms) * clock / 1_000;
            if self.duration + step > u32::from(u16::MAX) {
                // RFC 4733 section 2.5.1.3: longer than the field: a new segment begins where this one ended.
                let passed = u64::from(self.duration) * u64::from(audio_clock) / u64::from(clock.max(1));
                self.timestamp = self.timestamp.wrapping_add(passed as u32);
                self.duration = 0;
            }
            self.duration += step;
            self.left_ms = self.left_ms.saturating_sub(ptime);
        }
        // RFC 4733 section 2.5.1.4: the end is sent three times, with the same duration.
        if self.left_ms == 0 {
            self.ends += 1;
        }
        let end = if self.ends > 0 { 0x80 } else { 0 };
        let [high, low] = (self.duration as u16).to_be_bytes();
        let marker = std::mem::take(&mut self.first);
        let payload = Bytes::copy_from_slice(&[self.code, end | VOLUME, high, low]);
        let covers = u64::from(self.duration) * u64::from(audio_clock) / u64::from(clock.max(1));
        EventPacket {
            marker,
            timestamp: self.timestamp,
            payload,
            covers: u32::try_from(covers).unwrap_or(u32::MAX),
            last: self.ends == END_PACKETS,
        }
    }
}

/// What an event packet says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Heard {
    /// From this timestamp on there is an event and no audio, for so many units of the events' clock.
    pub(crate) timestamp: u32,
    pub(crate) units: u32,
    /// A digit ended.
    pub(crate) digit: Option<(char, Duration)>,
}

/// Puts the packets of an event together. A digit is told once: with its first end packet, or, when all of those were
/// lost, when the next digit begins.
#[derive(Debug, Default)]
pub(crate) struct EventReceiver {
    current: Option<Hearing>,
}

#[derive(Debug)]
struct Hearing {
    code: u8,
    /// Of the first segment.
    started: u32,
    /// Of this segment, and how long those before it sounded.
    segment: u32,
    before: u32,
    duration: u32,
    told: bool,
}

impl EventReceiver {
    /// Takes a packet's payload and timestamp; `None` when it is no event.
    pub(crate) fn packet(&mut self, timestamp: u32, payload: &[u8], clock: u32) -> Option<Heard> {
        let &[code, flags, high, low, ..] = payload else {
            return None;
        };
        let (end, duration) = (flags & 0x80 != 0, u32::from(u16::from_be_bytes([high, low])));
        let mut digit = None;
        if !self.continues(code, timestamp) {
            if let Some(hearing) = &self.current
                && (timestamp.wrapping_sub(hearing.segment) as i32) < 0
            {
                // An old event's packet that came late.
                return Some(Heard {
                    timestamp,
                    units: duration,
                    digit: None,
                });
            }
            digit = self.current.take().and_then(|hearing| hearing.tell(clock));
            self.current = Some(Hearing {
                code,
                started: timestamp,
                segment: timestamp,
                before: 0,
                duration: 0,
                told: false,
            });
        }
        let hearing = self.current.as_mut()?;
        if hearing.segment != timestamp {
            hearing.before = hearing.before.saturating_add(hearing.duration);
            (hearing.segment, hearing.duration) = (timestamp, 0);
        }
        hearing.duration = hearing.duration.max(duration);
        let heard = Heard {
            timestamp: hearing.started,
            units: hearing.total(),
            digit: None,
        };
        if end && digit.is_none() {
            digit = hearing.tell(clock);
            hearing.told = true;
        }
        Some(Heard { digit, ..heard })
    }

    /// Whether a packet belongs to the event being heard: same start, or the next segment (RFC 4733 section 2.5.1.3).
    fn continues(&self, code: u8, timestamp: u32) -> bool {
        self.current.as_ref().is_some_and(|hearing| {
            let same = hearing.segment == timestamp;
            let passed = timestamp.wrapping_sub(hearing.segment);
            let next_segment = !hearing.told && hearing.duration > 60_000 && passed >= hearing.duration / 2;
            hearing.code == code && (same || (next_segment && passed < 1 << 20))
        })
    }
}

impl Hearing {
    fn total(&self) -> u32 {
        self.before.saturating_add(self.duration)
    }

    fn tell(&self, clock: u32) -> Option<(char, Duration)> {
        let digit = char::from(*DIGITS.get(usize::from(self.code))?);
        let micros = u64::from(self.total()) * 1_000_000 / u64::from(clock.max(1));
        (!self.told).then(|| (digit, Duration::from_micros(micros)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn send(digits: &str, ms: u32, clocks: (u32, u32)) -> Vec<(u32, EventPacket)> {
        let mut sender = EventSender::default();
        steps(digits, ms)
            .unwrap()
            .into_iter()
            .for_each(|step| sender.push(step));
        let mut packets = Vec::new();
        let mut timestamp = 1_000;
        while sender.is_busy() {
            packets.extend(
                sender
                    .next(timestamp, 20, clocks)
                    .map(|packet| (timestamp, packet)),
            );
            timestamp += clocks.0 / 50;
        }
        packets
    }

    fn receive<'a>(packets: impl IntoIterator<Item = &'a EventPacket>, clock: u32) -> Vec<(char, Duration)> {
        let mut receiver = EventReceiver::default();
        packets
            .into_iter()
            .filter_map(|p| receiver.packet(p.timestamp, &p.payload, clock)?.digit)
            .collect()
    }

    #[test]
    fn an_event_keeps_its_timestamp_marks_its_first_packet_and_ends_three_times() {
        let packets: Vec<_> = send("5", 100, (8_000, 8_000))
            .into_iter()
            .map(|(_, packet)| packet)
            .collect();
        assert!(packets.iter().all(|packet| packet.timestamp == 1_000));
        assert_eq!(
            packets.iter().map(|packet| packet.marker).collect::<Vec<_>>(),
            [true, false, false, false, false, false, false]
        );
        let said: Vec<_> = packets
            .iter()
            .map(|p| (p.payload[0], p.payload[1] >> 7, p.payload[2..].to_vec()))
            .collect();
        let at = |duration: u16| duration.to_be_bytes().to_vec();
        assert_eq!(
            said,
            [
                (5, 0, at(160)),
                (5, 0, at(320)),
                (5, 0, at(480)),
                (5, 0, at(640)),
                (5, 1, at(800)),
                (5, 1, at(800)),
                (5, 1, at(800)),
            ]
        );
    }

    #[test]
    fn all_digits_arrive_once_each_with_their_duration() {
        for clock in [8_000, 48_000] {
            let packets = send("0123456789*#ABCDd11", 120, (clock, clock));
            let heard = receive(packets.iter().map(|(_, packet)| packet), clock);
            assert_eq!(
                heard.iter().map(|(digit, _)| *digit).collect::<String>(),
                "0123456789*#ABCDD11"
            );
            assert!(
                heard
                    .iter()
                    .all(|(_, duration)| *duration == Duration::from_millis(120)),
                "{heard:?}"
            );
        }
    }

    #[test]
    fn a_digit_longer_than_the_field_is_sent_in_segments_and_heard_as_one() {
        let packets = send("7", 4_000, (48_000, 48_000));
        assert!(packets.iter().any(|(_, packet)| packet.timestamp != 1_000));
        let heard = receive(packets.iter().map(|(_, packet)| packet), 48_000);
        assert_eq!(heard, [('7', Duration::from_secs(4))]);
    }

    #[test]
    fn a_digit_whose_ends_were_all_lost_is_heard_when_the_next_begins() {
        let packets = send("12", 100, (8_000, 8_000));
        let kept = packets
            .iter()
            .map(|(_, p)| p)
            .filter(|p| p.payload[0] != 1 || p.payload[1] & 0x80 == 0);
        let heard = receive(kept, 8_000);
        assert_eq!(heard.iter().map(|(digit, _)| *digit).collect::<String>(), "12");
    }

    #[test]
    fn events_may_run_on_another_clock_than_the_audio() {
        let packets = send("9", 100, (48_000, 8_000));
        assert_eq!(
            packets.last().map(|(_, p)| p.payload[2..].to_vec()),
            Some(800u16.to_be_bytes().to_vec())
        );
    }

    #[test]
    fn a_comma_is_a_pause_of_a_second() {
        let packets = send("1,2", 100, (8_000, 8_000));
        let first_of = |code: u8| {
            packets
                .iter()
                .find(|(_, p)| p.payload[0] == code)
                .map(|(at, _)| *at)
                .unwrap()
        };
        assert!((8_000..11_000).contains(&(first_of(2) - first_of(1))));
    }

    #[test]
    fn what_is_no_digit_is_refused() {
        for (digits, ms) in [("12x", 100), ("1", 10), ("1", 7_000), (&"1".repeat(65), 100)] {
            assert_eq!(
                steps(digits, ms).unwrap_err().fault(),
                Fault::ApiMisuse,
                "{digits}"
            );
        }
    }

    proptest! {
        #[test]
        fn digits_survive_loss_of_every_tenth_packet_and_doubling(digits in "[0-9A-D*#]{1,8}", offset in 0usize..10) {
            let packets = send(&digits, 100, (8_000, 8_000));
            let kept = packets.iter().enumerate().filter(|(index, _)| index % 10 != offset);
            let doubled = kept.flat_map(|(_, (_, packet))| [packet, packet]);
            let heard: String = receive(doubled, 8_000).iter().map(|(digit, _)| *digit).collect();
            prop_assert_eq!(heard, digits);
        }

        #[test]
        fn no_payload_makes_it_panic(packets in proptest::collection::vec(
            (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..8)), 0..50,
        )) {
            let mut receiver = EventReceiver::default();
            for (timestamp, payload) in packets {
                let heard = receiver.packet(timestamp, &payload, 8_000);
                prop_assert_eq!(heard.is_some(), payload.len() >= 4);
            }
        }
    }
}
