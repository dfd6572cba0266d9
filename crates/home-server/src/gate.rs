//! Who may pass: digest authentication of registrations (401) and of our own users' requests (407).

use crate::config::Users;
use crate::refusal::Refusal;
use siprtc_core::sip::{Credentials, DigestServer, Headers, SipRequest, SipUri, Uri, Verdict};
use std::time::Instant;

/// Seconds that a nonce is good for; after them a client is challenged again with `stale=true`, without its user
/// noticing.
const NONCE_SECONDS: u64 = 300;
/// Most credentials looked at in one request; a client has no use for more than one a realm and algorithm.
const MAX_CREDENTIALS: usize = 4;

/// In which role the server asks (RFC 3261 sections 22.2 and 22.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asking {
    /// 407, Proxy-Authenticate.
    AsProxy,
    /// 401, WWW-Authenticate.
    AsRegistrar,
}

/// Checks credentials against the users' passwords.
#[derive(Debug)]
pub(crate) struct Gate {
    realm: String,
    users: Users,
    digest: DigestServer,
    began: Instant,
}

impl Gate {
    pub(crate) fn new(now: Instant, realm: &str, users: Users, key: [u8; 32]) -> Self {
        let digest = DigestServer::new(realm, key, NONCE_SECONDS);
        Gate {
            realm: realm.to_owned(),
            users,
            digest,
            began: now,
        }
    }

    /// Whether there is such a user.
    pub(crate) fn knows(&self, user: &str) -> bool {
        self.users.contains(user)
    }

    /// Lets the request pass when it carries credentials of `user`. A refusal is the challenge, or 403 when somebody
    /// else's credentials came (RFC 3261 section 10.3 step 4).
    pub(crate) fn check(
        &self,
        now: Instant,
        asking: Asking,
        request: &SipRequest,
        user: &str,
    ) -> Result<(), Refusal> {
        let headers = &request.headers;
        let all = match asking {
            Asking::AsProxy => headers.proxy_authorizations(),
            Asking::AsRegistrar => headers.authorizations(),
        };
        let all = all.map_err(|_| Refusal::new(400))?;
        let mut stale = false;
        let ours = all.iter().filter(|c| c.realm == self.realm).take(MAX_CREDENTIALS);
        for credentials in ours {
            match self.verdict(now, credentials, request) {
                Verdict::Accepted if credentials.username == user => return Ok(()),
                Verdict::Accepted => return Err(Refusal::new(403)),
                Verdict::Stale => stale = true,
                Verdict::Wrong => {}
            }
        }
        Err(self.challenge(now, asking, stale))
    }

    /// Takes the credentials for this server out of a request that goes on; other realms' stay (RFC 3261 section
    /// 22.3).
    pub(crate) fn strip(&self, headers: &mut Headers) {
        const NAME: &str = "Proxy-Authorization";
        let foreign: Vec<String> = headers
            .values(NAME)
            .filter(|value| value.parse().map_or(true, |c: Credentials| c.realm != self.realm))
            .map(str::to_owned)
            .collect();
        headers.remove(NAME);
        for value in foreign {
            headers.push(NAME, value);
        }
    }

    fn verdict(&self, now: Instant, credentials: &Credentials, request: &SipRequest) -> Verdict {
        let Some(password) = self.users.password(&credentials.username) else {
            return Verdict::Wrong;
        };
        if !names_target(&credentials.uri, &request.uri) {
            return Verdict::Wrong;
        }
        self.digest
            .verify(self.seconds(now), credentials, &request.method, password)
    }

    fn challenge(&self, now: Instant, asking: Asking, stale: bool) -> Refusal {
        let (status, name) = match asking {
            Asking::AsProxy => (407, "Proxy-Authenticate"),
            Asking::AsRegistrar => (401, "WWW-Authenticate"),
        };
        let challenges = self.digest.challenges(self.seconds(now), stale);
        challenges
            .into_iter()
            .fold(Refusal::new(status), |refusal, challenge| {
                refusal.with(name, challenge)
            })
    }

    /// Seconds for the nonces, from an epoch that lies a nonce's life before the start.
    fn seconds(&self, now: Instant) -> u64 {
        NONCE_SECONDS + now.saturating_duration_since(self.began).as_secs()
    }
}

/// RFC 7616 section 3.4.6: credentials are for one target. Parameters are left out of the comparison, for clients are
/// known to differ in them.
fn names_target(digest_uri: &str, target: &Uri) -> bool {
    let bare = |uri: &SipUri| (uri.user.clone(), uri.host.clone(), uri.port);
    match (digest_uri.parse::<Uri>(), target) {
        (Ok(Uri::Sip(named)), Uri::Sip(target)) => bare(&named) == bare(target),
        (Ok(Uri::Other(named)), Uri::Other(target)) => named == *target,
        _ => false,
    }
}
