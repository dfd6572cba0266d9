//! What a TURN server wants to know who asks: long-term credentials, given or made for a time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use siprtc_core::ice::IceServerKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long credentials made from a secret are good for: longer than a call lasts as a rule, for a Refresh needs them too.
const LIFETIME: Duration = Duration::from_secs(86_400);

/// User name and password at `wall`; `None` of what needs none.
pub(crate) fn of(kind: &IceServerKind, wall: SystemTime) -> Option<(String, String)> {
    match kind {
        IceServerKind::Stun => None,
        IceServerKind::Turn { username, password } => Some((username.clone(), password.clone())),
        IceServerKind::TurnSecret { user, secret } => Some(timed(user, secret, wall)),
    }
}

/// draft-uberti-behave-turn-rest-00 section 2.2: `expiry:user`, and base64 of its HMAC-SHA1 under the secret.
fn timed(user: &str, secret: &str, wall: SystemTime) -> (String, String) {
    let expiry = wall.duration_since(UNIX_EPOCH).unwrap_or_default() + LIFETIME;
    let username = match user {
        "" => expiry.as_secs().to_string(),
        user => format!("{}:{user}", expiry.as_secs()),
    };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let password = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
    (username, password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_becomes_what_coturn_computes() {
        // echo -n 1086400:alice | openssl dgst -sha1 -hmac north -binary | base64
        let wall = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let made = timed("alice", "north", wall);
        assert_eq!(made.0, "1086400:alice");
        assert_eq!(made.1, "ltY2mBR6FtGBiVBc/HjL8Ek+nlg=");
        assert_eq!(timed("", "north", wall).0, "1086400");
    }
}
