//! A NAT as RFC 4787 describes it.

use super::{Packet, Realm};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What a mapping, or a filter, depends on beside the inner address (RFC 4787 sections 4.1 and 5).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Behaviour {
    /// Nothing.
    EndpointIndependent,
    /// The other side's address.
    AddressDependent,
    /// The other side's address and port.
    AddressAndPortDependent,
}

impl Behaviour {
    /// Whether `one` and `other` are the same for it.
    fn is_alike(self, one: SocketAddr, other: SocketAddr) -> bool {
        match self {
            Behaviour::EndpointIndependent => true,
            Behaviour::AddressDependent => one.ip() == other.ip(),
            Behaviour::AddressAndPortDependent => one == other,
        }
    }
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NatKind {
    /// When two packets of one inner address leave from the same outer port.
    pub mapping: Behaviour,
    /// Who may answer there.
    pub filtering: Behaviour,
    /// Two hosts behind it reach each other by their outer addresses (RFC 4787 section 6).
    pub hairpinning: bool,
}

impl NatKind {
    /// "Full cone": anybody may answer.
    pub const FULL_CONE: NatKind =
        NatKind::of(Behaviour::EndpointIndependent, Behaviour::EndpointIndependent);
    /// "Restricted cone": any port of whoever was written to may answer.
    pub const RESTRICTED: NatKind = NatKind::of(Behaviour::EndpointIndependent, Behaviour::AddressDependent);
    /// "Port-restricted cone": the usual one at home.
    pub const PORT_RESTRICTED: NatKind =
        NatKind::of(Behaviour::EndpointIndependent, Behaviour::AddressAndPortDependent);
    /// "Symmetric": another outer port for each destination.
    pub const SYMMETRIC: NatKind = NatKind::of(
        Behaviour::AddressAndPortDependent,
        Behaviour::AddressAndPortDependent,
    );

    /// Without hairpinning.
    pub const fn of(mapping: Behaviour, filtering: Behaviour) -> Self {
        NatKind {
            mapping,
            filtering,
            hairpinning: false,
        }
    }
}

struct Mapping {
    inner: SocketAddr,
    /// Whom it was made for.
    first: SocketAddr,
    port: u16,
    /// Who was written to from it.
    written_to: BTreeSet<SocketAddr>,
}

pub(super) struct Nat {
    pub(super) kind: NatKind,
    pub(super) outside: Realm,
    pub(super) ip: Ipv4Addr,
    mappings: Vec<Mapping>,
}

impl Nat {
    pub(super) fn new(kind: NatKind, outside: Realm, ip: Ipv4Addr) -> Self {
        Nat {
            kind,
            outside,
            ip,
            mappings: Vec::new(),
        }
    }

    /// Translates a packet that leaves; `None` when it has no port left.
    pub(super) fn outward(&mut self, packet: Packet) -> Option<Packet> {
        let known = self.mappings.iter().position(|mapping| {
            mapping.inner == packet.from && self.kind.mapping.is_alike(mapping.first, packet.to)
        });
        let number = match known {
            Some(number) => number,
            None => {
                self.mappings.push(Mapping {
                    inner: packet.from,
                    first: packet.to,
                    port: u16::try_from(20_000 + self.mappings.len() * 7).ok()?,
                    written_to: BTreeSet::new(),
                });
                self.mappings.len() - 1
            }
        };
        let mapping = &mut self.mappings[number];
        mapping.written_to.insert(packet.to);
        Some(Packet {
            from: SocketAddr::new(IpAddr::from(self.ip), mapping.port),
            ..packet
        })
    }

    /// Translates a packet that comes; `None` when nobody is there or its sender may not.
    pub(super) fn inward(&self, packet: Packet) -> Option<Packet> {
        let mapping = self
            .mappings
            .iter()
            .find(|mapping| mapping.port == packet.to.port())?;
        let may = |known: &SocketAddr| self.kind.filtering.is_alike(*known, packet.from);
        mapping.written_to.iter().any(may).then_some(Packet {
            to: mapping.inner,
            ..packet
        })
    }
}
