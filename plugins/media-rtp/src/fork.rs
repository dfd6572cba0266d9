//! A peer beside another one, for another answer to the same offer.

use crate::driver::{Ear, Inbox, Shared};
use crate::engine::Paths;
use crate::machine::misuse;
use crate::peer::{Peer, State};
use siprtc_core::Result;
use siprtc_core::media::ForkConfig;
use std::sync::Arc;

const OPERATION: &str = "fork";

impl Peer {
    pub(crate) async fn forked(&self, config: ForkConfig) -> Result<Peer> {
        self.check_open(OPERATION)?;
        let state = self.state.lock().await;
        let machine = state.machine.fork().ok_or_else(|| {
            misuse(OPERATION, "there is no first offer of ours to be answered")
                .advice("fork before anything else is negotiated")
        })?;
        let video = config
            .video
            .and_then(|port| state.video.as_ref()?.fork(port, &config.events));
        let video_paths = match (&video, self.video()) {
            (Some(_), Some(shared)) => Some(paths(&shared)?),
            _ => None,
        };
        let (inbox, of_audio) = paths(&self.shared)?;
        let ear = Ear::Audio(config.packets);
        let shared = self.lines.start(of_audio, inbox, config.events, ear);
        *shared.told.lock() = *self.shared.told.lock();
        let opened = video_paths
            .zip(video.as_ref())
            .map(|((inbox, paths), video)| video.over(paths, inbox));
        if let (Some(opened), Some(whose)) = (&opened, self.video()) {
            *opened.told.lock() = *whose.told.lock();
        }
        let state = State {
            machine,
            video,
            identity: state.identity.clone(),
        };
        Ok(Peer::with(shared, opened, state, self.lines.clone()))
    }
}

/// Forks of a line's paths.
fn paths(shared: &Shared) -> Result<(Arc<Inbox>, Paths)> {
    let inbox = Arc::new(Inbox::default());
    let told = inbox.clone();
    let rtp = shared.rtp.fork(Arc::new(move |event| told.push(event)))?;
    let rtcp = shared.rtcp.as_ref().map(|path| path.fork(Arc::new(|_| ())));
    Ok((inbox, (rtp, rtcp.transpose()?)))
}
