//! What is kept, bounded: with a smaller bound than anybody can set.

use super::*;
use siprtc_core::sip::{TimerConfig, Uri};
use std::time::Duration;

#[derive(Clone, PartialEq)]
struct Udp;

impl Path for Udp {
    fn is_reliable(&self) -> bool {
        false
    }
}

struct Bench {
    machine: Transactions<Udp>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "an instant can only be had from the clock; from here on time is made up"
        )]
        let now = Instant::now();
        let mut machine = Transactions::new(TransactionsConfig {
            timers: TimerConfig::default(),
            max_transactions: 100,
        });
        machine.max_finished = 3;
        Bench { machine, now }
    }

    fn ended(&mut self) -> Vec<TxId> {
        let outputs = std::iter::from_fn(|| self.machine.poll());
        let ended = outputs.filter_map(|output| match output {
            Output::Ended { tx, .. } => Some(tx),
            _ => None,
        });
        ended.collect()
    }

    /// A request from outside, answered; `None`: it was taken for a copy.
    fn serve(&mut self, method: Method, branch: &str, status: u16) -> Option<TxId> {
        self.now += Duration::from_millis(1);
        let request = request(method, branch);
        let message = SipMessage::Request(request.clone());
        self.machine.receive(self.now, Udp, message);
        let outputs: Vec<_> = std::iter::from_fn(|| self.machine.poll()).collect();
        let tx = outputs.into_iter().find_map(|output| match output {
            Output::Request { tx, .. } => Some(tx),
            _ => None,
        })?;
        self.machine
            .respond(self.now, tx, request.response(status))
            .unwrap();
        Some(tx)
    }
}

fn request(method: Method, branch: &str) -> SipRequest {
    let cseq = format!("1 {method}");
    let mut request = SipRequest::new(method, "sip:bob@example.com".parse::<Uri>().unwrap());
    for (name, value) in [
        (
            "Via",
            format!("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{branch}").as_str(),
        ),
        ("From", "<sip:alice@example.com>;tag=1"),
        ("To", "<sip:bob@example.com>"),
        ("Call-ID", branch),
        ("CSeq", &cseq),
    ] {
        request.headers.push(name, value);
    }
    request
}

#[test]
fn of_too_many_that_have_finished_the_oldest_goes_first_and_ends() {
    let mut bench = Bench::new();
    let first = bench.serve(Method::Invite, "a", 200).unwrap();
    for branch in ["b", "c"] {
        bench.serve(Method::Options, branch, 200).unwrap();
    }
    bench.ended();
    bench.serve(Method::Options, "d", 200).unwrap();
    assert_eq!(bench.machine.kept(), 3);
    let ended = bench.ended();
    assert_eq!(
        (ended.len(), ended[0]),
        (2, first),
        "the INVITE, and the new OPTIONS"
    );
    for branch in ["b", "c", "d"] {
        assert_eq!(
            bench.serve(Method::Options, branch, 200),
            None,
            "{branch} is a copy"
        );
    }
    assert!(bench.serve(Method::Invite, "a", 200).is_some());
    assert!(bench.serve(Method::Options, "b", 200).is_some());
}

#[test]
fn a_refusal_is_not_waited_with_when_too_many_others_wait_for_their_ack() {
    let mut bench = Bench::new();
    let refused: Vec<_> = ["a", "b", "c", "d"]
        .map(|branch| bench.serve(Method::Invite, branch, 486))
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(bench.ended(), refused[3..]);
    assert_eq!((bench.machine.kept(), bench.machine.active()), (3, 0));
    bench.now += Duration::from_secs(33);
    bench.machine.handle_timeout(bench.now);
    assert_eq!(bench.ended(), refused[..3]);
    assert!(bench.machine.is_empty());
}

#[test]
fn what_waits_for_an_answer_is_never_dropped_for_what_has_finished() {
    let mut bench = Bench::new();
    for number in 0..50 {
        let message = SipMessage::Request(request(Method::Options, &format!("waits-{number}")));
        bench.machine.receive(bench.now, Udp, message);
    }
    for number in 0..50 {
        bench.serve(Method::Options, &number.to_string(), 200).unwrap();
    }
    assert_eq!((bench.machine.active(), bench.machine.kept()), (50, 3));
}

#[test]
fn alarms_of_those_that_are_gone_do_not_pile_up_behind_one_that_stays() {
    let mut bench = Bench::new();
    let first = SipMessage::Request(request(Method::Invite, "stays"));
    bench.machine.receive(bench.now, Udp, first);
    for number in 0..1000 {
        bench.serve(Method::Options, &number.to_string(), 200).unwrap();
    }
    let alarms = bench.machine.live.alarms();
    assert!(alarms < 100, "{alarms} alarms for one transaction");
}

#[test]
fn memory_goes_back_after_a_burst() {
    let mut bench = Bench::new();
    bench.machine.max_finished = 100_000;
    for number in 0..20_000 {
        bench.serve(Method::Options, &number.to_string(), 200).unwrap();
        bench.ended();
    }
    assert_eq!(bench.machine.kept(), 20_000);
    bench.now += Duration::from_secs(60);
    bench.machine.handle_timeout(bench.now);
    assert!(bench.machine.poll().is_none() && bench.machine.is_empty());
    assert!(bench.machine.finished.capacity() <= 1024);
    assert!(bench.machine.outputs.capacity() <= 64);
}
