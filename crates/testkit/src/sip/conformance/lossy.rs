//! A network that loses, doubles, delays and reorders datagrams, and transactions that end well all the same.

use super::{Pair, SHORT_T1, Setting, hasty, respond};
use crate::sip::{RecordingSink, answer};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use siprtc_core::sip::{Headers, Method, Route, SipRequest, SipStack, SipUri, StackEvent, TxEnd, TxId};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};

/// A network that loses, doubles, delays and reorders datagrams.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_lossy {
    ($then:ident $given:tt) => {
        $crate::$then! { $given lossy
            transactions_end_well_over_a_network_that_loses_and_reorders
                Pair [Udp] []
                "RFC 3261 17" "A third of all datagrams is lost, others come twice or late: each request is heard once, \
                    each has one final answer, and every transaction ends.";
        }
    };
}

/// Each is a network of its own.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;

/// How often the same datagram is lost at most: fewer than the copies that every timer makes of it.
const MOST_LOSSES: u32 = 2;

/// How long a datagram may be under way.
const LONGEST_WAY: Duration = Duration::from_millis(40);

/// What Alice begins over each network, so many times.
const ROUNDS: usize = 2;

pub(super) async fn transactions_end_well_over_a_network_that_loses_and_reorders(on: Setting) {
    let mut networks = JoinSet::new();
    for seed in SEEDS {
        let on = on.clone();
        networks.spawn(async move { (seed, tokio::spawn(over(on, seed)).await) });
    }
    while let Some(joined) = networks.join_next().await {
        let (seed, outcome) = joined.unwrap();
        if let Err(error) = outcome {
            panic!("seed {seed}: {}", words(error));
        }
    }
}

fn words(error: tokio::task::JoinError) -> String {
    let payload = error.into_panic();
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

async fn over(on: Setting, seed: u64) {
    let pair = Pair::start(&on).await;
    let relay = Relay::between(&*pair.alice, &*pair.bob, seed).await;
    let callee = Callee::start(pair.bob.clone(), pair.bob_hears.clone());
    Caller::new(&pair, relay.address).run().await;
    callee.finish().await;
    relay.task.abort();
    pair.stop().await;
}

/// A socket between two stacks: what comes from one goes to the other, or nowhere, or twice, or later.
struct Relay {
    address: SocketAddr,
    task: AbortHandle,
}

impl Relay {
    async fn between(alice: &dyn SipStack, bob: &dyn SipStack, seed: u64) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let ends = [alice.listeners()[0].bound, bob.listeners()[0].bound];
        let task = tokio::spawn(relay(socket, ends, StdRng::seed_from_u64(seed))).abort_handle();
        Relay { address, task }
    }
}

async fn relay(socket: Arc<UdpSocket>, [alice, bob]: [SocketAddr; 2], mut random: StdRng) {
    let mut buffer = vec![0; 65_535];
    let mut losses: HashMap<Vec<u8>, u32> = HashMap::new();
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let to = if from == alice { bob } else { alice };
        let datagram = buffer[..length].to_vec();
        let copies = match random.random_range(0..100) {
            0..35 => {
                let lost = losses.entry(datagram.clone()).or_default();
                *lost += 1;
                u32::from(*lost > MOST_LOSSES)
            }
            35..50 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let (socket, datagram) = (socket.clone(), datagram.clone());
            let way = random.random_range(Duration::ZERO..LONGEST_WAY);
            tokio::spawn(async move {
                tokio::time::sleep(way).await;
                let _ = socket.send_to(&datagram, to).await;
            });
        }
    }
}

/// Bob: answers everything 200, and rings where Alice shall cancel.
struct Callee {
    task: tokio::task::JoinHandle<()>,
}

impl Callee {
    fn start(stack: Arc<dyn SipStack>, hears: Arc<RecordingSink>) -> Self {
        Callee {
            task: tokio::spawn(serve(stack, hears)),
        }
    }

    /// Waits until every transaction of his has ended.
    async fn finish(self) {
        if let Err(error) = self.task.await {
            panic!("Bob: {}", words(error));
        }
    }
}

async fn serve(stack: Arc<dyn SipStack>, hears: Arc<RecordingSink>) {
    let expected = ROUNDS * 5;
    let mut begun: HashMap<(String, Method), TxId> = HashMap::new();
    let mut ringing: HashMap<TxId, SipRequest> = HashMap::new();
    let mut ended: HashSet<TxId> = HashSet::new();
    let acknowledged: Arc<Mutex<HashSet<String>>> = Arc::default();
    while ended.len() < expected {
        match hears.next().await {
            StackEvent::Request { tx, request, .. } => {
                let key = (
                    request.headers.call_id().unwrap().to_owned(),
                    request.method.clone(),
                );
                let again = begun.insert(key, tx);
                assert!(
                    again.is_none(),
                    "a copy of a {} was heard as a request",
                    request.method
                );
                match (&request.method, request.headers.value("Subject")) {
                    (Method::Invite, Some("cancel me")) => {
                        respond(&*stack, tx, &request, 180).await;
                        ringing.insert(tx, request);
                    }
                    (Method::Invite, _) => {
                        respond(&*stack, tx, &request, 180).await;
                        tokio::spawn(accept(stack.clone(), tx, request, acknowledged.clone()));
                    }
                    _ => respond(&*stack, tx, &request, 200).await,
                }
            }
            StackEvent::Cancelled { invite } => {
                let request = ringing.remove(&invite);
                let request =
                    request.unwrap_or_else(|| panic!("{invite} was cancelled twice, or never rang"));
                respond(&*stack, invite, &request, 487).await;
            }
            StackEvent::Ack { request, .. } => {
                acknowledged
                    .lock()
                    .insert(request.headers.call_id().unwrap().to_owned());
            }
            StackEvent::TxEnded { tx, end } => {
                assert_eq!(end, TxEnd::Done, "{tx}");
                assert!(ended.insert(tx), "{tx} ended twice");
            }
            StackEvent::FlowUp(_) | StackEvent::FlowDown { .. } => {}
            other => panic!("Bob heard {other:?}"),
        }
    }
    assert_eq!(begun.len(), expected);
    assert_eq!(acknowledged.lock().len(), ROUNDS, "a 200 was never acknowledged");
}

/// RFC 3261 section 13.3.1.4: the 200 is its user's to repeat, until the ACK is there.
async fn accept(
    stack: Arc<dyn SipStack>,
    tx: TxId,
    invite: SipRequest,
    acknowledged: Arc<Mutex<HashSet<String>>>,
) {
    let mut interval = SHORT_T1;
    while !acknowledged.lock().contains(invite.headers.call_id().unwrap()) {
        // Behind 64*T1 the transaction is gone.
        if stack.respond(tx, answer(&invite, 200, "bob")).await.is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
        interval = (interval * 2).min(hasty().t2);
    }
}

/// Alice: begins everything at once.
struct Caller<'a> {
    pair: &'a Pair,
    route: Route,
    /// What each transaction was begun for.
    begun: HashMap<TxId, SipRequest>,
    finals: HashMap<TxId, usize>,
    ended: HashSet<TxId>,
    cancelled: HashSet<TxId>,
    hung_up: HashSet<TxId>,
}

impl<'a> Caller<'a> {
    fn new(pair: &'a Pair, relay: SocketAddr) -> Self {
        Caller {
            pair,
            route: Route::via(SipUri::from_addr(relay)),
            begun: HashMap::new(),
            finals: HashMap::new(),
            ended: HashSet::new(),
            cancelled: HashSet::new(),
            hung_up: HashSet::new(),
        }
    }

    async fn run(mut self) {
        for _ in 0..ROUNDS {
            for method in [Method::Options, Method::Register, Method::Invite] {
                self.begin(self.pair.request(method)).await;
            }
            let mut cancelled = self.pair.request(Method::Invite);
            cancelled.headers.push("Subject", "cancel me");
            self.begin(cancelled).await;
        }
        // And a BYE for each call.
        while self.ended.len() < ROUNDS * 5 {
            self.hear().await;
        }
        for (tx, request) in &self.begun {
            let finals = self.finals.get(tx).copied().unwrap_or_default();
            let forks = self.hung_up.contains(tx);
            assert!(
                finals == 1 || (forks && finals > 1),
                "{} {tx} has {finals} final answers",
                request.method
            );
        }
    }

    async fn begin(&mut self, request: SipRequest) -> TxId {
        let tx = self.pair.ids.mint();
        self.begun.insert(tx, request.clone());
        let sent = self
            .pair
            .alice
            .send_request(tx, request, self.route.clone())
            .await;
        sent.unwrap_or_else(|error| panic!("a request was not sent: {error}"));
        tx
    }

    async fn hear(&mut self) {
        match self.pair.alice_hears.next().await {
            StackEvent::Response { tx, response, .. } if response.is_final() => {
                *self.finals.entry(tx).or_default() += 1;
                let asked = self.begun[&tx].clone();
                let expected = if self.cancelled.contains(&tx) { 487 } else { 200 };
                assert_eq!(response.status, expected, "{}", asked.method);
                if asked.method == Method::Invite && response.is_success() {
                    self.acknowledge(tx, &asked, response.headers.value("To").unwrap())
                        .await;
                }
            }
            StackEvent::Response { tx, .. } => {
                let wanted = self.begun[&tx].headers.value("Subject") == Some("cancel me");
                if wanted && self.cancelled.insert(tx) {
                    self.pair.alice.cancel(tx, Headers::new()).await.unwrap();
                }
            }
            StackEvent::TxEnded { tx, end } => {
                assert_eq!(end, TxEnd::Done, "{} {tx}", self.begun[&tx].method);
                assert!(self.ended.insert(tx), "{tx} ended twice");
            }
            StackEvent::FlowUp(_) | StackEvent::FlowDown { .. } => {}
            other => panic!("Alice heard {other:?}"),
        }
    }

    /// An ACK for every copy of the 200, and a BYE behind the first.
    async fn acknowledge(&mut self, tx: TxId, invite: &SipRequest, to: &str) {
        let within = |method: Method, sequence: u32| {
            let mut request = SipRequest::new(method.clone(), invite.uri.clone());
            for name in ["From", "Call-ID"] {
                request.headers.copy_from(&invite.headers, name);
            }
            request.headers.push("To", to);
            request.headers.push("CSeq", format_args!("{sequence} {method}"));
            request
        };
        let acknowledged = self
            .pair
            .alice
            .send_ack(within(Method::Ack, 1), self.route.clone())
            .await;
        acknowledged.unwrap_or_else(|error| panic!("an ACK was not sent: {error}"));
        if self.hung_up.insert(tx) {
            self.begin(within(Method::Bye, 2)).await;
        }
    }
}
