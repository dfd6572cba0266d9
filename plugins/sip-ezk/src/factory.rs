//! Checks the configuration and starts.

use crate::convert::no_websocket;
use crate::shared::{Shared, Tls};
use crate::stack::{CAPABILITY, EzkStack};
use async_trait::async_trait;
use siprtc_core::sip::{EventSink, SipCapability, SipStack, SipStackFactory, StackConfig, Transport};
use siprtc_core::{Error, Fault, Result};
use siprtc_sip_locate::tls;
use std::sync::Arc;

pub(crate) struct EzkFactory;

#[async_trait]
impl SipStackFactory for EzkFactory {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn capability(&self) -> Option<SipCapability> {
        Some(CAPABILITY)
    }

    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        check(&config)?;
        let listeners = config.listeners.clone();
        let client = tls::client_config(&config.tls).map_err(|e| e.backend(crate::NAME))?;
        let server = tls::server_config(&config.tls).map_err(|e| e.backend(crate::NAME))?;
        if server.is_none() && listeners.iter().any(|l| l.transport == Transport::Tls) {
            return Err(tls::no_identity().backend(crate::NAME));
        }
        let shared = Arc::new(Shared::new(config, Tls { client, server }, sink));
        let stack = EzkStack::start(shared, &listeners).await?;
        Ok(stack)
    }
}

fn check(config: &StackConfig) -> Result<()> {
    let wrong =
        |message: String| Error::new(Fault::ConfigInvalid, "start SIP stack", message).backend(crate::NAME);
    for listener in &config.listeners {
        if !CAPABILITY.speaks(listener.transport) {
            return Err(no_websocket(listener.transport.as_str(), "start SIP stack"));
        }
    }
    if config.timers.t1.is_zero() || config.timers.t2 < config.timers.t1 {
        return Err(wrong("timer T1 must not be 0 and T2 not less than T1".to_owned())
            .advice("leave the timers at their defaults of 500 ms and 4 s"));
    }
    if config.user_agent.contains(['\r', '\n']) {
        return Err(wrong("user_agent contains a line break".to_owned()).advice("write it on one line"));
    }
    Ok(())
}
