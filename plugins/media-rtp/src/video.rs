//! Video beside the audio: an m-line with sockets, keys and reports of its own.

use crate::config::RtpConfig;
use crate::driver::{Ear, Inbox, Shared};
use crate::engine::open;
use crate::machine::Machine;
use crate::transport::Transport;
use siprtc_core::Result;
use siprtc_core::ice::IceConfig;
use siprtc_core::media::{MediaEvent, MediaEventSink, VideoPort, VideoWish};
use siprtc_rtp::{Reports, video};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::runtime::Handle;

/// What opens it, when there is something to open it for.
pub(crate) struct Opener {
    pub(crate) ice: IceConfig,
    pub(crate) latching: bool,
    pub(crate) port: Arc<dyn VideoPort>,
    pub(crate) events: Arc<dyn MediaEventSink>,
    pub(crate) cname: String,
    pub(crate) handle: Handle,
}

/// Between the steps of offer and answer.
pub(crate) struct VideoLine {
    pub(crate) machine: Machine,
    is_wanted: bool,
    opener: Opener,
}

impl VideoLine {
    /// Keyed as the audio's.
    pub(crate) fn new(
        audio: &Machine,
        config: &RtpConfig,
        port: Arc<dyn VideoPort>,
        events: &Arc<dyn MediaEventSink>,
        ice: &IceConfig,
        cname: &str,
    ) -> Self {
        VideoLine {
            machine: audio.beside(video::formats(&[])),
            is_wanted: false,
            opener: Opener {
                ice: ice.clone(),
                latching: config.latching,
                port,
                events: events.clone(),
                cname: cname.to_owned(),
                handle: Handle::current(),
            },
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    pub(crate) fn set_wanted(&mut self, wish: Option<VideoWish>) {
        self.is_wanted = wish.is_some();
        if let Some(wish) = wish {
            self.machine.wanted = wish.direction;
            self.machine.ours = video::formats(&wish.codecs).into();
        }
    }

    /// Its sockets; with ICE if the pending offer has it.
    pub(crate) async fn open(&self) -> Result<Arc<Shared>> {
        let opener = &self.opener;
        let inbox = Arc::new(Inbox::default());
        let paths = open(
            &opener.ice,
            (self.machine.remote_offer(), None),
            true,
            inbox.clone(),
        )
        .await?;
        let ssrc = rand::random::<u32>() | 1;
        let now = tokio::time::Instant::now().into_std();
        let reports = Reports::new(now, SystemTime::now(), ssrc, opener.cname.clone());
        let transport = Transport::new(ssrc, reports, opener.latching);
        let ear = Ear::Video(opener.port.clone());
        // The call goes on without its video; what else happens is the audio's to say.
        let told = opener.events.clone();
        let events = Arc::new(move |event| match event {
            MediaEvent::Failed(reason) => told.emit(MediaEvent::VideoFailed(reason)),
            event => tracing::debug!(?event, "video"),
        });
        let shared = Arc::new(Shared::new(paths, transport, inbox, events, ear));
        opener.handle.spawn(crate::driver::run(shared.clone()));
        Ok(shared)
    }
}
