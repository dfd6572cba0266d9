//! Who is trusted, and who we are, on TLS and WSS.

use bytes::Bytes;
use std::fmt;

/// TLS of a stack's listeners and connections. Peers are verified unless somebody says otherwise.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Certificates of the authorities that may vouch for a server, PEM. `None`: the system's.
    pub ca: Option<Bytes>,
    /// What a listener shows, and a connection when the server asks for it (mutual TLS).
    pub identity: Option<TlsIdentity>,
    /// Certificates of the authorities that may vouch for a client, PEM. `None`: a listener asks no client for one.
    pub client_ca: Option<Bytes>,
    /// Whether a server's certificate is verified against `ca` and the name that was asked for (RFC 5922).
    pub verify: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        TlsConfig {
            ca: None,
            identity: None,
            client_ca: None,
            verify: true,
        }
    }
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The certificate and those between it and the authority, PEM.
    pub chain: Bytes,
    /// Its private key, PEM.
    pub key: Bytes,
}

/// Without the key.
impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}
