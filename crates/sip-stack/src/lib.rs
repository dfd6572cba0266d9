#![doc = include_str!("../README.md")]

mod budget;
mod complete;
mod connection;
mod dial;
mod drive;
mod engine;
pub mod framing;
mod inbound;
mod listen;
mod malformed;
mod path;
mod scratch;
mod stack;
mod stream;
mod stun;
mod target;
mod tls;
mod udp;
mod websocket;

use bytes::Bytes;
use siprtc_core::Result;
use siprtc_core::sip::{EventSink, Gap, Limits, SipCapability, SipMessage, SipStack, StackConfig};
use std::sync::Arc;

/// What the stack lacks: how to read a message.
pub trait MessageParser: Send + Sync + 'static {
    /// Reads one whole message: a datagram, a WebSocket message, or what Content-Length says of a stream. As
    /// [`SipMessage::parse`]: structure only, for the stack calls [`SipMessage::validate`] itself. Never panics,
    /// whatever the octets.
    ///
    /// # Errors
    /// One sentence that says what is wrong: it becomes the reason phrase of a 400.
    fn parse(&self, message: &Bytes, limits: &Limits) -> Result<SipMessage>;
}

/// What the stack can do with a parser that has these `gaps`; for
/// [`SipStackFactory::capability`](siprtc_core::sip::SipStackFactory::capability).
pub const fn capability(gaps: &'static [Gap]) -> SipCapability {
    stack::capability(gaps)
}

/// Binds every listener of `config` and starts a stack that reads with `parser`. Its tasks run on the runtime on which
/// this is called; its methods may be called from any.
///
/// `name` is the plugin's, for errors; `gaps` are what the parser cannot read.
///
/// # Errors
/// [`Fault::ConfigInvalid`](siprtc_core::Fault): an address that cannot be bound, a certificate that cannot be used. Then
/// nothing runs and nothing is bound.
pub async fn start(
    name: &'static str,
    parser: Arc<dyn MessageParser>,
    gaps: &'static [Gap],
    config: StackConfig,
    sink: Arc<dyn EventSink>,
) -> Result<Arc<dyn SipStack>> {
    Ok(Arc::new(stack::Stack::start(name, parser, gaps, config, sink)?))
}
