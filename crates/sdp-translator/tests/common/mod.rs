//! The corpus, read from beside the workspace.
#![allow(
    dead_code,
    unreachable_pub,
    unused_macros,
    reason = "each test binary uses its own part"
)]

use std::path::{Path, PathBuf};

/// One description of the corpus.
pub struct Sample {
    pub name: String,
    pub text: String,
    /// The corpus's own grade; bodies of SIP messages carry their message's.
    pub grade: String,
}

/// Every SDP file, and every SDP body of the SIP messages.
pub fn samples() -> Vec<Sample> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus"));
    let index = std::fs::read_to_string(root.join("INDEX.tsv"))
        .unwrap_or_else(|error| panic!("the corpus must lie at {}: {error}", root.display()));
    let mut samples = Vec::new();
    for line in index.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (Some(name), Some(grade)) = (fields.first(), fields.last()) else {
            continue;
        };
        let path: PathBuf = root.join(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Some(text) = sdp_of(name, &bytes) {
            samples.push(Sample {
                name: (*name).to_owned(),
                text,
                grade: (*grade).to_owned(),
            });
        }
    }
    assert!(
        samples.len() > 280,
        "only {} descriptions in the corpus",
        samples.len()
    );
    samples
}

fn sdp_of(name: &str, bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if name.ends_with(".sdp") {
        return Some(text);
    }
    let body = text.split_once("\r\n\r\n").or_else(|| text.split_once("\n\n"))?.1;
    body.starts_with("v=").then(|| body.to_owned())
}

/// The description of one file.
pub fn sample(name: &str) -> String {
    samples()
        .into_iter()
        .find(|sample| sample.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
        .text
}

/// The values of every line that begins with `prefix`.
pub fn lines<'a>(sdp: &'a str, prefix: &str) -> Vec<&'a str> {
    sdp.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// What a browser behind a SIP client sends, as short as it may be, with the hexadecimal octets of its fingerprint.
macro_rules! web {
    ($hex:literal) => {
        concat!(
            "v=0\r\n\
o=- 1 1 IN IP4 192.0.2.1\r\n\
s=-\r\n\
t=0 0\r\n\
a=group:BUNDLE 0\r\n\
m=audio 40000 UDP/TLS/RTP/SAVPF 0 101\r\n\
c=IN IP4 192.0.2.1\r\n\
a=mid:0\r\n\
a=sendrecv\r\n\
a=setup:actpass\r\n\
a=fingerprint:sha-256 ",
            $hex,
            "\r\n\
a=ice-ufrag:user\r\n\
a=ice-pwd:passwordpasswordpassword\r\n\
a=rtcp-mux\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\r\n"
        )
    };
}
#[allow(unused_imports, reason = "each test binary uses its own part")]
pub(crate) use web;
