//! Parsing, printing and translation, ours and a peer's over the same octets.
#![allow(missing_docs, reason = "criterion_group! makes a public function without any")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use siprtc_benches::words;
use std::hint::black_box;
use std::time::Duration;

fn offer() -> String {
    let runtime = tokio::runtime::Runtime::new().expect("BUG: no runtime");
    runtime
        .block_on(words::engine_offer())
        .expect("the engine makes no offer")
}

fn sip(criterion: &mut Criterion) {
    let request = words::invite(&offer()).expect("BUG: our own INVITE");
    let datagram = request.to_bytes();
    let mut group = criterion.benchmark_group("invite");
    group.throughput(Throughput::Bytes(datagram.len() as u64));
    group.bench_function("parse/siprtc", |b| b.iter(|| words::parse(black_box(&datagram))));
    group.bench_function("parse/ezk-sip-types", |b| {
        b.iter(|| words::peer_parse(black_box(&datagram)))
    });
    group.bench_function("validate/siprtc", |b| b.iter(|| black_box(&request).validate()));
    group.bench_function("to_bytes/siprtc", |b| b.iter(|| black_box(&request).to_bytes()));
    group.finish();

    let corpus = words::corpus_invites();
    if corpus.is_empty() {
        eprintln!("no corpus beside the workspace: only the INVITE made here is measured");
        return;
    }
    let mut group = criterion.benchmark_group("corpus-invites");
    group.throughput(Throughput::Elements(corpus.len() as u64));
    group.bench_function("parse/siprtc", |b| {
        b.iter(|| {
            corpus
                .iter()
                .filter(|(_, octets)| words::parse(octets).is_ok())
                .count()
        })
    });
    group.bench_function("parse/ezk-sip-types", |b| {
        b.iter(|| {
            corpus
                .iter()
                .filter(|(_, octets)| words::peer_parse(octets).is_ok())
                .count()
        })
    });
    group.finish();
}

fn sdp(criterion: &mut Criterion) {
    let engine = offer();
    let wire = siprtc_sdp_translator::to_sip(&engine).expect("our own offer").sdp;
    let mut group = criterion.benchmark_group("sdp");
    group.throughput(Throughput::Bytes(engine.len() as u64));
    group.bench_function("to_sip/siprtc", |b| {
        b.iter(|| siprtc_sdp_translator::to_sip(black_box(&engine)))
    });
    group.bench_function("to_webrtc/siprtc", |b| {
        b.iter(|| siprtc_sdp_translator::to_webrtc(black_box(&wire)))
    });
    group.bench_function("parse+print/rtc-sdp", |b| {
        b.iter(|| words::peer_sdp(black_box(&engine)))
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = sip, sdp
}
criterion_main!(benches);
