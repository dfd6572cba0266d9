//! The two tasks of a session that carry audio. They share nothing with the actor but their settings and numbers: no
//! packet passes a mailbox.

use crate::dtmf::{self, Step};
use crate::events::Events;
use crate::join::Bond;
use crate::queue::PacketQueue;
use crate::receive::{Listener, Order, Received, Receiver};
use crate::recorder::Recorder;
use crate::send::Sender;
use crate::source::Feed;
use crate::{AudioSink, Processing, Seat, Source};
use parking_lot::Mutex;
use siprtc_core::media::{MediaPeer, NegotiatedAudio};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// How long a recording may take to be finished on a slow disk.
const FINISH: Duration = Duration::from_secs(5);

/// Orders to the receiver that wait; whoever gives another one waits, too.
const MOST_ORDERS: usize = 4;

/// What the pumps follow while they run.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) audio: NegotiatedAudio,
    /// A bridge to another session.
    pub(crate) bond: Option<Bond>,
    /// A seat in a conference.
    pub(crate) seat: Option<Arc<Seat>>,
    /// Who records what we send, and what we hear.
    pub(crate) said: Option<Arc<dyn AudioSink>>,
    pub(crate) heard: Option<Arc<dyn AudioSink>>,
    /// Silence in the place of the source.
    pub(crate) is_muted: bool,
}

impl Settings {
    pub(crate) fn of(audio: NegotiatedAudio) -> Self {
        Settings {
            audio,
            bond: None,
            seat: None,
            said: None,
            heard: None,
            is_muted: false,
        }
    }
}

/// Running audio.
pub(crate) struct Pumps {
    settings: watch::Sender<Settings>,
    /// A source that the sender has not taken up yet.
    next: Arc<Mutex<Option<Feed>>>,
    steps: mpsc::Sender<Step>,
    orders: mpsc::Sender<Order>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<()>,
}

/// What the pumps work between.
pub(crate) struct Ends {
    pub(crate) peer: Arc<dyn MediaPeer>,
    pub(crate) source: Source,
    pub(crate) listener: Listener,
    pub(crate) queue: Arc<PacketQueue>,
    pub(crate) numbers: Arc<Mutex<Received>>,
    pub(crate) events: Arc<Events>,
    pub(crate) processing: Processing,
}

impl Pumps {
    /// Opens the source and starts both tasks on the current runtime.
    pub(crate) async fn start(ends: Ends, audio: NegotiatedAudio) -> Result<Self> {
        let Ends {
            peer,
            source,
            listener,
            queue,
            numbers,
            events,
            processing,
        } = ends;
        let Processing {
            sending,
            receiving,
            silence_detection,
            quiet,
        } = processing;
        let (settings, for_sender) = watch::channel(Settings::of(audio));
        let for_receiver = settings.subscribe();
        let (steps, waiting) = mpsc::channel(dtmf::MAX_WAITING * 2);
        let (orders, ordered) = mpsc::channel(MOST_ORDERS);
        let for_feed = Arc::clone(&events);
        let next = Arc::new(Mutex::new(None));
        let changing = Arc::clone(&next);
        let sender = spawn_blocking(move || {
            let sender = Sender::open(peer, &source, for_feed, waiting, sending)?;
            Ok(sender
                .minding_silence(silence_detection, quiet)
                .changing_to(changing))
        })
        .await
        .map_err(|error| {
            Error::new(
                Fault::Backend,
                "begin audio",
                "the thread that opens the source ended",
            )
            .caused_by(error)
        })
        .and_then(|opened: Result<Sender>| opened)?;
        let receiver = Receiver::new(queue, listener, receiving, audio, numbers, events).watching(quiet);
        Ok(Pumps {
            settings,
            next,
            steps,
            sender: tokio::spawn(sender.run(for_sender)),
            receiver: tokio::spawn(receiver.run(for_receiver, ordered)),
            orders,
        })
    }

    /// What was negotiated anew.
    pub(crate) fn change(&self, audio: NegotiatedAudio) {
        self.settings
            .send_if_modified(|current| std::mem::replace(&mut current.audio, audio) != audio);
    }

    /// Joins, seats or records.
    pub(crate) fn connect(&self, connect: impl FnOnce(&mut Settings)) {
        self.settings.send_modify(connect);
    }

    /// Another source is sent from now on.
    pub(crate) fn play(&self, feed: Feed) {
        *self.next.lock() = Some(feed);
        self.settings.send_modify(|_| ());
    }

    /// Another one listens from now on; a recording is complete.
    pub(crate) async fn listen(&self, listener: Listener) -> Result<()> {
        let finished = match self.give_recorder().await {
            Some(mut recorder) => recorder.finish().await,
            None => Ok(()),
        };
        // It is gone only with its task, which was stopped.
        let _ = self.orders.send(Order::Listen(listener)).await;
        finished
    }

    /// The recording of the sink goes on elsewhere, if it is one.
    pub(crate) async fn give_recorder(&self) -> Option<Box<Recorder>> {
        let (given, recorder) = oneshot::channel();
        self.orders.send(Order::GiveUp(given)).await.ok()?;
        recorder.await.ok().flatten()
    }

    /// A recording that was begun elsewhere goes on here.
    pub(crate) async fn take_recorder(&self, recorder: Box<Recorder>) {
        // It is gone only with its task, which was stopped.
        let _ = self.orders.send(Order::Take(recorder)).await;
    }

    /// What was negotiated last.
    pub(crate) fn audio(&self) -> NegotiatedAudio {
        self.settings.borrow().audio
    }

    /// Queues all steps or none.
    pub(crate) fn send_dtmf(&self, steps: Vec<Step>) -> Result<()> {
        let full = |_| {
            Error::new(
                Fault::ApiMisuse,
                "send DTMF",
                "too many digits wait to be sent already",
            )
            .advice("send more when these have sounded")
        };
        let permits = self.steps.try_reserve_many(steps.len()).map_err(full)?;
        for (permit, step) in permits.zip(steps) {
            permit.send(step);
        }
        Ok(())
    }

    /// Stops both tasks; the recording is complete afterwards.
    pub(crate) async fn stop(self) {
        let Pumps {
            settings,
            sender,
            mut receiver,
            ..
        } = self;
        // It may wait in the engine, and has nothing to finish.
        sender.abort();
        drop(settings);
        let _ = sender.await;
        if timeout(FINISH, &mut receiver).await.is_err() {
            tracing::warn!("the recording was not finished in time");
            receiver.abort();
        }
    }
}
