//! The SIP port's conformance suite over sofia-sip.

#![cfg(feature = "link")]

siprtc_testkit::sip_conformance!(siprtc_sip_sofia::factory());
