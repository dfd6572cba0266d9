//! Two managers that call each other over real sockets on loopback.

use crate::phone::*;
use actix::prelude::*;
use siprtc_core::Cause;
use siprtc_core::sip::{ListenerConfig, SipStack, StackConfig, Transport};
use siprtc_dialog_manager::*;
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn stack(late: &Late) -> Arc<dyn SipStack> {
    let bind = "127.0.0.1:0".parse().unwrap();
    let listeners = vec![ListenerConfig {
        transport: Transport::Udp,
        bind,
        advertise: None,
    }];
    let config = StackConfig {
        listeners,
        ..StackConfig::default()
    };
    siprtc_sip_ezk::factory()
        .start(config, sink(late))
        .await
        .expect("loopback can be bound")
}

#[test]
fn a_call_over_udp_is_answered_offered_anew_and_hung_up() {
    System::new().block_on(async {
        let (a, b) = (Late::default(), Late::default());
        let mut alice = phone("alice", stack(&a).await, &a, 8);
        let mut bob = phone("bob", stack(&b).await, &b, 1);
        let (call, answering) = connect(&mut alice, &mut bob).await;
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
        alice
            .tell(AcceptOffer {
                call,
                sdp: ANSWER.to_owned(),
            })
            .await
            .unwrap();
        assert_eq!(
            bob.kind().await,
            DialogEventKind::OfferAnswered {
                sdp: Some(ANSWER.to_owned())
            }
        );
        assert_eq!(alice.kind().await, DialogEventKind::OfferConfirmed { sdp: None });
        alice.tell(Hangup { call, reason: None }).await.unwrap();
        assert_eq!(bob.ended().await, (Cause::Bye, Side::Remote, None));
        assert_eq!(alice.ended().await, (Cause::Bye, Side::Local, None));
        alice.stack.shutdown(Duration::ZERO).await;
        bob.stack.shutdown(Duration::ZERO).await;
    });
}

#[test]
fn a_ringing_call_over_udp_is_cancelled() {
    System::new().block_on(async {
        let (a, b) = (Late::default(), Late::default());
        let mut alice = phone("alice", stack(&a).await, &a, 8);
        let mut bob = phone("bob", stack(&b).await, &b, 1);
        let call = alice.invite(&bob.stack).await;
        let answering = bob.incoming().await;
        bob.tell(Ring {
            call: answering,
            answer: None,
        })
        .await
        .unwrap();
        assert_eq!(alice.kind().await, DialogEventKind::Trying);
        assert!(matches!(
            alice.kind().await,
            DialogEventKind::Ringing { status: 180, .. }
        ));
        alice.tell(Hangup { call, reason: None }).await.unwrap();
        assert_eq!(bob.ended().await, (Cause::Cancelled, Side::Remote, Some(487)));
        assert_eq!(alice.ended().await, (Cause::Cancelled, Side::Local, Some(487)));
        alice.stack.shutdown(Duration::ZERO).await;
        bob.stack.shutdown(Duration::ZERO).await;
    });
}
