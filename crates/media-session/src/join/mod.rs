//! The media of two sessions joined: what one peer sends goes to the other, without either's own source.
//!
//! The two sessions share one [`Shared`]; their actors know nothing of each other. What comes from a peer is handed over
//! where it comes in, by the queue's own task (see [`way`]); the source of each session lends its stream's numbers and takes
//! them back, so that a peer sees one stream all the time.

#[cfg(test)]
mod tests;
mod video;
mod way;

use crate::bridge::passes;
use crate::dtmf::EventPacket;
use crate::events::Events;
use crate::{AudioSink, BridgeStats, SessionEventKind, TranscodeOptions};
use parking_lot::Mutex;
use siprtc_core::media::NegotiatedAudio;
use siprtc_core::{CallId, Error, Fault, Result};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;
pub(crate) use video::{Outlook, VideoNumbers, VideoWay};
pub(crate) use way::{Kept, Outlet, Way};

/// What becomes of the other leg when one ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnEnd {
    /// It goes on with its own source.
    #[default]
    GoOn,
    /// It is hung up by whoever runs the call.
    HangUp,
}

/// How a bridge works.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BridgeConfig {
    /// What becomes of the other leg when one ends.
    pub on_end: OnEnd,
    /// Where the two sides have no codec in common.
    pub transcode: TranscodeOptions,
}

/// How packets get from one side to the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carriage {
    /// A side is on hold: nothing is carried.
    Held,
    /// As they are, renumbered.
    PassThrough,
    /// From one codec to another.
    Transcoded,
}

impl fmt::Display for Carriage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Carriage::Held => "held",
            Carriage::PassThrough => "passed through",
            Carriage::Transcoded => "transcoded",
        })
    }
}

/// Why a bridge parted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartedBy {
    /// The application asked.
    Application,
    /// The other leg ended.
    OtherEnded,
}

/// A direction's numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WayStats {
    /// What happened to packets.
    pub packets: BridgeStats,
    /// Dropped, oldest first, because the task that transcodes was too slow: the queue holds 64.
    pub queue_dropped: u64,
    /// The engine did not take them: its path is not up, say.
    pub refused: u64,
}

/// Two sessions' media joined; cheap to clone.
///
/// Each end is given to one session with [`Join`](crate::Join). Audio is carried once both have joined and begun, and until one
/// of them parts or closes: a bridge that has parted is over.
///
/// ```
/// use siprtc_core::CallId;
/// use siprtc_media_session::{Bridge, BridgeConfig};
///
/// let (bridge, [first, second]) = Bridge::between([CallId::fresh(), CallId::fresh()], BridgeConfig::default());
/// assert!(bridge.carriage().is_none(), "nobody has joined");
/// # drop((first, second));
/// ```
#[derive(Clone)]
pub struct Bridge {
    shared: Arc<Shared>,
}

impl Bridge {
    /// A bridge between two calls, and its ends in their order.
    #[must_use]
    pub fn between(calls: [CallId; 2], config: BridgeConfig) -> (Self, [BridgeEnd; 2]) {
        let shared = Arc::new(Shared {
            calls,
            config,
            state: Mutex::default(),
            ways: Default::default(),
            video: Default::default(),
            video_ways: Default::default(),
            together: watch::Sender::new(false),
            said: Default::default(),
        });
        let end = |side| BridgeEnd {
            bond: Bond {
                shared: Arc::clone(&shared),
                side,
                tenure: 0,
                together: shared.together.subscribe(),
            },
        };
        let ends = [end(0), end(1)];
        (Bridge { shared }, ends)
    }

    /// How packets go from the first call to the second, and back; `None` while they do not.
    #[must_use]
    pub fn carriage(&self) -> Option<[Carriage; 2]> {
        self.shared.state.lock().told
    }

    /// The numbers from the first call to the second, and back.
    #[must_use]
    pub fn stats(&self) -> [WayStats; 2] {
        [self.shared.ways[0].stats(), self.shared.ways[1].stats()]
    }

    /// Parts the two calls, whichever sit at its ends by now; both tell [`Parted`](SessionEventKind::Parted).
    ///
    /// Errors: [`Fault::ApiMisuse`] when they have parted already.
    pub fn part(&self) -> Result<()> {
        match self.shared.leave(None, PartedBy::Application) {
            true => Ok(()),
            false => Err(Error::new(
                Fault::ApiMisuse,
                "part a bridge",
                "it has parted already",
            )),
        }
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.shared.calls;
        write!(f, "Bridge({first}, {second})")
    }
}

/// One end of a [`Bridge`]. Dropping it parts the bridge.
pub struct BridgeEnd {
    bond: Bond,
}

impl BridgeEnd {
    pub(crate) fn bond(&self) -> &Bond {
        &self.bond
    }

    /// The application parts the two.
    pub(crate) fn part(self) {
        self.bond.shared.leave(None, PartedBy::Application);
    }

    /// The session that has it gives it to another one, which has yet to enter; until then nothing is carried.
    pub(crate) fn passed_on(mut self) -> Self {
        self.bond.step_out();
        self
    }
}

impl Drop for BridgeEnd {
    fn drop(&mut self) {
        self.bond.shared.leave(Some(self.bond.side), PartedBy::OtherEnded);
    }
}

impl fmt::Debug for BridgeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BridgeEnd({})", self.bond.shared.calls[self.bond.side])
    }
}

/// What two sessions share.
struct Shared {
    calls: [CallId; 2],
    config: BridgeConfig,
    state: Mutex<State>,
    /// From each side to the other.
    ways: [Arc<Way>; 2],
    /// What the two show, if anything, and how it goes across.
    video: Mutex<[Option<Outlook>; 2]>,
    video_ways: [Arc<VideoWay>; 2],
    /// Both have joined, and none has left. Told anew, too, when somebody begins to record.
    together: watch::Sender<bool>,
    /// Who records what each side is sent.
    said: [Mutex<Option<Arc<dyn AudioSink>>>; 2],
}

#[derive(Default)]
struct State {
    sides: [Option<Side>; 2],
    /// The stream to each side, while no way goes into it.
    outlets: [Option<Outlet>; 2],
    /// How often each end was passed on, and the stream that its last session has yet to take back.
    tenures: [u32; 2],
    left: [Option<(u32, Outlet)>; 2],
    told: Option<[Carriage; 2]>,
    over: bool,
}

struct Side {
    audio: NegotiatedAudio,
    events: Arc<Events>,
}

/// A side's view of a bridge: what its session's tasks hold.
#[derive(Clone)]
pub(crate) struct Bond {
    shared: Arc<Shared>,
    side: usize,
    /// Which of the sessions that sat at this end holds it.
    tenure: u32,
    together: watch::Receiver<bool>,
}

impl Bond {
    fn other(&self) -> usize {
        1 - self.side
    }

    pub(crate) fn is(&self, other: &Bond) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && (self.side, self.tenure) == (other.side, other.tenure)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.shared.state.lock().over
    }

    /// Whether both sides are there: the source lends its stream.
    pub(crate) fn is_together(&self) -> bool {
        *self.together.borrow()
    }

    /// Waits until the answer of [`Bond::is_together`] may be another, or [`Bond::recorder_of_the_other`]'s.
    pub(crate) async fn changed(&mut self) {
        if self.together.changed().await.is_err() {
            // It cannot: the sender lives in what `self` holds.
            std::future::pending::<()>().await;
        }
    }

    /// The way that takes this side's packets.
    pub(crate) fn way(&self) -> Arc<Way> {
        Arc::clone(&self.shared.ways[self.side])
    }

    /// This side has begun its audio.
    ///
    /// Errors: the bridge is over.
    pub(crate) fn enter(&self, audio: NegotiatedAudio, events: Arc<Events>) -> Result<()> {
        let mut state = self.shared.state.lock();
        if state.over {
            return Err(
                Error::new(Fault::ApiMisuse, "join a bridge", "it has parted already")
                    .advice("make another one"),
            );
        }
        state.sides[self.side] = Some(Side { audio, events });
        let both = state.sides.iter().all(Option::is_some);
        drop(state);
        if both {
            self.shared.together.send_replace(true);
        }
        Ok(())
    }

    /// Something else was negotiated with this side.
    pub(crate) fn agree(&self, audio: NegotiatedAudio) {
        let mut state = self.shared.state.lock();
        match &mut state.sides[self.side] {
            Some(side) if side.audio != audio => side.audio = audio,
            _ => return,
        }
        for side in [0, 1] {
            if let Some(outlet) = self.shared.ways[1 - side].close() {
                state.outlets[side] = Some(outlet);
            }
        }
        self.shared.plan(&mut state);
    }

    /// What was negotiated of this side's video: it goes across while both have the same codec.
    pub(crate) fn show(&self, outlook: Option<Outlook>) {
        if !self.is_over() {
            self.shared.show(self.side, outlook);
        }
    }

    /// The ways of video: from this side's peer, and to it.
    pub(crate) fn video_ways(&self) -> (Arc<VideoWay>, Arc<VideoWay>) {
        let way = |side: usize| Arc::clone(&self.shared.video_ways[side]);
        (way(self.side), way(self.other()))
    }

    /// The source of this side lends its stream.
    pub(crate) fn lend(&self, outlet: Outlet) {
        let mut state = self.shared.state.lock();
        if state.tenures[self.side] != self.tenure {
            // Another session sits here by now.
            state.left[self.side] = Some((self.tenure, outlet));
            return;
        }
        state.outlets[self.side] = Some(outlet);
        if !state.over {
            self.shared.plan(&mut state);
        }
    }

    /// And takes it back.
    pub(crate) fn take_back(&self) -> Option<Outlet> {
        let mut state = self.shared.state.lock();
        if state.tenures[self.side] != self.tenure {
            let its = state.left[self.side].take_if(|(tenure, _)| *tenure == self.tenure);
            return its.map(|(_, outlet)| outlet);
        }
        let closed = self.shared.ways[self.other()].close();
        let lent = state.outlets[self.side].take();
        closed.or(lent)
    }

    /// Who records what this side is sent.
    pub(crate) fn record(&self, said: Option<Arc<dyn AudioSink>>) {
        *self.shared.said[self.side].lock() = said;
        self.shared.together.send_modify(|_| {});
    }

    /// Who records what the other side is sent, which is what this side says.
    pub(crate) fn recorder_of_the_other(&self) -> Option<Arc<dyn AudioSink>> {
        let said = self
            .is_together()
            .then(|| self.shared.said[self.other()].lock().clone());
        said.flatten()
    }

    /// The timestamp that an event has which begins now in the stream that this side lent. `None`: none can be sent, or, when one
    /// `begins`, one of the other side's is under way.
    pub(crate) fn time_of_event(&self, now: Instant, begins: bool) -> Option<u32> {
        self.shared.ways[self.other()].time_of_event(now, begins)
    }

    /// A packet of an event, into the stream that this side lent.
    pub(crate) fn send_event(&self, payload_type: u8, event: EventPacket) {
        self.shared.ways[self.other()].send_event(Instant::now(), payload_type, event);
    }

    /// The session at this end goes, and another one will sit down in its place.
    fn step_out(&mut self) {
        let mut state = self.shared.state.lock();
        if !state.over {
            self.shared.interrupt(&mut state);
        }
        state.sides[self.side] = None;
        let lent = state.outlets[self.side].take();
        state.left[self.side] = lent.map(|outlet| (self.tenure, outlet));
        self.tenure += 1;
        state.tenures[self.side] = self.tenure;
        drop(state);
        *self.shared.said[self.side].lock() = None;
        self.shared.show(self.side, None);
        self.shared.together.send_replace(false);
    }
}

impl Shared {
    /// Nothing is carried from here on; the streams are there to be taken back.
    fn interrupt(&self, state: &mut State) {
        state.told = None;
        for side in [0, 1] {
            if let Some(outlet) = self.ways[1 - side].close() {
                state.outlets[side] = Some(outlet);
            }
        }
    }

    /// The bridge is over, because of the session on the side `leaver` or without one; `false` when it was before.
    fn leave(&self, leaver: Option<usize>, by: PartedBy) -> bool {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.over, true) {
            return false;
        }
        self.interrupt(&mut state);
        let sides = std::mem::take(&mut state.sides);
        drop(state);
        self.said.iter().for_each(|said| *said.lock() = None);
        for side in [0, 1] {
            self.show(side, None);
        }
        self.together.send_replace(false);
        let hang_up = by == PartedBy::OtherEnded && self.config.on_end == OnEnd::HangUp;
        for (index, side) in sides.into_iter().enumerate() {
            // Whoever ended says so itself.
            if let Some(side) = side.filter(|_| leaver != Some(index)) {
                side.events.emit(SessionEventKind::Parted { by, hang_up });
            }
        }
        true
    }

    fn show(&self, side: usize, outlook: Option<Outlook>) {
        let mut video = self.video.lock();
        let is_same = match (&video[side], &outlook) {
            (Some(old), Some(new)) => old.video == new.video,
            (old, new) => old.is_none() && new.is_none(),
        };
        if is_same {
            return;
        }
        video[side] = outlook;
        for way in &self.video_ways {
            way.close();
        }
        let [Some(first), Some(second)] = &*video else {
            return;
        };
        let passes = [first.passes_to(second), second.passes_to(first)];
        for (way, (from, to)) in [(first, second), (second, first)].into_iter().enumerate() {
            if passes[way] {
                self.video_ways[way].open(from.clone(), to.clone());
            }
            from.events.emit(SessionEventKind::VideoBridged {
                with: to.events.call,
                from_peer: passes[way],
                to_peer: passes[1 - way],
            });
        }
    }

    /// Opens the ways that can be open, and tells when both are.
    fn plan(&self, state: &mut State) {
        let [Some(first), Some(second)] = &state.sides else {
            return;
        };
        let audio = [first.audio, second.audio];
        let events = [Arc::clone(&first.events), Arc::clone(&second.events)];
        let carriage = [(0, 1), (1, 0)].map(|(from, to)| carriage(&audio[from], &audio[to]));
        for (from, to) in [(0, 1), (1, 0)] {
            let is_held = carriage[from] == Carriage::Held;
            if let Some(outlet) = state.outlets[to].take_if(|_| !is_held) {
                let transcode = (carriage[from] == Carriage::Transcoded).then_some(self.config.transcode);
                self.ways[from].open(audio[from], audio[to], transcode, outlet);
            }
        }
        let ready = |from: usize| self.ways[from].is_open() || state.outlets[1 - from].is_some();
        if ready(0) && ready(1) && state.told.replace(carriage) != Some(carriage) {
            for (side, own) in events.iter().enumerate() {
                own.emit(SessionEventKind::Bridged {
                    with: events[1 - side].call,
                    from_peer: carriage[side],
                    to_peer: carriage[1 - side],
                });
            }
        }
    }
}

fn carriage(from: &NegotiatedAudio, to: &NegotiatedAudio) -> Carriage {
    if !from.direction.receives() || !to.direction.sends() {
        Carriage::Held
    } else if passes(from, to) {
        Carriage::PassThrough
    } else {
        Carriage::Transcoded
    }
}
