//! Which of the host's addresses a call may use.

use siprtc_core::{Error, Fault, Result};
use std::net::IpAddr;

/// The most addresses of one call: a socket and a candidate each. Those beyond are left out with a warning.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// Which of the host's addresses are used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InterfaceFilter {
    /// Names of interfaces or single addresses; empty allows all. A single address here is used whatever the switches
    /// below say.
    pub allow: Vec<String>,
    /// Names of interfaces or single addresses; wins over `allow`.
    pub deny: Vec<String>,
    /// Addresses of the loopback interface too.
    pub loopback: bool,
    /// IPv6 too.
    pub ipv6: bool,
    /// 169.254.0.0/16 too. Link-local IPv6 addresses are never used: they mean nothing without their interface.
    pub link_local: bool,
}

/// The host's addresses that pass `filter`, IPv4 first, at most 16.
///
/// # Errors
/// `ConfigInvalid` when none is left, with all that there were; `Backend` when the system does not tell.
pub fn host_addresses(filter: &InterfaceFilter) -> Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs().map_err(|error| {
        Error::new(
            Fault::Backend,
            "list interfaces",
            "the system does not tell its addresses",
        )
        .caused_by(error)
    })?;
    let found: Vec<(String, IpAddr)> = interfaces
        .into_iter()
        .map(|interface| (interface.name.clone(), interface.ip()))
        .collect();
    select(filter, &found)
}

fn select(filter: &InterfaceFilter, found: &[(String, IpAddr)]) -> Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (name, ip) in found {
        if passes(filter, name, *ip) && !addresses.contains(ip) {
            addresses.push(*ip);
        }
    }
    if addresses.is_empty() {
        return Err(nothing_left(filter, found));
    }
    addresses.sort_by_key(IpAddr::is_ipv6);
    if addresses.len() > MAX_ADDRESSES {
        tracing::warn!(
            count = addresses.len(),
            MAX_ADDRESSES,
            "too many addresses: the last ones are left out"
        );
        addresses.truncate(MAX_ADDRESSES);
    }
    Ok(addresses)
}

fn passes(filter: &InterfaceFilter, name: &str, ip: IpAddr) -> bool {
    let address = ip.to_string();
    let is_named = |list: &[String]| list.iter().any(|entry| entry == name);
    let is_listed = |list: &[String]| list.contains(&address);
    let is_link_local_v6 = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if is_named(&filter.deny) || is_listed(&filter.deny) || is_link_local_v6 || ip.is_unspecified() {
        return false;
    }
    if is_listed(&filter.allow) {
        return true;
    }
    let is_link_local = matches!(ip, IpAddr::V4(v4) if v4.is_link_local());
    (filter.allow.is_empty() || is_named(&filter.allow))
        && (filter.loopback || !ip.is_loopback())
        && (filter.ipv6 || ip.is_ipv4())
        && (filter.link_local || !is_link_local)
}

fn nothing_left(filter: &InterfaceFilter, found: &[(String, IpAddr)]) -> Error {
    let all: Vec<String> = found.iter().map(|(name, ip)| format!("{name} {ip}")).collect();
    let message = format!(
        "no address is left of: {}",
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        }
    );
    let only_loopback = !filter.loopback && !found.is_empty() && found.iter().all(|(_, ip)| ip.is_loopback());
    let advice = if only_loopback {
        "there is only loopback: bring a network up, or set ice.interfaces.loopback = true"
    } else {
        "check ice.interfaces: allow, deny, loopback, ipv6, link_local"
    };
    Error::new(Fault::ConfigInvalid, "choose interfaces", message).advice(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<(String, IpAddr)> {
        [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "2001:db8::5"),
            ("eth0", "192.0.2.5"),
            ("eth0", "fe80::1"),
            ("wlan0", "198.51.100.7"),
            ("wlan0", "169.254.3.4"),
        ]
        .into_iter()
        .map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()))
        .collect()
    }

    fn chosen(change: impl FnOnce(&mut InterfaceFilter)) -> Vec<String> {
        let mut filter = InterfaceFilter::default();
        change(&mut filter);
        select(&filter, &found())
            .unwrap()
            .iter()
            .map(IpAddr::to_string)
            .collect()
    }

    #[test]
    fn by_default_loopback_link_local_and_ipv6_stay_out() {
        assert_eq!(chosen(|_| ()), ["192.0.2.5", "198.51.100.7"]);
    }

    #[test]
    fn each_switch_lets_its_kind_in_and_ipv4_comes_first() {
        assert_eq!(
            chosen(|filter| filter.ipv6 = true),
            ["192.0.2.5", "198.51.100.7", "2001:db8::5"]
        );
        assert_eq!(
            chosen(|filter| filter.loopback = true),
            ["127.0.0.1", "192.0.2.5", "198.51.100.7"]
        );
        assert_eq!(
            chosen(|filter| filter.link_local = true),
            ["192.0.2.5", "198.51.100.7", "169.254.3.4"]
        );
    }

    #[test]
    fn an_interface_or_an_address_can_be_allowed_and_denied() {
        assert_eq!(
            chosen(|filter| filter.allow = vec!["wlan0".to_owned()]),
            ["198.51.100.7"]
        );
        assert_eq!(
            chosen(|filter| filter.allow = vec!["2001:db8::5".to_owned()]),
            ["2001:db8::5"]
        );
        assert_eq!(
            chosen(|filter| filter.deny = vec!["eth0".to_owned()]),
            ["198.51.100.7"]
        );
        let both = |filter: &mut InterfaceFilter| {
            filter.allow = vec!["eth0".to_owned(), "wlan0".to_owned()];
            filter.deny = vec!["192.0.2.5".to_owned()];
        };
        assert_eq!(chosen(both), ["198.51.100.7"]);
    }

    #[test]
    fn when_nothing_is_left_the_error_names_all_there_was() {
        let filter = InterfaceFilter {
            allow: vec!["eth9".to_owned()],
            ..InterfaceFilter::default()
        };
        let error = select(&filter, &found()).unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        assert!(error.to_string().contains("wlan0 198.51.100.7"), "{error}");
        let error = select(&InterfaceFilter::default(), &found()[..2]).unwrap_err();
        assert!(
            error.to_string().contains("ice.interfaces.loopback = true"),
            "{error}"
        );
    }
}
