//! Interfaces, STUN and TURN: what a call can be reached by
