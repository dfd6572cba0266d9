//! Answers to digest challenges (RFC 3261 section 22).

use super::Scope;
use siprtc_core::sip::{Challenge, DigestAlgorithm, DigestClient, DigestSecret, SipRequest, SipResponse};

/// Most challenges that one request answers: a server whose every nonce is stale must not keep us busy for ever.
const MAX_ROUNDS: usize = 4;

/// What one request has been challenged with so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    rounds: usize,
    answered: Vec<Demand>,
}

impl Attempts {
    pub(crate) fn is_empty(&self) -> bool {
        self.answered.is_empty()
    }
}

/// The challenges of one realm, by a proxy (407) or by the callee (401).
#[derive(Clone, Debug)]
struct Demand {
    proxy: bool,
    realm: String,
    challenges: Vec<Challenge>,
}

/// One call's credentials.
#[derive(Debug)]
pub(crate) struct Authenticator {
    client: Option<(DigestClient, String)>,
}

impl Authenticator {
    pub(crate) fn new(secret: Option<&DigestSecret>, weakest: DigestAlgorithm) -> Self {
        let client = |secret: &DigestSecret| DigestClient::new(secret.clone()).at_least(weakest);
        Authenticator {
            client: secret.map(|secret| (client(secret), secret.username.clone())),
        }
    }

    /// Puts credentials for `response`'s challenges into `request`, and again those for earlier challenges of the same
    /// request: each proxy on the path may have its own realm. The error is a sentence for a human.
    pub(crate) fn answer(
        &mut self,
        attempts: &mut Attempts,
        response: &SipResponse,
        request: &mut SipRequest,
        scope: &mut Scope,
    ) -> Result<(), String> {
        let demands = demands(response)?;
        let realm = demands
            .first()
            .map(|demand| demand.realm.clone())
            .unwrap_or_default();
        let Some((client, user)) = &mut self.client else {
            return Err(format!(
                "the server asks for a password (realm \"{realm}\") and none is configured: give the account a secret"
            ));
        };
        attempts.rounds += 1;
        for demand in demands {
            attempts.take(demand, user)?;
        }
        request.headers.remove("Authorization");
        request.headers.remove("Proxy-Authorization");
        for demand in &attempts.answered {
            let cnonce = scope.token();
            let credentials = client
                .answer(&demand.challenges, &request.method, &request.uri, &cnonce)
                .map_err(|error| format!("the server's challenge cannot be answered: {error}"))?;
            let name = if demand.proxy {
                "Proxy-Authorization"
            } else {
                "Authorization"
            };
            request.headers.push(name, credentials);
        }
        Ok(())
    }
}

impl Attempts {
    /// A realm that challenges again has refused our credentials, unless it says that only the nonce was stale.
    fn take(&mut self, demand: Demand, user: &str) -> Result<(), String> {
        let before = self
            .answered
            .iter_mut()
            .find(|a| a.proxy == demand.proxy && a.realm == demand.realm);
        match before {
            Some(_) if !demand.challenges.iter().any(|challenge| challenge.stale) => Err(format!(
                "the server (realm \"{}\") refuses the user \"{user}\" or its password: check both",
                demand.realm
            )),
            _ if self.rounds > MAX_ROUNDS => Err(format!(
                "the server (realm \"{}\") asked for credentials {MAX_ROUNDS} times in a row: its nonces seem to be \
                 stale at once",
                demand.realm
            )),
            Some(before) => {
                *before = demand;
                Ok(())
            }
            None => {
                self.answered.push(demand);
                Ok(())
            }
        }
    }
}

/// The challenges by realm.
fn demands(response: &SipResponse) -> Result<Vec<Demand>, String> {
    let proxy = response.status == 407;
    let challenges = if proxy {
        response.headers.proxy_challenges()
    } else {
        response.headers.www_challenges()
    };
    let challenges = challenges.map_err(|error| format!("the server's challenge cannot be read: {error}"))?;
    let mut demands: Vec<Demand> = Vec::new();
    for challenge in challenges {
        match demands.iter_mut().find(|demand| demand.realm == challenge.realm) {
            Some(demand) => demand.challenges.push(challenge),
            None => {
                let realm = challenge.realm.clone();
                demands.push(Demand {
                    proxy,
                    realm,
                    challenges: vec![challenge],
                });
            }
        }
    }
    if demands.is_empty() {
        return Err(format!(
            "the server asks for credentials ({}) without a Digest challenge: Digest is all that is known here",
            response.status
        ));
    }
    Ok(demands)
}
