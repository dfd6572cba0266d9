//! How long a translation takes: the median and the 99th percentile of each function over a browser's audio and video offer,
//! and of the slowest input within the bounds.
//!
//! `cargo run --release -p siprtc-sdp-translator --example speed`, and for a profiler `speed to_webrtc 200`: one of them, 200 times.

use siprtc_sdp_translator::{
    ClassicTransport, MAX_LINES, MAX_SDP, Target, check_classic_offer, from_classic, lint, needs,
    negotiated_audio, to_classic, to_sip, to_webrtc,
};
use siprtc_sdp_translator::{LocalTransport, WebrtcSide};
use std::hint::black_box;
use std::time::Duration;

/// What Chrome offers for a call with audio and video, in its size: 19 formats of video with their feedback.
const BROWSER: &str = include_str!("browser.sdp");

/// The slowest that the bounds allow, of some kinds.
fn largest() -> Vec<(&'static str, String)> {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AB\r\na=ice-ufrag:user\r\na=ice-pwd:pw\r\n";
    let media = "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 192.0.2.1\r\na=mid:0\r\n";
    let fill = |line: &str, most: usize| {
        let room = (MAX_SDP - head.len() - media.len()) / line.len();
        format!("{head}{media}{}", line.repeat(room.min(most)))
    };
    let lines = MAX_LINES - 20;
    let mut all = vec![
        (
            "candidates",
            fill("a=candidate:1 1 udp 1 192.0.2.1 40000 typ host\r\n", lines),
        ),
        (
            "crypto",
            fill(
                "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5yxQ\r\n",
                lines,
            ),
        ),
        ("fingerprints", fill("a=fingerprint:SHA-256 AB\r\n", lines)),
        ("mids", fill("a=mid:1\r\n", lines)),
        ("maps", fill("a=rtpmap:96 opus/48000/2\r\n", lines)),
    ];
    let formats: Vec<String> = (0..14_000).map(|format| (format % 10_000).to_string()).collect();
    let line = format!("m=audio 4000 UDP/TLS/RTP/SAVPF {}\r\n", formats.join(" "));
    let half = line.len().min(MAX_SDP - head.len() - 40_000);
    all.push((
        "formats",
        format!(
            "{head}{}\r\n{}",
            line.get(..half).unwrap_or_default(),
            "a=rtpmap:9 G722/8000\r\n".repeat(1_500)
        ),
    ));
    let many: String = (0..32)
        .map(|mid| {
            format!(
                "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n{}",
                "a=rtpmap:0 PCMU/8000\r\n".repeat(55)
            )
        })
        .collect();
    let mids: Vec<String> = (0..4_000).map(|mid| (mid % 32).to_string()).collect();
    all.push((
        "groups",
        format!("{head}a=group:BUNDLE {}\r\n{many}", mids.join(" ")),
    ));
    all
}

fn time(name: &str, times: usize, run: impl Fn()) {
    let mut took: Vec<Duration> = (0..times)
        .map(|_| {
            #[allow(clippy::disallowed_methods, reason = "a clock is what this measures with")]
            let start = std::time::Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    let micros = |at: usize| took.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e6);
    println!(
        "{name:<34} median {:>9.1} us   p99 {:>9.1} us",
        micros(times / 2),
        micros(times * 99 / 100)
    );
}

/// One translation.
type Run<'r> = Box<dyn Fn() + 'r>;

fn main() {
    let offer = BROWSER;
    let sip = to_sip(offer).map(|told| told.sdp).unwrap_or_default();
    let transports = |count: u16| {
        let own = |at: u16| Some(ClassicTransport::plain(([192, 0, 2, 9], 4_000 + 2 * at).into()));
        Target::plain((0..count).map(own).collect())
    };
    let target = transports(2);
    let classic = to_classic(offer, &target);
    let side = WebrtcSide {
        transport: LocalTransport {
            fingerprint: format!("sha-256 {}", ["AB"; 32].join(":")),
            ice_ufrag: "user".to_owned(),
            ice_pwd: "passwordpasswordpassword".to_owned(),
            candidates: vec!["1 1 udp 2130706431 192.0.2.10 6000 typ host".to_owned()],
        },
        established: None,
        payload_types: Vec::new(),
    };
    let mut all: Vec<(&str, Run<'_>)> = vec![
        ("to_sip", Box::new(|| drop(black_box(to_sip(offer))))),
        ("to_webrtc", Box::new(|| drop(black_box(to_webrtc(&sip))))),
        ("needs", Box::new(|| drop(black_box(needs(offer))))),
        (
            "negotiated_audio",
            Box::new(|| drop(black_box(negotiated_audio(offer, &sip)))),
        ),
        (
            "to_classic",
            Box::new(|| drop(black_box(to_classic(offer, &target)))),
        ),
    ];
    if let Ok(classic) = &classic {
        all.push((
            "Undo::restore",
            Box::new(|| drop(black_box(classic.undo.restore(&classic.sdp)))),
        ));
        all.push((
            "from_classic",
            Box::new(|| drop(black_box(from_classic(&classic.sdp, &side)))),
        ));
    }
    // For a profiler: one of them, so many times, and nothing else.
    let mut arguments = std::env::args().skip(1);
    if let (Some(name), Some(count)) = (arguments.next(), arguments.next()) {
        let count: usize = count.parse().unwrap_or(0);
        for (_, run) in all.iter().filter(|(known, _)| *known == name) {
            (0..count).for_each(|_| run());
        }
        return;
    }
    println!(
        "a browser's offer: {} octets, {} lines",
        offer.len(),
        offer.lines().count()
    );
    for (name, run) in &all {
        time(name, 20_000, run);
    }
    for (kind, text) in largest() {
        println!("{kind}: {} octets, {} lines", text.len(), text.lines().count());
        let many = transports(32);
        time("  to_sip", 20, || drop(black_box(to_sip(&text))));
        time("  to_webrtc", 20, || drop(black_box(to_webrtc(&text))));
        time("  needs", 20, || drop(black_box(needs(&text))));
        time("  check_classic_offer", 20, || {
            drop(black_box(check_classic_offer(&text)))
        });
        time("  to_classic", 20, || drop(black_box(to_classic(&text, &many))));
        if let Ok(classic) = to_classic(&text, &many) {
            time("  Undo::restore", 20, || {
                drop(black_box(classic.undo.restore(&classic.sdp)))
            });
        }
        time("  from_classic", 20, || {
            drop(black_box(from_classic(&text, &side)))
        });
        time("  lint", 20, || drop(black_box(lint(&text, None))));
    }
}
