//! The ICE port's conformance suite over this agent.

siprtc_testkit::ice_conformance!(siprtc_ice_is::factory());
