//! Keeps one address-of-record registered (RFC 3261 section 10)
