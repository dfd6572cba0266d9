//! What the engine says goes over the wire and comes out at another engine as it was, as far as the peer may see it.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::lines;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use siprtc_sdp_translator::{Check, SipForm, Trickle, Way, candidates, explain, lint, to_sip_as, to_webrtc};

const FINGERPRINT: &str =
    "sha-256 6B:8B:5D:EA:59:04:20:23:29:C8:87:1C:CC:87:32:BE:DD:8C:66:A5:8E:50:55:EA:8C:D3:B6:5C:09:5E:D6:BC";

/// What the engine makes: one transport, session-level fingerprint, each candidate for both components.
fn engine(codecs: &[(u8, &str)], direction: &str, hosts: &[(u8, u16)], mdns: bool, video: bool) -> String {
    let mut text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
    text.push_str(&format!(
        "a=fingerprint:{FINGERPRINT}\r\na=group:BUNDLE 0{}\r\n",
        if video { " 1" } else { "" }
    ));
    for (mid, medium) in [(0, "audio"), (1, "video")]
        .into_iter()
        .take(if video { 2 } else { 1 })
    {
        let formats: Vec<String> = match medium {
            "audio" => codecs.iter().map(|(number, _)| number.to_string()).collect(),
            _ => vec!["125".to_owned()],
        };
        text.push_str(&format!(
            "m={medium} 9 UDP/TLS/RTP/SAVPF {}\r\nc=IN IP4 0.0.0.0\r\n",
            formats.join(" ")
        ));
        text.push_str(&format!("a=setup:actpass\r\na=mid:{mid}\r\na=ice-ufrag:user\r\na=ice-pwd:passwordpasswordpassword\r\na=rtcp-mux\r\n"));
        match medium {
            "audio" => codecs
                .iter()
                .for_each(|(number, encoding)| text.push_str(&format!("a=rtpmap:{number} {encoding}\r\n"))),
            _ => text.push_str("a=rtpmap:125 VP8/90000\r\n"),
        }
        text.push_str(&format!("a={direction}\r\n"));
        if mid == 0 {
            for (number, (host, port)) in hosts.iter().enumerate() {
                for component in [1, 2] {
                    text.push_str(&format!(
                        "a=candidate:{number} {component} udp {} 192.0.2.{host} {port} typ host\r\n",
                        2_130_706_431 - number
                    ));
                }
            }
            if mdns {
                text.push_str("a=candidate:99 1 udp 7 0a0b0c.local 5000 typ host\r\n");
            }
            text.push_str("a=end-of-candidates\r\n");
        }
    }
    text
}

/// What a peer goes by: formats and encodings without the channel that is one, mids, roles, keys, directions.
fn essence(sdp: &str) -> Vec<String> {
    let kept = [
        "a=mid:",
        "a=setup:",
        "a=ice-",
        "a=fingerprint:",
        "a=group:",
        "a=rtcp-mux",
        "a=send",
        "a=recv",
        "a=inactive",
    ];
    let mut told: Vec<String> = Vec::new();
    for line in sdp.lines() {
        if let Some(value) = line.strip_prefix("m=") {
            let words: Vec<&str> = value.split(' ').collect();
            told.push(format!("m={} {}", words[0], words[2..].join(" ")));
        } else if let Some(value) = line.strip_prefix("a=rtpmap:") {
            told.push(format!("a=rtpmap:{}", value.strip_suffix("/1").unwrap_or(value)));
        } else if kept.iter().any(|prefix| line.starts_with(prefix)) && !line.starts_with("a=ice-options") {
            told.push(line.to_owned());
        }
    }
    told
}

/// Addresses of component 1.
fn addresses(sdp: &str) -> Vec<(String, u16)> {
    let first = candidates(sdp)
        .into_iter()
        .filter(|candidate| candidate.component == 1);
    first.map(|candidate| (candidate.host, candidate.port)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, rng_seed: RngSeed::Fixed(9429), ..ProptestConfig::default() })]

    #[test]
    fn to_the_wire_and_back_keeps_what_the_peer_may_see(
        codecs in prop::sample::subsequence(vec![(0, "PCMU/8000/1"), (8, "PCMA/8000"), (9, "G722/8000/1"), (111, "opus/48000/2"), (101, "telephone-event/8000")], 1..=5),
        direction in prop::sample::select(vec!["sendrecv", "sendonly", "recvonly", "inactive"]),
        hosts in prop::collection::vec((1..255_u8, 1_024..65_000_u16), 1..6),
        mdns in any::<bool>(),
        video in any::<bool>(),
        trickle in prop::sample::select(vec![Trickle::None, Trickle::Half, Trickle::Full]),
    ) {
        let ours = engine(&codecs, direction, &hosts, mdns, video);
        let form = SipForm { octets: None, trickle };
        let wire = to_sip_as(&ours, form).unwrap().sdp;
        let shown = to_webrtc(&wire).unwrap().sdp;
        prop_assert_eq!(essence(&ours), essence(&shown), "{}\n{}", wire, shown);
        let mut expected = addresses(&ours);
        expected.retain(|(host, _)| !host.ends_with(".local"));
        prop_assert_eq!(&addresses(&shown), &expected);
        // m= and c= name one of them, which is what a peer without ICE goes by.
        let port: u16 = lines(&wire, "m=")[0].split(' ').nth(1).unwrap().parse().unwrap();
        let host = lines(&wire, "c=IN IP4 ")[0].to_owned();
        prop_assert!(expected.contains(&(host, port)), "{}", wire);
    }

    #[test]
    fn each_change_to_the_wire_is_told_and_nothing_of_ours_is_left_to_correct(
        codecs in prop::sample::subsequence(vec![(0, "PCMU/8000/1"), (8, "PCMA/8000"), (111, "opus/48000/2")], 1..=3),
        hosts in prop::collection::vec((1..255_u8, 1_024..65_000_u16), 1..4),
        mdns in any::<bool>(),
    ) {
        let ours = engine(&codecs, "sendrecv", &hosts, mdns, false);
        let told = explain(&ours, Way::ToSip { form: SipForm::default() }, None);
        let wire = told.sdp.unwrap();
        for explained in &told.changes {
            let change = &explained.change;
            let is_there = |text: &str, line: &Option<String>| line.as_deref().is_none_or(|line| text.lines().any(|other| other == line));
            prop_assert!(is_there(&ours, &change.before) && is_there(&wire, &change.after), "{change}");
        }
        let needed = told.changes.iter().filter(|explained| explained.needed.is_some());
        prop_assert_eq!(needed.count(), 2, "m= and c= of the default candidate");
        let left = lint(&wire, None);
        prop_assert!(left.iter().all(|finding| finding.check == Check::LongForDatagram), "{:#?}", left);
    }
}
