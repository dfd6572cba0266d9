//! Whatever happens to a wish for a call, in whatever order.

use super::*;
use proptest::prelude::*;

/// What may happen to a wish for a call.
#[derive(Clone, Debug)]
enum Happening {
    Answered {
        status: u16,
        tag: usize,
        without_news: bool,
    },
    Lost(bool),
    Notified {
        tag: usize,
        sequence: u32,
        state: usize,
        line: usize,
    },
    Pass(u64),
    TakeLeave,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let status = prop::sample::select(vec![
        100, 200, 202, 202, 202, 302, 401, 405, 407, 423, 481, 503, 603,
    ]);
    prop_oneof![
        4 => (status, 0..2_usize, prop::bool::weighted(0.2))
            .prop_map(|(status, tag, without_news)| Answered { status, tag, without_news }),
        1 => any::<bool>().prop_map(Lost),
        4 => (0..2_usize, 1..9_u32, 0..4_usize, 0..6_usize)
            .prop_map(|(tag, sequence, state, line)| Notified { tag, sequence, state, line }),
        2 => (0..200_u64).prop_map(Pass),
        1 => Just(TakeLeave),
    ]
}

/// The request that waits for its answer, if one does, and the news, of which nothing follows the last.
#[derive(Default)]
struct Witness {
    out: Option<(TxId, SipRequest)>,
    is_accepted: bool,
    is_over: bool,
}

impl Witness {
    fn read(&mut self, bench: &mut Bench, id: CallId) {
        while let Some(output) = bench.outputs.pop_front() {
            match output {
                Output::SendRequest { tx, request, .. } => {
                    assert!(!self.is_over, "{} after the end", request.method);
                    assert!(self.out.replace((tx, request)).is_none(), "one at a time");
                }
                Output::Event(DialogEvent { call, kind }) if call == id => self.hear(kind),
                Output::Respond { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn hear(&mut self, kind: DialogEventKind) {
        let DialogEventKind::ReferralNews(news) = kind else {
            panic!("{kind:?}");
        };
        assert!(!self.is_over, "{news:?} after the end");
        match news {
            ReferralNews::Accepted { tells } => {
                assert!(!std::mem::replace(&mut self.is_accepted, true), "accepted twice");
                self.is_over = !tells;
            }
            ReferralNews::Answered { status } => {
                assert!(self.is_accepted, "{status} before it was accepted");
                self.is_over = status >= 200;
            }
            ReferralNews::Refused { .. } => {
                assert!(!self.is_accepted, "refused after it was accepted");
                self.is_over = true;
            }
            ReferralNews::Untold { .. } => self.is_over = true,
        }
    }
}

proptest! {
    #[test]
    fn every_wish_has_one_last_word_whatever_happens(
        news in any::<bool>(),
        steps in prop::collection::vec(happening(), 0..40),
    ) {
        const TAGS: [&str; 2] = ["desk", "other"];
        let mut bench = Bench::new();
        let (id, tx, refer) = ask(&mut bench, SendRefer { news, ..wish() });
        let mut witness = Witness { out: Some((tx, refer.clone())), ..Witness::default() };
        for step in steps {
            match step {
                Happening::Answered { status, tag, without_news } => {
                    let Some((tx, request)) = witness.out.take() else { continue };
                    let mut answer = response(&request, status, TAGS[tag]);
                    match status {
                        401 => answer.headers.push("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n\""),
                        407 => answer.headers.push("Proxy-Authenticate", "Digest realm=\"r\", nonce=\"n\""),
                        423 => answer.headers.push("Min-Expires", "600"),
                        _ if without_news => answer.headers.push("Refer-Sub", "false"),
                        _ => {}
                    }
                    bench.answer(tx, answer);
                    if status == 100 {
                        witness.out = Some((tx, request));
                    }
                }
                Happening::Lost(timed_out) => {
                    let Some((tx, _)) = witness.out.take() else { continue };
                    let end = if timed_out { TxEnd::TimedOut } else { TxEnd::Transport("gone".to_owned()) };
                    bench.tx_ended(tx, end);
                }
                Happening::Notified { tag, sequence, state, line } => {
                    let state = [ACTIVE, "pending", "", DONE][state];
                    let line = ["", "SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK", "SIP/2.0 486 Busy", "x"][line];
                    let mut notify = callee_request(&refer, TAGS[tag], Method::Notify, sequence);
                    notify.headers.push("Event", "refer");
                    notify.headers.push("Subscription-State", state);
                    let notify = notify.with_body("message/sipfrag", line.to_owned());
                    bench.request(notify);
                }
                Happening::Pass(seconds) => bench.pass(Duration::from_secs(seconds)),
                Happening::TakeLeave => {
                    let done = bench.give(Input::Unsubscribe(Unsubscribe { subscription: id }));
                    prop_assert!(done.is_err() || !witness.is_over, "nothing is left to leave");
                }
            }
            witness.read(&mut bench, id);
        }
        // Nothing more comes: what was sent is not answered, and the time passes.
        while let Some((tx, _)) = witness.out.take() {
            bench.tx_ended(tx, TxEnd::TimedOut);
            witness.read(&mut bench, id);
        }
        for _ in 0..3 {
            bench.pass(Duration::from_secs(100_000));
            witness.read(&mut bench, id);
            if let Some((tx, _)) = witness.out.take() {
                bench.tx_ended(tx, TxEnd::TimedOut);
                witness.read(&mut bench, id);
            }
        }
        prop_assert!(witness.is_over, "it has a last word");
        prop_assert_eq!(bench.machine.poll_timeout(), None, "nothing is left of it");
    }
}
