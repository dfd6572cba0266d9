//! Media before the callee answers: between two gateways, and with a caller that offers nothing.

use crate::bench::*;
use crate::raw::{PCMA, Raw, body, sdp};
use siprtc_core::media::Direction;
use siprtc_core::sip::{Method, Route};
use siprtc_core::{Cause, Fault};
use siprtc_gateway::{Answer, AnswerEarly, CallEventKind, ChangeMedia, MediaPlan, Refuse, Reliability, Side};

/// With an acknowledged 183, and with one that is not.
const BOTH: [Reliability; 2] = [Reliability::Supported, Reliability::Off];

fn relying(reliability: Reliability) -> Setup {
    Setup {
        reliability: [Reliability::Supported, reliability],
        ..Setup::default()
    }
}

async fn hears_early(alice: &mut Phone) {
    alice
        .until(|kind| {
            matches!(
                kind,
                CallEventKind::Progress {
                    status: 183,
                    early_media: true
                }
            )
        })
        .await;
    alice
        .until(|kind| matches!(kind, CallEventKind::FirstPacket { inbound: true }))
        .await;
}

#[test]
fn the_caller_hears_the_callee_before_the_call_is_answered() {
    for reliability in BOTH {
        set_up(relying(reliability), |mut alice, mut bob| async move {
            let calling = alice.dial(&bob).await;
            let called = bob.incoming().await;
            bob.answer_early(called).await;
            hears_early(&mut alice).await;
            let media = MediaPlan::default();
            let again = bob.tell(AnswerEarly { call: called, media }).await;
            assert_eq!(again.unwrap_err().fault(), Fault::ApiMisuse);
            bob.answer(called).await;
            alice.confirmed().await;
            let renegotiated = bob
                .before_confirmed(|kind| matches!(kind, CallEventKind::Negotiated(_)))
                .await;
            assert_eq!(renegotiated, 1, "by the 183, and by nothing after it");
            assert_eq!(alice.network.open_peers(), 2);
            alice.hang_up(calling).await;
            assert!(alice.over().await.is_ok() && bob.over().await.is_ok());
            assert_eq!(alice.network.open_peers(), 0);
        });
    }
}

#[test]
fn the_caller_may_give_up_while_it_hears_the_callee() {
    for reliability in BOTH {
        set_up(relying(reliability), |mut alice, mut bob| async move {
            let calling = alice.dial(&bob).await;
            let called = bob.incoming().await;
            bob.answer_early(called).await;
            hears_early(&mut alice).await;
            alice.hang_up(calling).await;
            let ending = bob.over().await.unwrap_err();
            assert_eq!((ending.cause, ending.by), (Cause::Cancelled, Side::Remote));
            assert_eq!(alice.over().await.unwrap_err().cause, Cause::Cancelled);
            assert_eq!(alice.network.open_peers(), 0);
            bob.is_silent().await;
        });
    }
}

#[test]
fn the_callee_may_refuse_after_it_was_heard() {
    for reliability in BOTH {
        set_up(relying(reliability), |mut alice, mut bob| async move {
            alice.dial(&bob).await;
            let call = bob.incoming().await;
            bob.answer_early(call).await;
            hears_early(&mut alice).await;
            bob.tell(Refuse { call, status: 486 }).await.unwrap();
            assert_eq!(alice.over().await.unwrap_err().status, Some(486));
            assert_eq!(bob.over().await.unwrap_err().cause, Cause::Busy);
            assert_eq!(alice.network.open_peers(), 0);
        });
    }
}

#[test]
fn a_callee_that_answers_at_once_after_its_183_answers_once() {
    for reliability in BOTH {
        set_up(relying(reliability), |mut alice, mut bob| async move {
            alice.dial(&bob).await;
            let call = bob.incoming().await;
            bob.answer_early(call).await;
            // Not before the 183 is acknowledged, where it is to be.
            bob.answer(call).await;
            alice.confirmed().await;
            bob.confirmed().await;
            assert_eq!(alice.network.open_peers(), 2);
        });
    }
}

#[test]
fn an_invite_without_an_offer_is_offered_something_in_the_183() {
    alone(|mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        let invite = raw.invite_offerless(&alice, &[("Supported", "100rel")]).await;
        let call = alice.incoming().await;
        alice.answer_early(call).await;
        raw.sink.expect_response(100).await;
        raw.sink.expect_response(180).await;
        let (_, progress) = raw.sink.expect_response(183).await;
        assert!(body(&progress).contains("a=setup:actpass"));
        raw.enter_as_caller(&invite, &progress);
        let mut prack = raw.within(Method::Prack, Some(sdp(1, PCMA)));
        let rseq = progress.headers.value("RSeq").unwrap();
        prack
            .headers
            .push("RAck", format!("{rseq} {} INVITE", raw.sequence - 1));
        let tx = raw.ids.mint();
        raw.stack
            .send_request(tx, prack, Route::by_request())
            .await
            .unwrap();
        raw.sink.expect_response(200).await;
        alice
            .until(|kind| matches!(kind, CallEventKind::Negotiated(_)))
            .await;
        alice.answer(call).await;
        let (_, accepted) = raw.sink.expect_response(200).await;
        assert!(accepted.body.is_empty(), "all was said before");
        // An ACK has the number of its INVITE.
        raw.sequence -= 1;
        raw.ack(None).await;
        alice.confirmed().await;
        assert_eq!(alice.network.open_peers(), 1);
    });
}

#[test]
fn an_invite_without_an_offer_whose_caller_acknowledges_nothing_has_no_early_media() {
    alone(|mut alice, stack, sink| async move {
        let mut raw = Raw::new(stack, sink);
        raw.invite_offerless(&alice, &[]).await;
        let call = alice.incoming().await;
        let media = MediaPlan::default();
        let error = alice.tell(AnswerEarly { call, media }).await.unwrap_err();
        assert_eq!(error.fault(), Fault::PeerIncompatible);
        alice.answer(call).await;
        for status in [100, 180, 200] {
            raw.sink.expect_response(status).await;
        }
    });
}

/// Bob says something, and hears nothing.
async fn announces(alice: &mut Phone, bob: &mut Phone) -> siprtc_core::CallId {
    alice.dial(bob).await;
    let call = bob.incoming().await;
    let media = MediaPlan {
        direction: Direction::SendOnly,
        ..MediaPlan::default()
    };
    bob.tell(AnswerEarly { call, media }).await.unwrap();
    hears_early(alice).await;
    call
}

fn flows(direction: Direction) -> impl Fn(&CallEventKind) -> bool {
    move |kind| matches!(kind, CallEventKind::Negotiated(audio) if audio.direction == direction)
}

fn has_changed(kind: &CallEventKind) -> bool {
    matches!(kind, CallEventKind::MediaChanged)
}

#[test]
fn what_was_announced_one_way_is_answered_both_ways() {
    for reliability in BOTH {
        set_up(relying(reliability), |mut alice, mut bob| async move {
            let call = announces(&mut alice, &mut bob).await;
            let media = Some(MediaPlan::default());
            bob.tell(Answer { call, media }).await.unwrap();
            alice.confirmed().await;
            alice.until(flows(Direction::SendRecv)).await;
            bob.until(has_changed).await;
            bob.until(|kind| matches!(kind, CallEventKind::FirstPacket { inbound: true }))
                .await;
            // Once: another answer changes nothing of a call that is answered.
            let media = Some(MediaPlan::default());
            let again = bob.tell(Answer { call, media }).await;
            assert_eq!(again.unwrap_err().fault(), Fault::ApiMisuse);
            assert_eq!(alice.network.open_peers(), 2);
        });
    }
}

#[test]
fn what_was_announced_one_way_goes_both_ways_before_the_answer_where_the_caller_takes_an_update() {
    for reliability in BOTH {
        set_up(relying(reliability), |mut alice, mut bob| async move {
            let call = announces(&mut alice, &mut bob).await;
            let change = ChangeMedia {
                call,
                codecs: None,
                direction: Some(Direction::SendRecv),
                video: None,
            };
            let changed = bob.tell(change).await;
            if reliability == Reliability::Off {
                assert_eq!(changed.unwrap_err().fault(), Fault::ApiMisuse);
                return;
            }
            bob.until(has_changed).await;
            alice.until(flows(Direction::SendRecv)).await;
            bob.answer(call).await;
            alice.confirmed().await;
            let renegotiated = bob
                .before_confirmed(|kind| matches!(kind, CallEventKind::Negotiated(_)))
                .await;
            assert_eq!(renegotiated, 0, "all was said before");
        });
    }
}
