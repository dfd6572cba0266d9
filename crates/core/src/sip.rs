//! The SIP port at transaction level, and our own SIP words.
//!
//! A stack brings transports, parsing and transactions (RFC 3261 sections 17 and 18). Dialogs, registrations and all
//! policy are ours, once, the same over every stack. Transactions are named by [`TxId`]s instead of handles, and
//! everything that a stack has to say goes to one [`EventSink`]: that shape fits stacks with `&mut self` handles,
//! stacks with owning tasks and C callbacks alike.

mod auth;
mod capability;
mod digest;
mod digest_server;
mod equivalence;
mod fields;
mod headers;
mod host;
mod message;
mod method;
mod name_addr;
mod params;
mod parse;
mod print;
mod scan;
mod secure;
mod tls;
mod uri;
mod validate;
mod values;

use crate::{Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use auth::{Challenge, Credentials, DigestAlgorithm};
pub use capability::{Feature, Gap, SipCapability};
pub use digest::{DigestClient, DigestSecret};
pub use digest_server::{DigestServer, Verdict};
pub use headers::{HeaderName, Headers};
pub use host::Host;
pub use message::{SipMessage, SipRequest, SipResponse, reason_phrase};
pub use method::Method;
pub use name_addr::{Contacts, NameAddr};
pub use params::Params;
pub use parse::Limits;
pub use tls::{TlsConfig, TlsIdentity};
pub use uri::{SipUri, Uri};
pub use values::{CSeq, Refresher, SessionExpires, Via};

/// A transaction, client or server, on one stack.
///
/// The upper bits name the owner, so that a hub can hand an event to whoever began the transaction without keeping a
/// table: see [`TxIds`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TxId(u64);

impl TxId {
    /// Whoever minted this id.
    pub fn owner(self) -> TxOwner {
        TxOwner((self.0 >> 56) as u8)
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tx-{}-{}", self.0 >> 56, self.0 & 0x00ff_ffff_ffff_ffff)
    }
}

/// Who began a transaction: the stack ([`TxOwner::STACK`], a server transaction) or one of its users.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TxOwner(u8);

impl TxOwner {
    /// Server transactions, minted by the stack.
    pub const STACK: TxOwner = TxOwner(0);

    /// Client transactions that repeat a user's towards another target (RFC 3263 section 4.3).
    pub const LOCATE: TxOwner = TxOwner(255);

    /// A user of client transactions; `number` is 1 to 254 and chosen by whoever wires the house.
    pub const fn user(number: u8) -> TxOwner {
        TxOwner(number)
    }
}

/// Mints [`TxId`]s of one owner.
#[derive(Debug)]
pub struct TxIds {
    owner: TxOwner,
    next: AtomicU64,
}

impl TxIds {
    /// Ids of `owner`, from 1.
    pub const fn new(owner: TxOwner) -> Self {
        TxIds {
            owner,
            next: AtomicU64::new(1),
        }
    }

    /// The next id.
    pub fn mint(&self) -> TxId {
        TxId(
            (u64::from(self.owner.0) << 56)
                | (self.next.fetch_add(1, Ordering::Relaxed) & 0x00ff_ffff_ffff_ffff),
        )
    }
}

/// A SIP transport protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Transport {
    /// RFC 3261.
    Tcp,
    /// RFC 3261.
    Tls,
    /// RFC 3261.
    Udp,
    /// RFC 7118.
    Ws,
    /// RFC 7118.
    Wss,
}

impl Transport {
    /// As in a Via header: `UDP`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Udp => "UDP",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// From a Via header or a `transport=` parameter, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Transport::Tcp,
            Transport::Tls,
            Transport::Udp,
            Transport::Ws,
            Transport::Wss,
        ]
        .into_iter()
        .find(|transport| transport.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether the transport itself retransmits (RFC 3261 section 17: timers A, E and G do not run on it).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// Whether it is over TLS, as `sips:` wants it (RFC 3261 section 26.2.2).
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A bound address of a stack.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Listener {
    /// The protocol spoken there.
    pub transport: Transport,
    /// Where it is bound; the port is the real one, never 0.
    pub bound: SocketAddr,
    /// What others should be told, for Contact and Via: `bound` unless configured otherwise.
    pub advertised: SocketAddr,
}

/// A flow (RFC 5626): a pair of addresses for UDP, a connection for the others.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowId(pub u64);

/// Where a message came from or went to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Flow {
    /// The flow's id, unique within its stack.
    pub id: FlowId,
    /// The protocol spoken on it.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// Theirs, as seen by us.
    pub remote: SocketAddr,
}

/// Where a request should go when not where its own Route or Request-URI says.
///
/// The order is: `flow`, else `next_hop`, else the topmost Route, else the Request-URI (RFC 3261 section 8.1.2).
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// An existing flow; an error if it is gone.
    pub flow: Option<FlowId>,
    /// An outbound proxy, as a URI (`sip:proxy.example.com;transport=tcp`).
    pub next_hop: Option<SipUri>,
    /// The name that the peer's certificate must be for (RFC 5922 section 7.1), and the Host of a WebSocket handshake,
    /// when `next_hop` is the address that this name was resolved to. `None`: the hop's own host.
    pub server_name: Option<String>,
    /// A connection of its own, not one that is there already (RFC 5626 section 4.2.1). Nothing on UDP.
    /// Needs [`Feature::FlowControl`].
    pub fresh: bool,
}

impl Route {
    /// Whatever the request itself says.
    pub fn by_request() -> Self {
        Route::default()
    }

    /// Over `flow`.
    pub fn over(flow: FlowId) -> Self {
        Route {
            flow: Some(flow),
            ..Route::default()
        }
    }

    /// Over `next_hop`.
    pub fn via(next_hop: SipUri) -> Self {
        Route {
            next_hop: Some(next_hop),
            ..Route::default()
        }
    }
}

/// The transaction timers (RFC 3261 section 17.1.1.1 and table 4).
#[derive(Clone, Copy, Debug)]
pub struct TimerConfig {
    /// Round-trip estimate, 500 ms by default.
    pub t1: Duration,
    /// Largest retransmission interval, 4 s by default.
    pub t2: Duration,
    /// Longest time a message stays in the network, 5 s by default.
    pub t4: Duration,
}

impl Default for TimerConfig {
    fn default() -> Self {
        TimerConfig {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

/// What to listen on.
#[derive(Clone, Copy, Debug)]
pub struct ListenerConfig {
    /// The protocol to speak.
    pub transport: Transport,
    /// Where to bind; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What to tell others, when not the bound address.
    pub advertise: Option<SocketAddr>,
}

/// How a stack starts.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// None of a transport: connections of it can be opened, nobody can open one to us. None at all: there is no UDP.
    pub listeners: Vec<ListenerConfig>,
    /// `User-Agent` of requests and `Server` of responses, where the message has none.
    pub user_agent: String,
    /// Transaction timers.
    pub timers: TimerConfig,
    /// What the parser accepts.
    pub limits: Limits,
    /// Most transactions alive at once; beyond it a request out is an error and a request in is answered 503.
    pub max_transactions: usize,
    /// Most connections open at once; beyond it a connection out is an error and one in is closed at once.
    pub max_connections: usize,
    /// Certificates.
    pub tls: TlsConfig,
}

impl Default for StackConfig {
    fn default() -> Self {
        StackConfig {
            listeners: Vec::new(),
            user_agent: concat!("siprtc/", env!("CARGO_PKG_VERSION")).to_owned(),
            timers: TimerConfig::default(),
            limits: Limits::default(),
            max_transactions: 20_000,
            max_connections: 4096,
            tls: TlsConfig::default(),
        }
    }
}

/// How to keep a flow alive (RFC 5626 section 3.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Keepalive {
    /// CRLF CRLF, for connections.
    Crlf,
    /// A STUN binding request on the SIP socket, for UDP.
    Stun,
}

/// How a transaction ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TxEnd {
    /// It ran its course.
    Done,
    /// No final answer in time (timer B or F), or no ACK for a non-2xx (timer H).
    TimedOut,
    /// The transport failed; the text says how.
    Transport(String),
}

/// What a stack has to say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StackEvent {
    /// An ACK for a 2xx: end to end, in no transaction. (The ACK of a non-2xx stays inside the stack.)
    Ack {
        /// The ACK.
        request: SipRequest,
        /// Where it came from.
        flow: Flow,
    },
    /// A CANCEL matched this INVITE server transaction. The stack has answered the CANCEL itself (200); its user
    /// owes the INVITE a 487 if it has not sent a final answer yet.
    Cancelled {
        /// The INVITE's transaction.
        invite: TxId,
    },
    /// A flow is gone.
    FlowDown {
        /// Which.
        id: FlowId,
        /// Why.
        reason: String,
    },
    /// A new connection, either side's.
    FlowUp(Flow),
    /// The peer has answered a keepalive (RFC 5626 section 4.4): a pong, or a STUN Binding response.
    KeepaliveAnswered {
        /// The flow it came on.
        flow: FlowId,
        /// Our address as the peer sees it; only STUN tells.
        mapped: Option<SocketAddr>,
    },
    /// Something arrived that is no SIP message.
    ParseError {
        /// Where it came from.
        flow: Flow,
        /// The start of what arrived, at most 2048 octets.
        raw: Bytes,
        /// What is wrong with it.
        error: Arc<Error>,
    },
    /// A request that begins a server transaction; any method but ACK and CANCEL.
    Request {
        /// The new server transaction.
        tx: TxId,
        /// The request, as received (Via `received`/`rport` filled in by the stack).
        request: SipRequest,
        /// Where it came from.
        flow: Flow,
    },
    /// An answer to one of our requests. A 2xx to an INVITE comes once for every retransmission and every fork, for
    /// 64*T1 (RFC 6026).
    Response {
        /// The client transaction.
        tx: TxId,
        /// The answer, with the stack's own top Via.
        response: SipResponse,
        /// Where it came from.
        flow: Option<Flow>,
    },
    /// The transaction is over; its id will not be heard again.
    TxEnded {
        /// Which.
        tx: TxId,
        /// How.
        end: TxEnd,
    },
}

/// The event could not be taken: the queue is full. The policy is the caller's, see [`EventSink`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SinkFull;

/// Where a stack's events go. Bounded, never blocking, callable from any thread.
///
/// **Policy when full**: the stack answers a `Request` with 503 and `Retry-After`, and drops every other event with a
/// warning; retransmission and timers then do what they do for a lost packet. An implementation should refuse
/// `Request`s while it still has room for the other events.
pub trait EventSink: Send + Sync + 'static {
    /// Takes the event, or refuses it at once.
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull>;
}

impl<F> EventSink for F
where
    F: Fn(StackEvent) -> Result<(), SinkFull> + Send + Sync + 'static,
{
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        self(event)
    }
}

/// Makes running stacks. A plugin's one public entry.
#[async_trait]
pub trait SipStackFactory: Send + Sync {
    /// The word that selects it in the configuration.
    fn name(&self) -> &'static str;

    /// What its stacks can do, for whoever wants to know before one runs; `None` when only a running one can tell.
    fn capability(&self) -> Option<SipCapability> {
        None
    }

    /// Binds every listener and starts. Called on the runtime on which all of the stack's tasks shall run: a stack
    /// keeps that runtime's handle, for its methods are called from others.
    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>>;
}

/// A running stack. Methods return when the work is handed over, not when the peer has answered.
#[async_trait]
pub trait SipStack: Send + Sync + 'static {
    /// What it can do.
    fn capability(&self) -> SipCapability;

    /// What it is bound to.
    fn listeners(&self) -> Vec<Listener>;

    /// Begins a client transaction of any method but ACK and CANCEL. The stack puts its own Via on top, completes
    /// Max-Forwards (70), User-Agent and Content-Length where absent, retransmits, and acknowledges a non-2xx final
    /// answer. `tx` is minted by the caller and never used twice.
    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()>;

    /// Cancels an INVITE with the INVITE's own Via branch (RFC 3261 section 9.1); `extra` headers (Reason) are added.
    /// The INVITE still ends with its own final answer. Only after a provisional answer: the caller waits for it.
    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()>;

    /// Sends the ACK of a 2xx, with a new branch. Called again for every retransmission of the 2xx.
    async fn send_ack(&self, ack: SipRequest, route: Route) -> Result<()>;

    /// Answers a server transaction. Via, From, Call-ID and CSeq are always taken from the request, To when absent;
    /// Content-Length is set. A 2xx to an INVITE may be given again for 64*T1: each call sends it once, for its
    /// retransmission is its user's duty (RFC 3261 section 13.3.1.4). It is then given whole, with its Vias, for a stack
    /// may have forgotten the request. Every other retransmission is the stack's.
    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()>;

    /// Sends a keepalive on a flow; [`StackEvent::KeepaliveAnswered`] says that the peer has answered it. When it has
    /// not in time is its user's to decide (RFC 5626 section 4.4.1: 10 s for a pong).
    async fn keepalive(&self, flow: FlowId, kind: Keepalive) -> Result<()>;

    /// Closes a connection that its user takes for dead; [`StackEvent::FlowDown`] follows. What runs over it ends with
    /// [`TxEnd::Transport`]. Nothing on UDP. Needs [`Feature::FlowControl`].
    async fn close_flow(&self, flow: FlowId) -> Result<()>;

    /// This host's addresses are not what they were: whoever watches them says so. The system's routes are asked anew, and
    /// connections from an address that is gone are closed at once, where retransmission would take minutes to notice:
    /// [`StackEvent::FlowDown`] follows. Needs [`Feature::AddressChanges`].
    fn addresses_changed(&self) {}

    /// Stops listening, gives running transactions `grace` to end, then closes every flow and ends every task.
    async fn shutdown(&self, grace: Duration);
}
