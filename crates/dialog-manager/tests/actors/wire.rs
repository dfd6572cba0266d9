//! Two managers that call each other over a wire in memory, by tokio's paused clock.

use crate::phone::*;
use actix::prelude::*;
use siprtc_core::sip::Headers;
use siprtc_core::{CallId, Cause, Fault};
use siprtc_dialog_manager::*;
use siprtc_testkit::sip::Wire;
use std::future::Future;
use std::time::Duration;

/// Runs a scenario between Alice and Bob with time that passes only when everybody waits.
fn between<F: Future>(scenario: impl FnOnce(Phone, Phone) -> F) -> F::Output {
    System::new().block_on(async {
        tokio::time::pause();
        let (a, b) = (Late::default(), Late::default());
        let (alice, bob) = Wire::pair(sink(&a), sink(&b));
        scenario(phone("alice", alice, &a, 8), phone("bob", bob, &b, 1)).await
    })
}

#[test]
fn a_call_rings_is_answered_and_hung_up_by_the_caller() {
    between(|mut alice, mut bob| async move {
        let call = alice.invite(&bob.stack).await;
        let answering = bob.incoming().await;
        assert_eq!(alice.kind().await, DialogEventKind::Trying);
        bob.tell(Ring {
            call: answering,
            answer: None,
        })
        .await
        .unwrap();
        assert!(matches!(
            alice.kind().await,
            DialogEventKind::Ringing {
                status: 180,
                sdp: None,
                ..
            }
        ));
        bob.tell(Accept {
            call: answering,
            sdp: ANSWER.to_owned(),
        })
        .await
        .unwrap();
        assert!(matches!(alice.kind().await, DialogEventKind::Answered { .. }));
        assert_eq!(bob.kind().await, DialogEventKind::Confirmed { sdp: None });
        alice.tell(Hangup { call, reason: None }).await.unwrap();
        assert_eq!(bob.ended().await, (Cause::Bye, Side::Remote, None));
        assert_eq!(alice.ended().await, (Cause::Bye, Side::Local, None));
    });
}

#[test]
fn a_call_is_hung_up_by_the_callee() {
    between(|mut alice, mut bob| async move {
        let (_, answering) = connect(&mut alice, &mut bob).await;
        bob.tell(Hangup {
            call: answering,
            reason: None,
        })
        .await
        .unwrap();
        assert_eq!(alice.ended().await, (Cause::Bye, Side::Remote, None));
        assert_eq!(bob.ended().await, (Cause::Bye, Side::Local, None));
    });
}

#[test]
fn a_call_is_cancelled_while_it_rings() {
    between(|mut alice, mut bob| async move {
        let call = alice.invite(&bob.stack).await;
        let answering = bob.incoming().await;
        bob.tell(Ring {
            call: answering,
            answer: None,
        })
        .await
        .unwrap();
        alice.kind().await;
        alice.kind().await;
        alice.tell(Hangup { call, reason: None }).await.unwrap();
        assert_eq!(bob.ended().await, (Cause::Cancelled, Side::Remote, Some(487)));
        assert_eq!(alice.ended().await, (Cause::Cancelled, Side::Local, Some(487)));
    });
}

#[test]
fn a_second_call_to_a_busy_phone_is_refused() {
    between(|mut alice, mut bob| async move {
        let (_, answering) = connect(&mut alice, &mut bob).await;
        alice.invite(&bob.stack).await;
        assert_eq!(alice.ended().await, (Cause::Busy, Side::Remote, Some(486)));
        bob.tell(Hangup {
            call: answering,
            reason: None,
        })
        .await
        .unwrap();
        assert_eq!(alice.ended().await.0, Cause::Bye);
    });
}

#[test]
fn both_sides_offer_anew_within_a_call() {
    between(|mut alice, mut bob| async move {
        let (call, answering) = connect(&mut alice, &mut bob).await;
        alice
            .tell(Reinvite {
                call,
                offer: OFFER.to_owned(),
                early: None,
            })
            .await
            .unwrap();
        assert!(matches!(bob.kind().await, DialogEventKind::Offered { sdp: Some(sdp), .. } if sdp == OFFER));
        bob.tell(AcceptOffer {
            call: answering,
            sdp: ANSWER.to_owned(),
        })
        .await
        .unwrap();
        assert_eq!(
            alice.kind().await,
            DialogEventKind::OfferAnswered {
                sdp: Some(ANSWER.to_owned())
            }
        );
        assert_eq!(bob.kind().await, DialogEventKind::OfferConfirmed { sdp: None });
        bob.tell(Reinvite {
            call: answering,
            offer: OFFER.to_owned(),
            early: None,
        })
        .await
        .unwrap();
        assert!(
            matches!(alice.kind().await, DialogEventKind::Offered { sdp: Some(sdp), .. } if sdp == OFFER)
        );
        alice.tell(RejectOffer { call, status: 488 }).await.unwrap();
        assert_eq!(bob.kind().await, DialogEventKind::OfferRejected { status: 488 });
        alice.tell(Hangup { call, reason: None }).await.unwrap();
        assert_eq!(bob.ended().await.0, Cause::Bye);
    });
}

#[test]
fn offers_that_meet_are_both_answered_in_the_end() {
    between(|mut alice, mut bob| async move {
        let (call, answering) = connect(&mut alice, &mut bob).await;
        // Neither has seen the other's re-INVITE when it sends its own.
        let (ours, theirs) = tokio::join!(
            alice.tell(Reinvite {
                call,
                offer: OFFER.to_owned(),
                early: None,
            }),
            bob.tell(Reinvite {
                call: answering,
                offer: OFFER.to_owned(),
                early: None,
            })
        );
        ours.unwrap();
        theirs.unwrap();
        // Bob waits at most 2 s and Alice, who owns the Call-ID, at least 2.1 s: Bob's offer comes first, and Alice's
        // is withdrawn by it.
        assert_eq!(alice.kind().await, DialogEventKind::OfferRejected { status: 491 });
        assert!(matches!(alice.kind().await, DialogEventKind::Offered { .. }));
        alice
            .tell(AcceptOffer {
                call,
                sdp: ANSWER.to_owned(),
            })
            .await
            .unwrap();
        assert!(matches!(bob.kind().await, DialogEventKind::OfferAnswered { .. }));
        assert!(matches!(
            alice.kind().await,
            DialogEventKind::OfferConfirmed { .. }
        ));
    });
}

#[test]
fn a_call_that_nobody_answers_is_cancelled_by_the_clock() {
    between(|mut alice, mut bob| async move {
        alice.invite(&bob.stack).await;
        let answering = bob.incoming().await;
        bob.tell(Ring {
            call: answering,
            answer: None,
        })
        .await
        .unwrap();
        let begin = tokio::time::Instant::now();
        let bobs = bob.ended().await;
        assert_eq!(begin.elapsed().as_secs(), 180);
        // Both phones have the same patience; whoever is first, both say so.
        assert!([Cause::Cancelled, Cause::NoAnswer].contains(&bobs.0));
    });
}

#[test]
fn a_peer_that_is_gone_ends_our_call_in_time() {
    between(|mut alice, bob| async move {
        bob.stack.shutdown(Duration::ZERO).await;
        let begin = tokio::time::Instant::now();
        alice.invite(&bob.stack).await;
        assert_eq!(alice.ended().await, (Cause::TimedOut, Side::Local, None));
        assert_eq!(begin.elapsed().as_secs(), 32);
    });
}

#[test]
fn a_stack_that_refuses_a_message_ends_the_call_with_its_words() {
    between(|mut alice, bob| async move {
        alice.stack.shutdown(Duration::ZERO).await;
        alice.invite(&bob.stack).await;
        match alice.kind().await {
            DialogEventKind::Ended { cause, reason, .. } => {
                assert_eq!(cause, Cause::ConnectionFailed);
                assert!(reason.unwrap().contains("this end was shut down"));
            }
            other => panic!("expected Ended, got {other:?}"),
        }
    });
}

#[test]
fn terminate_hangs_everything_up() {
    between(|mut alice, mut bob| async move {
        connect(&mut alice, &mut bob).await;
        alice.tell(Terminate).await.unwrap();
        assert_eq!(bob.ended().await.0, Cause::Bye);
        assert_eq!(alice.ended().await.0, Cause::Bye);
        let call = CallId::fresh();
        let target = "sip:bob@192.0.2.2".parse().unwrap();
        let refused = alice
            .tell(Invite {
                call,
                target,
                offer: OFFER.to_owned(),
                headers: Headers::new(),
            })
            .await;
        assert_eq!(refused.unwrap_err().fault(), Fault::ApiMisuse);
    });
}

#[test]
fn the_calls_of_a_user_that_is_gone_are_hung_up() {
    between(|mut alice, mut bob| async move {
        let (_, answering) = connect(&mut alice, &mut bob).await;
        alice.listener.send(Leave).await.unwrap();
        // Alice's manager notices with the next event that it cannot tell.
        bob.tell(Reinvite {
            call: answering,
            offer: OFFER.to_owned(),
            early: None,
        })
        .await
        .unwrap();
        assert_eq!(bob.kind().await, DialogEventKind::OfferRejected { status: 487 });
        assert_eq!(bob.ended().await, (Cause::Bye, Side::Remote, None));
    });
}
