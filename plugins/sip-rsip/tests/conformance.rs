//! The SIP port's conformance suite over rsip's parser.

siprtc_testkit::sip_conformance!(siprtc_sip_rsip::factory());
