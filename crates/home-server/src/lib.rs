//! The embedded default: SIP registrar and forking proxy, STUN/TURN server, in process
