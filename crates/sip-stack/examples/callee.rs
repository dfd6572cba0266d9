//! The smallest callee: answers INVITE with 180 and 200, everything else with 200. For load tests:
//!
//! `cargo run --release -p siprtc-sip-stack --example callee -- udp 127.0.0.1:5070 30`
//!
//! listens for 30 seconds, and then prints what it cost: calls, CPU milliseconds per call, resident kilobytes.

#![allow(clippy::unwrap_used, reason = "an example for the command line")]

use bytes::Bytes;
use siprtc_core::Result;
use siprtc_core::sip::{
    EventSink, Limits, ListenerConfig, Method, SinkFull, SipMessage, SipRequest, SipStack, StackConfig,
    StackEvent, Transport, TxId,
};
use siprtc_sip_stack::MessageParser;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that may wait; beyond it a request is answered 503.
const WAITING: usize = 8192;

struct CoreParser;

impl MessageParser for CoreParser {
    fn parse(&self, message: &Bytes, limits: &Limits) -> Result<SipMessage> {
        SipMessage::parse(message, limits)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let transport = words
        .next()
        .and_then(|word| Transport::from_name(&word))
        .unwrap_or(Transport::Udp);
    let bind = words
        .next()
        .unwrap_or("127.0.0.1:5070".to_owned())
        .parse()
        .unwrap();
    let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(30);
    let idle = resident_kilobytes();
    let (events, mut heard) = mpsc::channel(WAITING);
    let sink: Arc<dyn EventSink> = Arc::new(move |event| match event {
        StackEvent::Request { tx, request, .. } => events.try_send((tx, request)).map_err(|_| SinkFull),
        _ => Ok(()),
    });
    let config = StackConfig {
        listeners: vec![ListenerConfig {
            transport,
            bind,
            advertise: None,
        }],
        max_transactions: 100_000,
        ..StackConfig::default()
    };
    let stack = siprtc_sip_stack::start("callee", Arc::new(CoreParser), &[], config, sink).await?;
    println!(
        "idle: {} kB, of which the stack {}",
        resident_kilobytes(),
        resident_kilobytes() - idle
    );
    let calls = Arc::new(AtomicU64::new(0));
    let (counted, answering) = (calls.clone(), stack.clone());
    let task = tokio::spawn(async move {
        while let Some((tx, request)) = heard.recv().await {
            counted.fetch_add(u64::from(request.method == Method::Bye), Ordering::Relaxed);
            answer(&*answering, tx, &request).await;
        }
    });
    let mut most = 0;
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        most = most.max(resident_kilobytes());
    }
    task.abort();
    let calls = calls.load(Ordering::Relaxed);
    println!("calls: {calls}");
    println!(
        "CPU ms per call: {:.3}",
        cpu_milliseconds() as f64 / calls.max(1) as f64
    );
    println!("most resident: {most} kB");
    stack.shutdown(Duration::ZERO).await;
    println!("after shutdown: {} kB", resident_kilobytes());
    Ok(())
}

async fn answer(stack: &dyn SipStack, tx: TxId, request: &SipRequest) {
    let statuses: &[u16] = match request.method {
        Method::Invite => &[180, 200],
        _ => &[200],
    };
    for status in statuses {
        let mut response = request.response(*status);
        if request.method == Method::Invite {
            let to = response.headers.to().unwrap();
            if to.tag().is_none() {
                response.headers.set("To", to.with_tag("callee"));
            }
            response.headers.push("Contact", "<sip:callee@127.0.0.1>");
        }
        if let Err(error) = stack.respond(tx, response).await {
            eprintln!("{error}");
        }
    }
}

fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// User and system time of this process; a tick of Linux is 10 ms.
fn cpu_milliseconds() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let times = behind_name.split_whitespace().skip(11).take(2);
    times.filter_map(|time| time.parse::<u64>().ok()).sum::<u64>() * 10
}
