//! Digest challenges of our INVITE.

use crate::bench::*;
use siprtc_core::Cause;
use siprtc_core::sip::*;
use siprtc_dialog_manager::*;

fn challenge(invite: &SipRequest, status: u16, realm: &str, nonce: &str, stale: bool) -> SipResponse {
    let mut response = response(invite, status, "proxy");
    let name = if status == 407 {
        "Proxy-Authenticate"
    } else {
        "WWW-Authenticate"
    };
    let stale = if stale { ", stale=true" } else { "" };
    response.headers.push(
        name,
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"{stale}"),
    );
    response
}

#[test]
fn a_challenge_is_answered_with_the_next_cseq_and_the_same_dialog_ids() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, challenge(&invite, 407, "example.com", "n1", false));
    let (second, again) = bench.sent(Method::Invite);
    assert_ne!(second, tx);
    assert_eq!(again.headers.cseq().unwrap().to_string(), "2 INVITE");
    for name in ["From", "To", "Call-ID"] {
        assert_eq!(again.headers.value(name), invite.headers.value(name));
    }
    let credentials = again.headers.proxy_authorizations().unwrap();
    assert_eq!(
        (credentials[0].username.as_str(), credentials[0].nonce.as_str()),
        ("alice", "n1")
    );
    bench.answer(second, response(&again, 200, "bob"));
    let ack = bench.acked();
    assert_eq!(ack.headers.cseq().unwrap().to_string(), "2 ACK");
    assert_eq!(
        ack.headers.value("Proxy-Authorization"),
        again.headers.value("Proxy-Authorization")
    );
    assert!(matches!(bench.event(), DialogEventKind::Answered { .. }));
}

#[test]
fn a_proxy_and_a_callee_may_both_challenge() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, challenge(&invite, 407, "proxy", "n1", false));
    let (tx, again) = bench.sent(Method::Invite);
    bench.answer(tx, challenge(&again, 401, "callee", "n2", false));
    let (_, third) = bench.sent(Method::Invite);
    assert_eq!(third.headers.cseq().unwrap().sequence, 3);
    assert_eq!(third.headers.proxy_authorizations().unwrap()[0].realm, "proxy");
    assert_eq!(third.headers.authorizations().unwrap()[0].realm, "callee");
}

#[test]
fn a_second_refusal_of_the_credentials_ends_the_call_with_advice() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, challenge(&invite, 401, "example.com", "n1", false));
    let (tx, again) = bench.sent(Method::Invite);
    bench.answer(tx, challenge(&again, 401, "example.com", "n2", false));
    let (cause, by, status, reason) = bench.ended();
    assert_eq!(
        (cause, by, status),
        (Cause::AuthenticationFailed, Side::Remote, Some(401))
    );
    assert!(
        reason.contains("alice") && reason.contains("check both"),
        "{reason}"
    );
}

#[test]
fn a_stale_nonce_is_no_refusal_but_not_for_ever() {
    let mut bench = Bench::new();
    let (_, mut tx, mut invite) = bench.call();
    bench.answer(tx, challenge(&invite, 401, "example.com", "n0", false));
    for nonce in 1..4 {
        (tx, invite) = bench.sent(Method::Invite);
        bench.answer(
            tx,
            challenge(&invite, 401, "example.com", &format!("n{nonce}"), true),
        );
    }
    (tx, invite) = bench.sent(Method::Invite);
    bench.answer(tx, challenge(&invite, 401, "example.com", "n4", true));
    assert_eq!(bench.ended().0, Cause::AuthenticationFailed);
}

#[test]
fn a_challenge_without_a_secret_says_what_is_missing() {
    let mut config = config();
    config.account.secret = None;
    let mut bench = Bench::with(config);
    let (_, tx, invite) = bench.call();
    bench.answer(tx, challenge(&invite, 401, "example.com", "n1", false));
    let (cause, _, _, reason) = bench.ended();
    assert_eq!(cause, Cause::AuthenticationFailed);
    assert!(
        reason.contains("example.com") && reason.contains("secret"),
        "{reason}"
    );
}

#[test]
fn a_403_after_credentials_is_their_refusal_and_else_a_declined_call() {
    let mut bench = Bench::new();
    let (_, tx, invite) = bench.call();
    bench.answer(tx, response(&invite, 403, "x"));
    assert_eq!(bench.ended().0, Cause::Declined);
    let (_, tx, invite) = bench.call();
    bench.answer(tx, challenge(&invite, 401, "example.com", "n1", false));
    let (tx, again) = bench.sent(Method::Invite);
    bench.answer(tx, response(&again, 403, "x"));
    assert_eq!(bench.ended().0, Cause::AuthenticationFailed);
}
