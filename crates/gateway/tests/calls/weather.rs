//! Two SIP stacks, and datagrams between them that are lost, copied, late and out of order, from a seed: the transactions of RFC 3261 over
//! a wire in memory, by tokio's paused clock.

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use siprtc_core::Result;
use siprtc_core::sip::*;
use siprtc_sip_transactions::{Output, Path, Transactions, TransactionsConfig};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Of all datagrams.
    pub(crate) loss: f64,
    pub(crate) copies: f64,
    /// Longest way of a datagram, in milliseconds.
    pub(crate) delay: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Air;

impl Path for Air {
    fn is_reliable(&self) -> bool {
        false
    }
}

/// What was done against the rules, in words.
pub(crate) type Broken = Arc<Mutex<Vec<String>>>;

/// What one end has said in UPDATEs.
#[derive(Default)]
struct Offers {
    /// Ours that is not answered.
    ours: Option<u32>,
    /// The peer's that were answered with a description.
    answered: HashSet<u32>,
}

struct Sky {
    ends: [End; 2],
    offers: [Offers; 2],
    broken: Broken,
    random: StdRng,
    weather: Weather,
    branches: u64,
}

struct End {
    machine: Transactions<Air>,
    sink: Arc<dyn EventSink>,
    /// Its next timer may be another one.
    changed: Arc<Notify>,
}

/// One of the two stacks.
struct Stack {
    sky: Arc<Mutex<Sky>>,
    side: usize,
}

/// Both ends.
pub(crate) fn pair(
    seed: u64,
    weather: Weather,
    sinks: [Arc<dyn EventSink>; 2],
    broken: Broken,
) -> (Arc<dyn SipStack>, Arc<dyn SipStack>) {
    let end = |sink| End {
        machine: Transactions::new(TransactionsConfig {
            timers: TimerConfig::default(),
            max_transactions: 1_000,
        }),
        sink,
        changed: Arc::new(Notify::new()),
    };
    let sky = Arc::new(Mutex::new(Sky {
        ends: sinks.map(end),
        offers: Default::default(),
        broken,
        random: StdRng::seed_from_u64(seed),
        weather,
        branches: 0,
    }));
    for side in 0..2 {
        tokio::spawn(keep_time(Arc::clone(&sky), side));
    }
    let stack = |side| {
        Arc::new(Stack {
            sky: Arc::clone(&sky),
            side,
        })
    };
    (stack(0), stack(1))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn address(side: usize) -> SocketAddr {
    let address = ["192.0.2.1:5060", "192.0.2.2:5060"][side];
    address.parse().unwrap()
}

fn flow(side: usize) -> Flow {
    Flow {
        id: FlowId(1),
        transport: Transport::Udp,
        local: address(side),
        remote: address(1 - side),
    }
}

/// The timers of one end, until the test is over.
async fn keep_time(sky: Arc<Mutex<Sky>>, side: usize) {
    loop {
        let (due, changed) = {
            let mut sky = sky.lock().unwrap();
            sky.ends[side].machine.handle_timeout(now());
            let end = &sky.ends[side];
            (end.machine.poll_timeout(), Arc::clone(&end.changed))
        };
        drain(&sky, side);
        let never = tokio::time::Instant::now() + Duration::from_secs(86_400);
        // What was due just now may be told to be due again: a timer has milliseconds.
        let soon = tokio::time::Instant::now() + Duration::from_millis(1);
        let due = due.map_or(never, |due| tokio::time::Instant::from_std(due).max(soon));
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = changed.notified() => {}
        }
    }
}

/// Does what one end's transactions want.
fn drain(sky: &Arc<Mutex<Sky>>, side: usize) {
    let mut this = sky.lock().unwrap();
    while let Some(output) = this.ends[side].machine.poll() {
        let flow = flow(side);
        let event = match output {
            Output::Send { bytes, .. } => {
                this.carry(sky, 1 - side, &bytes);
                continue;
            }
            Output::Ack { request, .. } => StackEvent::Ack { request, flow },
            Output::Cancelled { invite } => StackEvent::Cancelled { invite },
            Output::Ended { tx, end } => StackEvent::TxEnded { tx, end },
            Output::Request { tx, request, .. } => StackEvent::Request { tx, request, flow },
            Output::Response { tx, response, .. } => StackEvent::Response {
                tx,
                response,
                flow: Some(flow),
            },
        };
        this.ends[side].sink.try_emit(event).expect("there is room");
    }
}

/// Something was done at one end, from outside of its clock.
fn done(sky: &Arc<Mutex<Sky>>, side: usize) {
    drain(sky, side);
    sky.lock().unwrap().ends[side].changed.notify_one();
}

impl Sky {
    fn carry(&mut self, sky: &Arc<Mutex<Sky>>, to: usize, bytes: &bytes::Bytes) {
        self.watch_sent(1 - to, bytes);
        let Weather { loss, copies, delay } = self.weather;
        let number = 1 + usize::from(self.random.random_bool(copies));
        for _ in 0..number {
            if self.random.random_bool(loss) {
                continue;
            }
            let way = Duration::from_millis(self.random.random_range(1..=delay));
            let (sky, bytes) = (Arc::clone(sky), bytes.clone());
            tokio::spawn(async move {
                tokio::time::sleep(way).await;
                let message =
                    SipMessage::parse(&bytes, &Limits::default()).expect("we write what we can read");
                let mut sky_now = sky.lock().unwrap();
                sky_now.watch_heard(to, &message);
                sky_now.ends[to].machine.receive(now(), Air, message);
                drop(sky_now);
                done(&sky, to);
            });
        }
    }
}

impl Sky {
    /// RFC 3311 section 5.2: who has an offer out answers none, but refuses it with 491.
    fn watch_sent(&mut self, side: usize, bytes: &bytes::Bytes) {
        let offers = &mut self.offers[side];
        match SipMessage::parse(bytes, &Limits::default()) {
            Ok(SipMessage::Request(request))
                if request.method == Method::Update && !request.body.is_empty() =>
            {
                offers.ours = request.headers.cseq().ok().map(|cseq| cseq.sequence);
            }
            Ok(SipMessage::Response(response)) if response.is_success() && !response.body.is_empty() => {
                let cseq = response.headers.cseq().ok();
                let Some(cseq) = cseq.filter(|cseq| cseq.method == Method::Update) else {
                    return;
                };
                if offers.answered.insert(cseq.sequence)
                    && let Some(ours) = offers.ours
                {
                    let text = format!(
                        "the UPDATE {} is answered while {ours} of ours is out",
                        cseq.sequence
                    );
                    self.broken.lock().unwrap().push(text);
                }
            }
            _ => {}
        }
    }

    fn watch_heard(&mut self, side: usize, message: &SipMessage) {
        if let SipMessage::Response(response) = message
            && response.is_final()
            && let Ok(cseq) = response.headers.cseq()
            && cseq.method == Method::Update
        {
            self.offers[side].ours.take_if(|ours| *ours == cseq.sequence);
        }
    }
}

impl Stack {
    fn sky(&self) -> MutexGuard<'_, Sky> {
        self.sky.lock().unwrap()
    }

    fn complete(&self, request: &mut SipRequest) {
        let branch = {
            let mut sky = self.sky();
            sky.branches += 1;
            sky.branches
        };
        let via = format!("SIP/2.0/UDP {};branch=z9hG4bK{branch}", address(self.side));
        request.headers.push_front("Via", via);
        request.headers.push("Max-Forwards", 70);
        request.headers.set("Content-Length", request.body.len());
    }

    fn act<T>(&self, act: impl FnOnce(&mut Transactions<Air>) -> T) -> T {
        let outcome = act(&mut self.sky().ends[self.side].machine);
        done(&self.sky, self.side);
        outcome
    }
}

#[async_trait]
impl SipStack for Stack {
    fn capability(&self) -> SipCapability {
        SipCapability {
            transports: &[Transport::Udp],
            keepalives: &[],
            gaps: &[],
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        let address = address(self.side);
        vec![Listener {
            transport: Transport::Udp,
            bound: address,
            advertised: address,
        }]
    }

    async fn send_request(&self, tx: TxId, mut request: SipRequest, _: Route) -> Result<()> {
        self.complete(&mut request);
        self.act(|machine| machine.send_request(now(), tx, request, Air))
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        self.act(|machine| machine.cancel(invite, now(), &extra))
    }

    async fn send_ack(&self, mut ack: SipRequest, _: Route) -> Result<()> {
        self.complete(&mut ack);
        let bytes = ack.to_bytes();
        self.sky().carry(&self.sky, 1 - self.side, &bytes);
        Ok(())
    }

    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()> {
        self.act(|machine| machine.respond(now(), tx, response))
    }

    async fn keepalive(&self, _: FlowId, _: Keepalive) -> Result<()> {
        Ok(())
    }

    async fn close_flow(&self, _: FlowId) -> Result<()> {
        Ok(())
    }

    async fn shutdown(&self, _: Duration) {}
}
