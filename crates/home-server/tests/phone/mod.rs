//! A phone made of one socket and our own parser: no stack, so that the server is judged from outside.

use bytes::Bytes;
use siprtc_core::sip::{
    DigestClient, DigestSecret, Limits, Method, NameAddr, SipMessage, SipRequest, SipResponse, Transport, Uri,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Long enough for a slow machine; never waited out when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

enum Wire {
    Tcp { stream: TcpStream, unread: Vec<u8> },
    Udp { socket: UdpSocket, server: SocketAddr },
}

pub(crate) struct Phone {
    user: &'static str,
    pub(crate) password: &'static str,
    domain: &'static str,
    transport: Transport,
    local: SocketAddr,
    wire: Wire,
    serial: u32,
    call: u32,
    tag: String,
    /// What came while something else was awaited.
    early: VecDeque<SipMessage>,
    /// Requests seen, to tell retransmissions apart.
    seen: Vec<(Method, String)>,
}

impl Phone {
    pub(crate) async fn new(
        user: &'static str,
        domain: &'static str,
        transport: Transport,
        server: SocketAddr,
    ) -> Self {
        let (wire, local) = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
                let local = socket.local_addr().expect("an address");
                (Wire::Udp { socket, server }, local)
            }
            _ => {
                let stream = TcpStream::connect(server).await.expect("a connection");
                let local = stream.local_addr().expect("an address");
                (
                    Wire::Tcp {
                        stream,
                        unread: Vec::new(),
                    },
                    local,
                )
            }
        };
        Phone {
            user,
            password: "secret",
            domain,
            transport,
            local,
            wire,
            serial: 0,
            call: 0,
            tag: format!("tag{}", local.port()),
            early: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    pub(crate) async fn register(&mut self, expires: u32) {
        assert_eq!(self.try_register(expires).await.status, 200);
    }

    pub(crate) async fn try_register(&mut self, expires: u32) -> SipResponse {
        let aor = format!("<sip:{}@{}>", self.user, self.domain);
        let mut request = self.request("REGISTER", &format!("sip:{}", self.domain), &aor);
        request.headers.set("Expires", expires);
        let challenged = self.exchange(&request).await;
        assert_eq!(challenged.status, 401);
        let request = self.with_credentials(request, &challenged);
        self.exchange(&request).await
    }

    /// A request that begins something new, with a Call-ID of its own.
    pub(crate) fn request(&mut self, method: &str, uri: &str, to: &str) -> SipRequest {
        self.call += 1;
        self.build(method, uri, to)
    }

    /// A request of the caller inside the dialog of a 200.
    pub(crate) fn in_dialog(&mut self, method: &str, ok: &SipResponse) -> SipRequest {
        let target = ok.headers.contact_uri().expect("a Contact").to_string();
        let to = ok.headers.value("To").expect("a To").to_owned();
        let mut request = self.build(method, &target, &to);
        for route in ok.headers.record_routes().expect("Record-Route").iter().rev() {
            request.headers.push("Route", route);
        }
        request
    }

    /// A request of the callee inside the dialog of an INVITE.
    pub(crate) fn in_dialog_as_callee(&mut self, method: &str, invite: &SipRequest) -> SipRequest {
        let target = invite.headers.contact_uri().expect("a Contact").to_string();
        let to = invite.headers.value("From").expect("a From").to_owned();
        let mut request = self.build(method, &target, &to);
        request
            .headers
            .set("Call-ID", invite.headers.call_id().expect("a Call-ID"));
        for route in invite.headers.record_routes().expect("Record-Route") {
            request.headers.push("Route", route);
        }
        request
    }

    pub(crate) fn with_credentials(
        &mut self,
        mut request: SipRequest,
        challenged: &SipResponse,
    ) -> SipRequest {
        let (name, challenges) = match challenged.status {
            401 => ("Authorization", challenged.headers.www_challenges()),
            407 => ("Proxy-Authorization", challenged.headers.proxy_challenges()),
            other => panic!("{other} is no challenge"),
        };
        let secret = DigestSecret {
            username: self.user.to_owned(),
            password: self.password.to_owned(),
        };
        let credentials = DigestClient::new(secret)
            .answer(
                &challenges.expect("challenges"),
                &request.method,
                &request.uri,
                "cnonce",
            )
            .expect("credentials");
        request.headers.push(name, credentials);
        self.serial += 1;
        request
            .headers
            .set("CSeq", format!("{} {}", self.serial, request.method));
        request.headers.set("Via", self.via());
        request
    }

    pub(crate) fn cancel(&self, invite: &SipRequest) -> SipRequest {
        let mut cancel = SipRequest::new(Method::Cancel, invite.uri.clone());
        for name in ["Via", "From", "To", "Call-ID", "Max-Forwards"] {
            cancel.headers.copy_from(&invite.headers, name);
        }
        cancel.headers.push(
            "CSeq",
            format!("{} CANCEL", invite.headers.cseq().expect("a CSeq").sequence),
        );
        cancel
    }

    /// The ACK of a non-2xx: hop by hop, on the INVITE's branch.
    pub(crate) async fn ack_failure(&mut self, invite: &SipRequest, response: &SipResponse) {
        let mut ack = SipRequest::new(Method::Ack, invite.uri.clone());
        for name in ["Via", "From", "Call-ID", "Max-Forwards"] {
            ack.headers.copy_from(&invite.headers, name);
        }
        ack.headers.copy_from(&response.headers, "To");
        ack.headers.push(
            "CSeq",
            format!("{} ACK", invite.headers.cseq().expect("a CSeq").sequence),
        );
        self.send(&ack).await;
    }

    /// Sends a request and waits for its final answer.
    pub(crate) async fn exchange(&mut self, request: &SipRequest) -> SipResponse {
        self.send(request).await;
        loop {
            let response = self.response().await;
            if response.is_final() {
                return response;
            }
        }
    }

    pub(crate) async fn answer(&mut self, request: &SipRequest, status: u16) {
        let mut response = request.response(status);
        let to = response.headers.to().expect("a To");
        if to.tag().is_none() {
            response.headers.set("To", to.with_tag(self.tag.clone()));
        }
        response.headers.push("Contact", self.contact());
        self.write(&SipMessage::Response(response).to_bytes()).await;
    }

    pub(crate) async fn send(&mut self, request: &SipRequest) {
        self.write(&request.to_bytes()).await;
    }

    /// The next response; requests that come before it wait.
    pub(crate) async fn response(&mut self) -> SipResponse {
        match self
            .next(|message| matches!(message, SipMessage::Response(_)))
            .await
        {
            SipMessage::Response(response) => response,
            SipMessage::Request(_) => unreachable!(),
        }
    }

    /// The next request of this method, retransmissions left out; whatever else comes before it waits.
    pub(crate) async fn received(&mut self, method: Method) -> SipRequest {
        loop {
            let message = self
                .next(|m| matches!(m, SipMessage::Request(r) if r.method == method))
                .await;
            let SipMessage::Request(request) = message else {
                unreachable!()
            };
            let branch = request
                .headers
                .top_via()
                .expect("a Via")
                .branch()
                .unwrap_or_default()
                .to_owned();
            let key = (method.clone(), branch);
            if !self.seen.contains(&key) {
                self.seen.push(key);
                return request;
            }
        }
    }

    fn build(&mut self, method: &str, uri: &str, to: &str) -> SipRequest {
        self.serial += 1;
        let method: Method = method.parse().expect("a method");
        let mut request = SipRequest::new(method.clone(), uri.parse::<Uri>().expect("a URI"));
        let headers = &mut request.headers;
        headers.push("Via", self.via());
        headers.push("Max-Forwards", 70);
        headers.push(
            "From",
            format!("<sip:{}@{}>;tag={}", self.user, self.domain, self.tag),
        );
        headers.push("To", to);
        headers.push(
            "Call-ID",
            format!("{}-{}-{}", self.user, self.call, self.local.port()),
        );
        headers.push("CSeq", format!("{} {method}", self.serial));
        headers.push("Contact", self.contact());
        request
    }

    fn via(&self) -> String {
        format!(
            "SIP/2.0/{} {};branch=z9hG4bK{}{};rport",
            self.transport, self.local, self.tag, self.serial
        )
    }

    fn contact(&self) -> NameAddr {
        let transport = if self.transport == Transport::Udp {
            ""
        } else {
            ";transport=tcp"
        };
        format!("<sip:{}@{}{transport}>", self.user, self.local)
            .parse()
            .expect("a Contact")
    }

    async fn next(&mut self, wanted: impl Fn(&SipMessage) -> bool) -> SipMessage {
        if let Some(place) = self.early.iter().position(&wanted) {
            return self.early.remove(place).expect("it is there");
        }
        loop {
            let message = tokio::time::timeout(PATIENCE, self.read())
                .await
                .unwrap_or_else(|_| {
                    panic!(
                        "{} waited in vain; what came instead: {:?}",
                        self.user, self.early
                    )
                });
            if wanted(&message) {
                return message;
            }
            self.early.push_back(message);
        }
    }

    async fn write(&mut self, octets: &[u8]) {
        match &mut self.wire {
            Wire::Tcp { stream, .. } => stream.write_all(octets).await.expect("written"),
            Wire::Udp { socket, server } => drop(socket.send_to(octets, *server).await.expect("sent")),
        }
    }

    async fn read(&mut self) -> SipMessage {
        loop {
            let octets = match &mut self.wire {
                Wire::Tcp { stream, unread } => frame(stream, unread).await,
                Wire::Udp { socket, .. } => {
                    let mut buffer = vec![0; 65_535];
                    let length = socket.recv(&mut buffer).await.expect("received");
                    buffer.truncate(length);
                    buffer
                }
            };
            // Keepalives are white space.
            if octets.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return SipMessage::parse(&Bytes::from(octets), &Limits::default()).expect("a SIP message");
        }
    }
}

/// One message from a connection, by its Content-Length.
async fn frame(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Vec<u8> {
    loop {
        let blank = unread
            .iter()
            .take_while(|octet| octet.is_ascii_whitespace())
            .count();
        unread.drain(..blank);
        if let Some(head) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&unread[..head]).to_ascii_lowercase();
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |value| value.trim().parse().expect("a length"));
            if unread.len() >= head + 4 + length {
                return unread.drain(..head + 4 + length).collect();
            }
        }
        let mut buffer = [0; 8192];
        let read = stream.read(&mut buffer).await.expect("read");
        assert!(read > 0, "the connection was closed");
        unread.extend_from_slice(&buffer[..read]);
    }
}
