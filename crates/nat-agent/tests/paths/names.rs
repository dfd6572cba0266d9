//! Candidates that are mDNS names, with a responder of the test's own.

use super::bench::{End, agents, loopback, nat};
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record};
use siprtc_core::ice::{Candidate, IceRole, PathEvent};
use siprtc_nat_agent::{Mdns, NatConfig};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;

const NAME: &str = "0f6d3fb2-1c2d-4e5f-8a9b-0c1d2e3f4a5b.local";
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// Answers for [`NAME`] on the group at loopback, at a port of the test's own.
struct Responder {
    at: SocketAddrV4,
    questions: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Responder {
    /// `to_all`: answers go to the group and not to who asked.
    fn start(to_all: bool) -> Self {
        let free = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let at = SocketAddrV4::new(GROUP, free.local_addr().unwrap().port());
        drop(free);
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
            .bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, at.port()).into())
            .unwrap();
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST).unwrap();
        socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        let socket = UdpSocket::from_std(socket.into()).unwrap();
        let questions = Arc::new(AtomicUsize::new(0));
        let count = questions.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let asked = Message::from_vec(&buffer[..length]).unwrap();
                if asked.metadata.message_type != MessageType::Query {
                    continue;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let name = asked.queries[0].name.clone();
                if name.to_string() != format!("{NAME}.") {
                    continue;
                }
                let id = if to_all { 0 } else { asked.metadata.id };
                let mut answer = Message::new(id, MessageType::Response, OpCode::Query);
                let mut record = Record::from_rdata(name, 120, RData::A(A(Ipv4Addr::LOCALHOST)));
                record.dns_class = DNSClass::from(0x8001);
                answer.answers.push(record);
                let to = if to_all { SocketAddr::V4(at) } else { from };
                socket.send_to(&answer.to_vec().unwrap(), to).await.unwrap();
            }
        });
        Responder { at, questions, task }
    }

    fn nat(&self) -> NatConfig {
        NatConfig {
            mdns: Some(Mdns::at(self.at)),
            ..nat(&agents()[1])
        }
    }
}

/// `end`'s candidates, behind a name.
fn hidden(end: &End, name: &str) -> Vec<Candidate> {
    let hide = |candidate: &Candidate| Candidate {
        host: name.to_owned(),
        ..candidate.clone()
    };
    end.candidates.iter().map(hide).collect()
}

async fn ends(nat_of_a: &NatConfig) -> (End, End) {
    let a = End::with(nat_of_a, IceRole::Controlling, &loopback()).await;
    let b = End::with(&nat(&agents()[1]), IceRole::Controlled, &loopback()).await;
    (a, b)
}

#[tokio::test]
async fn a_peer_behind_a_name_is_found_by_who_asks_the_network() {
    for to_all in [false, true] {
        let responder = Responder::start(to_all);
        let (a, b) = ends(&responder.nat()).await;
        // Bob does not know where Alice is: only the name leads anywhere.
        b.path.set_remote(&a.path.parameters(), &[]).unwrap();
        a.path
            .set_remote(&b.path.parameters(), &hidden(&b, NAME))
            .unwrap();
        a.until(|event| matches!(event, PathEvent::Selected(_))).await;
        a.exchange(&b, 5).await;
        assert_eq!(a.path.stats().unresolved, 0);
    }
}

#[tokio::test]
async fn a_name_that_nobody_answers_to_delays_nothing_and_is_counted() {
    let responder = Responder::start(false);
    let (a, b) = ends(&responder.nat()).await;
    let other = NAME.replace('0', "1");
    let mut candidates = hidden(&b, &other);
    candidates.extend(b.candidates.clone());
    let began = tokio::time::Instant::now();
    b.path.set_remote(&a.path.parameters(), &a.candidates).unwrap();
    a.path.set_remote(&b.path.parameters(), &candidates).unwrap();
    a.until(|event| matches!(event, PathEvent::Selected(_))).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "the call does not wait for the name"
    );
    assert_eq!(a.path.stats().unresolved, 0, "it is being asked for");
    let counted = async {
        while a.path.stats().unresolved == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(6), counted)
        .await
        .unwrap();
    assert!(
        responder.questions.load(Ordering::Relaxed) >= 2,
        "it is asked for again"
    );
}

#[tokio::test]
async fn no_more_than_four_names_are_asked_for_and_none_that_is_not_made_up() {
    let responder = Responder::start(false);
    let (a, b) = ends(&responder.nat()).await;
    let mut candidates = hidden(&b, "printer.local");
    for number in 0..9 {
        candidates.extend(hidden(&b, &NAME.replacen('0', &number.to_string(), 1)));
    }
    a.path.set_remote(&b.path.parameters(), &candidates).unwrap();
    assert_eq!(a.path.stats().unresolved, 1 + 5);
}

#[tokio::test]
async fn names_are_dropped_where_they_shall_be() {
    let dropping = NatConfig {
        mdns: None,
        ..nat(&agents()[1])
    };
    let (a, b) = ends(&dropping).await;
    a.path
        .set_remote(&b.path.parameters(), &hidden(&b, NAME))
        .unwrap();
    assert_eq!(a.path.stats().unresolved, 1);
}
