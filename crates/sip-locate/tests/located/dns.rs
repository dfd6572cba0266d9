//! A name server on loopback that knows what it is told.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Stops with its drop.
pub(crate) struct NameServer {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl NameServer {
    /// Lines of a zone: `name KIND data`.
    pub(crate) async fn with(lines: &[&str]) -> Self {
        let records: Vec<Record> = lines.iter().map(|line| record(line)).collect();
        NameServer::start(Some(records)).await
    }

    /// Hears every question and answers none.
    pub(crate) async fn silent() -> Self {
        NameServer::start(None).await
    }

    async fn start(records: Option<Vec<Record>>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(socket, records, asked.clone()));
        NameServer { addr, asked, task }
    }

    /// `name KIND` of every question so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, records: Option<Vec<Record>>, asked: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let query = question.queries[0].clone();
        let plain = query.name().to_ascii().to_ascii_lowercase();
        asked
            .lock()
            .unwrap()
            .push(format!("{} {}", plain.trim_end_matches('.'), query.query_type()));
        let Some(records) = &records else { continue };
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let same_name = |record: &&Record| record.name.to_ascii().to_ascii_lowercase() == plain;
        let here: Vec<&Record> = records.iter().filter(same_name).collect();
        if here.is_empty() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        for record in here {
            if record.record_type() == query.query_type() {
                // The name as it was asked for: its case is the resolver's protection against forgery.
                let mut record = record.clone();
                record.name = query.name().clone();
                answer.add_answer(record);
            }
        }
        socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    }
}

fn record(line: &str) -> Record {
    let words: Vec<&str> = line.split_whitespace().collect();
    let octets = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    let number = |at: usize| words[at].parse::<u16>().unwrap();
    let data = match words[1] {
        "A" => RData::A(A(words[2].parse().unwrap())),
        "AAAA" => RData::AAAA(AAAA(words[2].parse().unwrap())),
        "SRV" => RData::SRV(SRV::new(number(2), number(3), number(4), name(words[5]))),
        _ => RData::NAPTR(NAPTR::new(
            number(2),
            number(3),
            octets(words[4]),
            octets(words[5]),
            octets(""),
            name(words[6]),
        )),
    };
    assert_ne!(data.record_type(), RecordType::NULL);
    Record::from_rdata(name(words[0]), 120, data)
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}
