//! The section `[turn]` as what a TURN server is told.

use crate::config::{TurnSettings, invalid};
use crate::tls_files;
use siprtc_core::{Error, Result};
use siprtc_turn_server::{Credentials, Identity, Limits, Listener, Relay, TurnConfig};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Reads the section, and the certificate that it names.
///
/// # Errors
/// [`Fault::ConfigInvalid`](siprtc_core::Fault::ConfigInvalid), naming the key and what would be right.
pub fn config(settings: &TurnSettings) -> Result<TurnConfig> {
    if settings.users.is_empty() && settings.secrets.is_empty() {
        return Err(
            invalid("turn.users and turn.secrets are empty: nobody could relay").advice(
                "add [[turn.users]] with name and password, or turn.secrets for credentials that expire",
            ),
        );
    }
    let listeners: Vec<Listener> = all("turn.listen", &settings.listen)?;
    let identity = tls_files::identity("turn", &settings.certificate, &settings.key)?;
    let users = settings.users.iter().map(|user| (&*user.name, &*user.password));
    let secrets = settings.secrets.iter();
    Ok(TurnConfig {
        relays: relays(&settings.relay, &listeners)?,
        listeners,
        ports: settings.min_port..=settings.max_port,
        realm: settings.realm.clone(),
        credentials: secrets.fold(Credentials::named(users), Credentials::with_secret),
        identity: identity.map(|identity| Identity {
            chain: identity.chain.to_vec(),
            key: identity.key.to_vec(),
        }),
        allow_peers: all("turn.allow_peers", &settings.allow_peers)?,
        deny_peers: all("turn.deny_peers", &settings.deny_peers)?,
        limits: Limits {
            allocations: settings.max_allocations,
            allocations_per_user: settings.max_allocations_per_user,
            permissions: settings.max_permissions,
            connections: settings.max_connections,
            challenges_per_s: settings.max_challenges_per_s,
            lifetime: Duration::from_secs(settings.max_lifetime_s),
            nonce: Duration::from_secs(settings.nonce_s),
        },
        workers: settings.workers,
    })
}

/// Those that are named, or the listeners' own.
fn relays(named: &[String], listeners: &[Listener]) -> Result<Vec<Relay>> {
    if !named.is_empty() {
        return all("turn.relay", named);
    }
    let mut ips: Vec<IpAddr> = listeners.iter().map(|listener| listener.bind.ip()).collect();
    ips.sort();
    ips.dedup();
    match ips.iter().find(|ip| ip.is_unspecified()) {
        Some(ip) => Err(invalid(format!(
            "turn.relay is empty, and turn.listen has the wildcard {ip}"
        ))
        .advice(
            "name the address of this machine that peers can send to, such as turn.relay = [\"192.0.2.1\"]",
        )),
        None => Ok(ips.into_iter().map(Relay::from).collect()),
    }
}

fn all<T: FromStr<Err = Error>>(key: &str, texts: &[String]) -> Result<Vec<T>> {
    let read = |text: &String| {
        text.parse().map_err(|error: Error| {
            let sentence = invalid(format!("{key}: {}", error.message()));
            sentence.advice(error.next_step().unwrap_or_default())
        })
    };
    texts.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn read(text: &str) -> Result<TurnConfig> {
        config(&Layers::new().text(text).load()?.turn)
    }

    #[test]
    fn a_secret_is_enough_and_the_listeners_addresses_relay() {
        let config =
            read("[turn]\nsecrets = \"north\"\nlisten = [\"udp:192.0.2.1:3478\", \"tcp:192.0.2.1:3478\"]")
                .unwrap();
        assert_eq!(config.relays, [Relay::from(IpAddr::from([192, 0, 2, 1]))]);
        assert_eq!(config.limits.allocations, 10_000);
        assert!(!config.credentials.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key_with_what_to_do() {
        let cases = [
            ("", "turn.users"),
            ("secrets = \"x\"\nlisten = [\"udp:0.0.0.0:3478\"]", "turn.relay"),
            (
                "secrets = \"x\"\nlisten = [\"quic:192.0.2.1:3478\"]",
                "turn.listen",
            ),
            ("secrets = \"x\"\nrelay = \"here\"", "turn.relay"),
            (
                "secrets = \"x\"\nallow_peers = \"10.0.0.0/40\"",
                "turn.allow_peers",
            ),
            (
                "secrets = \"x\"\ncertificate = \"/no/such.pem\"",
                "turn.certificate",
            ),
            ("secret = \"x\"", "secrets"),
        ];
        for (text, wanted) in cases {
            let error = read(&format!("[turn]\n{text}")).unwrap_err();
            assert!(error.to_string().contains(wanted), "{text}: {error}");
            assert!(
                error.next_step().is_some_and(|advice| !advice.is_empty()),
                "{error}"
            );
        }
    }
}
