//! A machine that panics in the midst of an input: what was in hand ends, everything else goes on.

use crate::bench::*;
use siprtc_core::Cause;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::{Entropy, Input};
use siprtc_dialog_manager::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Random bits that panic when they are told to, once: in the midst of whatever asks for them.
struct Brittle(Counter, Arc<AtomicBool>);

impl Entropy for Brittle {
    fn next_u64(&mut self) -> u64 {
        assert!(!self.1.swap(false, Ordering::Relaxed), "as the test wants");
        self.0.next_u64()
    }
}

fn bench() -> (Bench, Arc<AtomicBool>) {
    let breaks = Arc::new(AtomicBool::new(false));
    (Bench::over(config(), Brittle(Counter(7), breaks.clone())), breaks)
}

impl Bench {
    /// Panics over `event`, and recovers.
    fn breaks_over(&mut self, breaks: &AtomicBool, event: StackEvent) {
        breaks.store(true, Ordering::Relaxed);
        let broke = catch_unwind(AssertUnwindSafe(|| self.stack(event)));
        assert!(broke.is_err() && !breaks.load(Ordering::Relaxed));
        self.machine.recover(self.now);
        self.outputs.extend(std::iter::from_fn(|| self.machine.poll()));
    }

    /// A confirmed call works as if nothing had been.
    fn hangs_up(&mut self, call: siprtc_core::CallId) {
        let reason = None;
        self.give(Input::Hangup(Hangup { call, reason })).unwrap();
        let (tx, bye) = self.sent(Method::Bye);
        self.answer(tx, response(&bye, 200, "bob"));
        assert_eq!(self.ended().0, Cause::Bye);
    }
}

#[test]
fn a_call_in_hand_is_cancelled_with_a_cause_and_the_others_go_on() {
    let (mut bench, breaks) = bench();
    let (other, _) = bench.established();
    let (call, tx, invite) = bench.call();
    let mut challenge = response(&invite, 407, "proxy");
    let words = "Digest realm=\"r\", nonce=\"n\", algorithm=MD5, qop=\"auth\"";
    challenge.headers.push("Proxy-Authenticate", words);
    bench.answer(tx, response(&invite, 180, "bob"));
    while !bench.outputs.is_empty() {
        bench.outputs.pop_front();
    }
    bench.breaks_over(
        &breaks,
        StackEvent::Response {
            tx,
            response: challenge,
            flow: None,
        },
    );
    let (cancelled, headers) = bench.cancelled();
    assert_eq!(cancelled, tx);
    assert!(headers.value("Reason").unwrap().contains("cause=500"));
    bench.silent();
    bench.pass(PATIENCE);
    let (cause, by, _, sentence) = bench.ended();
    assert_eq!((cause, by), (Cause::Internal, Side::Local));
    assert!(sentence.contains("defect"), "{sentence}");
    bench.pass(PATIENCE * 8);
    assert_eq!(
        bench.machine.calls().collect::<Vec<_>>(),
        [other],
        "{call} is over"
    );
    bench.hangs_up(other);
}

#[test]
fn an_invite_in_hand_is_answered_500_and_the_next_one_rings() {
    let (mut bench, breaks) = bench();
    let (other, _) = bench.established();
    let (tx, request) = (TxIds::new(TxOwner::user(5)).mint(), peer_invite());
    bench.breaks_over(
        &breaks,
        StackEvent::Request {
            tx,
            request,
            flow: flow(),
        },
    );
    let (answered, refusal) = bench.responded(500);
    assert_eq!(answered, tx);
    assert!(refusal.headers.to().unwrap().tag().is_some());
    bench.silent();
    bench.accepted();
    bench.hangs_up(other);
}

#[test]
fn nothing_in_hand_is_nothing_to_put_right() {
    let (mut bench, _) = bench();
    let (call, _) = bench.established();
    bench.machine.recover(bench.now);
    assert!(bench.machine.poll().is_none());
    bench.hangs_up(call);
}
