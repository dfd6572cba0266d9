//! Descriptions that must fit into a datagram.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::{lines, samples};
use siprtc_core::ice::Candidate;
use siprtc_sdp_translator::{
    MAX_DATAGRAM, Rule, SipForm, Translation, answer_to_sip_as, check_offer, negotiated_audio, to_sip,
    to_sip_as,
};
use std::collections::BTreeMap;

/// An offer with everything that the diet knows.
const RICH: &str = "v=0\r\n\
o=- 1 1 IN IP4 0.0.0.0\r\n\
s=-\r\n\
t=0 0\r\n\
a=msid-semantic: WMS stream\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111 0 9\r\n\
c=IN IP4 0.0.0.0\r\n\
a=mid:0\r\n\
a=setup:actpass\r\n\
a=fingerprint:sha-256 AA:BB\r\n\
a=ice-ufrag:user\r\n\
a=ice-pwd:passwordpasswordpassword\r\n\
a=rtcp-mux\r\n\
a=rtpmap:111 opus/48000/2\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:9 g722/8000\r\n\
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
a=msid:stream track\r\n\
a=ssrc:1 cname:someone\r\n\
a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host generation 0 network-cost 10\r\n\
a=candidate:9 1 udp 2130706430 192.0.2.1 40000 typ host\r\n\
a=candidate:2 1 udp 2130706175 2001:db8::1 40001 typ host\r\n\
a=candidate:3 1 udp 2130705919 2001:db8::aaaa 40002 typ host\r\n\
a=candidate:4 1 udp 2130705663 fe80::1 40003 typ host\r\n\
a=candidate:5 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
a=candidate:6 1 udp 1694498815 203.0.113.1 50000 typ srflx raddr 192.0.2.1 rport 40000\r\n\
a=candidate:6 1 udp 1694498559 203.0.113.1 50001 typ srflx raddr 192.0.2.1 rport 40001\r\n\
a=candidate:7 1 udp 1694498303 203.0.113.2 50002 typ srflx raddr 192.0.2.2 rport 40000\r\n\
a=candidate:8 1 udp 16777215 198.51.100.1 60000 typ relay raddr 203.0.113.1 rport 50000\r\n\
a=sendrecv\r\n";

#[track_caller]
fn sip(sdp: &str, octets: usize) -> Translation {
    let form = SipForm {
        octets: Some(octets),
        ..SipForm::default()
    };
    to_sip_as(sdp, form).unwrap_or_else(|error| panic!("{error}\n{sdp}"))
}

/// The diet's rules that were needed, each once, in their order.
fn courses(translation: &Translation) -> Vec<Rule> {
    let rules = translation.changes.iter().map(|change| change.rule);
    let mut rules: Vec<Rule> = rules.filter(|rule| rule.as_str().starts_with("diet-")).collect();
    rules.dedup();
    rules
}

const COURSES: [Rule; 10] = [
    Rule::DietRtpmapStatic,
    Rule::DietMediaStream,
    Rule::DietCandidateExtension,
    Rule::DietCandidateDuplicate,
    Rule::DietCandidateLinkLocal,
    Rule::DietCandidateTcp,
    Rule::DietCandidateTemporary,
    Rule::DietCandidateFoundation,
    Rule::DietHeaderExtension,
    Rule::DietCandidatePriority,
];

#[test]
fn nothing_is_cut_from_a_description_that_fits_or_that_has_no_bound() {
    let free = to_sip(RICH).unwrap();
    assert_eq!(courses(&free), []);
    assert_eq!(sip(RICH, free.sdp.len()), free);
    assert_ne!(sip(RICH, free.sdp.len() - 1), free);
}

#[test]
fn the_courses_are_served_in_order_and_only_while_it_is_too_long() {
    let free = to_sip(RICH).unwrap().sdp.len();
    let mut served = 0;
    for octets in (0..free).rev() {
        let translation = sip(RICH, octets);
        let courses = courses(&translation);
        let needed = courses.len() - usize::from(courses.contains(&Rule::DietTooLong));
        assert_eq!(courses[..needed], COURSES[..needed], "{octets}");
        assert!(needed >= served, "{octets}");
        served = needed;
        let fits = translation.sdp.len() <= octets;
        assert_eq!(fits, !courses.contains(&Rule::DietTooLong), "{octets}");
    }
    assert_eq!(served, COURSES.len());
}

#[test]
fn a_starved_description_keeps_what_a_call_needs() {
    let starved = sip(RICH, 0).sdp;
    let kept = [
        "a=mid:0",
        "a=setup:actpass",
        "a=fingerprint:sha-256 AA:BB",
        "a=ice-ufrag:user",
        "a=ice-pwd:passwordpasswordpassword",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:mid",
        "m=audio 60000 UDP/TLS/RTP/SAVPF 111 0 9",
        "a=sendrecv",
    ];
    for line in kept {
        assert!(starved.lines().any(|other| other == line), "{line}\n{starved}");
    }
    // One host candidate of each family, one server-reflexive, one relayed: each the best of its kind.
    let candidates = [
        "1 1 udp 2130706431 192.0.2.1 40000 typ host",
        "2 1 udp 2130706175 2001:db8::1 40001 typ host",
        "6 1 udp 1694498815 203.0.113.1 50000 typ srflx raddr 192.0.2.1 rport 40000",
        "8 1 udp 16777215 198.51.100.1 60000 typ relay raddr 203.0.113.1 rport 50000",
    ];
    assert_eq!(lines(&starved, "a=candidate:"), candidates);
}

#[test]
fn every_cut_says_what_and_why() {
    let starved = sip(RICH, 0);
    let change = |rule| starved.changes.iter().find(|change| change.rule == rule).unwrap();
    let tcp = change(Rule::DietCandidateTcp);
    assert_eq!(
        tcp.before.as_deref(),
        Some("a=candidate:5 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active")
    );
    assert_eq!((tcp.media, &tcp.after), (Some(0), &None));
    assert!(tcp.to_string().contains("RFC 6544") && tcp.to_string().contains("RFC 3261 section 18.1.1"));
    let short = change(Rule::DietCandidateExtension);
    assert_eq!(
        short.after.as_deref(),
        Some("a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host")
    );
    assert!(change(Rule::DietTooLong).to_string().contains("goes over TCP"));
}

#[test]
fn the_default_candidate_stays_although_better_ones_are_there() {
    // The default one is the worst of four of its kind.
    let engine = RICH.replace("c=IN IP4 0.0.0.0", "c=IN IP4 203.0.113.2");
    let engine = engine.replace("m=audio 9 ", "m=audio 50002 ");
    let starved = sip(&engine, 0).sdp;
    let candidates = lines(&starved, "a=candidate:");
    assert!(
        candidates
            .iter()
            .any(|line| line.starts_with("7 1 udp 1694498303 203.0.113.2 50002")),
        "{starved}"
    );
}

#[test]
fn no_more_candidates_go_than_must_and_the_worst_goes_first() {
    let head = RICH.split("a=rtpmap:0 ").next().unwrap();
    let head = head.replace("a=msid-semantic: WMS stream\r\n", "");
    let candidates = (1..=5).map(|n| format!("a=candidate:{n} 1 udp {n} 203.0.113.{n} 50000 typ srflx\r\n"));
    let engine = head
        .replace("0.0.0.0\r\na=mid", "203.0.113.5\r\na=mid")
        .replace("audio 9 ", "audio 50000 ")
        + &candidates.collect::<String>();
    let slim = sip(&engine, to_sip(&engine).unwrap().sdp.len() - 1);
    assert_eq!(courses(&slim), [Rule::DietCandidatePriority]);
    let left: Vec<&str> = lines(&slim.sdp, "a=candidate:");
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|line| !line.starts_with("1 ")), "{}", slim.sdp);
}

#[test]
fn an_encoding_that_is_not_the_tables_keeps_its_rtpmap() {
    let engine = RICH.replace("a=rtpmap:0 PCMU/8000", "a=rtpmap:0 opus/48000/2");
    assert!(sip(&engine, 0).sdp.contains("a=rtpmap:0 opus/48000/2"));
}

#[test]
fn an_answer_is_cut_too() {
    let offer = to_sip(RICH).unwrap().sdp;
    let answer = RICH.replace("actpass", "active");
    let form = SipForm::beside(MAX_DATAGRAM - 900);
    let wire = answer_to_sip_as(&offer, &answer, form).unwrap().sdp;
    assert!(wire.len() <= 900, "{}", wire.len());
    assert!(
        answer_to_sip_as(&offer, &answer, SipForm::default())
            .unwrap()
            .sdp
            .len()
            > 900
    );
    assert!(negotiated_audio(&wire, &offer).is_ok());
    assert_eq!(SipForm::beside(2_000).octets, Some(0));
}

/// How often each line that a call needs is there, and whether there is a candidate of each kind.
fn needed(sdp: &str) -> BTreeMap<String, usize> {
    let prefixes = [
        "m=",
        "c=",
        "a=mid:",
        "a=setup:",
        "a=fingerprint:",
        "a=ice-ufrag:",
        "a=ice-pwd:",
        "a=rtcp-mux",
        "a=group:",
    ];
    let mut count = BTreeMap::new();
    for line in sdp.lines() {
        for prefix in prefixes.iter().filter(|prefix| line.starts_with(**prefix)) {
            *count.entry((*prefix).to_owned()).or_default() += 1;
        }
    }
    for (index, media) in sdp.split("\r\nm=").enumerate() {
        for line in lines(media, "a=candidate:") {
            if let Ok(candidate) = line.parse::<Candidate>() {
                let family = candidate.host.contains(':');
                count.insert(
                    format!("{index} {:?} {} {family}", candidate.kind, candidate.component),
                    1,
                );
            }
        }
    }
    count
}

#[test]
fn descriptions_of_the_corpus_lose_nothing_that_a_call_needs() {
    let (mut cut, mut too_long) = (0, 0);
    for sample in samples() {
        let Ok(free) = to_sip(&sample.text) else { continue };
        for octets in [0, 700, 1_000] {
            let slim = sip(&sample.text, octets);
            assert_eq!(needed(&slim.sdp), needed(&free.sdp), "{} {octets}", sample.name);
            let noted = courses(&slim).contains(&Rule::DietTooLong);
            assert_eq!(noted, slim.sdp.len() > octets, "{} {octets}", sample.name);
            assert_eq!(
                check_offer(&slim.sdp).is_ok(),
                check_offer(&free.sdp).is_ok(),
                "{}",
                sample.name
            );
            assert_eq!(
                sip(&slim.sdp, octets).sdp,
                slim.sdp,
                "{}: once cut, nothing is left to cut",
                sample.name
            );
            cut += usize::from(slim.sdp != free.sdp);
            too_long += usize::from(noted);
        }
    }
    assert!(cut > 100 && too_long > 50, "{cut} cut, {too_long} too long");
}
