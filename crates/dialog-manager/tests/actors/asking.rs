//! One manager asks another for a call, over a wire in memory.

use crate::phone::*;
use actix::prelude::*;
use siprtc_core::CallId;
use siprtc_core::sip::{Headers, SipUri};
use siprtc_dialog_manager::*;
use siprtc_testkit::sip::Wire;
use std::future::Future;

/// Bob calls whom he is told to, Alice tells him.
fn between<F: Future>(scenario: impl FnOnce(Phone, Phone) -> F) -> F::Output {
    System::new().block_on(async {
        tokio::time::pause();
        let (a, b) = (Late::default(), Late::default());
        let (alice, bob) = Wire::pair(sink(&a), sink(&b));
        let bob = phone_as("bob", bob, &b, |config| config.control.referrals = Admitted::All);
        scenario(phone("alice", alice, &a, 1), bob).await
    })
}

async fn ask(alice: &Phone, bob: &Phone, news: bool) -> CallId {
    let referral = CallId::fresh();
    let target = SipUri::from_addr(bob.stack.listeners()[0].bound).with_user("bob");
    let wish = SendRefer {
        referral,
        target: target.into(),
        to: ReferTo::Uri("sip:carol@example.com".parse().unwrap()),
        news,
        headers: Headers::new(),
    };
    alice.tell(wish).await.unwrap();
    referral
}

async fn asked(bob: &mut Phone) -> CallId {
    let event = bob.event().await;
    let DialogEventKind::Asked(referral) = event.kind else {
        panic!("expected Asked, got {event:?}");
    };
    assert_eq!(referral.target.to_string(), "sip:carol@example.com");
    event.call
}

async fn told(alice: &mut Phone, referral: CallId) -> ReferralNews {
    let event = alice.event().await;
    match event.kind {
        DialogEventKind::ReferralNews(news) if event.call == referral => news,
        _ => panic!("expected news, got {event:?}"),
    }
}

async fn report(bob: &Phone, call: CallId, status: u16) {
    bob.tell(ReportReferral { call, status }).await.unwrap();
}

#[test]
fn who_asks_for_a_call_hears_each_word_of_it_in_its_order() {
    between(|mut alice, mut bob| async move {
        let referral = ask(&alice, &bob, true).await;
        let call = asked(&mut bob).await;
        assert_eq!(
            told(&mut alice, referral).await,
            ReferralNews::Accepted { tells: true }
        );
        for status in [100, 180, 200] {
            report(&bob, call, status).await;
            assert_eq!(
                told(&mut alice, referral).await,
                ReferralNews::Answered { status }
            );
        }
        let unknown = alice
            .tell(Unsubscribe {
                subscription: referral,
            })
            .await;
        assert!(unknown.is_err(), "it is over");
    });
}

#[test]
fn a_wish_that_nobody_answers_is_declined_and_a_long_ringing_is_heard_to_its_end() {
    between(|mut alice, mut bob| async move {
        let referral = ask(&alice, &bob, true).await;
        asked(&mut bob).await;
        let accepted = ReferralNews::Accepted { tells: true };
        assert_eq!(told(&mut alice, referral).await, accepted);
        assert_eq!(
            told(&mut alice, referral).await,
            ReferralNews::Answered { status: 100 }
        );
        assert_eq!(
            told(&mut alice, referral).await,
            ReferralNews::Answered { status: 603 }
        );
        assert_eq!(bob.kind().await, DialogEventKind::ReferralLapsed);

        let referral = ask(&alice, &bob, true).await;
        let call = asked(&mut bob).await;
        for news in [accepted, ReferralNews::Answered { status: 100 }] {
            assert_eq!(told(&mut alice, referral).await, news);
        }
        report(&bob, call, 180).await;
        assert_eq!(
            told(&mut alice, referral).await,
            ReferralNews::Answered { status: 180 }
        );
        // Longer than a subscription of Bob's lasts: Alice renews it, and hears nothing twice.
        tokio::time::sleep(std::time::Duration::from_secs(300)).await;
        report(&bob, call, 486).await;
        assert_eq!(
            told(&mut alice, referral).await,
            ReferralNews::Answered { status: 486 }
        );
    });
}

#[test]
fn no_news_are_told_where_none_are_wanted_and_a_stranger_is_refused() {
    between(|mut alice, mut bob| async move {
        let referral = ask(&alice, &bob, false).await;
        let call = asked(&mut bob).await;
        report(&bob, call, 200).await;
        assert_eq!(
            told(&mut alice, referral).await,
            ReferralNews::Accepted { tells: false }
        );
        // Alice takes no such wishes.
        let referral = ask(&bob, &alice, true).await;
        assert_eq!(
            told(&mut bob, referral).await,
            ReferralNews::Refused {
                status: 403,
                contacts: Vec::new(),
                retry_after: None
            }
        );
    });
}
