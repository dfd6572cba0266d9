//! What is known of a server, in sentences.

use siprtc_core::ice::{IceServer, IceServerKind};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A server's health.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerState {
    /// It answers; a TURN server has also let us in.
    Alive {
        /// From the last request to its answer.
        round_trip: Duration,
        /// Our address as the server sees it.
        mapped: SocketAddr,
    },
    /// It answers with an error.
    Refused {
        /// The STUN error code (RFC 8489 section 14.8, RFC 8656 section 19).
        code: u16,
        /// The server's reason phrase.
        reason: String,
    },
    /// No answer in time.
    Silent,
    /// Its name has an address; each call asks it itself, over a connection of its own.
    Untried,
    /// Its name has no address that we can use; the text says why.
    Unresolvable(String),
}

impl ServerState {
    /// Whether calls may use it.
    pub fn is_alive(&self) -> bool {
        matches!(self, ServerState::Alive { .. } | ServerState::Untried)
    }
}

/// What is known of a server. As text, whose fault it is and what to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerReport {
    /// Its place in the configuration's `ice.servers`, from 0.
    pub index: usize,
    /// As configured.
    pub server: IceServer,
    /// Its address, once known.
    pub addr: Option<SocketAddr>,
    /// Its health.
    pub state: ServerState,
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IceServer {
            host,
            port,
            kind,
            transport,
            ..
        } = &self.server;
        let index = self.index;
        let (name, user) = match kind {
            IceServerKind::Stun => ("STUN", ""),
            IceServerKind::Turn { username, .. } => ("TURN", username.as_str()),
            IceServerKind::TurnSecret { user, .. } => ("TURN", user.as_str()),
        };
        if host.contains(':') {
            write!(f, "{name} server [{host}]:{port}")?;
        } else {
            write!(f, "{name} server {host}:{port}")?;
        }
        if let Some(addr) = self.addr.filter(|addr| addr.ip().to_string() != *host) {
            write!(f, " ({addr})")?;
        }
        match &self.state {
            ServerState::Alive { round_trip, mapped } => {
                write!(
                    f,
                    " answers in {:.1} ms and sees us as {mapped}",
                    round_trip.as_secs_f64() * 1e3
                )
            }
            ServerState::Refused { code: 401, .. } => {
                write!(
                    f,
                    " refuses user {user} (401): check ice.servers[{index}].username/password"
                )
            }
            ServerState::Refused { code: 300, reason } => {
                write!(
                    f,
                    " sends us to another server (300 {reason}): put that one into ice.servers[{index}].host"
                )
            }
            ServerState::Refused { code, reason } if user.is_empty() => {
                write!(
                    f,
                    " refuses us ({code} {reason}): ask its operator, or change ice.servers[{index}]"
                )
            }
            ServerState::Refused { code, reason } => {
                write!(
                    f,
                    " refuses user {user} ({code} {reason}): ask its operator, or change ice.servers[{index}]"
                )
            }
            ServerState::Untried => write!(f, " is asked by each call, over {transport}"),
            ServerState::Silent => {
                write!(
                    f,
                    " does not answer: check that it runs and that no firewall stops UDP to port {port}"
                )
            }
            ServerState::Unresolvable(why) => {
                write!(
                    f,
                    " has no usable address ({why}): check ice.servers[{index}].host and the DNS"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: IceServerKind, state: ServerState) -> String {
        let server = IceServer::udp("192.0.2.1", 3478, kind);
        ServerReport {
            index: 0,
            server,
            addr: "192.0.2.1:3478".parse().ok(),
            state,
        }
        .to_string()
    }

    #[test]
    fn a_wrong_password_points_at_its_line_in_the_configuration() {
        let kind = IceServerKind::Turn {
            username: "alice".to_owned(),
            password: "secret".to_owned(),
        };
        let state = ServerState::Refused {
            code: 401,
            reason: "Unauthorized".to_owned(),
        };
        let text =
            "TURN server 192.0.2.1:3478 refuses user alice (401): check ice.servers[0].username/password";
        assert_eq!(told(kind, state), text);
    }

    #[test]
    fn a_silent_server_points_at_the_firewall() {
        let text = "STUN server 192.0.2.1:3478 does not answer: check that it runs and that no firewall stops UDP to port 3478";
        assert_eq!(told(IceServerKind::Stun, ServerState::Silent), text);
    }
}
