//! siprtc and baresip call in turns, through the same Kamailio, under the same capture.

use crate::children::{self, ADDRESS, Baresip, DOMAIN, Folder, PASSWORD, failed};
use siprtc::gateway::MediaPlan;
use siprtc::{Config, Endpoint};
use siprtc_benches::capture::{self, Datagram};
use siprtc_benches::figure::{Figure, Series};
use siprtc_core::Result;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Calls of each.
const CALLS: usize = 30;
/// How long each call is given to have media both ways.
const CALL: Duration = Duration::from_millis(1200);
/// Between two calls.
const PAUSE: Duration = Duration::from_millis(250);

/// When a call was told to begin, and when its time was over; µs since 1970.
type Span = (u64, u64);

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}

async fn siprtc(name: &str) -> Result<Endpoint> {
    let mut config = Config::defaults()?;
    config.account.uri = format!("sip:{name}@{DOMAIN}");
    config.account.password = PASSWORD.to_owned();
    config.account.outbound = vec![format!("sip:{ADDRESS}:5060")];
    config.sip.listen = vec![format!("udp:{ADDRESS}:0")];
    let endpoint = Endpoint::start(&config).await?;
    endpoint.registered(Duration::from_secs(10)).await?;
    Ok(endpoint)
}

async fn siprtc_call(alice: &Endpoint) -> Result<Span> {
    let began = now();
    let call = alice.dial("bob", MediaPlan::default()).await?;
    tokio::time::sleep(CALL).await;
    let ended = now();
    call.hangup().await?;
    call.finished().await?;
    Ok((began, ended))
}

async fn baresip_call(carol: &mut Baresip) -> Result<Span> {
    let began = now();
    carol.command("dial", &format!("sip:dave@{DOMAIN}"))?;
    tokio::time::sleep(CALL).await;
    let ended = now();
    carol.command("hangup", "")?;
    Ok((began, ended))
}

struct Calls {
    siprtc: Vec<Span>,
    baresip: Vec<Span>,
}

async fn hold(folder: &Path) -> Result<(Calls, Vec<Datagram>)> {
    let _kamailio = children::kamailio(folder).await?;
    let (capture, file) = children::tcpdump(folder).await?;
    let (alice, bob) = (siprtc("alice").await?, siprtc("bob").await?);
    let mut answered = crate::house::answer_all(bob);
    tokio::spawn(async move {
        while let Some(call) = answered.recv().await {
            tokio::spawn(async move { drop(call.finished().await) });
        }
    });
    let mut carol = Baresip::start(folder, "carol", 4441, false).await?;
    let _dave = Baresip::start(folder, "dave", 4442, true).await?;

    // One call of each to warm up.
    siprtc_call(&alice).await?;
    baresip_call(&mut carol).await?;
    tokio::time::sleep(PAUSE).await;
    let mut calls = Calls {
        siprtc: Vec::new(),
        baresip: Vec::new(),
    };
    for _ in 0..CALLS {
        calls.siprtc.push(siprtc_call(&alice).await?);
        tokio::time::sleep(PAUSE).await;
        calls.baresip.push(baresip_call(&mut carol).await?);
        tokio::time::sleep(PAUSE).await;
    }
    alice.shutdown().await;
    drop(capture);
    Ok((calls, capture::read(&file)?))
}

/// ms from the command, and from the INVITE, to media both ways, and from the INVITE to DTLS; one entry a call.
struct Times {
    dial: Series,
    invite: Series,
    dtls: Series,
    failed: usize,
}

impl Times {
    fn of(spans: &[Span], datagrams: &[Datagram]) -> Self {
        let (mut dial, mut invite, mut dtls) = (Vec::new(), Vec::new(), Vec::new());
        for (began, ended) in spans {
            let Some(seen) = capture::seen(datagrams, *began, *ended) else {
                continue;
            };
            let ms = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e3;
            dial.push(ms(*began, seen.media));
            invite.push(ms(seen.invite, seen.media));
            dtls.push(ms(seen.invite, seen.dtls));
        }
        let failed = spans.len() - dial.len();
        Times {
            dial: Series::new(dial),
            invite: Series::new(invite),
            dtls: Series::new(dtls),
            failed,
        }
    }
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let folder = Folder::new("contest")?;
    let (calls, datagrams) = hold(folder.path()).await?;
    let ours = Times::of(&calls.siprtc, &datagrams);
    let theirs = Times::of(&calls.baresip, &datagrams);
    if theirs.dial.is_empty() {
        return Err(failed(
            "compare with baresip",
            "none of its calls had media: there is nothing to compare with",
        ));
    }
    let row = |name: &str, of: fn(&Times) -> f64| {
        Figure::new("dial", name, of(&ours), "ms").beside("baresip", of(&theirs))
    };
    let number = ours.dial.len();
    Ok(vec![
        Figure::new("dial", "calls without DTLS or without RTP both ways", ours.failed as f64, "")
            .at_most(0.0)
            .beside("baresip", theirs.failed as f64)
            .note(format!("of {CALLS} each, in turns, {} ms allowed; ICE, DTLS-SRTP, Opus; through one Kamailio with digest", CALL.as_millis())),
        row("command to RTP both ways, p50", |times| times.dial.median())
            .note(format!("{number} calls; from the command to dial to the later of the two first RTP packets in the capture")),
        row("the same, p99", |times| times.dial.percentile(99.0)),
        row("INVITE to RTP both ways, p50", |times| times.invite.median()).note("both ends in the capture"),
        row("INVITE to first DTLS record, p50", |times| times.dtls.median()),
    ])
}
