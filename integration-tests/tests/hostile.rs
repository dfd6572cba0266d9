//! Malformed SIP and garbage at every open port: the process lives, and the next honest call works.
//!
//! The messages are RFC 4475's torture tests, the real messages of the corpus, and seeded mutations of both, so that a
//! failure happens again. All of it happens in a namespace without a way out, since such messages name whomever they like.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use siprtc_integration_tests::folder::corpus_files;
use siprtc_integration_tests::lab::{Lab, Phone};
use siprtc_integration_tests::netns::{Namespace, Place};
use siprtc_integration_tests::patience::wait;
use siprtc_integration_tests::program::{SOON, Siprtc};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const CALL: Duration = Duration::from_secs(40);
/// How many mutations of the corpus are sent at each port.
const MUTATIONS: usize = 2000;
/// What a socket of the target may hold; more at once would be lost before anybody could choke on it.
const BURST: usize = 40;

/// Torture tests, then real messages.
fn messages() -> Vec<Vec<u8>> {
    let folders = ["rfc4475", "rfc5118", "sip", "rfc3665", "rfc3515"];
    folders
        .iter()
        .flat_map(|folder| corpus_files(folder))
        .map(|(_, bytes)| bytes)
        .collect()
}

/// The same wrong every time: bytes changed, cut, doubled, spliced from two messages.
fn mutations(seed: u64) -> Vec<Vec<u8>> {
    let honest = messages();
    let mut random = StdRng::seed_from_u64(seed);
    let pick = |random: &mut StdRng| honest[random.random_range(0..honest.len())].clone();
    (0..MUTATIONS)
        .map(|_| {
            let mut message = pick(&mut random);
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(0..message.len().max(1));
                match random.random_range(0..5) {
                    0 if at < message.len() => message[at] = random.random(),
                    1 => message.truncate(at),
                    2 => {
                        let other = pick(&mut random);
                        message.truncate(at);
                        message.extend(&other[other.len() / 2..]);
                    }
                    3 if at < message.len() => {
                        let piece = message[at..].to_vec();
                        message.extend(piece.iter().take(512));
                    }
                    _ => {
                        let filler = [b"\0", b"\r", b"\n", b"%", b"<", b"\xff", b"\"", b";", b"9"]
                            [random.random_range(0..9)];
                        let many = filler.repeat(random.random_range(1..300));
                        message.splice(at.min(message.len())..at.min(message.len()), many);
                    }
                }
            }
            message.truncate(60_000);
            message
        })
        .collect()
}

fn over_udp(target: SocketAddr, all: &[Vec<u8>]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut answer = [0; 65_536];
    for burst in all.chunks(BURST) {
        for message in burst {
            // Nothing is expected of a datagram; an ICMP error of an earlier one is none of this one's.
            let _ = socket.send_to(message, target);
        }
        while socket.recv(&mut answer).is_ok() {}
    }
}

/// Each on a connection of its own, since the first malformed one may cost it; a third is cut off in the middle.
fn over_tcp(target: SocketAddr, all: &[Vec<u8>]) {
    for (number, message) in all.iter().enumerate() {
        let mut stream = TcpStream::connect(target).unwrap_or_else(|error| {
            panic!("{target} takes no connection any more, after {number} messages: {error}")
        });
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let length = if number % 3 == 0 {
            message.len() / 2
        } else {
            message.len()
        };
        // The other side may close as soon as it has seen enough.
        let _ = stream.write_all(&message[..length]);
        let _ = stream.read(&mut [0; 4096]);
    }
}

/// UDP and TCP sockets of a process, from the kernel's tables.
fn sockets(place: &Place, id: u32, transport: &str) -> Vec<SocketAddr> {
    let output = place.command("ss").args(["-Hlnp", transport]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = text.lines().filter(|line| line.contains(&format!("pid={id},")));
    // Without a transport column: state, two queues, local address.
    ours.filter_map(|line| line.split_whitespace().nth(3)?.parse().ok())
        .collect()
}

fn all_hostile(target_udp: SocketAddr, target_tcp: SocketAddr) {
    over_udp(target_udp, &messages());
    over_tcp(target_tcp, &messages());
    over_udp(target_udp, &mutations(1));
    over_tcp(target_tcp, &mutations(2)[..400]);
    over_udp(
        target_udp,
        &[
            Vec::new(),
            vec![0; 65_507],
            b"\r\n\r\n".repeat(100),
            b"INVITE".to_vec(),
        ],
    );
}

/// Asserts that it lives, has not panicked and holds no more memory than a program of its kind may.
fn is_well(process: &mut Siprtc) {
    assert!(process.lives(), "it is dead: {:?}", process.events().last());
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap()
        .trim()
        .trim_end_matches(" kB");
    let megabytes = resident.trim().parse::<u64>().unwrap() / 1024;
    assert!(megabytes < 300, "{megabytes} MB after hostile traffic");
    // The stack plugin contains the panics of its library, which stand in its README; nothing else may panic.
    let panics = process.errors();
    let panics = panics
        .lines()
        .filter(|line| line.contains(" panicked at ") && !line.contains("thread 'sip-ezk"));
    assert_eq!(panics.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn a_phone_lives_through_malformed_sip_and_takes_the_next_call() {
    if !Namespace::inside("a_phone_lives_through_malformed_sip_and_takes_the_next_call") {
        return;
    }
    let lab = Lab::on_loopback("hostile").with_kamailio();
    // Some of the messages are well-formed calls of plain RTP, which nobody ever acknowledges: who takes one after another would be
    // busy with them for minutes.
    let mut bob = lab.answering(
        &Phone::of("bob")
            .set("log.filter", "error")
            .set("sip.t1_ms", 50)
            .set("media.classic", ""),
        &["--tone", "440"],
    );
    let (udp, tcp) = (
        sockets(&lab.place, bob.id(), "-u"),
        sockets(&lab.place, bob.id(), "-t"),
    );
    assert_eq!(
        (udp.len(), tcp.len()),
        (1, 1),
        "an idle phone has its SIP ports and no other: {udp:?} {tcp:?}"
    );
    all_hostile(udp[0], tcp[0]);
    is_well(&mut bob);
    // What the messages began is over by RFC 3261's timers, or is refused for want of room; an honest call gets through.
    let answered = wait(CALL, || {
        let alice = lab
            .start(
                &Phone::of("alice"),
                &["call", "bob", "--tone", "880", "--duration", "0.5"],
            )
            .finish(CALL);
        (alice.code == Some(0)).then_some(())
    });
    assert!(answered.is_some(), "nobody gets through any more");
    is_well(&mut bob);
    bob.interrupt();
    assert!(bob.finish(SOON).code.is_some(), "a signal had to end it");
}

#[test]
fn the_home_server_lives_through_malformed_sip_and_serves_the_next_call() {
    if !Namespace::inside("the_home_server_lives_through_malformed_sip_and_serves_the_next_call") {
        return;
    }
    // The lab's servers are not started: the home server is, at their address.
    let lab = Lab::on_loopback("hostile-home");
    let server = lab.server;
    let config = format!(
        "[home]\nrealm = \"siprtc.test\"\nlisten = [\"udp:{server}:5060\", \"tcp:{server}:5060\"]\nturn = \"{server}:3478\"\n\
         [[home.users]]\nname = \"alice\"\npassword = \"secret\"\n[[home.users]]\nname = \"bob\"\npassword = \"secret\"\n"
    );
    let config = lab.folder.write("home.toml", config);
    let mut command = lab.place.command(siprtc_integration_tests::folder::siprtc());
    command
        .arg("--json")
        .arg("--config")
        .arg(config)
        .args(["--set", "log.filter=error", "serve-home"]);
    let mut home = Siprtc::start("home", &mut command, &lab.folder.join("home.err"));
    home.event("serving", SOON);

    let sip = SocketAddr::from((server, 5060));
    all_hostile(sip, sip);
    garbage(SocketAddr::from((server, 3478)), 3);
    over_udp(SocketAddr::from((server, 3478)), &mutations(4)[..500]);
    is_well(&mut home);

    let phone = |user: &str| Phone::of(user).with_turn(&lab);
    let bob = lab.answering(&phone("bob"), &["--calls", "1", "--tone", "440"]);
    let alice = lab.start(
        &phone("alice").set("ice.policy", "relay"),
        &["call", "bob", "--tone", "880", "--duration", "1"],
    );
    alice.finish(CALL).exits_with(0);
    bob.finish(SOON).exits_with(0);
    is_well(&mut home);
    home.interrupt();
    home.finish(SOON).exits_with(0);
}

#[test]
fn garbage_at_its_media_ports_does_not_disturb_a_call() {
    if !Namespace::inside("garbage_at_its_media_ports_does_not_disturb_a_call") {
        return;
    }
    let lab = Lab::on_loopback("garbage").with_kamailio();
    let mut bob = lab.answering(&Phone::of("bob"), &["--calls", "1", "--tone", "440"]);
    let mut alice = lab.start(
        &Phone::of("alice"),
        &["call", "bob", "--tone", "880", "--duration", "6"],
    );
    for process in [&mut alice, &mut bob] {
        process.event_where("first_packet", SOON, |line| line["direction"] == "in");
    }
    for (seed, process) in [(5, &alice), (6, &bob)] {
        let ports = sockets(&lab.place, process.id(), "-u");
        assert!(ports.len() >= 2, "a call has a media port: {ports:?}");
        ports.into_iter().for_each(|port| garbage(port, seed));
    }
    is_well(&mut alice);
    is_well(&mut bob);
    for process in [alice, bob] {
        let outcome = process.finish(CALL);
        outcome.exits_with(0);
        let report = outcome.report();
        assert_eq!(report["ending"]["cause"], "bye", "{report:#}");
        // Somebody else's packets are not the peer's, neither as received nor as missing.
        assert!(
            report["media"]["loss"].as_f64().is_some_and(|loss| loss < 0.02),
            "{report:#}"
        );
        assert!(
            report["media"]["packets_received"]
                .as_u64()
                .is_some_and(|count| (200..400).contains(&count)),
            "{report:#}"
        );
    }
}

/// Random bytes, and bytes that begin like STUN, ChannelData, DTLS, RTP and RTCP (RFC 7983) and go on at random.
fn garbage(target: SocketAddr, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let packets: Vec<Vec<u8>> = (0..1500)
        .map(|number| {
            let length = random.random_range(0..1400);
            let mut packet: Vec<u8> = (0..length).map(|_| random.random()).collect();
            let beginnings: [&[u8]; 6] = [
                &[],
                // A Binding request that says it is longer than it is; ChannelData; a ClientHello; Opus; a sender report.
                &[0x00, 0x01, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42],
                &[0x40, 0x01, 0xff, 0xff],
                &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x00, 1],
                &[0x80, 111],
                &[0x9f, 200, 0xff, 0xff],
            ];
            let beginning = beginnings[number % beginnings.len()];
            let fits = beginning.len().min(packet.len());
            packet[..fits].copy_from_slice(&beginning[..fits]);
            packet
        })
        .collect();
    let here = if target.is_ipv4() && target.ip().is_loopback() {
        Ipv4Addr::LOCALHOST
    } else {
        Ipv4Addr::UNSPECIFIED
    };
    let socket = UdpSocket::bind((here, 0)).unwrap();
    for burst in packets.chunks(BURST) {
        for packet in burst {
            let _ = socket.send_to(packet, target);
        }
        // Full socket buffers would drop honest packets, and garbage nobody gets to see.
        std::thread::sleep(Duration::from_millis(2));
    }
}
