//! `dial`: makes a network of its own, and holds the [contest](crate::contest) in it.

use siprtc_benches::figure::Figure;
use siprtc_core::{Error, Fault, Result};
use std::process::Command;

/// The programs that it takes, and the Debian packages that bring them.
const NEEDED: [(&str, &str); 5] = [
    ("baresip", "baresip-core"),
    ("ip", "iproute2"),
    ("kamailio", "kamailio"),
    ("tcpdump", "tcpdump"),
    ("unshare", "util-linux"),
];

/// A namespace without any way out: one address that ICE accepts, for baresip's ICE never offers loopback. It ends with
/// the last process in it.
const NETWORK: &str = "set -e
sysctl -qw net.ipv6.conf.all.disable_ipv6=1
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip addr add 203.0.113.1/24 dev v0
exec \"$0\" contest --json";

pub(crate) fn apart() -> Result<Vec<Figure>> {
    for (program, package) in NEEDED {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program} >/dev/null")])
            .status();
        if !found.is_ok_and(|status| status.success()) {
            let missing = format!("there is no {program}, and nothing is compared without it");
            return Err(Error::new(Fault::ConfigInvalid, "compare with baresip", missing)
                .advice(format!("apt-get install {package}")));
        }
    }
    crate::child(
        Command::new("unshare")
            .args(["--net", "sh", "-c", NETWORK])
            .arg(crate::own()?),
    )
    .map_err(|error| {
        Error::new(Fault::Backend, "compare with baresip", "the contest failed")
            .advice("network namespaces need root")
            .caused_by(error)
    })
}
