//! `words`: the Criterion benchmark's subjects in short, ours and the peer's in turns, so that a busy machine slows both.

use siprtc_benches::figure::{Figure, Series};
use siprtc_benches::words;
use siprtc_core::Result;
use std::hint::black_box;
use tokio::time::Instant;

const ROUNDS: usize = 300;
const BATCH: u32 = 32;

fn batch(work: &mut dyn FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..BATCH {
        work();
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH)
}

/// The median of each, in µs.
fn in_turns<const N: usize>(mut subjects: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut taken = [(); N].map(|()| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for (subject, taken) in subjects.iter_mut().zip(&mut taken) {
            taken.push(batch(*subject));
        }
    }
    taken.map(|taken| Series::new(taken).median())
}

pub(crate) async fn run() -> Result<Vec<Figure>> {
    let offer = words::engine_offer().await?;
    let request = words::invite(&offer)?;
    let datagram = request.to_bytes();
    let wire = siprtc_sdp_translator::to_sip(&offer)?.sdp;
    let [ours, peers, valid, printed, to_sip, to_webrtc, peer_sdp] = in_turns([
        &mut || drop(black_box(words::parse(black_box(&datagram)))),
        &mut || drop(black_box(words::peer_parse(black_box(&datagram)))),
        &mut || drop(black_box(black_box(&request).validate())),
        &mut || drop(black_box(black_box(&request).to_bytes())),
        &mut || drop(black_box(siprtc_sdp_translator::to_sip(black_box(&offer)))),
        &mut || drop(black_box(siprtc_sdp_translator::to_webrtc(black_box(&wire)))),
        &mut || drop(black_box(words::peer_sdp(black_box(&offer)))),
    ]);
    let octets = format!(
        "INVITE of {} octets, {} headers",
        datagram.len(),
        request.headers.len()
    );
    let description = format!(
        "{} octets; the peer parses and prints, without translating",
        offer.len()
    );
    let mut figures = vec![
        Figure::new("words", "parse an INVITE", ours, "µs")
            .at_most(10.0)
            .beside("ezk-sip-types", peers)
            .note(octets),
        Figure::new("words", "validate it", valid, "µs"),
        Figure::new("words", "print it", printed, "µs"),
        Figure::new("words", "SDP to SIP", to_sip, "µs")
            .at_most(50.0)
            .beside("rtc-sdp", peer_sdp)
            .note(description),
        Figure::new("words", "SDP to WebRTC", to_webrtc, "µs")
            .at_most(50.0)
            .beside("rtc-sdp", peer_sdp),
    ];
    figures.extend(browser());
    let corpus = words::corpus_invites();
    if !corpus.is_empty() {
        let [ours, peers] = in_turns([
            &mut || {
                corpus
                    .iter()
                    .for_each(|(_, octets)| drop(black_box(words::parse(octets))))
            },
            &mut || {
                corpus
                    .iter()
                    .for_each(|(_, octets)| drop(black_box(words::peer_parse(octets))))
            },
        ]);
        let count = corpus.len() as f64;
        figures.push(
            Figure::new("words", "parse a real INVITE, mean", ours / count, "µs")
                .at_most(10.0)
                .beside("ezk-sip-types", peers / count)
                .note(format!("{} messages of real implementations", corpus.len())),
        );
    }
    Ok(figures)
}

/// A browser's offer of audio and video, to SIP and to a telephone.
fn browser() -> [Figure; 2] {
    let [to_sip, to_telephone, peer] = in_turns([
        &mut || {
            drop(black_box(siprtc_sdp_translator::to_sip(black_box(
                words::BROWSER,
            ))))
        },
        &mut || drop(black_box(words::to_telephone(black_box(words::BROWSER)))),
        &mut || drop(black_box(words::peer_sdp(black_box(words::BROWSER)))),
    ]);
    let octets = words::BROWSER.len();
    [
        Figure::new("words", "a browser's audio and video to SIP", to_sip, "µs")
            .at_most(60.0)
            .beside("rtc-sdp", peer)
            .note(format!(
                "{octets} octets; the peer parses and prints, without translating"
            )),
        Figure::new("words", "the same to plain RTP", to_telephone, "µs")
            .at_most(60.0)
            .beside("rtc-sdp", peer),
    ]
}
