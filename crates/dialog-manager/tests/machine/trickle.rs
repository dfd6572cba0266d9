//! Trickle ICE (RFC 8840): what both sides say of it, and INFOs in early dialogs.

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Fault};
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;
use std::time::Duration;

pub const PACKAGE: &str = "trickle-ice";
pub const SDPFRAG: &str = "application/trickle-ice-sdpfrag";
pub const BODY: &str = "a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n";

pub fn trickling() -> Bench {
    Bench::with(DialogConfig {
        trickle_ice: true,
        ..config()
    })
}

pub fn trickle(call: CallId, body: &str) -> SendInfo {
    SendInfo {
        call,
        package: PACKAGE.to_owned(),
        content_type: SDPFRAG.to_owned(),
        body: body.to_owned(),
    }
}

pub fn as_trickle(mut info: SipRequest) -> SipRequest {
    info.headers.push("Info-Package", PACKAGE);
    info.headers.push("Content-Disposition", "Info-Package");
    info.with_body(SDPFRAG, BODY)
}

/// `response` of a peer that trickles.
pub fn able(mut response: SipResponse) -> SipResponse {
    response.headers.push("Supported", PACKAGE);
    response.headers.push("Recv-Info", PACKAGE);
    response
}

#[track_caller]
pub fn give(bench: &mut Bench, info: SendInfo) {
    bench.give(Input::SendInfo(info)).unwrap();
}

#[track_caller]
pub fn misused(bench: &mut Bench, info: SendInfo) -> String {
    let error = bench.give(Input::SendInfo(info)).expect_err("must be refused");
    assert_eq!(error.fault(), Fault::ApiMisuse);
    bench.silent();
    error.to_string()
}

pub fn body(request: &SipRequest) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

/// A call of ours that `bob`, who trickles, has answered.
#[track_caller]
pub fn established() -> (Bench, CallId, SipRequest) {
    let mut bench = trickling();
    let (call, tx, invite) = bench.call();
    let ok = response(&invite, 200, "bob").with_body("application/sdp", ANSWER);
    bench.answer(tx, able(ok));
    bench.acked();
    assert_eq!(bench.supports("bob"), (true, true));
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    (bench, call, invite)
}

/// A call from Bob, who trickles, that rings here.
#[track_caller]
pub fn incoming() -> (Bench, CallId, TxId, SipRequest) {
    let mut bench = trickling();
    let mut invite = peer_invite();
    invite.headers.push("Supported", "trickle-ice");
    invite.headers.push("Recv-Info", "other, trickle-ice;v=1");
    let tx = bench.request(invite.clone());
    bench.responded(100);
    assert!(matches!(bench.event(), DialogEventKind::Incoming { .. }));
    assert_eq!(bench.supports("b"), (true, true));
    let call = bench.machine.calls().next().unwrap();
    (bench, call, tx, invite)
}

#[track_caller]
pub fn ring(bench: &mut Bench, call: CallId) -> SipResponse {
    bench
        .give(Input::Ring(Ring {
            call,
            answer: Some(ANSWER.to_owned()),
        }))
        .unwrap();
    bench.responded(183).1
}

#[track_caller]
pub fn received(bench: &mut Bench, tag: &str) {
    let kind = DialogEventKind::Info {
        dialog: DialogTag(tag.to_owned()),
        package: PACKAGE.to_owned(),
        content_type: SDPFRAG.to_owned(),
        body: BODY.to_owned(),
    };
    assert_eq!(bench.event(), kind);
}

#[track_caller]
pub fn refused(bench: &mut Bench, tag: &str, status: u16) {
    let (dialog, package) = (DialogTag(tag.to_owned()), PACKAGE.to_owned());
    assert_eq!(
        bench.event(),
        DialogEventKind::InfoRefused {
            dialog,
            package,
            status
        }
    );
}

#[test]
fn an_empty_recv_info_outweighs_the_option_tag_and_a_missing_one_does_not() {
    for (recv_info, takes) in [(Some(""), false), (Some("other"), false), (None, true)] {
        let mut bench = trickling();
        let (call, tx, invite) = bench.call();
        let mut ringing = response(&invite, 183, "bob");
        ringing.headers.push("Supported", PACKAGE);
        if let Some(value) = recv_info {
            ringing.headers.push("Recv-Info", value);
        }
        bench.answer(tx, ringing);
        assert_eq!(bench.supports("bob"), (true, takes));
        bench.event();
        assert_eq!(
            bench.give(Input::SendInfo(trickle(call, BODY))).is_ok(),
            takes,
            "{recv_info:?}"
        );
    }
}

#[test]
fn of_a_recv_info_without_end_the_first_packages_count() {
    let named = |count: usize| -> String { (0..count).map(|n| format!("package{n}, ")).collect() };
    for (others, takes) in [(31, true), (32, false)] {
        let mut bench = trickling();
        let (_, tx, invite) = bench.call();
        let mut ringing = response(&invite, 183, "bob");
        ringing.headers.push("Recv-Info", named(others) + PACKAGE);
        bench.answer(tx, ringing);
        assert_eq!(bench.supports("bob"), (false, takes));
    }
}

#[test]
fn what_the_peer_supports_is_told_once_and_again_when_it_changes() {
    let mut bench = trickling();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 180, "bob"));
    assert_eq!(bench.supports("bob"), (false, false));
    bench.event();
    bench.answer(tx, response(&invite, 180, "bob"));
    assert!(matches!(bench.event(), DialogEventKind::Ringing { .. }));
    bench.answer(tx, able(response(&invite, 200, "bob")));
    bench.acked();
    assert_eq!(bench.supports("bob"), (true, true));
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    let mut update = callee_request(&invite, "bob", Method::Update, 1);
    update.headers.push("Recv-Info", "");
    bench.request(update);
    assert_eq!(bench.supports("bob"), (true, false));
    bench.responded(200);
    bench.silent();
}

#[test]
fn without_trickle_nothing_of_it_is_said() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    assert!(!invite.headers.contains("Recv-Info") && !invite.headers.has_token("Supported", PACKAGE));
    bench.answer(tx, able(response(&invite, 200, "bob")));
    let ack = bench.acked();
    assert!(!ack.headers.contains("Recv-Info"));
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    bench.request(as_trickle(callee_request(&invite, "bob", Method::Info, 1)));
    assert_eq!(bench.responded(469).1.headers.value("Recv-Info"), Some(""));
    bench.silent();
}

#[test]
fn our_invite_and_its_answers_say_that_we_trickle() {
    let mut bench = trickling();
    let (_, _, invite) = bench.call();
    let says = |headers: &Headers| {
        (
            headers.has_token("Supported", PACKAGE),
            headers.has_token("Recv-Info", PACKAGE),
        )
    };
    assert_eq!(says(&invite.headers), (true, true));
    let (mut bench, call, _, _) = incoming();
    assert_eq!(says(&ring(&mut bench, call).headers), (true, true));
    bench
        .give(Input::Accept(Accept {
            call,
            sdp: ANSWER.to_owned(),
        }))
        .unwrap();
    let (_, ok) = bench.responded(200);
    assert_eq!(says(&ok.headers), (true, true));
    assert!(ok.headers.has_token("Allow", "INFO"));
}

#[test]
fn recv_info_answers_recv_info_only() {
    let mut bench = trickling();
    bench.request(peer_invite());
    bench.responded(100);
    bench.event();
    assert_eq!(bench.supports("b"), (false, false));
    let call = bench.machine.calls().next().unwrap();
    let progress = ring(&mut bench, call);
    assert!(progress.headers.has_token("Supported", PACKAGE) && !progress.headers.contains("Recv-Info"));
}

#[test]
fn an_invite_that_requires_trickle_is_taken_when_we_trickle() {
    for (trickle_ice, status) in [(true, 100), (false, 420)] {
        let mut bench = Bench::with(DialogConfig {
            trickle_ice,
            ..config()
        });
        let mut invite = peer_invite();
        invite.headers.push("Require", PACKAGE);
        bench.request(invite);
        bench.responded(status);
    }
    let mut bench = trickling();
    let mut options = peer_invite();
    options.method = Method::Options;
    bench.request(options);
    assert!(bench.responded(200).1.headers.has_token("Supported", PACKAGE));
}

#[test]
fn within_early_dialogs_every_fork_that_trickles_is_told_and_heard() {
    let mut bench = trickling();
    let (call, tx, invite) = bench.call();
    for tag in ["one", "two"] {
        bench.answer(tx, able(response(&invite, 183, tag)));
        assert_eq!(bench.supports(tag), (true, true));
        bench.event();
    }
    bench.answer(tx, response(&invite, 180, "old"));
    assert_eq!(bench.supports("old"), (false, false));
    bench.event();
    give(&mut bench, trickle(call, BODY));
    let (_, first) = bench.sent(Method::Info);
    let (second_tx, second) = bench.sent(Method::Info);
    bench.silent();
    let tags = [&first, &second].map(|info| info.headers.to().unwrap().tag().map(str::to_owned).unwrap());
    assert_eq!(tags, ["one", "two"]);
    assert_eq!(first.headers.cseq().unwrap().to_string(), "2 INFO");
    bench.request(as_trickle(callee_request(&invite, "two", Method::Info, 1)));
    bench.responded(200);
    received(&mut bench, "two");
    // Fork two wins: fork one is nobody's any more.
    bench.answer(tx, able(response(&invite, 200, "two")));
    bench.acked();
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
    bench.answer(second_tx, response(&second, 200, "two"));
    give(&mut bench, trickle(call, "more"));
    let (_, more) = bench.sent(Method::Info);
    assert_eq!(more.headers.to().unwrap().tag(), Some("two"));
    assert_eq!(more.headers.cseq().unwrap().to_string(), "3 INFO");
    bench.silent();
    // A late 200 of fork one is hung up, with a CSeq after its INFO.
    bench.answer(tx, able(response(&invite, 200, "one")));
    bench.acked();
    let (_, bye) = bench.sent(Method::Bye);
    assert_eq!(bye.headers.cseq().unwrap().to_string(), "3 BYE");
    bench.silent();
}

#[test]
fn a_fork_that_lost_refuses_in_silence() {
    let mut bench = trickling();
    let (call, tx, invite) = bench.call();
    bench.answer(tx, able(response(&invite, 183, "one")));
    bench.supports("one");
    bench.event();
    give(&mut bench, trickle(call, BODY));
    let (info_tx, info) = bench.sent(Method::Info);
    bench.answer(tx, able(response(&invite, 200, "two")));
    bench.acked();
    bench.supports("two");
    bench.event();
    bench.answer(info_tx, response(&info, 481, "one"));
    bench.silent();
}

/// A call of ours whose INVITE is challenged after an early dialog with "one" and an INFO in it: both INVITEs.
#[track_caller]
fn challenged_after_info() -> (Bench, CallId, [(TxId, SipRequest); 2]) {
    let mut bench = trickling();
    let (call, tx, invite) = bench.call();
    bench.answer(tx, able(response(&invite, 183, "one")));
    bench.supports("one");
    bench.event();
    give(&mut bench, trickle(call, BODY));
    bench.sent(Method::Info);
    let mut challenge = response(&invite, 407, "proxy");
    let realm = "Digest realm=\"p\", nonce=\"n\"";
    challenge.headers.push("Proxy-Authenticate", realm);
    bench.answer(tx, challenge);
    let second = bench.sent(Method::Invite);
    (bench, call, [(tx, invite), second])
}

#[test]
fn a_fork_that_is_late_after_a_challenge_is_hung_up_with_a_cseq_after_its_info() {
    let (mut bench, _, [(tx, invite), _]) = challenged_after_info();
    bench.answer(tx, response(&invite, 200, "one"));
    bench.acked();
    let (_, bye) = bench.sent(Method::Bye);
    assert_eq!(bye.headers.cseq().unwrap().to_string(), "3 BYE");
}

#[test]
fn a_callee_that_takes_its_tag_again_after_a_challenge_is_told_anew() {
    let (mut bench, call, [_, (tx, invite)]) = challenged_after_info();
    bench.answer(tx, able(response(&invite, 183, "one")));
    assert_eq!(bench.supports("one"), (true, true));
    bench.event();
    give(&mut bench, trickle(call, BODY));
    let (_, info) = bench.sent(Method::Info);
    assert_eq!(info.headers.cseq().unwrap().to_string(), "3 INFO");
}

#[test]
fn a_callees_info_waits_until_the_caller_knows_of_the_dialog() {
    let (mut bench, call, _, invite) = incoming();
    let progress = ring(&mut bench, call);
    give(&mut bench, trickle(call, BODY));
    bench.silent();
    bench.request(as_trickle(peer_request(&invite, &progress, Method::Info, 2)));
    let (_, ours) = bench.sent(Method::Info);
    assert_eq!(
        (body(&ours), ours.headers.cseq().unwrap().to_string().as_str()),
        (BODY, "1 INFO")
    );
    bench.responded(200);
    received(&mut bench, "b");

    let (mut bench, call, _, invite) = incoming();
    bench
        .give(Input::Accept(Accept {
            call,
            sdp: ANSWER.to_owned(),
        }))
        .unwrap();
    let (_, ok) = bench.responded(200);
    give(&mut bench, trickle(call, BODY));
    bench.silent();
    bench.ack(peer_request(&invite, &ok, Method::Ack, 1));
    assert_eq!(bench.event(), DialogEventKind::Confirmed { sdp: None });
    bench.sent(Method::Info);
}

#[test]
fn an_18x_is_repeated_until_the_trickling_caller_shows_that_it_has_it() {
    let (mut bench, call, _, invite) = incoming();
    let progress = ring(&mut bench, call);
    for wait in [1, 2, 4] {
        bench.pass(T1 * wait - Duration::from_millis(1));
        bench.silent();
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.responded(183).1, progress);
    }
    bench.request(as_trickle(peer_request(&invite, &progress, Method::Info, 2)));
    bench.responded(200);
    received(&mut bench, "b");
    bench.pass(Duration::from_secs(59));
    bench.silent();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.responded(183).1, progress);
}

#[test]
fn an_18x_that_nobody_hears_is_given_up_after_64_t1_and_the_call_rings_on() {
    let (mut bench, call, ..) = incoming();
    ring(&mut bench, call);
    bench.pass(PATIENCE);
    for _ in 0..6 {
        bench.responded(183);
    }
    bench.silent();
    bench.pass(Duration::from_secs(60));
    bench.responded(183);
    bench.silent();
    bench
        .give(Input::Accept(Accept {
            call,
            sdp: ANSWER.to_owned(),
        }))
        .unwrap();
    bench.responded(200);
}

#[test]
fn an_18x_to_a_caller_that_does_not_trickle_is_not_repeated() {
    let mut bench = trickling();
    bench.request(peer_invite());
    bench.responded(100);
    bench.event();
    bench.supports("b");
    let call = bench.machine.calls().next().unwrap();
    ring(&mut bench, call);
    bench.pass(Duration::from_secs(59));
    bench.silent();
}
