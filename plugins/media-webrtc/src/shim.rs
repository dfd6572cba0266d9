//! Another's ICE under an unmodified PeerConnection.
//!
//! The library has no hook for a foreign ICE agent, but its runtime and its sockets are open traits. The connection is
//! shown an ICE-lite peer with one candidate at an address of documentation, [`NOWHERE`]. Its one socket answers its
//! checks itself, at once, so that its own ICE is over before the path's is, and carries everything else over the path:
//! DTLS's first flight waits there for a pair to be selected. What the peer's own DTLS sends before the connection is
//! ready for it waits here. Credentials and candidates of the path stand in the SDP that the peer sees, a pair that
//! changes and an ICE restart are the path's alone.

use crate::gate::Gate;
use parking_lot::Mutex;
use rtc_stun::crypto::default_provider;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use rtc_stun::xoraddr::XorMappedAddress;
use siprtc_core::Result;
use siprtc_core::ice::{IceParameters, IcePath};
use siprtc_rtp::sdp;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// Where the connection thinks that its peer is (RFC 5737).
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
/// Datagrams of the peer's that wait for the connection to be ready for them: a DTLS flight, sent twice.
const MOST_EARLY: usize = 16;
/// The longest of them: no datagram over the Internet is longer.
const LONGEST: usize = 2_048;

/// What a connection knows of its peer's ICE.
const UFRAG: &str = "path";
const PWD: &str = "answered-by-its-own-socket";

/// The path under a connection.
pub(crate) struct Shim {
    pub(crate) path: Arc<dyn IcePath>,
    gate: Arc<Gate>,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    /// Answers to the connection's checks.
    answers: VecDeque<Vec<u8>>,
    early: VecDeque<Vec<u8>>,
    /// The connection's own ICE is over: it takes DTLS.
    is_ready: bool,
    reader: Option<Waker>,
}

impl Shim {
    pub(crate) fn new(path: Arc<dyn IcePath>, gate: Arc<Gate>) -> Arc<Self> {
        Arc::new(Shim {
            path,
            gate,
            inbox: Mutex::default(),
        })
    }

    /// The connection's own ICE is over.
    pub(crate) fn be_ready(&self) {
        let mut inbox = self.inbox.lock();
        inbox.is_ready = true;
        inbox.wake();
    }

    /// Our description with the path's credentials and these candidates.
    pub(crate) fn ours(&self, sdp: &str, candidates: Option<&[String]>) -> String {
        sdp::with_ice(
            sdp,
            &self.path.parameters(),
            candidates.unwrap_or_default(),
            candidates.is_some() && self.path.is_gathered(),
        )
    }

    /// The peer's ICE goes to the path.
    pub(crate) fn set_remote(&self, sdp: &str) -> Result<()> {
        let (parameters, candidates) = sdp::ice(sdp);
        self.path.set_remote(&parameters, &candidates)
    }

    /// The peer's description as the connection may see it.
    pub(crate) fn theirs(sdp: &str) -> String {
        let parameters = IceParameters {
            ufrag: UFRAG.to_owned(),
            pwd: PWD.to_owned(),
            lite: true,
        };
        let candidate = format!("1 1 udp 2130706431 {} {} typ host", NOWHERE.ip(), NOWHERE.port());
        sdp::with_ice(sdp, &parameters, &[candidate], true)
    }

    fn answer(&self, check: &[u8], local: SocketAddr) {
        let Some(answer) = answer(check, local) else {
            return;
        };
        let mut inbox = self.inbox.lock();
        // The connection has one check under way at a time.
        inbox.answers.truncate(MOST_EARLY);
        inbox.answers.push_back(answer);
        inbox.wake();
    }

    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        self.gate.next();
        let mut inbox = self.inbox.lock();
        let waiting = match inbox.answers.pop_front() {
            None if inbox.is_ready => inbox.early.pop_front(),
            answer => answer,
        };
        if let Some(data) = waiting {
            return Poll::Ready(copy(&data, buffer));
        }
        let is_ready = inbox.is_ready;
        inbox.reader = Some(cx.waker().clone());
        drop(inbox);
        // The path is read in any case: its ICE goes on in there.
        loop {
            let (length, _) = std::task::ready!(self.path.poll_receive(cx, buffer));
            let now = tokio::time::Instant::now().into_std();
            if !self.gate.admits(now, buffer.get(..length).unwrap_or_default()) {
                continue;
            }
            if is_ready {
                return Poll::Ready(length);
            }
            let early = &mut self.inbox.lock().early;
            if early.len() == MOST_EARLY {
                early.pop_front();
            }
            early.push_back(buffer[..length.min(LONGEST)].to_vec());
        }
    }
}

impl Inbox {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

fn copy(data: &[u8], buffer: &mut [u8]) -> usize {
    let length = data.len().min(buffer.len());
    buffer[..length].copy_from_slice(&data[..length]);
    length
}

/// A success response as the peer would have sent it.
fn answer(check: &[u8], local: SocketAddr) -> Option<Vec<u8>> {
    let mut request = Message::new();
    request.unmarshal_binary(check).ok()?;
    if request.typ != BINDING_REQUEST {
        return None;
    }
    let crypto = default_provider().ok()?;
    let mut answer = Message::new();
    answer.transaction_id = request.transaction_id;
    answer.write_header();
    answer.set_type(BINDING_SUCCESS);
    let mapped = XorMappedAddress {
        ip: local.ip(),
        port: local.port(),
    };
    mapped.add_to(&mut answer).ok()?;
    MessageIntegrity::new_short_term_integrity_with_provider(PWD.to_owned(), crypto.crypto())
        .add_to(&mut answer)
        .ok()?;
    FINGERPRINT.add_to(&mut answer).ok()?;
    Some(answer.raw)
}

/// The connection's one socket.
pub(crate) struct Socket {
    pub(crate) shim: Arc<Shim>,
    /// The address that the connection believes it has.
    pub(crate) local: SocketAddr,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.local).finish()
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let contents = transmit.contents;
        let segment = transmit.segment_size.unwrap_or(contents.len()).max(1);
        for datagram in contents.chunks(segment) {
            match datagram.first() {
                Some(0..=3) => self.shim.answer(datagram, self.local),
                _ => self.shim.path.send(datagram),
            }
        }
        Poll::Ready(Ok(contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        let length = std::task::ready!(self.shim.poll_receive(cx, buffer));
        meta.addr = NOWHERE;
        meta.len = length;
        meta.stride = length.max(1);
        Poll::Ready(Ok(1))
    }
}
