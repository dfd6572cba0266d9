//! Which names and addresses are this server, and the marks it leaves in messages.

use sha2::{Digest, Sha256};
use siprtc_core::sip::{Headers, Host, Listener, NameAddr, SipRequest, SipUri, Transport, Uri, Via};
use std::net::{IpAddr, SocketAddr};

/// The parameter of our Record-Route URIs that proves that a dialog was set up through this server.
const MARK: &str = "d";

/// The server's domain, its listeners and its secret.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) domain: Host,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) key: [u8; 32],
}

impl Identity {
    /// Whether the URI names this server: its domain, or one of its addresses.
    pub(crate) fn is_own(&self, uri: &SipUri) -> bool {
        let port = uri.port;
        let domain = uri.host == self.domain
            && port.is_none_or(|port| self.listeners.iter().any(|l| self.ports(l).contains(&port)));
        domain || uri.socket_addr().is_some_and(|addr| self.is_own_addr(addr))
    }

    /// Whether an address is one of our listeners'.
    pub(crate) fn is_own_addr(&self, addr: SocketAddr) -> bool {
        self.listeners
            .iter()
            .any(|l| l.bound == addr || l.advertised == addr)
    }

    /// Whether a listener speaks this transport.
    pub(crate) fn speaks(&self, transport: Transport) -> bool {
        self.listeners.iter().any(|l| l.transport == transport)
    }

    /// The listener a message came in by.
    pub(crate) fn arrival(&self, transport: Transport, local: SocketAddr) -> Option<&Listener> {
        self.listeners
            .iter()
            .find(|l| l.transport == transport && (l.bound == local || l.advertised == local))
            .or_else(|| self.departure(transport, Some(local.ip())))
    }

    /// The listener by which a message leaves, in the peer's address family when there is a choice.
    pub(crate) fn departure(&self, transport: Transport, towards: Option<IpAddr>) -> Option<&Listener> {
        let speaks = |l: &&Listener| l.transport == transport;
        let family = |l: &&Listener| towards.is_none_or(|ip| ip.is_ipv4() == l.bound.is_ipv4());
        self.listeners
            .iter()
            .find(|l| speaks(l) && family(l))
            .or_else(|| self.listeners.iter().find(speaks))
    }

    /// Puts our Record-Route on a request: the interface that it leaves by on top and the one it came in by below
    /// when they differ, so that each side comes back by the transport that it speaks (RFC 5658 section 6).
    pub(crate) fn record_route(&self, request: &mut SipRequest, arrival: &Listener, departure: &Listener) {
        let mark = self.dialog_mark(&request.headers);
        request.headers.push_front("Record-Route", record(arrival, &mark));
        if arrival.advertised != departure.advertised || arrival.transport != departure.transport {
            request
                .headers
                .push_front("Record-Route", record(departure, &mark));
        }
    }

    /// Whether this URI is a Record-Route of ours for this very Call-ID. Without the mark, a forged To tag and a Route
    /// would make the server an open relay.
    pub(crate) fn carries_mark(&self, uri: &SipUri, headers: &Headers) -> bool {
        self.is_own(uri)
            && uri
                .params
                .value(MARK)
                .is_some_and(|mark| mark == self.dialog_mark(headers))
    }

    /// How often a request has been here already, by its Via header fields.
    pub(crate) fn visits(&self, vias: &[Via]) -> usize {
        vias.iter().filter(|via| self.is_own(&sent_by(via))).count()
    }

    /// Text that only this process can make, from what is given.
    pub(crate) fn token(&self, parts: &[&str]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.key);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize()
            .iter()
            .take(8)
            .map(|octet| format!("{octet:02x}"))
            .collect()
    }

    fn dialog_mark(&self, headers: &Headers) -> String {
        self.token(&["dialog", headers.call_id().unwrap_or_default()])
    }

    fn ports(&self, listener: &Listener) -> [u16; 2] {
        [listener.bound.port(), listener.advertised.port()]
    }
}

/// The URI by which a listener is reached.
pub(crate) fn listener_uri(listener: &Listener) -> SipUri {
    let uri = SipUri::from_addr(listener.advertised);
    match listener.transport {
        Transport::Udp => uri,
        other => uri.with_transport(other),
    }
}

/// What follows the transport in a hop's URI: UDP when nothing is said (RFC 3263 section 4.1).
pub(crate) fn uri_transport(uri: &Uri) -> Transport {
    uri.as_sip()
        .and_then(|uri| uri.transport().or(uri.secure.then_some(Transport::Tls)))
        .unwrap_or(Transport::Udp)
}

fn record(listener: &Listener, mark: &str) -> NameAddr {
    let mut uri = listener_uri(listener);
    uri.params.set_flag("lr");
    uri.params.set(MARK, mark);
    NameAddr::new(uri)
}

fn sent_by(via: &Via) -> SipUri {
    let uri = SipUri::new(via.host.clone());
    let uri = SipUri {
        port: via.port,
        ..uri
    };
    match via.known_transport() {
        Some(transport) => uri.with_transport(transport),
        None => uri,
    }
}
