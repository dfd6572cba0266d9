//! The SIP port over ezk-sip-core
