//! Calls between two gateways over a wire that loses, copies, delays and reorders: each seed is another wire.

use crate::bench::*;
use crate::weather::{Broken, Weather, pair};
use siprtc_core::CallId;
use siprtc_core::media::Direction;
use siprtc_core::sip::{Headers, SipUri};
use siprtc_gateway::{
    AcceptReferral, Answer, AnswerEarly, AskForCall, CallEventKind, ChangeMedia, GatewayEvent, Hold,
    MediaPlan, ReferralEvent, Reliability, Side, TransferTo,
};
use std::time::Duration;

/// Of each story.
const SEEDS: u64 = 16;

/// Retransmissions bring everything over in the end.
const ROUGH: Weather = Weather {
    loss: 0.2,
    copies: 0.15,
    delay: 400,
};

/// How long a person waits before the same wish is said again.
const AGAIN: Duration = Duration::from_secs(3);

/// Plays a story over each wire, and has its rules kept.
fn over_each_wire<F: Future<Output = ()>>(story: impl Fn(Phone, Phone) -> F) {
    for seed in 0..SEEDS {
        let setup = Setup {
            reliability: [Reliability::Supported; 2],
            ..Setup::default()
        };
        println!("seed {seed}");
        let broken = Broken::default();
        set_up_over(setup, |sinks| pair(seed, ROUGH, sinks, broken.clone()), &story);
        assert_eq!(*broken.lock().unwrap(), [""; 0]);
    }
}

/// Bob speaks, Alice hears it, and nobody has answered.
async fn speaking(alice: &mut Phone, bob: &mut Phone, media: MediaPlan) -> [CallId; 2] {
    let calling = alice.dial(bob).await;
    let call = bob.incoming().await;
    bob.tell(AnswerEarly { call, media }).await.unwrap();
    let is_heard = |kind: &CallEventKind| matches!(kind, CallEventKind::FirstPacket { inbound: true });
    alice.until(is_heard).await;
    [calling, call]
}

/// Wants it until it is so: as long as the 183 is not acknowledged it is an error, and where both want something at once one is refused.
async fn hold(phone: &mut Phone, call: CallId, held: bool) {
    let plays_on = false;
    loop {
        if phone.tell(Hold { call, held, plays_on }).await.is_ok() {
            let outcome = phone.until(|kind| {
                matches!(
                    kind,
                    CallEventKind::Held { by: Side::Local }
                        | CallEventKind::Resumed { by: Side::Local }
                        | CallEventKind::HoldRefused { .. }
                )
            });
            match outcome.await.kind {
                CallEventKind::Held { .. } if held => return,
                CallEventKind::Resumed { .. } if !held => return,
                _ => {}
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Bob answers, both know it, and whoever hangs up ends it on both sides with nothing left.
async fn answered_and_over(alice: &mut Phone, bob: &mut Phone, [calling, called]: [CallId; 2]) {
    alice.confirmed().await;
    bob.confirmed().await;
    alice.hang_up(calling).await;
    assert!(alice.over().await.is_ok(), "{calling}");
    assert!(bob.over().await.is_ok(), "{called}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(alice.network.open_peers(), 0);
    alice.ends_at_most_once().await;
    bob.ends_at_most_once().await;
}

#[test]
fn the_callee_offers_anew_before_it_answers() {
    over_each_wire(|mut alice, mut bob| async move {
        let calls = speaking(&mut alice, &mut bob, MediaPlan::default()).await;
        hold(&mut bob, calls[1], true).await;
        let is_held = |kind: &CallEventKind| matches!(kind, CallEventKind::Held { by: Side::Remote });
        alice.until(is_held).await;
        hold(&mut bob, calls[1], false).await;
        bob.answer(calls[1]).await;
        answered_and_over(&mut alice, &mut bob, calls).await;
    });
}

#[test]
fn the_caller_offers_anew_before_it_is_answered() {
    over_each_wire(|mut alice, mut bob| async move {
        let calls = speaking(&mut alice, &mut bob, MediaPlan::default()).await;
        hold(&mut alice, calls[0], true).await;
        let is_held = |kind: &CallEventKind| matches!(kind, CallEventKind::Held { by: Side::Remote });
        bob.until(is_held).await;
        hold(&mut alice, calls[0], false).await;
        bob.answer(calls[1]).await;
        answered_and_over(&mut alice, &mut bob, calls).await;
    });
}

/// Whose UPDATE comes first goes first; the other is said again until it is taken.
#[test]
fn both_offer_anew_at_once_before_the_answer_and_agree_in_the_end() {
    over_each_wire(|mut alice, mut bob| async move {
        let calls = speaking(&mut alice, &mut bob, MediaPlan::default()).await;
        tokio::join!(hold(&mut alice, calls[0], true), hold(&mut bob, calls[1], true));
        tokio::join!(hold(&mut alice, calls[0], false), hold(&mut bob, calls[1], false));
        bob.answer(calls[1]).await;
        answered_and_over(&mut alice, &mut bob, calls).await;
    });
}

/// The 200 waits for an UPDATE that is under way, and what is wanted beside the answer for the ACK.
#[test]
fn an_answer_in_the_midst_of_an_update_brings_what_both_wanted() {
    over_each_wire(|mut alice, mut bob| async move {
        let announced = MediaPlan {
            direction: Direction::SendOnly,
            ..MediaPlan::default()
        };
        let [calling, call] = speaking(&mut alice, &mut bob, announced).await;
        // Taken or not, by the time of the answer or not.
        let change = ChangeMedia {
            call,
            codecs: None,
            direction: Some(Direction::SendRecv),
            video: None,
        };
        let _ = bob.tell(change).await;
        let media = Some(MediaPlan::default());
        bob.tell(Answer { call, media }).await.unwrap();
        let hears = |kind: &CallEventKind| matches!(kind, CallEventKind::FirstPacket { inbound: true });
        let is_confirmed = |kind: &CallEventKind| matches!(kind, CallEventKind::Confirmed);
        let mut missing = 2;
        while missing > 0 {
            bob.until(|kind| hears(kind) || is_confirmed(kind)).await;
            missing -= 1;
        }
        alice.confirmed().await;
        bob.hang_up(call).await;
        assert!(alice.over().await.is_ok(), "{calling}");
        assert!(bob.over().await.is_ok(), "{call}");
    });
}

/// Alice asks Bob to call her, and hears of that call from both ends.
#[test]
fn who_is_asked_for_a_call_makes_it_once_and_says_how_it_goes_in_order() {
    over_each_wire(|mut alice, mut bob| async move {
        let address = |phone: &Phone| SipUri::from_addr(phone.stack.listeners()[0].bound);
        let (referral, new) = (CallId::fresh(), CallId::fresh());
        let wish = AskForCall {
            referral,
            target: address(&bob).with_user("bob").into(),
            to: TransferTo::Uri(address(&alice).with_user("alice")),
            news: true,
            headers: Headers::new(),
        };
        alice.tell(wish).await.unwrap();
        let asked = loop {
            if let GatewayEvent::Asked(asked) = bob.next_of_all().await {
                break asked.referral;
            }
        };
        let media = MediaPlan::default();
        let accepted = AcceptReferral {
            referral: asked,
            new,
            media,
        };
        bob.tell(accepted).await.unwrap();
        let (mut heard, mut call) = (Vec::new(), None);
        while call.is_none() || heard.last() != Some(&"succeeded".to_owned()) {
            match alice.next_of_all().await {
                GatewayEvent::Referral(id, event) => {
                    assert_eq!(id, referral);
                    heard.push(match event {
                        ReferralEvent::Accepted { tells: true } => "accepted".to_owned(),
                        ReferralEvent::Progress { status } => status.to_string(),
                        ReferralEvent::Succeeded => "succeeded".to_owned(),
                        other => panic!("{other:?} after {heard:?}"),
                    });
                }
                GatewayEvent::Call(event) => {
                    if let CallEventKind::Incoming { .. } = event.kind {
                        assert!(call.replace(event.call).is_none(), "it is called twice");
                        alice.answer(event.call).await;
                    }
                }
                _ => {}
            }
        }
        // The newest word is told, and those that it overtook are not.
        let whole = ["accepted", "100", "180", "succeeded"];
        let mut rest = whole.iter();
        let is_in_order = heard.iter().all(|word| rest.any(|known| known == word));
        assert!(is_in_order && heard[0] == "accepted", "{heard:?}");
        bob.confirmed().await;
        bob.hang_up(new).await;
        assert!(alice.over().await.is_ok() && bob.over().await.is_ok());
        alice.ends_at_most_once().await;
    });
}
