//! Every method, every answer, every order of header fields.

use super::{Pair, Setting, respond};
use crate::sip::answer;
use siprtc_core::sip::{Method, Route, SipRequest, TxEnd, TxId};

/// Every method, every answer, every order of header fields.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_words {
    ($then:ident $given:tt) => {
        $crate::$then! { $given words
            a_request_of_every_method_makes_a_round_trip
                Pair [Udp Tcp Tls Ws | Udp6 Tcp6 Wss] []
                "RFC 3261 7.1" "BYE, INFO, MESSAGE, NOTIFY, OPTIONS, PRACK, PUBLISH, REFER, REGISTER, SUBSCRIBE and UPDATE pass.";
            every_final_answer_to_a_request_is_heard
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 8.1.3.2" "Final answers from 200 to 699, those without a name too, end a request as they are.";
            every_final_answer_to_an_invite_is_heard
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 17.1.1" "Final answers of every class end an INVITE, and each rejection is acknowledged.";
            every_provisional_answer_to_an_invite_is_heard
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 13.2.2.1" "100, 180, 181, 182, 183 and 199 come in their order, one of them twice, before the final answer.";
            a_provisional_answer_to_another_request_ends_nothing
                Pair [Udp Tcp | Udp6 Tls Ws] []
                "RFC 3261 17.1.2.2" "A SUBSCRIBE may be answered 100 before its final answer.";
            a_reason_phrase_arrives_as_it_was_written
                Pair [Udp Tcp] []
                "RFC 3261 7.2" "A reason phrase of the user's own arrives, in any script, and so does an empty one.";
            header_fields_arrive_in_the_order_in_which_they_were_sent
                Pair [Udp Tcp | Ws] [HeaderOrder]
                "RFC 3261 7.3.1" "Header fields of different names keep their order, known and unknown ones.";
            header_field_names_arrive_as_they_were_written
                Pair [Udp Tcp] []
                "RFC 3261 7.3.1" "A header field that nobody knows keeps the case of its name.";
            a_hundred_header_fields_arrive
                Pair [Udp Tcp] []
                "RFC 3261 7.3" "A hundred unknown header fields with long values arrive, in their order.";
        }
    };
}

pub(super) async fn a_request_of_every_method_makes_a_round_trip(on: Setting) {
    let pair = Pair::start(&on).await;
    for method in [
        Method::Bye,
        Method::Info,
        Method::Message,
        Method::Notify,
        Method::Options,
        Method::Prack,
        Method::Publish,
        Method::Refer,
        Method::Register,
        Method::Subscribe,
        Method::Update,
    ] {
        let (tx, served, heard) = ask(&pair, method.clone()).await;
        assert_eq!(heard.headers.cseq().unwrap().method, method);
        respond(&*pair.bob, served, &heard, 200).await;
        let (answered, response) = pair.alice_hears.expect_response(200).await;
        assert_eq!(answered, tx);
        assert_eq!(response.headers.cseq().unwrap().method, method);
    }
    pair.stop().await;
}

pub(super) async fn every_final_answer_to_a_request_is_heard(on: Setting) {
    let pair = Pair::start(&on).await;
    // Not 408, which RFC 4320 section 4.2 forbids here.
    let known = [
        200, 202, 204, 300, 301, 302, 305, 380, 400, 401, 402, 403, 404, 405, 406, 407, 410, 412, 413, 414,
        415, 416, 420, 421, 422, 423, 429, 437, 439, 480, 481, 482, 483, 484, 485, 486, 488, 489, 491, 493,
        494, 500, 501, 502, 503, 504, 505, 513, 580, 600, 603, 604, 606, 607,
    ];
    for status in known.into_iter().chain([299, 399, 499, 599, 699]) {
        let (tx, served, heard) = ask(&pair, Method::Message).await;
        respond(&*pair.bob, served, &heard, status).await;
        let (answered, _) = pair.alice_hears.expect_response(status).await;
        assert_eq!(answered, tx);
    }
    pair.stop().await;
}

pub(super) async fn every_final_answer_to_an_invite_is_heard(on: Setting) {
    let pair = Pair::start(&on).await;
    for status in [
        200, 202, 299, 302, 399, 401, 404, 407, 486, 487, 499, 500, 503, 599, 600, 603, 699,
    ] {
        let (tx, served, heard) = ask(&pair, Method::Invite).await;
        respond(&*pair.bob, served, &heard, status).await;
        let (answered, _) = pair.alice_hears.expect_response(status).await;
        assert_eq!(answered, tx);
        if status >= 300 {
            let end = pair.bob_hears.expect_ended(served).await;
            assert_eq!(end, TxEnd::Done, "nobody acknowledged the {status}");
        }
    }
    pair.stop().await;
}

pub(super) async fn every_provisional_answer_to_an_invite_is_heard(on: Setting) {
    let pair = Pair::start(&on).await;
    let (tx, served, heard) = ask(&pair, Method::Invite).await;
    for status in [100, 180, 181, 182, 183, 180, 199] {
        respond(&*pair.bob, served, &heard, status).await;
        let (answered, _) = pair.alice_hears.expect_response(status).await;
        assert_eq!(answered, tx);
    }
    respond(&*pair.bob, served, &heard, 486).await;
    pair.alice_hears.expect_response(486).await;
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::Done);
    pair.stop().await;
}

pub(super) async fn a_provisional_answer_to_another_request_ends_nothing(on: Setting) {
    let pair = Pair::start(&on).await;
    let (tx, served, heard) = ask(&pair, Method::Subscribe).await;
    for status in [100, 202] {
        respond(&*pair.bob, served, &heard, status).await;
        let (answered, _) = pair.alice_hears.expect_response(status).await;
        assert_eq!(answered, tx);
    }
    assert_eq!(pair.alice_hears.expect_ended(tx).await, TxEnd::Done);
    pair.stop().await;
}

pub(super) async fn a_reason_phrase_arrives_as_it_was_written(on: Setting) {
    let pair = Pair::start(&on).await;
    for phrase in ["Gone fishing; back (soon)", "\u{2615} caf\u{e9}", ""] {
        let (_, served, heard) = ask(&pair, Method::Message).await;
        let mut response = answer(&heard, 480, "bob");
        response.reason = phrase.into();
        pair.bob.respond(served, response).await.unwrap();
        let (_, response) = pair.alice_hears.expect_response(480).await;
        assert_eq!(response.reason, phrase);
    }
    pair.stop().await;
}

pub(super) async fn header_fields_arrive_in_the_order_in_which_they_were_sent(on: Setting) {
    const FIELDS: [(&str, &str); 9] = [
        ("X-First", "1"),
        ("Subject", "2"),
        ("Supported", "path"),
        ("X-First", "4"),
        ("Date", "Sat, 13 Nov 2010 23:29:00 GMT"),
        ("P-Asserted-Identity", "<sip:6@example.com>"),
        ("Accept", "application/sdp"),
        ("Allow", "INVITE, ACK, BYE"),
        ("X-Last", "9"),
    ];
    let pair = Pair::start(&on).await;
    let mut asked = pair.request(Method::Message);
    for (name, value) in FIELDS {
        asked.headers.push(name, value);
    }
    pair.ask(asked).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Message).await;
    let of_ours = |headers: &siprtc_core::sip::Headers| {
        let all = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.to_owned()));
        all.filter(|(name, _)| FIELDS.iter().any(|(ours, _)| name.eq_ignore_ascii_case(ours)))
            .map(|(_, value)| value)
            .collect::<Vec<String>>()
    };
    let expected = FIELDS.map(|(_, value)| value.to_owned()).to_vec();
    assert_eq!(of_ours(&heard.headers), expected);
    let mut response = answer(&heard, 200, "bob");
    for (name, value) in FIELDS {
        response.headers.push(name, value);
    }
    pair.bob.respond(served, response).await.unwrap();
    let (_, heard) = pair.alice_hears.expect_response(200).await;
    assert_eq!(of_ours(&heard.headers), expected);
    pair.stop().await;
}

pub(super) async fn header_field_names_arrive_as_they_were_written(on: Setting) {
    const NAMES: [&str; 4] = ["x-lower", "X-UPPER", "X-mIxEd.Name", "!odd~name'"];
    let pair = Pair::start(&on).await;
    let mut asked = pair.request(Method::Message);
    for name in NAMES {
        asked.headers.push(name, "is kept");
    }
    pair.ask(asked).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Message).await;
    let kept = heard.headers.iter().filter(|(_, value)| *value == "is kept");
    let names: Vec<&str> = kept.map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, NAMES);
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    pair.stop().await;
}

pub(super) async fn a_hundred_header_fields_arrive(on: Setting) {
    let pair = Pair::start(&on).await;
    let value = |number: usize| format!("{number} {}", "long ".repeat(20));
    let mut asked = pair.request(Method::Message);
    for number in 0..100 {
        asked.headers.push("X-Many", value(number).trim());
    }
    pair.ask(asked).await;
    let (served, heard, _) = pair.bob_hears.expect_request(Method::Message).await;
    let values: Vec<&str> = heard.headers.values("X-Many").collect();
    let expected: Vec<String> = (0..100).map(|number| value(number).trim().to_owned()).collect();
    assert_eq!(values, expected);
    respond(&*pair.bob, served, &heard, 200).await;
    pair.alice_hears.expect_response(200).await;
    pair.stop().await;
}

/// A request that Bob's user has heard.
async fn ask(pair: &Pair, method: Method) -> (TxId, TxId, SipRequest) {
    let tx = pair.ids.mint();
    let sent = pair
        .alice
        .send_request(tx, pair.request(method.clone()), Route::by_request())
        .await;
    sent.unwrap_or_else(|error| panic!("the {method} was not sent: {error}"));
    let (served, heard, _) = pair.bob_hears.expect_request(method).await;
    (tx, served, heard)
}
