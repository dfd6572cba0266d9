//! Profiles of peers, as they are shipped and as users write them.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails the test by panicking"
)]

use siprtc_core::Fault;
use siprtc_sdp_translator::{Check, MAX_PROFILE, PeerProfile, Severity, Support, lint};
use std::path::{Path, PathBuf};

/// A folder of one test, gone after it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("siprtc-profiles-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_shipped_profile_is_read_and_names_its_sources() {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/peers")).unwrap();
    let mut files: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut shipped: Vec<String> = PeerProfile::names().map(|name| format!("{name}.toml")).collect();
    shipped.sort();
    assert_eq!(files, shipped, "each file is shipped");
    for name in PeerProfile::names() {
        let profile = PeerProfile::named(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(profile.name, name);
        assert!(profile.sources().len() >= 3, "{name}");
        for (key, source) in profile.sources() {
            assert!(
                source.split_whitespace().count() >= 3 && source.ends_with('.'),
                "{name} {key}: {source}"
            );
            assert!(
                !source.contains(".md") && !source.contains("/work"),
                "{name} {key}: {source}"
            );
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_keys_that_there_are() {
    let error = PeerProfile::parse("name = 'x'\nabout = 'y'\n\n[rtcp-mux]\nis = 'required'\nsource = 'z'\n")
        .unwrap_err();
    assert_eq!(error.fault(), Fault::ConfigInvalid);
    let text = error.to_string();
    assert!(
        text.contains("line 4") && text.contains("unknown field `rtcp-mux`"),
        "{text}"
    );
    assert!(text.contains("`rtcp_mux`"), "{text}");
}

#[test]
fn unknown_words_missing_sources_and_half_codecs_are_refused() {
    for (fact, told) in [
        ("[ice]\nis = 'some'\nsource = 'z'", "unknown variant `some`"),
        ("[ice]\nis = 'full'", "missing field `source`"),
        ("[ice]\nis = 'full'\nsource = ' '", "ice has no source"),
        (
            "[ice]\nis = 'full'\nsource = 'z'\nsince = 3",
            "unknown field `since`",
        ),
        ("[codecs]\nis = ['PCMU']\nsource = 'z'", "codecs has \"PCMU\""),
        ("[max_media]\nis = -1\nsource = 'z'", "invalid value"),
    ] {
        let error = PeerProfile::parse(&format!("name = 'x'\nabout = 'y'\n{fact}\n")).unwrap_err();
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert!(error.next_step().is_some(), "{error}");
    }
    let error = PeerProfile::parse(&"#".repeat(MAX_PROFILE + 1)).unwrap_err();
    assert!(error.to_string().contains("more than 65536"), "{error}");
}

#[test]
fn a_users_own_profile_is_found_by_path_and_by_name_and_goes_before_a_shipped_one() {
    let folder = Folder::new("own");
    let own = "name = 'chrome'\nabout = 'ours'\n[rtcp_mux]\nis = 'unknown'\nsource = 'We tried it.'\n";
    let path = folder.write("chrome.toml", own);
    let by_path = PeerProfile::find(path.to_str().unwrap(), None).unwrap();
    let by_name = PeerProfile::find("chrome", Some(&folder.0)).unwrap();
    assert_eq!(by_path, by_name);
    assert_eq!(by_name.rtcp_mux.unwrap().is, Support::Unknown);
    let shipped = PeerProfile::find("firefox", Some(&folder.0)).unwrap();
    assert_eq!(shipped, PeerProfile::named("firefox").unwrap());
}

#[test]
fn what_is_not_there_is_said_with_what_there_is() {
    let error = PeerProfile::find("../chrome", Some(Path::new(".")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no profile is named") && error.contains("asterisk, asterisk-webrtc"),
        "{error}"
    );
    let error = PeerProfile::find("nowhere/none.toml", None).unwrap_err();
    assert_eq!(error.fault(), Fault::ConfigInvalid);
    assert!(error.to_string().contains("nowhere/none.toml"), "{error}");
    let folder = Folder::new("bad");
    let error = PeerProfile::read(&folder.write("bad.toml", "name = 1"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("bad.toml") && error.contains("line 1"), "{error}");
}

/// What a peer would refuse of one m-line of audio.
fn refused(peer: &str, media: &str) -> Vec<Check> {
    let text = format!("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n{media}")
        .replace('\n', "\r\n");
    let profile = PeerProfile::named(peer).unwrap();
    let found = lint(&text, Some(&profile)).into_iter();
    found
        .filter(|finding| finding.severity == Severity::Refuses)
        .map(|finding| finding.check)
        .collect()
}

const PLAIN: &str = "m=audio 5000 RTP/AVP 0\n";
const SDES: &str = "m=audio 5000 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\n";
const BROWSER: &str = "m=audio 5000 UDP/TLS/RTP/SAVPF 0\na=setup:actpass\na=rtcp-mux\na=ice-ufrag:them\na=ice-pwd:passwordpasswordpassword\n\
    a=fingerprint:sha-256 6B:8B:5D:EA:59:04:20:23:29:C8:87:1C:CC:87:32:BE:DD:8C:66:A5:8E:50:55:EA:8C:D3:B6:5C:09:5E:D6:BC\n";

#[test]
fn each_of_plain_sdes_and_dtls_is_refused_by_who_does_not_take_it() {
    // Which of the three are taken.
    for (peer, taken) in [
        ("asterisk", [true, false, false]),
        ("asterisk-webrtc", [false, false, true]),
        ("chrome", [false, false, true]),
        ("janus", [true, true, false]),
        ("livekit", [true, true, false]),
        ("opensips", [true, true, true]),
        ("safari", [false, false, true]),
        ("teams", [false, true, false]),
        ("twilio", [true, false, false]),
        ("twilio-secure", [false, true, false]),
    ] {
        for (media, is_taken) in [PLAIN, SDES, BROWSER].into_iter().zip(taken) {
            let checks = refused(peer, media);
            assert_eq!(checks.is_empty(), is_taken, "{peer}: {checks:?}\n{media}");
        }
    }
}

/// res_pjsip_sdp_rtp.c compares the last letter of the profile with use_avpf.
#[test]
fn asterisk_with_webrtc_declines_a_profile_without_feedback() {
    let plain = BROWSER.replace("SAVPF", "SAVP");
    assert_eq!(refused("asterisk-webrtc", &plain), [Check::PeerProfile]);
}

#[test]
fn comfort_noise_and_events_are_no_codec_in_common() {
    let media = "m=audio 5000 RTP/AVP 13 18 101\na=rtpmap:101 telephone-event/8000\n";
    assert_eq!(refused("freeswitch", media), [Check::PeerCodec]);
    assert_eq!(refused("freeswitch", &media.replace("18", "8")), []);
}

/// Microsoft's own example of an offer to Teams has both.
#[test]
fn teams_takes_sdes_beside_dtls() {
    let crypto = SDES.lines().nth(1).unwrap();
    let both = format!("{}{crypto}\n", BROWSER.replace("SAVPF", "SAVP"));
    assert_eq!(refused("teams", &both), []);
}
