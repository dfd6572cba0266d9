//! The sending half: a packet every packet time, by absolute deadlines.

use crate::codec::{self, Encode};
use crate::dtmf::{EventSender, Step};
use crate::events::Events;
use crate::source::{Feed, Filled};
use crate::{SessionEventKind, Source};
use bytes::Bytes;
use parking_lot::Mutex;
use siprtc_core::media::{Codec, MediaPeer, NegotiatedAudio, RtpPacket};
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

/// Sends one peer's audio until its settings are closed.
pub(crate) struct Sender {
    peer: Arc<dyn MediaPeer>,
    feed: Feed,
    events: Arc<Events>,
    steps: mpsc::Receiver<Step>,
    dtmf: EventSender,
    coder: Option<Coder>,
    frame: Vec<i16>,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    /// A first packet's audio that the path, not being up, has not taken yet.
    held: Option<Bytes>,
    started: bool,
}

struct Coder {
    codec: Codec,
    /// `None` while settled silence is sent: an Opus encoder is a quarter of a megabyte.
    encoder: Option<Box<dyn Encode>>,
    payload: Vec<u8>,
    silent: u32,
    silence: Option<Bytes>,
}

impl Sender {
    /// Opens the source. Blocks.
    pub(crate) fn open(
        peer: Arc<dyn MediaPeer>,
        source: &Source,
        events: Arc<Events>,
        steps: mpsc::Receiver<Step>,
    ) -> siprtc_core::Result<Self> {
        Ok(Sender {
            peer,
            feed: Feed::open(source)?,
            events,
            steps,
            dtmf: EventSender::default(),
            coder: None,
            frame: Vec::new(),
            // RFC 3711 section 3.3.1: a first number below 2^15 keeps a lost first packet from confusing the roll-over count.
            sequence: rand::random::<u16>() & 0x7fff,
            timestamp: rand::random(),
            marker: true,
            held: None,
            started: false,
        })
    }

    /// Runs until the other end of `settings` is dropped.
    pub(crate) async fn run(mut self, mut settings: watch::Receiver<NegotiatedAudio>) {
        let mut audio = *settings.borrow_and_update();
        let mut due = Instant::now();
        let events = Arc::clone(&self.events);
        loop {
            tokio::select! {
                biased;
                changed = settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    audio = *settings.borrow_and_update();
                    self.held = None;
                }
                () = events.connected.notified(), if self.held.is_some() => due = Instant::now(),
                () = sleep_until(due) => {
                    let ptime = codec::usable_ptime(audio.codec, audio.ptime);
                    due = self.skip_what_was_missed(due, ptime, audio.codec);
                    self.packet_time(&audio, ptime).await;
                    due += Duration::from_millis(u64::from(ptime));
                }
            }
        }
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
        let payload = match self.held.take() {
            Some(payload) => payload,
            None => self.audio(audio.codec, ptime).await,
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
            None if payload.is_empty() => return,
            None => self.packet(audio.payload_type, self.marker, self.timestamp, payload.clone()),
        };
        match self.peer.send(packet).await {
            Ok(()) => {
                self.sequence = self.sequence.wrapping_add(1);
                self.marker = false;
                if !self.started {
                    self.started = true;
                    self.events.emit(SessionEventKind::FirstPacketSent);
                }
            }
            // The path is not up yet: the source waits for it.
            Err(_) if !self.started => self.held = Some(payload),
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

    /// The next frame of the source, encoded.
    async fn audio(&mut self, codec: Codec, ptime: u32) -> Bytes {
        let rate = codec.sample_rate();
        self.frame.resize((rate * ptime / 1_000) as usize, 0);
        let filled = self.feed.fill(rate, &mut self.frame).await;
        let silent = matches!(filled, Filled::Silence);
        match filled {
            Filled::Ended => self.events.emit(SessionEventKind::SourceEnded),
            Filled::Failed(error) => {
                self.events.emit(SessionEventKind::SourceFailed {
                    error: Arc::new(error),
                });
            }
            Filled::Audio | Filled::Silence => {}
        }
        let coder = match &mut self.coder {
            Some(coder) if coder.codec == codec => coder,
            coder => coder.insert(Coder::new(codec)),
        };
        coder.encode(&self.frame, silent)
    }
}

impl Coder {
    fn new(codec: Codec) -> Self {
        Coder {
            codec,
            encoder: None,
            payload: Vec::new(),
            silent: 0,
            silence: None,
        }
    }

    fn encode(&mut self, frame: &[i16], silent: bool) -> Bytes {
        if silent && self.encoder.is_none() {
            return self
                .silence
                .get_or_insert_with(|| settled_silence(self.codec, frame.len()))
                .clone();
        }
        let encoder = self.encoder.get_or_insert_with(|| codec::encoder(self.codec));
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
