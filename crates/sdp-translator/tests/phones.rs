//! What phones, gateways and servers send, in the forms in which they send it, and what becomes of it. Addresses and keys are
//! made up.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::lines;
use siprtc_core::media::{Codec, Direction};
use siprtc_sdp_translator::{
    Answerer, ClassicTransport, Keying, LocalMedia, LocalSession, LocalTransport, Rule, Setup, Suite, Target,
    WebrtcSide, answer, check_classic_answer, check_classic_offer, check_offer, from_classic, needs,
    negotiated_audio_as, to_classic,
};

const HEX: &str =
    "6B:8B:5D:EA:59:04:20:23:29:C8:87:1C:CC:87:32:BE:DD:8C:66:A5:8E:50:55:EA:8C:D3:B6:5C:09:5E:D6:BC";
const KEY_128: &str = "inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5yxQ";
const KEY_256: &str = "inline:EPm8bCW0w2BvozGK++QzjF4m6ARVCpXrn8GAMAoIiDW8BQRDZ+fFRwDjLFALJQ==";
const KEY_GCM: &str = "inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5w==";

fn offer(head: &str, body: &[&str]) -> String {
    let body: String = body.iter().map(|line| format!("{line}\r\n")).collect();
    format!("v=0\r\no=phone 12 1 IN IP4 192.0.2.1\r\n{head}c=IN IP4 192.0.2.1\r\nt=0 0\r\n{body}")
}

/// What the offer is told to need: m-line, profile, keys.
#[track_caller]
fn need(text: &str) -> (usize, String, Vec<Keying>) {
    let carried = needs(text)
        .unwrap()
        .classic
        .unwrap_or_else(|refusal| panic!("{}\n{text}", refusal.what));
    check_classic_offer(text).unwrap();
    (
        carried.index,
        carried.profile.unwrap().to_string(),
        carried.keying,
    )
}

fn side() -> WebrtcSide {
    WebrtcSide {
        transport: LocalTransport {
            fingerprint: format!("sha-256 {HEX}"),
            ice_ufrag: "ours".to_owned(),
            ice_pwd: "ourpasswordourpassword00".to_owned(),
            candidates: vec!["1 1 udp 2130706431 192.0.2.10 6000 typ host".to_owned()],
        },
        established: None,
        payload_types: Vec::new(),
    }
}

/// The phone's offer in a browser: taken by the checks, with as many m-lines, and with these declined.
#[track_caller]
fn shown(text: &str, declined: &[usize]) -> String {
    let shown = from_classic(text, &side())
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .sdp;
    check_offer(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    let ports: Vec<bool> = lines(&shown, "m=")
        .iter()
        .map(|line| line.split(' ').nth(1) == Some("0"))
        .collect();
    let rejected: Vec<usize> = (0..ports.len()).filter(|at| ports[*at]).collect();
    assert_eq!(lines(text, "m=").len(), ports.len());
    assert_eq!(rejected, declined, "{shown}");
    shown
}

#[test]
fn cisco_with_several_keys_and_its_own_attributes() {
    let text = offer(
        "s=SIP Call\r\n",
        &[
            "m=audio 24576 RTP/SAVP 0 8 116 18 101",
            &format!("a=crypto:1 AEAD_AES_256_GCM {KEY_256}"),
            &format!("a=crypto:2 AEAD_AES_128_GCM {KEY_GCM}"),
            &format!("a=crypto:3 AES_CM_128_HMAC_SHA1_80 {KEY_128}"),
            &format!("a=crypto:4 AES_CM_128_HMAC_SHA1_32 {KEY_128}"),
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:116 iLBC/8000",
            "a=fmtp:116 mode=20",
            "a=rtpmap:18 G729/8000",
            "a=fmtp:18 annexb=no",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-16",
            "a=rtcp-fb:* nack pli",
            "a=X-nat:0",
            "a=sendrecv",
        ],
    );
    assert_eq!(need(&text), (0, "RTP/SAVP".to_owned(), vec![Keying::Sdes]));
    // Its first key has two octets too many for AEAD_AES_256_GCM: that line is passed over, the others stand.
    let suites = needs(&text).unwrap().classic.unwrap().suites;
    assert_eq!(
        suites,
        [
            Suite::AeadAes128Gcm,
            Suite::AesCm128HmacSha1_80,
            Suite::AesCm128HmacSha1_32
        ]
    );
    let seen = shown(&text, &[]);
    assert!(
        !seen.contains("a=crypto")
            && seen.contains("a=X-nat:0\r\n")
            && seen.contains("a=fmtp:18 annexb=no\r\n"),
        "{seen}"
    );
    let reply = offer(
        "s=-\r\n",
        &[
            "m=audio 5000 RTP/SAVP 0",
            &format!("a=crypto:3 AES_CM_128_HMAC_SHA1_80 {KEY_128}"),
        ],
    );
    check_classic_answer(&text, &reply).unwrap();
}

#[test]
fn yealink_with_best_effort_srtp() {
    let text = offer(
        "s=SDP data\r\n",
        &[
            "m=audio 11780 RTP/AVP 9 0 8 18 101",
            &format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 {KEY_128}"),
            &format!("a=crypto:2 AES_256_CM_HMAC_SHA1_80 {KEY_256}"),
            "a=rtpmap:9 G722/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=ptime:20",
            "a=rtcp:11781 IN IP4 192.0.2.1",
            "a=sendrecv",
        ],
    );
    assert_eq!(
        need(&text),
        (0, "RTP/AVP".to_owned(), vec![Keying::Sdes, Keying::None])
    );
    let seen = shown(&text, &[]);
    assert!(!seen.contains("a=rtcp:") && seen.contains("a=rtcp-mux"), "{seen}");
}

#[test]
fn linphone_with_feedback_xr_and_dtls_without_ice() {
    let text = offer(
        "s=Talk\r\n",
        &[
            "a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics",
            "a=record:off",
            "m=audio 7078 UDP/TLS/RTP/SAVPF 96 97 98 0 8 101",
            "a=rtpmap:96 opus/48000/2",
            "a=fmtp:96 useinbandfec=1",
            "a=rtpmap:97 speex/16000",
            "a=rtpmap:98 speex/8000",
            "a=rtpmap:101 telephone-event/48000",
            "a=setup:actpass",
            &format!("a=fingerprint:SHA-256 {HEX}"),
            "a=rtcp-fb:* trr-int 5000",
            "m=video 9078 UDP/TLS/RTP/SAVPF 96",
            "a=rtpmap:96 VP8/90000",
            "a=setup:actpass",
            &format!("a=fingerprint:SHA-256 {HEX}"),
            "a=rtcp-fb:96 nack pli",
            "a=rtcp-fb:96 ccm fir",
        ],
    );
    assert_eq!(
        need(&text),
        (0, "UDP/TLS/RTP/SAVPF".to_owned(), vec![Keying::DtlsSrtp])
    );
    let why = needs(&text).unwrap().webrtc.unwrap_err().what;
    assert!(why.contains("no ICE credentials"), "{why}");
    let seen = shown(&text, &[]);
    assert!(
        seen.contains("a=rtcp-xr:rcvr-rtt") && seen.contains("a=rtcp-fb:96 nack pli"),
        "{seen}"
    );
    assert_eq!(lines(&seen, "a=fingerprint:").len(), 2, "ours alone: {seen}");
}

#[test]
fn polycom_with_doubles_of_one_medium() {
    let audio = ["a=rtpmap:9 G722/8000", "a=rtpmap:127 telephone-event/8000"];
    let key = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 {KEY_128}");
    let text = offer(
        "s=Polycom IP Phone\r\n",
        &[
            "a=sendrecv",
            "m=audio 2248 RTP/SAVP 9 0 127",
            &key,
            audio[0],
            audio[1],
            "m=audio 2248 RTP/AVP 9 0 127",
            audio[0],
            audio[1],
        ],
    );
    assert_eq!(need(&text), (0, "RTP/SAVP".to_owned(), vec![Keying::Sdes]));
    shown(&text, &[1]);
    // Without a key that can be read the other one is taken.
    let other = text.replace("AES_CM_128_HMAC_SHA1_80", "F8_128_HMAC_SHA1_80");
    assert_eq!(need(&other).0, 1);
}

#[test]
fn a_fax_is_declined_by_the_book_and_beside_audio_the_audio_stays() {
    let t38 = [
        "m=image 41770 udptl t38",
        "a=T38FaxVersion:0",
        "a=T38FaxRateManagement:transferredTCF",
    ];
    let alone = offer("s=-\r\n", &t38);
    let told = needs(&alone).unwrap();
    assert!(
        told.classic
            .unwrap_err()
            .what
            .contains("m-line 0 (image udptl) is neither audio nor video")
    );
    assert!(told.webrtc.is_err() && !told.is_rejected);
    assert!(from_classic(&alone, &side()).is_err());
    let others = [
        "m=message 2855 TCP/MSRP *",
        "m=application 50000 UDP/BFCP *",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "m=text 11000 RTP/AVP 98",
    ];
    let mut all = vec!["m=audio 41000 RTP/AVP 0 8"];
    all.extend(t38);
    all.extend(others);
    let beside = offer("s=-\r\n", &all);
    assert_eq!(need(&beside).0, 0);
    let seen = shown(&beside, &[1, 2, 3, 4, 5]);
    for declined in [
        "m=image 0 udptl t38",
        "m=message 0 TCP/MSRP *",
        "m=application 0 UDP/BFCP *",
        "m=text 0 RTP/AVP 98",
    ] {
        assert!(seen.contains(&format!("{declined}\r\n")), "{declined}\n{seen}");
    }
    let local = LocalSession {
        origin: "- 1 1 IN IP4 192.0.2.9".to_owned(),
        connection: "IN IP4 192.0.2.9".to_owned(),
        media: vec![LocalMedia {
            medium: "audio".to_owned(),
            port: 4000,
            codecs: vec!["PCMA/8000".to_owned()],
            direction: Direction::SendRecv,
        }],
        transport: None,
        keys: Vec::new(),
    };
    let reply = answer(&beside, &local).unwrap();
    check_classic_answer(&beside, &reply).unwrap();
    assert!(reply.contains("m=image 0 udptl t38\r\n"), "{reply}");
}

#[test]
fn freeswitch_and_asterisk_plain_and_asterisk_with_rtcp_elsewhere() {
    let freeswitch = offer(
        "s=FreeSWITCH\r\n",
        &[
            "m=audio 16422 RTP/AVP 9 0 8 101 13",
            "a=rtpmap:9 G722/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=rtpmap:13 CN/8000",
            "a=ptime:20",
        ],
    );
    assert_eq!(need(&freeswitch), (0, "RTP/AVP".to_owned(), vec![Keying::None]));
    let asterisk = offer(
        "s=Asterisk\r\n",
        &[
            "m=audio 14990 RTP/SAVPF 0 101",
            &format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 {KEY_128}"),
            "a=rtpmap:101 telephone-event/8000",
            "a=maxptime:150",
            "a=rtcp:15001 IN IP4 192.0.2.7",
        ],
    );
    assert_eq!(need(&asterisk), (0, "RTP/SAVPF".to_owned(), vec![Keying::Sdes]));
    let ours = offer(
        "s=-\r\n",
        &[
            "m=audio 4000 RTP/SAVPF 0 101",
            "a=rtpmap:101 telephone-event/8000",
        ],
    );
    let audio = negotiated_audio_as(&ours, &asterisk, Answerer::Local).unwrap();
    assert_eq!(
        (audio.codec, audio.telephone_event),
        (Codec::Pcmu, Some((101, 8_000)))
    );
    shown(&asterisk, &[]);
}

#[test]
fn skype_for_business_with_candidates_of_an_old_draft_is_plain_or_sdes_by_its_m_line() {
    // Candidates of ICE draft 6: no "typ", the password in each; ICE credentials of draft 19 beside them.
    let text = offer(
        "s=session\r\nb=CT:99980\r\n",
        &[
            "a=x-devicecaps:audio:send,recv;video:send,recv",
            "m=audio 50010 RTP/SAVP 117 104 9 8 0 101",
            "a=x-ssrc-range:2817129472-2817129472",
            "a=candidate:iFfGkMSt2LnbLzQ 1 PYlJWnQiQkvaTUAOQ5OrBw UDP 0.830 192.0.2.1 50010",
            "a=candidate:1 1 UDP 2130706431 192.0.2.1 50010 typ host",
            "a=label:main-audio",
            &format!("a=cryptoscale:1 client AES_CM_128_HMAC_SHA1_80 {KEY_128}|2^31|1:1"),
            &format!("a=crypto:2 AES_CM_128_HMAC_SHA1_80 {KEY_128}|2^31|1:1"),
            "a=rtpmap:117 G722/8000/2",
            "a=rtpmap:104 SILK/16000",
            "a=rtpmap:101 telephone-event/8000",
            "a=ptime:20",
        ],
    );
    assert_eq!(need(&text), (0, "RTP/SAVP".to_owned(), vec![Keying::Sdes]));
    let seen = shown(&text, &[]);
    assert_eq!(
        lines(&seen, "a=candidate:"),
        ["1 1 udp 2130706431 192.0.2.10 6000 typ host"],
        "{seen}"
    );
}

#[test]
fn each_step_to_a_phone_says_its_rule_and_a_profile_chooses_them() {
    let browser = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=sendonly\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 0 9 110 126\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n\
        a=fingerprint:sha-256 AA\r\na=setup:actpass\r\na=extmap:1 urn:x\r\na=msid:s t\r\na=rtcp-mux\r\n\
        a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10\r\na=rtpmap:110 telephone-event/48000\r\n\
        a=rtpmap:126 telephone-event/8000\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=simulcast:send 1;2\r\na=rid:1 send\r\na=rtcp-mux\r\n";
    let cisco = siprtc_sdp_translator::PeerProfile::named("cisco").unwrap();
    let transport = |port| Some(ClassicTransport::plain(([192, 0, 2, 9], port).into()));
    let mut target = Target::of(&cisco, vec![transport(4_000), transport(4_002)]);
    (target.media, target.max_media) = (vec!["audio".to_owned(), "video".to_owned()], None);
    target.payload_types = vec![(126, 101)];
    target.codecs = Some(vec!["pcmu/8000".to_owned(), "G722/8000".to_owned()]);
    let classic = to_classic(browser, &target).unwrap();
    assert!(
        classic.sdp.contains("m=audio 4000 RTP/AVP 0 9 101\r\nc=IN IP4 192.0.2.9\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n"),
        "{}",
        classic.sdp
    );
    let mut rules: Vec<Rule> = classic.changes.iter().map(|change| change.rule).collect();
    rules.sort_by_key(|rule| rule.as_str());
    rules.dedup();
    let expected = [
        Rule::ClassicAddress,
        Rule::ClassicBundle,
        Rule::ClassicExtension,
        Rule::ClassicFormats,
        Rule::ClassicHold,
        Rule::ClassicIce,
        Rule::ClassicKeys,
        Rule::ClassicPayload,
        Rule::ClassicProfile,
        Rule::ClassicRtcp,
        Rule::ClassicSimulcast,
        Rule::ClassicStream,
    ];
    let missing: Vec<_> = expected.iter().filter(|rule| !rules.contains(rule)).collect();
    assert!(missing.is_empty(), "{missing:?}\n{}", classic.sdp);
    assert!(classic.changes.iter().all(|change| change.why.contains("RFC ")));
    // What the phone changes stays changed on the way back: hold, a codec less, video rejected.
    let changed = classic
        .sdp
        .replace("a=sendonly", "a=inactive")
        .replace("RTP/AVP 0 9 101", "RTP/AVP 0 101")
        .replace("m=video 4002", "m=video 0");
    let back = classic.undo.restore(&changed).unwrap().sdp;
    assert!(
        back.contains("m=audio 9 UDP/TLS/RTP/SAVPF 0 126\r\n") && back.contains("a=inactive\r\n"),
        "{back}"
    );
    assert!(
        back.contains("a=rtpmap:126 telephone-event/8000") && !back.contains("a=rtpmap:111"),
        "{back}"
    );
    assert!(back.contains("m=video 0 UDP/TLS/RTP/SAVPF 96\r\n"), "{back}");
}

#[test]
fn the_dtls_role_stays_over_offers_and_changes_only_when_the_offer_wants_it() {
    use Setup::{Active, Actpass, Passive};
    let rows = [
        (None, None, (Active, true)),
        (Some(Actpass), None, (Active, true)),
        (Some(Active), None, (Passive, true)),
        (Some(Passive), None, (Active, true)),
        (Some(Actpass), Some(Active), (Active, false)),
        (Some(Actpass), Some(Passive), (Passive, false)),
        (None, Some(Passive), (Passive, false)),
        (Some(Active), Some(Passive), (Passive, false)),
        (Some(Passive), Some(Active), (Active, false)),
        (Some(Active), Some(Active), (Passive, true)),
        (Some(Passive), Some(Passive), (Active, true)),
    ];
    for (offered, established, expected) in rows {
        assert_eq!(
            Setup::answering(offered, established),
            expected,
            "{offered:?} {established:?}"
        );
    }
}
