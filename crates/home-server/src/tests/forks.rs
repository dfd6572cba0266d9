use super::*;

/// bob at two phones, called by alice.
fn forked(rig: &mut Rig) -> (TxId, Sent, Sent) {
    rig.register(
        "bob",
        "Contact: <sip:bob@198.51.100.1>, <sip:bob@198.51.100.2>\r\n",
    );
    let (tx, sent) = rig.call("alice", "bob");
    let [one, other] = <[Sent; 2]>::try_from(sent).expect("two branches");
    (tx, one, other)
}

fn cancelled(rig: &mut Rig) -> Vec<TxId> {
    rig.cancels().into_iter().map(|(tx, _)| tx).collect()
}

#[test]
fn both_phones_ring_and_when_one_answers_the_other_is_cancelled() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 180);
    rig.respond(&other, 180);
    let tags = [rig.answer(tx), rig.answer(tx)].map(|ringing| ringing.headers.value("To").map(str::to_owned));
    assert_ne!(tags[0], tags[1], "two early dialogs");
    rig.respond(&one, 200);
    assert_eq!(rig.answer(tx).status, 200);
    let cancels = rig.cancels();
    assert_eq!(cancels.len(), 1);
    assert_eq!(cancels[0].0, other.tx);
    assert!(
        cancels[0]
            .1
            .value("Reason")
            .is_some_and(|reason| reason.starts_with("SIP;cause=200"))
    );
    rig.respond(&other, 487);
    rig.silent();
    rig.end(&other, TxEnd::Done);
    rig.end(&one, TxEnd::Done);
    assert_eq!(rig.machine.stats().forwarding, 0);
}

#[test]
fn a_phone_that_has_not_said_anything_is_cancelled_once_it_does() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 200);
    assert_eq!(rig.answer(tx).status, 200);
    rig.silent();
    rig.respond(&other, 100);
    assert_eq!(cancelled(&mut rig), [other.tx]);
    rig.respond(&other, 180);
    rig.silent();
}

#[test]
fn every_200_goes_to_the_caller_even_when_both_phones_answer() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 180);
    rig.respond(&other, 180);
    rig.respond(&one, 200);
    rig.respond(&other, 200);
    rig.respond(&one, 200);
    rig.out
        .retain(|output| matches!(output, Output::Respond { response, .. } if response.status == 200));
    let tags: Vec<_> = (0..3)
        .map(|_| rig.answer(tx).headers.value("To").map(str::to_owned))
        .collect();
    assert_eq!(tags[0], tags[2], "a retransmission");
    assert_ne!(tags[0], tags[1], "another dialog");
}

#[test]
fn when_all_are_busy_the_caller_hears_486_once() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 486);
    rig.silent();
    rig.respond(&other, 486);
    assert_eq!(rig.answer(tx).status, 486);
    rig.respond(&other, 486);
    rig.silent();
}

#[test]
fn one_busy_and_one_that_never_answers_is_busy() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 486);
    rig.end(&other, TxEnd::TimedOut);
    assert_eq!(rig.answer(tx).status, 486);
}

#[test]
fn a_caller_nobody_answers_hears_408() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.end(&one, TxEnd::TimedOut);
    rig.silent();
    rig.end(&other, TxEnd::TimedOut);
    let answer = rig.answer(tx);
    assert_eq!(answer.status, 408);
    assert!(answer.headers.to().expect("a To").tag().is_some());
    assert_eq!(rig.machine.stats().forwarding, 0);
}

#[test]
fn a_message_nobody_answers_is_not_answered_408() {
    let mut rig = Rig::new();
    rig.at_home("bob");
    let message = rig.request(
        "MESSAGE",
        "alice",
        "sip:bob@home.example",
        "<sip:bob@home.example>",
        "",
    );
    rig.authenticated("alice", message);
    let sent = rig.sent();
    rig.end(&sent[0], TxEnd::TimedOut);
    rig.silent();
    assert_eq!(rig.machine.stats().forwarding, 0);
}

#[test]
fn a_transport_that_fails_is_a_500_for_the_caller() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.end(&one, TxEnd::Transport("refused".to_owned()));
    rig.respond(&other, 503);
    assert_eq!(rig.answer(tx).status, 500);
}

#[test]
fn the_callers_cancel_cancels_what_rings_and_ends_in_487() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 180);
    rig.respond(&other, 180);
    rig.out.clear();
    rig.handle(StackEvent::Cancelled { invite: tx });
    assert_eq!(cancelled(&mut rig), [one.tx, other.tx]);
    rig.respond(&one, 487);
    rig.silent();
    rig.respond(&other, 487);
    assert_eq!(rig.answer(tx).status, 487);
}

#[test]
fn a_200_that_crosses_the_callers_cancel_still_arrives() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 180);
    rig.respond(&other, 180);
    rig.out.clear();
    rig.handle(StackEvent::Cancelled { invite: tx });
    rig.out.clear();
    rig.respond(&one, 200);
    assert_eq!(rig.answer(tx).status, 200);
    rig.respond(&other, 487);
    rig.silent();
}

#[test]
fn a_cancel_does_not_wait_long_for_a_phone_that_is_dead() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 180);
    rig.out.clear();
    rig.handle(StackEvent::Cancelled { invite: tx });
    assert_eq!(
        cancelled(&mut rig),
        [one.tx],
        "no CANCEL before a provisional answer"
    );
    rig.respond(&one, 487);
    rig.pass(crate::proxy::CANCEL_GRACE);
    assert_eq!(rig.answer(tx).status, 487);
    rig.respond(&other, 180);
    assert_eq!(
        cancelled(&mut rig),
        [other.tx],
        "it rings after all, and must stop"
    );
    rig.silent();
}

#[test]
fn a_cancelled_phone_that_never_ends_is_given_up() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 180);
    rig.respond(&other, 180);
    rig.out.clear();
    rig.handle(StackEvent::Cancelled { invite: tx });
    rig.out.clear();
    rig.pass(SPAN);
    assert_eq!(rig.answer(tx).status, 487);
    rig.pass(SPAN * 2);
    assert_eq!(rig.machine.stats().forwarding, 0);
}

#[test]
fn a_603_decides_for_every_phone() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&other, 180);
    rig.out.clear();
    rig.respond(&one, 603);
    assert_eq!(cancelled(&mut rig), [other.tx]);
    rig.silent();
    rig.respond(&other, 487);
    assert_eq!(rig.answer(tx).status, 603);
}

#[test]
fn a_200_beats_a_603_that_came_first() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 603);
    rig.respond(&other, 200);
    assert_eq!(rig.answer(tx).status, 200);
    rig.silent();
}

#[test]
fn the_lowest_class_wins_and_within_it_what_helps_most() {
    for (statuses, best) in [
        ([302, 486], 302),
        ([486, 500], 486),
        ([404, 486], 486),
        ([408, 480], 480),
        ([415, 486], 415),
        ([500, 503], 500),
    ] {
        let mut rig = Rig::new();
        let (tx, one, other) = forked(&mut rig);
        rig.respond(&one, statuses[0]);
        rig.respond(&other, statuses[1]);
        assert_eq!(rig.answer(tx).status, best, "{statuses:?}");
    }
}

#[test]
fn the_challenges_of_every_branch_reach_the_caller_together() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    for (branch, status, name, realm) in [
        (&one, 401, "WWW-Authenticate", "phone"),
        (&other, 407, "Proxy-Authenticate", "office"),
    ] {
        let mut response = response(branch, status);
        response.headers.push(
            name,
            format!("Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\""),
        );
        rig.handle(StackEvent::Response {
            tx: branch.tx,
            response,
            flow: None,
        });
    }
    let answer = rig.answer(tx);
    assert_eq!(
        answer.headers.www_challenges().expect("challenges")[0].realm,
        "phone"
    );
    assert_eq!(
        answer.headers.proxy_challenges().expect("challenges")[0].realm,
        "office"
    );
}

#[test]
fn a_phone_that_rings_for_three_minutes_without_a_word_is_cancelled_by_timer_c() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 486);
    rig.respond(&other, 180);
    rig.out.clear();
    rig.pass(Duration::from_secs(170));
    rig.respond(&other, 180);
    rig.out.clear();
    rig.pass(Duration::from_secs(170));
    rig.silent();
    rig.pass(Duration::from_secs(12));
    assert_eq!(cancelled(&mut rig), [other.tx]);
    rig.respond(&other, 487);
    assert_eq!(rig.answer(tx).status, 486);
}

#[test]
fn a_lost_end_of_a_transaction_leaves_nothing_behind() {
    let mut rig = Rig::new();
    let (_, one, other) = forked(&mut rig);
    rig.respond(&one, 200);
    let _ = other;
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.machine.stats().forwarding, 0);
}

#[test]
fn a_caller_whose_transaction_ends_stops_the_ringing() {
    let mut rig = Rig::new();
    let (tx, one, other) = forked(&mut rig);
    rig.respond(&one, 180);
    rig.out.clear();
    rig.handle(StackEvent::TxEnded {
        tx,
        end: TxEnd::Transport("gone".to_owned()),
    });
    assert_eq!(cancelled(&mut rig), [one.tx]);
    rig.respond(&one, 487);
    rig.end(&other, TxEnd::TimedOut);
    rig.silent();
}
