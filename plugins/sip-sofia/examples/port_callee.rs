//! A callee on the SIP port and nothing above it: answers INVITE with 180 and 200, everything else with 200, and tells what
//! that has cost.
//!
//! ```console
//! $ cargo run --release -p siprtc-sip-sofia --features link --example port_callee -- 127.0.0.1:5080 udp 30
//! $ sipp -sn uac -r 500 -m 10000 127.0.0.1:5080
//! ```
//!
//! Listens at the address over `udp` or `tcp`, for that many seconds. Linux only: it reads /proc.

use siprtc_core::sip::{
    ListenerConfig, Method, SipRequest, SipStack, SipUri, StackConfig, StackEvent, Transport,
};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Most events that wait; beyond it the stack answers 503.
const EVENTS: usize = 20_000;

#[derive(Default)]
struct Counts {
    invites: AtomicU64,
    acks: AtomicU64,
    byes: AtomicU64,
    refused: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bind = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:5080".to_owned())
        .parse()?;
    let transport = arguments.next().unwrap_or_else(|| "udp".to_owned());
    let transport = Transport::from_name(&transport).ok_or("the transport is udp or tcp")?;
    let seconds: u64 = arguments.next().unwrap_or_else(|| "30".to_owned()).parse()?;

    let (events, mut heard) = mpsc::channel(EVENTS);
    let counts = Arc::new(Counts::default());
    let counted = counts.clone();
    let sink = Arc::new(move |event: StackEvent| {
        events.try_send(event).map_err(|_| {
            counted.refused.fetch_add(1, Ordering::Relaxed);
            siprtc_core::sip::SinkFull
        })
    });
    let config = StackConfig {
        listeners: vec![ListenerConfig {
            transport,
            bind,
            advertise: None,
        }],
        max_transactions: 1_000_000,
        ..StackConfig::default()
    };
    let stack = siprtc_sip_sofia::factory().start(config, sink).await?;
    let contact = SipUri::from_addr(bind).with_transport(transport);
    println!("listening on {transport} {bind} for {seconds} s");

    let deadline = tokio::time::sleep(Duration::from_secs(seconds));
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = &mut deadline => break,
            event = heard.recv() => match event {
                Some(event) => answer(&*stack, &contact, &counts, event).await,
                None => break,
            },
        }
    }
    let usage = usage()?;
    stack.shutdown(Duration::ZERO).await;
    report(&counts, &usage);
    Ok(())
}

async fn answer(stack: &dyn SipStack, contact: &SipUri, counts: &Counts, event: StackEvent) {
    match event {
        StackEvent::Ack { .. } => drop(counts.acks.fetch_add(1, Ordering::Relaxed)),
        StackEvent::Request { tx, request, .. } => {
            let counter = match request.method {
                Method::Invite => &counts.invites,
                _ => &counts.byes,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let statuses: &[u16] = match request.method {
                Method::Invite => &[180, 200],
                _ => &[200],
            };
            for status in statuses {
                let response = response(&request, *status, contact);
                if let Err(error) = stack.respond(tx, response).await {
                    eprintln!("{error}");
                }
            }
        }
        _ => {}
    }
}

fn response(request: &SipRequest, status: u16, contact: &SipUri) -> siprtc_core::sip::SipResponse {
    let mut response = request.response(status);
    if let Ok(to) = response.headers.to()
        && to.tag().is_none()
    {
        response.headers.set("To", to.with_tag("callee"));
    }
    response.headers.push("Contact", format_args!("<{contact}>"));
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n";
    match (status, &request.method) {
        (200, Method::Invite) => response.with_body("application/sdp", sdp),
        _ => response,
    }
}

struct Usage {
    cpu: Duration,
    resident_kb: u64,
    peak_kb: u64,
}

fn usage() -> Result<Usage, Box<dyn Error>> {
    // Clock ticks are hundredths of a second on every Linux that this runs on.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok(Usage {
        cpu: Duration::from_millis((ticks(11) + ticks(12)) * 10),
        resident_kb: kilobytes("VmRSS:"),
        peak_kb: kilobytes("VmHWM:"),
    })
}

fn report(counts: &Counts, usage: &Usage) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let invites = count(&counts.invites);
    println!(
        "INVITE {invites}, ACK {}, BYE and others {}, events refused {}",
        count(&counts.acks),
        count(&counts.byes),
        count(&counts.refused)
    );
    println!(
        "CPU {:.2} s, {:.3} ms per call; resident {} kB, at most {} kB",
        usage.cpu.as_secs_f64(),
        usage.cpu.as_secs_f64() * 1000.0 / invites.max(1) as f64,
        usage.resident_kb,
        usage.peak_kb
    );
}
