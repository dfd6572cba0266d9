//! The `webrtc` crate as the translator's other side: one peer connection with one audio transceiver.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::setting_engine::{SettingEngine, SettingEngineBuilder};
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use std::sync::Arc;
use std::time::Duration;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription,
};
use webrtc::runtime::{Receiver, Sender, channel, default_runtime};

/// How long two engines on loopback may take; they take 0.2 s.
const PATIENCE: Duration = Duration::from_secs(10);

struct Events {
    gathered: Sender<()>,
    state: Sender<RTCPeerConnectionState>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Events {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.try_send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.state.try_send(state);
    }
}

pub struct Engine {
    pub peer: Arc<dyn PeerConnection>,
    gathered: Receiver<()>,
    state: Receiver<RTCPeerConnectionState>,
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

impl Engine {
    pub async fn new() -> Self {
        Engine::build(SettingEngineBuilder::new().build()).await
    }

    /// An engine whose answers say this DTLS role.
    pub async fn answering_as(role: RTCDtlsRole) -> Self {
        Engine::build(SettingEngineBuilder::new().with_answering_dtls_role(role).build()).await
    }

    async fn build(settings: SettingEngine) -> Self {
        let mut media = MediaEngine::default();
        let mut codecs = Vec::new();
        for (payload_type, mime, clock_rate, channels, fmtp) in [
            (111, "audio/opus", 48_000, 2, "minptime=10;useinbandfec=1"),
            (9, "audio/G722", 8_000, 0, ""),
            (0, "audio/PCMU", 8_000, 0, ""),
            (8, "audio/PCMA", 8_000, 0, ""),
            (101, "audio/telephone-event", 8_000, 0, "0-15"),
        ] {
            let rtp_codec = RTCRtpCodec {
                mime_type: mime.to_owned(),
                clock_rate,
                channels,
                sdp_fmtp_line: fmtp.to_owned(),
                rtcp_feedback: Vec::new(),
            };
            let codec = RTCRtpCodecParameters {
                rtp_codec,
                payload_type,
            };
            media.register_codec(codec.clone(), RtpCodecKind::Audio).unwrap();
            codecs.push(codec);
        }
        let (gathered_sender, gathered) = channel(1);
        let (state_sender, state) = channel(16);
        let peer = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Events {
                gathered: gathered_sender,
                state: state_sender,
            }))
            .with_runtime(default_runtime().unwrap())
            .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
            .build()
            .await
            .unwrap();
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(7),
                ..Default::default()
            },
            codec: codecs[0].rtp_codec.clone(),
            ..Default::default()
        };
        let [stream, id, label] = ["stream", "track", "audio"].map(str::to_owned);
        let track = MediaStreamTrack::new(stream, id, label, RtpCodecKind::Audio, vec![encoding]);
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendrecv,
            ..Default::default()
        };
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let transceiver = peer.add_transceiver_from_track(track, Some(init)).await.unwrap();
        transceiver.set_codec_preferences(codecs).await.unwrap();
        Engine {
            peer: Arc::new(peer),
            gathered,
            state,
        }
    }

    /// Our offer, with candidates.
    pub async fn offer(&mut self) -> String {
        let offer = self.peer.create_offer(None).await.unwrap();
        self.peer.set_local_description(offer).await.unwrap();
        self.local().await
    }

    /// Our answer to `offer` without candidates, or how the engine failed.
    pub async fn answer(&self, offer: &str) -> Result<String, String> {
        let offer = RTCSessionDescription::offer(offer.to_owned()).map_err(|error| error.to_string())?;
        self.peer
            .set_remote_description(offer)
            .await
            .map_err(|error| error.to_string())?;
        let answer = self
            .peer
            .create_answer(None)
            .await
            .map_err(|error| error.to_string())?;
        Ok(answer.sdp)
    }

    /// Our answer to `offer` with candidates, or how the engine failed.
    pub async fn accept(&mut self, offer: &str) -> Result<String, String> {
        let answer =
            RTCSessionDescription::answer(self.answer(offer).await?).map_err(|error| error.to_string())?;
        self.peer
            .set_local_description(answer)
            .await
            .map_err(|error| error.to_string())?;
        Ok(self.local().await)
    }

    /// Takes the peer's answer.
    pub async fn answered(&self, answer: &str) -> Result<(), String> {
        let answer = RTCSessionDescription::answer(answer.to_owned()).map_err(|error| error.to_string())?;
        self.peer
            .set_remote_description(answer)
            .await
            .map_err(|error| error.to_string())
    }

    /// Takes a candidate of the m-line `mid` (the value of its `a=candidate` line), found late.
    pub async fn trickled(&self, mid: &str, candidate: &str) {
        let init = RTCIceCandidateInit {
            candidate: format!("candidate:{candidate}"),
            sdp_mid: Some(mid.to_owned()),
            ..RTCIceCandidateInit::default()
        };
        self.peer.add_ice_candidate(init).await.unwrap();
    }

    async fn local(&mut self) -> String {
        let _ = tokio::time::timeout(PATIENCE, self.gathered.recv())
            .await
            .expect("gathering ends");
        self.peer.local_description().await.unwrap().sdp
    }

    /// Waits until DTLS is up; `false` when it fails or takes longer than `patience`.
    pub async fn connects_within(&mut self, patience: Duration) -> bool {
        let wait = async {
            while let Some(state) = self.state.recv().await {
                match state {
                    RTCPeerConnectionState::Connected => return true,
                    RTCPeerConnectionState::Failed => return false,
                    _ => {}
                }
            }
            false
        };
        tokio::time::timeout(patience, wait).await.unwrap_or(false)
    }

    pub async fn connects(&mut self) -> bool {
        self.connects_within(PATIENCE).await
    }
}
