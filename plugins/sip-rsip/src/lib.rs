#![doc = include_str!("../README.md")]

mod error;
mod gaps;
mod lines;
mod parser;

use async_trait::async_trait;
use bytes::Bytes;
use siprtc_core::Result;
use siprtc_core::sip::{
    EventSink, Limits, SipCapability, SipMessage, SipStack, SipStackFactory, StackConfig,
};
use siprtc_sip_stack::MessageParser;
use std::sync::Arc;

pub use parser::parse;

/// The word that selects this plugin in the configuration.
pub const NAME: &str = "rsip";

/// What makes running stacks with rsip's parser.
pub fn factory() -> Arc<dyn SipStackFactory> {
    Arc::new(RsipFactory)
}

struct RsipFactory;

#[async_trait]
impl SipStackFactory for RsipFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capability(&self) -> Option<SipCapability> {
        Some(siprtc_sip_stack::capability(gaps::GAPS))
    }

    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        siprtc_sip_stack::start(NAME, Arc::new(RsipParser), gaps::GAPS, config, sink).await
    }
}

struct RsipParser;

impl MessageParser for RsipParser {
    fn parse(&self, message: &Bytes, limits: &Limits) -> Result<SipMessage> {
        parse(message, limits)
    }
}
