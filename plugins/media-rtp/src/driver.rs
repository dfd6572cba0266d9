//! Does: reads the paths, keeps the clock, carries out what the transport decides. One task for each peer.

use crate::transport::{Output, Port, Transport};
use parking_lot::Mutex;
use siprtc_core::ice::{IcePath, IceState, PathEvent};
use siprtc_core::media::{MediaEvent, MediaEventSink, PacketSink, VideoPort};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The longest datagram that is read: more never comes over the Internet.
const LONGEST: usize = 2_048;
/// When nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);
/// Datagrams that are read before other tasks have their turn.
const MOST_AT_ONCE: usize = 32;
/// Path events that wait for the task; a path says no more of importance.
const MOST_EVENTS: usize = 64;

/// Who takes what comes.
pub(crate) enum Ear {
    Audio(Arc<dyn PacketSink>),
    Video(Arc<dyn VideoPort>),
}

/// What a peer and its task share, for one m-line.
pub(crate) struct Shared {
    pub(crate) rtp: Arc<dyn IcePath>,
    /// For a peer that does not multiplex.
    pub(crate) rtcp: Option<Arc<dyn IcePath>>,
    pub(crate) transport: Mutex<Transport>,
    /// Our candidates that the peer was told as the places of RTP and RTCP.
    pub(crate) told: Mutex<(Option<SocketAddr>, Option<SocketAddr>)>,
    pub(crate) has_ice: AtomicBool,
    is_closed: AtomicBool,
    is_connected: AtomicBool,
    events: Arc<dyn MediaEventSink>,
    ear: Ear,
    inbox: Arc<Inbox>,
    /// Held while outputs are carried out, so that they stay in order.
    performing: Mutex<Vec<Output>>,
}

/// What the path says, with its lock held.
#[derive(Default)]
pub(crate) struct Inbox {
    events: Mutex<VecDeque<PathEvent>>,
    changed: Notify,
}

impl Inbox {
    pub(crate) fn push(&self, event: PathEvent) {
        let mut events = self.events.lock();
        if events.len() == MOST_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
        drop(events);
        self.changed.notify_one();
    }
}

impl Shared {
    pub(crate) fn new(
        (rtp, rtcp): (Arc<dyn IcePath>, Option<Arc<dyn IcePath>>),
        transport: Transport,
        inbox: Arc<Inbox>,
        events: Arc<dyn MediaEventSink>,
        ear: Ear,
    ) -> Self {
        Shared {
            rtp,
            rtcp,
            transport: Mutex::new(transport),
            told: Mutex::default(),
            has_ice: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            is_connected: AtomicBool::new(false),
            events,
            ear,
            inbox,
            performing: Mutex::default(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Acquire) && !self.is_closed()
    }

    fn emit(&self, event: MediaEvent) {
        if !self.is_closed() {
            self.events.emit(event);
        }
    }

    /// The timer is to be looked at again.
    pub(crate) fn wake(&self) {
        self.inbox.changed.notify_one();
    }

    /// Works on the transport, and carries out what it wants.
    pub(crate) fn work<T>(&self, work: impl FnOnce(&mut Transport, std::time::Instant) -> T) -> T {
        let mut outputs = self.performing.lock();
        let mut transport = self.transport.lock();
        let done = work(&mut transport, Instant::now().into_std());
        transport.drain(&mut outputs);
        self.is_connected
            .store(transport.is_connected(), Ordering::Release);
        drop(transport);
        for output in outputs.drain(..) {
            self.perform(output);
        }
        done
    }

    fn perform(&self, output: Output) {
        match output {
            Output::Connected => self.emit(MediaEvent::Connected),
            Output::Feedback(feedback) => {
                if let Ear::Video(port) = &self.ear {
                    port.feedback(feedback);
                }
            }
            Output::Failed(text) => self.emit(MediaEvent::Failed(text.to_owned())),
            Output::Move(port, to) => {
                let told = *self.told.lock();
                let (path, local) = match port {
                    Port::Rtcp => (self.rtcp.as_ref(), told.1),
                    Port::Rtp => (Some(&self.rtp), told.0),
                };
                if let (Some(path), Some(local)) = (path, local)
                    && let Err(error) = path.bypass(local, to)
                {
                    tracing::warn!(%error, "datagrams do not go to the peer's new address");
                }
            }
            Output::Send(port, data) => match (port, &self.rtcp) {
                (Port::Rtcp, Some(path)) => path.send(&data),
                (Port::Rtcp, None) => {}
                (Port::Rtp, _) => self.rtp.send(&data),
            },
        }
    }

    /// Encrypts and sends a packet of ours. Packets go out in the order in which they were encrypted.
    pub(crate) fn send(&self, packet: &siprtc_core::media::RtpPacket) -> rtc_shared::error::Result<()> {
        let now = Instant::now().into_std();
        let mut transport = self.transport.lock();
        transport.protect(now, packet, |datagram| self.rtp.send(datagram))
    }

    /// Takes what has come, and says how many datagrams that were. The buffer is the thread's stack, which is warm: one for each peer
    /// costs a cache miss a line.
    fn receive(&self, cx: &mut Context<'_>) -> usize {
        let mut buffer = [0; LONGEST];
        let mut read = 0;
        for (port, path) in [(Port::Rtp, Some(&self.rtp)), (Port::Rtcp, self.rtcp.as_ref())] {
            let Some(path) = path else { continue };
            while read < MOST_AT_ONCE
                && let Poll::Ready((length, from)) = path.poll_receive(cx, &mut buffer)
            {
                read += 1;
                self.take(port, from, buffer.get(..length).unwrap_or_default());
            }
        }
        read
    }

    /// A datagram: what is heard of it goes on at once, for nearly all of them want nothing else.
    fn take(&self, port: Port, from: SocketAddr, datagram: &[u8]) {
        let heard = self.work(|transport, now| transport.handle(now, port, from, datagram));
        match (heard, &self.ear) {
            (None, _) => {}
            (Some(packet), Ear::Audio(sink)) => sink.push(packet),
            (Some(packet), Ear::Video(port)) => port.push(packet),
        }
    }

    /// One event at a time: it may bring others about.
    fn hear_paths(&self) {
        loop {
            let event = self.inbox.events.lock().pop_front();
            let Some(event) = event else { return };
            self.path_changed(event);
        }
    }

    fn path_changed(&self, event: PathEvent) {
        let has_ice = self.has_ice.load(Ordering::Acquire);
        match event {
            PathEvent::Candidate(candidate) if has_ice => self.emit(MediaEvent::Candidate(candidate)),
            PathEvent::Gathered if has_ice => self.emit(MediaEvent::Gathered),
            PathEvent::Selected(pair) => self.emit(MediaEvent::Selected(pair)),
            PathEvent::State(state) => {
                if has_ice {
                    self.emit(MediaEvent::Ice(state));
                }
                if state == IceState::Connected {
                    self.work(Transport::path_up);
                }
                if has_ice && state == IceState::Failed {
                    let text = "ICE failed: no candidate pair works; check that UDP may pass, or configure a TURN server";
                    self.emit(MediaEvent::Failed(text.to_owned()));
                }
            }
            _ => {}
        }
    }

    /// Ends the task and closes the sockets; `true` for whoever was first.
    pub(crate) fn close(&self) -> bool {
        if self.is_closed.load(Ordering::Acquire) {
            return false;
        }
        self.work(Transport::close);
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.rtp.close();
        if let Some(rtcp) = &self.rtcp {
            rtcp.close();
        }
        self.inbox.changed.notify_one();
        self.events.emit(MediaEvent::Closed);
        true
    }
}

/// What the task does next.
enum Next {
    Events,
    Later,
    Timeout,
}

/// Tells that the task is over, however it ended.
struct Watch(Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.is_connected.store(false, Ordering::Release);
        self.0.emit(MediaEvent::Failed(
            "the task that carries media ended unexpectedly; the log says why".to_owned(),
        ));
    }
}

/// Until the peer is closed.
pub(crate) async fn run(shared: Arc<Shared>) {
    let _watch = Watch(shared.clone());
    let mut timer = pin!(tokio::time::sleep(IDLE));
    while !shared.is_closed() {
        let mut changed = pin!(shared.inbox.changed.notified());
        let next = poll_fn(|cx| {
            if shared.receive(cx) == MOST_AT_ONCE {
                return Poll::Ready(Next::Later);
            }
            if changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Events);
            }
            let wake = shared.transport.lock().poll_timeout();
            let wake = wake.map_or_else(|| Instant::now() + IDLE, Instant::from_std);
            if timer.deadline() != wake {
                timer.as_mut().reset(wake);
            }
            timer.as_mut().poll(cx).map(|()| Next::Timeout)
        })
        .await;
        match next {
            Next::Events => {}
            // Others have their turn.
            Next::Later => tokio::task::yield_now().await,
            Next::Timeout => shared.work(|transport, now| transport.handle_timeout(now)),
        }
        shared.hear_paths();
    }
}
