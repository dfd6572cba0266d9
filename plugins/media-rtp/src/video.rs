//! Video beside the audio: an m-line with sockets, keys and reports of its own.

use crate::config::RtpConfig;
use crate::driver::{Ear, Inbox, Shared};
use crate::engine::open;
use crate::machine::Machine;
use crate::transport::Transport;
use siprtc_core::Result;
use siprtc_core::ice::IceConfig;
use siprtc_core::media::{Direction, MediaEvent, PeerVideo};
use siprtc_rtp::{Reports, video};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::runtime::Handle;

/// What opens it, when there is something to open it for.
pub(crate) struct Opener {
    pub(crate) ice: IceConfig,
    pub(crate) latching: bool,
    pub(crate) video: PeerVideo,
    pub(crate) cname: String,
    pub(crate) handle: Handle,
}

/// Between the steps of offer and answer.
pub(crate) struct VideoLine {
    pub(crate) machine: Machine,
    pub(crate) wanted: Option<Direction>,
    opener: Opener,
}

impl VideoLine {
    /// Keyed as the audio's.
    pub(crate) fn new(
        audio: &Machine,
        config: &RtpConfig,
        video: PeerVideo,
        ice: &IceConfig,
        cname: &str,
    ) -> Self {
        VideoLine {
            machine: audio.beside(video::formats(&video.codecs)),
            wanted: None,
            opener: Opener {
                ice: ice.clone(),
                latching: config.latching,
                video,
                cname: cname.to_owned(),
                handle: Handle::current(),
            },
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
        let ear = Ear::Video(opener.video.port.clone());
        // The call goes on without its video; what happens to it is the audio's to say.
        let events = Arc::new(|event| match event {
            MediaEvent::Failed(reason) => tracing::warn!(%reason, "the call has no video"),
            event => tracing::debug!(?event, "video"),
        });
        let shared = Arc::new(Shared::new(paths, transport, inbox, events, ear));
        opener.handle.spawn(crate::driver::run(shared.clone()));
        Ok(shared)
    }
}
