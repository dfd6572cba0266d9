//! Whom a client may reach through the server (RFC 8656 section 21.1.4).

use crate::config::invalid;
use siprtc_core::{Error, Result};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// The addresses whose first `prefix` bits are those of `base`; a longer prefix than the address is one address.
    pub fn new(base: IpAddr, prefix: u8) -> Self {
        let longest = if base.is_ipv4() { 32 } else { 128 };
        Network {
            base,
            prefix: prefix.min(longest),
        }
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix);
                (base.to_bits() ^ ip.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                (base.to_bits() ^ ip.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// `10.0.0.0/8`, or one address.
impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            invalid(format!("{text:?} is no range of addresses"))
                .advice("write 10.0.0.0/8, fd00::/8 or one address")
        };
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        match prefix.unwrap_or(longest) {
            prefix if prefix <= longest => Ok(Network { base, prefix }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// Who may be reached: nobody that is denied by name; of the ranges that are not the public internet only those that
/// are allowed by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerPolicy {
    pub(crate) allow: Vec<Network>,
    pub(crate) deny: Vec<Network>,
}

impl PeerPolicy {
    pub(crate) fn permits(&self, ip: IpAddr) -> bool {
        let named = |networks: &[Network]| networks.iter().any(|network| network.contains(ip));
        !named(&self.deny) && (named(&self.allow) || is_public(ip))
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// The IANA special-purpose registry, but for the ranges that are reserved for documentation: they reach nobody.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || a == 0
        || a >= 224
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // A form of IPv6 that carries an IPv4 address must not be a way around the rules for that.
    if let Some(inner) = embedded(ip) {
        return is_public_v4(inner);
    }
    let first = ip.segments()[0];
    !(ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_multicast()
        || first & 0xfe00 == 0xfc00
        || first & 0xffc0 == 0xfe80
        || first & 0xffc0 == 0xfec0
        // Discard-only, RFC 6666.
        || ip.segments()[..4] == [0x100, 0, 0, 0])
}

/// The IPv4 address of a mapped, compatible, NAT64 (RFC 6052) or 6to4 (RFC 3056) address.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(from(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_that_are_not_the_public_internet_are_refused() {
        let policy = PeerPolicy::default();
        let refused = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.8",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "fec0::1",
            "100::1",
        ];
        for text in refused {
            assert!(!policy.permits(ip(text)), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(policy.permits(ip(text)), "{text}");
        }
    }

    #[test]
    fn an_allowed_range_is_reached_and_a_denied_one_never() {
        let policy = PeerPolicy {
            allow: vec!["10.0.0.0/8".parse().unwrap()],
            deny: vec!["10.9.0.0/16".parse().unwrap(), "192.0.2.7".parse().unwrap()],
        };
        assert!(policy.permits(ip("10.1.1.1")) && policy.permits(ip("192.0.2.8")));
        assert!(!policy.permits(ip("10.9.1.1")) && !policy.permits(ip("192.0.2.7")));
        assert!(!policy.permits(ip("192.168.0.1")));
    }

    #[test]
    fn a_range_holds_what_shares_its_prefix() {
        let everything: Network = "0.0.0.0/0".parse().unwrap();
        assert!(everything.contains(ip("203.0.113.9")) && !everything.contains(ip("::1")));
        let one: Network = "2001:db8::1".parse().unwrap();
        assert!(one.contains(ip("2001:db8::1")) && !one.contains(ip("2001:db8::2")));
        for bad in ["10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
