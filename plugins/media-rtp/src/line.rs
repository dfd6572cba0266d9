//! Opening one m-line: what sends, what hears, and the task between.

use crate::driver::{self, Ear, Inbox, Shared};
use crate::engine::Paths;
use crate::transport::Transport;
use siprtc_core::media::MediaEventSink;
use siprtc_rtp::Reports;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::runtime::Handle;

/// What the m-lines of a peer and of its forks have in common.
#[derive(Clone)]
pub(crate) struct Lines {
    pub(crate) latching: bool,
    pub(crate) cname: String,
    pub(crate) handle: Handle,
}

impl Lines {
    /// A line over these paths, read by a task of its own. Each has an SSRC of its own: forks of an offer with keys in it send with
    /// the same ones, which are safe for as long as no two streams have the same SSRC (RFC 3711 section 9.1).
    pub(crate) fn start(
        &self,
        paths: Paths,
        inbox: Arc<Inbox>,
        events: Arc<dyn MediaEventSink>,
        ear: Ear,
    ) -> Arc<Shared> {
        let ssrc = rand::random::<u32>() | 1;
        let now = tokio::time::Instant::now().into_std();
        let reports = Reports::new(now, SystemTime::now(), ssrc, self.cname.clone());
        let transport = Transport::new(ssrc, reports, self.latching);
        let shared = Arc::new(Shared::new(paths, transport, inbox, events, ear));
        self.handle.spawn(driver::run(shared.clone()));
        shared
    }
}
