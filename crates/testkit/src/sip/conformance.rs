//! What every SIP stack plugin must do, run against two real stacks on loopback.

mod basics;
mod edges;
mod invites;
mod raw;

use super::{RecordingSink, request};
use siprtc_core::sip::{
    ListenerConfig, Method, Route, SipRequest, SipStack, SipStackFactory, SipUri, StackConfig, TimerConfig,
    Transport, TxId, TxIds, TxOwner,
};
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// T1 of the scenarios that wait for 64*T1: 1.6 s instead of 32 s.
const SHORT_T1: Duration = Duration::from_millis(25);

/// The scenarios, one function each; [`sip_conformance!`](crate::sip_conformance) makes tests of them.
pub mod scenarios {
    pub use super::basics::*;
    pub use super::edges::*;
    pub use super::invites::*;
    pub use super::raw::*;
}

/// What a scenario runs over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Network {
    /// TCP over IPv4.
    Tcp,
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6.
    Udp6,
}

impl Network {
    /// The transport spoken on it.
    pub fn transport(self) -> Transport {
        match self {
            Network::Tcp => Transport::Tcp,
            Network::Udp | Network::Udp6 => Transport::Udp,
        }
    }

    /// The loopback address with `port`.
    pub fn loopback(self, port: u16) -> SocketAddr {
        match self {
            Network::Tcp | Network::Udp => (Ipv4Addr::LOCALHOST, port).into(),
            Network::Udp6 => (Ipv6Addr::LOCALHOST, port).into(),
        }
    }
}

/// Two stacks that hear each other on loopback.
pub struct Pair {
    /// The stack that asks.
    pub alice: Arc<dyn SipStack>,
    /// What Alice's stack has to say.
    pub alice_hears: Arc<RecordingSink>,
    /// The stack that answers.
    pub bob: Arc<dyn SipStack>,
    /// What Bob's stack has to say.
    pub bob_hears: Arc<RecordingSink>,
    /// Mints both users' transaction ids.
    pub ids: TxIds,
    network: Network,
}

impl Pair {
    /// Two stacks with RFC 3261's timers.
    pub async fn start(factory: &dyn SipStackFactory, network: Network) -> Self {
        Pair::start_with(factory, network, StackConfig::default()).await
    }

    /// Two stacks with T1 = 25 ms, so that 64*T1 is 1.6 s.
    pub async fn start_hasty(factory: &dyn SipStackFactory, network: Network) -> Self {
        Pair::start_with(
            factory,
            network,
            StackConfig {
                timers: hasty(),
                ..StackConfig::default()
            },
        )
        .await
    }

    /// Two stacks with `config`, whose listeners are replaced.
    pub async fn start_with(factory: &dyn SipStackFactory, network: Network, config: StackConfig) -> Self {
        let (alice_hears, bob_hears) = (RecordingSink::new(), RecordingSink::new());
        let alice = start_one(factory, network, config.clone(), alice_hears.clone()).await;
        let bob = start_one(factory, network, config, bob_hears.clone()).await;
        Pair {
            alice,
            alice_hears,
            bob,
            bob_hears,
            ids: TxIds::new(TxOwner::user(1)),
            network,
        }
    }

    /// Bob's address as a URI that names the transport.
    pub fn bobs_uri(&self) -> SipUri {
        uri_of(&*self.bob, self.network)
    }

    /// Alice's address as a URI that names the transport.
    pub fn alices_uri(&self) -> SipUri {
        uri_of(&*self.alice, self.network)
    }

    /// A request to Bob.
    pub fn request(&self, method: Method) -> SipRequest {
        request(method, self.bobs_uri())
    }

    /// Alice sends `request` where it says.
    pub async fn ask(&self, request: SipRequest) -> TxId {
        let tx = self.ids.mint();
        let sent = self.alice.send_request(tx, request, Route::by_request()).await;
        sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
        tx
    }

    /// An OPTIONS from Alice is answered by Bob: both stacks are alive.
    pub async fn check_alive(&self) {
        let tx = self.ask(self.request(Method::Options)).await;
        let (served, options, _) = self.bob_hears.expect_request(Method::Options).await;
        respond(&*self.bob, served, &options, 200).await;
        let (answered, _) = self.alice_hears.expect_response(200).await;
        assert_eq!(answered, tx, "the answer belongs to another transaction");
    }

    /// Shuts both stacks down.
    pub async fn stop(self) {
        self.alice.shutdown(Duration::ZERO).await;
        self.bob.shutdown(Duration::ZERO).await;
    }
}

/// Runs one scenario on a multi-thread runtime of its own, for at most 90 seconds.
pub fn run<S: Future<Output = ()>>(scenario: S) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("BUG: no runtime for a test");
    runtime.block_on(async {
        let limit = Duration::from_secs(90);
        assert!(
            tokio::time::timeout(limit, scenario).await.is_ok(),
            "the scenario took longer than {limit:?}"
        );
    });
}

pub(super) fn hasty() -> TimerConfig {
    TimerConfig {
        t1: SHORT_T1,
        t2: SHORT_T1 * 8,
        t4: SHORT_T1 * 10,
    }
}

pub(super) async fn start_one(
    factory: &dyn SipStackFactory,
    network: Network,
    mut config: StackConfig,
    sink: Arc<RecordingSink>,
) -> Arc<dyn SipStack> {
    let bind = network.loopback(0);
    config.listeners = vec![ListenerConfig {
        transport: network.transport(),
        bind,
        advertise: None,
    }];
    let started = factory.start(config, sink).await;
    started.unwrap_or_else(|error| panic!("the stack did not start: {error}"))
}

pub(super) fn uri_of(stack: &dyn SipStack, network: Network) -> SipUri {
    SipUri::from_addr(stack.listeners()[0].advertised).with_transport(network.transport())
}

/// Answers with a To-tag and a Contact.
pub(super) async fn respond(stack: &dyn SipStack, tx: TxId, request: &SipRequest, status: u16) {
    let sent = stack.respond(tx, super::answer(request, status, "bob")).await;
    sent.unwrap_or_else(|error| panic!("the {status} was not sent: {error}"));
}

/// Makes tests of every scenario: `sip_conformance!(my_plugin::factory());` in `tests/conformance.rs`.
///
/// The expression is an `Arc<dyn SipStackFactory>`; it is evaluated once for each test.
#[macro_export]
macro_rules! sip_conformance {
    ($factory:expr) => {
        $crate::sip_conformance!(@everywhere $factory, over_udp, Udp);
        $crate::sip_conformance!(@everywhere $factory, over_tcp, Tcp);
        $crate::sip_conformance!(@everywhere $factory, over_ipv6, Udp6);
        $crate::sip_conformance!(@tests $factory, on_the_wire, Udp, [
            a_cancel_for_nothing_is_answered_481,
            a_cancel_is_repeated_until_the_invite_is_answered,
            a_copy_of_a_request_gets_the_same_answer_again,
            a_copy_of_a_ringing_invite_gets_the_last_provisional_answer_again,
            a_late_copy_of_an_acknowledged_invite_begins_nothing,
            a_rejection_is_repeated_until_it_is_acknowledged,
            a_rejection_that_is_never_acknowledged_times_out,
            a_request_is_repeated_with_the_same_branch_until_it_is_answered,
            an_answer_goes_to_the_sent_by_port_without_rport,
            an_answer_goes_to_the_source_port_with_rport,
            garbage_between_two_requests_is_ignored,
        ]);
        $crate::sip_conformance!(@tests $factory, on_the_connection, Tcp, [
            a_connection_that_closes_is_told,
            a_port_where_nobody_listens_is_an_error_at_once,
            garbage_on_a_connection_harms_no_other,
            one_connection_carries_both_directions,
        ]);
    };
    (@everywhere $factory:expr, $module:ident, $network:ident) => {
        $crate::sip_conformance!(@tests $factory, $module, $network, [
            a_2xx_keeps_both_transactions_for_64_t1,
            a_2xx_that_is_sent_again_is_heard_again,
            a_body_of_30_kilobytes_arrives_whole,
            a_cancel_before_any_answer_is_refused,
            a_cancel_ends_the_invite_with_487,
            a_cancel_that_crosses_a_200_changes_nothing,
            a_dialog_runs_from_invite_to_bye,
            a_full_sink_is_answered_503_with_retry_after,
            a_header_value_with_a_line_break_is_refused,
            a_next_hop_is_stronger_than_a_route,
            a_proxys_vias_stay_below_the_stacks_own,
            a_rejected_invite_is_acknowledged_by_the_stack,
            a_request_goes_over_the_flow_it_names,
            a_request_without_an_answer_times_out,
            a_ringing_invite_outlives_64_t1,
            a_route_is_stronger_than_the_request_uri,
            a_transaction_is_answered_once,
            an_ack_is_no_request_to_begin_with,
            an_id_is_used_once,
            an_invite_without_an_answer_times_out,
            an_options_makes_a_round_trip,
            an_unknown_method_passes_through,
            an_unknown_name_is_an_error,
            an_unreachable_flow_is_an_error,
            header_fields_pass_untouched_and_in_order,
            many_requests_at_once_are_all_answered,
            shutdown_ends_what_is_running,
            shutdown_frees_the_ports,
            the_answer_keeps_the_requests_identity,
            the_request_is_completed_by_the_stack,
            too_many_transactions_are_refused,
        ]);
    };
    (@tests $factory:expr, $module:ident, $network:ident, [$($scenario:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $scenario() {
                    let factory: ::std::sync::Arc<dyn $crate::sip::SipStackFactory> = $factory;
                    $crate::sip::run($crate::sip::scenarios::$scenario(&*factory, $crate::sip::Network::$network));
                }
            )*
        }
    };
}
