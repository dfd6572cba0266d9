//! Whole calls between two gateways.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod bench;
mod lossy;
mod mute;
mod progress;
mod raw;
mod trickle;
mod weather;

use bench::*;
use siprtc_core::media::Codec;
use siprtc_core::sip::Headers;
use siprtc_core::{CallId, Cause, Fault};
use siprtc_dialog_manager::{DialogEvent, DialogEventKind};
use siprtc_gateway::{
    Answer, CallEventKind, Dial, Hangup, MediaPlan, Refuse, SendDtmf, Shutdown, Side, Snapshot,
    machine::Ending,
};
use std::time::Duration;

fn summary(ending: &Ending) -> (Cause, Side, Option<u16>) {
    (ending.cause, ending.by, ending.status)
}

#[test]
fn a_call_tells_its_course_in_the_order_in_which_it_happens() {
    between(|mut alice, mut bob| async move {
        let calling = alice.dial(&bob).await;
        let called = bob.incoming().await;
        bob.answer(called).await;
        let mut course = Vec::new();
        loop {
            let event = alice.next().await;
            assert_eq!(event.call, calling);
            let word = format!("{:?}", event.kind);
            let word: String = word.chars().take_while(|c| c.is_alphanumeric()).collect();
            if matches!(event.kind, CallEventKind::Confirmed) {
                break;
            }
            course.push(word);
        }
        let signalling: Vec<&str> = course
            .iter()
            .map(String::as_str)
            .filter(|word| ["Signalling", "Progress", "Accepted", "Negotiated", "Confirmed"].contains(word))
            .collect();
        assert_eq!(signalling, ["Signalling", "Progress", "Accepted", "Negotiated"]);
    });
}

#[test]
fn a_bye_of_the_caller_ends_both_sides_and_closes_both_media_peers() {
    between(|mut alice, mut bob| async move {
        let (calling, _) = connect(&mut alice, &mut bob).await;
        assert_eq!(alice.network.open_peers(), 2);
        alice.hang_up(calling).await;
        assert_eq!(
            summary(&alice.over().await.unwrap()),
            (Cause::Bye, Side::Local, None)
        );
        let ending = bob.over().await.unwrap();
        assert_eq!(summary(&ending), (Cause::Bye, Side::Remote, None));
        assert!(ending.established && ending.stats.is_some());
        assert_eq!(alice.network.open_peers(), 0);
        alice.is_silent().await;
        bob.is_silent().await;
        // The call is forgotten.
        assert_eq!(
            alice.tell(Hangup { call: calling }).await.unwrap_err().fault(),
            Fault::ApiMisuse
        );
    });
}

#[test]
fn a_bye_of_the_callee_ends_both_sides() {
    between(|mut alice, mut bob| async move {
        let (_, called) = connect(&mut alice, &mut bob).await;
        bob.hang_up(called).await;
        assert_eq!(
            summary(&bob.over().await.unwrap()),
            (Cause::Bye, Side::Local, None)
        );
        assert_eq!(
            summary(&alice.over().await.unwrap()),
            (Cause::Bye, Side::Remote, None)
        );
    });
}

#[test]
fn both_may_hang_up_at_once() {
    between(|mut alice, mut bob| async move {
        let (calling, called) = connect(&mut alice, &mut bob).await;
        let (one, other) = tokio::join!(
            alice.tell(Hangup { call: calling }),
            bob.tell(Hangup { call: called })
        );
        one.and(other).unwrap();
        assert_eq!(alice.over().await.unwrap().cause, Cause::Bye);
        assert_eq!(bob.over().await.unwrap().cause, Cause::Bye);
        alice.is_silent().await;
    });
}

#[test]
fn audio_flows_and_digits_arrive() {
    between(|mut alice, mut bob| async move {
        let (calling, _) = connect(&mut alice, &mut bob).await;
        bob.until(|kind| matches!(kind, CallEventKind::FirstPacket { inbound: true }))
            .await;
        let dtmf = SendDtmf {
            call: calling,
            digits: "7".into(),
            duration: Duration::from_millis(100),
        };
        alice.tell(dtmf).await.unwrap();
        let digit = bob.until(|kind| matches!(kind, CallEventKind::Dtmf { .. })).await;
        assert!(matches!(digit.kind, CallEventKind::Dtmf { digit: '7', .. }));
        let stats = alice
            .gateway
            .send(Snapshot { call: calling })
            .await
            .unwrap()
            .unwrap();
        assert!(stats.transport.packets_sent > 0 && stats.transport.packets_received > 0);
    });
}

#[test]
fn a_refusal_reaches_the_caller_with_its_status() {
    between(|mut alice, mut bob| async move {
        alice.dial(&bob).await;
        let call = bob.incoming().await;
        let nonsense = bob.tell(Refuse { call, status: 200 }).await.unwrap_err();
        assert_eq!(nonsense.fault(), Fault::ApiMisuse);
        bob.tell(Refuse { call, status: 486 }).await.unwrap();
        assert_eq!(
            summary(&bob.over().await.unwrap_err()),
            (Cause::Busy, Side::Local, Some(486))
        );
        assert_eq!(
            summary(&alice.over().await.unwrap_err()),
            (Cause::Busy, Side::Remote, Some(486))
        );
        assert_eq!(alice.network.open_peers(), 0);
    });
}

#[test]
fn a_caller_may_give_up_while_it_rings() {
    between(|mut alice, mut bob| async move {
        let calling = alice.dial(&bob).await;
        let called = bob.incoming().await;
        alice
            .until(|kind| matches!(kind, CallEventKind::Progress { status: 180, .. }))
            .await;
        alice.hang_up(calling).await;
        assert_eq!(
            summary(&alice.over().await.unwrap_err()),
            (Cause::Cancelled, Side::Local, Some(487))
        );
        assert_eq!(
            summary(&bob.over().await.unwrap_err()),
            (Cause::Cancelled, Side::Remote, Some(487))
        );
        let late = bob
            .tell(Answer {
                call: called,
                media: Some(MediaPlan::default()),
            })
            .await;
        assert_eq!(late.unwrap_err().fault(), Fault::ApiMisuse);
        assert_eq!(alice.network.open_peers(), 0);
    });
}

#[test]
fn a_caller_may_give_up_before_the_invite_is_out() {
    between(|mut alice, mut bob| async move {
        let calling = alice.dial(&bob).await;
        alice.hang_up(calling).await;
        assert_eq!(
            summary(&alice.over().await.unwrap_err()),
            (Cause::Cancelled, Side::Local, None)
        );
        bob.is_silent().await;
        assert_eq!(alice.network.open_peers(), 0);
    });
}

/// Lets the others work; every now and then all that they can, until they wait for time to pass.
async fn turns(count: u32) {
    for turn in 0..count {
        match turn % 10 {
            9 => tokio::time::sleep(Duration::from_millis(1)).await,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// At whatever moment of a call's beginning somebody hangs up: both calls end, nothing is said after their end, and no
/// media peer is left.
#[test]
fn a_hangup_at_any_moment_of_the_beginning_ends_everything() {
    let patience = || tokio::time::sleep(Duration::from_secs(30));
    let (mut answered, mut unanswered) = (0, 0);
    for moment in 0..60 {
        between(|mut alice, mut bob| async move {
            let calling = alice.dial(&bob).await;
            turns(moment).await;
            alice.hang_up(calling).await;
            alice.until_over().await;
            patience().await;
            bob.ends_at_most_once().await;
            assert_eq!(alice.network.open_peers(), 0, "hung up after {moment} turns");
            alice.is_silent().await;
        });
        let talked = between(|mut alice, mut bob| async move {
            alice.dial(&bob).await;
            let called = bob.incoming().await;
            bob.answer(called).await;
            turns(moment).await;
            bob.hang_up(called).await;
            let over = bob.over().await;
            alice.until_over().await;
            assert_eq!(alice.network.open_peers(), 0, "hung up after {moment} turns");
            alice.is_silent().await;
            bob.is_silent().await;
            over.is_ok()
        });
        if talked { answered += 1 } else { unanswered += 1 }
    }
    // The moments span the whole of the beginning.
    assert!(
        answered > 0 && unanswered > 0,
        "{answered} answered, {unanswered} not"
    );
}

#[test]
fn nobody_answers_for_ever() {
    between(|mut alice, mut bob| async move {
        alice.dial(&bob).await;
        bob.incoming().await;
        // Both run out of patience in the same moment: whoever is first ends it.
        let causes = [bob.over().await, alice.over().await].map(|over| over.unwrap_err().cause);
        assert!(causes.contains(&Cause::NoAnswer), "{causes:?}");
    });
}

#[test]
fn an_offer_without_a_codec_in_common_is_refused_before_it_rings() {
    let setup = Setup {
        alice: vec![Codec::Pcma],
        bob: vec![Codec::Opus],
        ..Setup::default()
    };
    set_up(setup, |mut alice, mut bob| async move {
        alice.dial(&bob).await;
        assert_eq!(
            summary(&alice.over().await.unwrap_err()),
            (Cause::IncompatibleMedia, Side::Remote, Some(488))
        );
        loop {
            let event = bob.next().await;
            assert!(!matches!(event.kind, CallEventKind::Incoming { .. }));
            if let CallEventKind::Failed(ending) = event.kind {
                assert_eq!(
                    summary(&ending),
                    (Cause::IncompatibleMedia, Side::Local, Some(488))
                );
                return;
            }
        }
    });
}

#[test]
fn any_one_codec_in_common_is_enough() {
    for codec in Codec::ALL {
        let setup = Setup {
            alice: vec![codec],
            ..Setup::default()
        };
        set_up(setup, |mut alice, mut bob| async move {
            connect(&mut alice, &mut bob).await;
        });
    }
}

#[test]
fn a_callee_whose_media_engine_fails_answers_500() {
    between(|mut alice, mut bob| async move {
        alice.dial(&bob).await;
        let call = bob.incoming().await;
        bob.engine.refuse_next_peer("no sockets left");
        bob.answer(call).await;
        let ending = bob.over().await.unwrap_err();
        assert_eq!(summary(&ending), (Cause::Internal, Side::Local, Some(500)));
        assert!(ending.sentence.unwrap().contains("no sockets left"));
        assert_eq!(alice.over().await.unwrap_err().status, Some(500));
    });
}

#[test]
fn a_caller_whose_media_engine_fails_does_not_call() {
    between(|mut alice, mut bob| async move {
        alice.engine.refuse_next_peer("no sockets left");
        alice.dial(&bob).await;
        assert_eq!(alice.over().await.unwrap_err().cause, Cause::Internal);
        bob.is_silent().await;
    });
}

#[test]
fn one_call_more_than_allowed_hears_486() {
    let setup = Setup {
        max_calls: [2, 1],
        ..Setup::default()
    };
    set_up(setup, |mut alice, mut bob| async move {
        let (calling, _) = connect(&mut alice, &mut bob).await;
        alice.dial(&bob).await;
        assert_eq!(
            summary(&alice.over().await.unwrap_err()),
            (Cause::Busy, Side::Remote, Some(486))
        );
        let target: siprtc_core::sip::Uri = "sip:alice@example.com".parse().unwrap();
        let one_more = Dial {
            call: CallId::fresh(),
            target,
            media: MediaPlan::default(),
            headers: Headers::new(),
        };
        assert_eq!(bob.tell(one_more).await.unwrap_err().fault(), Fault::ApiMisuse);
        // Room is made by the end of a call.
        alice.hang_up(calling).await;
        bob.over().await.unwrap();
        alice.over().await.unwrap();
        connect(&mut alice, &mut bob).await;
    });
}

#[test]
fn two_calls_at_once_do_not_mix() {
    between(|mut alice, mut bob| async move {
        let (first, first_there) = connect(&mut alice, &mut bob).await;
        let (second, second_there) = connect(&mut alice, &mut bob).await;
        assert_eq!(alice.network.open_peers(), 4);
        alice.hang_up(first).await;
        let over = alice.until_over().await;
        assert_eq!((over, bob.until_over().await), (first, first_there));
        assert_eq!(alice.network.open_peers(), 2);
        bob.hang_up(second_there).await;
        assert_eq!(
            (alice.until_over().await, bob.until_over().await),
            (second, second_there)
        );
    });
}

#[test]
fn a_shutdown_hangs_everything_up_and_ends_the_gateway() {
    between(|mut alice, mut bob| async move {
        connect(&mut alice, &mut bob).await;
        alice.dial(&bob).await;
        bob.incoming().await;
        alice
            .gateway
            .send(Shutdown {
                grace: Duration::from_secs(5),
            })
            .await
            .unwrap();
        for phone in [&mut alice, &mut bob] {
            let mut endings = [phone.over().await, phone.over().await];
            endings.sort_by_key(Result::is_err);
            let [Ok(talked), Err(rang)] = endings else {
                panic!("{endings:?}")
            };
            assert_eq!((talked.cause, rang.cause), (Cause::Bye, Cause::Cancelled));
        }
        assert_eq!(alice.network.open_peers(), 0);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!alice.gateway.connected());
        // Whoever calls now finds nobody.
        bob.dial(&alice).await;
        assert_eq!(bob.over().await.unwrap_err().status, Some(480));
    });
}

#[test]
fn a_shutdown_that_cannot_wait_ends_every_call_all_the_same() {
    between(|mut alice, mut bob| async move {
        connect(&mut alice, &mut bob).await;
        bob.stack.shutdown(Duration::ZERO).await;
        alice
            .gateway
            .send(Shutdown {
                grace: Duration::from_millis(10),
            })
            .await
            .unwrap();
        let ending = alice.over().await.unwrap();
        assert_eq!(summary(&ending), (Cause::Bye, Side::Local, None));
    });
}

#[test]
fn a_peer_that_has_vanished_does_not_keep_a_call() {
    between(|mut alice, mut bob| async move {
        let (calling, _) = connect(&mut alice, &mut bob).await;
        bob.stack.shutdown(Duration::ZERO).await;
        let begin = tokio::time::Instant::now();
        alice.hang_up(calling).await;
        assert_eq!(alice.over().await.unwrap().cause, Cause::Bye);
        assert!(begin.elapsed() <= Duration::from_secs(3));
    });
}

#[test]
fn a_word_about_a_call_that_is_forgotten_is_not_passed_on() {
    between(|mut alice, _| async move {
        let kind = DialogEventKind::Started {
            sip_call_id: "late".into(),
        };
        alice
            .gateway
            .send(DialogEvent {
                call: CallId::fresh(),
                kind,
            })
            .await
            .unwrap();
        alice.is_silent().await;
    });
}

#[test]
fn commands_that_fit_no_call_say_so() {
    between(|mut alice, mut bob| async move {
        let (calling, called) = connect(&mut alice, &mut bob).await;
        let media = MediaPlan::default;
        for error in [
            alice
                .tell(Answer {
                    call: calling,
                    media: Some(media()),
                })
                .await
                .unwrap_err(),
            bob.tell(Answer {
                call: called,
                media: Some(media()),
            })
            .await
            .unwrap_err(),
            bob.tell(Refuse {
                call: called,
                status: 486,
            })
            .await
            .unwrap_err(),
            alice
                .tell(Hangup {
                    call: CallId::fresh(),
                })
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.fault(), Fault::ApiMisuse, "{error}");
        }
        bob.hang_up(called).await;
        assert_eq!(
            summary(&bob.over().await.unwrap()),
            (Cause::Bye, Side::Local, None)
        );
    });
}
