//! Which challenges are answered, and when a refusal means that the password is wrong.

use siprtc_core::sip::{
    Challenge, DigestAlgorithm, DigestClient, DigestSecret, Method, SipRequest, SipResponse, Uri,
};

/// One key for each protection domain that has challenged us: a proxy on the way (407) and the registrar (401) may
/// each have their own, and a REGISTER then carries credentials for all of them (RFC 3261 section 22.3).
#[derive(Debug)]
pub(crate) struct Keyring {
    secret: Option<DigestSecret>,
    /// Nothing weaker is answered.
    weakest: DigestAlgorithm,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    space: Space,
    realm: String,
    challenges: Vec<Challenge>,
    client: DigestClient,
    /// The nonce came in this very attempt, so that it cannot be too old.
    fresh: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Space {
    Proxy,
    Registrar,
}

/// Why a challenge is not answered.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// The header field is missing or cannot be read.
    Malformed(String),
    /// No user name and password are configured.
    NoSecret,
    /// A hash that we do not know.
    Unsupported(String),
    /// The strongest hash offered is weaker than we allow.
    Weak {
        offered: DigestAlgorithm,
        weakest: DigestAlgorithm,
    },
    /// The digest was computed over a fresh nonce and refused.
    Wrong,
}

impl Keyring {
    pub(crate) fn new(secret: Option<DigestSecret>, weakest: DigestAlgorithm) -> Self {
        Keyring {
            secret,
            weakest,
            keys: Vec::new(),
        }
    }

    /// Forgets every challenge: another registrar shall not see answers to the nonces of this one.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
    }

    /// From here on, the nonces at hand may have become too old.
    pub(crate) fn begin_attempt(&mut self) {
        self.keys.iter_mut().for_each(|key| key.fresh = false);
    }

    /// Adds credentials for every known challenge, before anybody asks: a refresh then takes one round trip.
    pub(crate) fn authorize(&mut self, request: &mut SipRequest, cnonce: &str) {
        for key in &mut self.keys {
            if let Ok(credentials) = key
                .client
                .answer(&key.challenges, &request.method, &request.uri, cnonce)
            {
                request.headers.push(key.space.credentials_header(), credentials);
            }
        }
    }

    /// Takes the challenges of a 401 or 407 to a REGISTER of `uri`; the next REGISTER answers them.
    pub(crate) fn challenged(&mut self, uri: &Uri, response: &SipResponse) -> Result<(), Refusal> {
        let space = if response.status == 407 {
            Space::Proxy
        } else {
            Space::Registrar
        };
        let challenges = match space {
            Space::Proxy => response.headers.proxy_challenges(),
            Space::Registrar => response.headers.www_challenges(),
        }
        .map_err(|error| Refusal::Malformed(error.message().to_owned()))?;
        if challenges.is_empty() {
            return Err(Refusal::Malformed(format!(
                "no digest in {}",
                space.challenge_header()
            )));
        }
        let Some(secret) = self.secret.clone() else {
            return Err(Refusal::NoSecret);
        };
        for (realm, challenges) in by_realm(challenges) {
            self.learn(&secret, space, realm, challenges, uri)?;
        }
        Ok(())
    }

    fn learn(
        &mut self,
        secret: &DigestSecret,
        space: Space,
        realm: String,
        challenges: Vec<Challenge>,
        uri: &Uri,
    ) -> Result<(), Refusal> {
        let weakest = self.weakest;
        let mut probe = DigestClient::new(secret.clone()).at_least(weakest);
        if let Some(offered) = probe.too_weak(&challenges) {
            return Err(Refusal::Weak { offered, weakest });
        }
        if let Err(error) = probe.answer(&challenges, &Method::Register, uri, "0") {
            return Err(Refusal::Unsupported(error.message().to_owned()));
        }
        let stale = challenges.iter().any(|challenge| challenge.stale);
        match self
            .keys
            .iter_mut()
            .find(|key| key.space == space && key.realm == realm)
        {
            // The digest over a nonce minutes old may be refused for its age even without stale=true: some servers
            // forget their nonces. Over a nonce that they have just given, only the password is left to be wrong.
            Some(key) if key.fresh && !stale => Err(Refusal::Wrong),
            Some(key) => {
                key.challenges = challenges;
                key.fresh = true;
                Ok(())
            }
            None => {
                if self.keys.len() == MAX_REALMS {
                    self.keys.remove(0);
                }
                let client = DigestClient::new(secret.clone()).at_least(weakest);
                self.keys.push(Key {
                    space,
                    realm,
                    challenges,
                    client,
                    fresh: true,
                });
                Ok(())
            }
        }
    }
}

impl Space {
    fn challenge_header(self) -> &'static str {
        match self {
            Space::Proxy => "Proxy-Authenticate",
            Space::Registrar => "WWW-Authenticate",
        }
    }

    fn credentials_header(self) -> &'static str {
        match self {
            Space::Proxy => "Proxy-Authorization",
            Space::Registrar => "Authorization",
        }
    }
}

/// A realm may be offered with several hashes, one header field each (RFC 8760 section 2.3).
fn by_realm(challenges: Vec<Challenge>) -> Vec<(String, Vec<Challenge>)> {
    let mut realms: Vec<(String, Vec<Challenge>)> = Vec::new();
    for challenge in challenges {
        match realms.iter().position(|(realm, _)| *realm == challenge.realm) {
            Some(index) => realms[index].1.push(challenge),
            None if realms.len() < MAX_REALMS => realms.push((challenge.realm.clone(), vec![challenge])),
            None => {}
        }
    }
    realms
}

/// Most protection domains remembered; the oldest is forgotten for a new one.
const MAX_REALMS: usize = 4;
