//! A packet that passes through a bridge costs no allocation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(
    dead_code,
    reason = "shared with the other test program, which uses more of it"
)]
mod common;

use actix::Actor;
use bytes::Bytes;
use common::audio;
use siprtc_core::CallId;
use siprtc_core::ice::IceConfig;
use siprtc_core::media::{Codec, Direction, RtpPacket};
use siprtc_media_session::{
    AnswerOffer, Begin, Bridge, BridgeConfig, Carriage, Join, MediaSession, SessionConfig, SessionEvent,
    Sink, Source,
};
use siprtc_testkit::media::{LoneEngine, LonePeer};
use std::sync::Arc;
use std::time::Duration;

struct Nobody;

impl Actor for Nobody {
    type Context = actix::Context<Self>;
}

impl actix::Handler<SessionEvent> for Nobody {
    type Result = ();

    fn handle(&mut self, _: SessionEvent, _: &mut Self::Context) {}
}

#[actix_rt::test]
async fn a_packet_that_passes_through_costs_no_allocation() {
    let peers = [LonePeer::counting(), LonePeer::counting()].map(Arc::new);
    let engines = [LoneEngine::of(&peers[0]), LoneEngine::of(&peers[1])];
    let agreed = audio(Codec::Pcmu);
    let mut sessions = Vec::new();
    for engine in &engines {
        let config = SessionConfig {
            call: CallId::fresh(),
            engine: engine.clone(),
            runtime: tokio::runtime::Handle::current(),
            ice: IceConfig::default(),
            codecs: vec![Codec::Pcmu],
            source: Source::Silence,
            sink: Sink::Null,
            direction: Direction::SendRecv,
            ptime: 20,
            video: None,
            heard: None,
        };
        let session = MediaSession::new(config, Nobody.start().recipient()).start();
        let sdp = "v=0\r\n".to_owned();
        session.send(AnswerOffer { sdp }).await.unwrap().unwrap();
        session
            .send(Begin {
                audio: agreed,
                video: None,
            })
            .await
            .unwrap()
            .unwrap();
        sessions.push(session);
    }
    let (bridge, [one, other]) = Bridge::between([CallId::fresh(), CallId::fresh()], BridgeConfig::default());
    sessions[0].send(Join { end: one }).await.unwrap().unwrap();
    sessions[1].send(Join { end: other }).await.unwrap().unwrap();
    while bridge.carriage() != Some([Carriage::PassThrough; 2]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sink = engines[0].packets().unwrap();
    // Payloads as engines make them: of a vector of their own.
    let mut packets: Vec<RtpPacket> = (0..2_000u16)
        .map(|number| RtpPacket {
            payload_type: 0,
            marker: number == 0,
            sequence: number,
            timestamp: u32::from(number) * 160,
            ssrc: 9,
            payload: Bytes::from(vec![0xff; 160]),
        })
        .collect();
    // Until the queue for the session's own numbers has its size.
    packets.drain(..500).for_each(|packet| sink.push(packet));
    let before = peers[1].count();
    let counted = allocation_counter::measure(|| packets.drain(..).for_each(|packet| sink.push(packet)));
    assert_eq!(peers[1].count() - before, 1_500);
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
