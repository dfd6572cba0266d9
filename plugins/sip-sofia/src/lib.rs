#![doc = include_str!("../README.md")]

#[cfg(feature = "link")]
mod clients;
#[cfg(feature = "link")]
mod convert;
#[cfg(feature = "link")]
mod engine;
#[cfg(feature = "link")]
mod factory;
#[cfg(feature = "link")]
#[allow(unsafe_code, reason = "the C library's own declarations")]
mod ffi;
#[cfg(feature = "link")]
mod flows;
#[cfg(feature = "link")]
mod inbound;
#[cfg(feature = "link")]
mod outbound;
#[cfg(feature = "link")]
mod servers;
#[cfg(feature = "link")]
#[allow(
    unsafe_code,
    reason = "the safe words over the C library; nothing above this module is unsafe"
)]
mod sofia;
#[cfg(feature = "link")]
mod stack;
#[cfg(feature = "link")]
mod target;

/// The word that selects this plugin in the configuration.
pub const NAME: &str = "sofia";

/// What makes running stacks over sofia-sip.
#[cfg(feature = "link")]
pub fn factory() -> std::sync::Arc<dyn siprtc_core::sip::SipStackFactory> {
    std::sync::Arc::new(factory::SofiaFactory)
}
