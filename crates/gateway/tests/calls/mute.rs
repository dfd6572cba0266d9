//! Silence in the place of the source.

use crate::bench::{Phone, between};
use siprtc_core::sip::{Headers, SipUri};
use siprtc_core::{CallId, Fault};
use siprtc_gateway::{Answer, Dial, MediaPlan, Mute};
use siprtc_media_session::{AudioSink, Sink, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Keeps the loudest sample.
#[derive(Default)]
struct Ear(AtomicU16);

impl AudioSink for Ear {
    fn write(&self, _: u32, frame: &[i16]) {
        let loudest = frame.iter().map(|sample| sample.unsigned_abs()).max();
        self.0.fetch_max(loudest.unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Ear {
    /// In the second after the next one, when what was on its way has been heard.
    async fn is_spoken_to(&self) -> bool {
        sleep(Duration::from_secs(1)).await;
        self.0.store(0, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        self.0.load(Ordering::Relaxed) > 1_000
    }
}

/// Alice calls Bob, and hears him with `ear`.
async fn dial(alice: &Phone, bob: &Phone, ear: &Arc<Ear>) {
    let target = SipUri::from_addr(bob.stack.listeners()[0].bound).with_user("bob");
    let media = MediaPlan {
        sink: Sink::Samples(Arc::clone(ear) as Arc<dyn AudioSink>),
        ..MediaPlan::default()
    };
    let dial = Dial {
        call: CallId::fresh(),
        target: target.into(),
        media,
        headers: Headers::new(),
    };
    alice.tell(dial).await.unwrap();
}

#[test]
fn a_mute_that_was_answered_with_an_error_does_not_mute_the_media_peer_that_comes_later() {
    between(|mut alice, mut bob| async move {
        let ear = Arc::new(Ear::default());
        dial(&alice, &bob, &ear).await;
        let call = bob.incoming().await;
        let early = bob.tell(Mute { call, muted: true }).await;
        assert_eq!(early.unwrap_err().fault(), Fault::ApiMisuse);
        let source = Source::Tone {
            hz: 440.0,
            level_dbfs: -6.0,
        };
        let media = MediaPlan {
            source,
            ..MediaPlan::default()
        };
        let media = Some(media);
        bob.tell(Answer { call, media }).await.unwrap();
        alice.confirmed().await;
        bob.confirmed().await;
        assert!(ear.is_spoken_to().await, "nobody was told that Bob is muted");
        for muted in [true, false] {
            bob.tell(Mute { call, muted }).await.unwrap();
            assert_eq!(ear.is_spoken_to().await, !muted);
        }
    });
}
