//! A door: answers by itself, and opens for whoever presses 7.
//!
//! `cargo run --example intercom`, or with `sip:door@example.com password sip:proxy.example.com`.

mod house;

use house::{House, until};
use siprtc::prelude::*;

/// What the door makes of its visitors; ends after `most`.
pub(crate) async fn intercom(endpoint: &mut Endpoint, most: usize) -> Result<usize> {
    let mut opened = 0;
    for _ in 0..most {
        let Some(visitor) = endpoint.incoming().await else {
            break;
        };
        println!("{} is at the door", visitor.from().uri);
        let greeting = MediaPlan {
            source: Source::Tone {
                hz: 660.0,
                level_dbfs: -18.0,
            },
            ..MediaPlan::default()
        };
        // A visitor who left meanwhile is no reason to leave the door alone.
        let Ok(mut call) = visitor.answer(greeting).await else {
            continue;
        };
        while let Some(event) = call.next().await {
            match event {
                CallEventKind::Dtmf { digit: '7', .. } => {
                    println!("the door is open");
                    opened += 1;
                    call.hangup().await?;
                }
                CallEventKind::Dtmf { digit, .. } => println!("{digit} opens nothing"),
                CallEventKind::Ended(ending) | CallEventKind::Failed(ending) => {
                    println!("the visitor is gone: {}", ending.cause);
                }
                _ => {}
            }
        }
    }
    Ok(opened)
}

/// How often the door opened.
pub(crate) async fn run(arguments: &[String]) -> Result<usize> {
    let house = House::open(arguments).await?;
    let mut door = house.endpoint("bob", arguments).await?;
    if !house.is_alone() {
        let opened = intercom(&mut door, usize::MAX).await;
        house.close(vec![door]).await;
        return opened;
    }
    let visitor = house.endpoint("alice", arguments).await?;
    let visit = async {
        let mut call = visitor.dial("bob", MediaPlan::default()).await?;
        until(&mut call, |event| {
            matches!(event, CallEventKind::FirstPacket { inbound: true })
        })
        .await;
        call.send_dtmf("17").await?;
        call.finished().await
    };
    let (opened, visit) = tokio::join!(intercom(&mut door, 1), visit);
    println!("the visitor's call: {}", visit?.ending.cause);
    house.close(vec![door, visitor]).await;
    opened
}

#[tokio::main]
#[allow(dead_code, reason = "a test calls run()")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("opened {} times", run(&arguments).await?);
    Ok(())
}
