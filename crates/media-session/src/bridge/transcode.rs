//! From one codec to another.

use super::event::EventMap;
use super::inbound::{Inbound, Ordered, Taken};
use super::line::{Line, Place};
use super::{BridgeStats, Kind, kind, noise_type};
use crate::codec::{self, Decode, Encode, Tuning};
use crate::comfort::{Description, NoiseMaker};
use crate::dtmf::EventPacket;
use crate::polyphase::Polyphase;
use crate::silence::{Discontinuous, Means, Transmit};
use bytes::Bytes;
use siprtc_core::media::{Codec, NegotiatedAudio, RtpPacket};
use std::time::Duration;

/// Lost audio is made up for so long at most; what is lost beyond it is a pause.
const MAX_CONCEAL_MS: i64 = 200;
/// Comfort noise goes on for so long after the last word of it.
const MAX_NOISE_MS: u32 = 60_000;
/// Packets come so much earlier or later than their time at most, as a rule.
const MAX_JITTER_MS: i64 = 100;
/// A packet that is so much overdue ends what was said: sooner jitter would cut words, and later the listener's jitter buffer (60 ms here)
/// is empty.
const SPURT_ENDS: Duration = Duration::from_millis(40);

/// What becomes of lost packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnLoss {
    /// They are made up here, with what forward error correction has of them: outbound there is no gap.
    #[default]
    Conceal,
    /// As many sequence numbers and as much time are left out: the listener's own concealment works, and counts.
    PassOn,
}

/// How a [`Transcoder`] works.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TranscodeOptions {
    /// What becomes of lost packets.
    pub loss: OnLoss,
    /// Silence goes out as comfort noise where the other side has it, and as Opus's discontinuous transmission where it
    /// asks for that.
    pub silence_detection: bool,
}

/// Makes packets of one codec from packets of another, for a bridge of two calls, in one direction.
///
/// Codec, clock rate, sampling rate, packet time and payload types change; telephone-event and comfort noise are passed
/// on. Packets may come in as the network brings them: a missing one is waited for until two later ones are there. Outbound,
/// sequence numbers go up by one ([`OnLoss::PassOn`] excepted) and the SSRC is 0: the media engine puts its own.
///
/// ```
/// use siprtc_core::media::{Codec, NegotiatedAudio, RtpPacket};
/// use siprtc_media_session::Transcoder;
///
/// let to = NegotiatedAudio { ptime: 40, ..NegotiatedAudio::of(Codec::Opus) };
/// let mut transcoder = Transcoder::new(NegotiatedAudio::of(Codec::Pcmu), to, Default::default());
/// let mut out = Vec::new();
/// for number in 0..4 {
///     let packet = RtpPacket {
///         payload_type: 0,
///         marker: number == 0,
///         sequence: number,
///         timestamp: 160 * u32::from(number),
///         ssrc: 7,
///         payload: vec![0xff; 160].into(),
///     };
///     transcoder.push(&packet, &mut out);
/// }
/// assert_eq!(out.len(), 2);
/// assert_eq!(out[1].timestamp.wrapping_sub(out[0].timestamp), 1_920);
/// ```
pub struct Transcoder {
    from: NegotiatedAudio,
    to: NegotiatedAudio,
    options: TranscodeOptions,
    inbound: Inbound,
    line: Line,
    decoder: Option<Box<dyn Decode>>,
    encoder: Option<Box<dyn Encode>>,
    tuning: Tuning,
    resampler: Polyphase,
    decoded: Vec<i16>,
    /// Audio that waits to fill a packet, and where made-up audio lies in it.
    waiting: Vec<i16>,
    made_up: (usize, usize),
    payload: Vec<u8>,
    discontinuous: Discontinuous,
    /// Comfort noise that the other side cannot be told of, and how long it went on.
    noise: Option<(NoiseMaker, u32)>,
    /// Of the last inbound packet.
    packet_time: Duration,
    event: Option<EventMap>,
    /// What followed the last audio was an event or comfort noise: a gap after it is no loss.
    quiet: bool,
    /// Packets lost, or not readable, since the last audio.
    missing: bool,
    /// A digit of ours sounds: what comes in is not sent.
    muted: bool,
    sequence: u16,
    marker: bool,
    stats: BridgeStats,
}

impl Transcoder {
    /// From what was agreed with the side that sends, to what was agreed with the side that hears it. Begins with a random
    /// sequence number and timestamp.
    #[must_use]
    pub fn new(from: NegotiatedAudio, to: NegotiatedAudio, options: TranscodeOptions) -> Self {
        // RFC 3711 section 3.3.1: see the sender.
        Self::starting_at(from, to, options, rand::random::<u16>() & 0x7fff, rand::random())
    }

    /// The same, going on from packets that were sent before: `sequence` and `timestamp` are the next packet's.
    #[must_use]
    pub fn starting_at(
        from: NegotiatedAudio,
        to: NegotiatedAudio,
        options: TranscodeOptions,
        sequence: u16,
        timestamp: u32,
    ) -> Self {
        Transcoder {
            from,
            to,
            options,
            inbound: Inbound::default(),
            line: Line::new(from.codec.clock_rate(), to.codec.clock_rate(), timestamp),
            decoder: None,
            encoder: None,
            tuning: Tuning::of(&to.parameters),
            resampler: Polyphase::new(from.codec.sample_rate(), to.codec.sample_rate()),
            decoded: Vec::new(),
            waiting: Vec::new(),
            made_up: (0, 0),
            payload: Vec::new(),
            discontinuous: Discontinuous::default(),
            noise: None,
            packet_time: Duration::ZERO,
            event: None,
            quiet: false,
            missing: false,
            muted: false,
            sequence,
            marker: true,
            stats: BridgeStats::default(),
        }
    }

    /// Takes a packet as it came from the network, and appends what is to be sent.
    pub fn push(&mut self, packet: &RtpPacket, out: &mut Vec<RtpPacket>) {
        self.stats.received += 1;
        match self.inbound.take(packet) {
            Taken::Held => {}
            Taken::Duplicate => self.stats.duplicates += 1,
            Taken::Late => self.stats.late += 1,
            Taken::Stray => self.stats.dropped += 1,
            Taken::Restarted => self.restart(out),
        }
        self.drain(false, out);
    }

    /// A packet of an event of our own, in the same stream. Until its last what comes in is not sent, and time passes.
    pub(crate) fn insert(&mut self, payload_type: u8, event: EventPacket, out: &mut Vec<RtpPacket>) {
        if event.marker {
            self.fill_up(out);
        }
        self.muted = !event.last;
        let end = event.timestamp.wrapping_add(event.covers);
        let behind = i64::from(end.wrapping_sub(self.line.timestamp(self.line.next)) as i32);
        // Where nothing comes in the stream's time is the event's; otherwise they are as far apart as packets jitter.
        if behind > i64::from(self.to.codec.clock_rate()) * MAX_JITTER_MS / 1_000 {
            self.line.next += behind;
        }
        self.send(payload_type, event.marker, event.timestamp, event.payload, out);
    }

    /// Waits no longer for what is missing, and sends the rest of the audio, filled up to a packet: the inbound stream ended
    /// or will be another one.
    pub fn flush(&mut self, out: &mut Vec<RtpPacket>) {
        self.drain(true, out);
        self.fill_up(out);
    }

    /// To be called once per outbound packet time in which nothing came in: an inbound silence (comfort noise) goes on to be
    /// heard where the outbound side cannot be told of it. Otherwise nothing happens.
    pub fn idle(&mut self, out: &mut Vec<RtpPacket>) {
        let frame = self.frame();
        let Some((maker, ms)) = &mut self.noise else {
            return;
        };
        if *ms >= MAX_NOISE_MS {
            self.noise = None;
            return;
        }
        *ms += codec::usable_ptime(self.to.ptime);
        self.made_up = (0, 0);
        maker.make(frame, &mut self.waiting);
        self.emit(out);
    }

    /// Another codec, packet time or payload type, on either side; the outbound stream goes on without a jump.
    pub fn change(&mut self, from: NegotiatedAudio, to: NegotiatedAudio, out: &mut Vec<RtpPacket>) {
        self.flush(out);
        if (from.codec, to.codec) != (self.from.codec, self.to.codec) {
            self.line.change(from.codec.clock_rate(), to.codec.clock_rate());
            self.resampler = Polyphase::new(from.codec.sample_rate(), to.codec.sample_rate());
            self.noise = None;
        }
        if from.codec != self.from.codec {
            self.decoder = None;
        }
        let loss = self.tuning.loss;
        self.tuning = Tuning::of(&to.parameters);
        self.tuning.loss = loss;
        if to.codec != self.to.codec {
            self.encoder = None;
            self.discontinuous = Discontinuous::default();
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.tune(&self.tuning);
        }
        (self.from, self.to) = (from, to);
    }

    /// The share of our packets that the outbound side says it lost, 0 to 1: Opus's forward error correction follows it.
    pub fn remote_loss(&mut self, loss: f64) {
        self.tuning.loss = loss;
        if let Some(encoder) = &mut self.encoder {
            encoder.tune(&self.tuning);
        }
    }

    /// The next packet's sequence number and timestamp, for whoever goes on with this stream. Call
    /// [`Transcoder::flush`] first.
    #[must_use]
    pub fn next(&self) -> (u16, u32) {
        (self.sequence, self.line.timestamp(self.line.next))
    }

    /// How long nothing may come in until [`Transcoder::wait_no_longer`] is to be called; `None`: for ever.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let ptime =
            |audio: &NegotiatedAudio| Duration::from_millis(u64::from(codec::usable_ptime(audio.ptime)));
        let is_unsent = !self.waiting.is_empty();
        match &self.noise {
            Some(_) => Some(ptime(&self.to)),
            None => is_unsent.then(|| self.packet_time + SPURT_ENDS),
        }
    }

    /// Nothing came in: the noise of an inbound silence goes on, or the end of what was said goes out. Who says nothing more sends
    /// nothing more (Opus's discontinuous transmission): the next packet may be seconds away, and whoever hears it would take the rest of
    /// the last word for late, and make the pause longer by that.
    pub(crate) fn wait_no_longer(&mut self, out: &mut Vec<RtpPacket>) {
        match self.noise {
            Some(_) => self.idle(out),
            None => self.fill_up(out),
        }
    }

    /// The numbers so far.
    #[must_use]
    pub fn stats(&self) -> BridgeStats {
        BridgeStats {
            lost: self.inbound.lost(),
            ..self.stats
        }
    }

    fn drain(&mut self, all: bool, out: &mut Vec<RtpPacket>) {
        while let Some(ordered) = self.inbound.next(all) {
            self.ordered(ordered, out);
        }
    }

    fn ordered(&mut self, ordered: Ordered, out: &mut Vec<RtpPacket>) {
        let Ordered { lost, packet } = ordered;
        self.missing |= lost > 0;
        match kind(packet.payload_type, &self.from) {
            Kind::Event | Kind::Noise if self.muted => self.stats.dropped += 1,
            Kind::Audio => self.audio(&packet, out),
            Kind::Event => self.event(&packet, out),
            Kind::Noise => self.noise(&packet, out),
            Kind::Foreign => self.stats.dropped += 1,
        }
    }

    /// The inbound stream is another one: what was heard of the old one is sent, and nothing else is kept.
    fn restart(&mut self, out: &mut Vec<RtpPacket>) {
        self.fill_up(out);
        self.decoder = None;
        self.line.forget();
        (self.noise, self.event) = (None, None);
        (self.quiet, self.missing) = (false, false);
        self.marker = true;
    }

    fn audio(&mut self, packet: &RtpPacket, out: &mut Vec<RtpPacket>) {
        let Some(units) = codec::packet_units(self.from.codec, &packet.payload) else {
            self.stats.unreadable += 1;
            self.missing = true;
            return;
        };
        match self.line.place(packet.timestamp) {
            Place::Anew(position) => {
                self.fill_up(out);
                self.line.begin(packet.timestamp, position);
                self.marker = true;
            }
            Place::At(position, ahead) => {
                if ahead > 0 && self.missing && !self.quiet {
                    self.conceal(ahead, units, &packet.payload, out);
                }
                if position > self.line.expected {
                    self.pause(position, out);
                } else {
                    self.line.slip(position - self.line.expected);
                }
                self.line.seen(packet.timestamp, position);
            }
        }
        self.noise = None;
        (self.quiet, self.missing) = (false, false);
        let clock = u64::from(self.from.codec.clock_rate());
        self.packet_time = Duration::from_micros(u64::from(units) * 1_000_000 / clock);
        self.decode(&packet.payload, units);
        self.line.expected += i64::from(units);
        self.emit(out);
    }

    fn decode(&mut self, payload: &[u8], units: u32) {
        let codec = self.from.codec;
        let decoder = self.decoder.get_or_insert_with(|| codec::decoder(codec));
        self.decoded.clear();
        if !decoder.decode(payload, &mut self.decoded) {
            self.stats.unreadable += 1;
            let count = units * (codec.sample_rate() / codec.clock_rate());
            decoder.conceal(count as usize, None, &mut self.decoded);
        }
        self.resampler.push(&self.decoded, &mut self.waiting);
    }

    /// Makes up for `ahead` inbound units before a packet of `units`.
    fn conceal(&mut self, ahead: i64, units: u32, next: &Bytes, out: &mut Vec<RtpPacket>) {
        let (codec, clock) = (self.from.codec, i64::from(self.from.codec.clock_rate()));
        let made = ahead.min(MAX_CONCEAL_MS * clock / 1_000);
        // The packet at hand may have the one before it, and no more.
        let corrected = if made == ahead {
            made.min(i64::from(units))
        } else {
            0
        };
        let decoder = self.decoder.get_or_insert_with(|| codec::decoder(codec));
        let samples = |units: i64| (units * i64::from(codec.sample_rate()) / clock) as usize;
        self.decoded.clear();
        decoder.conceal(samples(made - corrected), None, &mut self.decoded);
        if corrected > 0 {
            decoder.conceal(samples(corrected), Some(next), &mut self.decoded);
        }
        let start = self.waiting.len();
        self.resampler.push(&self.decoded, &mut self.waiting);
        let from = if self.made_up.1 == start {
            self.made_up.0
        } else {
            start
        };
        self.made_up = (from, self.waiting.len());
        self.line.expected += made;
        self.emit(out);
    }

    /// The sender was silent up to `position`: time passes outbound as well.
    fn pause(&mut self, position: i64, out: &mut Vec<RtpPacket>) {
        self.fill_up(out);
        self.line.next = self.line.next.max(self.line.map(position));
        self.line.expected = position;
        self.marker = true;
    }

    /// Sends what waits, with silence behind it.
    fn fill_up(&mut self, out: &mut Vec<RtpPacket>) {
        if !self.waiting.is_empty() {
            let frame = self.frame();
            self.waiting.resize(self.waiting.len().next_multiple_of(frame), 0);
            self.emit(out);
        }
        let (from, to) = self.resampler.rates();
        self.resampler = Polyphase::new(from, to);
    }

    fn noise(&mut self, packet: &RtpPacket, out: &mut Vec<RtpPacket>) {
        let Some(description) = Description::parse(&packet.payload) else {
            self.stats.unreadable += 1;
            return;
        };
        let position = match self.line.place(packet.timestamp) {
            Place::Anew(position) => {
                self.fill_up(out);
                self.line.begin(packet.timestamp, position);
                position
            }
            Place::At(position, _) => {
                self.line.seen(packet.timestamp, position);
                position
            }
        };
        if position > self.line.expected || !self.quiet {
            self.pause(position.max(self.line.expected), out);
        }
        (self.quiet, self.missing) = (true, false);
        match noise_type(&self.to) {
            Some(payload_type) => {
                let same = self.from.codec.sample_rate() == self.to.codec.sample_rate();
                let told = if same {
                    description
                } else {
                    description.without_spectrum()
                };
                let timestamp = self.line.timestamp(self.line.next);
                self.send(payload_type, false, timestamp, told.payload(), out);
            }
            None => {
                let rate = self.to.codec.sample_rate();
                let maker = match &mut self.noise {
                    Some((maker, ms)) => {
                        *ms = 0;
                        maker
                    }
                    none => &mut none.insert((NoiseMaker::new(rate), 0)).0,
                };
                let same = self.from.codec.sample_rate() == rate;
                maker.describe(if same {
                    description
                } else {
                    description.without_spectrum()
                });
            }
        }
    }

    fn event(&mut self, packet: &RtpPacket, out: &mut Vec<RtpPacket>) {
        let (Some((payload_type, clock_out)), Some((_, clock_in))) =
            (self.to.telephone_event, self.from.telephone_event)
        else {
            self.stats.dropped += 1;
            return;
        };
        let &[code, flags, high, low, ..] = &packet.payload[..] else {
            self.stats.unreadable += 1;
            return;
        };
        let running = self.event.filter(|event| event.continues(code, packet.timestamp));
        let mut event = running.unwrap_or_else(|| self.begin_event(code, packet.timestamp, out));
        let clocks = (clock_in, clock_out, self.to.codec.clock_rate());
        let mapped = event.packet(packet.timestamp, [code, flags, high, low], clocks);
        self.event = Some(event);
        (self.quiet, self.missing) = (true, false);
        let payload = Bytes::copy_from_slice(&mapped.payload);
        self.send(payload_type, packet.marker, mapped.timestamp, payload, out);
    }

    fn begin_event(&mut self, code: u8, timestamp: u32, out: &mut Vec<RtpPacket>) -> EventMap {
        self.fill_up(out);
        self.noise = None;
        let position = match self.line.place(timestamp) {
            Place::Anew(position) => {
                self.line.begin(timestamp, position);
                position
            }
            Place::At(position, _) => position,
        };
        let mapped = self.line.map(position);
        // The outbound packet before it may have been filled up past the event's beginning.
        let beginning = if position >= self.line.expected {
            mapped.max(self.line.next)
        } else {
            mapped
        };
        EventMap::begin(code, timestamp, self.line.timestamp(beginning))
    }

    /// Samples in an outbound packet.
    fn frame(&self) -> usize {
        let ptime = codec::usable_ptime(self.to.ptime);
        (self.to.codec.sample_rate() * ptime / 1_000) as usize
    }

    /// Sends what fills whole packets.
    fn emit(&mut self, out: &mut Vec<RtpPacket>) {
        let frame = self.frame();
        let units =
            i64::from(self.to.codec.clock_rate()) * frame as i64 / i64::from(self.to.codec.sample_rate());
        let whole = self.waiting.len() / frame;
        let mut waiting = std::mem::take(&mut self.waiting);
        for (index, samples) in waiting.chunks_exact(frame).enumerate() {
            let start = index * frame;
            if self.made_up.0 <= start && start + frame <= self.made_up.1 {
                self.stats.concealed += 1;
                if self.options.loss == OnLoss::PassOn {
                    self.stats.passed_on += 1;
                    self.sequence = self.sequence.wrapping_add(1);
                    self.line.next += units;
                    continue;
                }
            }
            self.send_frame(samples, out);
            self.line.next += units;
        }
        waiting.drain(..whole * frame);
        self.waiting = waiting;
        let passed = |at: usize| at.saturating_sub(whole * frame);
        self.made_up = (passed(self.made_up.0), passed(self.made_up.1));
    }

    fn send_frame(&mut self, samples: &[i16], out: &mut Vec<RtpPacket>) {
        if self.muted {
            return;
        }
        let codec = self.to.codec;
        let noise = noise_type(&self.to);
        let means = match noise {
            _ if !self.options.silence_detection => None,
            Some(_) => Some(Means::ComfortNoise),
            None => (self.to.parameters.dtx && codec == Codec::Opus).then_some(Means::Frames),
        };
        let transmit = means.map_or(Transmit::Audio, |means| {
            self.discontinuous.frame(codec.sample_rate(), samples, means)
        });
        match (transmit, noise) {
            (Transmit::Audio, _) => {
                let tuning = self.tuning;
                let encoder = self.encoder.get_or_insert_with(|| {
                    let mut encoder = codec::encoder(codec);
                    encoder.tune(&tuning);
                    encoder
                });
                encoder.encode(samples, &mut self.payload);
                if self.payload.is_empty() {
                    return;
                }
                let payload = Bytes::copy_from_slice(&self.payload);
                let marker = std::mem::take(&mut self.marker);
                let timestamp = self.line.timestamp(self.line.next);
                self.send(self.to.payload_type, marker, timestamp, payload, out);
                self.marker = means.is_some() && self.discontinuous.is_silent();
            }
            (Transmit::Noise(payload), Some(payload_type)) => {
                let timestamp = self.line.timestamp(self.line.next);
                self.send(payload_type, false, timestamp, payload, out);
                self.marker = true;
            }
            (Transmit::Noise(_) | Transmit::Nothing, _) => self.marker = true,
        }
    }

    fn send(
        &mut self,
        payload_type: u8,
        marker: bool,
        timestamp: u32,
        payload: Bytes,
        out: &mut Vec<RtpPacket>,
    ) {
        out.push(RtpPacket {
            payload_type,
            marker,
            sequence: self.sequence,
            timestamp,
            ssrc: 0,
            payload,
        });
        self.sequence = self.sequence.wrapping_add(1);
        self.stats.sent += 1;
    }
}
