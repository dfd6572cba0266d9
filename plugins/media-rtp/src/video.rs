//! Video beside the audio: an m-line with sockets, keys and reports of its own.

use crate::driver::{Ear, Inbox, Shared};
use crate::engine::{Paths, Ports, open};
use crate::line::Lines;
use crate::machine::Machine;
use siprtc_core::Result;
use siprtc_core::ice::IceConfig;
use siprtc_core::media::{MediaEvent, MediaEventSink, VideoPort, VideoWish};
use siprtc_rtp::video;
use std::sync::Arc;

/// What opens it, when there is something to open it for.
pub(crate) struct Opener {
    pub(crate) ice: IceConfig,
    pub(crate) port: Arc<dyn VideoPort>,
    pub(crate) events: Arc<dyn MediaEventSink>,
    pub(crate) lines: Lines,
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
        port: Arc<dyn VideoPort>,
        events: &Arc<dyn MediaEventSink>,
        ice: &IceConfig,
        lines: &Lines,
    ) -> Self {
        VideoLine {
            machine: audio.beside(video::formats(&[])),
            is_wanted: false,
            opener: Opener {
                ice: ice.clone(),
                port,
                events: events.clone(),
                lines: lines.clone(),
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
            Ports {
                controls: true,
                is_one: self.machine.has_one_port(),
            },
            inbox.clone(),
        )
        .await?;
        Ok(self.over(paths, inbox))
    }

    /// The same over paths that are there.
    pub(crate) fn over(&self, paths: Paths, inbox: Arc<Inbox>) -> Arc<Shared> {
        let opener = &self.opener;
        // The call goes on without its video; what else happens is the audio's to say.
        let told = opener.events.clone();
        let events = Arc::new(move |event| match event {
            MediaEvent::Failed(reason) => told.emit(MediaEvent::VideoFailed(reason)),
            event => tracing::debug!(?event, "video"),
        });
        let ear = Ear::Video(opener.port.clone());
        opener.lines.start(paths, inbox, events, ear)
    }

    /// The video of a fork; `None`: our offer had none.
    pub(crate) fn fork(&self, port: Arc<dyn VideoPort>, events: &Arc<dyn MediaEventSink>) -> Option<Self> {
        Some(VideoLine {
            machine: self.machine.fork()?,
            is_wanted: self.is_wanted,
            opener: Opener {
                ice: self.opener.ice.clone(),
                port,
                events: events.clone(),
                lines: self.opener.lines.clone(),
            },
        })
    }
}
