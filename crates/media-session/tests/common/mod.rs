//! Two sessions that talk through a fake network, and signals to tell what was heard.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use actix::{Actor, Addr, Context, Handler};
use siprtc_core::CallId;
use siprtc_core::ice::IceConfig;
use siprtc_core::media::{Codec, Direction, NegotiatedAudio, SdpKind};
use siprtc_media_session::{
    AcceptAnswer, AnswerOffer, Begin, CreateOffer, MediaSession, Processing, SessionConfig, SessionEvent,
    SessionEventKind, Sink, Source,
};
use siprtc_testkit::media::{FakeEngine, FakeNetwork};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::runtime::Handle;

/// Keeps what a session told.
pub(crate) struct Collector(Arc<Mutex<Vec<SessionEventKind>>>);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<SessionEvent> for Collector {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        self.0.lock().unwrap().push(event.kind);
    }
}

/// One session, and what it told.
pub(crate) struct End {
    pub(crate) session: Addr<MediaSession>,
    told: Arc<Mutex<Vec<SessionEventKind>>>,
}

impl End {
    pub(crate) fn new(network: &Arc<FakeNetwork>, codecs: &[Codec], source: Source, sink: Sink) -> Self {
        End::over(network.engine(), codecs, source, sink)
    }

    pub(crate) fn over(engine: Arc<FakeEngine>, codecs: &[Codec], source: Source, sink: Sink) -> Self {
        End::processing(engine, codecs, source, sink, Processing::default())
    }

    pub(crate) fn processing(
        engine: Arc<FakeEngine>,
        codecs: &[Codec],
        source: Source,
        sink: Sink,
        processing: Processing,
    ) -> Self {
        let told = Arc::default();
        let collector = Collector(Arc::clone(&told)).start();
        let config = SessionConfig {
            call: CallId::fresh(),
            engine,
            runtime: Handle::current(),
            ice: IceConfig::default(),
            codecs: codecs.to_vec(),
            source,
            sink,
            direction: Direction::SendRecv,
            ptime: 20,
            video: None,
            heard: None,
        };
        End {
            session: MediaSession::new(config, collector.recipient())
                .with_processing(processing)
                .start(),
            told,
        }
    }

    pub(crate) fn told(&self) -> Vec<SessionEventKind> {
        self.told.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&SessionEventKind) -> bool) -> usize {
        self.told().iter().filter(|kind| wanted(kind)).count()
    }
}

/// Offer, answer, and audio on both sides.
pub(crate) async fn connect(alice: &End, bob: &End, audio: NegotiatedAudio) {
    let offer = alice.session.send(CreateOffer).await.unwrap().unwrap();
    let answer = bob
        .session
        .send(AnswerOffer { sdp: offer })
        .await
        .unwrap()
        .unwrap();
    bob.session
        .send(Begin { audio, video: None })
        .await
        .unwrap()
        .unwrap();
    alice
        .session
        .send(AcceptAnswer {
            sdp: answer,
            kind: SdpKind::Answer,
        })
        .await
        .unwrap()
        .unwrap();
    alice
        .session
        .send(Begin { audio, video: None })
        .await
        .unwrap()
        .unwrap();
}

pub(crate) fn audio(codec: Codec) -> NegotiatedAudio {
    NegotiatedAudio {
        telephone_event: Some((101, 8_000)),
        ..NegotiatedAudio::of(codec)
    }
}

/// A folder of this test's own.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("siprtc-media-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A voice's stand-in that never repeats itself.
pub(crate) fn speech(rate: u32, seconds: f64) -> Vec<i16> {
    let mut phase = 0.0f64;
    (0..(f64::from(rate) * seconds) as usize)
        .map(|index| {
            let time = index as f64 / f64::from(rate);
            let pitch = 140.0 + 40.0 * (time * 2.1).sin() + 15.0 * (time * time * 3.3).sin();
            phase += std::f64::consts::TAU * pitch / f64::from(rate);
            let syllable = 0.25 + 0.75 * (time * 3.0 * std::f64::consts::PI).sin().abs();
            (1..12)
                .map(|n| (phase * f64::from(n)).sin() / f64::from(n))
                .sum::<f64>()
                * syllable
                * 7_000.0
        })
        .map(|sample| sample as i16)
        .collect()
}

pub(crate) fn write_wav(path: &PathBuf, rate: u32, samples: &[i16]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    samples
        .iter()
        .for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
}

pub(crate) fn read_wav(path: &PathBuf) -> (u32, Vec<i16>) {
    let reader = hound::WavReader::open(path).unwrap();
    (
        reader.spec().sample_rate,
        reader.into_samples().map(Result::unwrap).collect(),
    )
}

/// The highest normalised correlation of the two when `heard` is up to `max_delay` samples late.
pub(crate) fn correlation(played: &[i16], heard: &[i16], max_delay: usize) -> f64 {
    // The delay is found on a piece from the middle, at every eighth sample.
    let middle = played.len() / 2;
    let piece = &played[middle..(middle + played.len() / 4).min(middle + 24_000)];
    let best = (0..=max_delay)
        .max_by(|&a, &b| {
            let at = |delay: usize| alike(piece, heard.get(middle + delay..).unwrap_or_default(), 8);
            at(a).total_cmp(&at(b))
        })
        .unwrap_or(0);
    alike(played, heard.get(best..).unwrap_or_default(), 1)
}

fn alike(played: &[i16], heard: &[i16], step: usize) -> f64 {
    let (mut cross, mut power, mut power_heard) = (0.0, 1e-9, 1e-9);
    for (&a, &b) in played.iter().zip(heard).step_by(step) {
        let (a, b) = (f64::from(a), f64::from(b));
        cross += a * b;
        power += a * a;
        power_heard += b * b;
    }
    cross / f64::sqrt(power * power_heard)
}
