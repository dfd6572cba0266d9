//! Checks the configuration and starts.

use crate::shared::Shared;
use crate::stack::EzkStack;
use async_trait::async_trait;
use siprtc_core::sip::{EventSink, SipStack, SipStackFactory, StackConfig, Transport};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;

pub(crate) struct EzkFactory;

#[async_trait]
impl SipStackFactory for EzkFactory {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        check(&config)?;
        let listeners = config.listeners.clone();
        let shared = Arc::new(Shared::new(config, sink));
        let stack = EzkStack::start(shared, &listeners).await?;
        Ok(stack)
    }
}

fn check(config: &StackConfig) -> Result<()> {
    let wrong =
        |message: String| Error::new(Fault::ConfigInvalid, "start SIP stack", message).backend(crate::NAME);
    if config.listeners.is_empty() {
        return Err(
            wrong("there is no listener".to_owned()).advice("give at least one, such as UDP 0.0.0.0:0")
        );
    }
    for listener in &config.listeners {
        if !matches!(listener.transport, Transport::Tcp | Transport::Udp) {
            return Err(wrong(format!("it cannot listen on {}", listener.transport)).advice("use UDP or TCP"));
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
