//! Networks of our own: namespaces joined by virtual cables, some of them behind NATs. Nothing in them reaches the outside.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a process runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// This machine's own network; the tests use nothing but loopback addresses there.
    Here,
    /// The namespace of that name.
    Namespace(String),
}

impl Place {
    /// `program`, to be run there.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        match self {
            Place::Here => Command::new(program.as_ref()),
            Place::Namespace(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program.as_ref());
                command
            }
        }
    }
}

/// A network namespace; it is deleted when dropped.
#[derive(Debug)]
pub struct Namespace(String);

/// What a NAT does (RFC 4787).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Nat {
    /// Endpoint-independent mapping, address- and port-dependent filtering: what most homes have.
    PortRestricted,
    /// Another port for every destination: only a relay gets through two of these.
    Symmetric,
}

impl Namespace {
    /// A new namespace with nothing but loopback in it.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: std::sync::Once = std::sync::Once::new();
        SWEPT.call_once(sweep);
        let name = format!(
            "siprtc-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &name]);
        let namespace = Namespace(name);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// One cable whose ends are both here: a machine with these addresses in 203.0.113.0/24 (RFC 5737).
    pub fn machine(addresses: &[Ipv4Addr]) -> Self {
        let namespace = Namespace::new();
        namespace.ip(&["link", "add", "wan0", "type", "veth", "peer", "name", "wan1"]);
        namespace.ip(&["link", "set", "wan0", "up"]);
        namespace.ip(&["link", "set", "wan1", "up"]);
        addresses
            .iter()
            .for_each(|address| namespace.ip(&["addr", "add", &format!("{address}/24"), "dev", "wan0"]));
        namespace
    }

    /// Runs the test of this name, which is the caller, once more inside a new namespace, where nothing but loopback can be
    /// reached whatever a message names. Returns whether the caller is the one inside, which has the work to do.
    pub fn inside(test: &str) -> bool {
        const MARK: &str = "SIPRTC_TEST_INSIDE";
        if std::env::var_os(MARK).is_some() {
            return true;
        }
        let namespace = Namespace::new();
        let exe = std::env::current_exe().unwrap_or_else(|error| panic!("a test without a path: {error}"));
        let mut command = namespace.place().command(exe);
        let status = command
            .args(["--exact", test, "--nocapture"])
            .env(MARK, "yes")
            .status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "{test}, inside: {status:?}"
        );
        false
    }

    /// Where processes in it run.
    pub fn place(&self) -> Place {
        Place::Namespace(self.0.clone())
    }

    /// `ip` with these arguments, in here.
    pub fn ip(&self, arguments: &[&str]) {
        let mut all = vec!["-n", &self.0];
        all.extend(arguments);
        ip(&all);
    }

    /// A cable from here to `other`; both ends have a name and are up.
    pub fn cable(&self, end: &str, other: &Namespace, other_end: &str) {
        ip(&[
            "link", "add", end, "netns", &self.0, "type", "veth", "peer", "name", other_end, "netns",
            &other.0,
        ]);
        self.ip(&["link", "set", end, "up"]);
        other.ip(&["link", "set", other_end, "up"]);
    }

    /// Makes this namespace a router with a NAT towards its interface `wan0`.
    pub fn nat(&self, nat: Nat) {
        self.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        let kind = match nat {
            Nat::PortRestricted => "masquerade",
            Nat::Symmetric => "masquerade fully-random",
        };
        // An early packet from outside must leave no entry in the table: a later one from inside would get another port,
        // and the hole that both sides punch would not be where the other side knocks.
        let rules = format!(
            "table ip nat {{
                chain out {{ type nat hook postrouting priority 100; oifname \"wan0\" {kind}; }}
                chain here {{ type filter hook input priority 0; iifname \"wan0\" meta l4proto udp drop; }}
                chain through {{ type filter hook forward priority 0; ct state established,related accept; iifname \"wan0\" drop; }}
            }}"
        );
        let mut nft = self.place().command("nft");
        let status = nft.arg(rules).status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "nft in {}: {status:?}",
            self.0
        );
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.place().command(program).args(arguments).output();
        assert!(
            output.as_ref().is_ok_and(|output| output.status.success()),
            "{program} {arguments:?}: {output:?}"
        );
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Namespace::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let done = Command::new("ip").args(["netns", "del", &self.0]).status();
        if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("the namespace {} stays: {done:?}", self.0);
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("ip (iproute2) does not start: {error}"));
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}; network namespaces need root and a kernel that has them",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Deletes what a test left that was killed: namespaces named after a process that no longer is.
fn sweep() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else {
        return;
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let owner = name
            .strip_prefix("siprtc-")
            .and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{owner}")).exists()
        {
            drop(Command::new("ip").args(["netns", "del", name]).status());
        }
    }
}
