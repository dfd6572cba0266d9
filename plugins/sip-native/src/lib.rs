#![doc = include_str!("../README.md")]

use async_trait::async_trait;
use bytes::Bytes;
use siprtc_core::Result;
use siprtc_core::sip::{
    EventSink, Limits, SipCapability, SipMessage, SipStack, SipStackFactory, StackConfig,
};
use siprtc_sip_stack::MessageParser;
use std::sync::Arc;

/// The word that selects this plugin in the configuration.
pub const NAME: &str = "native";

/// What makes running stacks of our own.
pub fn factory() -> Arc<dyn SipStackFactory> {
    Arc::new(NativeFactory)
}

struct NativeFactory;

#[async_trait]
impl SipStackFactory for NativeFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capability(&self) -> Option<SipCapability> {
        Some(siprtc_sip_stack::capability(&[]))
    }

    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        siprtc_sip_stack::start(NAME, Arc::new(CoreParser), &[], config, sink).await
    }
}

/// The parser of `siprtc_core::sip`.
struct CoreParser;

impl MessageParser for CoreParser {
    fn parse(&self, message: &Bytes, limits: &Limits) -> Result<SipMessage> {
        SipMessage::parse(message, limits)
    }
}
