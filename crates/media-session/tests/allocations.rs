//! A packet that passes through a bridge costs no allocation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(
    dead_code,
    reason = "shared with the other test program, which uses more of it"
)]
mod common;

use actix::Actor;
use async_trait::async_trait;
use bytes::Bytes;
use common::audio;
use parking_lot::Mutex;
use siprtc_core::ice::{CandidatePair, IceConfig};
use siprtc_core::media::{
    Codec, Direction, IceMode, MediaEngine, MediaPeer, PacketSink, PeerConfig, RtpPacket, SdpKind,
    TransportStats,
};
use siprtc_core::{CallId, Result};
use siprtc_media_session::{
    AnswerOffer, Begin, Bridge, BridgeConfig, Carriage, Join, MediaSession, SessionConfig, SessionEvent,
    Sink, Source,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts what it is given, and gives out where packets come in.
#[derive(Default)]
struct Counting {
    sent: AtomicU64,
    packets: Mutex<Option<Arc<dyn PacketSink>>>,
}

struct Peer(Arc<Counting>);

struct Engine(Arc<Counting>);

#[async_trait]
impl MediaEngine for Engine {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn ice(&self) -> IceMode {
        IceMode::BuiltIn
    }

    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>> {
        *self.0.packets.lock() = Some(config.packets);
        Ok(Arc::new(Peer(Arc::clone(&self.0))))
    }
}

#[async_trait]
impl MediaPeer for Peer {
    async fn create_offer(&self) -> Result<String> {
        Ok(String::new())
    }

    async fn create_answer(&self) -> Result<String> {
        Ok(String::new())
    }

    async fn set_local(&self, _: SdpKind, sdp: &str) -> Result<String> {
        Ok(sdp.to_owned())
    }

    async fn set_remote(&self, _: SdpKind, _: &str) -> Result<()> {
        Ok(())
    }

    async fn set_direction(&self, _: Direction) -> Result<()> {
        Ok(())
    }

    async fn send(&self, packet: RtpPacket) -> Result<()> {
        self.send_now(packet)
    }

    fn sends_now(&self) -> bool {
        true
    }

    fn send_now(&self, _: RtpPacket) -> Result<()> {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn stats(&self) -> TransportStats {
        TransportStats::default()
    }

    async fn selected_pair(&self) -> Option<CandidatePair> {
        None
    }

    async fn close(&self) {}
}

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
    let engines = [Arc::new(Counting::default()), Arc::new(Counting::default())];
    let agreed = audio(Codec::Pcmu);
    let mut sessions = Vec::new();
    for engine in &engines {
        let config = SessionConfig {
            call: CallId::fresh(),
            engine: Arc::new(Engine(Arc::clone(engine))),
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
    let sink = engines[0].packets.lock().clone().unwrap();
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
    let before = engines[1].sent.load(Ordering::Relaxed);
    let counted = allocation_counter::measure(|| packets.drain(..).for_each(|packet| sink.push(packet)));
    assert_eq!(engines[1].sent.load(Ordering::Relaxed) - before, 1_500);
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
