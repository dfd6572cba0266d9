//! What two descriptions agree on.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

mod common;

use common::sample;
use siprtc_core::Fault;
use siprtc_core::media::{Codec, Direction, NegotiatedAudio};
use siprtc_sdp_translator::negotiated_audio;

fn sdp(formats: &str, attributes: &[&str]) -> String {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    let lines: String = attributes
        .iter()
        .map(|attribute| format!("a={attribute}\r\n"))
        .collect();
    format!("{head}m=audio 4000 UDP/TLS/RTP/SAVPF {formats}\r\n{lines}")
}

#[track_caller]
fn agreed(local: &str, remote: &str) -> NegotiatedAudio {
    negotiated_audio(local, remote).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_answers_first_common_codec_wins_whoever_offered() {
    let opus = "rtpmap:111 opus/48000/2";
    let offer = |formats| sdp(formats, &[opus, "setup:actpass"]);
    let answer = |formats| sdp(formats, &[opus, "setup:active"]);
    assert_eq!(agreed(&offer("111 0 8"), &answer("8 0 111")).codec, Codec::Pcma);
    assert_eq!(agreed(&answer("8 0 111"), &offer("111 0 8")).codec, Codec::Pcma);
}

#[test]
fn the_peers_parameters_of_opus_are_those_of_the_number_that_it_receives_it_under() {
    let opus = [
        "rtpmap:111 opus/48000/2",
        "fmtp:111 useinbandfec=1",
        "setup:actpass",
    ];
    let theirs = [
        "rtpmap:96 opus/48000/2",
        "rtpmap:97 telephone-event/8000",
        "fmtp:97 0-15",
        "fmtp:96 maxaveragebitrate=16000; usedtx=1",
        "setup:active",
    ];
    let parameters = agreed(&sdp("111", &opus), &sdp("97 96", &theirs)).parameters;
    assert_eq!(parameters.max_average_bitrate, Some(16_000));
    assert!(parameters.dtx && !parameters.inband_fec);
}

#[test]
fn payload_types_are_those_that_the_peer_wants_to_receive() {
    let ours = sdp(
        "111 0 101",
        &[
            "rtpmap:111 opus/48000/2",
            "rtpmap:101 telephone-event/8000",
            "setup:actpass",
        ],
    );
    let theirs = sdp(
        "96 97",
        &[
            "rtpmap:96 OPUS/48000/2",
            "rtpmap:97 telephone-event/8000",
            "setup:active",
        ],
    );
    let audio = agreed(&ours, &theirs);
    assert_eq!(
        (audio.codec, audio.payload_type, audio.telephone_event),
        (Codec::Opus, 96, Some((97, 8_000)))
    );
}

#[test]
fn telephone_events_run_on_the_codecs_clock_when_both_have_it() {
    let events = [
        "rtpmap:100 telephone-event/8000",
        "rtpmap:101 telephone-event/48000",
        "rtpmap:111 opus/48000/2",
    ];
    let both = sdp("111 0 100 101", &events);
    assert_eq!(agreed(&both, &both).telephone_event, Some((101, 48_000)));
    assert_eq!(
        agreed(&both, &sdp("111 100", &events)).telephone_event,
        Some((100, 8_000))
    );
    assert_eq!(
        agreed(&both, &sdp("0 100 101", &events)).telephone_event,
        Some((100, 8_000))
    );
}

#[test]
fn where_the_peer_asks_for_no_packet_time_ours_holds() {
    let ours = |line: &str| sdp("0", &["setup:actpass", line]);
    let theirs = |line: &str, other: &str| sdp("0", &["setup:active", line, other]);
    for (local, remote, most, ptime) in [
        ("x", "x", "x", 20),
        ("x", "ptime:30", "x", 30),
        ("ptime:40", "x", "x", 40),
        ("ptime:40", "ptime:10", "x", 10),
        ("ptime:40", "x", "maxptime:20", 20),
        ("x", "ptime:60", "maxptime:0", 60),
        ("x", "ptime:20.0", "x", 20),
        ("x", "ptime:99999999999999", "x", 20),
        ("x", "ptime:1", "maxptime:3", 10),
    ] {
        let agreed = agreed(&ours(local), &theirs(remote, most));
        assert_eq!(agreed.ptime, ptime, "{local} {remote} {most}");
    }
}

#[test]
fn comfort_noise_is_agreed_on_when_both_name_it_and_it_has_the_codecs_clock() {
    let noise = |local: &str, remote: &str| agreed(local, remote).parameters.comfort_noise;
    let lines = ["rtpmap:111 opus/48000/2", "rtpmap:13 CN/8000", "setup:actpass"];
    let both = sdp("0 111 13", &lines);
    let theirs = |formats, number: &str| sdp(formats, &[number, "rtpmap:111 opus/48000/2", "setup:active"]);
    assert_eq!(
        noise(&both, &theirs("0 98", "rtpmap:98 cn/8000")),
        Some((98, 8_000))
    );
    // 13 is static (RFC 3551 table 4).
    assert_eq!(noise(&both, &theirs("0 13", "ptime:20")), Some((13, 8_000)));
    assert_eq!(noise(&both, &theirs("0", "ptime:20")), None);
    assert_eq!(noise(&both, &theirs("111 13", "ptime:20")), None);
    assert_eq!(
        noise(&sdp("0", &["setup:actpass"]), &theirs("0 13", "ptime:20")),
        None
    );
}

#[test]
fn telephone_events_that_we_did_not_name_are_not_used() {
    let offer = sample("sdp/rtpe-gh1499-te-unoffered.offer.sdp");
    let answer = sample("sdp/rtpe-gh1499-te-unoffered.answer.sdp");
    assert_eq!(agreed(&offer, &answer).telephone_event, None);
}

#[test]
fn the_direction_is_ours_narrowed_by_the_peers() {
    for (ours, theirs, expected) in [
        ("sendrecv", "sendrecv", Direction::SendRecv),
        ("sendrecv", "sendonly", Direction::RecvOnly),
        ("sendonly", "sendrecv", Direction::SendOnly),
        ("recvonly", "recvonly", Direction::Inactive),
        ("sendrecv", "inactive", Direction::Inactive),
    ] {
        assert_eq!(
            agreed(&sdp("0", &[ours]), &sdp("0", &[theirs])).direction,
            expected,
            "{ours} {theirs}"
        );
    }
    assert_eq!(
        agreed(&sdp("0", &[]), &sdp("0", &[])).direction,
        Direction::SendRecv
    );
}

#[test]
fn the_zero_address_is_hold_only_without_ice() {
    let hold = sdp("0", &[]).replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0");
    assert_eq!(agreed(&sdp("0", &[]), &hold).direction, Direction::RecvOnly);
    let webrtc = format!("{hold}a=ice-ufrag:u\r\n");
    assert_eq!(agreed(&sdp("0", &[]), &webrtc).direction, Direction::SendRecv);
}

#[test]
fn the_packet_time_is_the_peers_within_reason() {
    for (attributes, expected) in [
        (&[][..], 20),
        (&["ptime:30"], 30),
        (&["ptime:40", "maxptime:20"], 20),
        (&["ptime:0"], 20),
        (&["ptime:99999"], 120),
        (&["ptime:never"], 20),
    ] {
        assert_eq!(
            agreed(&sdp("0", &[]), &sdp("0", attributes)).ptime,
            expected,
            "{attributes:?}"
        );
    }
}

#[test]
fn nothing_in_common_lists_both_sides_codecs() {
    let error = negotiated_audio(&sdp("0 8", &[]), &sdp("18 3", &[])).unwrap_err();
    assert_eq!(error.fault(), Fault::PeerIncompatible);
    let text = error.to_string();
    assert!(
        text.contains("we have PCMU/8000 PCMA/8000, the peer has G729/8000 GSM/8000"),
        "{text}"
    );
    let rejected = sdp("0", &[]).replace("audio 4000", "audio 0");
    assert_eq!(
        negotiated_audio(&sdp("0", &[]), &rejected).unwrap_err().fault(),
        Fault::PeerIncompatible
    );
}

#[test]
fn recorded_exchanges_agree_as_they_did() {
    for (pair, codec) in [
        ("rtpe-gh850-chrome-chrome", Codec::Opus),
        ("cap-ipip-trunk-1", Codec::Pcmu),
    ] {
        let offer = sample(&format!("sdp/{pair}.offer.sdp"));
        let answer = sample(&format!("sdp/{pair}.answer.sdp"));
        assert_eq!(agreed(&offer, &answer).codec, codec, "{pair}");
        assert_eq!(agreed(&answer, &offer).codec, codec, "{pair}");
    }
}
