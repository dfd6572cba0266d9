//! INVITEs that take the place of a call (RFC 3891), or want to join it (RFC 3911).

use crate::bench::*;
use siprtc_core::sip::*;
use siprtc_dialog_manager::machine::Input;
use siprtc_dialog_manager::*;

/// Bob's INVITE that wants to take the place of the call with `invite`, whose peer is `tag`.
fn replacing(invite: &SipRequest, tag: &str, more: &str) -> SipRequest {
    let mut request = peer_invite();
    request.headers.set("Call-ID", "another-call");
    let ours = invite.headers.from().unwrap();
    let value = format!(
        "{};from-tag={tag};to-tag={}{more}",
        invite.headers.call_id().unwrap(),
        ours.tag().unwrap()
    );
    request.headers.push("Replaces", value);
    request
}

#[test]
fn an_invite_takes_the_place_of_a_confirmed_call() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    bench.request(replacing(&invite, "bob", ""));
    bench.responded(100);
    let DialogEventKind::Incoming { replaces, .. } = bench.event() else {
        panic!()
    };
    assert_eq!(replaces, Some(call));
}

#[test]
fn an_invite_takes_the_place_of_a_call_that_rings_there_but_not_of_one_that_rings_here() {
    let mut bench = Bench::new();
    let (call, tx, invite) = bench.call();
    bench.request(replacing(&invite, "bob", ""));
    bench.responded(481);
    bench.answer(tx, response(&invite, 180, "bob"));
    bench.event();
    bench.request(replacing(&invite, "bob", ";early-only"));
    bench.responded(100);
    let DialogEventKind::Incoming { replaces, .. } = bench.event() else {
        panic!()
    };
    assert_eq!(replaces, Some(call));

    let mut bench = Bench::new();
    let (call, _, invite) = bench.incoming();
    bench.give(Input::Ring(Ring { call, answer: None })).unwrap();
    let (_, ringing) = bench.responded(180);
    let mut request = peer_invite();
    request.headers.set("Call-ID", "another-call");
    let tag = ringing.headers.to().unwrap().tag().unwrap().to_owned();
    let call_id = invite.headers.call_id().unwrap();
    request
        .headers
        .push("Replaces", format!("{call_id};to-tag={tag};from-tag=b"));
    bench.request(request);
    bench.responded(481);
    bench.silent();
}

#[test]
fn an_invite_that_names_no_call_of_ours_is_refused_by_the_rules() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    bench.request(replacing(&invite, "mallory", ""));
    bench.responded(481);
    bench.request(replacing(&invite, "bob", ";early-only"));
    bench.responded(486);
    let mut twice = replacing(&invite, "bob", "");
    twice.headers.push("Replaces", "x;to-tag=1;from-tag=2");
    bench.request(twice);
    bench.responded(400);
    let mut broken = peer_invite();
    broken.headers.push("Replaces", "x;to-tag=1");
    bench.request(broken);
    bench.responded(400);
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.sent(Method::Bye);
    bench.request(replacing(&invite, "bob", ""));
    bench.responded(603);
    bench.silent();
}

/// Bob's INVITE that wants to be joined to the call that `named` names.
fn joining(named: &str) -> SipRequest {
    let mut request = peer_invite();
    request.headers.set("Call-ID", "another-call");
    request.headers.push("Join", named);
    request
}

#[test]
fn an_invite_that_wants_to_join_a_call_says_which() {
    let mut bench = Bench::new();
    let (call, invite) = bench.established();
    assert!(invite.headers.has_token("Supported", "join"));
    let name = bench.machine.dialog_name(call).unwrap();
    assert_eq!(name.remote_tag, "bob");
    bench.request(joining(&name.to_string()));
    bench.responded(100);
    let DialogEventKind::Incoming { replaces, head, .. } = bench.event() else {
        panic!("it rings");
    };
    assert_eq!((replaces, head.joins), (None, Some(call)));
}

#[test]
fn an_invite_that_wants_to_join_nothing_of_ours_is_refused() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let named = bench.machine.dialog_name(call).unwrap().to_string();
    let mallory = named.replace("from-tag=bob", "from-tag=mallory");
    for (join, status) in [
        ("x;to-tag=1;from-tag=2", 481),
        (&mallory, 481),
        ("x;to-tag=1", 400),
    ] {
        bench.request(joining(join));
        bench.responded(status);
    }
    let mut both = joining(&named);
    both.headers.push("Replaces", &named);
    bench.request(both);
    bench.responded(400);
    bench.give(Input::Hangup(Hangup { call, reason: None })).unwrap();
    bench.sent(Method::Bye);
    bench.request(joining(&named));
    bench.responded(603);
    assert_eq!(bench.machine.dialog_name(call), None);
    bench.silent();
}

#[test]
fn an_attended_transfer_names_the_other_call_as_its_peer_knows_it() {
    let mut bench = Bench::new();
    let (call, _) = bench.established();
    let (other, invite) = bench.established();
    bench
        .give(Input::Refer(Refer {
            call,
            to: ReferTo::Call(other),
        }))
        .unwrap();
    let (_, refer) = bench.sent(Method::Refer);
    let to: NameAddr = refer.headers.value("Refer-To").unwrap().parse().unwrap();
    let uri = to.uri.as_sip().unwrap();
    assert_eq!(uri.address_of_record().to_string(), "sip:bob@example.com");
    let ours = invite.headers.from().unwrap();
    assert_eq!(
        uri.headers.as_deref(),
        Some(
            format!(
                "Replaces={}%3Bto-tag%3Dbob%3Bfrom-tag%3D{}",
                invite.headers.call_id().unwrap(),
                ours.tag().unwrap()
            )
            .as_str()
        )
    );
    let itself = Refer {
        call: other,
        to: ReferTo::Call(other),
    };
    assert!(bench.give(Input::Refer(itself)).is_err());
}
