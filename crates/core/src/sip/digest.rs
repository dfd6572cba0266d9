//! The client's side of Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760), and what both sides compute.

use super::{Challenge, Credentials, DigestAlgorithm, Method, Uri};
use crate::{Error, Fault, Result};
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fmt;

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
        f.debug_struct("DigestSecret")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Most realms whose nonce a client counts. Policy when full: the one that was used first is forgotten, and its nonce
/// counts from one again, which a server answers with a fresh challenge at worst.
const MAX_COUNTED_REALMS: usize = 16;

/// The client's side: answers challenges and counts nonces.
#[derive(Clone, Debug)]
pub struct DigestClient {
    secret: DigestSecret,
    weakest: DigestAlgorithm,
    counts: Vec<NonceCount>,
}

#[derive(Clone, Debug)]
struct NonceCount {
    realm: String,
    nonce: String,
    count: u32,
}

impl DigestClient {
    /// Answers with `secret`.
    pub fn new(secret: DigestSecret) -> Self {
        DigestClient {
            secret,
            weakest: DigestAlgorithm::Md5,
            counts: Vec::new(),
        }
    }

    /// Answers no challenge over a weaker hash than `weakest`, whoever asks: a digest over MD5 can be searched for the
    /// password by whoever reads it.
    #[must_use]
    pub fn at_least(self, weakest: DigestAlgorithm) -> Self {
        DigestClient { weakest, ..self }
    }

    /// The strongest hash offered, when it is one that we know and will not use ([`DigestClient::at_least`]).
    pub fn too_weak(&self, challenges: &[Challenge]) -> Option<DigestAlgorithm> {
        let best = challenges
            .iter()
            .filter_map(|challenge| challenge.algorithm)
            .max();
        best.filter(|best| *best < self.weakest)
    }

    /// Credentials for the strongest of the challenges that we know, or an error that says which algorithms the
    /// server asked for. `cnonce` is fresh random text from the caller. The nonce count goes up for a nonce used again.
    ///
    /// The challenges are alternatives of one realm; a message with challenges of several realms (RFC 3261 section
    /// 22.3) is answered with one call for each.
    ///
    /// # Errors
    /// [`Fault::PeerIncompatible`] when no challenge names a hash that we know, or only those that are too weak.
    pub fn answer(
        &mut self,
        challenges: &[Challenge],
        method: &Method,
        uri: &Uri,
        cnonce: &str,
    ) -> Result<Credentials> {
        let known = challenges
            .iter()
            .filter_map(|challenge| challenge.algorithm.map(|found| (found, challenge)));
        if let Some(offered) = self.too_weak(challenges) {
            return Err(weak(offered, self.weakest));
        }
        // RFC 8760 section 2.4: the strongest; of equals one with qop, for without it an answer can be replayed; of
        // those the first. `max_by_key` takes the last of equals.
        let strength =
            |(algorithm, challenge): &(DigestAlgorithm, &Challenge)| (*algorithm, challenge.qop_auth);
        let Some((algorithm, challenge)) = known.rev().max_by_key(strength) else {
            return Err(nothing_known(challenges));
        };
        let count = challenge.qop_auth.then(|| self.count(challenge));
        let mut credentials = Credentials {
            username: self.secret.username.clone(),
            realm: challenge.realm.clone(),
            nonce: challenge.nonce.clone(),
            uri: uri.to_string(),
            response: String::new(),
            algorithm: Some(algorithm),
            opaque: challenge.opaque.clone(),
            cnonce: count.map(|_| cnonce.to_owned()),
            nonce_count: count,
            qop: count.map(|_| "auth".to_owned()),
        };
        credentials.response = response(&credentials, method.as_str(), &self.secret.password)
            .expect("BUG: the algorithm is known");
        Ok(credentials)
    }

    fn count(&mut self, challenge: &Challenge) -> u32 {
        if let Some(known) = self
            .counts
            .iter_mut()
            .find(|known| known.realm == challenge.realm)
        {
            if known.nonce != challenge.nonce {
                (known.nonce, known.count) = (challenge.nonce.clone(), 0);
            }
            known.count = known.count.saturating_add(1);
            return known.count;
        }
        if self.counts.len() >= MAX_COUNTED_REALMS {
            self.counts.remove(0);
        }
        let (realm, nonce) = (challenge.realm.clone(), challenge.nonce.clone());
        self.counts.push(NonceCount {
            realm,
            nonce,
            count: 1,
        });
        1
    }
}

fn weak(offered: DigestAlgorithm, weakest: DigestAlgorithm) -> Error {
    Error::new(
        Fault::PeerIncompatible,
        "answer Digest challenge",
        format!("the server offers {offered} at best, and a digest weaker than {weakest} is never sent"),
    )
    .advice(format!("let the server offer {weakest}, or allow {offered}"))
}

fn nothing_known(challenges: &[Challenge]) -> Error {
    let message = match challenges.first() {
        Some(challenge) => format!(
            "the server of realm \"{}\" asks for a Digest algorithm that is neither MD5 nor SHA-256",
            challenge.realm
        ),
        None => "the server refused us without a Digest challenge".to_owned(),
    };
    Error::new(Fault::PeerIncompatible, "answer Digest challenge", message)
        .advice("allow algorithm=SHA-256 or algorithm=MD5 on the server")
}

/// RFC 7616 section 3.4.1, and RFC 2069's way without qop. `None` when the credentials cannot be computed: an unknown
/// algorithm, a qop other than `auth`, or qop without cnonce and nonce count.
pub(super) fn response(credentials: &Credentials, method: &str, password: &str) -> Option<String> {
    let algorithm = credentials.algorithm?;
    let Credentials {
        username,
        realm,
        nonce,
        uri,
        ..
    } = credentials;
    let secret = hash(algorithm, &format!("{username}:{realm}:{password}"));
    let request = hash(algorithm, &format!("{method}:{uri}"));
    let Some(qop) = &credentials.qop else {
        return Some(hash(algorithm, &format!("{secret}:{nonce}:{request}")));
    };
    if !qop.eq_ignore_ascii_case("auth") {
        return None;
    }
    let (cnonce, count) = (credentials.cnonce.as_deref()?, credentials.nonce_count?);
    Some(hash(
        algorithm,
        &format!("{secret}:{nonce}:{count:08x}:{cnonce}:{qop}:{request}"),
    ))
}

fn hash(algorithm: DigestAlgorithm, text: &str) -> String {
    match algorithm {
        DigestAlgorithm::Md5 => hex(&Md5::digest(text)),
        DigestAlgorithm::Sha256 => hex(&Sha256::digest(text)),
    }
}

pub(super) fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    nibbles
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::DigestServer;

    fn secret(username: &str, password: &str) -> DigestSecret {
        DigestSecret {
            username: username.to_owned(),
            password: password.to_owned(),
        }
    }

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn the_examples_of_rfc_7616_come_out() {
        let text = concat!(
            r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=MD5, "#,
            r#"nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, "#,
            r#"cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, "#,
            r#"response="8ca523f5e9506fed4657c9700eebdbec", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
        );
        let mut credentials: Credentials = text.parse().unwrap();
        assert_eq!(
            response(&credentials, "GET", "Circle of Life").unwrap(),
            credentials.response
        );
        credentials.algorithm = Some(DigestAlgorithm::Sha256);
        let sha256 = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert_eq!(response(&credentials, "GET", "Circle of Life").unwrap(), sha256);
    }

    #[test]
    fn the_example_of_rfc_2617_comes_out() {
        let text = concat!(
            r#"Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", "#,
            r#"uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", "#,
            r#"response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41""#
        );
        let credentials: Credentials = text.parse().unwrap();
        assert_eq!(
            response(&credentials, "GET", "Circle Of Life").unwrap(),
            credentials.response
        );
    }

    #[test]
    fn without_qop_the_answer_is_rfc_2069s() {
        let challenge: Challenge =
            r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093""#
                .parse()
                .unwrap();
        let answer = DigestClient::new(secret("Mufasa", "CircleOfLife"))
            .answer(
                &[challenge],
                &Method::Other("GET".to_owned()),
                &Uri::Other("/dir/index.html".to_owned()),
                "x",
            )
            .unwrap();
        // RFC 2069's own example has an erratum (749): this is its corrected value.
        assert_eq!(answer.response, "1949323746fe6a43ef61f9606e7febea");
        assert_eq!(
            (answer.cnonce, answer.nonce_count, answer.qop),
            (None, None, None)
        );
    }

    #[test]
    fn the_strongest_known_challenge_is_answered() {
        let server = DigestServer::new("r", [7; 32], 60);
        let mut challenges = server.challenges(0, false);
        challenges.reverse();
        let mut client = DigestClient::new(secret("bob", "zanzibar"));
        let answer = client
            .answer(&challenges, &Method::Register, &uri("sip:r"), "c")
            .unwrap();
        assert_eq!(answer.algorithm, Some(DigestAlgorithm::Sha256));
        let answer = client
            .answer(&challenges[..1], &Method::Register, &uri("sip:r"), "c")
            .unwrap();
        assert_eq!(answer.algorithm, Some(DigestAlgorithm::Md5));
    }

    #[test]
    fn an_unknown_algorithm_is_an_error_that_says_so() {
        let challenge: Challenge = r#"Digest realm="ims", nonce="n", algorithm=AKAv1-MD5"#.parse().unwrap();
        let mut client = DigestClient::new(secret("bob", "zanzibar"));
        let error = client
            .answer(&[challenge], &Method::Register, &uri("sip:r"), "c")
            .unwrap_err();
        assert_eq!(error.fault(), Fault::PeerIncompatible);
        assert!(error.to_string().contains("ims"), "{error}");
        assert!(client.answer(&[], &Method::Register, &uri("sip:r"), "c").is_err());
    }

    #[test]
    fn a_challenge_that_is_too_weak_is_not_answered() {
        let server = DigestServer::new("r", [7; 32], 60);
        let challenges = server.challenges(0, false);
        let md5: Vec<_> = challenges
            .iter()
            .filter(|challenge| challenge.algorithm == Some(DigestAlgorithm::Md5))
            .cloned()
            .collect();
        let mut client = DigestClient::new(secret("bob", "zanzibar")).at_least(DigestAlgorithm::Sha256);
        let error = client
            .answer(&md5, &Method::Register, &uri("sip:r"), "c")
            .unwrap_err();
        assert!(
            error.to_string().contains("MD5") && error.to_string().contains("SHA-256"),
            "{error}"
        );
        assert_eq!(client.too_weak(&md5), Some(DigestAlgorithm::Md5));
        let answer = client
            .answer(&challenges, &Method::Register, &uri("sip:r"), "c")
            .unwrap();
        assert_eq!(answer.algorithm, Some(DigestAlgorithm::Sha256));
    }

    #[test]
    fn of_two_equal_challenges_the_one_with_qop_is_answered() {
        let challenge = |text: &str| text.parse::<Challenge>().unwrap();
        let plain = challenge(r#"Digest realm="r", nonce="a""#);
        let with_qop = challenge(r#"Digest realm="r", nonce="b", qop="auth""#);
        let mut client = DigestClient::new(secret("bob", "zanzibar"));
        let answer = client
            .answer(&[plain, with_qop], &Method::Register, &uri("sip:r"), "c")
            .unwrap();
        assert_eq!(
            (answer.nonce.as_str(), answer.qop.as_deref()),
            ("b", Some("auth"))
        );
    }

    #[test]
    fn a_quality_of_protection_that_we_do_not_know_is_not_answered_without_one() {
        let challenge: Challenge = r#"Digest realm="r", nonce="a", qop="auth-int""#.parse().unwrap();
        let mut client = DigestClient::new(secret("bob", "zanzibar"));
        assert!(
            client
                .answer(&[challenge], &Method::Register, &uri("sip:r"), "c")
                .is_err()
        );
    }

    #[test]
    fn the_nonce_count_goes_up_with_each_use_and_begins_again_with_a_new_nonce() {
        let mut client = DigestClient::new(secret("bob", "zanzibar"));
        let mut count = |realm: &str, nonce: &str| {
            let challenge: Challenge = format!(r#"Digest realm="{realm}", nonce="{nonce}", qop="auth""#)
                .parse()
                .unwrap();
            client
                .answer(&[challenge], &Method::Invite, &uri("sip:r"), "c")
                .unwrap()
                .nonce_count
                .unwrap()
        };
        assert_eq!(
            [count("a", "1"), count("a", "1"), count("b", "1"), count("a", "1")],
            [1, 2, 1, 3]
        );
        assert_eq!([count("a", "2"), count("a", "2")], [1, 2]);
        for realm in 0..2 * MAX_COUNTED_REALMS {
            assert_eq!(count(&realm.to_string(), "1"), 1);
        }
    }

    #[test]
    fn the_password_is_not_printed() {
        let client = DigestClient::new(secret("bob", "zanzibar"));
        assert!(!format!("{client:?}").contains("zanzibar"));
    }
}
