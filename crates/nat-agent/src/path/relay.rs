//! A relayed candidate: one allocation on one TURN server (RFC 8656), over turn-client-proto.

use siprtc_core::ice::IceServerTransport;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use turn_client_proto::api::{TurnClientApi, TurnConfig, TurnEvent, TurnPeerData, TurnPollRet, TurnRecvRet};
use turn_client_proto::client::TurnClient;
use turn_client_proto::stun::Instant as Clock;
use turn_client_proto::stun::agent::Transmit;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{AddressFamily, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

/// Datagrams that wait for the server to permit their peer; the oldest is dropped for one more.
const MOST_WAITING: usize = 16;
/// Peers that permission is asked for: as many as there may be remote candidates.
const MOST_PEERS: usize = 64;

/// What the library leaves between two requests.
const PACE: Duration = Duration::from_millis(50);
/// Requests that go out at once: for each peer a permission, a channel for one.
const MOST_AT_ONCE: usize = 8;

/// How a relay reaches its server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// From this socket of the path's.
    Socket(usize),
    /// Over a connection of its own.
    Stream,
}

/// Where an allocation stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// The server lets us relay from this address.
    Allocated(SocketAddr),
    /// It is being asked, or connected to.
    Asking,
    /// It refused, was lost, or let the allocation expire.
    Gone,
}

/// One allocation.
pub(super) struct Relay {
    pub(super) server: SocketAddr,
    pub(super) transport: IceServerTransport,
    pub(super) way: Way,
    pub(super) standing: Standing,
    credentials: TurnCredentials,
    family: AddressFamily,
    client: Option<TurnClient>,
    born: Instant,
    /// How much later it is for the library.
    ahead: Duration,
    /// When [`Relay::poll`] has something to do again.
    pub(super) due: Option<Instant>,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    permitted: Vec<IpAddr>,
}

/// What came from a server: one datagram as it stands in the packet, and those that a stream had been cut across.
#[derive(Default)]
pub(super) struct Relayed<'a> {
    pub(super) whole: Option<TurnPeerData<&'a [u8]>>,
    pub(super) pieced: Vec<TurnPeerData<Vec<u8>>>,
}

impl Relay {
    pub(super) fn new(
        now: Instant,
        server: SocketAddr,
        transport: IceServerTransport,
        way: Way,
        (username, password): (&str, &str),
    ) -> Self {
        Relay {
            server,
            transport,
            way,
            standing: Standing::Asking,
            credentials: TurnCredentials::new(username, password),
            family: match server.is_ipv4() {
                true => AddressFamily::IPV4,
                false => AddressFamily::IPV6,
            },
            client: None,
            born: now,
            ahead: Duration::ZERO,
            due: None,
            waiting: VecDeque::new(),
            permitted: Vec::new(),
        }
    }

    fn clock(&self, now: Instant) -> Clock {
        let age = (now.saturating_duration_since(self.born) + self.ahead).as_nanos();
        Clock::from_nanos(i64::try_from(age).unwrap_or(i64::MAX))
    }

    /// The way to the server is there: allocates from `local`.
    pub(super) fn begin(&mut self, local: SocketAddr) {
        let mut config = TurnConfig::new(self.credentials.clone());
        config.set_address_family(self.family);
        // A call waits for the first answer.
        config.set_request_retransmits(
            Duration::from_millis(200),
            Duration::from_millis(1600),
            6,
            Duration::from_millis(1600),
        );
        self.client = Some(match self.way {
            Way::Socket(_) => TurnClientUdp::allocate(local, self.server, config).into(),
            Way::Stream => TurnClientTcp::allocate(local, self.server, config).into(),
        });
    }

    /// The way to the server is lost, or cannot be made.
    pub(super) fn lose(&mut self) {
        self.client = None;
        self.due = None;
        self.waiting.clear();
        self.standing = Standing::Gone;
    }

    /// What goes to the server now.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        // The library leaves PACE between two requests of an allocation, as RFC 8445 section 14.2 does between checks.
        // A call would wait for it three times over: its clock is put forward instead.
        for _ in 0..MOST_AT_ONCE {
            out.extend(self.step(now));
            let wait = self.due.map(|due| due.saturating_duration_since(now));
            match wait.filter(|wait| *wait <= PACE && self.client.is_some()) {
                Some(wait) => self.ahead += wait,
                None => break,
            }
        }
        out
    }

    fn step(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let clock = self.clock(now);
        let Some(client) = &mut self.client else {
            return Vec::new();
        };
        if matches!(client.poll(clock), TurnPollRet::Closed) && self.standing != Standing::Gone {
            tracing::info!(server = %self.server, "the TURN allocation is over");
            self.standing = Standing::Gone;
        }
        let mut out = Vec::new();
        while let Some(event) = client.poll_event() {
            match event {
                TurnEvent::AllocationCreated(_, addr) => self.standing = Standing::Allocated(addr),
                TurnEvent::AllocationCreateFailed(_) => {
                    tracing::info!(server = %self.server, "the TURN server allocates nothing");
                    self.standing = Standing::Gone;
                }
                TurnEvent::PermissionCreateFailed(_, peer) => {
                    tracing::info!(server = %self.server, %peer, "the TURN server does not relay to this peer");
                    self.waiting.retain(|(to, _)| to.ip() != peer);
                }
                TurnEvent::PermissionCreated(_, peer) => {
                    let (now_permitted, waiting) = std::mem::take(&mut self.waiting)
                        .into_iter()
                        .partition(|(to, _)| to.ip() == peer);
                    let ready: VecDeque<(SocketAddr, Vec<u8>)> = now_permitted;
                    self.waiting = waiting;
                    for (to, data) in ready {
                        let built = client.send_to(TransportType::Udp, to, data, clock);
                        out.extend(built.ok().flatten().map(|transmit| transmit.build().data));
                    }
                }
                _ => {}
            }
        }
        while let Some(transmit) = client.poll_transmit(clock) {
            out.push(transmit.data.to_vec());
        }
        self.due = match client.poll(clock) {
            TurnPollRet::WaitUntil(at) => {
                let wait = at.checked_duration_since(clock).unwrap_or_default();
                now.checked_add(wait.max(Duration::from_millis(1)))
            }
            _ => None,
        };
        out
    }

    /// Lets `peer` send to us: RFC 8656 section 9.
    pub(super) fn permit(&mut self, now: Instant, peer: IpAddr) {
        let clock = self.clock(now);
        let allocated = matches!(self.standing, Standing::Allocated(_));
        let fresh = !self.permitted.contains(&peer) && self.permitted.len() < MOST_PEERS;
        if let Some(client) = self.client.as_mut().filter(|_| allocated && fresh)
            && client.create_permission(TransportType::Udp, peer, clock).is_ok()
        {
            self.permitted.push(peer);
        }
    }

    /// From now on with four octets of overhead instead of thirty-six: RFC 8656 section 12.
    pub(super) fn bind(&mut self, now: Instant, peer: SocketAddr) {
        // RFC 8656 section 12.5 pads ChannelData over a stream to four octets; turn-types 0.7.3 neither pads what it sends nor
        // skips the padding of what comes, and both ends lose their place. Indications are of whole words.
        if self.way == Way::Stream {
            return;
        }
        let clock = self.clock(now);
        if let Some(client) = &mut self.client {
            // A binding that is there already is as good; without one, Send indications carry on.
            let _ = client.bind_channel(TransportType::Udp, peer, clock);
        }
    }

    /// What to send to the server so that it relays `data`; nothing while the peer is not permitted yet.
    pub(super) fn wrap(&mut self, now: Instant, peer: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        self.permit(now, peer.ip());
        let clock = self.clock(now);
        let client = self.client.as_mut()?;
        if !client.have_permission(TransportType::Udp, peer.ip()) {
            if self.waiting.len() == MOST_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back((peer, data.to_vec()));
            return None;
        }
        let built = client.send_to(TransportType::Udp, peer, data, clock);
        built.ok().flatten().map(|transmit| transmit.build().data)
    }

    /// What came from the server: `None` when it is none of the relay's.
    pub(super) fn take<'a>(&mut self, now: Instant, data: &'a [u8]) -> Option<Relayed<'a>> {
        let clock = self.clock(now);
        let client = self.client.as_mut()?;
        let transmit = Transmit::new(data, client.transport(), self.server, client.local_addr());
        let mut relayed = Relayed::default();
        match client.recv(transmit, clock) {
            TurnRecvRet::Ignored(_) => return None,
            TurnRecvRet::PeerData(peer) => relayed.whole = Some(peer),
            _ => {}
        }
        while let Some(more) = client.poll_recv(clock) {
            relayed.pieced.push(more);
        }
        Some(relayed)
    }

    /// Gives the allocation back (RFC 8656 section 8).
    pub(super) fn give_back(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let clock = self.clock(now);
        if let Some(client) = &mut self.client {
            let _ = client.delete(clock);
        }
        let out = self.poll(now);
        self.lose();
        out
    }
}
