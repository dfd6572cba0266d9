//! What a user may change.

use std::net::SocketAddr;
use std::time::Duration;

/// How targets are found.
#[derive(Clone, Debug)]
pub struct LocateConfig {
    /// The name servers to ask, with their ports; none: the system's (`/etc/resolv.conf`).
    pub nameservers: Vec<SocketAddr>,
    /// Longest time that finding the targets of one URI may take, all its questions together. 3 s by default.
    pub timeout: Duration,
    /// Largest request, in octets on the wire, that is sent over UDP when TCP can be tried (RFC 3261 section 18.1.1).
    /// 1300 by default.
    pub udp_limit: usize,
    /// When IPv6 addresses of a name are used.
    pub ipv6: Ipv6,
    /// The path of WebSockets that are opened (RFC 7118 leaves it to the server): `/` by default, `/ws` at Asterisk. It goes to
    /// the stack behind [`Route::server_name`](siprtc_core::sip::Route).
    pub websocket_path: String,
}

/// Where a WebSocket is when nothing else is said.
pub(crate) const ROOT: &str = "/";

impl Default for LocateConfig {
    fn default() -> Self {
        LocateConfig {
            nameservers: Vec::new(),
            timeout: Duration::from_secs(3),
            udp_limit: 1300,
            ipv6: Ipv6::default(),
            websocket_path: ROOT.to_owned(),
        }
    }
}

/// When the IPv6 addresses of a name are used. One written in a URI always is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ipv6 {
    /// Before IPv4.
    First,
    /// When no IPv4 address of the same host answers.
    #[default]
    Last,
    /// Not at all; names are not asked for them.
    Never,
}
