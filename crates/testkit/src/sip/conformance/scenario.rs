//! What a scenario is, and the table of all.

use serde::Serialize;
use siprtc_core::sip::{Feature, SipStackFactory, Transport};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

/// A scenario under way. It panics with what went wrong.
pub type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something that every SIP stack must do, tried with real stacks on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The function's name, a sentence: `an_options_makes_a_round_trip`.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub about: &'static str,
    /// Who asks for it: `RFC 3261 17.1.2`.
    pub section: &'static str,
    /// Who takes part.
    pub kind: Kind,
    /// What it runs over with one stack, or with two of the same kind.
    pub networks: &'static [Network],
    /// The part of `networks` that it runs over with two stacks of different kinds.
    pub crossed: &'static [Network],
    /// What it cannot pass without, beside what its network needs: see [`Network::needs`].
    pub needs: &'static [Feature],
    /// Runs it.
    pub run: fn(Setting) -> Run,
}

/// Who takes part in a scenario.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One stack, and a peer of the kit's own that is only a socket.
    Alone,
    /// Two stacks: Alice's, which asks, and Bob's.
    Pair,
    /// As `Alone`, and nothing else may run in the process meanwhile: it measures or floods.
    Undisturbed,
}

/// With whom a scenario runs, and over what.
#[derive(Clone)]
pub struct Setting {
    /// Makes Alice's stack; the only one of a scenario with one stack.
    pub alice: Arc<dyn SipStackFactory>,
    /// Makes Bob's stack.
    pub bob: Arc<dyn SipStackFactory>,
    /// What they speak over.
    pub network: Network,
}

/// What a scenario runs over.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Network {
    /// UDP over IPv4.
    Udp,
    /// TCP over IPv4.
    Tcp,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv6.
    Tcp6,
    /// TLS over IPv4.
    Tls,
    /// WebSocket over IPv4.
    Ws,
    /// WebSocket over TLS over IPv4.
    Wss,
}

impl Network {
    /// Every one.
    pub const ALL: [Network; 7] = [
        Network::Udp,
        Network::Tcp,
        Network::Udp6,
        Network::Tcp6,
        Network::Tls,
        Network::Ws,
        Network::Wss,
    ];

    /// The transport spoken on it.
    pub fn transport(self) -> Transport {
        match self {
            Network::Tcp | Network::Tcp6 => Transport::Tcp,
            Network::Tls => Transport::Tls,
            Network::Udp | Network::Udp6 => Transport::Udp,
            Network::Ws => Transport::Ws,
            Network::Wss => Transport::Wss,
        }
    }

    /// The loopback address with `port`.
    pub fn loopback(self, port: u16) -> SocketAddr {
        match self {
            Network::Tcp6 | Network::Udp6 => (Ipv6Addr::LOCALHOST, port).into(),
            _ => (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    /// What a stack needs to speak over it, beside the transport.
    pub fn needs(self) -> &'static [Feature] {
        match self {
            Network::Tcp6 | Network::Udp6 => &[Feature::Ipv6],
            _ => &[],
        }
    }

    /// In a table: `UDP`, `TCP over IPv6`.
    pub fn as_str(self) -> &'static str {
        match self {
            Network::Tcp6 => "TCP over IPv6",
            Network::Udp6 => "UDP over IPv6",
            _ => self.transport().as_str(),
        }
    }
}

/// Every scenario, in the order of the tables.
pub fn scenarios() -> &'static [Scenario] {
    static ALL: LazyLock<Vec<Scenario>> = LazyLock::new(|| super::tables().concat());
    &ALL
}

/// The scenario called `name`.
pub fn scenario(name: &str) -> Option<&'static Scenario> {
    scenarios().iter().find(|scenario| scenario.name == name)
}

/// Makes [`Scenario`]s of a table's rows; the functions are in `$module`, below `conformance.rs`.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_scenarios_of {
    ({} $module:ident $(
        $name:ident $kind:ident [$($crossed:ident)* $(| $($own:ident)+)?] [$($need:ident)*]
        $section:literal $about:literal;
    )+) => {
        &[$($crate::sip::Scenario {
            name: stringify!($name),
            about: $about,
            section: $section,
            kind: $crate::sip::Kind::$kind,
            networks: &[
                $($crate::sip::Network::$crossed,)*
                $($($crate::sip::Network::$own,)+)?
            ],
            crossed: &[$($crate::sip::Network::$crossed),*],
            needs: &[$(siprtc_core::sip::Feature::$need),*],
            run: |on| Box::pin($module::$name(on)),
        }),+]
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_scenario_says_what_it_is_once() {
        let mut names = HashSet::new();
        for scenario in scenarios() {
            let Scenario {
                name,
                about,
                section,
                networks,
                ..
            } = scenario;
            assert!(names.insert(name), "{name} is there twice");
            assert!(
                about.ends_with('.') && about.len() > 10,
                "{name}: {about:?} is no sentence"
            );
            assert!(section.len() > 3, "{name}: who asks for it?");
            let distinct: HashSet<_> = networks.iter().collect();
            assert!(
                !networks.is_empty() && distinct.len() == networks.len(),
                "{name}: {networks:?}"
            );
        }
        assert!(names.len() > 40, "scenarios are missing: {names:?}");
    }
}
