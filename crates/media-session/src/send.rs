//! The sending half: a packet every packet time, by absolute deadlines.

use crate::bridge::noise_type;
use crate::codec::{self, Encode, Tuning};
use crate::dtmf::{EventSender, Step};
use crate::events::Events;
use crate::join::{Bond, Outlet};
use crate::pump::Settings;
use crate::quiet::QuietWatch;
use crate::silence::{Discontinuous, Means, Transmit};
use crate::source::{Feed, Filled};
use crate::stage::Chain;
use crate::{AudioSink, QuietConfig, SessionEventKind, Source, Talker};
use bytes::Bytes;
use parking_lot::Mutex;
use siprtc_core::media::{AudioParameters, Codec, MediaPeer, NegotiatedAudio, RtpPacket};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// A process that was not run for so long sends what it missed at once; what it missed before that is left out, as if
/// we had been silent.
const MAX_BURST: Duration = Duration::from_millis(500);
/// This many frames of silence are encoded before the same one is sent for ever: by then an adaptive encoder has nothing
/// left to say.
const SETTLED_SILENCE: u32 = 10;

/// How often the peer's reports of loss are looked at, where something depends on them (RFC 3550 section 6.2: reports come
/// every five seconds).
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Sends one peer's audio until its settings are closed.
pub(crate) struct Sender {
    peer: Arc<dyn MediaPeer>,
    feed: Feed,
    events: Arc<Events>,
    steps: mpsc::Receiver<Step>,
    dtmf: EventSender,
    coder: Option<Coder>,
    stages: Chain,
    /// Silence need not be sent.
    silence_detection: bool,
    discontinuous: Discontinuous,
    quiet: Option<QuietWatch>,
    /// The loss that the peer reported, and when it was looked at.
    loss: (f64, Option<Instant>),
    frame: Vec<i16>,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    /// A first packet's audio that the path, not being up, has not taken yet.
    held: Option<Frame>,
    started: bool,
    /// What takes the place of `feed` next.
    next: Arc<Mutex<Option<Feed>>>,
    /// Instead of `feed`, in a conference.
    seat: Option<Feed>,
    /// Silence in the place of the source.
    is_muted: bool,
    /// Who records.
    said: Option<Arc<dyn AudioSink>>,
    /// The bridge that has the stream.
    lent: Option<Bond>,
}

/// What is sent in a packet time.
#[derive(Clone)]
enum Frame {
    Audio(Bytes),
    /// Comfort noise.
    Noise(Bytes),
    Nothing,
}

struct Coder {
    codec: Codec,
    tuning: Tuning,
    /// `None` while settled silence is sent: an Opus encoder is a quarter of a megabyte.
    encoder: Option<Box<dyn Encode>>,
    payload: Vec<u8>,
    silent: u32,
    /// For frames of so many samples.
    silence: Option<(usize, Bytes)>,
}

impl Sender {
    /// Opens the source. Blocks.
    pub(crate) fn open(
        peer: Arc<dyn MediaPeer>,
        source: &Source,
        events: Arc<Events>,
        steps: mpsc::Receiver<Step>,
        stages: Chain,
    ) -> siprtc_core::Result<Self> {
        Ok(Sender {
            peer,
            feed: Feed::open(source)?,
            events,
            steps,
            dtmf: EventSender::default(),
            coder: None,
            stages,
            silence_detection: false,
            discontinuous: Discontinuous::default(),
            quiet: None,
            loss: (0.0, None),
            frame: Vec::new(),
            // RFC 3711 section 3.3.1: a first number below 2^15 keeps a lost first packet from confusing the roll-over count.
            sequence: rand::random::<u16>() & 0x7fff,
            timestamp: rand::random(),
            marker: true,
            held: None,
            started: false,
            next: Arc::default(),
            seat: None,
            is_muted: false,
            said: None,
            lent: None,
        })
    }

    /// Where another source will be, told by new settings.
    pub(crate) fn changing_to(mut self, next: Arc<Mutex<Option<Feed>>>) -> Self {
        self.next = next;
        self
    }

    /// Whether silence is left out, and when it is told.
    pub(crate) fn minding_silence(mut self, is_left_out: bool, told: Option<QuietConfig>) -> Self {
        self.silence_detection = is_left_out;
        self.quiet = told.map(QuietWatch::new);
        self
    }

    /// Runs until the other end of `settings` is dropped.
    pub(crate) async fn run(mut self, mut settings: watch::Receiver<Settings>) {
        let mut current = settings.borrow().clone();
        // A seat, a recording or a mute may have been there before this task.
        self.follow(&mut current, &mut settings);
        let mut due = Instant::now();
        let events = Arc::clone(&self.events);
        loop {
            let audio = current.audio;
            let was_lent = self.lent.is_some();
            if self.is_lent(current.bond.as_ref(), &audio) {
                // The stream is a bridge's; digits of ours go into it.
                let (is_busy, ptime) = (self.dtmf.is_busy(), codec::usable_ptime(audio.ptime));
                tokio::select! {
                    biased;
                    changed = settings.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        self.follow(&mut current, &mut settings);
                    }
                    () = bond_changed(&mut current.bond) => {}
                    Some(step) = self.steps.recv(), if !is_busy => {
                        self.dtmf.push(step);
                        due = Instant::now();
                    }
                    () = sleep_until(due), if is_busy => {
                        self.digit_into_bridge(&audio, ptime);
                        due = Instant::now().max(due + Duration::from_millis(u64::from(ptime)));
                    }
                }
                continue;
            }
            if was_lent {
                due = Instant::now();
            }
            tokio::select! {
                biased;
                changed = settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow(&mut current, &mut settings);
                    self.held = None;
                }
                () = bond_changed(&mut current.bond) => {}
                () = events.connected.notified(), if self.held.is_some() => due = Instant::now(),
                () = sleep_until(due) => {
                    let ptime = codec::usable_ptime(audio.ptime);
                    due = self.skip_what_was_missed(due, ptime, audio.codec);
                    self.packet_time(&audio, ptime).await;
                    due += Duration::from_millis(u64::from(ptime));
                }
            }
        }
    }

    /// A packet time of what is dialled while the stream is lent.
    fn digit_into_bridge(&mut self, audio: &NegotiatedAudio, ptime: u32) {
        while let Ok(step) = self.steps.try_recv() {
            self.dtmf.push(step);
        }
        let (Some(bond), Some((payload_type, clock))) = (&self.lent, audio.telephone_event) else {
            return;
        };
        if !audio.direction.sends() {
            return;
        }
        // A digit waits for one of the other side's that is under way: a listener could not tell the two apart.
        let Some(timestamp) = bond.time_of_event(Instant::now(), self.dtmf.begins()) else {
            return;
        };
        let clocks = (audio.codec.clock_rate(), clock);
        if let Some(event) = self.dtmf.next(timestamp, ptime, clocks) {
            bond.send_event(payload_type, event);
        }
    }

    /// Takes new settings.
    fn follow(&mut self, current: &mut Settings, settings: &mut watch::Receiver<Settings>) {
        *current = settings.borrow_and_update().clone();
        if let Some(feed) = self.next.lock().take() {
            self.feed = feed;
        }
        self.seat = current.seat.clone().map(|seat| Feed::Samples(seat));
        self.is_muted = current.is_muted;
        self.said.clone_from(&current.said);
    }

    /// Lends the stream to a bridge that stands, and takes it back from one that does not.
    fn is_lent(&mut self, bond: Option<&Bond>, audio: &NegotiatedAudio) -> bool {
        let wanted = bond.filter(|bond| bond.is_together());
        let is_lent = matches!((&self.lent, wanted), (Some(lent), Some(wanted)) if lent.is(wanted));
        if is_lent {
            return true;
        }
        if let Some(outlet) = self.lent.take().and_then(|lent| lent.take_back()) {
            self.take_back(&outlet, audio);
        }
        let Some(bond) = wanted else {
            return false;
        };
        self.held = None;
        bond.lend(Outlet {
            peer: Arc::clone(&self.peer),
            events: Arc::clone(&self.events),
            sequence: self.sequence,
            timestamp: self.timestamp,
            sent: None,
            started: self.started,
        });
        self.lent = Some(bond.clone());
        true
    }

    /// The stream goes on where the bridge left it, with the time that has passed since.
    fn take_back(&mut self, outlet: &Outlet, audio: &NegotiatedAudio) {
        let ptime = codec::usable_ptime(audio.ptime);
        let passed = outlet.sent.map_or(Duration::ZERO, |sent| sent.elapsed());
        let silent = passed.saturating_sub(Duration::from_millis(u64::from(ptime)));
        let units = silent.as_micros() * u128::from(audio.codec.clock_rate()) / 1_000_000;
        self.sequence = outlet.sequence;
        // The low 32 bits are what RTP says.
        self.timestamp = outlet.timestamp.wrapping_add(units as u32);
        self.started = outlet.started;
        self.marker = true;
    }

    fn skip_what_was_missed(&mut self, due: Instant, ptime: u32, codec: Codec) -> Instant {
        let behind = Instant::now().saturating_duration_since(due);
        if behind <= MAX_BURST {
            return due;
        }
        let packets = (behind.as_millis() as u64 / u64::from(ptime)) as u32;
        tracing::warn!(
            call_id = %self.events.call, session = %self.events.session, ?behind,
            "the process was not run in time: audio was not sent"
        );
        self.timestamp = self
            .timestamp
            .wrapping_add(packets.wrapping_mul(units(codec, ptime)));
        self.marker = true;
        due + Duration::from_millis(u64::from(ptime) * u64::from(packets))
    }

    async fn packet_time(&mut self, audio: &NegotiatedAudio, ptime: u32) {
        while let Ok(step) = self.steps.try_recv() {
            self.dtmf.push(step);
        }
        if audio.direction.sends() {
            self.send(audio, ptime).await;
        } else {
            self.marker = true;
        }
        self.timestamp = self.timestamp.wrapping_add(units(audio.codec, ptime));
    }

    async fn send(&mut self, audio: &NegotiatedAudio, ptime: u32) {
        self.hear_reports(&audio.parameters).await;
        let frame = match self.held.take() {
            Some(frame) => frame,
            None => self.audio(audio, ptime).await,
        };
        let event = match audio.telephone_event {
            Some((payload_type, clock)) if self.started => self
                .dtmf
                .next(self.timestamp, ptime, (audio.codec.clock_rate(), clock))
                .map(|event| (payload_type, event)),
            _ => None,
        };
        let packet = match event {
            // The source plays on under a digit, unheard.
            Some((payload_type, event)) => {
                self.packet(payload_type, event.marker, event.timestamp, event.payload)
            }
            None => match (&frame, noise_type(audio)) {
                (Frame::Audio(payload), _) if !payload.is_empty() => {
                    self.packet(audio.payload_type, self.marker, self.timestamp, payload.clone())
                }
                (Frame::Noise(payload), Some(payload_type)) => {
                    self.packet(payload_type, false, self.timestamp, payload.clone())
                }
                _ => {
                    self.marker = true;
                    return;
                }
            },
        };
        match self.peer.send(packet).await {
            Ok(()) => {
                self.sequence = self.sequence.wrapping_add(1);
                // RFC 3551 section 4.1: the first audio after a silence is marked.
                self.marker = self.silence_detection && self.discontinuous.is_silent();
                if !self.started {
                    self.started = true;
                    self.events.emit(SessionEventKind::FirstPacketSent);
                }
            }
            // The path is not up yet: the source waits for it.
            Err(_) if !self.started => self.held = Some(frame),
            Err(error) => {
                tracing::trace!(call_id = %self.events.call, session = %self.events.session, %error, "not sent");
                self.marker = true;
            }
        }
    }

    fn packet(&self, payload_type: u8, marker: bool, timestamp: u32, payload: Bytes) -> RtpPacket {
        // The engine puts its own SSRC.
        RtpPacket {
            payload_type,
            marker,
            sequence: self.sequence,
            timestamp,
            ssrc: 0,
            payload,
        }
    }

    /// Looks at what the peer reports, where forward error correction depends on it.
    async fn hear_reports(&mut self, parameters: &AudioParameters) {
        let now = Instant::now();
        let due = self
            .loss
            .1
            .is_none_or(|last| now.saturating_duration_since(last) >= REPORT_INTERVAL);
        if parameters.inband_fec && due {
            self.loss = (self.peer.stats().await.remote_loss.unwrap_or(0.0), Some(now));
        }
    }

    /// The next frame of the source, encoded.
    async fn audio(&mut self, audio: &NegotiatedAudio, ptime: u32) -> Frame {
        let codec = audio.codec;
        let rate = codec.sample_rate();
        self.frame.resize((rate * ptime / 1_000) as usize, 0);
        let feed = self.seat.as_mut().unwrap_or(&mut self.feed);
        let filled = feed.fill(rate, &mut self.frame).await;
        let mut silent = matches!(filled, Filled::Silence);
        match filled {
            Filled::Ended => self.events.emit(SessionEventKind::SourceEnded),
            Filled::Failed(error) => {
                self.events.emit(SessionEventKind::SourceFailed {
                    error: Arc::new(error),
                });
            }
            Filled::Audio | Filled::Silence => {}
        }
        if !self.stages.is_empty() {
            self.stages.process(rate, &mut self.frame);
            silent = silent && self.frame.iter().all(|&sample| sample == 0);
        }
        if self.is_muted && self.seat.is_none() {
            // The source plays on, unheard.
            self.frame.fill(0);
            silent = true;
        }
        if let Some(said) = &self.said {
            said.write(rate, &self.frame);
        }
        if let Some(watch) = &mut self.quiet
            && let Some(is_quiet) = watch.frame(rate, &self.frame)
        {
            watch.tell(&self.events, Talker::Us, is_quiet);
        }
        match self.transmit(audio) {
            Transmit::Audio => {}
            Transmit::Noise(payload) => return Frame::Noise(payload),
            Transmit::Nothing => return Frame::Nothing,
        }
        let coder = match &mut self.coder {
            Some(coder) if coder.codec == codec => coder,
            coder => coder.insert(Coder::new(codec)),
        };
        let mut tuning = Tuning::of(&audio.parameters);
        tuning.loss = self.loss.0;
        coder.tune(tuning);
        Frame::Audio(coder.encode(&self.frame, silent))
    }

    /// Whether the frame is sent, and as what.
    fn transmit(&mut self, audio: &NegotiatedAudio) -> Transmit {
        let means = match noise_type(audio) {
            _ if !self.silence_detection => return Transmit::Audio,
            Some(_) => Means::ComfortNoise,
            None if audio.parameters.dtx && audio.codec == Codec::Opus => Means::Frames,
            None => return Transmit::Audio,
        };
        self.discontinuous
            .frame(audio.codec.sample_rate(), &self.frame, means)
    }
}

impl Coder {
    fn new(codec: Codec) -> Self {
        Coder {
            codec,
            tuning: Tuning::default(),
            encoder: None,
            payload: Vec::new(),
            silent: 0,
            silence: None,
        }
    }

    fn tune(&mut self, tuning: Tuning) {
        if tuning == self.tuning {
            return;
        }
        self.tuning = tuning;
        if let Some(encoder) = &mut self.encoder {
            encoder.tune(&tuning);
        }
    }

    fn encode(&mut self, frame: &[i16], silent: bool) -> Bytes {
        if silent && self.encoder.is_none() {
            return match &self.silence {
                Some((samples, silence)) if *samples == frame.len() => silence.clone(),
                _ => {
                    let silence = settled_silence(self.codec, frame.len());
                    self.silence = Some((frame.len(), silence.clone()));
                    silence
                }
            };
        }
        let encoder = self.encoder.get_or_insert_with(|| {
            let mut encoder = codec::encoder(self.codec);
            encoder.tune(&self.tuning);
            encoder
        });
        encoder.encode(frame, &mut self.payload);
        let payload = Bytes::copy_from_slice(&self.payload);
        self.silent = if silent { self.silent + 1 } else { 0 };
        if self.silent >= SETTLED_SILENCE {
            self.encoder = None;
            self.payload = Vec::new();
        }
        self.silence = None;
        payload
    }
}

/// What an encoder says after hearing nothing for long: made once in a process for each codec and packet time, of which
/// there are a handful.
fn settled_silence(codec: Codec, samples: usize) -> Bytes {
    static MADE: Mutex<BTreeMap<(u8, usize), Bytes>> = Mutex::new(BTreeMap::new());
    let make = || {
        let (mut encoder, mut payload) = (codec::encoder(codec), Vec::new());
        for _ in 0..SETTLED_SILENCE {
            encoder.encode(&vec![0; samples], &mut payload);
        }
        Bytes::from(payload)
    };
    MADE.lock()
        .entry((codec.payload_type(), samples))
        .or_insert_with(make)
        .clone()
}

/// Never, without a bridge.
pub(crate) async fn bond_changed(bond: &mut Option<Bond>) {
    match bond {
        Some(bond) => bond.changed().await,
        None => std::future::pending().await,
    }
}

fn units(codec: Codec, ptime: u32) -> u32 {
    codec.clock_rate() * ptime / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_encoded_once_and_is_silent() {
        for codec in Codec::ALL {
            let frame = vec![0; codec.sample_rate() as usize / 50];
            let (mut coder, mut other) = (Coder::new(codec), Coder::new(codec));
            let payload = coder.encode(&frame, true);
            assert_eq!(payload.as_ptr(), other.encode(&frame, true).as_ptr(), "{codec}");
            let (mut decoder, mut heard) = (codec::decoder(codec), Vec::new());
            for _ in 0..10 {
                assert!(decoder.decode(&payload, &mut heard));
            }
            let loudest = heard.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
            assert!(loudest <= 32, "{codec}: {loudest}");
        }
    }

    #[test]
    fn silence_follows_a_change_of_the_packet_time() {
        let mut coder = Coder::new(Codec::Pcmu);
        let lengths = [160, 480, 160].map(|samples| coder.encode(&vec![0; samples], true).len());
        assert_eq!(lengths, [160, 480, 160]);
    }

    #[test]
    fn after_audio_silence_is_encoded_until_it_is_settled() {
        let mut coder = Coder::new(Codec::G722);
        coder.encode(&[9_000; 320], false);
        for _ in 0..SETTLED_SILENCE {
            assert!(coder.encoder.is_some());
            coder.encode(&[0; 320], true);
        }
        assert!(coder.encoder.is_none());
        assert!(!coder.encode(&[0; 320], true).is_empty());
        assert_ne!(coder.encode(&[9_000; 320], false), coder.encode(&[0; 320], true));
    }
}
