//! The media peers of a call whose INVITE forked: one for each early dialog, of one offer (RFC 3261 section 13.2.2.4).

use super::{CLOSE, Work, step};
use crate::chosen::Chosen;
use crate::ear::{Ear, Standing};
use crate::video::VideoQueue;
use crate::{Begin, Fork};
use siprtc_core::media::{ForkConfig, MediaEventSink, MediaPeer, PacketSink, SdpKind, VideoPort};
use siprtc_core::{Error, Fault, Result};
use std::sync::Arc;
use tokio::time::timeout;

/// Media peers beside the first one: as many telephones as early media is worth opening for. **Policy when full**: another fork
/// is refused, and has its media peer when it answers for good.
const MOST_FORKS: usize = 8;

const ACCEPT: &str = "accept a fork's answer";

/// One media peer.
struct Branch {
    fork: Fork,
    peer: Arc<dyn MediaPeer>,
    ear: Arc<Ear>,
    is_answered: bool,
}

/// Those of one offer.
pub(super) struct Branches {
    chosen: Arc<Chosen>,
    branches: Vec<Branch>,
    heard: Fork,
}

impl Branches {
    /// Of the peer that made the offer.
    pub(super) fn new(peer: Arc<dyn MediaPeer>, ear: Arc<Ear>) -> Self {
        Branches {
            chosen: Arc::new(Chosen::new(Arc::clone(&peer))),
            branches: vec![Branch {
                fork: Fork::FIRST,
                peer,
                ear,
                is_answered: false,
            }],
            heard: Fork::FIRST,
        }
    }

    /// Whichever is heard.
    pub(super) fn chosen(&self) -> Arc<dyn MediaPeer> {
        Arc::clone(&self.chosen) as Arc<dyn MediaPeer>
    }

    /// The first one is answered by itself.
    pub(super) fn answered(&mut self) {
        if let Some(branch) = self.of(self.heard) {
            branch.is_answered = true;
        }
    }

    fn of(&mut self, fork: Fork) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|branch| branch.fork == fork)
    }

    /// From now on this one is heard, and spoken to; its video is `video`'s.
    fn hear(&mut self, fork: Fork, video: &VideoQueue) {
        let is_another = std::mem::replace(&mut self.heard, fork) != fork;
        // The one that falls silent first: two at once would be one broken stream.
        self.branches.sort_by_key(|branch| branch.fork == fork);
        for branch in &self.branches {
            if branch.fork == fork {
                if is_another {
                    video.begin_anew();
                }
                self.chosen.choose(Arc::clone(&branch.peer));
            }
            branch.ear.stand(match branch.fork == fork {
                true => Standing::Heard,
                false => Standing::Aside,
            });
        }
    }

    fn remove(&mut self, fork: Fork) -> Option<Branch> {
        let at = self.branches.iter().position(|branch| branch.fork == fork)?;
        Some(self.branches.swap_remove(at))
    }
}

impl Work {
    /// Makes a media peer for another answer to our offer.
    pub(crate) async fn accept_fork(&mut self, fork: Fork, sdp: &str, begin: Option<Begin>) -> Result<()> {
        self.open_fork(fork).await?;
        self.answer_fork(fork, sdp).await?;
        let Some(Begin { audio, video }) = begin else {
            return Ok(());
        };
        if let Some(branches) = &mut self.branches {
            branches.hear(fork, &self.video_queue);
        }
        self.start(audio, video).await
    }

    /// The 2xx is of this fork: its media peer is the call's from now on, and the others close.
    pub(crate) async fn take_fork(&mut self, fork: Fork, sdp: &str, begin: Begin) -> Result<()> {
        self.open_fork(fork).await?;
        self.answer_fork(fork, sdp).await?;
        let Some(branches) = &mut self.branches else {
            return Err(nothing_forks());
        };
        branches.hear(fork, &self.video_queue);
        if let Some(taken) = branches.of(fork) {
            taken.ear.stand(Standing::Sole);
        }
        let (taken, others): (Vec<Branch>, Vec<Branch>) =
            (branches.branches.drain(..)).partition(|branch| branch.fork == fork);
        branches.branches = taken;
        for other in others {
            close(&*other.peer).await;
        }
        // What another fork's answer agreed on may come a little later.
        self.is_agreed = false;
        self.start(begin.audio, begin.video).await
    }

    /// The media peer that answers of this fork are set in; the only one, where there is one only.
    pub(super) fn peer_of(&mut self, fork: Fork) -> Result<Arc<dyn MediaPeer>> {
        match &mut self.branches {
            Some(branches) if branches.branches.len() > 1 => {
                let branch = branches.of(fork);
                branch.map(|branch| Arc::clone(&branch.peer)).ok_or_else(|| {
                    Error::new(Fault::ApiMisuse, "use media peer", "this fork has none")
                        .advice("accept its answer first")
                })
            }
            _ => self.existing_peer(),
        }
    }

    /// Closes the media peers that nobody took.
    pub(super) async fn close_forks(&mut self) {
        let Some(branches) = self.branches.take() else {
            return;
        };
        let heard = branches.heard;
        for branch in branches.branches.iter().filter(|branch| branch.fork != heard) {
            close(&*branch.peer).await;
        }
    }

    async fn open_fork(&mut self, fork: Fork) -> Result<()> {
        let branches = self.branches.as_mut().ok_or_else(nothing_forks)?;
        if branches.of(fork).is_some() {
            return Ok(());
        }
        let Some(origin) = branches.branches.first().map(|branch| Arc::clone(&branch.peer)) else {
            return Err(nothing_forks());
        };
        if branches.branches.len() > MOST_FORKS {
            let what = format!("{MOST_FORKS} forks have a media peer already");
            return Err(Error::new(Fault::ApiMisuse, ACCEPT, what).advice("take it when it answers for good"));
        }
        let ear = Arc::new(Ear::new(
            Arc::clone(&self.queue),
            Arc::clone(&self.video_queue),
            Arc::clone(&self.events),
            Standing::Aside,
        ));
        let config = ForkConfig {
            packets: Arc::clone(&ear) as Arc<dyn PacketSink>,
            video: Some(Arc::clone(&ear) as Arc<dyn VideoPort>),
            events: Arc::clone(&ear) as Arc<dyn MediaEventSink>,
        };
        let peer = step(ACCEPT, origin.fork(config)).await?;
        // From now on that one of them fails is not the end.
        let heard = branches.heard;
        if let Some(branch) = branches.of(heard) {
            branch.ear.stand(Standing::Heard);
        }
        branches.branches.push(Branch {
            fork,
            peer,
            ear,
            is_answered: false,
        });
        Ok(())
    }

    /// Sets its answer, unless that was done; a fork that cannot take it is gone.
    async fn answer_fork(&mut self, fork: Fork, sdp: &str) -> Result<()> {
        let branches = self.branches.as_mut().ok_or_else(nothing_forks)?;
        let branch = branches.of(fork).ok_or_else(nothing_forks)?;
        if branch.is_answered {
            return Ok(());
        }
        let set = step(ACCEPT, branch.peer.set_remote(SdpKind::Answer, sdp)).await;
        branch.is_answered = set.is_ok();
        if set.is_err()
            && fork != branches.heard
            && let Some(branch) = branches.remove(fork)
        {
            if let [only] = &branches.branches[..] {
                only.ear.stand(Standing::Sole);
            }
            close(&*branch.peer).await;
        }
        set
    }
}

async fn close(peer: &dyn MediaPeer) {
    if timeout(CLOSE, peer.close()).await.is_err() {
        tracing::warn!("a fork's media peer did not close in time");
    }
}

fn nothing_forks() -> Error {
    Error::new(
        Fault::Unsupported,
        ACCEPT,
        "this session's engine makes one media peer for an offer",
    )
    .advice("offer anew within the dialog")
}
