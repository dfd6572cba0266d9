//! Two managers that trickle (RFC 8840): over a wire in memory, and over real sockets on loopback.

use crate::ezk::stack;
use crate::phone::*;
use actix::prelude::*;
use siprtc_core::CallId;
use siprtc_core::sip::SipStack;
use siprtc_dialog_manager::*;
use siprtc_testkit::sip::Wire;
use std::sync::Arc;

const PACKAGE: &str = "trickle-ice";
const SDPFRAG: &str = "application/trickle-ice-sdpfrag";

fn trickling(name: &str, stack: Arc<dyn SipStack>, late: &Late) -> Phone {
    phone_as(name, stack, late, |config| config.trickle_ice = true)
}

async fn send(phone: &Phone, call: CallId, body: &str) {
    let info = SendInfo {
        call,
        package: PACKAGE.to_owned(),
        content_type: SDPFRAG.to_owned(),
        body: body.to_owned(),
    };
    phone.tell(info).await.unwrap();
}

async fn received(phone: &mut Phone, wanted: &str) {
    match phone.kind().await {
        DialogEventKind::Info {
            package,
            content_type,
            body,
            ..
        } => {
            assert_eq!(
                (package.as_str(), content_type.as_str(), body.as_str()),
                (PACKAGE, SDPFRAG, wanted)
            );
        }
        other => panic!("expected Info, got {other:?}"),
    }
}

async fn supports(phone: &mut Phone) -> (bool, bool) {
    match phone.kind().await {
        DialogEventKind::PeerSupports { option_tag, info, .. } => (option_tag, info),
        other => panic!("expected PeerSupports, got {other:?}"),
    }
}

/// Candidates both ways while it rings, and more when it is answered.
async fn trickle(mut alice: Phone, mut bob: Phone) {
    let call = alice.invite(&bob.stack).await;
    let answering = bob.incoming().await;
    assert_eq!(supports(&mut bob).await, (true, true));
    assert_eq!(alice.kind().await, DialogEventKind::Trying);
    let answer = Some(ANSWER.to_owned());
    bob.tell(Ring {
        call: answering,
        answer,
    })
    .await
    .unwrap();
    send(&bob, answering, "bob's").await;
    assert_eq!(supports(&mut alice).await, (true, true));
    assert!(matches!(
        alice.kind().await,
        DialogEventKind::Ringing { status: 183, .. }
    ));
    let known = DialogEventKind::ProgressConfirmed {
        sdp: None,
        takes_offers: true,
    };
    assert_eq!(bob.kind().await, known);
    send(&alice, call, "alice's").await;
    received(&mut bob, "alice's").await;
    received(&mut alice, "bob's").await;
    let sdp = ANSWER.to_owned();
    bob.tell(Accept { call: answering, sdp }).await.unwrap();
    assert!(matches!(alice.kind().await, DialogEventKind::Answered { .. }));
    assert_eq!(bob.kind().await, DialogEventKind::Confirmed { sdp: None });
    send(&alice, call, "alice's last").await;
    received(&mut bob, "alice's last").await;
    alice.tell(Hangup { call, reason: None }).await.unwrap();
    bob.ended().await;
    alice.ended().await;
}

#[test]
fn candidates_cross_a_wire_in_both_directions_while_it_rings() {
    System::new().block_on(async {
        tokio::time::pause();
        let (a, b) = (Late::default(), Late::default());
        let (alice, bob) = Wire::pair(sink(&a), sink(&b));
        trickle(trickling("alice", alice, &a), trickling("bob", bob, &b)).await;
    });
}

#[test]
fn candidates_cross_udp_in_both_directions_while_it_rings() {
    System::new().block_on(async {
        let (a, b) = (Late::default(), Late::default());
        let (alice, bob) = (stack(&a).await, stack(&b).await);
        trickle(trickling("alice", alice, &a), trickling("bob", bob, &b)).await;
    });
}

#[test]
fn a_peer_that_does_not_trickle_is_called_as_ever() {
    System::new().block_on(async {
        tokio::time::pause();
        let (a, b) = (Late::default(), Late::default());
        let (alice, bob) = Wire::pair(sink(&a), sink(&b));
        let (mut alice, mut bob) = (trickling("alice", alice, &a), phone("bob", bob, &b, 1));
        alice.invite(&bob.stack).await;
        let call = bob.incoming().await;
        let sdp = ANSWER.to_owned();
        bob.tell(Accept { call, sdp }).await.unwrap();
        assert_eq!(alice.kind().await, DialogEventKind::Trying);
        assert_eq!(supports(&mut alice).await, (false, false));
        assert!(matches!(alice.kind().await, DialogEventKind::Answered { .. }));
        assert_eq!(bob.kind().await, DialogEventKind::Confirmed { sdp: None });
    });
}
