//! The SIP port's conformance suite over rsipstack.

siprtc_testkit::sip_conformance!(siprtc_sip_rsipstack::factory());
