//! Who may relay: long-term users (RFC 8489 section 9.2), and names that expire
//! (draft-uberti-behave-turn-rest-00, which coturn calls `use-auth-secret`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Names and secrets; none is ever printed.
#[derive(Clone, Default)]
pub struct Credentials {
    any: Option<String>,
    users: BTreeMap<String, String>,
    secrets: Vec<String>,
}

impl Credentials {
    /// Nobody.
    pub fn none() -> Self {
        Credentials::default()
    }

    /// Every name, with this one password: for tests and demonstrations.
    pub fn any(password: impl Into<String>) -> Self {
        Credentials {
            any: Some(password.into()),
            ..Credentials::default()
        }
    }

    /// Pairs of name and password.
    pub fn named<N: Into<String>, P: Into<String>>(users: impl IntoIterator<Item = (N, P)>) -> Self {
        let users = users
            .into_iter()
            .map(|(name, password)| (name.into(), password.into()));
        Credentials {
            users: users.collect(),
            ..Credentials::default()
        }
    }

    /// A secret shared with whoever hands out time-limited credentials. With several each is good, so that one can
    /// take another's place.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Whether there is anybody.
    pub fn is_empty(&self) -> bool {
        self.any.is_none() && self.users.is_empty() && self.secrets.is_empty()
    }

    /// The passwords that `name` may have when the time is `unix` seconds after 1970; none for a name that is unknown
    /// or has expired.
    pub(crate) fn passwords<'a>(&'a self, name: &'a str, unix: u64) -> impl Iterator<Item = Cow<'a, str>> {
        let lasting = self.users.get(name).or(self.any.as_ref());
        let live = expiry(name).is_some_and(|expiry| expiry > unix);
        let secrets = if live { self.secrets.as_slice() } else { &[] };
        lasting
            .map(|password| Cow::Borrowed(password.as_str()))
            .into_iter()
            .chain(
                secrets
                    .iter()
                    .map(move |secret| Cow::Owned(rest_password(secret, name))),
            )
    }

    /// Whom the quota counts: for a time-limited name the part behind the time, if it has one.
    pub(crate) fn quota_name<'a>(&self, name: &'a str) -> &'a str {
        match name.split_once(':') {
            Some((_, user))
                if !self.secrets.is_empty() && !self.users.contains_key(name) && expiry(name).is_some() =>
            {
                user
            }
            _ => name,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("any", &self.any.is_some())
            .field("users", &self.users.len())
            .field("secrets", &self.secrets.len())
            .finish()
    }
}

/// The password of a time-limited name: base64(HMAC-SHA1(secret, name)). `name` is `expiry` or `expiry:user`, the expiry
/// in seconds since 1970.
///
/// ```
/// let password = siprtc_turn_server::rest_password("north", "1433895918:user");
/// assert_eq!(password.len(), 28);
/// ```
pub fn rest_password(secret: &str, name: &str) -> String {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("BUG: HMAC takes a key of any length");
    mac.update(name.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn expiry(name: &str) -> Option<u64> {
    let time = name.split(':').next()?;
    time.bytes()
        .all(|octet| octet.is_ascii_digit())
        .then(|| time.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limited_name_has_its_password_until_it_expires() {
        let credentials = Credentials::none().with_secret("north").with_secret("south");
        let passwords = |name: &str, unix| -> Vec<String> {
            credentials.passwords(name, unix).map(Cow::into_owned).collect()
        };
        // printf 1000:bob | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(
            passwords("1000:bob", 999),
            [
                rest_password("north", "1000:bob"),
                rest_password("south", "1000:bob")
            ]
        );
        assert_eq!(rest_password("north", "1000:bob"), "tqKikmpfHf1vnz/yAuO5g3SIqqU=");
        assert!(passwords("1000:bob", 1000).is_empty());
        assert!(passwords("bob", 0).is_empty() && passwords(":bob", 0).is_empty());
        assert!(passwords("99999999999999999999999:bob", 0).is_empty());
    }

    #[test]
    fn a_user_who_happens_to_look_like_a_time_keeps_the_own_password() {
        let credentials = Credentials::named([("1000", "own")]).with_secret("north");
        assert_eq!(credentials.passwords("1000", 2000).collect::<Vec<_>>(), ["own"]);
    }

    #[test]
    fn the_quota_counts_the_user_behind_the_time() {
        let rest = Credentials::none().with_secret("north");
        assert_eq!(
            [rest.quota_name("1000:bob"), rest.quota_name("1000")],
            ["bob", "1000"]
        );
        let named = Credentials::named([("1000:bob", "x")]);
        assert_eq!(named.quota_name("1000:bob"), "1000:bob");
    }

    #[test]
    fn no_secret_is_printed() {
        let text = format!("{:?}", Credentials::named([("bob", "hush")]).with_secret("hush"));
        assert!(!text.contains("hush") && !text.contains("bob"), "{text}");
    }
}
