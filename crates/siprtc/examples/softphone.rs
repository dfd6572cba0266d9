//! A telephone on the command line: `call WHOM`, `answer`, `refuse`, `hold`, `resume`, `digits 123`, `hangup`, `quit`.
//!
//! `cargo run --example softphone` shows a call by a script; with `sip:alice@example.com password sip:proxy.example.com` it reads
//! standard input. With `--features sound-card` it has a microphone and a loudspeaker.

mod house;

use house::House;
use siprtc::prelude::*;
use siprtc::sound;
use tokio::sync::mpsc;

async fn media() -> MediaPlan {
    let (source, sink) = (
        sound::microphone("default").await,
        sound::loudspeaker("default").await,
    );
    MediaPlan {
        source: source.unwrap_or(Source::Silence),
        sink: sink.unwrap_or(Sink::Null),
        ..MediaPlan::default()
    }
}

/// The next event of the call, if there is one.
async fn next(call: &mut Option<Call>) -> Option<CallEventKind> {
    match call {
        Some(call) => call.next().await,
        None => std::future::pending().await,
    }
}

/// One telephone with one line; how many calls it had.
pub(crate) async fn phone(endpoint: &mut Endpoint, mut commands: mpsc::Receiver<String>) -> Result<usize> {
    let (mut call, mut ringing, mut calls): (Option<Call>, Option<IncomingCall>, usize) = (None, None, 0);
    loop {
        let command = tokio::select! {
            event = next(&mut call) => {
                match event {
                    Some(event) => println!("  {event:?}"),
                    None => (call, calls) = (None, calls + 1),
                }
                continue;
            }
            incoming = endpoint.incoming() => {
                let Some(incoming) = incoming else { return Ok(calls) };
                println!("{} calls", incoming.from().uri);
                match call.is_some() || ringing.is_some() {
                    true => incoming.refuse(486).await?,
                    false => ringing = Some(incoming),
                }
                continue;
            }
            command = commands.recv() => command.unwrap_or_else(|| "quit".to_owned()),
        };
        let (word, rest) = command.split_once(' ').unwrap_or((&command, ""));
        let done = match (word, &call, ringing.take()) {
            ("answer", _, Some(incoming)) => incoming
                .answer(media().await)
                .await
                .map(|taken| call = Some(taken)),
            ("refuse", _, Some(incoming)) => incoming.refuse(603).await,
            ("call", None, None) => endpoint
                .dial(rest, media().await)
                .await
                .map(|dialled| call = Some(dialled)),
            ("quit", Some(call), _) => {
                drop(call.hangup().await); // It may be over, and its last event unread.
                return Ok(calls + 1);
            }
            ("quit", None, _) => return Ok(calls),
            ("digits", Some(call), _) => call.send_dtmf(rest).await,
            ("hangup", Some(call), _) => call.hangup().await,
            ("hold", Some(call), _) => call.hold().await,
            ("resume", Some(call), _) => call.resume().await,
            (_, _, kept) => {
                ringing = kept;
                println!("{command:?} means nothing now");
                Ok(())
            }
        };
        done.unwrap_or_else(|error| eprintln!("{error}"));
    }
}

/// How many calls the telephone had.
pub(crate) async fn run(arguments: &[String]) -> Result<usize> {
    let house = House::open(arguments).await?;
    let mut endpoint = house.endpoint("alice", arguments).await?;
    if !house.is_alone() {
        let calls = phone(&mut endpoint, house::typed()).await;
        house.close(vec![endpoint]).await;
        return calls;
    }
    let mut friend = house.endpoint("bob", arguments).await?;
    let (typed, commands) = mpsc::channel(16);
    let script = async {
        drop(typed.send("call bob".to_owned()).await);
        let incoming = friend.incoming().await.expect("the endpoint runs");
        let mut call = incoming.answer(MediaPlan::default()).await?;
        for (word, heard) in [("hold", "Confirmed"), ("resume", "Held"), ("hangup", "Resumed")] {
            house::until(&mut call, |event| format!("{event:?}").starts_with(heard)).await;
            drop(typed.send(word.to_owned()).await);
        }
        call.finished().await?;
        drop(typed.send("quit".to_owned()).await);
        Ok::<_, Error>(())
    };
    let (calls, script) = tokio::join!(phone(&mut endpoint, commands), script);
    house.close(vec![endpoint, friend]).await;
    script.and(calls)
}

#[tokio::main]
#[allow(dead_code, reason = "a test calls run()")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("{} calls", run(&arguments).await?);
    Ok(())
}
