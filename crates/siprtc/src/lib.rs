//! A native endpoint that fuses a WebRTC PeerConnection with SIP inside the client
