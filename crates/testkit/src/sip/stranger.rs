//! A peer that is only sockets, and says whatever it is told to.

use bytes::Bytes;
use siprtc_core::sip::Transport;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Where SIP answers go when a Via names no port.
const SIP_PORT: u16 = 5060;

/// Most answers that wait to be read; more are lost.
const ROOM: usize = 1024;

/// Most octets of a datagram, or of one read from a connection.
const LONGEST: usize = 65_535;

/// How often another loopback address is tried when somebody has port 5060 of one.
const ATTEMPTS: usize = 100;

/// An answer on the wire. Only its status line is read, for the rest may repeat what was wrong with the request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 100 to 699.
    pub status: u16,
    /// All of it.
    pub octets: Bytes,
}

/// A peer on a loopback address of its own (127.x.y.z), so that it can have the ports that real messages name in their
/// Via, and answers find it by RFC 3261 section 18.2.2.
pub struct Stranger {
    ip: Ipv4Addr,
    /// By port.
    sockets: BTreeMap<u16, Arc<UdpSocket>>,
    heard: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
    ears: JoinSet<()>,
    /// Of connections: they end when the stranger forgets.
    connections: JoinSet<()>,
}

impl Stranger {
    /// With port 5060 of an address that nobody else has.
    pub async fn new() -> Self {
        let (heard, mut answers) = mpsc::channel(ROOM);
        for _ in 0..ATTEMPTS {
            let ip = Ipv4Addr::new(127, some_octet(), some_octet(), some_octet());
            let mut stranger = Stranger {
                ip,
                sockets: BTreeMap::new(),
                heard: heard.clone(),
                answers,
                ears: JoinSet::new(),
                connections: JoinSet::new(),
            };
            if stranger.listen(SIP_PORT).await {
                return stranger;
            }
            answers = stranger.answers;
        }
        panic!(
            "no loopback address has UDP port {SIP_PORT} free: does somebody listen on 0.0.0.0:{SIP_PORT}?"
        )
    }

    /// Where its datagrams come from.
    pub fn address(&self) -> SocketAddr {
        (self.ip, SIP_PORT).into()
    }

    /// Sends `octets` as they are: in a datagram, or over a connection of their own. Answers are heard at the port that
    /// the message's first Via names.
    pub async fn say(&mut self, transport: Transport, to: SocketAddr, octets: &[u8]) {
        if transport == Transport::Udp {
            self.listen(sent_by_port(octets)).await;
            let socket = &self.sockets[&SIP_PORT];
            let sent = socket.send_to(octets, to).await;
            sent.unwrap_or_else(|error| panic!("{} octets to {to}: {error}", octets.len()));
            return;
        }
        let connected = TcpStream::connect(to).await;
        let mut stream = connected.unwrap_or_else(|error| panic!("{to} takes no connection: {error}"));
        // The other side may close as soon as it has seen enough.
        let _ = stream.write_all(octets).await;
        self.connections
            .spawn(hear_connection(stream, self.heard.clone()));
    }

    /// The next answer that is no 100 Trying, if one comes within `patience`.
    pub async fn answer(&mut self, patience: Duration) -> Option<Answer> {
        let next = async {
            loop {
                let answer = self.answers.recv().await?;
                if answer.status > 100 {
                    return Some(answer);
                }
            }
        };
        tokio::time::timeout(patience, next).await.ok().flatten()
    }

    /// Closes its connections and forgets what it has heard.
    pub async fn forget(&mut self) {
        self.connections.shutdown().await;
        while self.answers.try_recv().is_ok() {}
    }

    async fn listen(&mut self, port: u16) -> bool {
        if self.sockets.contains_key(&port) {
            return true;
        }
        let Ok(socket) = UdpSocket::bind((self.ip, port)).await else {
            return false;
        };
        let socket = Arc::new(socket);
        self.ears
            .spawn(hear_datagrams(socket.clone(), self.heard.clone()));
        self.sockets.insert(port, socket);
        true
    }
}

/// 2 to 253: no network or broadcast address, and not 127.0.x.y, where everybody is.
fn some_octet() -> u8 {
    rand::random::<u8>() % 252 + 2
}

async fn hear_datagrams(socket: Arc<UdpSocket>, heard: mpsc::Sender<Answer>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        // An error is an ICMP message about an earlier datagram.
        if let Ok(length) = socket.recv(&mut buffer).await
            && let Some(answer) = read_answer(&buffer[..length])
        {
            let _ = heard.try_send(answer);
        }
    }
}

/// One answer to a read: nobody who answers a stranger splits or joins messages on a loopback connection.
async fn hear_connection(mut stream: TcpStream, heard: mpsc::Sender<Answer>) {
    let mut buffer = vec![0; LONGEST];
    while let Ok(length) = stream.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        if let Some(answer) = read_answer(&buffer[..length]) {
            let _ = heard.try_send(answer);
        }
    }
}

fn read_answer(octets: &[u8]) -> Option<Answer> {
    let code = octets.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    Some(Answer {
        status: std::str::from_utf8(code).ok()?.parse().ok()?,
        octets: Bytes::copy_from_slice(octets),
    })
}

/// The port of the first Via's sent-by, 5060 when it has none or cannot be read. The message may be broken elsewhere.
fn sent_by_port(octets: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(octets);
    let via = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        ["via", "v"]
            .contains(&name.trim().to_ascii_lowercase().as_str())
            .then_some(value)
    });
    let sent_by = via.and_then(|via| via.split(';').next()).unwrap_or_default();
    let behind_host = sent_by.rsplit_once(']').map_or(sent_by, |(_, rest)| rest);
    let port = behind_host
        .rsplit_once(':')
        .and_then(|(_, port)| port.trim().parse().ok());
    port.filter(|port| *port > 0).unwrap_or(SIP_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_the_first_via_is_found_in_broken_messages_too() {
        for (text, port) in [
            (
                "X\r\nVia: SIP/2.0/UDP h:5050;branch=1:2\r\nVia: SIP/2.0/UDP h:1\r\n",
                5050,
            ),
            ("X\r\nv : SIP/2.0/UDP [2001:db8::1]:6050;x\r\n", 6050),
            ("X\r\nv: SIP/2.0/UDP [2001:db8::1];x\r\n", 5060),
            ("X\r\nVia: SIP/2.0/UDP h:0\r\n", 5060),
            ("nothing", 5060),
        ] {
            assert_eq!(sent_by_port(text.as_bytes()), port, "{text}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_heard_at_the_port_of_the_via_and_over_the_connection() {
        let mut stranger = Stranger::new().await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = peer.local_addr().unwrap();
        stranger
            .say(Transport::Udp, to, b"X\r\nVia: SIP/2.0/UDP h:5055\r\n\r\n")
            .await;
        let (_, from) = peer.recv_from(&mut [0; 100]).await.unwrap();
        assert_eq!(from, stranger.address());
        peer.send_to(b"SIP/2.0 100 Trying\r\n\r\n", (from.ip(), 5055))
            .await
            .unwrap();
        peer.send_to(b"SIP/2.0 404 Not Found\r\n\r\n", (from.ip(), 5055))
            .await
            .unwrap();
        assert_eq!(
            stranger.answer(Duration::from_secs(10)).await.unwrap().status,
            404
        );

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        stranger
            .say(Transport::Tcp, listener.local_addr().unwrap(), b"X\r\n\r\n")
            .await;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SIP/2.0 200 OK\r\n\r\n").await.unwrap();
        assert_eq!(
            stranger.answer(Duration::from_secs(10)).await.unwrap().status,
            200
        );
        stranger.forget().await;
        assert!(stranger.answer(Duration::ZERO).await.is_none());
    }
}
