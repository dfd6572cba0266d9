//! From the library's callbacks to our events, and the state that both sides of a peer share.

use crate::gate::{Cipher, Gate};
use crate::shim::Shim;
use crate::stats;
use parking_lot::Mutex;
use siprtc_core::ice::{CandidateKind, IceState, PathEvent};
use siprtc_core::media::{MediaEvent, MediaEventSink};
use siprtc_rtp::Reports;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionEventHandler, RTCIceConnectionState, RTCIceGatheringState,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState,
};

/// From ICE's success on. RFC 6347 section 4.2.4 sends the first flight again after 1, 3 and 7 seconds.
const DTLS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a peer, its callbacks and its tasks share. It does not keep the connection alive.
pub(crate) struct Shared {
    pub(crate) handle: Handle,
    pub(crate) reports: Arc<Mutex<Reports>>,
    pub(crate) connection: OnceLock<Weak<dyn PeerConnection>>,
    /// DTLS is up.
    pub(crate) connected: Arc<AtomicBool>,
    closed: AtomicBool,
    ice: Mutex<IceState>,
    /// Whether datagrams may go through a TURN server: until a pair is selected when there is one, then as it says.
    pub(crate) relay: Arc<AtomicBool>,
    has_relay: bool,
    /// DTLS is up, or never will be.
    handshake_over: watch::Sender<bool>,
    /// How many times gathering was completed.
    gathered: watch::Sender<u64>,
    events: Arc<dyn MediaEventSink>,
    /// Another does ICE.
    pub(crate) shim: OnceLock<Arc<Shim>>,
    pub(crate) gate: Arc<Gate>,
}

impl Shared {
    pub(crate) fn new(
        handle: Handle,
        reports: Arc<Mutex<Reports>>,
        has_relay: bool,
        events: Arc<dyn MediaEventSink>,
    ) -> Self {
        Shared {
            handle,
            reports,
            connection: OnceLock::new(),
            connected: Arc::new(AtomicBool::new(false)),
            closed: AtomicBool::new(false),
            ice: Mutex::new(IceState::New),
            relay: Arc::new(AtomicBool::new(has_relay)),
            has_relay,
            handshake_over: watch::Sender::new(false),
            gathered: watch::Sender::new(0),
            events,
            shim: OnceLock::new(),
            gate: Arc::default(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire) && !self.is_closed()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Marks the peer closed; `true` for whoever was first.
    pub(crate) fn begin_close(&self) -> bool {
        self.handshake_over.send_replace(true);
        !self.closed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn close_path(&self) {
        if let Some(shim) = self.shim.get() {
            shim.path.close();
        }
    }

    pub(crate) fn emit_closed(&self) {
        self.events.emit(MediaEvent::Closed);
    }

    pub(crate) fn gathered(&self) -> watch::Receiver<u64> {
        self.gathered.subscribe()
    }

    /// The connection's task ended: expected after a close, else nothing will ever come again.
    pub(crate) fn driver_ended(&self) {
        self.gathered.send_modify(|count| *count += 1);
        self.connected.store(false, Ordering::Release);
        self.emit(MediaEvent::Failed(
            "the connection's task ended unexpectedly; its log says why".to_owned(),
        ));
    }

    fn emit(&self, event: MediaEvent) {
        if !self.is_closed() {
            self.events.emit(event);
        }
    }

    fn ice_changed(self: &Arc<Self>, state: IceState) {
        if std::mem::replace(&mut *self.ice.lock(), state) == state {
            return;
        }
        self.emit(MediaEvent::Ice(state));
        if state == IceState::Checking {
            self.relay.store(self.has_relay, Ordering::Release);
        }
        if state == IceState::Connected {
            if self.shim.get().is_none() {
                self.tell_selected_pair();
            }
            self.watch_dtls();
        }
    }

    /// What the path under the connection says.
    pub(crate) fn path_changed(self: &Arc<Self>, event: PathEvent) {
        match event {
            PathEvent::Candidate(candidate) => self.emit(MediaEvent::Candidate(candidate)),
            PathEvent::Gathered => self.emit(MediaEvent::Gathered),
            PathEvent::Selected(pair) => self.emit(MediaEvent::Selected(pair)),
            PathEvent::State(state) => {
                self.ice_changed(state);
                if state == IceState::Failed {
                    self.failed();
                }
            }
            _ => {}
        }
    }

    /// The library never says that a handshake failed: not even when the certificate is the wrong one.
    fn watch_dtls(self: &Arc<Self>) {
        if self.is_connected() {
            return;
        }
        let (shared, mut over) = (Arc::downgrade(self), self.handshake_over.subscribe());
        self.handle.spawn(async move {
            let waited = tokio::time::timeout(DTLS_TIMEOUT, over.wait_for(|over| *over)).await;
            if let (Err(_), Some(shared)) = (waited, shared.upgrade()) {
                shared.failed();
            }
        });
    }

    /// The library has no event for it, and its statistics must not be asked for on its own task.
    fn tell_selected_pair(self: &Arc<Self>) {
        let shared = self.clone();
        self.handle.spawn(async move {
            let Some(connection) = shared.connection.get().and_then(Weak::upgrade) else {
                return;
            };
            match stats::selected_pair(&*connection).await {
                Some(pair) => {
                    shared
                        .relay
                        .store(pair.local.kind == CandidateKind::Relayed, Ordering::Release);
                    shared.emit(MediaEvent::Selected(pair));
                }
                None => tracing::debug!("ICE is connected, but no pair is selected any more"),
            }
        });
    }

    /// As for the selected pair.
    fn learn_cipher(self: &Arc<Self>) {
        let shared = self.clone();
        self.handle.spawn(async move {
            let Some(connection) = shared.connection.get().and_then(Weak::upgrade) else {
                return;
            };
            let report = stats::report(&*connection).await;
            let profile = report.transport().map(|transport| transport.srtp_cipher.as_str());
            shared.gate.set_cipher(Cipher::of(profile.unwrap_or_default()));
        });
    }

    fn failed(&self) {
        self.connected.store(false, Ordering::Release);
        let text = if *self.ice.lock() == IceState::Failed {
            "ICE failed: no candidate pair works; check that UDP may pass, or configure a TURN server"
        } else {
            "the DTLS handshake failed: the peer's certificate does not match its a=fingerprint, or it speaks no DTLS"
        };
        self.emit(MediaEvent::Failed(text.to_owned()));
    }
}

/// Runs on the connection's own task: nothing here waits.
pub(crate) struct Callbacks(pub(crate) Arc<Shared>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Callbacks {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.0.gathered.send_modify(|count| *count += 1);
            if self.0.shim.get().is_none() {
                self.0.emit(MediaEvent::Gathered);
            }
        }
    }

    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if self.0.shim.get().is_some() {
            return;
        }
        // A candidate that cannot be written or read is one less.
        let Ok(init) = event.candidate.to_json() else {
            return;
        };
        let value = init
            .candidate
            .strip_prefix("candidate:")
            .unwrap_or(&init.candidate);
        if let Ok(candidate) = value.parse() {
            self.0.emit(MediaEvent::Candidate(candidate));
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        use RTCIceConnectionState as Theirs;
        if let Some(shim) = self.0.shim.get() {
            if matches!(state, Theirs::Connected | Theirs::Completed) {
                shim.be_ready();
            }
            return;
        }
        self.0.ice_changed(match state {
            Theirs::Checking => IceState::Checking,
            Theirs::Connected | Theirs::Completed => IceState::Connected,
            Theirs::Disconnected => IceState::Disconnected,
            Theirs::Failed => IceState::Failed,
            Theirs::Closed => IceState::Closed,
            _ => IceState::New,
        });
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => {
                self.0.handshake_over.send_replace(true);
                if !self.0.connected.swap(true, Ordering::AcqRel) {
                    self.0.learn_cipher();
                    self.0.emit(MediaEvent::Connected);
                }
            }
            RTCPeerConnectionState::Failed => self.0.failed(),
            _ => {}
        }
    }
}
