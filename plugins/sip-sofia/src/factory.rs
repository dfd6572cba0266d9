//! Checks the configuration and starts.

use crate::engine;
use crate::stack::{CAPABILITY, SofiaStack};
use async_trait::async_trait;
use siprtc_core::sip::{EventSink, SipCapability, SipStack, SipStackFactory, StackConfig};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use std::time::Duration;

/// The longest T1 whose 64-fold sofia can count in milliseconds.
const LONGEST_T1: Duration = Duration::from_secs(3600);

pub(crate) struct SofiaFactory;

#[async_trait]
impl SipStackFactory for SofiaFactory {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn capability(&self) -> Option<SipCapability> {
        Some(CAPABILITY)
    }

    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        check(&config)?;
        let started = engine::start(config, sink).await?;
        Ok(Arc::new(SofiaStack::new(started)))
    }
}

fn check(config: &StackConfig) -> Result<()> {
    let wrong =
        |message: String| Error::new(Fault::ConfigInvalid, "start SIP stack", message).backend(crate::NAME);
    for listener in &config.listeners {
        if !CAPABILITY.speaks(listener.transport) {
            return Err(wrong(format!("it cannot listen on {}", listener.transport)).advice("use UDP or TCP"));
        }
    }
    let timers = config.timers;
    if timers.t1 < Duration::from_millis(1) || timers.t2 < timers.t1 || timers.t1 > LONGEST_T1 {
        return Err(
            wrong("timer T1 must be 1 ms to 1 h and T2 not less than T1".to_owned())
                .advice("leave the timers at their defaults of 500 ms and 4 s"),
        );
    }
    if config.user_agent.contains(['\r', '\n', '\0']) {
        return Err(wrong("user_agent contains a line break".to_owned()).advice("write it on one line"));
    }
    Ok(())
}
