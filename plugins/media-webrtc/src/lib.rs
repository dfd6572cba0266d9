//! The media port over the webrtc crate
