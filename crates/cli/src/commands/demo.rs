//! `siprtc demo`: the main job on the embedded default, checked by ear.

use super::talk::{self, Plan};
use crate::args::DemoArgs;
use crate::compare::{ENOUGH, compare};
use crate::control::Control;
use crate::exit::Exit;
use crate::output::Output;
use serde_json::json;
use siprtc::gateway::MediaPlan;
use siprtc::media_session::{Sink, Source};
use siprtc::{Config, Endpoint, Parts, registry};
use siprtc_core::media::Direction;
use siprtc_core::{Error, Fault, Result};
use siprtc_home_server::{HomeConfig, HomeServer, Users};
use std::path::PathBuf;
use std::time::Duration;

const REALM: &str = "siprtc.home";
const PASSWORD: &str = "secret";

pub(crate) async fn run(config: &Config, args: &DemoArgs, output: &Output) -> Exit {
    match demo(config, args, output).await {
        Ok(exit) => exit,
        Err(error) => output.error(&error),
    }
}

struct Files {
    played: PathBuf,
    heard: PathBuf,
    ladder: PathBuf,
}

impl Files {
    fn prepare(args: &DemoArgs) -> Result<Self> {
        std::fs::create_dir_all(&args.out).map_err(|error| {
            Error::new(
                Fault::ConfigInvalid,
                "prepare the demo",
                format!("cannot make {}", args.out.display()),
            )
            .caused_by(error)
            .advice("choose a folder that can be written, with --out")
        })?;
        let played = match &args.play {
            Some(path) => path.clone(),
            None => {
                let song = args.out.join("alice-plays.wav");
                crate::song::write(&song)?;
                song
            }
        };
        Ok(Files {
            played,
            heard: args.out.join("bob-heard.wav"),
            ladder: args.out.join("ladder.svg"),
        })
    }
}

/// An account of the demo's home server, on loopback.
fn account(config: &Config, home: &HomeServer, name: &str) -> Result<Config> {
    let mut config = config.clone();
    config.account.uri = format!("sip:{name}@{REALM}");
    config.account.password = PASSWORD.to_owned();
    config.account.outbound = vec![home.sip_uri().to_string()];
    config.account.register = true;
    config.sip.listen = vec!["udp:127.0.0.1:0".to_owned(), "tcp:127.0.0.1:0".to_owned()];
    config.ice.loopback = true;
    config.ice.interfaces = vec!["127.0.0.1".to_owned()];
    if let Some(turn) = home.turn_addr() {
        config.ice.servers = vec![siprtc::config::IceServerConfig {
            url: format!("turn:{turn}"),
            username: name.to_owned(),
            password: PASSWORD.to_owned(),
            secret: String::new(),
        }];
    }
    Ok(config)
}

async fn demo(config: &Config, args: &DemoArgs, output: &Output) -> Result<Exit> {
    let files = Files::prepare(args)?;
    output.progress("starting the home server");
    let users = ["alice", "bob"].map(|name| (name.to_owned(), PASSWORD.to_owned()));
    let home_config = HomeConfig::loopback(REALM, Users::named(users));
    let home = HomeServer::start(home_config, registry::sip_stack(&config.sip.stack)?).await?;
    output.say(&format!(
        "home server: SIP {}, STUN/TURN {}",
        home.sip_uri(),
        home.turn_addr()
            .map_or("none".to_owned(), |addr| addr.to_string())
    ));

    let (alice_config, bob_config) = (account(config, &home, "alice")?, account(config, &home, "bob")?);
    let alice = Endpoint::start_with(&alice_config, Parts::from_config(&alice_config)?).await?;
    let bob = Endpoint::start_with(&bob_config, Parts::from_config(&bob_config)?).await?;
    output.progress("Alice and Bob register");
    alice.registered(Duration::from_secs(5)).await?;
    bob.registered(Duration::from_secs(5)).await?;
    output.say("Alice and Bob are registered");

    let exit = talk(&alice, bob, &files, output).await;
    alice.shutdown().await;
    home.shutdown().await;
    exit
}

async fn talk(alice: &Endpoint, mut bob: Endpoint, files: &Files, output: &Output) -> Result<Exit> {
    let plays = MediaPlan {
        source: Source::File {
            path: files.played.clone(),
            repeat: false,
        },
        sink: Sink::Null,
        direction: Direction::SendRecv,
        ..MediaPlan::default()
    };
    let records = MediaPlan {
        source: Source::Silence,
        sink: Sink::File {
            path: files.heard.clone(),
        },
        direction: Direction::SendRecv,
        ..MediaPlan::default()
    };
    let answering = async {
        let incoming = bob
            .incoming()
            .await
            .ok_or_else(|| Error::new(Fault::Backend, "answer", "Bob is shut down"))?;
        let call = incoming.answer(records).await?;
        talk::live(call, "Bob", Plan::default(), &mut Control::new(false), output).await
    };
    let calling = async {
        let call = alice.dial("bob", plays).await?;
        talk::live(
            call,
            "Alice",
            Plan {
                at_source_end: true,
                at_video_end: false,
                ..Plan::default()
            },
            &mut Control::new(false),
            output,
        )
        .await
    };
    let both = tokio::time::timeout(Duration::from_secs(600), async {
        tokio::join!(calling, answering)
    })
    .await;
    let (called, answered) = both.map_err(|_| Error::new(Fault::TimedOut, "demo", "the call did not end"))?;
    bob.shutdown().await;
    let ((alice, alice_exit), (bob, bob_exit)) = (called?, answered?);

    output.report(&alice);
    output.report(&bob);
    output.ladder(
        &alice.joint_ladder(&bob, ["Alice", "home server", "Bob"]),
        Some(&files.ladder),
    )?;
    if let Some(media) = bob.timings.first_received {
        let dial_to_media = alice.timings.first_received.unwrap_or(media).as_secs_f64() * 1e3;
        output.emit(json!({ "event": "dial_to_media", "ms": dial_to_media }));
        output.say(&format!(
            "from dialling to the first packet heard: {dial_to_media:.0} ms"
        ));
    }
    output.say(&format!(
        "Alice played {}, Bob heard {}",
        files.played.display(),
        files.heard.display()
    ));
    for exit in [alice_exit, bob_exit] {
        if exit != Exit::Ok {
            return Ok(exit);
        }
    }
    let likeness = compare(&files.played, &files.heard)?;
    Ok(super::compare::tell(&likeness, ENOUGH, output))
}
