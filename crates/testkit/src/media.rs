//! An in-memory media engine: peers hand each other packets, through a network that may lose, delay, double and reorder
//! them.
//!
//! Descriptions look like WebRTC's; two peers find each other by the ICE user fragment in them.
//!
//! ```
//! use siprtc_testkit::media::{FakeNetwork, Impairment};
//! let network = FakeNetwork::new(Impairment { loss: 0.05, seed: 7, ..Impairment::default() });
//! let (alice, bob) = (network.engine(), network.engine());
//! # drop((alice, bob));
//! ```

mod lone;
mod wire;
mod words;

use async_trait::async_trait;
pub use lone::{LoneEngine, LonePeer};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use siprtc_core::ice::{Candidate, CandidateKind, CandidatePair, IceState, PairEnd};
use siprtc_core::media::{
    Codec, Direction, ForkConfig, IceMode, MediaEngine, MediaEvent, MediaPeer, PeerConfig, RtpPacket,
    SdpKind, TransportStats,
};
use siprtc_core::{Error, Fault, Result};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::{UnderWay, deliver};
use words::{direction_of, offers, remote_id};

/// What a network does to packets. Without impairment every packet arrives at once and in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Impairment {
    /// Share of packets that is lost, 0 to 1.
    pub loss: f64,
    /// Every packet takes at least so long.
    pub delay: Duration,
    /// And up to so much longer; packets may overtake each other.
    pub jitter: Duration,
    /// Share of packets that comes twice, 0 to 1.
    pub duplicates: f64,
    /// Share of packets that comes [`REORDER_DELAY`] later than it should, 0 to 1.
    pub reordered: f64,
    /// Makes the same choices again.
    pub seed: u64,
}

/// How much later a reordered packet comes.
pub const REORDER_DELAY: Duration = Duration::from_millis(30);

/// How many packets may be under way to one peer; more are lost.
const UNDER_WAY: usize = 4_096;

/// What connects fake peers.
pub struct FakeNetwork {
    impairment: Mutex<Impairment>,
    random: Mutex<StdRng>,
    peers: Mutex<HashMap<u64, Weak<FakePeer>>>,
    /// Who hears whom, where several peers have the id of one offer: by that id and the other's.
    forks: Mutex<HashMap<(u64, u64), Weak<FakePeer>>>,
    ids: AtomicU64,
    cut: AtomicBool,
}

impl FakeNetwork {
    /// A network of its own: peers of different networks never meet.
    pub fn new(impairment: Impairment) -> Arc<Self> {
        Arc::new(FakeNetwork {
            random: Mutex::new(StdRng::seed_from_u64(impairment.seed)),
            impairment: Mutex::new(impairment),
            peers: Mutex::default(),
            forks: Mutex::default(),
            ids: AtomicU64::new(1),
            cut: AtomicBool::new(false),
        })
    }

    /// An engine whose peers are on this network.
    pub fn engine(self: &Arc<Self>) -> Arc<FakeEngine> {
        Arc::new(FakeEngine {
            network: Arc::clone(self),
            refusal: Mutex::default(),
            forks: AtomicBool::new(false),
            late: Mutex::default(),
        })
    }

    /// From now on every packet is lost, or no longer.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// Changes what the network does to packets sent from now on.
    pub fn impair(&self, impairment: Impairment) {
        *self.impairment.lock() = impairment;
    }

    /// How many peers were created and neither closed nor dropped.
    pub fn open_peers(&self) -> usize {
        let peers = self.peers.lock();
        peers
            .values()
            .filter_map(Weak::upgrade)
            .filter(|peer| !peer.state.lock().closed)
            .count()
    }

    fn fates(&self) -> Vec<Duration> {
        let impairment = *self.impairment.lock();
        let mut random = self.random.lock();
        if self.cut.load(Ordering::Relaxed) || random.random_bool(impairment.loss.clamp(0.0, 1.0)) {
            return Vec::new();
        }
        let copies = 1 + usize::from(random.random_bool(impairment.duplicates.clamp(0.0, 1.0)));
        (0..copies)
            .map(|_| {
                let late = random.random_bool(impairment.reordered.clamp(0.0, 1.0));
                impairment.delay
                    + impairment.jitter.mul_f64(random.random::<f64>())
                    + if late { REORDER_DELAY } else { Duration::ZERO }
            })
            .collect()
    }
}

/// Makes [`FakePeer`]s.
pub struct FakeEngine {
    network: Arc<FakeNetwork>,
    refusal: Mutex<Option<String>>,
    forks: AtomicBool,
    late: Mutex<Late>,
}

/// Candidates after descriptions.
#[derive(Default)]
struct Late {
    is_incomplete: bool,
    needs: Option<u16>,
    peers: Vec<Weak<FakePeer>>,
}

impl FakeEngine {
    /// From now on descriptions do not say that their candidates are complete, until [`FakeEngine::finish_gathering`].
    pub fn gather_late(&self) {
        self.late.lock().is_incomplete = true;
    }

    /// Peers made from now on connect only once they know of a candidate of the peer's with this port.
    pub fn need_candidate(&self, port: u16) {
        self.late.lock().needs = Some(port);
    }

    /// Every open peer finds a candidate.
    pub fn find(&self, candidate: &Candidate) {
        for peer in self.open() {
            peer.state.lock().found.push(candidate.clone());
            peer.config.events.emit(MediaEvent::Candidate(candidate.clone()));
        }
    }

    /// Every open peer has found all its candidates.
    pub fn finish_gathering(&self) {
        self.late.lock().is_incomplete = false;
        for peer in self.open() {
            peer.state.lock().is_incomplete = false;
            peer.config.events.emit(MediaEvent::Gathered);
        }
    }

    /// The candidates that its open peers were told after descriptions.
    pub fn added(&self) -> Vec<Candidate> {
        let added = |peer: Arc<FakePeer>| peer.state.lock().added.clone();
        self.open().into_iter().flat_map(added).collect()
    }

    fn open(&self) -> Vec<Arc<FakePeer>> {
        let peers: Vec<_> = self.late.lock().peers.iter().filter_map(Weak::upgrade).collect();
        peers
            .into_iter()
            .filter(|peer| !peer.state.lock().closed)
            .collect()
    }

    /// From now on its peers fork.
    pub fn let_fork(&self) {
        self.forks.store(true, Ordering::Relaxed);
    }

    /// The next peer cannot be created, for this reason.
    pub fn refuse_next_peer(&self, why: impl Into<String>) {
        *self.refusal.lock() = Some(why.into());
    }
}

#[async_trait]
impl MediaEngine for FakeEngine {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn ice(&self) -> IceMode {
        IceMode::BuiltIn
    }

    fn forks(&self) -> bool {
        self.forks.load(Ordering::Relaxed)
    }

    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>> {
        if let Some(why) = self.refusal.lock().take() {
            return Err(Error::new(Fault::Backend, "create media peer", why).backend("fake"));
        }
        let id = self.network.ids.fetch_add(1, Ordering::Relaxed);
        let (wire, arriving) = mpsc::channel(UNDER_WAY);
        tokio::spawn(deliver(arriving, Arc::clone(&config.packets)));
        let peer = Arc::new(FakePeer {
            id,
            number: id,
            network: Arc::clone(&self.network),
            config,
            wire: Mutex::new(Some(wire)),
            state: Mutex::new(State::default()),
        });
        let mut late = self.late.lock();
        late.peers.retain(|peer| peer.strong_count() > 0);
        late.peers.push(Arc::downgrade(&peer));
        {
            let mut state = peer.state.lock();
            (state.is_incomplete, state.needs) = (late.is_incomplete, late.needs);
        }
        drop(late);
        self.network.peers.lock().insert(id, Arc::downgrade(&peer));
        Ok(peer)
    }
}

/// One end of a fake connection.
pub struct FakePeer {
    /// What its descriptions say; its forks' say the same.
    id: u64,
    /// Its own.
    number: u64,
    network: Arc<FakeNetwork>,
    config: PeerConfig,
    wire: Mutex<Option<mpsc::Sender<UnderWay>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    direction: Direction,
    version: u64,
    generation: u64,
    pending: Option<SdpKind>,
    remote_offer: Option<String>,
    local_set: bool,
    remote: Option<u64>,
    connected: bool,
    closed: bool,
    /// Descriptions do not say that their candidates are complete.
    is_incomplete: bool,
    found: Vec<Candidate>,
    added: Vec<Candidate>,
    needs: Option<u16>,
    has_needed: bool,
    sent: (u64, u64),
    received: (u64, u64),
}

impl FakePeer {
    fn describe(&self, codecs: &[Codec], direction: Direction, setup: &str) -> String {
        let mut state = self.state.lock();
        state.version += 1;
        let types: Vec<String> = codecs
            .iter()
            .map(|codec| codec.payload_type().to_string())
            .collect();
        let mut sdp = format!(
            "v=0\r\no=- {} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             a=fingerprint:sha-256 {}\r\nm=audio 9 UDP/TLS/RTP/SAVPF {} 101\r\nc=IN IP4 0.0.0.0\r\n",
            self.id,
            state.version,
            ["0F"; 32].join(":"),
            types.join(" "),
        );
        let port = 20_000 + self.id % 40_000;
        let _ = write!(
            sdp,
            "a=setup:{setup}\r\na=mid:0\r\na=ice-ufrag:fake{}x{}\r\na=ice-pwd:fakefakefakefakefakefake\r\na=rtcp-mux\r\n\
             a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host\r\n",
            self.id, state.generation,
        );
        for candidate in &state.found {
            let _ = write!(sdp, "a=candidate:{candidate}\r\n");
        }
        if !state.is_incomplete {
            sdp.push_str("a=end-of-candidates\r\n");
        }
        for codec in codecs {
            let channels = if *codec == Codec::Opus { "/2" } else { "" };
            let _ = write!(
                sdp,
                "a=rtpmap:{} {codec}/{}{channels}\r\n",
                codec.payload_type(),
                codec.clock_rate()
            );
        }
        let _ = write!(
            sdp,
            "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na={direction}\r\n"
        );
        sdp
    }

    /// Another one for the same offer.
    fn beside(&self, config: ForkConfig) -> Arc<Self> {
        let number = self.network.ids.fetch_add(1, Ordering::Relaxed);
        let (wire, arriving) = mpsc::channel(UNDER_WAY);
        tokio::spawn(deliver(arriving, Arc::clone(&config.packets)));
        let state = {
            let state = self.state.lock();
            State {
                direction: state.direction,
                version: state.version,
                pending: Some(SdpKind::Offer),
                local_set: true,
                needs: state.needs,
                ..State::default()
            }
        };
        let fork = Arc::new(FakePeer {
            id: self.id,
            number,
            network: Arc::clone(&self.network),
            config: PeerConfig {
                packets: config.packets,
                video: config.video,
                events: config.events,
                ..self.config.clone()
            },
            wire: Mutex::new(Some(wire)),
            state: Mutex::new(state),
        });
        let known = Arc::downgrade(&fork);
        self.network.peers.lock().insert(number, known);
        fork
    }

    /// What the other sends to our id is for this one of us.
    fn claim(&self, remote: u64) {
        if let Some(own) = self.network.peers.lock().get(&self.number) {
            self.network.forks.lock().insert((self.id, remote), own.clone());
        }
    }

    fn connect(&self) {
        let mut state = self.state.lock();
        let lacks = state.needs.is_some() && !state.has_needed;
        if state.connected || state.closed || !state.local_set || state.remote.is_none() || lacks {
            return;
        }
        state.connected = true;
        let pair = self.pair(state.remote.unwrap_or_default());
        drop(state);
        for event in [
            MediaEvent::Ice(IceState::Checking),
            MediaEvent::Ice(IceState::Connected),
            MediaEvent::Selected(pair),
            MediaEvent::Connected,
        ] {
            self.config.events.emit(event);
        }
    }

    fn pair(&self, remote: u64) -> CandidatePair {
        let end = |id: u64| PairEnd {
            kind: CandidateKind::Host,
            addr: SocketAddr::from(([127, 0, 0, 1], (20_000 + id % 40_000) as u16)),
        };
        CandidatePair {
            local: end(self.id),
            remote: end(remote),
        }
    }

    fn remote(&self) -> Option<Arc<FakePeer>> {
        let remote = self.state.lock().remote?;
        let fork = self.network.forks.lock().get(&(remote, self.id)).cloned();
        let peer = fork.or_else(|| self.network.peers.lock().get(&remote).cloned());
        peer.and_then(|peer| peer.upgrade())
    }
}

#[async_trait]
impl MediaPeer for FakePeer {
    async fn create_offer(&self) -> Result<String> {
        let direction = self.state.lock().direction;
        Ok(self.describe(&self.config.codecs, direction, "actpass"))
    }

    async fn create_answer(&self) -> Result<String> {
        let (wanted, offer) = {
            let state = self.state.lock();
            (state.direction, state.remote_offer.clone())
        };
        let offer = offer.ok_or_else(|| misuse("create answer", "no remote offer is set"))?;
        let codecs: Vec<Codec> = self
            .config
            .codecs
            .iter()
            .copied()
            .filter(|codec| offers(&offer, *codec))
            .collect();
        if codecs.is_empty() {
            return Err(
                Error::new(Fault::PeerIncompatible, "create answer", "no codec in common").backend("fake"),
            );
        }
        Ok(self.describe(&codecs, direction_of(&offer).answer(wanted), "active"))
    }

    async fn set_local(&self, kind: SdpKind, sdp: &str) -> Result<String> {
        {
            let mut state = self.state.lock();
            state.local_set = true;
            state.pending = (kind == SdpKind::Offer).then_some(kind);
            if kind == SdpKind::Answer {
                state.remote_offer = None;
            }
        }
        self.connect();
        Ok(sdp.to_owned())
    }

    async fn set_remote(&self, kind: SdpKind, sdp: &str) -> Result<()> {
        let remote = remote_id(sdp).ok_or_else(|| {
            Error::new(
                Fault::PeerMisbehaved,
                "set remote description",
                "it is no fake peer's",
            )
            .backend("fake")
        })?;
        if self.number != self.id {
            self.claim(remote);
        }
        {
            let mut state = self.state.lock();
            if kind != SdpKind::Offer && state.pending != Some(SdpKind::Offer) {
                return Err(misuse("set remote description", "an answer without an offer"));
            }
            state.remote = Some(remote);
            let needed = |port: u16| sdp.contains(&format!(" {port} typ "));
            state.has_needed |= state.needs.is_some_and(needed);
            match kind {
                SdpKind::Answer => state.pending = None,
                SdpKind::Offer => state.remote_offer = Some(sdp.to_owned()),
                SdpKind::Pranswer => {}
            }
        }
        self.connect();
        Ok(())
    }

    async fn rollback(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.pending = None;
        state.remote_offer = None;
        Ok(())
    }

    async fn fork(&self, config: ForkConfig) -> Result<Arc<dyn MediaPeer>> {
        let version = self.state.lock().version;
        match version {
            1 => Ok(self.beside(config)),
            _ => Err(misuse("fork", "there is no first offer")),
        }
    }

    async fn set_direction(&self, direction: Direction) -> Result<()> {
        self.state.lock().direction = direction;
        Ok(())
    }

    async fn restart_ice(&self) -> Result<()> {
        self.state.lock().generation += 1;
        Ok(())
    }

    async fn add_candidate(&self, candidate: &Candidate) -> Result<()> {
        {
            let mut state = self.state.lock();
            if state.remote.is_none() {
                return Err(misuse("add candidate", "no remote description is set"));
            }
            state.has_needed |= state.needs == Some(candidate.port);
            state.added.push(candidate.clone());
        }
        self.connect();
        Ok(())
    }

    async fn send(&self, packet: RtpPacket) -> Result<()> {
        self.send_now(packet)
    }

    fn sends_now(&self) -> bool {
        true
    }

    fn send_now(&self, mut packet: RtpPacket) -> Result<()> {
        {
            let mut state = self.state.lock();
            if !state.connected || state.closed {
                return Err(Error::new(Fault::Backend, "send RTP", "the path is not up").backend("fake"));
            }
            state.sent.0 += 1;
            state.sent.1 += packet.payload.len() as u64;
        }
        packet.ssrc = self.number as u32;
        let Some(remote) = self.remote() else {
            return Ok(());
        };
        for delay in self.network.fates() {
            remote.receive(packet.clone(), delay);
        }
        Ok(())
    }

    async fn stats(&self) -> TransportStats {
        let state = self.state.lock();
        TransportStats {
            packets_sent: state.sent.0,
            bytes_sent: state.sent.1,
            packets_received: state.received.0,
            bytes_received: state.received.1,
            round_trip: state.connected.then(|| self.network.impairment.lock().delay * 2),
            ..TransportStats::default()
        }
    }

    async fn selected_pair(&self) -> Option<CandidatePair> {
        let state = self.state.lock();
        state
            .remote
            .filter(|_| state.connected)
            .map(|remote| self.pair(remote))
    }

    async fn close(&self) {
        let was_closed = std::mem::replace(&mut self.state.lock().closed, true);
        self.wire.lock().take();
        if !was_closed {
            self.config.events.emit(MediaEvent::Closed);
        }
    }
}

impl FakePeer {
    fn receive(&self, packet: RtpPacket, delay: Duration) {
        let order = {
            let mut state = self.state.lock();
            // Like a real socket: nothing is handed over before both descriptions are set.
            if state.closed || !state.connected {
                return;
            }
            state.received.0 += 1;
            state.received.1 += packet.payload.len() as u64;
            state.received.0
        };
        if delay.is_zero() {
            self.config.packets.push(packet);
        } else if let Some(wire) = &*self.wire.lock() {
            // A full wire loses packets, as networks do.
            let _ = wire.try_send(UnderWay {
                at: Instant::now() + delay,
                order,
                packet,
            });
        }
    }
}

fn misuse(operation: &'static str, what: &str) -> Error {
    Error::new(Fault::ApiMisuse, operation, what).backend("fake")
}
