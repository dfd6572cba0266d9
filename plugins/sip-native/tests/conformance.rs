//! The SIP port's conformance suite over our own stack.

siprtc_testkit::sip_conformance!(siprtc_sip_native::factory());
