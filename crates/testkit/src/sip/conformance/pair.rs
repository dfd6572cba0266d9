//! Two stacks on loopback, and words that every scenario uses.

use super::{Network, Setting, certificates};
use crate::sip::{RecordingSink, answer, request};
use siprtc_core::sip::{
    ListenerConfig, Method, Route, SipRequest, SipStack, SipStackFactory, SipUri, StackConfig, TimerConfig,
    TxEnd, TxId, TxIds, TxOwner,
};
use std::sync::Arc;
use std::time::Duration;

/// T1 of the scenarios: 64*T1 is 1.6 s instead of 32 s.
pub(super) const SHORT_T1: Duration = Duration::from_millis(25);

/// Longest wait for anything: some times 64*T1, for two cores may be shared by many.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Two stacks that hear each other on loopback.
pub(super) struct Pair {
    /// The stack that asks.
    pub(super) alice: Arc<dyn SipStack>,
    /// What Alice's stack has to say.
    pub(super) alice_hears: Arc<RecordingSink>,
    /// The stack that answers.
    pub(super) bob: Arc<dyn SipStack>,
    /// What Bob's stack has to say.
    pub(super) bob_hears: Arc<RecordingSink>,
    /// Mints both users' transaction ids.
    pub(super) ids: TxIds,
    network: Network,
}

impl Pair {
    /// Two stacks with [`hasty`] timers.
    pub(super) async fn start(on: &Setting) -> Self {
        Pair::start_with(on, config(on.network)).await
    }

    /// Two stacks with RFC 3261's timers: nothing is sent twice while a scenario looks.
    pub(super) async fn start_patient(on: &Setting) -> Self {
        let timers = TimerConfig::default();
        Pair::start_with(
            on,
            StackConfig {
                timers,
                ..config(on.network)
            },
        )
        .await
    }

    /// Two stacks with `config`, each with one listener.
    pub(super) async fn start_with(on: &Setting, config: StackConfig) -> Self {
        let (alice_hears, bob_hears) = (hears(), hears());
        let alice = start_one(&on.alice, config.clone(), alice_hears.clone()).await;
        let bob = start_one(&on.bob, config, bob_hears.clone()).await;
        Pair {
            alice,
            alice_hears,
            bob,
            bob_hears,
            ids: TxIds::new(TxOwner::user(1)),
            network: on.network,
        }
    }

    /// Bob's address as a URI that names the transport.
    pub(super) fn bobs_uri(&self) -> SipUri {
        uri_of(&*self.bob, self.network)
    }

    /// A request to Bob.
    pub(super) fn request(&self, method: Method) -> SipRequest {
        request(method, self.bobs_uri())
    }

    /// Alice sends `request` where it says.
    pub(super) async fn ask(&self, request: SipRequest) -> TxId {
        let tx = self.ids.mint();
        let sent = self.alice.send_request(tx, request, Route::by_request()).await;
        sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
        tx
    }

    /// An OPTIONS from Alice is answered by Bob: both stacks are alive.
    pub(super) async fn check_alive(&self) {
        let tx = self.ask(self.request(Method::Options)).await;
        let (served, options, _) = self.bob_hears.expect_request(Method::Options).await;
        respond(&*self.bob, served, &options, 200).await;
        let (answered, _) = self.alice_hears.expect_response(200).await;
        assert_eq!(answered, tx, "the answer belongs to another transaction");
    }

    /// Shuts both stacks down.
    pub(super) async fn stop(self) {
        self.alice.shutdown(Duration::ZERO).await;
        self.bob.shutdown(Duration::ZERO).await;
    }
}

/// T1 = 25 ms, and the others with it.
pub(super) fn hasty() -> TimerConfig {
    TimerConfig {
        t1: SHORT_T1,
        t2: SHORT_T1 * 8,
        t4: SHORT_T1 * 10,
    }
}

/// One listener on `network`, hasty timers, the kit's certificates.
pub(super) fn config(network: Network) -> StackConfig {
    StackConfig {
        listeners: vec![listener(network)],
        timers: hasty(),
        tls: certificates::good(),
        ..StackConfig::default()
    }
}

/// A listener on a port of the system's choice.
pub(super) fn listener(network: Network) -> ListenerConfig {
    ListenerConfig {
        transport: network.transport(),
        bind: network.loopback(0),
        advertise: None,
    }
}

/// A sink with the scenarios' patience.
pub(super) fn hears() -> Arc<RecordingSink> {
    RecordingSink::with_patience(PATIENCE)
}

pub(super) async fn start_one(
    factory: &Arc<dyn SipStackFactory>,
    config: StackConfig,
    sink: Arc<RecordingSink>,
) -> Arc<dyn SipStack> {
    let started = factory.start(config, sink).await;
    started.unwrap_or_else(|error| panic!("the stack did not start: {error}"))
}

/// Where `stack` listens first, as a URI that names the transport.
pub(super) fn uri_of(stack: &dyn SipStack, network: Network) -> SipUri {
    SipUri::from_addr(stack.listeners()[0].advertised).with_transport(network.transport())
}

/// Answers with a To-tag and a Contact.
pub(super) async fn respond(stack: &dyn SipStack, tx: TxId, request: &SipRequest, status: u16) {
    let sent = stack.respond(tx, answer(request, status, "bob")).await;
    sent.unwrap_or_else(|error| panic!("the {status} was not sent: {error}"));
}

/// Sends what cannot arrive, and says what the stack says: an error now, or the transaction's end.
pub(super) async fn why_not(
    stack: &dyn SipStack,
    hears: &RecordingSink,
    asked: SipRequest,
    route: Route,
) -> String {
    let tx = TxIds::new(TxOwner::user(2)).mint();
    match stack.send_request(tx, asked, route).await {
        Err(error) => {
            assert!(
                error.next_step().is_some(),
                "an error says what to do next: {error}"
            );
            error.to_string()
        }
        Ok(()) => match hears.expect_ended(tx).await {
            TxEnd::Transport(why) => why,
            other => panic!("it cannot have arrived, but ended {other:?}"),
        },
    }
}
