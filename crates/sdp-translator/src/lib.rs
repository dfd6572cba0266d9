//! WebRTC SDP to SIP SDP and back, explained
