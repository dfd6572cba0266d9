//! `siprtc turn` with a client that is not ours: coturn's `turnutils_uclient`, over UDP, TCP and TLS. Its clients come in pairs
//! that send through two allocations to each other.

use serde_json::Value;
use siprtc_integration_tests::certificates;
use siprtc_integration_tests::folder;
use siprtc_integration_tests::lab::{Lab, PASSWORD, REALM};
use siprtc_integration_tests::process::Process;
use siprtc_integration_tests::program::{SOON, Siprtc};
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

/// A few seconds of packets, and what a busy machine adds.
const RUN: Duration = Duration::from_secs(60);
const SECRET: &str = "north";

/// `siprtc turn` at the lab's address, with a user, a secret and a certificate.
fn serve(lab: &Lab, settings: &[&str]) -> Siprtc {
    certificates::write(&lab.folder, lab.server);
    let server = lab.server;
    let mut command = Command::new(folder::siprtc());
    command.arg("--json");
    for setting in [
        format!("turn.listen=[\"udp:{server}:3478\", \"tcp:{server}:3478\", \"tls:{server}:5349\"]"),
        format!("turn.realm={REALM}"),
        format!("turn.users=[{{ name = \"alice\", password = \"{PASSWORD}\" }}]"),
        format!("turn.secrets={SECRET}"),
        format!("turn.certificate={}", lab.file(certificates::CHAIN)),
        format!("turn.key={}", lab.file(certificates::KEY)),
        "turn.allow_peers=127.0.0.0/8".to_owned(),
    ]
    .iter()
    .map(String::as_str)
    .chain(settings.iter().copied())
    {
        command.args(["--set", setting]);
    }
    command.arg("turn").current_dir(lab.folder.path());
    let mut turn = Siprtc::start("turn", &mut command, &lab.folder.join("turn.err"));
    turn.event("serving", SOON);
    turn
}

/// Runs the client to its end; what it wrote.
fn client(lab: &Lab, name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("turnutils_uclient");
    // -c: no second component; -y: clients that are each other's peers.
    command
        .args(["-c", "-y"])
        .args(arguments)
        .arg(lab.server.to_string());
    let mut process = Process::start(name, &mut command, &lab.folder.join(format!("{name}.log")));
    process.finish(RUN);
    process.log()
}

/// Interrupts the server; its figures.
fn served(turn: Siprtc) -> Value {
    turn.interrupt();
    let outcome = turn.finish(SOON);
    outcome.exits_with(0);
    let served = outcome
        .events
        .into_iter()
        .find(|event| event["event"] == "served");
    served.unwrap_or_else(|| panic!("no figures:\n{}", outcome.errors))
}

/// Every packet arrives, over channels and over indications.
fn relays(story: &str, flags: &[&str]) {
    let lab = Lab::on_loopback(story);
    let turn = serve(&lab, &[]);
    let ca = lab.file(certificates::CA);
    let user = ["-u", "alice", "-w", PASSWORD, "-m", "4", "-n", "50", "-E", &ca];
    for (name, way) in [("channels", &[][..]), ("indications", &["-s"])] {
        let log = client(&lab, name, &[&user[..], flags, way].concat());
        assert!(log.contains("Total lost packets 0 (0.000000%)"), "{name}:\n{log}");
        assert!(
            log.contains("tot_send_msgs=200, tot_recv_msgs=200"),
            "{name}:\n{log}"
        );
    }
    let figures = served(turn);
    assert!(figures["allocated"].as_u64() >= Some(8), "{figures}");
    assert!(figures["to_peers"]["packets"].as_u64() >= Some(400), "{figures}");
    assert_eq!(
        figures["to_peers"]["packets"], figures["to_clients"]["packets"],
        "{figures}"
    );
    assert_eq!(figures["dropped"], serde_json::json!({}), "{figures}");
}

#[test]
fn coturns_client_relays_over_udp() {
    relays("turn-udp", &[]);
}

#[test]
fn coturns_client_relays_over_tcp() {
    relays("turn-tcp", &["-t"]);
}

#[test]
fn coturns_client_relays_over_tls() {
    relays("turn-tls", &["-t", "-S"]);
}

#[test]
fn coturns_client_relays_with_credentials_that_expire_and_not_with_another_secret() {
    let lab = Lab::on_loopback("turn-rest");
    let turn = serve(&lab, &[]);
    let log = client(
        &lab,
        "good",
        &["-u", "carol", "-W", SECRET, "-m", "2", "-n", "20"],
    );
    assert!(log.contains("Total lost packets 0 (0.000000%)"), "{log}");
    let figures = served(turn);
    assert!(figures["allocated"].as_u64() >= Some(2), "{figures}");
    let turn = serve(&lab, &[]);
    let log = client(
        &lab,
        "wrong",
        &["-u", "carol", "-W", "south", "-m", "2", "-n", "20"],
    );
    assert!(!log.contains("Total lost packets 0 (0.000000%)"), "{log}");
    let figures = served(turn);
    assert_eq!(figures["allocated"], 0, "{figures}");
}

#[test]
fn loopback_peers_are_refused_where_nobody_allowed_them() {
    let lab = Lab::on_loopback("turn-private");
    let turn = serve(&lab, &["turn.allow_peers=[]"]);
    let log = client(
        &lab,
        "refused",
        &["-u", "alice", "-w", PASSWORD, "-m", "2", "-n", "5"],
    );
    assert!(log.contains("403"), "{log}");
    let figures = served(turn);
    assert!(figures["refused"]["403"].as_u64() >= Some(1), "{figures}");
    assert_eq!(figures["to_clients"]["packets"], 0, "{figures}");
}

#[test]
fn what_keeps_it_from_serving_is_said_with_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("{error}"));
    let address = taken.local_addr().unwrap_or_else(|error| panic!("{error}"));
    let listen = format!("turn.listen=[\"udp:{address}\"]");
    let tls = "turn.listen=[\"tls:127.0.0.1:0\"]";
    for (settings, said) in [
        (&["turn.secrets=x", &listen][..], "choose another port"),
        (&["turn.secrets=x", tls], "certificate"),
        (
            &["turn.secrets=x", "turn.certificate=/no/such.pem"],
            "/no/such.pem",
        ),
        (&[], "turn.users"),
    ] {
        let mut arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        arguments.push("turn");
        Siprtc::run(&arguments, SOON).exits_with(2).explains(said);
    }
}
