//! One direction of a bridge.
//!
//! Packets that need nothing but other numbers are sent on by the task that brings them, at once: no queue, no task, no
//! allocation. What is transcoded, or goes to an engine that must be waited for, waits in a bounded queue for a task of the
//! way's own.

use crate::bridge::is_event;
use crate::dtmf::EventPacket;
use crate::events::Events;
use crate::{BridgeStats, PassThrough, SessionEventKind, TranscodeOptions, Transcoder, WayStats};
use bytes::Bytes;
use parking_lot::Mutex;
use siprtc_core::media::{MediaPeer, NegotiatedAudio, RtpPacket};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Packets that wait for the task; when it is full the oldest is dropped and counted.
pub(super) const WAITING: usize = 64;
/// How often the peer's reports of loss are looked at (RFC 3550 section 6.2: they come every five seconds).
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// No packet stands for more.
const MAX_PTIME: Duration = Duration::from_millis(60);
/// After the last packet of an event a listener has to see that it is over before another begins (ITU-T Q.24).
const EVENT_PAUSE: Duration = Duration::from_millis(70);

/// A peer, and the numbers of the stream that we send to it.
pub(crate) struct Outlet {
    pub(crate) peer: Arc<dyn MediaPeer>,
    pub(crate) events: Arc<Events>,
    /// The next packet's.
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    /// When a packet was sent last; `None` until one was, by whoever lends.
    pub(crate) sent: Option<Instant>,
    pub(crate) started: bool,
}

impl Outlet {
    /// The timestamp of now, when the next packet's would be `next`; `None` before any was sent.
    fn now(&self, now: Instant, next: u32, clock: u32) -> Option<u32> {
        // Of a stream that was silent for long the next packet's is in the past.
        let passed = self
            .sent
            .map_or(Duration::ZERO, |sent| now.saturating_duration_since(sent));
        let silent = passed.saturating_sub(MAX_PTIME).as_micros() * u128::from(clock) / 1_000_000;
        // The low 32 bits are what RTP says.
        self.started.then(|| next.wrapping_add(silent as u32))
    }

    /// Notes what became of a packet.
    fn note(&mut self, at: Instant, result: siprtc_core::Result<()>) -> bool {
        if let Err(error) = result {
            tracing::trace!(call_id = %self.events.call, session = %self.events.session, %error, "not passed on");
            return false;
        }
        self.sent = Some(at);
        if !std::mem::replace(&mut self.started, true) {
            self.events.emit(SessionEventKind::FirstPacketSent);
        }
        true
    }
}

/// What is left of a packet for the session that it came to.
pub(crate) struct Kept {
    pub(crate) packet: RtpPacket,
    /// The payload is not there, for nobody hears it.
    pub(crate) bare: bool,
}

/// One direction of a bridge.
#[derive(Default)]
pub(crate) struct Way {
    mode: Mutex<Mode>,
    /// Of carriers before this one.
    past: Mutex<WayStats>,
    /// When a packet of an event of the sending peer's came last.
    event: Mutex<Option<Instant>>,
}

#[derive(Default)]
enum Mode {
    #[default]
    Closed,
    Direct(Box<Direct>),
    Queued(Arc<Lane>),
}

struct Direct {
    pass: PassThrough,
    outlet: Outlet,
    refused: u64,
}

impl Way {
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.mode.lock(), Mode::Closed)
    }

    /// Carries packets from one side's peer to the other's, as was agreed with the two. To be called on the media runtime.
    pub(super) fn open(
        &self,
        from: NegotiatedAudio,
        to: NegotiatedAudio,
        transcode: Option<TranscodeOptions>,
        outlet: Outlet,
    ) {
        let (sequence, timestamp) = (outlet.sequence, outlet.timestamp);
        let pass = match transcode {
            None => PassThrough::starting_at(from, to, sequence, timestamp).ok(),
            Some(_) => None,
        };
        let mode = match pass {
            Some(pass) if outlet.peer.sends_now() => Mode::Direct(Box::new(Direct {
                pass,
                outlet,
                refused: 0,
            })),
            pass => {
                let options = transcode.unwrap_or_default();
                let transcoder = || Transcoder::starting_at(from, to, options, sequence, timestamp);
                let coder = pass.map_or_else(|| Coder::Transcode(transcoder()), Coder::Pass);
                let lane = Arc::new(Lane::new(from, to, coder, outlet));
                tokio::spawn(carry(Arc::clone(&lane)));
                Mode::Queued(lane)
            }
        };
        *self.mode.lock() = mode;
    }

    /// Carries no more. The stream goes on with the numbers that come back; `None`: it was not open.
    pub(super) fn close(&self) -> Option<Outlet> {
        let mode = std::mem::take(&mut *self.mode.lock());
        let (outlet, stats) = match mode {
            Mode::Closed => return None,
            Mode::Direct(direct) => {
                let stats = direct.stats();
                let Direct { pass, mut outlet, .. } = *direct;
                (outlet.sequence, outlet.timestamp) = pass.next();
                (Some(outlet), stats)
            }
            Mode::Queued(lane) => {
                let stats = lane.stats();
                (lane.end(), stats)
            }
        };
        let mut past = self.past.lock();
        *past = past.plus(stats);
        outlet
    }

    pub(super) fn stats(&self) -> WayStats {
        let now = match &*self.mode.lock() {
            Mode::Closed => WayStats::default(),
            Mode::Direct(direct) => direct.stats(),
            Mode::Queued(lane) => lane.stats(),
        };
        self.past.lock().plus(now)
    }

    /// See [`Bond::time_of_event`](super::Bond::time_of_event).
    pub(super) fn time_of_event(&self, now: Instant, begins: bool) -> Option<u32> {
        let passed = self.event.lock().map(|last| now.saturating_duration_since(last));
        if begins && passed.is_some_and(|passed| passed < EVENT_PAUSE) {
            return None;
        }
        match &*self.mode.lock() {
            Mode::Closed => None,
            Mode::Direct(direct) => direct.outlet.now(now, direct.pass.next().1, direct.pass.clock()),
            Mode::Queued(lane) => {
                let work = lane.work.lock();
                let Work { coder, outlet } = work.as_ref()?;
                outlet.now(now, coder.time(), lane.clock)
            }
        }
    }

    /// Sends a packet of an event in the place of what comes in, until its last.
    pub(super) fn send_event(&self, at: Instant, payload_type: u8, event: EventPacket) {
        match &mut *self.mode.lock() {
            Mode::Closed => {}
            Mode::Direct(direct) => {
                let packet = direct.pass.insert(payload_type, event);
                let sent = direct.outlet.peer.send_now(packet);
                direct.refused += u64::from(!direct.outlet.note(at, sent));
            }
            Mode::Queued(lane) => lane.push(Item::Event(payload_type, event)),
        }
    }

    /// Sends a packet on, and gives back what its own session needs of it: without `heard`, no more than its numbers. Called on
    /// the engine's task: it does not wait.
    pub(crate) fn forward(&self, at: Instant, packet: RtpPacket, heard: bool) -> Kept {
        let mut mode = self.mode.lock();
        match &mut *mode {
            Mode::Closed => Kept { packet, bare: false },
            Mode::Direct(direct) => {
                if direct.pass.is_event(packet.payload_type) {
                    *self.event.lock() = Some(at);
                }
                let kept = keep(&packet, heard || !direct.pass.is_audio(packet.payload_type));
                if let Some(packet) = direct.pass.pass(packet) {
                    let sent = direct.outlet.peer.send_now(packet);
                    direct.refused += u64::from(!direct.outlet.note(at, sent));
                }
                kept
            }
            Mode::Queued(lane) => {
                let is_audio = lane.is_audio(packet.payload_type);
                if is_event(packet.payload_type, &lane.from) {
                    *self.event.lock() = Some(at);
                }
                let kept = keep(&packet, heard || !is_audio);
                lane.push(Item::Packet(packet));
                kept
            }
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.close();
    }
}

impl Direct {
    fn stats(&self) -> WayStats {
        WayStats {
            packets: self.pass.stats(),
            queue_dropped: 0,
            refused: self.refused,
        }
    }
}

fn keep(packet: &RtpPacket, whole: bool) -> Kept {
    let payload = if whole {
        packet.payload.clone()
    } else {
        Bytes::new()
    };
    Kept {
        packet: RtpPacket { payload, ..*packet },
        bare: !whole,
    }
}

/// Where packets wait for the task, and what it does with them.
struct Lane {
    from: NegotiatedAudio,
    fec: bool,
    /// Of the outbound codec, in Hz.
    clock: u32,
    packets: Mutex<VecDeque<Item>>,
    dropped: AtomicU64,
    refused: AtomicU64,
    any: Notify,
    work: Mutex<Option<Work>>,
}

/// What waits in a lane.
enum Item {
    /// An event of ours, and its payload type.
    Event(u8, EventPacket),
    Packet(RtpPacket),
}

struct Work {
    coder: Coder,
    outlet: Outlet,
}

#[expect(clippy::large_enum_variant, reason = "one for each way, which never moves")]
enum Coder {
    Pass(PassThrough),
    Transcode(Transcoder),
}

impl Coder {
    fn push(&mut self, item: Item, out: &mut Vec<RtpPacket>) {
        match (self, item) {
            (Coder::Pass(pass), Item::Packet(packet)) => out.extend(pass.pass(packet)),
            (Coder::Pass(pass), Item::Event(payload_type, event)) => {
                out.push(pass.insert(payload_type, event))
            }
            (Coder::Transcode(transcoder), Item::Packet(packet)) => transcoder.push(&packet, out),
            (Coder::Transcode(transcoder), Item::Event(payload_type, event)) => {
                transcoder.insert(payload_type, event, out);
            }
        }
    }

    /// The next packet's timestamp.
    fn time(&self) -> u32 {
        match self {
            Coder::Pass(pass) => pass.next().1,
            Coder::Transcode(transcoder) => transcoder.next().1,
        }
    }

    fn stats(&self) -> BridgeStats {
        match self {
            Coder::Pass(pass) => pass.stats(),
            Coder::Transcode(transcoder) => transcoder.stats(),
        }
    }
}

impl Lane {
    fn new(from: NegotiatedAudio, to: NegotiatedAudio, coder: Coder, outlet: Outlet) -> Self {
        Lane {
            from,
            fec: to.parameters.inband_fec,
            clock: to.codec.clock_rate(),
            packets: Mutex::new(VecDeque::with_capacity(WAITING)),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            any: Notify::new(),
            work: Mutex::new(Some(Work { coder, outlet })),
        }
    }

    fn is_audio(&self, payload_type: u8) -> bool {
        payload_type == self.from.payload_type || payload_type == self.from.codec.payload_type()
    }

    fn push(&self, item: Item) {
        let mut packets = self.packets.lock();
        if packets.len() >= WAITING {
            packets.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        packets.push_back(item);
        drop(packets);
        self.any.notify_one();
    }

    fn stats(&self) -> WayStats {
        let work = self.work.lock();
        WayStats {
            packets: work.as_ref().map(|work| work.coder.stats()).unwrap_or_default(),
            queue_dropped: self.dropped.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// The task ends. What it was about to send still goes; part of a packet that waits for its rest does not.
    fn end(&self) -> Option<Outlet> {
        let work = self.work.lock().take();
        self.any.notify_one();
        let Work {
            mut coder,
            mut outlet,
        } = work?;
        (outlet.sequence, outlet.timestamp) = match &mut coder {
            Coder::Pass(pass) => pass.next(),
            Coder::Transcode(transcoder) => transcoder.next(),
        };
        Some(outlet)
    }

    /// Makes of all that waits what is to be sent. `None`: it is over.
    fn make(&self, idle: bool, out: &mut Vec<RtpPacket>) -> Option<Arc<dyn MediaPeer>> {
        let mut work = self.work.lock();
        let Work { coder, outlet } = work.as_mut()?;
        if let (Coder::Transcode(transcoder), true) = (&mut *coder, idle) {
            transcoder.wait_no_longer(out);
        }
        loop {
            // Not the lock of the queue while a codec works: the engine's task takes it.
            let item = self.packets.lock().pop_front();
            let Some(item) = item else { break };
            coder.push(item, out);
        }
        Some(Arc::clone(&outlet.peer))
    }

    /// How long it is waited for packets before something is to be done without.
    fn patience(&self) -> Option<Duration> {
        match self.work.lock().as_ref().map(|work| &work.coder) {
            Some(Coder::Transcode(transcoder)) => transcoder.patience(),
            _ => None,
        }
    }

    fn note(&self, result: siprtc_core::Result<()>) {
        let at = Instant::now();
        let taken = match &mut *self.work.lock() {
            Some(work) => work.outlet.note(at, result),
            None => result.is_ok(),
        };
        self.refused.fetch_add(u64::from(!taken), Ordering::Relaxed);
    }

    /// Forward error correction follows what the peer says it lost.
    fn heard_loss(&self, loss: f64) {
        if let Some(Work {
            coder: Coder::Transcode(transcoder),
            ..
        }) = &mut *self.work.lock()
        {
            transcoder.remote_loss(loss);
        }
    }
}

/// The task of a lane.
async fn carry(lane: Arc<Lane>) {
    let mut out = Vec::new();
    let mut due = Instant::now();
    let mut reported = due;
    loop {
        let patience = lane.patience();
        let idle = match patience {
            Some(patience) => timeout_at(due + patience, lane.any.notified()).await.is_err(),
            None => {
                lane.any.notified().await;
                false
            }
        };
        // What is made while nothing comes keeps its own time.
        due = match patience.filter(|_| idle) {
            Some(patience) => due + patience,
            None => Instant::now(),
        };
        let Some(peer) = lane.make(idle, &mut out) else {
            return;
        };
        for packet in out.drain(..) {
            lane.note(peer.send(packet).await);
        }
        if lane.fec && reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            lane.heard_loss(peer.stats().await.remote_loss.unwrap_or(0.0));
        }
    }
}

impl WayStats {
    fn plus(self, other: WayStats) -> Self {
        WayStats {
            packets: self.packets.plus(other.packets),
            queue_dropped: self.queue_dropped + other.queue_dropped,
            refused: self.refused + other.refused,
        }
    }
}
