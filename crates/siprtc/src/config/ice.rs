//! `[ice]`: what calls can be reached by.

use super::invalid;
use serde::Deserialize;
use siprtc_core::Result;
use siprtc_core::ice::{IcePolicy, IceServer, IceServerKind, IceServerTransport};
use siprtc_gateway::Trickle;
use siprtc_nat_agent::Mdns;

/// `[ice]`: what a call can be reached by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct IceSettings {
    pub agent: String,
    pub policy: String,
    pub servers: Vec<IceServerConfig>,
    pub interfaces: Vec<String>,
    pub interfaces_deny: Vec<String>,
    pub loopback: bool,
    pub ipv6: bool,
    pub link_local: bool,
    pub probe_timeout_ms: u64,
    pub probe_interval_s: u64,
    pub gather_budget_ms: u64,
    pub trickle: String,
    pub ports: Vec<u16>,
    pub share_ports: bool,
    pub mdns: String,
    pub tls: IceTlsSettings,
}

/// `[ice.tls]`: whom TURN over TLS trusts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct IceTlsSettings {
    pub ca: String,
    pub verify: bool,
}

/// `[[ice.servers]]`: a STUN or TURN server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct IceServerConfig {
    pub url: String,
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub password: String,
    #[serde(default)]
    pub secret: String,
}

impl IceServerConfig {
    /// RFC 7064 and RFC 7065.
    pub(crate) fn parse(&self) -> Result<IceServer> {
        let bad = |what: &str| {
            invalid(format!("ice.servers: {:?}: {what}", self.url)).advice(
                "write stun:host:port, turn:host:port, turn:host:port?transport=tcp or turns:host:port, TURN with username \
                 and password or with secret",
            )
        };
        let (scheme, rest) = self.url.split_once(':').ok_or_else(|| bad("no scheme"))?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let transport = match (scheme, query) {
            ("stun" | "turn", "" | "transport=udp") => IceServerTransport::Udp,
            ("turn", "transport=tcp") => IceServerTransport::Tcp,
            ("turns", "" | "transport=tcp") => IceServerTransport::Tls,
            ("stun", _) => return Err(bad("STUN goes over UDP")),
            ("turns", _) => return Err(bad("TURN over DTLS is not spoken")),
            ("turn", _) => return Err(bad("transport is udp or tcp")),
            _ => return Err(bad("unknown scheme")),
        };
        let default_port = if transport == IceServerTransport::Tls {
            5349
        } else {
            3478
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| bad("unreadable port"))?)
            }
            _ => (authority, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(bad("no host"));
        }
        let kind = match (scheme, self.secret.is_empty()) {
            ("stun", _) => IceServerKind::Stun,
            (_, false) if !self.password.is_empty() => return Err(bad("both password and secret are given")),
            (_, false) => IceServerKind::TurnSecret {
                user: self.username.clone(),
                secret: self.secret.clone(),
            },
            _ if self.username.is_empty() => {
                return Err(bad("a TURN server needs username and password, or a secret"));
            }
            _ => IceServerKind::Turn {
                username: self.username.clone(),
                password: self.password.clone(),
            },
        };
        Ok(IceServer {
            host,
            port,
            transport,
            kind,
            addr: None,
        })
    }
}

impl IceSettings {
    pub(crate) fn trickle(&self) -> Result<Trickle> {
        match self.trickle.as_str() {
            "full" => Ok(Trickle::Full),
            "half" => Ok(Trickle::Half),
            "off" => Ok(Trickle::Off),
            other => Err(invalid(format!("ice.trickle = {other:?} is not known"))
                .advice("choose one of: half, full, off")),
        }
    }

    /// Who is asked for mDNS names.
    pub(crate) fn mdns(&self) -> Result<Option<Mdns>> {
        match self.mdns.as_str() {
            "drop" => Ok(None),
            "resolve" => Ok(Some(Mdns::default())),
            other => {
                Err(invalid(format!("ice.mdns = {other:?} is not known"))
                    .advice("choose one of: drop, resolve"))
            }
        }
    }

    pub(crate) fn policy(&self) -> Result<IcePolicy> {
        match self.policy.as_str() {
            "all" => Ok(IcePolicy::All),
            "relay" => Ok(IcePolicy::Relay),
            other => {
                Err(invalid(format!("ice.policy = {other:?} is not known"))
                    .advice("choose one of: all, relay"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ice_servers_are_read() {
        let server = |url: &str, user: &str| IceServerConfig {
            url: url.to_owned(),
            username: user.to_owned(),
            password: "secret".to_owned(),
            secret: String::new(),
        };
        assert_eq!(server("stun:stun.example.com", "").parse().unwrap().port, 3478);
        assert_eq!(
            server("turn:[2001:db8::1]:3479?transport=udp", "alice")
                .parse()
                .unwrap()
                .host,
            "2001:db8::1"
        );
        assert!(server("turn:192.0.2.1", "").parse().is_err());
        let tcp = server("turn:192.0.2.1?transport=tcp", "alice").parse().unwrap();
        assert_eq!((tcp.transport, tcp.port), (IceServerTransport::Tcp, 3478));
        let tls = server("turns:turn.example.com", "alice").parse().unwrap();
        assert_eq!((tls.transport, tls.port), (IceServerTransport::Tls, 5349));
        assert!(server("stun:192.0.2.1?transport=tcp", "").parse().is_err());
        assert!(server("turns:192.0.2.1?transport=udp", "alice").parse().is_err());
        let shared = IceServerConfig {
            password: String::new(),
            secret: "north".to_owned(),
            ..server("turn:192.0.2.1", "alice")
        };
        let kind = shared.parse().unwrap().kind;
        assert!(matches!(kind, IceServerKind::TurnSecret { .. }), "{kind:?}");
    }
}
