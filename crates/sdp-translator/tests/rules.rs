//! Each rule, by what it does to a description.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::{lines, web};
use siprtc_core::Fault;
use siprtc_sdp_translator::{
    Rule, Translation, answer_to_sip, answer_to_webrtc, candidates, check_answer, check_offer, to_sip,
    to_webrtc,
};

/// [`web!`], and a line that nobody knows.
const PEER: &str = concat!(web!("AA:BB"), "a=x-unknown: \tkept  as it is;\u{e9}\r\n");

/// What the engine makes.
const ENGINE: &str = "v=0\r\n\
o=- 1 1 IN IP4 0.0.0.0\r\n\
s=-\r\n\
t=0 0\r\n\
a=fingerprint:sha-256 AA:BB\r\n\
a=group:BUNDLE 0\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
c=IN IP4 0.0.0.0\r\n\
a=setup:actpass\r\n\
a=mid:0\r\n\
a=ice-ufrag:user\r\n\
a=ice-pwd:passwordpasswordpassword\r\n\
a=rtcp-mux\r\n\
a=rtpmap:0 PCMU/8000/1\r\n\
a=sendrecv\r\n\
a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\r\n\
a=candidate:1 2 udp 2130706430 192.0.2.1 40000 typ host\r\n\
a=candidate:2 1 udp 1694498815 203.0.113.1 50000 typ srflx raddr 192.0.2.1 rport 40000\r\n\
a=candidate:2 2 udp 1694498814 203.0.113.1 50000 typ srflx raddr 192.0.2.1 rport 40000\r\n\
a=end-of-candidates\r\n";

#[track_caller]
fn webrtc(sdp: &str) -> Translation {
    to_webrtc(sdp).unwrap_or_else(|error| panic!("{error}\n{sdp}"))
}

#[track_caller]
fn sip(sdp: &str) -> Translation {
    to_sip(sdp).unwrap_or_else(|error| panic!("{error}\n{sdp}"))
}

#[track_caller]
fn assert_rules(translation: &Translation, rules: &[Rule]) {
    let mut used: Vec<Rule> = translation.changes.iter().map(|change| change.rule).collect();
    used.dedup();
    assert_eq!(used, rules, "{}", translation.sdp);
}

/// `PEER` after a replacement that must find something.
#[track_caller]
fn peer(from: &str, to: &str) -> String {
    assert!(PEER.contains(from), "{from}");
    PEER.replace(from, to)
}

#[track_caller]
fn refusal(sdp: &str) -> siprtc_core::Error {
    to_webrtc(sdp).expect_err("must be refused")
}

#[test]
fn a_description_that_the_engine_understands_stays_byte_for_byte() {
    let translation = webrtc(PEER);
    assert_eq!(translation.sdp, PEER);
    assert_eq!(translation.changes, []);
}

#[test]
fn every_change_says_where_what_and_why() {
    let translation = webrtc(&peer("sha-256", "SHA-256"));
    let [change] = translation.changes.as_slice() else {
        panic!("{:?}", translation.changes)
    };
    assert_eq!(change.rule.to_string(), "fingerprint-hash");
    assert_eq!(change.media, Some(0));
    assert_eq!(change.before.as_deref(), Some("a=fingerprint:SHA-256 AA:BB"));
    assert_eq!(change.after.as_deref(), Some("a=fingerprint:sha-256 AA:BB"));
    assert!(change.why.contains("RFC 8122"));
}

#[test]
fn every_rule_has_its_own_kebab_case_id_and_an_rfc() {
    let mut ids: Vec<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    assert!(
        ids.iter()
            .all(|id| id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
    );
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), Rule::ALL.len());
    assert!(Rule::ALL.iter().all(|rule| rule.why().contains("RFC ")));
}

#[test]
fn line_feeds_alone_become_crlf_and_blank_lines_go() {
    let translation = webrtc(&PEER.replace("\r\n", "\n").replace("s=-\n", "\n\ns=-\n"));
    assert_eq!(translation.sdp, PEER);
    assert_rules(&translation, &[Rule::LineEnd, Rule::LineInvalid]);
}

#[test]
fn missing_mandatory_lines_are_put_in() {
    let translation = webrtc(&peer("o=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n", "s=\r\n"));
    assert!(
        translation
            .sdp
            .starts_with("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group")
    );
    assert_rules(&translation, &[Rule::LineMissing]);
}

#[test]
fn an_origin_with_too_few_fields_is_replaced() {
    let translation = webrtc(&peer("o=- 1 1 IN IP4 192.0.2.1", "o=TEST IN IP4 192.0.2.1"));
    assert_eq!(lines(&translation.sdp, "o="), ["- 0 0 IN IP4 0.0.0.0"]);
}

#[test]
fn lines_in_the_wrong_order_are_sorted() {
    let translation = webrtc(&peer(
        "s=-\r\nt=0 0\r\n",
        "t=0 0\r\nc=IN IP4 192.0.2.1\r\ns=-\r\n",
    ));
    assert!(
        translation.sdp.contains("s=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"),
        "{}",
        translation.sdp
    );
    assert_rules(&translation, &[Rule::LineOrder]);
}

#[test]
fn an_m_line_without_a_name_gets_mid_and_group() {
    let translation = webrtc(
        &PEER
            .replace("a=mid:0\r\n", "")
            .replace("a=group:BUNDLE 0\r\n", ""),
    );
    assert_eq!(lines(&translation.sdp, "a=mid:"), ["0"]);
    assert_eq!(lines(&translation.sdp, "a=group:"), ["BUNDLE 0"]);
    assert_rules(&translation, &[Rule::Mid, Rule::BundleGroup]);
}

#[test]
fn an_invented_mid_does_not_collide_with_a_given_one() {
    let video = "m=video 40002 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n";
    let translation = webrtc(&format!(
        "{}{video}",
        peer("a=mid:0", "a=mid:1").replace("BUNDLE 0", "BUNDLE 1")
    ));
    let mids = lines(&translation.sdp, "a=mid:");
    assert_eq!(mids[0], "1");
    assert_ne!(mids[1], "1");
}

#[test]
fn static_payload_types_are_spelled_out() {
    let translation =
        webrtc(&peer("SAVPF 0 101", "SAVPF 0 8 9 3 18 13 101").replace("a=rtpmap:0 PCMU/8000\r\n", ""));
    let added: Vec<&str> = translation
        .changes
        .iter()
        .filter_map(|change| change.after.as_deref())
        .collect();
    assert_eq!(
        added,
        [
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:9 G722/8000",
            "a=rtpmap:3 GSM/8000",
            "a=rtpmap:18 G729/8000",
            "a=rtpmap:13 CN/8000"
        ]
    );
    assert_rules(&translation, &[Rule::RtpmapStatic]);
}

#[test]
fn payload_types_that_mean_nothing_leave_the_m_line() {
    let translation = webrtc(&peer("SAVPF 0 101", "SAVPF 0 97 101 x"));
    assert_eq!(
        lines(&translation.sdp, "m="),
        ["audio 40000 UDP/TLS/RTP/SAVPF 0 101"]
    );
    assert_rules(&translation, &[Rule::PayloadUnmapped]);
}

#[test]
fn of_several_fingerprints_the_sha_256_one_stays() {
    let three = "a=fingerprint:sha-1 11:22\r\na=fingerprint:SHA-256  aa:bb\r\na=fingerprint:sha-512 33:44";
    let translation = webrtc(&peer("a=fingerprint:sha-256 AA:BB", three));
    assert_eq!(lines(&translation.sdp, "a=fingerprint:"), ["sha-256 aa:bb"]);
    assert_rules(&translation, &[Rule::FingerprintSingle, Rule::FingerprintHash]);
}

#[test]
fn without_a_sha_256_fingerprint_the_error_says_so() {
    let error = refusal(&peer("sha-256", "sha-1"));
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert!(error.to_string().contains("SHA-256"), "{error}");
}

#[test]
fn a_fingerprint_without_its_hash_is_none() {
    let error = refusal(&peer("sha-256 AA:BB", "sha-256"));
    assert!(error.to_string().contains("no SHA-256 fingerprint"), "{error}");
}

#[test]
fn attributes_of_the_session_count_for_the_m_line() {
    let session = "t=0 0\r\na=setup:passive\r\na=sendonly\r\na=fingerprint:sha-256 AA:BB\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n";
    let sdp = PEER
        .replace("t=0 0\r\n", session)
        .replace(
            "a=sendrecv\r\na=setup:actpass\r\na=fingerprint:sha-256 AA:BB\r\na=ice-ufrag:user\r\n",
            "",
        )
        .replace("a=ice-pwd:passwordpasswordpassword\r\n", "");
    let translation = webrtc(&sdp);
    let (_, media) = translation.sdp.split_once("m=audio").unwrap();
    assert_eq!(lines(media, "a=setup:"), ["passive"]);
    assert_eq!(lines(media, "a=sendonly"), [""]);
    assert_rules(&translation, &[Rule::SessionSetup, Rule::Direction]);
}

#[test]
fn an_m_line_without_a_direction_is_sendrecv() {
    let translation = webrtc(&peer("a=sendrecv\r\n", ""));
    assert_eq!(lines(&translation.sdp, "a=sendrecv"), [""]);
    assert_rules(&translation, &[Rule::Direction]);
}

#[test]
fn candidates_that_the_engine_would_fail_on_go() {
    let more = "a=candidate:2 1 udp 5 host.example.com 40000 typ host\r\n\
                a=candidate:3 1 udp 5 0f5b6b94.local 40000 typ host\r\n\
                a=candidate:4 1 ssltcp 5 192.0.2.1 443 typ host\r\n\
                a=candidate:5 1 udp 5 192.0.2.1 70000 typ host\r\n\
                a=candidate:6 1 udp 5 203.0.113.1 1 typ srflx raddr 192.0.2.1\r\n\
                a=candidate:7 2 udp 5 192.0.2.1 40001 typ host\r\n\
                a=candidate:8 1 UDP 5 2001:db8::1 40001 typ host generation 0\r\n";
    let translation = webrtc(&format!("{PEER}{more}"));
    let kept: Vec<String> = candidates(&translation.sdp)
        .into_iter()
        .map(|candidate| candidate.foundation)
        .collect();
    assert_eq!(kept, ["1", "8"]);
    assert_rules(&translation, &[Rule::CandidateComponent, Rule::CandidateUnusable]);
}

#[test]
fn a_header_extension_without_a_uri_goes() {
    let translation = webrtc(&format!(
        "{PEER}a=extmap:1 URI-toffset\r\na=extmap:2/recvonly urn:x:y\r\n"
    ));
    assert_eq!(lines(&translation.sdp, "a=extmap:"), ["2/recvonly urn:x:y"]);
    assert_rules(&translation, &[Rule::ExtmapInvalid]);
}

#[test]
fn a_peer_that_does_not_multiplex_rtcp_is_noted() {
    assert_rules(&webrtc(&peer("a=rtcp-mux\r\n", "")), &[Rule::RtcpMux]);
}

const OTHER_TRANSPORT: &str = "m=video 40002 UDP/TLS/RTP/SAVPF 96\r\n\
a=mid:1\r\n\
a=sendrecv\r\n\
a=setup:actpass\r\n\
a=fingerprint:sha-256 AA:BB\r\n\
a=ice-ufrag:other\r\n\
a=ice-pwd:otherpasswordotherpassword\r\n\
a=rtcp-mux\r\n\
a=rtpmap:96 VP8/90000\r\n\
a=candidate:1 1 udp 2130706431 192.0.2.1 40002 typ host\r\n";

#[test]
fn without_bundle_only_the_first_audio_line_stays_alive() {
    let sdp = peer("a=group:BUNDLE 0\r\n", "").replacen("m=audio", &format!("{OTHER_TRANSPORT}m=audio"), 1);
    let translation = webrtc(&sdp);
    assert_eq!(
        lines(&translation.sdp, "m="),
        [
            "video 0 UDP/TLS/RTP/SAVPF 0",
            "audio 40000 UDP/TLS/RTP/SAVPF 0 101"
        ]
    );
    assert_eq!(lines(&translation.sdp, "a=group:"), ["BUNDLE 0"]);
    assert_eq!(lines(&translation.sdp, "a=ice-ufrag:"), ["user"]);
}

#[test]
fn bundled_lines_share_the_tagged_ones_ice_credentials_and_candidates() {
    let translation = webrtc(&format!("{}{OTHER_TRANSPORT}", peer("BUNDLE 0", "BUNDLE 0 1")));
    assert_eq!(lines(&translation.sdp, "a=ice-ufrag:"), ["user"]);
    assert_eq!(lines(&translation.sdp, "a=candidate:").len(), 1);
    assert_rules(&translation, &[Rule::IceSingle, Rule::CandidatePlace]);
}

#[test]
fn a_rejected_line_of_any_kind_comes_back_as_it_was() {
    for line in [
        "m=image 0 udptl t38",
        "m=message 0 TCP/MSRP *",
        "m=audio 0 RTP/AVP 8",
        "m=text 0 RTP/AVP 98",
    ] {
        for mid in ["", "a=mid:fax\r\n"] {
            let other = format!("{line}\r\n{mid}");
            let sdp = PEER.replacen("m=audio", &format!("{other}m=audio"), 1);
            let shown = webrtc(&sdp);
            assert_eq!(lines(&shown.sdp, "m=")[0], "video 0 UDP/TLS/RTP/SAVPF 0");
            let wire = sip(&shown.sdp).sdp;
            assert!(wire.contains(&other), "{wire}");
            assert_eq!(lines(&wire, "a=mid:").len(), usize::from(!mid.is_empty()) + 1);
        }
    }
}

#[test]
fn a_rejected_line_whose_direction_stands_before_its_mid_goes_there_and_back_to_one_form() {
    let offer = format!("{PEER}m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=inactive\r\na=mid:later\r\n");
    let shown = webrtc(&offer).sdp;
    assert_eq!(webrtc(&sip(&shown).sdp).sdp, shown);
}

#[test]
fn plain_rtp_is_refused_in_a_sentence() {
    let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let error = refusal(sdp);
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert_eq!(
        error.to_string(),
        "translate SDP: the peer offers plain RTP in m-line 0 (audio RTP/AVP), without a fingerprint; media.engine = \
         \"webrtc\" needs DTLS-SRTP with ICE (RFC 5763): switch it on at the peer, or answer 488"
    );
    let error = refusal(&format!(
        "{}a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n",
        sdp.replace("AVP", "SAVP")
    ));
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    assert!(error.to_string().contains("a=crypto"), "{error}");
}

#[test]
fn every_secure_profile_is_accepted() {
    for profile in ["UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP", "UDP/TLS/RTP/SAVPF"] {
        let sdp = peer("UDP/TLS/RTP/SAVPF", profile);
        assert_eq!(webrtc(&sdp).sdp, sdp);
    }
}

#[test]
fn what_cannot_be_carried_is_refused_by_its_name() {
    for (from, to, word) in [
        ("a=ice-ufrag:user\r\n", "", "ICE"),
        ("m=audio", "m=image", "neither audio nor video"),
        ("40000 UDP", "0 UDP", "rejected"),
        ("SAVPF 0 101", "SAVPF 96 97", "codec"),
    ] {
        let error = refusal(&peer(from, to));
        assert_eq!(error.fault(), Fault::PeerIncompatible);
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(refusal("hello").fault(), Fault::PeerMisbehaved);
    assert_eq!(refusal("").fault(), Fault::PeerMisbehaved);
}

#[test]
fn too_much_of_anything_is_the_peers_fault() {
    let long = format!("{PEER}a=x:{}\r\n", "x".repeat(siprtc_sdp_translator::MAX_SDP));
    let many = format!("{PEER}{}", "a=x\r\n".repeat(siprtc_sdp_translator::MAX_LINES));
    let media = format!(
        "{PEER}{}",
        "m=audio 0 RTP/AVP 0\r\n".repeat(siprtc_sdp_translator::MAX_MEDIA)
    );
    for sdp in [long, many, media] {
        assert_eq!(refusal(&sdp).fault(), Fault::PeerMisbehaved);
    }
}

#[test]
fn the_wire_names_the_default_candidate_and_each_candidate_once() {
    let translation = sip(ENGINE);
    assert_eq!(lines(&translation.sdp, "m="), ["audio 50000 UDP/TLS/RTP/SAVPF 0"]);
    assert_eq!(lines(&translation.sdp, "c="), ["IN IP4 203.0.113.1"]);
    assert_eq!(lines(&translation.sdp, "a=candidate:").len(), 2);
    assert_eq!(lines(&translation.sdp, "a=rtpmap:"), ["0 PCMU/8000"]);
    assert_rules(
        &translation,
        &[
            Rule::CandidateComponent,
            Rule::MonoChannel,
            Rule::DefaultCandidate,
        ],
    );
}

#[test]
fn a_relayed_candidate_is_the_best_default_and_ipv4_comes_first() {
    let six = "a=candidate:3 1 udp 99 2001:db8::9 50002 typ relay raddr :: rport 9\r\n";
    let four = "a=candidate:4 1 udp 9 198.51.100.9 50004 typ relay raddr 0.0.0.0 rport 9\r\n";
    let wire = sip(&format!("{ENGINE}{six}")).sdp;
    assert_eq!(
        (lines(&wire, "c=")[0], lines(&wire, "m=")[0]),
        ("IN IP6 2001:db8::9", "audio 50002 UDP/TLS/RTP/SAVPF 0")
    );
    let wire = sip(&format!("{ENGINE}{six}{four}")).sdp;
    assert_eq!(lines(&wire, "c="), ["IN IP4 198.51.100.9"]);
}

#[test]
fn a_default_that_is_already_there_stays() {
    assert_eq!(sip(PEER).sdp, PEER);
}

#[test]
fn component_two_with_an_address_of_its_own_stays() {
    let own = "a=candidate:9 2 udp 5 192.0.2.1 40001 typ host\r\n";
    assert!(sip(&format!("{ENGINE}{own}")).sdp.contains(own));
}

#[test]
fn mdns_names_stay_off_the_wire_unless_there_is_nothing_else() {
    let name = "a=candidate:9 1 udp 5 0f5b6b94.local 40001 typ host\r\n";
    let translation = sip(&format!("{ENGINE}{name}"));
    assert!(!translation.sdp.contains(".local"));
    assert!(
        translation
            .changes
            .iter()
            .any(|change| change.rule == Rule::CandidateUnusable)
    );
    let alone: String = ENGINE
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("a=candidate"))
        .collect();
    assert!(sip(&format!("{alone}{name}")).sdp.contains(name));
}

#[test]
fn trickle_is_not_promised_and_other_ice_options_stay() {
    let sdp = ENGINE.replace("a=group", "a=ice-options:trickle ice2\r\na=group");
    let translation = sip(&format!("{sdp}a=ice-options:trickle\r\n"));
    assert_eq!(lines(&translation.sdp, "a=ice-options:"), ["ice2"]);
    assert!(
        translation
            .changes
            .iter()
            .any(|change| change.rule == Rule::Trickle)
    );
}

#[test]
fn a_discard_rtcp_line_follows_the_default_candidate() {
    let translation = sip(&format!("{ENGINE}a=rtcp:9 IN IP4 0.0.0.0\r\n"));
    assert_eq!(lines(&translation.sdp, "a=rtcp:"), ["50000"]);
    assert!(
        translation
            .changes
            .iter()
            .any(|change| change.rule == Rule::RtcpLine)
    );
}

#[test]
fn candidates_move_from_a_rejected_line_to_the_live_one() {
    let rejected =
        "m=video 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\na=candidate:1 1 udp 5 192.0.2.1 40000 typ host\r\n";
    let alone: String = ENGINE
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("a=candidate"))
        .collect();
    let translation = sip(&alone.replacen("m=audio", &format!("{rejected}m=audio"), 1));
    assert_eq!(
        lines(&translation.sdp, "m=")[1],
        "audio 40000 UDP/TLS/RTP/SAVPF 0"
    );
    assert_eq!(candidates(&translation.sdp).len(), 1);
    assert!(
        translation
            .changes
            .iter()
            .any(|change| change.rule == Rule::CandidatePlace)
    );
}

#[test]
fn an_answer_has_nothing_that_the_offer_does_not_have() {
    let offer = PEER
        .replace("a=mid:0\r\n", "")
        .replace("a=group:BUNDLE 0\r\n", "")
        .replace("a=rtcp-mux\r\n", "")
        .replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF");
    let wire = answer_to_sip(&offer, &ENGINE.replace("actpass", "active")).unwrap();
    for absent in ["a=mid", "a=group", "a=rtcp-mux", "UDP/TLS"] {
        assert!(!wire.sdp.contains(absent), "{absent} in {}", wire.sdp);
    }
    assert!(wire.changes.iter().any(|change| change.rule == Rule::AnswerFit));
    assert!(answer_to_sip(PEER, ENGINE).unwrap().sdp.contains("a=mid:0"));
}

#[test]
fn an_answer_takes_its_mids_from_our_offer_and_is_passive_by_default() {
    let offer = ENGINE
        .replace("a=mid:0", "a=mid:audio0")
        .replace("BUNDLE 0", "BUNDLE audio0");
    let answer = peer("a=mid:0\r\n", "").replace("a=group:BUNDLE 0\r\n", "");
    for role in ["", "a=setup:actpass\r\n"] {
        let shown = answer_to_webrtc(&offer, &answer.replace("a=setup:actpass\r\n", role)).unwrap();
        assert_eq!(lines(&shown.sdp, "a=mid:"), ["audio0"]);
        assert_eq!(lines(&shown.sdp, "a=setup:"), ["passive"]);
        assert!(
            shown
                .changes
                .iter()
                .any(|change| change.rule == Rule::AnswerSetup)
        );
    }
    let shown = answer_to_webrtc(&offer, &answer.replace("actpass", "active")).unwrap();
    assert_eq!(lines(&shown.sdp, "a=setup:"), ["active"]);
}

#[test]
fn an_answer_must_fit_its_offer() {
    check_offer(PEER).unwrap();
    check_answer(ENGINE, PEER).unwrap();
    let two = format!("{PEER}m=video 0 RTP/AVP 31\r\n");
    let misfits = [
        (ENGINE, two.as_str()),
        (&two, PEER),
        (&two, &format!("{PEER}m=video 9 RTP/AVP 31\r\n")),
    ];
    for (offer, answer) in misfits {
        assert_eq!(
            check_answer(offer, answer).unwrap_err().fault(),
            Fault::PeerMisbehaved
        );
    }
    assert_eq!(
        check_answer(ENGINE, &peer("m=audio", "m=video"))
            .unwrap_err()
            .fault(),
        Fault::PeerMisbehaved
    );
    assert_eq!(
        check_answer(ENGINE, &peer("40000 UDP", "0 UDP"))
            .unwrap_err()
            .fault(),
        Fault::PeerIncompatible
    );
    assert_eq!(
        check_answer(ENGINE, &peer("a=fingerprint:sha-256 AA:BB\r\n", ""))
            .unwrap_err()
            .fault(),
        Fault::PeerIncompatible
    );
    assert_eq!(
        check_offer(&peer("audio 40000", "audio port"))
            .unwrap_err()
            .fault(),
        Fault::PeerMisbehaved
    );
}
