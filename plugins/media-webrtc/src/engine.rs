//! Building a PeerConnection.

use crate::codecs;
use crate::events::{Callbacks, Shared};
use crate::negotiation::{self, Negotiation};
use crate::peer::Peer;
use crate::reports::Reports;
use crate::runtime::PeerRuntime;
use crate::sdp::{self, Setup};
use crate::tap::Tap;
use parking_lot::Mutex;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::Slot;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use siprtc_core::ice::{IceConfig, IcePolicy, IceServer, IceServerKind};
use siprtc_core::media::{IceMode, MediaEngine, MediaPeer, PeerConfig};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCConfiguration, RTCConfigurationBuilder, RTCIceServer,
    RTCIceTransportPolicy, Registry, SettingEngine, SettingEngineBuilder,
};

const OPERATION: &str = "create media peer";
/// RFC 8445 section 14.2: Ta, the time between two rounds of checks. The library's default is 200 ms.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Rounds for each pair: 30 s, as long as the library takes to fail. A callee checks from its answer on, which over
/// SIP may reach the caller seconds later, and its checks hold its own NAT open until then.
const CHECK_ROUNDS: u16 = 600;
/// How long a direct path is preferred over a relayed one that works already, when both may be used.
const RELAY_PATIENCE: Duration = Duration::from_millis(300);

/// See [`crate::engine()`].
pub(crate) struct Engine;

#[async_trait::async_trait]
impl MediaEngine for Engine {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn ice(&self) -> IceMode {
        IceMode::BuiltIn
    }

    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>> {
        check(&config)?;
        let handle = Handle::try_current().map_err(|error| {
            misuse("there is no tokio runtime here")
                .caused_by(error)
                .advice("call it from within the media runtime")
        })?;
        let ssrc = rand::random();
        let now = tokio::time::Instant::now().into_std();
        let cname = format!("{:032x}", rand::random::<u128>());
        let reports = Arc::new(Mutex::new(Reports::new(now, SystemTime::now(), ssrc, cname)));
        let relay = config
            .ice
            .servers
            .iter()
            .any(|server| matches!(server.kind, IceServerKind::Turn { .. }));
        let shared = Arc::new(Shared::new(
            handle.clone(),
            reports.clone(),
            relay,
            config.events.clone(),
        ));
        let formats = codecs::formats(&config.codecs);
        reports.lock().set_clock_rates(codecs::clock_rates(&formats));
        let role = config.remote_offer.as_deref().and_then(answering_role);

        let driver_ended = Arc::downgrade(&shared);
        let driver_ended = Arc::new(move || {
            if let Some(shared) = driver_ended.upgrade() {
                shared.driver_ended();
            }
        });
        let connection = PeerConnectionBuilder::<SocketAddr>::new()
            .with_configuration(configuration(&config.ice))
            .with_media_engine(codecs::registry().map_err(backend)?)
            .with_setting_engine(settings(config.ice.policy, role))
            .with_interceptor_registry(
                Registry::new().with(Slot::ReceiverReport, Tap::new(config.packets, reports)),
            )
            .with_runtime(Arc::new(PeerRuntime::new(
                handle,
                shared.relay.clone(),
                shared.connected.clone(),
                driver_ended,
            )))
            .with_handler(Arc::new(Callbacks(shared.clone())))
            .with_udp_addrs(config.ice.bind.clone())
            // Without it a connection that is dropped and not closed keeps its task and its sockets for ever.
            .with_dedicated_reactor_pool_size(1)
            .build()
            .await
            .map_err(|error| {
                backend(error).advice(format!(
                    "check that these addresses are local and free: {:?}",
                    config.ice.bind
                ))
            })?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let track = Arc::new(TrackLocalStaticRTP::new(track(ssrc)));
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendrecv,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        let transceiver = connection
            .add_transceiver_from_track(track.clone(), Some(init))
            .await
            .map_err(backend)?;
        let negotiation = Negotiation::new(formats, role);
        let _ = shared.connection.set(Arc::downgrade(&connection));
        Ok(Arc::new(Peer::new(
            connection,
            transceiver,
            track,
            shared,
            ssrc,
            negotiation,
            config.ice.gather_budget,
        )))
    }
}

fn check(config: &PeerConfig) -> Result<()> {
    if config.codecs.is_empty() {
        return Err(misuse("there is no codec to offer").advice("name at least one in media.codecs"));
    }
    if config.ice.bind.is_empty() {
        return Err(
            misuse("there is no local address to bind").advice("give IceConfig::bind at least one address")
        );
    }
    Ok(())
}

fn misuse(message: &str) -> Error {
    Error::new(Fault::ApiMisuse, OPERATION, message).backend(crate::NAME)
}

fn backend(error: rtc::shared::error::Error) -> Error {
    negotiation::failed(Fault::Backend, OPERATION, error)
}

/// Which role the answer to this offer must take. The library answers `active` to everything but an ICE-lite peer,
/// and `passive` to that; both are wrong when the offer leaves no choice (RFC 8842 section 5.3).
fn answering_role(offer: &str) -> Option<Setup> {
    sdp::setup(offer)
        .filter(|setup| *setup != Setup::Actpass)
        .map(Setup::reversed)
}

fn configuration(ice: &IceConfig) -> RTCConfiguration {
    RTCConfigurationBuilder::default()
        .with_ice_servers(servers(ice))
        .with_ice_transport_policy(match ice.policy {
            IcePolicy::All => RTCIceTransportPolicy::All,
            IcePolicy::Relay => RTCIceTransportPolicy::Relay,
        })
        .build()
}

/// The servers in the library's words. It takes server-reflexive candidates from STUN URLs alone, while RFC 8445 section
/// 5.1.1.2 takes them from a TURN server too: so each TURN server is named as a STUN server as well, unless nothing but
/// relayed candidates may be known.
fn servers(ice: &IceConfig) -> Vec<RTCIceServer> {
    let mut told: Vec<RTCIceServer> = ice.servers.iter().map(server).collect();
    if ice.policy == IcePolicy::All {
        let as_stun = |turn: &IceServer| {
            server(&IceServer {
                kind: IceServerKind::Stun,
                ..turn.clone()
            })
        };
        for stun in ice.servers.iter().map(as_stun) {
            if !told.iter().any(|known| known.urls == stun.urls) {
                told.push(stun);
            }
        }
    }
    told
}

fn server(server: &IceServer) -> RTCIceServer {
    let (username, credential) = match &server.kind {
        IceServerKind::Stun => Default::default(),
        IceServerKind::Turn { username, password } => (username.clone(), password.clone()),
    };
    RTCIceServer {
        urls: vec![server.url()],
        username,
        credential,
    }
}

fn settings(policy: IcePolicy, role: Option<Setup>) -> SettingEngine {
    let relay = if policy == IcePolicy::Relay {
        Duration::ZERO
    } else {
        RELAY_PATIENCE
    };
    let settings = SettingEngineBuilder::new()
        // No socket for names that SIP peers do not have; candidates that are names are left out.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECK_ROUNDS))
        .with_host_acceptance_min_wait(Some(Duration::ZERO))
        .with_srflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_relay_acceptance_min_wait(Some(relay));
    match role {
        Some(Setup::Passive) => settings.with_answering_dtls_role(RTCDtlsRole::Server).build(),
        Some(Setup::Active) => settings.with_answering_dtls_role(RTCDtlsRole::Client).build(),
        _ => settings.build(),
    }
}

/// One stream for the peer's lifetime. Its codec is a formality: the payload type is each packet's own.
fn track(ssrc: u32) -> MediaStreamTrack {
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            ..Default::default()
        },
        codec: codecs::shown_to_library().rtp_codec,
        ..Default::default()
    };
    let id = |name: &str| format!("{name}-{ssrc:08x}");
    MediaStreamTrack::new(
        id("siprtc"),
        id("audio"),
        "audio".to_owned(),
        RtpCodecKind::Audio,
        vec![coding],
    )
}
