//! SIPp as a peer that does what most never do: the RFC's answer, a named cause, and nothing left over.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use actix::System;
use siprtc_core::Cause;
use siprtc_core::sip::{SipUri, Transport};
use siprtc_dialog_manager::{DialogConfig, DialogEventKind, Reliability, Reoffer, SessionTimer};
use siprtc_integration_tests::dialogs::{Dialogs, Manners};
use siprtc_integration_tests::folder::Folder;
use siprtc_integration_tests::sipp::{self, is_taken};
use std::net::TcpListener;
use std::time::Duration;

/// 64*T1 twice, and what SIPp takes.
const LIMIT: Duration = Duration::from_secs(85);

const SDP: &str =
    "v=0\no=sipp 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 6000 RTP/AVP 0\n";

/// A scenario's steps.
enum Step {
    /// This must come; text that its header fields must have.
    Hear(&'static str, &'static str),
    /// An INVITE must come, to which there is more to say when something else has come.
    HearInvite,
    /// May come.
    MayHear(&'static str),
    /// A request of the caller's: method, branch, CSeq, more header fields. An INVITE has an offer.
    Ask(&'static str, &'static str, u32, &'static str),
    /// Another one with an offer.
    Offer(&'static str, &'static str, u32, &'static str),
    /// A request with an offer, of who is called, in the dialog of the tag `a`: method, CSeq.
    OfferAsCallee(&'static str, u32),
    /// An answer to what came last: status line, To-tag, more header fields, body.
    Say(&'static str, &'static str, &'static str, &'static str),
    /// An answer to the INVITE, after something else came.
    SayOfInvite(&'static str, &'static str, &'static str),
    /// An answer of another fork to what `HearInvite` heard: status line, To-tag, body.
    SayLate(&'static str, &'static str, &'static str),
}

use Step::*;

fn scenario(steps: &[Step]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<scenario name=\"odd\">\n");
    for step in steps {
        xml.push_str(&written(step));
    }
    xml + "</scenario>\n"
}

fn sent(text: &str, body: &str) -> String {
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/sdp\n"
    };
    format!("<send><![CDATA[\n{text}{kind}Content-Length: [len]\n\n{body}]]></send>\n")
}

/// A request of the caller's.
fn asked(method: &str, to_tag: &str, (branch, cseq, more): (&str, u32, &str), body: &str) -> String {
    let head = format!(
        "{method} sip:siprtc@[remote_ip]:[remote_port] SIP/2.0\n\
         Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bK{branch}\n\
         From: <sip:sipp@[local_ip]:[local_port]>;tag=s\nTo: <sip:siprtc@[remote_ip]:[remote_port]>{to_tag}\n\
         Call-ID: [call_id]\nCSeq: {cseq} {method}\nMax-Forwards: 70\n\
         Contact: <sip:sipp@[local_ip]:[local_port]>\n{more}"
    );
    sent(&head, body)
}

fn written(step: &Step) -> String {
    let of = |what: &str| match what.parse::<u16>() {
        Ok(status) => format!("response=\"{status}\""),
        Err(_) => format!("request=\"{what}\""),
    };
    match step {
        Hear(what, "") => format!("<recv {} timeout=\"60000\" />\n", of(what)),
        Hear(what, text) => format!(
            "<recv {} timeout=\"60000\"><action><ereg regexp=\"{text}\" search_in=\"msg\" check_it=\"true\" \
             assign_to=\"1\"/></action></recv>\n<Reference variables=\"1\"/>\n",
            of(what)
        ),
        MayHear(what) => format!("<recv {} optional=\"true\" />\n", of(what)),
        Ask("INVITE", branch, cseq, more) => asked("INVITE", "", (branch, *cseq, more), SDP),
        Ask(method, branch, cseq, more) => asked(method, "[peer_tag_param]", (branch, *cseq, more), ""),
        Offer(method, branch, cseq, more) => asked(method, "[peer_tag_param]", (branch, *cseq, more), SDP),
        OfferAsCallee(method, cseq) => sent(
            &format!(
                "{method} [$4] SIP/2.0\n\
                 Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
                 From: <sip:sipp@[local_ip]:[local_port]>;tag=a\nTo:[$3]\n[last_Call-ID:]\nCSeq: {cseq} {method}\n\
                 Max-Forwards: 70\nContact: <sip:sipp@[local_ip]:[local_port]>\n"
            ),
            SDP,
        ),
        Say(status, tag, more, body) => sent(
            &format!(
                "SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n\
                 Contact: <sip:sipp@[local_ip]:[local_port]>\n{more}"
            ),
            body,
        ),
        HearInvite => concat!(
            "<recv request=\"INVITE\" timeout=\"60000\"><action><ereg regexp=\".*\" search_in=\"hdr\" header=\"Via:\" ",
            "check_it=\"true\" assign_to=\"2\"/><ereg regexp=\".*\" search_in=\"hdr\" header=\"From:\" ",
            "check_it=\"true\" assign_to=\"3\"/><ereg regexp=\"sip:[^>;]*\" search_in=\"hdr\" header=\"Contact:\" ",
            "check_it=\"true\" assign_to=\"4\"/></action></recv>\n<Reference variables=\"2,3,4\"/>\n"
        )
        .to_owned(),
        SayLate(status, tag, body) => sent(
            &format!(
                "SIP/2.0 {status}\nVia:[$2]\n[last_From:]\nTo: <sip:sipp@[local_ip]:[local_port]>{tag}\n[last_Call-ID:]\n\
                 CSeq: 1 INVITE\nContact: <sip:sipp@[local_ip]:[local_port]>\n"
            ),
            body,
        ),
        SayOfInvite(status, tag, more) => sent(
            &format!(
                "SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\nCSeq: 1 INVITE\n{more}"
            ),
            "",
        ),
    }
}

/// What we are, beside the defaults.
struct Ours {
    manners: Manners,
    adjust: fn(DialogConfig) -> DialogConfig,
}

const USUAL: Ours = Ours {
    manners: Manners {
        hold: Duration::from_millis(300),
        reoffers: false,
        reoffers_early: false,
        rings: None,
    },
    adjust: |config| config,
};

/// Plays it against `native`; `callee`: SIPp is called. What became of our call, when there was one.
fn play(name: &str, callee: bool, ours: &Ours, steps: &[Step], expected: Option<Cause>) {
    let folder = Folder::new(&format!("odd-{name}"));
    let file = folder.join("scenario.xml");
    std::fs::write(&file, scenario(steps)).unwrap();
    System::new().block_on(async move {
        let mut dialogs = Dialogs::with("native", Transport::Udp, ours.manners, ours.adjust).await;
        let address = dialogs.address().to_string();
        // A port that is free now.
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let (file, port) = (file.display().to_string(), free.port().to_string());
        let mut arguments = vec!["-sf", file.as_str(), "-p", port.as_str()];
        if !callee {
            arguments.push(&address);
        }
        let mut peer = sipp::start(&folder, Transport::Udp, 1, &arguments);
        if callee {
            peer.ready(Duration::from_secs(10), || is_taken(free, Transport::Udp));
            dialogs.call(SipUri::from_addr(free).with_user("sipp")).await;
        }
        let finished = tokio::task::spawn_blocking(move || (peer.finish(LIMIT), peer));
        if let Some(expected) = expected {
            let ended = tokio::time::timeout(LIMIT, dialogs.ended.recv()).await;
            let Ok(Some(DialogEventKind::Ended { cause, .. })) = &ended else {
                let (_, peer) = finished.await.unwrap();
                panic!("the call has not ended: {ended:?}\n{}", peer.log());
            };
            assert_eq!(*cause, expected, "{ended:?}");
        }
        let (status, peer) = finished.await.unwrap();
        let errors: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .filter_map(|entry| {
                Some(entry.ok()?.path()).filter(|path| path.to_string_lossy().contains("errors"))
            })
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .collect();
        assert!(
            status.success(),
            "SIPp: {status}\n{}\n{}",
            errors.concat(),
            peer.log()
        );
        assert!(dialogs.ended.try_recv().is_err(), "one call ends once");
    });
}

#[test]
fn a_422_is_followed_by_an_invite_for_as_long_as_it_wants() {
    let ours = Ours {
        adjust: |config| DialogConfig {
            session_timer: Some(SessionTimer::default()),
            ..config
        },
        ..USUAL
    };
    let steps = [
        Hear("INVITE", "Session-Expires: 1800"),
        Say("422 Session Interval Too Small", ";tag=a", "Min-SE: 4000\n", ""),
        Hear("ACK", ""),
        Hear("INVITE", "Session-Expires: 4000"),
        Say("200 OK", ";tag=b", "", SDP),
        Hear("ACK", ""),
        Hear("BYE", ""),
        Say("200 OK", "", "", ""),
    ];
    play("422", true, &ours, &steps, Some(Cause::Bye));
}

#[test]
fn two_dialogs_ring_and_both_answer_one_is_taken_and_the_other_hung_up() {
    let steps = [
        HearInvite,
        Say("183 Session Progress", ";tag=a", "", SDP),
        Say("183 Session Progress", ";tag=b", "", SDP),
        Say("200 OK", ";tag=b", "", SDP),
        Hear("ACK", "tag=b"),
        SayLate("200 OK", ";tag=a", SDP),
        Hear("ACK", "tag=a"),
        Hear("BYE", "tag=a"),
        Say("200 OK", "", "", ""),
        Hear("BYE", "tag=b"),
        Say("200 OK", "", "", ""),
    ];
    play("forks", true, &USUAL, &steps, Some(Cause::Bye));
}

#[test]
fn a_prack_that_nobody_answers_leaves_a_call_that_is_cancelled_when_nobody_answers_that_either() {
    let ours = Ours {
        adjust: |mut config| {
            config.control.reliability = Reliability::Supported;
            config.no_answer = Duration::from_secs(3);
            config
        },
        ..USUAL
    };
    let steps = [
        Hear("INVITE", "100rel"),
        Say(
            "183 Session Progress",
            ";tag=a",
            "Require: 100rel\nRSeq: 77\n",
            SDP,
        ),
        Hear("PRACK", "RAck: 77 1 INVITE"),
        Hear("CANCEL", ""),
        Say("200 OK", "", "", ""),
        SayOfInvite("487 Request Terminated", ";tag=a", ""),
        Hear("ACK", ""),
    ];
    play("prack", true, &ours, &steps, Some(Cause::NoAnswer));
}

#[test]
fn a_491_to_our_offer_is_followed_by_the_same_offer_and_a_488_leaves_the_call() {
    let ours = Ours {
        manners: Manners {
            reoffers: true,
            ..USUAL.manners
        },
        ..USUAL
    };
    let begin = || {
        [
            Hear("INVITE", ""),
            Say("200 OK", ";tag=a", "", SDP),
            Hear("ACK", ""),
            Hear("INVITE", ""),
        ]
    };
    let end = || [Hear("BYE", ""), Say("200 OK", "", "", "")];
    let again = [
        Say("491 Request Pending", "", "", ""),
        Hear("ACK", ""),
        Hear("INVITE", ""),
        Say("200 OK", "", "", SDP),
        Hear("ACK", ""),
    ];
    let steps: Vec<Step> = begin().into_iter().chain(again).chain(end()).collect();
    play("491", true, &ours, &steps, Some(Cause::Bye));
    for (name, status, body) in [
        ("488", "488 Not Acceptable Here", ""),
        ("garbage", "200 OK", "this is no description\n"),
    ] {
        let refused = [Say(status, "", "", body), Hear("ACK", "")];
        let steps: Vec<Step> = begin().into_iter().chain(refused).chain(end()).collect();
        play(name, true, &ours, &steps, Some(Cause::Bye));
    }
}

#[test]
fn a_caller_that_never_acknowledges_our_200_is_hung_up() {
    let steps = [
        Ask("INVITE", "1", 1, ""),
        MayHear("100"),
        Hear("200", ""),
        Hear("BYE", ""),
        Say("200 OK", "", "", ""),
    ];
    play("no-ack", false, &USUAL, &steps, Some(Cause::TimedOut));
}

#[test]
fn a_session_that_would_be_too_short_is_refused_with_the_shortest() {
    let ours = Ours {
        adjust: |config| DialogConfig {
            session_timer: Some(SessionTimer::default()),
            ..config
        },
        ..USUAL
    };
    let steps = [
        Ask("INVITE", "1", 1, "Supported: timer\nSession-Expires: 60\n"),
        MayHear("100"),
        Hear("422", "Min-SE: 90"),
        Ask("ACK", "1", 1, ""),
    ];
    play("too-short", false, &ours, &steps, None);
}

#[test]
fn an_invite_that_comes_again_over_another_way_is_answered_482() {
    let steps = [
        Ask("INVITE", "1", 1, ""),
        MayHear("100"),
        Hear("200", ""),
        Ask("INVITE", "2", 1, ""),
        MayHear("200"),
        MayHear("100"),
        Hear("482", ""),
        Ask("ACK", "2", 1, ""),
        MayHear("200"),
        Hear("BYE", ""),
        Say("200 OK", "", "", ""),
    ];
    play("merged", false, &USUAL, &steps, Some(Cause::TimedOut));
}

/// Acknowledged provisional answers, and offers by UPDATE.
fn early() -> Ours {
    Ours {
        adjust: |mut config| {
            config.control.reliability = Reliability::Supported;
            config.control.reoffer = Reoffer::Update;
            config
        },
        ..USUAL
    }
}

#[test]
fn a_caller_offers_anew_in_its_prack_and_in_an_update_before_we_answer() {
    let ours = Ours {
        manners: Manners {
            rings: Some(Duration::from_secs(2)),
            ..USUAL.manners
        },
        ..early()
    };
    let steps = [
        Ask(
            "INVITE",
            "i",
            1,
            "Require: 100rel\nAllow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE\n",
        ),
        MayHear("100"),
        Hear("183", "RSeq: 1.*m=audio"),
        Offer("PRACK", "p", 2, "RAck: 1 1 INVITE\n"),
        Hear("200", "2 PRACK.*m=audio"),
        Offer("UPDATE", "u", 3, ""),
        Hear("200", "3 UPDATE.*m=audio"),
        Hear("200", "1 INVITE"),
        Ask("ACK", "a", 1, ""),
        Ask("BYE", "b", 4, ""),
        Hear("200", ""),
    ];
    play("early-caller", false, &ours, &steps, Some(Cause::Bye));
}

/// A call of ours: its answer in a 183 is acknowledged, this happens, and it is answered and hung up.
fn rung(meanwhile: [Step; 2]) -> Vec<Step> {
    let ringing = [
        HearInvite,
        Say(
            "183 Session Progress",
            ";tag=a",
            "Require: 100rel\nRSeq: 9\nAllow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE\n",
            SDP,
        ),
        Hear("PRACK", "RAck: 9 1 INVITE"),
        Say("200 OK", "", "", ""),
    ];
    let answered = [
        SayLate("200 OK", ";tag=a", ""),
        Hear("ACK", ""),
        Hear("BYE", ""),
        Say("200 OK", "", "", ""),
    ];
    ringing.into_iter().chain(meanwhile).chain(answered).collect()
}

#[test]
fn a_callee_offers_anew_before_it_answers() {
    let steps = rung([OfferAsCallee("UPDATE", 1), Hear("200", "1 UPDATE.*m=audio")]);
    play("early-callee", true, &early(), &steps, Some(Cause::Bye));
}

#[test]
fn we_offer_anew_before_the_callee_answers() {
    let ours = Ours {
        manners: Manners {
            reoffers_early: true,
            ..USUAL.manners
        },
        ..early()
    };
    let steps = rung([Hear("UPDATE", "m=audio"), Say("200 OK", "", "", SDP)]);
    play("early-ours", true, &ours, &steps, Some(Cause::Bye));
}
