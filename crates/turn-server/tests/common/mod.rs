//! A server on loopback and clients of it, over whichever transport.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod words;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use siprtc_turn_server::{Credentials, Identity, Listener, Server, Transport, TurnConfig};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use words::Words;

/// Longer than any answer takes; what must not come is waited for as long as [`SILENCE`].
const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

pub(crate) const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Tls, Transport::Udp];

/// A server with one listener of each transport.
pub(crate) fn server(change: impl FnOnce(&mut TurnConfig)) -> (Server, CertificateDer<'static>) {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut config = TurnConfig::loopback("realm.example", Credentials::named([("alice", "one")]));
    config.listeners = TRANSPORTS.map(on_loopback).to_vec();
    config.identity = Some(Identity {
        chain: signed.cert.pem().into_bytes(),
        key: signed.signing_key.serialize_pem().into_bytes(),
    });
    change(&mut config);
    (Server::start(config).unwrap(), signed.cert.der().clone())
}

pub(crate) fn on_loopback(transport: Transport) -> Listener {
    Listener {
        transport,
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
    }
}

pub(crate) fn address(server: &Server, transport: Transport) -> SocketAddr {
    let listeners = server.listeners().iter();
    let mut of_transport = listeners.filter(|listener| listener.transport == transport);
    of_transport.next().unwrap().bind
}

pub(crate) fn peer() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

enum Way {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Udp(UdpSocket),
}

/// A client that is connected.
pub(crate) struct Client {
    way: Way,
    pub(crate) words: Words,
}

impl Client {
    pub(crate) fn new(server: &Server, transport: Transport, authority: &CertificateDer<'static>) -> Self {
        let to = address(server, transport);
        let connect = || {
            let stream = TcpStream::connect(to).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        let way = match transport {
            Transport::Tcp => Way::Tcp(connect()),
            Transport::Tls => Way::Tls(Box::new(StreamOwned::new(tls(authority), connect()))),
            Transport::Udp => {
                let socket = peer();
                socket.connect(to).unwrap();
                Way::Udp(socket)
            }
        };
        Client {
            way,
            words: Words::new("alice", "one"),
        }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        match &self.way {
            Way::Tcp(stream) => stream.local_addr(),
            Way::Tls(stream) => stream.sock.local_addr(),
            Way::Udp(socket) => socket.local_addr(),
        }
        .unwrap()
    }

    pub(crate) fn say(&mut self, message: &[u8]) {
        match &mut self.way {
            Way::Tcp(stream) => stream.write_all(message).unwrap(),
            Way::Tls(stream) => stream.write_all(message).unwrap(),
            Way::Udp(socket) => assert_eq!(socket.send(message).unwrap(), message.len()),
        }
    }

    pub(crate) fn hear(&mut self) -> Vec<u8> {
        self.try_hear().unwrap()
    }

    /// The next message; an error when there is none in time, or the connection is closed.
    pub(crate) fn try_hear(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.way {
            Way::Tcp(stream) => framed(stream),
            Way::Tls(stream) => framed(stream),
            Way::Udp(socket) => {
                let mut buffer = vec![0; 65_536];
                let length = socket.recv(&mut buffer)?;
                buffer.truncate(length);
                Ok(buffer)
            }
        }
    }

    pub(crate) fn patience(&self, patience: Duration) {
        match &self.way {
            Way::Tcp(stream) => stream.set_read_timeout(Some(patience)),
            Way::Tls(stream) => stream.sock.set_read_timeout(Some(patience)),
            Way::Udp(socket) => socket.set_read_timeout(Some(patience)),
        }
        .unwrap();
    }

    pub(crate) fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.say(request);
        self.hear()
    }

    /// The answer to an authenticated Allocate.
    pub(crate) fn allocate(&mut self) -> Vec<u8> {
        let challenge = self.ask(&self.words.clone().allocate());
        assert_eq!(words::code(&challenge), 401);
        self.words.learn(&challenge);
        self.ask(&self.words.clone().allocate())
    }
}

fn framed(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    stream.read_exact(&mut message)?;
    let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
    let rest = match message[0] {
        0x40.. => length.next_multiple_of(4),
        _ => 16 + length,
    };
    message.resize(4 + rest, 0);
    stream.read_exact(&mut message[4..])?;
    Ok(message)
}

fn tls(authority: &CertificateDer<'static>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}
