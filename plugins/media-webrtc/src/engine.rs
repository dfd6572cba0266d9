//! Building a PeerConnection.

use crate::WebrtcConfig;
use crate::codecs;
use crate::events::{Callbacks, Shared};
use crate::negotiation::{self, Negotiation};
use crate::peer::Peer;
use crate::runtime::PeerRuntime;
use crate::shim::Shim;
use crate::tap::{Tap, VideoTap};
use crate::video::Video;
use parking_lot::Mutex;
use rtc::dtls::crypto::Certificate;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::Slot;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::certificate::RTCCertificate;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use siprtc_core::ice::{
    IceConfig, IcePolicy, IceRole, IceServer, IceServerKind, IceServerTransport, PathEventSink,
};
use siprtc_core::media::{
    Codec, IceMode, MediaEngine, MediaEventSink, MediaPeer, PacketSink, PeerConfig, VideoPort,
};
use siprtc_core::{Error, Fault, Result};
use siprtc_rtp::sdp::{self, Setup};
use siprtc_rtp::{PayloadTypes, Reports};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
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
/// The same, where the path does ICE.
const OWN_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Rounds for each pair: 30 s, as long as the library takes to fail. A callee checks from its answer on, which over
/// SIP may reach the caller seconds later, and its checks hold its own NAT open until then.
const CHECK_ROUNDS: u16 = 600;
/// How long a direct path is preferred over a relayed one that works already, when both may be used.
const RELAY_PATIENCE: Duration = Duration::from_millis(300);
/// The library refuses to begin with a certificate that has expired; no call begins so late.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// See [`crate::engine()`].
pub(crate) struct Engine(pub(crate) WebrtcConfig);

#[async_trait::async_trait]
impl MediaEngine for Engine {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn ice(&self) -> IceMode {
        IceMode::Any
    }

    fn forks(&self) -> bool {
        true
    }

    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>> {
        check(&config)?;
        let handle = Handle::try_current().map_err(|error| {
            misuse("there is no tokio runtime here")
                .caused_by(error)
                .advice("call it from within the media runtime")
        })?;
        let making = Making {
            config: self.0,
            handle,
            certificate: certificate().map_err(backend)?,
            ssrc: rand::random(),
            video_ssrc: config.video.is_some().then(|| rand::random::<u32>() | 1),
            cname: format!("{:032x}", rand::random::<u128>()),
            codecs: config.codecs.clone(),
            ice: config.ice.clone(),
        };
        let role = config.remote_offer.as_deref().and_then(answering_role);
        let shared = making.share(config.events.clone());
        open_path(&config, &shared).await?;
        let video = Video::new(making.video_ssrc, &making.cname);
        let negotiation = Negotiation::new(&config.codecs, self.0.comfort_noise, role, video);
        let ends = (config.packets, config.video);
        Ok(Arc::new(making.build(shared, ends, negotiation).await?))
    }
}

/// What a peer is made with, and its forks, too: nothing else of it stands in an offer.
#[derive(Clone)]
pub(crate) struct Making {
    config: WebrtcConfig,
    handle: Handle,
    certificate: RTCCertificate,
    ssrc: u32,
    video_ssrc: Option<u32>,
    cname: String,
    codecs: Vec<Codec>,
    ice: IceConfig,
}

impl Making {
    pub(crate) fn share(&self, events: Arc<dyn MediaEventSink>) -> Arc<Shared> {
        let mut reports = Reports::new(now(), SystemTime::now(), self.ssrc, self.cname.clone());
        let formats = negotiation::formats(&self.codecs, self.config.comfort_noise);
        reports.set_clock_rates(siprtc_rtp::format::clock_rates(&formats));
        let relay = self.ice.servers.iter().any(|server| server.kind.is_turn());
        Arc::new(Shared::new(
            self.handle.clone(),
            Arc::new(Mutex::new(reports)),
            relay && self.ice.paths.is_none(),
            events,
        ))
    }

    /// The connection, over the path of `shared` if it has one.
    pub(crate) async fn build(
        &self,
        shared: Arc<Shared>,
        (packets, port): (Arc<dyn PacketSink>, Option<Arc<dyn VideoPort>>),
        negotiation: Negotiation,
    ) -> Result<Peer> {
        let video = port.zip(self.video_ssrc).map(|(port, ssrc)| {
            Arc::new(VideoTap {
                port,
                reports: Mutex::new(Reports::new(now(), SystemTime::now(), ssrc, self.cname.clone())),
                ssrc,
                payload_types: PayloadTypes::default(),
                transport_sequence: AtomicU8::new(0),
            })
        });
        let role = negotiation.answers_as;
        let shim = shared.shim.get().cloned();
        let bind = match &shim {
            // The connection wants an address; the socket that is bound to it closes as soon as it is handed over.
            Some(_) => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            None => self.ice.bind.clone(),
        };
        let driver_ended = Arc::downgrade(&shared);
        let driver_ended = Arc::new(move || {
            if let Some(shared) = driver_ended.upgrade() {
                shared.driver_ended();
            }
        });
        let connection = PeerConnectionBuilder::<SocketAddr>::new()
            .with_configuration(configuration(&self.ice, shim.is_some(), self.certificate.clone()))
            .with_media_engine(codecs::registry().map_err(backend)?)
            .with_setting_engine(settings(self.ice.policy, role, shim.is_some()))
            .with_interceptor_registry(Registry::new().with(
                Slot::ReceiverReport,
                Tap::new(packets, shared.reports.clone(), video.clone()).behind(shared.gate.clone()),
            ))
            .with_runtime(Arc::new(PeerRuntime::new(
                self.handle.clone(),
                shim,
                shared.relay.clone(),
                shared.connected.clone(),
                driver_ended,
                shared.gate.clone(),
            )))
            .with_handler(Arc::new(Callbacks(shared.clone())))
            .with_udp_addrs(bind)
            // Without it a connection that is dropped and not closed keeps its task and its sockets for ever.
            .with_dedicated_reactor_pool_size(1)
            .build()
            .await
            .map_err(|error| {
                backend(error).advice(format!(
                    "check that these addresses are local and free: {:?}",
                    self.ice.bind
                ))
            })?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let track = Arc::new(TrackLocalStaticRTP::new(track(self.ssrc)));
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendrecv,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        let transceiver = connection
            .add_transceiver_from_track(track.clone(), Some(init))
            .await
            .map_err(backend)?;
        let _ = shared.connection.set(Arc::downgrade(&connection));
        Ok(Peer::new(
            connection,
            transceiver,
            (track, self.ssrc),
            shared,
            negotiation,
            self.clone(),
            video,
        ))
    }

    pub(crate) fn gather_budget(&self) -> Duration {
        self.ice.gather_budget
    }
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// As the library would make one for itself.
fn certificate() -> rtc::shared::error::Result<RTCCertificate> {
    let library = |error: &dyn std::fmt::Display| rtc::shared::error::Error::Other(error.to_string());
    let provider = rtc::crypto::default_provider().map_err(|error| library(&error))?;
    let made = Certificate::generate_self_signed(vec!["siprtc".to_owned()], provider.crypto())?;
    Ok(RTCCertificate::from_existing(
        made,
        SystemTime::now() + CERTIFICATE_LIFE,
    ))
}

/// The path, where another does ICE.
async fn open_path(config: &PeerConfig, shared: &Arc<Shared>) -> Result<()> {
    let Some(paths) = &config.ice.paths else {
        return Ok(());
    };
    // RFC 8445 section 6.1.1: who offers controls, but a lite peer never does.
    let offer = config.remote_offer.as_deref();
    let role = match offer.is_none_or(sdp::is_lite) {
        true => IceRole::Controlling,
        false => IceRole::Controlled,
    };
    let path = paths.open(&config.ice, role, path_events(shared)).await?;
    shared.shim.get_or_init(|| Shim::new(path, shared.gate.clone()));
    Ok(())
}

pub(crate) fn path_events(shared: &Arc<Shared>) -> Arc<dyn PathEventSink> {
    let told = Arc::downgrade(shared);
    Arc::new(move |event| {
        if let Some(shared) = told.upgrade() {
            shared.path_changed(event);
        }
    })
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

fn configuration(ice: &IceConfig, is_external: bool, certificate: RTCCertificate) -> RTCConfiguration {
    let builder = RTCConfigurationBuilder::default().with_certificates(vec![certificate]);
    if is_external {
        return builder.build();
    }
    builder
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
    let known = || (ice.servers.iter()).filter(|server| server.transport == IceServerTransport::Udp);
    let mut told: Vec<RTCIceServer> = known().map(server).collect();
    if ice.policy == IcePolicy::All {
        let as_stun = |turn: &IceServer| {
            server(&IceServer {
                kind: IceServerKind::Stun,
                ..turn.clone()
            })
        };
        for stun in known().map(as_stun) {
            if !told.iter().any(|known| known.urls == stun.urls) {
                told.push(stun);
            }
        }
    }
    told
}

fn server(server: &IceServer) -> RTCIceServer {
    let (username, credential) = match &server.kind {
        IceServerKind::Turn { username, password } => (username.clone(), password.clone()),
        // Who plans a call has made user name and password of a secret.
        IceServerKind::Stun | IceServerKind::TurnSecret { .. } => Default::default(),
    };
    RTCIceServer {
        urls: vec![server.url()],
        username,
        credential,
    }
}

fn settings(policy: IcePolicy, role: Option<Setup>, is_external: bool) -> SettingEngine {
    let relay = if policy == IcePolicy::Relay {
        Duration::ZERO
    } else {
        RELAY_PATIENCE
    };
    // Checks that the connection's own socket answers cost nothing, and the first is waited for.
    let interval = if is_external {
        OWN_CHECK_INTERVAL
    } else {
        CHECK_INTERVAL
    };
    let settings = SettingEngineBuilder::new()
        // No socket for names that SIP peers do not have; candidates that are names are left out.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_connection_attempts(Some(interval), Some(CHECK_ROUNDS))
        .with_host_acceptance_min_wait(Some(Duration::ZERO))
        .with_srflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_relay_acceptance_min_wait(Some(relay));
    match role {
        Some(Setup::Passive) => settings.with_answering_dtls_role(RTCDtlsRole::Server).build(),
        Some(Setup::Active) => settings.with_answering_dtls_role(RTCDtlsRole::Client).build(),
        // To the ICE-lite peer that it is shown the library would answer passive.
        _ if is_external => settings.with_answering_dtls_role(RTCDtlsRole::Client).build(),
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
