//! The receiving half: queue, statistics, jitter buffer, decoder, and who listens.

use crate::codec::{self, Decode};
use crate::comfort::{self, Description, NoiseMaker};
use crate::conceal::shorten;
use crate::dtmf::EventReceiver;
use crate::events::Events;
use crate::jitter::{JitterBuffer, Play};
use crate::join::Bond;
use crate::pump::Settings;
use crate::queue::{Arrived, PacketQueue};
use crate::quiet::QuietWatch;
use crate::recorder::Recorder;
use crate::send::bond_changed;
use crate::stage::Chain;
use crate::stats::{Reception, Verdict};
use crate::{AudioSink, QuietConfig, SessionEventKind, Talker};
use parking_lot::Mutex;
use siprtc_core::Result;
use siprtc_core::media::{Codec, NegotiatedAudio, RtpPacket};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// How often packets are taken from the queue and played.
const TICK: Duration = Duration::from_millis(20);
/// The same when nobody listens: arrival times are in the packets, so that the numbers stay exact.
const TICK_UNHEARD: Duration = Duration::from_millis(60);
/// The same when a bridge has sent them on already: digits are told with this delay.
const TICK_BRIDGED: Duration = Duration::from_millis(200);
/// A tick this late means that the process was not run.
const STALL: Duration = Duration::from_millis(40);
/// After this long without a packet [`SessionEventKind::NoMedia`] is told.
const NO_MEDIA: Duration = Duration::from_secs(10);
/// The same while the peer said that it is silent: RFC 3389 wants no more than one packet of a silence.
const NO_MEDIA_IN_SILENCE: Duration = Duration::from_secs(60);

/// The receiving half's numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    pub(crate) expected: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    pub(crate) jitter: Duration,
    pub(crate) buffer_delay: Duration,
    pub(crate) concealed: Duration,
    pub(crate) recorded: Duration,
    pub(crate) overflowed: u64,
    pub(crate) unreadable: u64,
}

/// Who listens.
pub(crate) enum Listener {
    Live(Arc<dyn AudioSink>),
    Nobody,
    Recorder(Box<Recorder>),
}

/// A change of who listens while audio runs.
pub(crate) enum Order {
    /// The recording goes on elsewhere; nobody listens here any more.
    GiveUp(oneshot::Sender<Option<Box<Recorder>>>),
    /// Another one listens, or nobody. A recording is to be given up before.
    Listen(Listener),
    /// A recording that was begun elsewhere goes on here.
    Take(Box<Recorder>),
}

/// Receives one peer's audio until its settings are closed.
pub(crate) struct Receiver {
    queue: Arc<PacketQueue>,
    batch: VecDeque<Arrived>,
    reception: Reception,
    buffer: JitterBuffer,
    events_heard: EventReceiver,
    /// Late and concealed of buffers before this one.
    past: (u64, u64, Duration),
    voice: Voice,
    audio: NegotiatedAudio,
    numbers: Arc<Mutex<Received>>,
    events: Arc<Events>,
    last_packet: Instant,
    told_no_media: bool,
    /// Packets that neither the codec nor anything else negotiated can read.
    unreadable: u64,
}

impl Receiver {
    pub(crate) fn new(
        queue: Arc<PacketQueue>,
        listener: Listener,
        stages: Chain,
        audio: NegotiatedAudio,
        numbers: Arc<Mutex<Received>>,
        events: Arc<Events>,
    ) -> Self {
        let now = Instant::now();
        let live = matches!(listener, Listener::Live(_));
        Receiver {
            queue,
            batch: VecDeque::new(),
            reception: Reception::default(),
            buffer: JitterBuffer::new(audio.codec.clock_rate(), live, now),
            events_heard: EventReceiver::default(),
            past: (0, 0, Duration::ZERO),
            voice: Voice {
                codec: audio.codec,
                decoder: None,
                noise: None,
                stages,
                listener,
                quiet: None,
                news: None,
                taps: Vec::new(),
                samples: Vec::new(),
                unreadable: 0,
            },
            audio,
            numbers,
            events,
            last_packet: now,
            told_no_media: false,
            unreadable: 0,
        }
    }

    /// When a peer that falls quiet is told.
    pub(crate) fn watching(mut self, quiet: Option<QuietConfig>) -> Self {
        self.voice.quiet = quiet.map(QuietWatch::new);
        self
    }

    /// Runs until the other end of `settings` is dropped; then what is left is recorded.
    pub(crate) async fn run(
        mut self,
        mut settings: watch::Receiver<Settings>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let mut current = settings.borrow_and_update().clone();
        let mut due = Instant::now();
        loop {
            let tick = self.listen(&current);
            due = due.min(Instant::now() + tick);
            tokio::select! {
                biased;
                changed = settings.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    current = settings.borrow_and_update().clone();
                    self.change(current.audio);
                }
                Some(order) = orders.recv() => self.obey(order),
                () = bond_changed(&mut current.bond) => {}
                () = sleep_until(due) => {
                    let now = Instant::now();
                    let stalled = now.saturating_duration_since(due) >= STALL;
                    self.tick(now, stalled).await;
                    due = if stalled { now + tick } else { due + tick };
                }
            }
        }
        self.finish().await;
    }

    fn obey(&mut self, order: Order) {
        let listener = &mut self.voice.listener;
        match order {
            Order::Listen(other) => *listener = other,
            Order::Take(recorder) => *listener = Listener::Recorder(recorder),
            Order::GiveUp(whom) => {
                let given = match std::mem::replace(listener, Listener::Nobody) {
                    Listener::Recorder(recorder) => Some(recorder),
                    other => {
                        *listener = other;
                        None
                    }
                };
                if let Err(Some(unwanted)) = whom.send(given) {
                    *listener = Listener::Recorder(unwanted);
                }
            }
        }
    }

    /// Who hears from now on, beside the sink; says how often to play.
    fn listen(&mut self, current: &Settings) -> Duration {
        let was_heard = self.voice.is_heard();
        let taps = &mut self.voice.taps;
        taps.clear();
        taps.extend(current.seat.clone().map(|seat| seat as Arc<dyn AudioSink>));
        taps.extend(current.heard.clone());
        taps.extend(current.bond.as_ref().and_then(Bond::recorder_of_the_other));
        let is_heard = self.voice.is_heard();
        self.queue.set_heard(is_heard);
        if is_heard && !was_heard {
            // A bridge may have had the payloads until now.
            self.buffer.restart();
        }
        let live = matches!(self.voice.listener, Listener::Live(_)) || current.seat.is_some();
        self.buffer.set_live(live);
        match (is_heard, &current.bond) {
            (true, _) => TICK,
            (false, Some(bond)) if bond.is_together() => TICK_BRIDGED,
            (false, _) => TICK_UNHEARD,
        }
    }

    async fn tick(&mut self, now: Instant, stalled: bool) {
        let mut batch = std::mem::take(&mut self.batch);
        self.queue.drain(&mut batch);
        let replay = !self.voice.is_heard();
        for arrived in batch.drain(..) {
            if replay {
                self.play(arrived.at, false).await;
            }
            self.take(arrived);
        }
        self.batch = batch;
        self.play(now, stalled).await;
        self.watch_silence(now);
        self.publish();
    }

    fn take(&mut self, arrived: Arrived) {
        let at = arrived.at;
        // Only what can be heard ends a silence: who sends what nobody can read is silent, however much it is.
        if self.hear(arrived) {
            self.last_packet = self.last_packet.max(at);
            self.told_no_media = false;
        }
    }

    /// `false`: it says nothing.
    fn hear(&mut self, arrived: Arrived) -> bool {
        let packet = &arrived.packet;
        match self.reception.packet(packet.ssrc, packet.sequence) {
            Verdict::Duplicate | Verdict::Stray => return false,
            Verdict::Restarted => self.buffer.restart(),
            Verdict::New => {}
        }
        if !self.audio.direction.receives() {
            return true;
        }
        let clock = self.audio.codec.clock_rate();
        let is_readable = if arrived.bare {
            self.reception.arrival(arrived.at, packet.timestamp, clock);
            true
        } else if self.is_audio(packet.payload_type) {
            self.reception.arrival(arrived.at, packet.timestamp, clock);
            let units = codec::packet_units(self.audio.codec, &packet.payload);
            units.map(|units| self.buffer.insert(arrived, units)).is_some()
        } else if self.is_noise(packet.payload_type) {
            let is_readable = Description::parse(&packet.payload).is_some();
            if is_readable {
                self.reception.arrival(arrived.at, packet.timestamp, clock);
                self.buffer.insert_noise(arrived);
            }
            is_readable
        } else {
            self.is_event(packet) && self.hear_event(&arrived)
        };
        self.unreadable += u64::from(!is_readable);
        is_readable
    }

    fn hear_event(&mut self, arrived: &Arrived) -> bool {
        let (audio_clock, clock) = (self.audio.codec.clock_rate(), self.event_clock());
        let Some(heard) = self
            .events_heard
            .packet(arrived.packet.timestamp, &arrived.packet.payload, clock)
        else {
            return false;
        };
        let units = u64::from(heard.units) * u64::from(audio_clock) / u64::from(clock.max(1));
        self.buffer
            .silence(heard.timestamp, u32::try_from(units).unwrap_or(u32::MAX));
        if let Some((digit, duration)) = heard.digit {
            self.events.emit(SessionEventKind::Dtmf { digit, duration });
        }
        true
    }

    /// The peer sends with the type that our own description gave the codec, which may differ from the one we send with.
    fn is_audio(&self, payload_type: u8) -> bool {
        payload_type == self.audio.payload_type || payload_type == self.audio.codec.payload_type()
    }

    /// Comfort noise has a static type (RFC 3389 section 4), and one of its own where its clock is another. A gateway to the
    /// telephone network may send it without having said so.
    fn is_noise(&self, payload_type: u8) -> bool {
        payload_type == comfort::PAYLOAD_TYPE
            || self
                .audio
                .parameters
                .comfort_noise
                .is_some_and(|(own, _)| payload_type == own)
    }

    /// Nothing but audio, noise and events is offered: what has a dynamic type, is not the others and has an event's size (RFC 4733
    /// section 2.3) is an event.
    fn is_event(&self, packet: &RtpPacket) -> bool {
        let is_alike = packet.payload_type >= 96 && packet.payload.len() == 4;
        self.audio
            .telephone_event
            .is_some_and(|(own, _)| packet.payload_type == own || is_alike)
    }

    fn event_clock(&self) -> u32 {
        self.audio.telephone_event.map_or(8_000, |(_, clock)| clock)
    }

    async fn play(&mut self, now: Instant, stalled: bool) {
        while let Some(play) = self.buffer.poll(now, stalled) {
            let played = self.voice.play(play).await;
            if let (Some(is_quiet), Some(watch)) = (self.voice.news.take(), &self.voice.quiet) {
                watch.tell(&self.events, Talker::Peer, is_quiet);
            }
            match played {
                Ok(removed) if removed > 0 => self.buffer.shortened(removed),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(call_id = %self.events.call, session = %self.events.session, %error, "recording failed");
                    self.events.emit(SessionEventKind::SinkFailed {
                        error: Arc::new(error),
                    });
                }
            }
        }
    }

    fn watch_silence(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.last_packet);
        if !self.audio.direction.receives() {
            self.last_packet = now;
        } else if since >= self.patience() && !self.told_no_media {
            self.told_no_media = true;
            self.events.emit(SessionEventKind::NoMedia { since });
        }
    }

    fn patience(&self) -> Duration {
        if self.buffer.is_noise() {
            NO_MEDIA_IN_SILENCE
        } else {
            NO_MEDIA
        }
    }

    fn change(&mut self, audio: NegotiatedAudio) {
        if audio.codec != self.audio.codec {
            // Whether anybody hears it live is said before the next packet is played.
            let new = JitterBuffer::new(audio.codec.clock_rate(), false, Instant::now());
            let old = std::mem::replace(&mut self.buffer, new);
            self.past.0 += old.late;
            self.past.1 += old.overflowed;
            self.past.2 += old.concealed();
            self.voice.codec = audio.codec;
            self.voice.decoder = None;
            self.voice.noise = None;
        }
        if audio.direction.receives() && !self.audio.direction.receives() {
            self.last_packet = Instant::now();
        }
        self.audio = audio;
    }

    fn publish(&self) {
        *self.numbers.lock() = Received {
            expected: self.reception.expected(),
            lost: self.reception.lost(),
            late: self.past.0 + self.buffer.late,
            duplicates: self.reception.duplicates(),
            jitter: self.reception.jitter(),
            buffer_delay: self.buffer.delay(),
            concealed: self.past.2 + self.buffer.concealed(),
            recorded: self.voice.recorded(),
            overflowed: self.past.1 + self.buffer.overflowed,
            unreadable: self.unreadable + self.voice.unreadable,
        };
    }

    async fn finish(&mut self) {
        let now = Instant::now();
        self.tick(now, true).await;
        if let Listener::Recorder(recorder) = &mut self.voice.listener {
            // What came and was waiting for its turn belongs to the recording, and nobody waits for it.
            while let Some(payload) = self.buffer.take_rest() {
                self.voice.samples.clear();
                let decoder = self
                    .voice
                    .decoder
                    .get_or_insert_with(|| codec::decoder(self.audio.codec));
                if decoder.decode(&payload, &mut self.voice.samples)
                    && let Err(error) = recorder
                        .write(self.audio.codec.sample_rate(), &self.voice.samples)
                        .await
                {
                    self.events.emit(SessionEventKind::SinkFailed {
                        error: Arc::new(error),
                    });
                }
            }
            if let Err(error) = recorder.finish().await {
                self.events.emit(SessionEventKind::SinkFailed {
                    error: Arc::new(error),
                });
            }
        }
        self.publish();
    }
}

/// Decodes for whoever listens.
struct Voice {
    codec: Codec,
    decoder: Option<Box<dyn Decode>>,
    noise: Option<NoiseMaker>,
    stages: Chain,
    listener: Listener,
    /// Tells when there is nothing to be heard; and what it said last, until it is told.
    quiet: Option<QuietWatch>,
    news: Option<bool>,
    /// A conference, and recordings.
    taps: Vec<Arc<dyn AudioSink>>,
    samples: Vec<i16>,
    unreadable: u64,
}

impl Voice {
    fn is_heard(&self) -> bool {
        !matches!(self.listener, Listener::Nobody) || !self.taps.is_empty() || self.quiet.is_some()
    }

    /// Says how many units of the RTP clock were taken out.
    async fn play(&mut self, play: Play) -> Result<u32> {
        if !self.is_heard() {
            return Ok(0);
        }
        let rate = self.codec.sample_rate();
        let per_unit = rate / self.codec.clock_rate();
        let decoder = self.decoder.get_or_insert_with(|| codec::decoder(self.codec));
        self.samples.clear();
        let (mut removed, mut trailing) = (0, false);
        match play {
            Play::Packet {
                payload,
                shorten: surplus,
            } => {
                if !decoder.decode(&payload, &mut self.samples) {
                    self.unreadable += 1;
                    let units = codec::packet_units(self.codec, &payload).unwrap_or(0);
                    decoder.conceal((units * per_unit) as usize, None, &mut self.samples);
                }
                if surplus {
                    removed = shorten(&mut self.samples, rate) as u32 / per_unit;
                }
            }
            Play::Conceal { units, next } => {
                decoder.conceal((units * per_unit) as usize, next.as_deref(), &mut self.samples);
                trailing = self.samples.iter().all(|&sample| sample == 0);
            }
            Play::Noise { units, payload } => {
                let maker = self.noise.get_or_insert_with(|| NoiseMaker::new(rate));
                if let Some(description) = payload.as_deref().and_then(Description::parse) {
                    maker.describe(description);
                }
                maker.make((units * per_unit) as usize, &mut self.samples);
            }
            Play::Silence { units } => self.samples.resize((units * per_unit) as usize, 0),
            Play::Pause(time) => {
                self.news = self.quiet.as_mut().and_then(|watch| watch.silence(time));
                if let Listener::Recorder(recorder) = &mut self.listener {
                    recorder.silence(time);
                }
                return Ok(0);
            }
        }
        self.stages.process(rate, &mut self.samples);
        let watch = self.quiet.as_mut();
        self.news = watch.and_then(|watch| watch.frame(rate, &self.samples));
        self.taps.iter().for_each(|tap| tap.write(rate, &self.samples));
        match &mut self.listener {
            Listener::Live(sink) => sink.write(rate, &self.samples),
            Listener::Nobody => {}
            Listener::Recorder(recorder) if trailing => {
                let micros = self.samples.len() as u64 * 1_000_000 / u64::from(rate);
                recorder.silence(Duration::from_micros(micros));
            }
            Listener::Recorder(recorder) => recorder.write(rate, &self.samples).await?,
        }
        Ok(removed)
    }

    fn recorded(&self) -> Duration {
        match &self.listener {
            Listener::Recorder(recorder) => recorder.recorded(),
            _ => Duration::ZERO,
        }
    }
}
