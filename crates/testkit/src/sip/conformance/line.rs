//! A peer that is only a connection: TCP, TLS, WebSocket, or both.

use super::{Network, PATIENCE, certificates};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use siprtc_core::sip::{Limits, Method, SipMessage, SipRequest, SipResponse, SipUri};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// Octets both ways, whatever they pass through.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One connection, and what has arrived on it.
pub(super) struct Line {
    socket: Socket,
    /// Octets that are not read yet.
    unread: BytesMut,
    /// The near end.
    pub(super) local: SocketAddr,
    network: Network,
}

enum Socket {
    Stream(Box<dyn Duplex>),
    WebSocket(Box<WebSocketStream<Box<dyn Duplex>>>),
}

impl Line {
    /// Connects to a stack.
    pub(super) async fn to(network: Network, to: SocketAddr) -> Self {
        let tcp = TcpStream::connect(to).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let local = tcp.local_addr().unwrap();
        let stream: Box<dyn Duplex> = if network.transport().is_secure() {
            let connector = TlsConnector::from(certificates::client());
            let name = ServerName::from(to.ip());
            Box::new(connector.connect(name, tcp).await.unwrap())
        } else {
            Box::new(tcp)
        };
        let socket = match network {
            Network::Ws | Network::Wss => {
                let mut asked = format!("ws://{to}/").into_client_request().unwrap();
                let sip = HeaderValue::from_static("sip");
                asked.headers_mut().insert("Sec-WebSocket-Protocol", sip);
                let (socket, answer) = tokio_tungstenite::client_async(asked, stream).await.unwrap();
                let agreed = answer.headers().get("Sec-WebSocket-Protocol");
                assert_eq!(
                    agreed,
                    Some(&HeaderValue::from_static("sip")),
                    "RFC 7118 section 4.1"
                );
                Socket::WebSocket(Box::new(socket))
            }
            _ => Socket::Stream(stream),
        };
        Line::over(socket, local, network)
    }

    fn over(socket: Socket, local: SocketAddr, network: Network) -> Self {
        Line {
            socket,
            unread: BytesMut::new(),
            local,
            network,
        }
    }

    /// A Via value of this end.
    pub(super) fn via(&self, branch: &str) -> String {
        let transport = self.network.transport();
        format!("SIP/2.0/{transport} {};branch=z9hG4bK{branch};rport", self.local)
    }

    /// A request on behalf of this end, complete.
    pub(super) fn request(&self, method: Method, to: SocketAddr, branch: &str) -> SipRequest {
        let uri = SipUri::from_addr(to).with_transport(self.network.transport());
        let mut request = crate::sip::request(method, uri);
        request.headers.push_front("Via", self.via(branch));
        request.headers.push("Max-Forwards", 70);
        request
    }

    /// As they are; over a WebSocket in one message.
    pub(super) async fn send(&mut self, octets: &[u8]) {
        self.try_send(octets)
            .await
            .unwrap_or_else(|error| panic!("the connection does not take more: {error}"));
    }

    /// As [`Line::send`], when the other end may have closed.
    pub(super) async fn try_send(&mut self, octets: &[u8]) -> Result<(), String> {
        match &mut self.socket {
            Socket::Stream(stream) => {
                stream
                    .write_all(octets)
                    .await
                    .map_err(|error| error.to_string())?;
                stream.flush().await.map_err(|error| error.to_string())
            }
            Socket::WebSocket(socket) => {
                let message = Message::Binary(Bytes::copy_from_slice(octets));
                socket.send(message).await.map_err(|error| error.to_string())
            }
        }
    }

    /// The next message; line ends before it are skipped.
    pub(super) async fn next(&mut self) -> SipMessage {
        match self.next_if_open().await {
            Some(message) => message,
            None => panic!("the connection was closed"),
        }
    }

    /// The next message, or `None` when the other end closes first.
    pub(super) async fn next_if_open(&mut self) -> Option<SipMessage> {
        loop {
            let start = self.unread.iter().position(|octet| !b"\r\n".contains(octet));
            drop(self.unread.split_to(start.unwrap_or(self.unread.len())));
            if let Some(length) = message_length(&self.unread) {
                let octets = self.unread.split_to(length).freeze();
                let parsed = SipMessage::parse(&octets, &Limits::default());
                return Some(parsed.unwrap_or_else(|error| panic!("{error}: {octets:?}")));
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// The next octets, whatever they are; `None` when the other end closes.
    pub(super) async fn octets(&mut self) -> Option<Bytes> {
        while self.unread.is_empty() {
            if !self.read().await {
                return None;
            }
        }
        Some(self.unread.split().freeze())
    }

    /// The next message must be a response with `status`, but for a 100 that the stack sends by itself.
    pub(super) async fn expect_status(&mut self, status: u16) -> SipResponse {
        loop {
            match self.next().await {
                SipMessage::Response(response) if response.status == status => return response,
                SipMessage::Response(response) if response.status == 100 => (),
                other => panic!("expected a {status}, but came {other:?}"),
            }
        }
    }

    /// The next message must be a request of `method`.
    pub(super) async fn expect(&mut self, method: Method) -> SipRequest {
        match self.next().await {
            SipMessage::Request(request) if request.method == method => request,
            other => panic!("expected a {method}, but came {other:?}"),
        }
    }

    /// A WebSocket ping is answered with a pong (RFC 6455 section 5.5.2).
    pub(super) async fn ping(&mut self) {
        let Socket::WebSocket(socket) = &mut self.socket else {
            panic!("BUG: only a WebSocket can be pinged")
        };
        let payload = Bytes::from_static(b"there?");
        socket.send(Message::Ping(payload.clone())).await.unwrap();
        let pong = tokio::time::timeout(PATIENCE, socket.next()).await;
        match pong {
            Ok(Some(Ok(Message::Pong(echo)))) => assert_eq!(echo, payload),
            other => panic!("expected a pong, but came {other:?}"),
        }
    }

    /// The same text as a message of its own, in the other type of frame.
    pub(super) async fn send_text(&mut self, text: &str) {
        let Socket::WebSocket(socket) = &mut self.socket else {
            panic!("BUG: only a WebSocket has text frames")
        };
        socket.send(Message::text(text)).await.unwrap();
    }

    /// Reads more; `false` when the other end has closed.
    async fn read(&mut self) -> bool {
        let reading = async {
            match &mut self.socket {
                Socket::Stream(stream) => matches!(stream.read_buf(&mut self.unread).await, Ok(1..)),
                Socket::WebSocket(socket) => match socket.next().await {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => false,
                    Some(Ok(message)) => {
                        self.unread.extend_from_slice(&message.into_data());
                        true
                    }
                },
            }
        };
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(more) => more,
            Err(_) => panic!("nothing came in {PATIENCE:?}, but {:?}", self.unread),
        }
    }
}

/// How long the whole message at the start of `octets` is.
fn message_length(octets: &[u8]) -> Option<usize> {
    let head = octets.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&octets[..head]).to_ascii_lowercase();
    let line = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = line.map_or(0, |value| value.trim().parse().unwrap());
    (octets.len() >= head + body).then_some(head + body)
}

/// A port where a peer of the kit's own answers, each connection as soon as it comes.
pub(super) struct Port {
    address: SocketAddr,
    network: Network,
    arrived: mpsc::UnboundedReceiver<Result<Line, String>>,
    accepting: JoinHandle<()>,
}

impl Port {
    /// On loopback, with the kit's certificate.
    pub(super) async fn open(network: Network) -> Self {
        Port::open_with(network, certificates::server(&certificates::good())).await
    }

    /// On loopback.
    pub(super) async fn open_with(network: Network, tls: Arc<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind(network.loopback(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (come, arrived) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, come) = (tls.clone(), come.clone());
                tokio::spawn(async move { come.send(answered(tcp, network, tls).await) });
            }
        });
        Port {
            address,
            network,
            arrived,
            accepting,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a URI that names the transport.
    pub(super) fn uri(&self) -> SipUri {
        SipUri::from_addr(self.address).with_transport(self.network.transport())
    }

    /// The next connection that stands; those that the peer gave up are passed over.
    pub(super) async fn accept(&mut self) -> Line {
        let standing = async {
            let mut given_up = Vec::new();
            loop {
                match self.arrived.recv().await {
                    Some(Ok(line)) => return line,
                    Some(Err(why)) => given_up.push(why),
                    None => panic!("the port is closed; given up: {given_up:?}"),
                }
            }
        };
        let line = tokio::time::timeout(PATIENCE, standing).await;
        line.unwrap_or_else(|_| panic!("no connection stood in {PATIENCE:?}"))
    }

    /// Of the connections that have come until now, all must end before a message.
    pub(super) async fn expect_no_message(&mut self) {
        while let Ok(arrived) = self.arrived.try_recv() {
            if let Ok(mut line) = arrived
                && let Some(message) = line.next_if_open().await
            {
                panic!("it was sent all the same: {message:?}");
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The handshakes of a connection that has come.
async fn answered(tcp: TcpStream, network: Network, tls: Arc<rustls::ServerConfig>) -> Result<Line, String> {
    let said = |error: std::io::Error| error.to_string();
    tcp.set_nodelay(true).map_err(said)?;
    let local = tcp.local_addr().map_err(said)?;
    let stream: Box<dyn Duplex> = if network.transport().is_secure() {
        Box::new(TlsAcceptor::from(tls).accept(tcp).await.map_err(said)?)
    } else {
        Box::new(tcp)
    };
    let socket = match network {
        Network::Ws | Network::Wss => {
            let socket = tokio_tungstenite::accept_hdr_async(stream, agree).await;
            Socket::WebSocket(Box::new(socket.map_err(|error| error.to_string())?))
        }
        _ => Socket::Stream(stream),
    };
    Ok(Line::over(socket, local, network))
}

/// RFC 7118 section 4.1: both sides name the subprotocol `sip`.
#[expect(clippy::result_large_err, reason = "tungstenite's own type")]
fn agree(request: &Request, mut answer: Response) -> Result<Response, ErrorResponse> {
    let asked = request.headers().get("Sec-WebSocket-Protocol");
    let asked = asked.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !asked.split(',').any(|name| name.trim() == "sip") {
        return Err(ErrorResponse::new(Some("only sip is spoken here".to_owned())));
    }
    let sip = HeaderValue::from_static("sip");
    answer.headers_mut().insert("Sec-WebSocket-Protocol", sip);
    Ok(answer)
}
