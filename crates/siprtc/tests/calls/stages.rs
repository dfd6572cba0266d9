//! Stages of a call: gain, a level meter, and an application's own, over real engines.

use crate::house::{SOON, endpoint, home, rings};
use siprtc::media_session::{AudioSink, Gain, GainControl, Level, LevelMeter};
use siprtc::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};

struct Nobody;

impl AudioSink for Nobody {
    fn write(&self, _: u32, _: &[i16]) {}
}

async fn reads(level: &Mutex<Option<Level>>, wanted: std::ops::Range<f32>) {
    let shown = || level.lock().unwrap().as_ref().map_or(f32::NAN, Level::dbov);
    let reached = async {
        while !wanted.contains(&shown()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let reached = timeout(SOON, reached).await;
    assert!(reached.is_ok(), "{} is not in {wanted:?}", shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_side_makes_quieter_the_others_meter_shows() {
    let home = home().await;
    let (alice, mut bob) = (endpoint(&home, "alice").await, endpoint(&home, "bob").await);
    let control: Arc<Mutex<Option<GainControl>>> = Arc::default();
    let level: Arc<Mutex<Option<Level>>> = Arc::default();
    let (given, shown) = (Arc::clone(&control), Arc::clone(&level));
    let says = MediaPlan {
        source: Source::Tone {
            hz: 440.0,
            level_dbfs: -12.0,
        },
        stages: Stages::new(move |sending, _| {
            let (gain, control) = Gain::new(0.0);
            *given.lock().unwrap() = Some(control);
            sending.add(gain).map(drop)
        }),
        ..MediaPlan::default()
    };
    let hears = MediaPlan {
        sink: Sink::Samples(Arc::new(Nobody)),
        stages: Stages::new(move |_, receiving| {
            let (meter, level) = LevelMeter::new();
            *shown.lock().unwrap() = Some(level);
            receiving.add(meter).map(drop)
        }),
        ..MediaPlan::default()
    };
    let call = alice.dial("bob", says).await.unwrap();
    let answered = rings(&mut bob).await.answer(hears).await.unwrap();
    reads(&level, -18.0..-9.0).await;
    control.lock().unwrap().as_ref().unwrap().set_db(-30.0);
    reads(&level, -50.0..-38.0).await;
    control.lock().unwrap().as_ref().unwrap().set_db(0.0);
    reads(&level, -18.0..-9.0).await;
    call.hangup().await.unwrap();
    timeout(SOON, answered.finished()).await.unwrap().unwrap();
    // A stage that cannot be made ends the call.
    let none = MediaPlan {
        stages: Stages::new(|_, _| {
            Err(Error::new(
                Fault::ConfigInvalid,
                "open the effect",
                "it is not there",
            ))
        }),
        ..MediaPlan::default()
    };
    let failed = match alice.dial("bob", none).await {
        Ok(call) => timeout(SOON, call.finished())
            .await
            .unwrap()
            .map(|report| report.ending.cause),
        Err(error) => Err(error),
    };
    assert_eq!(failed.unwrap(), Cause::Internal);
    for endpoint in [alice, bob] {
        endpoint.shutdown().await;
    }
    home.shutdown().await;
}
