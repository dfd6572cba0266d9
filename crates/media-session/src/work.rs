//! What a session does with its peer. Runs on the media runtime, one operation at a time.

use crate::config::{SessionConfig, Sink};
use crate::dtmf;
use crate::ear::{Ear, Standing};
use crate::emodel;
use crate::events::Events;
use crate::join::VideoNumbers;
use crate::pump::{Ends, Pumps};
use crate::queue::PacketQueue;
use crate::receive::Received;
use crate::recorder::Recorder;
use crate::recording::Recording;
use crate::source::Feed;
use crate::video::{VideoPumps, VideoQueue, VideoRecorder};
use crate::{BridgeEnd, Fork, Processing, Seat, SessionStats, Source};
pub use estate::Estate;
use forks::Branches;
use parking_lot::Mutex;
use siprtc_core::ice::Candidate;
use siprtc_core::media::{
    Direction, MediaEventSink, MediaPeer, NegotiatedAudio, NegotiatedVideo, PacketSink, PeerConfig, SdpKind,
    TransportStats, VideoPort, VideoWish,
};
use siprtc_core::{Error, Fault, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use terms::Terms;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// An engine that takes longer than this for one step is given up; gathering has its own, shorter budget.
const STEP: Duration = Duration::from_secs(30);
/// How long closing a peer may take.
const CLOSE: Duration = Duration::from_secs(5);

mod connect;
mod estate;
mod forks;
mod terms;

/// Where a media peer's packets, video and events go.
type Hearing = (Arc<dyn PacketSink>, Arc<dyn VideoPort>, Arc<dyn MediaEventSink>);

/// A session's peer and pumps.
pub(crate) struct Work {
    config: SessionConfig,
    events: Arc<Events>,
    queue: Arc<PacketQueue>,
    numbers: Arc<Mutex<Received>>,
    peer: Option<Arc<dyn MediaPeer>>,
    /// Of an offer of ours that forks may answer.
    branches: Option<Branches>,
    /// Whether there was an answer since a fork was taken: what an older one agreed on comes too late.
    is_agreed: bool,
    pumps: Option<Pumps>,
    audio: Option<NegotiatedAudio>,
    video_queue: Arc<VideoQueue>,
    video_numbers: Arc<VideoNumbers>,
    video_pumps: Option<VideoPumps>,
    video: Option<NegotiatedVideo>,
    terms: Terms,
    is_muted: bool,
    /// Which way audio is wanted, but for a hold.
    wanted: Direction,
    /// Hold was asked for: nothing is wanted of the peer.
    is_held: bool,
    /// A bridge to another session, and whether our audio has entered it.
    joined: Option<(BridgeEnd, bool)>,
    seat: Option<Arc<Seat>>,
    recording: Option<Recording>,
    /// Another session's sink, which goes on here as soon as audio begins. In a mutex because it is not `Sync`.
    inherited: Mutex<Option<Box<Recorder>>>,
    /// The same of video.
    inherited_video: Option<VideoRecorder>,
    /// Until audio begins. In a mutex because a stage need not be `Sync`.
    processing: Mutex<Processing>,
    closed: bool,
}

impl Work {
    pub(crate) fn new(config: SessionConfig, events: Arc<Events>) -> Self {
        let queue = Arc::new(PacketQueue::new(Arc::clone(&events)));
        Work {
            wanted: config.direction,
            terms: Terms::new(config.direction, config.video.as_ref()),
            config,
            events,
            queue,
            numbers: Arc::default(),
            peer: None,
            branches: None,
            is_agreed: true,
            pumps: None,
            audio: None,
            video_queue: Arc::default(),
            video_numbers: Arc::new(VideoNumbers::starting_at(rand::random(), rand::random())),
            video_pumps: None,
            video: None,
            is_muted: false,
            is_held: false,
            joined: None,
            seat: None,
            recording: None,
            inherited: Mutex::default(),
            inherited_video: None,
            processing: Mutex::default(),
            closed: false,
        }
    }

    pub(crate) fn set_processing(&mut self, processing: Processing) {
        *self.processing.get_mut() = processing;
    }

    pub(crate) async fn create_offer(&mut self) -> Result<String> {
        let peer = self.peer(None).await?;
        self.direct(&*peer).await?;
        let offer = step("create offer", peer.create_offer()).await?;
        let set = step("set local offer", peer.set_local(SdpKind::Offer, &offer)).await?;
        Ok(terms::with_packet_time(set, self.config.ptime))
    }

    pub(crate) async fn accept_answer(&mut self, kind: SdpKind, sdp: &str) -> Result<()> {
        step("set remote answer", self.existing_peer()?.set_remote(kind, sdp)).await?;
        if let Some(branches) = &mut self.branches {
            branches.answered();
        }
        self.is_agreed = true;
        Ok(())
    }

    pub(crate) async fn answer_offer(&mut self, sdp: &str) -> Result<String> {
        let peer = self.peer(Some(sdp)).await?;
        // Said before every offer and answer: an engine left alone may answer a hold with "sendrecv" (RFC 3264 section 6.1), and
        // what is not wanted when an offer comes is not looked for in it.
        self.direct(&*peer).await?;
        step("set remote offer", peer.set_remote(SdpKind::Offer, sdp)).await?;
        let answered = self.answer(&*peer).await;
        self.is_agreed |= answered.is_ok();
        if answered.is_err()
            && let Err(error) = step("roll remote offer back", peer.rollback()).await
        {
            tracing::debug!(call_id = %self.events.call, session = %self.events.session, %error, "no rollback");
        }
        answered
    }

    async fn answer(&self, peer: &dyn MediaPeer) -> Result<String> {
        let answer = step("create answer", peer.create_answer()).await?;
        let set = step("set local answer", peer.set_local(SdpKind::Answer, &answer)).await?;
        Ok(terms::with_packet_time(set, self.config.ptime))
    }

    async fn direct(&self, peer: &dyn MediaPeer) -> Result<()> {
        step("set direction", peer.set_direction(self.config.direction)).await?;
        if let Some(codecs) = &self.terms.codecs {
            step("set codecs", peer.set_codecs(codecs)).await?;
        }
        let wish = self.terms.video.as_ref().map(|(plan, codecs)| {
            let receives = plan.direction.receives() && !self.is_held;
            VideoWish {
                direction: Direction::from_parts(plan.direction.sends(), receives),
                codecs: codecs.clone(),
            }
        });
        step("set video", peer.set_video(wish)).await
    }

    /// One that the engine refuses does not keep the others out.
    pub(crate) async fn add_candidates(&mut self, fork: Fork, candidates: &[Candidate]) -> Result<()> {
        let peer = self.peer_of(fork)?;
        let mut result = Ok(());
        for candidate in candidates {
            result = result.and(step("add candidate", peer.add_candidate(candidate)).await);
        }
        result
    }

    pub(crate) async fn begin(
        &mut self,
        audio: NegotiatedAudio,
        video: Option<NegotiatedVideo>,
    ) -> Result<()> {
        match self.is_agreed {
            true => self.start(audio, video).await,
            false => Ok(()),
        }
    }

    async fn start(&mut self, audio: NegotiatedAudio, video: Option<NegotiatedVideo>) -> Result<()> {
        match &self.pumps {
            Some(pumps) => pumps.change(audio),
            None => {
                let ends = Ends {
                    peer: self.existing_peer()?,
                    source: self.config.source.clone(),
                    listener: self.listener(),
                    queue: Arc::clone(&self.queue),
                    numbers: Arc::clone(&self.numbers),
                    events: Arc::clone(&self.events),
                    processing: std::mem::take(self.processing.get_mut()),
                };
                self.pumps = Some(Pumps::start(ends, audio).await?);
            }
        }
        self.audio = Some(audio);
        self.begin_video(video).await?;
        self.connect();
        tracing::info!(
            call_id = %self.events.call, session = %self.events.session,
            codec = %audio.codec, direction = %audio.direction, ptime = audio.ptime, "audio"
        );
        Ok(())
    }

    pub(crate) async fn send_dtmf(&mut self, digits: &str, duration_ms: u32) -> Result<()> {
        const SEND: &str = "send DTMF";
        let steps = dtmf::steps(digits, duration_ms)?;
        let Some(pumps) = &self.pumps else {
            return Err(Error::new(Fault::ApiMisuse, SEND, "audio has not begun").advice("send Begin first"));
        };
        let audio = pumps.audio();
        if audio.telephone_event.is_none() {
            return Err(Error::new(
                Fault::PeerIncompatible,
                SEND,
                "the peer does not take telephone-event (RFC 4733)",
            )
            .advice("send the digits by SIP INFO instead"));
        }
        if !audio.direction.sends() {
            return Err(
                Error::new(Fault::ApiMisuse, SEND, format!("the call is {}", audio.direction))
                    .advice("resume the call first"),
            );
        }
        pumps.send_dtmf(steps)
    }

    pub(crate) async fn set_direction(&mut self, direction: Direction) -> Result<()> {
        if let Some(peer) = &self.peer {
            step("set direction", peer.set_direction(direction)).await?;
        }
        self.is_held = self.wanted.receives() && !direction.receives();
        self.config.direction = direction;
        Ok(())
    }

    pub(crate) async fn restart_ice(&mut self) -> Result<()> {
        step("restart ICE", self.existing_peer()?.restart_ice()).await
    }

    pub(crate) async fn rollback(&mut self) -> Result<()> {
        step("roll offer back", self.existing_peer()?.rollback()).await
    }

    pub(crate) async fn snapshot(&mut self) -> Result<SessionStats> {
        let (transport, selected_pair) = match &self.peer {
            None => (TransportStats::default(), None),
            Some(peer) => {
                step("take a snapshot", async {
                    Ok((peer.stats().await, peer.selected_pair().await))
                })
                .await?
            }
        };
        let received = *self.numbers.lock();
        let lost = ratio(received.lost, received.expected);
        let mut stats = SessionStats {
            codec: self.audio.map(|audio| audio.codec),
            transport,
            selected_pair,
            packets_expected: received.expected,
            packets_lost: received.lost,
            packets_late: received.late,
            duplicates: received.duplicates,
            loss: lost,
            jitter: received.jitter,
            buffer_delay: received.buffer_delay,
            concealed: received.concealed,
            recorded: received.recorded,
            unreadable: received.unreadable,
            queue_dropped: self.queue.dropped() + received.overflowed,
            round_trip: transport.round_trip,
            ..SessionStats::default()
        };
        if let (Some(pumps), Some(peer)) = (&self.video_pumps, &self.peer) {
            stats.video = Some(crate::VideoStats {
                transport: peer.video_stats().await.unwrap_or_default(),
                ..pumps.stats()
            });
        }
        if let Some(audio) = self.audio {
            let delay = received.buffer_delay
                + transport.round_trip.unwrap_or_default() / 2
                + Duration::from_millis(u64::from(audio.ptime));
            // A packet that came too late was not heard either.
            let unheard = ratio(received.lost + received.late, received.expected);
            stats.r_factor = emodel::r_factor(audio.codec, delay, unheard);
            stats.mos = emodel::mos(stats.r_factor);
        }
        Ok(stats)
    }

    /// Finishes the recording, closes the peer, and gives the last numbers. Safe to call twice.
    pub(crate) async fn close(&mut self) -> Result<SessionStats> {
        self.disconnect().await;
        if let Some(pumps) = self.pumps.take() {
            pumps.stop().await;
        }
        let stats = self.snapshot().await;
        if let Some(pumps) = self.video_pumps.take() {
            pumps.stop().await;
        }
        self.close_forks().await;
        if let Some(peer) = &self.peer
            && !std::mem::replace(&mut self.closed, true)
            && timeout(CLOSE, peer.close()).await.is_err()
        {
            tracing::warn!(call_id = %self.events.call, session = %self.events.session, "the peer did not close in time");
        }
        self.peer = None;
        stats
    }

    fn existing_peer(&self) -> Result<Arc<dyn MediaPeer>> {
        self.peer.clone().ok_or_else(|| {
            Error::new(Fault::ApiMisuse, "use media peer", "there is none")
                .advice("create or answer an offer first")
        })
    }

    async fn peer(&mut self, remote_offer: Option<&str>) -> Result<Arc<dyn MediaPeer>> {
        if let Some(peer) = &self.peer {
            return Ok(Arc::clone(peer));
        }
        self.check_files().await?;
        self.terms.begin().await?;
        // Whom others may answer, too, is listened to by itself.
        let ear = (remote_offer.is_none() && self.config.engine.forks()).then(|| {
            let (queue, video) = (Arc::clone(&self.queue), Arc::clone(&self.video_queue));
            Arc::new(Ear::new(queue, video, Arc::clone(&self.events), Standing::Sole))
        });
        let (packets, video, events): Hearing = match &ear {
            Some(ear) => (ear.clone(), ear.clone(), ear.clone()),
            None => (self.queue.clone(), self.video_queue.clone(), self.events.clone()),
        };
        let config = PeerConfig {
            ice: self.config.ice.clone(),
            codecs: self.config.codecs.clone(),
            remote_offer: remote_offer.map(str::to_owned),
            heard: self.config.heard.clone(),
            packets,
            video: Some(video),
            events,
        };
        let mut peer = step("create media peer", self.config.engine.create_peer(config)).await?;
        if let Some(ear) = ear {
            let branches = Branches::new(peer, ear);
            peer = branches.chosen();
            self.branches = Some(branches);
        }
        self.peer = Some(Arc::clone(&peer));
        Ok(peer)
    }

    /// A file that cannot be played, or recorded to, is said before anybody's phone rings.
    async fn check_files(&self) -> Result<()> {
        if !matches!(self.config.source, Source::File { .. } | Source::Tone { .. })
            && !matches!(self.config.sink, Sink::File { .. })
        {
            return Ok(());
        }
        opened(&self.config.source, &self.config.sink).await.map(drop)
    }
}

/// The source, and a sink whose folder is there.
async fn opened(source: &Source, sink: &Sink) -> Result<Feed> {
    let (source, sink) = (source.clone(), sink.clone());
    let opened = spawn_blocking(move || {
        if let Sink::File { path } = &sink {
            check_folder(path)?;
        }
        Feed::open(&source)
    });
    opened.await.map_err(|error| {
        Error::new(Fault::Backend, "check audio files", "the checking thread ended").caused_by(error)
    })?
}

fn check_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    let what = format!(
        "{} cannot be a file: {} is no folder that holds it",
        path.display(),
        folder.display()
    );
    Err(Error::new(Fault::ConfigInvalid, "record", what).advice("create the folder, and name a file in it"))
}

async fn step<T>(operation: &'static str, future: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(STEP, future).await.unwrap_or_else(|_| {
        Err(Error::new(
            Fault::TimedOut,
            operation,
            format!("the media engine needed more than {STEP:?}"),
        )
        .advice("look for an overloaded machine, or choose another media.engine"))
    })
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        (part as f64 / whole as f64).min(1.0)
    }
}
