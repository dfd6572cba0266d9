//! The server's side of Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760).

use super::digest::{hex, response};
use super::{Challenge, Credentials, DigestAlgorithm, Method};
use sha2::{Digest, Sha256};
use std::fmt;

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
///
/// Being stateless it keeps no nonce counts: a request that was overheard can be sent again, as it is and to the same
/// URI, until its nonce is too old. Keep nonces short-lived where the transport can be overheard.
#[derive(Clone)]
pub struct DigestServer {
    realm: String,
    key: [u8; 32],
    nonce_seconds: u64,
}

/// Without the key.
impl fmt::Debug for DigestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestServer")
            .field("realm", &self.realm)
            .field("nonce_seconds", &self.nonce_seconds)
            .finish_non_exhaustive()
    }
}

impl DigestServer {
    /// Challenges for `realm`; `key` is random and stays secret; nonces last `nonce_seconds`.
    pub fn new(realm: impl Into<String>, key: [u8; 32], nonce_seconds: u64) -> Self {
        DigestServer {
            realm: realm.into(),
            key,
            nonce_seconds,
        }
    }

    /// The challenges of a 401 or 407, strongest first: SHA-256, then MD5. `now` is seconds since any fixed epoch.
    pub fn challenges(&self, now: u64, stale: bool) -> Vec<Challenge> {
        let nonce = self.nonce(now);
        let challenge = |algorithm| Challenge {
            realm: self.realm.clone(),
            nonce: nonce.clone(),
            opaque: None,
            stale,
            algorithm: Some(algorithm),
            qop_auth: true,
        };
        vec![
            challenge(DigestAlgorithm::Sha256),
            challenge(DigestAlgorithm::Md5),
        ]
    }

    /// Verifies credentials for a method; `password` is the user's.
    ///
    /// The caller looks the password up by `credentials.username`, and compares `credentials.uri` with the
    /// Request-URI where that matters to it (RFC 7616 section 3.4.6: a proxy may have changed the latter).
    /// Credentials without qop (RFC 2069) are accepted, for old clients send them.
    pub fn verify(&self, now: u64, credentials: &Credentials, method: &Method, password: &str) -> Verdict {
        if credentials.realm != self.realm {
            return Verdict::Wrong;
        }
        let Some(issued) = self.issued(&credentials.nonce) else {
            return Verdict::Wrong;
        };
        let Some(expected) = response(credentials, method.as_str(), password) else {
            return Verdict::Wrong;
        };
        if !same(
            expected.as_bytes(),
            credentials.response.to_ascii_lowercase().as_bytes(),
        ) {
            return Verdict::Wrong;
        }
        if now.saturating_sub(issued) > self.nonce_seconds {
            Verdict::Stale
        } else {
            Verdict::Accepted
        }
    }

    /// The time and its signature, both in hex.
    fn nonce(&self, now: u64) -> String {
        let mut signed = now.to_be_bytes().to_vec();
        signed.extend_from_slice(self.realm.as_bytes());
        format!("{now:016x}{}", hex(&hmac_sha256(&self.key, &signed)[..16]))
    }

    /// When a nonce was made, if it was made here.
    fn issued(&self, nonce: &str) -> Option<u64> {
        let issued = u64::from_str_radix(nonce.get(..16)?, 16).ok()?;
        same(self.nonce(issued).as_bytes(), nonce.as_bytes()).then_some(issued)
    }
}

/// RFC 2104, for a key that is no longer than SHA-256's block.
fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |fill: u8| {
        let mut block = [fill; 64];
        block.iter_mut().zip(key).for_each(|(octet, key)| *octet ^= key);
        block
    };
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

/// In a time that does not tell where two texts differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{DigestClient, DigestSecret, Uri};

    fn client() -> DigestClient {
        DigestClient::new(DigestSecret {
            username: "bob".to_owned(),
            password: "zanzibar".to_owned(),
        })
    }

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn right_credentials_are_accepted_until_their_nonce_is_too_old() {
        let server = DigestServer::new("r", [7; 32], 60);
        let mut client = client();
        for challenge in server.challenges(1000, false) {
            let answer = client
                .answer(&[challenge], &Method::Register, &uri("sip:r"), "c")
                .unwrap();
            let answer: Credentials = answer.to_string().parse().unwrap();
            let verdict = |now, password| server.verify(now, &answer, &Method::Register, password);
            assert_eq!(verdict(1060, "zanzibar"), Verdict::Accepted);
            assert_eq!(verdict(1061, "zanzibar"), Verdict::Stale);
            assert_eq!(verdict(1000, "Zanzibar"), Verdict::Wrong);
            assert_eq!(verdict(1061, "Zanzibar"), Verdict::Wrong);
            assert_eq!(
                server.verify(1000, &answer, &Method::Invite, "zanzibar"),
                Verdict::Wrong
            );
        }
    }

    #[test]
    fn an_old_client_without_qop_is_accepted() {
        let server = DigestServer::new("r", [7; 32], 60);
        let challenge = Challenge {
            qop_auth: false,
            ..server.challenges(0, false).remove(1)
        };
        let mut client = client();
        let answer = client
            .answer(&[challenge], &Method::Register, &uri("sip:r"), "c")
            .unwrap();
        assert_eq!(
            server.verify(1, &answer, &Method::Register, "zanzibar"),
            Verdict::Accepted
        );
    }

    #[test]
    fn a_foreign_nonce_realm_qop_or_algorithm_is_wrong() {
        let server = DigestServer::new("r", [7; 32], 60);
        let mut client = client();
        let mut verdict = |issuer: &DigestServer, change: &dyn Fn(&mut Credentials)| {
            let challenges = issuer.challenges(0, false);
            let mut answer = client
                .answer(&challenges, &Method::Register, &uri("sip:r"), "c")
                .unwrap();
            change(&mut answer);
            server.verify(0, &answer, &Method::Register, "zanzibar")
        };
        assert_eq!(verdict(&server, &|_| {}), Verdict::Accepted);
        assert_eq!(
            verdict(&DigestServer::new("r", [8; 32], 60), &|_| {}),
            Verdict::Wrong
        );
        assert_eq!(
            verdict(&DigestServer::new("s", [7; 32], 60), &|_| {}),
            Verdict::Wrong
        );
        assert_eq!(
            verdict(&server, &|answer| answer.qop = Some("auth-int".to_owned())),
            Verdict::Wrong
        );
        assert_eq!(verdict(&server, &|answer| answer.cnonce = None), Verdict::Wrong);
        assert_eq!(
            verdict(&server, &|answer| answer.algorithm = None),
            Verdict::Wrong
        );
        for nonce in [
            "",
            "short",
            "é7ypf/xlj9XXwfDPEoM4URrv",
            "+000000000000000",
            "0000000000000000",
        ] {
            assert_eq!(
                verdict(&server, &|answer| answer.nonce = nonce.to_owned()),
                Verdict::Wrong,
                "{nonce}"
            );
        }
    }

    #[test]
    fn hmac_is_rfc_4231s() {
        // RFC 4231 section 4.3's key and message; zeros after a short key change nothing (RFC 2104 section 2).
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mac = hex(&hmac_sha256(&key, b"what do ya want for nothing?"));
        assert_eq!(
            mac,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn the_key_is_not_printed() {
        assert!(!format!("{:?}", DigestServer::new("r", [77; 32], 60)).contains("77"));
    }
}
