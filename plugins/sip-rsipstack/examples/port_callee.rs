//! The same callee through the port: what the plugin adds to rsipstack, seen beside `bare_callee`.

mod figures;

use siprtc_core::sip::{
    EventSink, ListenerConfig, Method, NameAddr, SinkFull, SipUri, StackConfig, StackEvent, Transport,
};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (bind, time) = figures::arguments()?;
    let (sender, mut heard) = tokio::sync::mpsc::channel(65_536);
    let sink: Arc<dyn EventSink> = Arc::new(move |event| match event {
        StackEvent::Request { tx, request, .. } => sender.try_send((tx, request)).map_err(|_| SinkFull),
        _ => Ok(()),
    });
    let config = StackConfig {
        listeners: vec![ListenerConfig {
            transport: Transport::Udp,
            bind,
            advertise: None,
        }],
        // What is measured is the cost, not the policy when full.
        max_transactions: 1_000_000,
        ..StackConfig::default()
    };
    let stack = siprtc_sip_rsipstack::factory().start(config, sink).await?;
    let contact = NameAddr::new(SipUri::from_addr(stack.listeners()[0].bound).with_user("callee"));
    let calls = figures::Calls::default();
    let (counted, answering) = (calls.clone(), stack.clone());
    tokio::spawn(async move {
        while let Some((tx, request)) = heard.recv().await {
            let mut response = request.response(200);
            if let Ok(to) = response.headers.to()
                && to.tag().is_none()
            {
                response
                    .headers
                    .set("To", to.with_tag(format!("{:x}", rand::random::<u64>())));
            }
            match request.method {
                Method::Invite => response.headers.push("Contact", &contact),
                _ => counted.add(),
            }
            if let Err(error) = answering.respond(tx, response).await {
                eprintln!("{error}");
            }
        }
    });
    figures::wait_and_tell("port", time, &calls).await;
    stack.shutdown(Duration::ZERO).await;
    Ok(())
}
