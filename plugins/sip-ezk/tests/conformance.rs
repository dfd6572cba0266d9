//! The SIP port's conformance suite over ezk.

siprtc_testkit::sip_conformance!(siprtc_sip_ezk::factory());
