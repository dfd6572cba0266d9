//! What the lines of an answer without an engine say: feedback, the tagged m-line, repair formats, addresses.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::lines;
use siprtc_core::media::{Codec, VideoCodec};
use siprtc_rtp::{format, sdp, video};
use siprtc_sdp_translator::{
    LocalMedia, LocalSession, LocalTransport, Severity, answer, lint_answer, negotiated_video,
};

const HASH: &str =
    "sha-256 6B:8B:5D:EA:59:04:20:23:29:C8:87:1C:CC:87:32:BE:DD:8C:66:A5:8E:50:55:EA:8C:D3:B6:5C:09:5E:D6:BC";

fn bob(audio: &[&str], video: &[&str]) -> LocalSession {
    let medium = |medium: &str, port, codecs: &[&str]| LocalMedia {
        medium: medium.to_owned(),
        port,
        codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect(),
        direction: Default::default(),
    };
    LocalSession {
        origin: "- 1 1 IN IP4 192.0.2.2".to_owned(),
        connection: "IN IP4 192.0.2.2".to_owned(),
        media: vec![medium("audio", 40_000, audio), medium("video", 40_002, video)],
        transport: Some(LocalTransport {
            fingerprint: HASH.to_owned(),
            ice_ufrag: "ours".to_owned(),
            ice_pwd: "passwordpasswordpassword".to_owned(),
            candidates: vec!["1 1 udp 2130706431 192.0.2.2 40000 typ host".to_owned()],
        }),
        keys: Vec::new(),
    }
}

fn offer(session: &str, media: &str) -> String {
    let text = format!("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n{session}{media}");
    text.replace('\n', "\r\n")
}

/// The part of an answer that belongs to an m-line.
fn section(sdp: &str, at: usize) -> String {
    sdp.split("m=").nth(at + 1).unwrap().to_owned()
}

fn is_accepted(offer: &str, answer: &str) {
    let found = lint_answer(offer, answer, None);
    let bad: Vec<_> = (found.iter())
        .filter(|finding| finding.severity > Severity::Note)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}\n{answer}");
}

const VIDEO: &str = "m=video 5002 RTP/AVPF 96 97 102\na=rtpmap:96 VP8/90000\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n\
    a=rtpmap:102 H264/90000\na=fmtp:102 profile-level-id=42e01f;packetization-mode=1\n\
    a=rtcp-fb:* nack pli\na=rtcp-fb:96 goog-remb\na=rtcp-fb:96 transport-cc\na=rtcp-fb:96 ccm fir\na=rtcp-fb:96 nack\n\
    a=rtcp-fb:102 nack sli\na=rtcp-fb:97 nack\n";
const NUMBERED: &str =
    "a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\n";

#[test]
fn feedback_is_answered_as_the_engines_of_a_call_do_and_only_what_is_offered() {
    let theirs = offer("", VIDEO);
    let ours = bob(&["PCMU/8000"], &["VP8/90000", "H264/90000"]);
    let made = answer(&theirs, &ours).unwrap();
    let told = lines(&made, "a=rtcp-fb:");
    assert_eq!(
        told,
        [
            "96 goog-remb",
            "96 ccm fir",
            "96 nack",
            "96 nack pli",
            "102 nack pli"
        ]
    );
    let section = video::VideoSection::read(&theirs).unwrap();
    let engine = video::common(
        &video::formats(&[VideoCodec::Vp8, VideoCodec::H264]),
        &section.formats,
    );
    let engine = video::lines(&engine);
    assert_eq!(lines(&engine, "a=rtcp-fb:"), told);
    assert!(
        negotiated_video(&theirs, &made, None)
            .unwrap()
            .unwrap()
            .feedback
            .remb
    );
    is_accepted(&theirs, &made);
    // When packets came can be told where they carry a number for it.
    let theirs = offer("", &format!("{VIDEO}{NUMBERED}"));
    let made = answer(&theirs, &ours).unwrap();
    let engine = video::common(
        &video::formats(&[VideoCodec::Vp8, VideoCodec::H264]),
        &video::VideoSection::read(&theirs).unwrap().formats,
    );
    let engine = video::lines(&engine);
    assert!(made.contains("a=rtcp-fb:96 transport-cc\r\n"), "{made}");
    for what in ["a=rtcp-fb:", "a=extmap:"] {
        assert_eq!(lines(&made, what), lines(&engine, what));
    }
    is_accepted(&theirs, &made);
}

#[test]
fn no_feedback_is_answered_in_a_profile_without_or_of_audio() {
    let plain = offer("", &VIDEO.replace("RTP/AVPF", "RTP/AVP"));
    let ours = bob(&["opus/48000/2"], &["VP8/90000"]);
    assert!(!answer(&plain, &ours).unwrap().contains("rtcp-fb"));
    let audio = "m=audio 5000 RTP/AVPF 111\na=rtpmap:111 opus/48000/2\na=rtcp-fb:111 transport-cc\na=rtcp-fb:111 nack\n";
    assert!(!answer(&offer("", audio), &ours).unwrap().contains("rtcp-fb"));
}

#[test]
fn our_own_parameters_are_those_of_a_call() {
    let audio = "m=audio 5000 RTP/AVP 96 0 97\na=rtpmap:96 opus/48000/2\na=fmtp:96 stereo=1;maxaveragebitrate=20000\n\
        a=rtpmap:97 telephone-event/48000\na=fmtp:97 0-15,66\n";
    let theirs = offer("", audio);
    let ours = bob(
        &[
            "opus/48000/2 minptime=10;useinbandfec=1",
            "PCMU/8000",
            "telephone-event/48000 0-16",
        ],
        &[],
    );
    let made = answer(&theirs, &ours).unwrap();
    let engine = format::common(
        &format::formats(&[Codec::Opus, Codec::Pcmu]),
        &sdp::formats(&theirs),
    )
    .unwrap();
    let engine: String = engine.iter().map(format::Format::lines).collect();
    assert_eq!(lines(&made, "a=rtpmap:"), lines(&engine, "a=rtpmap:"));
    assert_eq!(lines(&made, "a=fmtp:"), lines(&engine, "a=fmtp:"));
}

/// RFC 7261 section 3: who is offered G.729 without Annex B answers without; nothing said means with it.
#[test]
fn g729_without_annex_b_stays_so() {
    let theirs = offer("", "m=audio 5000 RTP/AVP 18\na=fmtp:18 annexb=no\n");
    let made = answer(&theirs, &bob(&["G729/8000"], &[])).unwrap();
    assert_eq!(lines(&made, "a=fmtp:"), ["18 annexb=no"]);
}

#[test]
fn repair_formats_are_answered_with_what_they_carry_or_not_at_all() {
    let theirs = offer("", VIDEO);
    let made = answer(&theirs, &bob(&[], &["VP8/90000", "rtx/90000"])).unwrap();
    assert_eq!(lines(&made, "a=fmtp:"), ["97 apt=96"]);
    assert!(
        !lines(&made, "a=rtcp-fb:")
            .iter()
            .any(|told| told.starts_with("97 ")),
        "{made}"
    );
    let made = answer(&theirs, &bob(&[], &["H264/90000", "rtx/90000"])).unwrap();
    assert_eq!(lines(&made, "m=video "), ["40002 RTP/AVPF 102"]);
    assert!(answer(&theirs, &bob(&[], &["VP9/90000", "rtx/90000"])).is_err());

    let red = "m=audio 5000 RTP/AVP 63 111\na=rtpmap:63 red/48000/2\na=fmtp:63 111/111\na=rtpmap:111 opus/48000/2\n";
    let theirs = offer("", red);
    let made = answer(&theirs, &bob(&["opus/48000/2", "red/48000/2"], &[])).unwrap();
    assert_eq!(lines(&made, "a=fmtp:"), ["63 111/111"]);
    let theirs = offer("", &red.replace("111/111", "111/5"));
    let made = answer(&theirs, &bob(&["opus/48000/2", "red/48000/2"], &[])).unwrap();
    assert_eq!(lines(&made, "m=audio "), ["40000 RTP/AVP 111"]);
}

const SECURE: &str = "a=setup:actpass\na=ice-ufrag:them\na=ice-pwd:passwordpasswordpassword\n";

fn browsers(group: &str, video_first: bool, mux: &str) -> String {
    let audio = format!("m=audio 9 UDP/TLS/RTP/SAVPF 0\na=mid:a\n{mux}");
    let video = format!("m=video 9 UDP/TLS/RTP/SAVPF 96\na=rtpmap:96 VP8/90000\na=mid:v\n{mux}");
    let media = if video_first {
        video + &audio
    } else {
        audio + &video
    };
    offer(
        &format!("a=group:BUNDLE {group}\na=fingerprint:{HASH}\n{SECURE}"),
        &media,
    )
}

/// RFC 9143 sections 7.1.3 and 7.3.1; RTCP is multiplexed in each, for browsers refuse a group otherwise.
#[test]
fn the_offers_tagged_m_line_speaks_for_the_transport_of_the_answer() {
    for (group, video_first, tagged) in [
        ("a v", false, 0),
        ("v a", false, 1),
        ("v a", true, 0),
        ("x a v", true, 1),
    ] {
        let theirs = browsers(group, video_first, "a=rtcp-mux\n");
        let made = answer(&theirs, &bob(&["PCMU/8000"], &["VP8/90000"])).unwrap();
        let order = group.strip_prefix("x ").unwrap_or(group);
        assert_eq!(lines(&made, "a=group:BUNDLE "), [order]);
        for at in [0, 1] {
            let part = section(&made, at);
            for name in [
                "a=fingerprint:",
                "a=setup:",
                "a=ice-ufrag:",
                "a=ice-pwd:",
                "a=candidate:",
            ] {
                assert_eq!(part.contains(name), at == tagged, "{name} in m-line {at}\n{made}");
            }
            assert!(part.contains("a=rtcp-mux\r\n"), "{made}");
        }
    }
}

#[test]
fn the_m_lines_port_is_a_candidates_also_when_video_comes_first() {
    let theirs = browsers("v a", true, "a=rtcp-mux\n");
    let made = answer(&theirs, &bob(&["PCMU/8000"], &["VP8/90000"])).unwrap();
    assert!(
        made.contains("m=video 40000 ") && made.contains("m=audio 40000 "),
        "{made}"
    );
    is_accepted(&theirs, &made);
}

#[test]
fn who_does_not_multiplex_is_answered_outside_the_group() {
    let theirs = browsers("a v", false, "");
    let made = answer(&theirs, &bob(&["PCMU/8000"], &[])).unwrap();
    assert!(!made.contains("a=group:") && !made.contains("rtcp-mux"), "{made}");
    is_accepted(&theirs, &made);
}

#[test]
fn rtcp_shares_the_port_of_plain_rtp_where_that_is_offered() {
    let audio = "m=audio 5000 RTP/AVP 0\n";
    for (offered, answered) in [("", false), ("a=rtcp-mux\n", true)] {
        let made = answer(
            &offer("", &format!("{audio}{offered}")),
            &bob(&["PCMU/8000"], &[]),
        )
        .unwrap();
        assert_eq!(made.contains("a=rtcp-mux"), answered, "{made}");
    }
}

/// RFC 3264 section 6.2: whoever accepts a multicast stream answers with its address; no call of ours joins a group.
#[test]
fn a_multicast_stream_is_rejected_and_the_call_beside_it_answered() {
    let media = "m=audio 5000 RTP/AVP 0\nc=IN IP4 233.252.0.1/127/3\nm=audio 5002 RTP/AVP 0\nm=audio 5004 RTP/AVP 0\nc=IN IP6 ff15::101/3\n";
    let made = answer(&offer("", media), &bob(&["PCMU/8000"], &[])).unwrap();
    assert_eq!(
        lines(&made, "m=audio "),
        ["0 RTP/AVP 0", "40000 RTP/AVP 0", "0 RTP/AVP 0"]
    );
    let alone = offer("", "m=audio 5000 RTP/AVP 0\nc=IN IP4 233.252.0.1/127\n");
    let error = answer(&alone, &bob(&["PCMU/8000"], &[])).unwrap_err().to_string();
    assert!(error.contains("multicast") && error.contains("488"), "{error}");
}

#[test]
fn times_are_the_offers_unless_they_are_none() {
    let audio = "m=audio 5000 RTP/AVP 0\n";
    for (theirs, ours) in [
        ("t=0 foobar", "t=0 0"),
        ("t=2873397496 2873404696", "t=2873397496 2873404696"),
    ] {
        let theirs = offer("", audio).replace("t=0 0", theirs);
        let made = answer(&theirs, &bob(&["PCMU/8000"], &[])).unwrap();
        assert_eq!(format!("t={}", lines(&made, "t=")[0]), ours);
        is_accepted(&theirs, &made);
    }
}

#[test]
fn each_m_line_with_keys_in_the_sdp_has_a_key_of_its_own() {
    let crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\n";
    let media = format!("m=audio 5000 RTP/SAVP 0\n{crypto}m=video 5002 RTP/SAVP 34\n{crypto}");
    let key = |key: &str| format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}").parse().unwrap();
    let mut ours = bob(&["PCMU/8000"], &["H263/90000"]);
    ours.keys = vec![
        key("WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"),
        key("WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5yxQ"),
    ];
    let made = answer(&offer("", &media), &ours).unwrap();
    let keys = lines(&made, "a=crypto:");
    assert!(keys.len() == 2 && keys[0] != keys[1], "{made}");
}

/// RFC 7587 section 7 wants "/2"; a call takes Opus without it.
#[test]
fn opus_without_its_channels_is_opus() {
    let theirs = offer(
        "",
        "m=audio 5000 RTP/AVP 96 97\na=rtpmap:96 opus/48000\na=rtpmap:97 L16/16000/2\n",
    );
    let made = answer(&theirs, &bob(&["opus/48000/2", "L16/16000"], &[])).unwrap();
    assert_eq!(lines(&made, "a=rtpmap:"), ["96 opus/48000"]);
}
