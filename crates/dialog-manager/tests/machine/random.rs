//! Anything, in any order: never a panic, and every call ends exactly once, with its last event.

use crate::bench::*;
use crate::trickle::{as_trickle, trickle};
use proptest::prelude::*;
use siprtc_core::CallId;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::{Input, Output};
use siprtc_dialog_manager::*;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// One thing that happens; the numbers choose among what is there at that moment.
#[derive(Clone, Debug)]
enum Step {
    AckArrives {
        which: usize,
    },
    Command {
        /// See [`command`].
        what: usize,
        which: usize,
    },
    Invite,
    Lost {
        which: usize,
        how: usize,
    },
    PeerInvites {
        number: usize,
    },
    PeerRequests {
        method: usize,
        sequence: u32,
        which: usize,
    },
    Answer {
        status: u16,
        tag: usize,
        which: usize,
    },
    Pass {
        milliseconds: u64,
    },
    Cancel {
        which: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(vec![
        100, 180, 183, 200, 200, 200, 302, 401, 407, 408, 481, 486, 487, 488, 491, 500, 603,
    ]);
    let which = || 0..1000_usize;
    prop_oneof![
        which().prop_map(|which| Step::AckArrives { which }),
        (0..9_usize, which()).prop_map(|(what, which)| Step::Command { what, which }),
        (0..13_usize, which()).prop_map(|(what, which)| Step::Command { what, which }),
        Just(Step::Invite),
        (which(), 0..4_usize).prop_map(|(which, how)| Step::Lost { which, how }),
        (0..5_usize).prop_map(|number| Step::PeerInvites { number }),
        (0..10_usize, 1..20_u32, which()).prop_map(|(method, sequence, which)| Step::PeerRequests {
            method,
            sequence,
            which
        }),
        (status.clone(), 0..3_usize, which()).prop_map(|(status, tag, which)| Step::Answer {
            status,
            tag,
            which
        }),
        (status, 0..3_usize, which()).prop_map(|(status, tag, which)| Step::Answer { status, tag, which }),
        (0..40_000_u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        which().prop_map(|which| Step::Cancel { which }),
    ]
}

/// What went over the wire so far.
#[derive(Default)]
struct Seen {
    begun: HashSet<CallId>,
    /// Calls that a peer began.
    callees: HashSet<CallId>,
    ended: HashMap<CallId, usize>,
    out: Vec<(TxId, SipRequest)>,
    /// The last CSeq by Call-ID, our tag and the peer's.
    sequences: HashMap<[String; 3], u32>,
    arrived: Vec<TxId>,
    responses: Vec<SipResponse>,
}

impl Seen {
    fn drain(&mut self, bench: &mut Bench) {
        let mut hung_up = Vec::new();
        while let Some(output) = bench.outputs.pop_front() {
            match output {
                Output::SendRequest {
                    call, tx, request, ..
                } => {
                    self.begun.insert(call);
                    self.sequence_rises(&request);
                    self.out.push((tx, request));
                }
                Output::Respond { call, response, .. } => {
                    let cseq = response.headers.cseq().unwrap();
                    if cseq.method == Method::Bye && response.is_success() {
                        hung_up.extend(call);
                    }
                    self.responses.push(response);
                }
                // An errand's id, and that of a message outside of a call, are no calls.
                Output::Event(DialogEvent {
                    kind: DialogEventKind::Delivered { .. } | DialogEventKind::Message(_),
                    ..
                }) => {}
                Output::Event(DialogEvent { call, kind }) => {
                    assert!(
                        !self.ended.contains_key(&call),
                        "{call} speaks after its end: {kind:?}"
                    );
                    self.begun.insert(call);
                    if let DialogEventKind::Incoming { .. } = kind {
                        self.callees.insert(call);
                    }
                    if let DialogEventKind::Ended { .. } = kind {
                        *self.ended.entry(call).or_default() += 1;
                    }
                }
                Output::Cancel { .. } | Output::SendAck { .. } => {}
            }
        }
        for call in hung_up.iter().filter(|call| self.callees.contains(call)) {
            assert!(
                self.ended.contains_key(call),
                "{call} goes on after its caller's BYE"
            );
        }
    }

    /// RFC 3261 section 12.2.1.1, in each dialog of ours.
    fn sequence_rises(&mut self, request: &SipRequest) {
        let headers = &request.headers;
        let tag = |party: NameAddr| party.tag().unwrap_or_default().to_owned();
        let (ours, theirs) = (tag(headers.from().unwrap()), tag(headers.to().unwrap()));
        let dialog = [headers.call_id().unwrap().to_owned(), ours, theirs];
        let sequence = headers.cseq().unwrap().sequence;
        let before = self.sequences.insert(dialog, sequence);
        assert!(
            before.is_none_or(|before| before < sequence),
            "CSeq {before:?}, then {sequence}"
        );
    }

    fn call(&self, bench: &Bench, which: usize) -> CallId {
        let alive: Vec<_> = bench.machine.calls().collect();
        alive
            .get(which % alive.len().max(1))
            .copied()
            .unwrap_or_else(CallId::fresh)
    }
}

fn pick<T: Clone>(from: &[T], which: usize) -> Option<T> {
    from.get(which % from.len().max(1)).cloned()
}

fn take(bench: &mut Bench, seen: &mut Seen, step: Step) {
    match step {
        Step::Invite => {
            let target = "sip:bob@example.com".parse().unwrap();
            let (call, headers) = (CallId::fresh(), Headers::new());
            let _ = bench.give(Input::Invite(Invite {
                call,
                target,
                offer: OFFER.to_owned(),
                headers,
            }));
        }
        Step::Command { what, which } => command(bench, seen.call(bench, which), what),
        Step::PeerInvites { number } => {
            let mut invite = peer_invite();
            invite.headers.set("Call-ID", format!("call-{number}"));
            if number > 0 {
                invite.headers.push("Supported", "trickle-ice");
            }
            if number == 4 {
                invite.headers.push("Require", "100rel");
            }
            seen.arrived.push(bench.request(invite));
        }
        Step::Answer { status, tag, which } => {
            let Some((tx, request)) = pick(&seen.out, which) else {
                return;
            };
            let mut answer = response(&request, status, &tag_of(&request, tag));
            if status % 2 == 0 {
                answer.headers.push("Supported", "trickle-ice");
            }
            if status == 183 {
                answer.headers.push("Require", "100rel");
                answer.headers.push("RSeq", tag + 1);
            }
            if status == 401 {
                answer
                    .headers
                    .push("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n\"");
            }
            if status == 407 {
                answer.headers.push(
                    "Proxy-Authenticate",
                    "Digest realm=\"r\", nonce=\"n\", stale=true",
                );
            }
            bench.answer(tx, answer);
        }
        Step::Lost { which, how } => {
            let Some((tx, _)) = pick(&seen.out, which) else {
                return;
            };
            let end = match how {
                0 => TxEnd::Transport("gone".to_owned()),
                1 => TxEnd::TimedOut,
                _ => TxEnd::Done,
            };
            bench.tx_ended(tx, end);
        }
        Step::PeerRequests {
            method,
            sequence,
            which,
        } => {
            let methods = [
                Method::Bye,
                Method::Invite,
                Method::Update,
                Method::Info,
                Method::Options,
                Method::Refer,
                Method::Info,
                Method::Prack,
                Method::Notify,
                Method::Message,
            ];
            let Some(request) = peers_request(seen, methods[method].clone(), sequence, which) else {
                return;
            };
            let request = match method {
                0..3 => request.with_body("application/sdp", OFFER),
                5 => with(request, &[("Refer-To", "<sip:carol@example.com>")]),
                6 => as_trickle(request),
                7 => with(request, &[("RAck", "1 1 INVITE")]),
                8 => with(request, &[("Event", "refer"), ("Subscription-State", "active")]).with_body(
                    "message/sipfrag",
                    ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK"][which % 2],
                ),
                9 => request.with_body("text/plain", "hello"),
                _ => request,
            };
            seen.arrived.push(bench.request(request));
        }
        Step::AckArrives { which } => {
            for sequence in 1..4 {
                if let Some(ack) = peers_request(seen, Method::Ack, sequence, which) {
                    bench.ack(ack);
                }
            }
        }
        Step::Cancel { which } => {
            if let Some(invite) = pick(&seen.arrived, which) {
                bench.stack(StackEvent::Cancelled { invite });
            }
        }
        Step::Pass { milliseconds } => bench.pass(Duration::from_millis(milliseconds)),
    }
}

/// A fork's tag. A dialog is made by one INVITE: the same callee takes another tag for the next one.
fn tag_of(request: &SipRequest, fork: usize) -> String {
    let sequence = request.headers.cseq().unwrap().sequence;
    format!("{}-{sequence}", ["one", "two", "three"][fork])
}

/// A request of a peer in some dialog that exists or existed.
fn peers_request(seen: &Seen, method: Method, sequence: u32, which: usize) -> Option<SipRequest> {
    if which.is_multiple_of(2) {
        let (_, invite) = pick(&seen.out, which / 2)?;
        return Some(callee_request(
            &invite,
            &tag_of(&invite, sequence as usize % 2),
            method,
            sequence,
        ));
    }
    let ours = pick(&seen.responses, which / 2)?;
    let mut invite = peer_invite();
    invite.headers.set("Call-ID", ours.headers.call_id().unwrap());
    Some(peer_request(&invite, &ours, method, sequence))
}

fn with(mut request: SipRequest, fields: &[(&'static str, &str)]) -> SipRequest {
    for (name, value) in fields {
        request.headers.push(*name, value);
    }
    request
}

fn command(bench: &mut Bench, call: CallId, what: usize) {
    let sdp = ANSWER.to_owned();
    let input = match what {
        0 => Input::Accept(Accept { call, sdp }),
        1 => Input::AcceptOffer(AcceptOffer { call, sdp }),
        2 => Input::Hangup(Hangup { call, reason: None }),
        3 => Input::Reinvite(Reinvite {
            call,
            offer: sdp,
            early: None,
        }),
        4 => Input::Reject(Reject { call, status: 486 }),
        5 => Input::RejectOffer(RejectOffer { call, status: 488 }),
        6 => Input::Ring(Ring {
            call,
            answer: Some(sdp),
        }),
        7 => Input::Ring(Ring { call, answer: None }),
        8 => Input::SendInfo(trickle(call, "a=ice-ufrag:u")),
        9 => Input::Refer(Refer {
            call,
            to: ReferTo::Uri("sip:carol@example.com".parse().unwrap()),
        }),
        10 => Input::ReportReferral(ReportReferral { call, status: 200 }),
        11 => Input::Redirect(Redirect {
            call,
            contacts: vec!["<sip:carol@example.com>".parse().unwrap()],
        }),
        _ => Input::Deliver(Deliver {
            call,
            errand: CallId::fresh(),
            carrier: Carrier::Message,
            content_type: "text/plain".to_owned(),
            body: "hello".to_owned(),
        }),
    };
    // A command in the wrong state is refused, and that is all.
    let _ = bench.give(input);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_ends_exactly_once_whatever_happens(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::with(DialogConfig { trickle_ice: true, ..config() });
        let mut seen = Seen::default();
        for step in steps {
            take(&mut bench, &mut seen, step);
            seen.drain(&mut bench);
        }
        bench.give(Input::Terminate).unwrap();
        bench.pass(T1 * 4);
        seen.drain(&mut bench);
        for call in &seen.begun {
            prop_assert_eq!(seen.ended.get(call), Some(&1), "{} did not end once", call);
        }
        prop_assert_eq!(bench.machine.calls().count(), 0);
        bench.pass(Duration::from_secs(600));
        seen.drain(&mut bench);
        prop_assert_eq!(bench.machine.poll_timeout(), None, "a timer outlives every call");
    }
}
