//! Digest authentication for SIP (RFC 3261 section 22, RFC 7616, RFC 8760): both sides, without I/O.

use super::{Method, Uri};
use crate::Result;
use std::fmt;
use std::str::FromStr;

/// The hash of a challenge.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum DigestAlgorithm {
    /// RFC 2617's, still what most servers ask for.
    Md5,
    /// RFC 8760.
    Sha256,
}

/// A `Digest` challenge: WWW-Authenticate or Proxy-Authenticate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// The protection domain.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// To be returned as it came.
    pub opaque: Option<String>,
    /// The nonce was too old, the credentials may be right.
    pub stale: bool,
    /// `None` when the challenge names a hash that we do not know.
    pub algorithm: Option<DigestAlgorithm>,
    /// Offers `qop=auth`. A challenge without qop is RFC 2069's.
    pub qop_auth: bool,
}

impl fmt::Display for Challenge {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl FromStr for Challenge {
    type Err = crate::Error;

    /// `Digest realm="...", nonce="...", ...`
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let _ = s;
        unimplemented!()
    }
}

/// `Digest` credentials: Authorization or Proxy-Authorization.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// Whose.
    pub username: String,
    /// As in the challenge.
    pub realm: String,
    /// As in the challenge.
    pub nonce: String,
    /// The digest-uri, as written.
    pub uri: String,
    /// Hex.
    pub response: String,
    /// As in the challenge.
    pub algorithm: Option<DigestAlgorithm>,
    /// As in the challenge.
    pub opaque: Option<String>,
    /// The client's nonce, with qop.
    pub cnonce: Option<String>,
    /// The nonce count, with qop.
    pub nonce_count: Option<u32>,
    /// `auth`, when the challenge offered it.
    pub qop: Option<String>,
}

impl fmt::Display for Credentials {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl FromStr for Credentials {
    type Err = crate::Error;

    /// `Digest username="...", ...`
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let _ = s;
        unimplemented!()
    }
}

/// A user name and password. Never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct DigestSecret {
    /// The authentication user name.
    pub username: String,
    /// The password in clear.
    pub password: String,
}

impl fmt::Debug for DigestSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestSecret").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The client's side: answers challenges and counts nonces.
#[derive(Clone, Debug)]
pub struct DigestClient {
    _private: (),
}

impl DigestClient {
    /// Answers with `secret`.
    pub fn new(secret: DigestSecret) -> Self {
        let _ = secret;
        unimplemented!()
    }

    /// Credentials for the strongest of the challenges that we know, or an error that says which algorithms the
    /// server asked for. `cnonce` is fresh random text from the caller. The nonce count goes up for a nonce used again.
    pub fn answer(
        &mut self,
        challenges: &[Challenge],
        method: &Method,
        uri: &Uri,
        cnonce: &str,
    ) -> Result<Credentials> {
        let _ = (challenges, method, uri, cnonce);
        unimplemented!()
    }
}

/// What a server thinks of credentials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Right.
    Accepted,
    /// The password is right and the nonce is too old: challenge again with `stale=true`.
    Stale,
    /// Wrong.
    Wrong,
}

/// The server's side: stateless nonces that carry their time and are signed with a key of this process.
#[derive(Clone, Debug)]
pub struct DigestServer {
    _private: (),
}

impl DigestServer {
    /// Challenges for `realm`; `key` is random and stays secret; nonces last `nonce_seconds`.
    pub fn new(realm: impl Into<String>, key: [u8; 32], nonce_seconds: u64) -> Self {
        let _ = (realm.into(), key, nonce_seconds);
        unimplemented!()
    }

    /// The challenges of a 401 or 407, strongest first: SHA-256, then MD5. `now` is seconds since any fixed epoch.
    pub fn challenges(&self, now: u64, stale: bool) -> Vec<Challenge> {
        let _ = (now, stale);
        unimplemented!()
    }

    /// Verifies credentials for a method; `password` is the user's.
    pub fn verify(&self, now: u64, credentials: &Credentials, method: &Method, password: &str) -> Verdict {
        let _ = (now, credentials, method, password);
        unimplemented!()
    }
}
