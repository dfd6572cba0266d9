//! Opening a peer.

use crate::config::RtpConfig;
use crate::driver::{Ear, Inbox};
use crate::line::Lines;
use crate::machine::{Machine, misuse};
use crate::peer::Peer;
use crate::remote::Remote;
use crate::video::VideoLine;
use siprtc_core::ice::{IceConfig, IcePath, IceRole};
use siprtc_core::media::{Codec, Dialect, IceMode, MediaEngine, MediaPeer, PeerConfig};
use siprtc_core::{Error, Result};
use siprtc_rtp::sdp;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use tokio::runtime::Handle;

const OPERATION: &str = "create media peer";

/// See [`crate::engine()`].
pub(crate) struct Engine {
    name: &'static str,
    config: RtpConfig,
}

impl Engine {
    pub(crate) fn new(name: &'static str, config: RtpConfig) -> Self {
        Engine { name, config }
    }
}

#[async_trait::async_trait]
impl MediaEngine for Engine {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ice(&self) -> IceMode {
        IceMode::External
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sip
    }

    fn forks(&self) -> bool {
        true
    }

    fn check_offer(&self, sdp: &str, codecs: &[Codec]) -> Result<()> {
        let mut machine = Machine::new(self.config.clone(), self.config.formats(codecs), 0);
        machine.set_remote_offer("check offer", sdp)
    }

    async fn create_peer(&self, config: PeerConfig) -> Result<Arc<dyn MediaPeer>> {
        if config.codecs.is_empty() {
            return Err(
                misuse(OPERATION, "there is no codec to offer").advice("name at least one in media.codecs")
            );
        }
        let handle = Handle::try_current().map_err(|error| {
            misuse(OPERATION, "there is no tokio runtime here")
                .caused_by(error)
                .advice("call it from within the media runtime")
        })?;
        let formats = self.config.formats(&config.codecs);
        let inbox = Arc::new(Inbox::default());
        let offer = config.remote_offer.as_deref();
        let heard = config.heard.as_deref();
        let mut machine = Machine::new(self.config.clone(), formats, rand::random());
        if let Some(heard) = heard {
            machine.hear(heard);
        }
        let offered = offer
            .map(|offer| Remote::parse(OPERATION, offer, &machine.ours))
            .transpose()?;
        let heard = heard.and_then(|heard| Remote::parse(OPERATION, heard, &machine.ours).ok());
        let controls = offer.is_none_or(sdp::is_lite);
        let remotes = (offered.as_ref(), heard.as_ref());
        let ports = Ports {
            controls,
            is_one: self.config.mux_only,
        };
        let paths = open(&config.ice, remotes, ports, inbox.clone()).await?;
        let lines = Lines {
            latching: self.config.latching,
            cname: format!("{:032x}", rand::random::<u128>()),
            handle,
        };
        let video = config
            .video
            .map(|port| VideoLine::new(&machine, port, &config.events, &config.ice, &lines));
        let shared = lines.start(paths, inbox, config.events, Ear::Audio(config.packets));
        Ok(Arc::new(Peer::new(shared, machine, video, lines)))
    }
}

/// For RTP, and for the RTCP of a peer that does not multiplex.
pub(crate) type Paths = (Arc<dyn IcePath>, Option<Arc<dyn IcePath>>);

/// What ports are wanted for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// Ours is the offer, or the peer is a lite one (RFC 8445 section 6.1.1).
    pub(crate) controls: bool,
    /// An offer of ours has no second port for RTCP.
    pub(crate) is_one: bool,
}

/// One path over all addresses where the offer has ICE, or ours has one port; else two ports at the address that leads to the peer.
pub(crate) async fn open(
    ice: &IceConfig,
    (offer, heard): (Option<&Remote>, Option<&Remote>),
    Ports { controls, is_one }: Ports,
    inbox: Arc<Inbox>,
) -> Result<Paths> {
    let Some(paths) = &ice.paths else {
        return Err(misuse(OPERATION, "there is nobody who opens sockets")
            .advice("give IceConfig::paths: siprtc-nat-agent makes them"));
    };
    let events = Arc::new(move |event| inbox.push(event));
    if let Some(remote) = offer.filter(|remote| remote.ice.is_some() && remote.mux) {
        // RFC 8445 section 6.1.1: who offers controls, but a lite peer never does.
        let is_lite = remote.ice.as_ref().is_some_and(|(parameters, _)| parameters.lite);
        let role = if is_lite {
            IceRole::Controlling
        } else {
            IceRole::Controlled
        };
        return Ok((paths.open(ice, role, events).await?, None));
    }
    let role = match controls {
        true => IceRole::Controlling,
        false => IceRole::Controlled,
    };
    if offer.is_none() && is_one {
        return Ok((paths.open(ice, role, events).await?, None));
    }
    let towards = offer.or(heard).and_then(|remote| remote.rtp);
    let config = IceConfig {
        bind: vec![leading_to(&ice.bind, towards)?],
        ..ice.clone()
    };
    let (rtp, rtcp) = paths.open_pair(&config, role, events).await?;
    Ok((rtp, Some(rtcp)))
}

/// Which of our addresses packets to `peer` leave from, as the system has it; the first, if it cannot be known.
fn leading_to(bind: &[SocketAddr], peer: Option<SocketAddr>) -> Result<SocketAddr> {
    let chosen = peer.and_then(|peer| {
        let any: IpAddr = match peer.is_ipv4() {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Nothing is sent: connecting a UDP socket only looks the route up.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(peer).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (bind.iter().find(|addr| addr.ip() == ip))
            .or_else(|| bind.iter().find(|addr| addr.is_ipv4() == peer.is_ipv4()))
            .copied()
    });
    let first = || bind.iter().find(|addr| addr.is_ipv4()).or(bind.first()).copied();
    chosen.or_else(first).ok_or_else(|| -> Error {
        misuse(OPERATION, "there is no local address to bind")
            .advice("give IceConfig::bind at least one address")
    })
}
