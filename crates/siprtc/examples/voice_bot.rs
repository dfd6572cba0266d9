//! A bot that hears and speaks PCM: it waits until its caller has said something, answers with a tone, and hangs up.
//!
//! `cargo run --example voice_bot`, or with `sip:bot@example.com password sip:proxy.example.com`.

mod house;

use house::House;
use siprtc::prelude::*;

/// What the bot hears and speaks at: what speech recognition usually wants.
const RATE: u32 = 16_000;

/// Half a second of 1 kHz.
fn beep() -> Vec<i16> {
    let sample = |index: u32| (f64::from(index) / f64::from(RATE) * 1_000.0 * std::f64::consts::TAU).sin();
    (0..RATE / 2)
        .map(|index| (sample(index) * 8_000.0) as i16)
        .collect()
}

/// Whether somebody speaks: recognition goes here.
fn is_loud(samples: &[i16]) -> bool {
    let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (power / samples.len().max(1) as f64).sqrt() > 300.0
}

/// Waits for `frames` loud frames; `false`: the call ended first.
async fn hears(voice: &mut Voice, frames: usize) -> bool {
    let mut loud = 0;
    while loud < frames {
        let Some(samples) = voice.hear().await else {
            return false;
        };
        loud += usize::from(is_loud(&samples));
    }
    true
}

/// Serves one caller; whether it could answer.
pub(crate) async fn bot(incoming: IncomingCall) -> Result<bool> {
    let (mut voice, source, sink) = Voice::open(RATE)?;
    let media = MediaPlan {
        source,
        sink,
        ..MediaPlan::default()
    };
    let call = incoming.answer(media).await?;
    let served = hears(&mut voice, 25).await;
    if served {
        voice.say(&beep());
        voice.said().await;
        call.hangup().await?;
    }
    println!("the bot's call: {}", call.finished().await?.ending.cause);
    Ok(served)
}

/// Whether the caller heard the bot.
pub(crate) async fn run(arguments: &[String]) -> Result<bool> {
    let house = House::open(arguments).await?;
    let mut endpoint = house.endpoint("bob", arguments).await?;
    if !house.is_alone() {
        while let Some(incoming) = endpoint.incoming().await {
            // Each caller has a bot of its own.
            tokio::spawn(bot(incoming));
        }
        house.close(vec![endpoint]).await;
        return Ok(true);
    }
    let caller = house.endpoint("alice", arguments).await?;
    let (mut ear, _, sink) = Voice::open(RATE)?;
    let source = Source::Tone {
        hz: 440.0,
        level_dbfs: -12.0,
    };
    let call = caller
        .dial(
            "bob",
            MediaPlan {
                source,
                sink,
                ..MediaPlan::default()
            },
        )
        .await?;
    let incoming = endpoint.incoming().await;
    let serve = async {
        match incoming {
            Some(incoming) => bot(incoming).await,
            None => Ok(false),
        }
    };
    let (served, heard) = tokio::join!(serve, hears(&mut ear, 10));
    println!("the bot served: {}, the caller heard it: {heard}", served?);
    println!("the caller's call: {}", call.finished().await?.ending.cause);
    house.close(vec![endpoint, caller]).await;
    Ok(heard)
}

#[tokio::main]
#[allow(dead_code, reason = "a test calls run()")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    run(&arguments).await.map(|_| ())
}
