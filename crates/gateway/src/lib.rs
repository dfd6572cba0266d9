//! The SIPRTC local gateway: JSEP x SIP, one Call per call
