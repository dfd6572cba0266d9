//! Stacks with core's parser, certificates, and peers that are only sockets.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use siprtc_core::Result;
use siprtc_core::sip::{
    Flow, Limits, ListenerConfig, Method, Route, SipMessage, SipRequest, SipStack, SipUri, StackConfig,
    StackEvent, TlsConfig, TlsIdentity, Transport, TxId, TxIds, TxOwner,
};
use siprtc_sip_stack::MessageParser;
use siprtc_testkit::sip::{RecordingSink, answer, request};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

struct CoreParser;

impl MessageParser for CoreParser {
    fn parse(&self, message: &Bytes, limits: &Limits) -> Result<SipMessage> {
        SipMessage::parse(message, limits)
    }
}

pub(crate) async fn try_start(config: StackConfig, sink: Arc<RecordingSink>) -> Result<Arc<dyn SipStack>> {
    siprtc_sip_stack::start("test", Arc::new(CoreParser), &[], config, sink).await
}

/// A stack and what it has to say.
pub(crate) struct Side {
    pub(crate) stack: Arc<dyn SipStack>,
    pub(crate) hears: Arc<RecordingSink>,
    pub(crate) ids: TxIds,
}

pub(crate) fn listen(transport: Transport, bind: &str) -> ListenerConfig {
    ListenerConfig {
        transport,
        bind: bind.parse().unwrap(),
        advertise: None,
    }
}

pub(crate) fn on(transports: &[Transport]) -> StackConfig {
    StackConfig {
        listeners: transports.iter().map(|t| listen(*t, "127.0.0.1:0")).collect(),
        ..StackConfig::default()
    }
}

impl Side {
    pub(crate) async fn start(config: StackConfig) -> Self {
        let hears = RecordingSink::new();
        Side {
            stack: try_start(config, hears.clone()).await.unwrap(),
            hears,
            ids: TxIds::new(TxOwner::user(1)),
        }
    }

    pub(crate) async fn on(transports: &[Transport]) -> Self {
        Side::start(on(transports)).await
    }

    pub(crate) fn bound(&self, listener: usize) -> SocketAddr {
        self.stack.listeners()[listener].bound
    }

    pub(crate) fn uri(&self, listener: usize) -> SipUri {
        let listener = self.stack.listeners()[listener];
        SipUri::from_addr(listener.bound).with_transport(listener.transport)
    }

    pub(crate) async fn send(&self, request: SipRequest, route: Route) -> Result<TxId> {
        let tx = self.ids.mint();
        self.stack.send_request(tx, request, route).await.map(|()| tx)
    }

    /// Asks `bob` at `to`; says which flow Bob saw, and the request.
    pub(crate) async fn ask(&self, bob: &Side, to: SipUri, route: Route) -> (Flow, SipRequest) {
        let (flow, heard, _) = self.ask_and_see(bob, to, route).await;
        (flow, heard)
    }

    /// The same, and our own side of the flow.
    pub(crate) async fn ask_and_see(&self, bob: &Side, to: SipUri, route: Route) -> (Flow, SipRequest, Flow) {
        let tx = self.send(request(Method::Options, to), route).await;
        let tx = tx.unwrap_or_else(|error| panic!("{error}"));
        let (served, heard, flow) = bob.hears.expect_request(Method::Options).await;
        bob.stack
            .respond(served, answer(&heard, 200, "bob"))
            .await
            .unwrap();
        loop {
            match self.hears.next().await {
                StackEvent::Response {
                    tx: answered,
                    response,
                    flow: ours,
                } => {
                    assert_eq!((answered, response.status), (tx, 200));
                    return (flow, heard, ours.unwrap());
                }
                StackEvent::FlowUp(_) | StackEvent::FlowDown { .. } | StackEvent::TxEnded { .. } => (),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Skips what comes before the end of a flow.
    pub(crate) async fn expect_flow_down(&self) -> (siprtc_core::sip::FlowId, String) {
        loop {
            if let StackEvent::FlowDown { id, reason } = self.next().await {
                return (id, reason);
            }
        }
    }

    pub(crate) async fn expect_flow_up(&self) -> Flow {
        loop {
            if let StackEvent::FlowUp(flow) = self.next().await {
                return flow;
            }
        }
    }

    /// Skips what comes before a report of something unreadable.
    pub(crate) async fn expect_parse_error(&self) -> (Bytes, String) {
        loop {
            if let StackEvent::ParseError { raw, error, .. } = self.next().await {
                return (raw, error.to_string());
            }
        }
    }

    pub(crate) async fn expect_keepalive_answered(&self) -> (siprtc_core::sip::FlowId, Option<SocketAddr>) {
        loop {
            if let StackEvent::KeepaliveAnswered { flow, mapped } = self.next().await {
                return (flow, mapped);
            }
        }
    }

    pub(crate) async fn next(&self) -> StackEvent {
        self.hears.next().await
    }

    pub(crate) async fn stop(self) {
        self.stack.shutdown(Duration::ZERO).await;
    }
}

/// A request to `to` with a Via, as a stranger would send it.
pub(crate) fn from_stranger(method: Method, transport: Transport, to: SocketAddr) -> SipRequest {
    let mut asked = request(method, SipUri::from_addr(to));
    let branch = rand::random::<u64>();
    asked.headers.push_front(
        "Via",
        format_args!("SIP/2.0/{transport} 192.0.2.1:5060;rport;branch=z9hG4bK{branch:x}"),
    );
    asked.headers.push("Max-Forwards", 70);
    asked
}

/// Reads until the peer closes, or `enough` says so.
pub(crate) async fn read_until(stream: &mut TcpStream, enough: impl Fn(&str) -> bool) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while !enough(&String::from_utf8_lossy(&all)) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => all.extend_from_slice(&buffer[..length]),
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, reading).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(done.is_ok(), "only this came in {PATIENCE:?}: {text}");
    text
}

/// Sends `octets` over a new connection and reads until the stack closes it.
pub(crate) async fn talk(to: SocketAddr, octets: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(octets).await.unwrap();
    read_until(&mut stream, |_| false).await
}

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn for_names(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

pub(crate) fn issue(authority: &Authority, params: &CertificateParams) -> TlsIdentity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    TlsIdentity {
        chain: certificate.pem().into(),
        key: key.serialize_pem().into(),
    }
}

pub(crate) fn serving(identity: TlsIdentity) -> TlsConfig {
    TlsConfig {
        identity: Some(identity),
        ..TlsConfig::default()
    }
}

pub(crate) fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig {
        ca: Some(authority.pem().into()),
        ..TlsConfig::default()
    }
}
