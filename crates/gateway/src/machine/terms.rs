//! How the application wants the media to be (held or not, with which codecs, with which video), what our descriptions say of it,
//! and what was agreed; and whether the peer holds the call, by what its last description said (RFC 3264 section 8.4).

use super::Told;
use siprtc_dialog_manager::Side;
use siprtc_media_session::{MediaChange, VideoPlan};
use siprtc_sdp_translator::says_hold;
use std::sync::Arc;

/// What one description says of the media.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// We hold the call.
    pub held: bool,
    /// What differs from the call's beginning.
    pub change: Option<Arc<MediaChange>>,
}

impl Terms {
    fn has_changed_from(&self, other: &Terms) -> bool {
        match (&self.change, &other.change) {
            (Some(one), Some(other)) => !Arc::ptr_eq(one, other),
            (one, other) => one.is_some() != other.is_some(),
        }
    }

    fn differs_from(&self, other: &Terms) -> bool {
        self.held != other.held || self.has_changed_from(other)
    }
}

type Video = Option<Option<Arc<VideoPlan>>>;

fn is_same_video(one: &Video, other: &Video) -> bool {
    match (one, other) {
        (Some(Some(one)), Some(Some(other))) => Arc::ptr_eq(one, other),
        (Some(None), Some(None)) | (None, None) => true,
        _ => false,
    }
}

/// Between the application's wishes and what both sides know.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// What the application wants. A later wish takes the place of one that is not yet fulfilled.
    wanted: Terms,
    /// What our descriptions say from the next one on.
    said: Terms,
    ours: Terms,
    theirs: bool,
    /// What the application knows of the two.
    told: (Terms, bool),
}

impl Hold {
    pub(super) fn want_held(&mut self, held: bool) {
        self.wanted.held = held;
    }

    pub(super) fn want_change(&mut self, change: MediaChange) {
        let before = self.wanted.change.as_deref().cloned().unwrap_or_default();
        self.wanted.change = Some(Arc::new(MediaChange {
            codecs: change.codecs.or(before.codecs),
            direction: change.direction.or(before.direction),
            video: change.video.or(before.video),
        }));
    }

    /// Whether the peer has to be told.
    pub(super) fn is_pending(&self) -> bool {
        self.wanted.differs_from(&self.ours)
    }

    /// The next description will say it.
    pub(super) fn say(&mut self) -> Terms {
        self.said = self.wanted.clone();
        self.said.clone()
    }

    /// What our descriptions have to say again: they said what nobody wants any more, and it was never agreed on (the peer's offer went
    /// first, and came to nothing).
    pub(super) fn take_back(&mut self) -> Option<Terms> {
        if self.is_pending() || !self.said.differs_from(&self.ours) {
            return None;
        }
        self.said = self.ours.clone();
        Some(self.ours.clone())
    }

    /// An offer and its answer are set.
    pub(super) fn settle(&mut self, theirs: &str) {
        self.ours = self.said.clone();
        self.theirs = says_hold(theirs);
    }

    /// Our offer came to nothing: what was agreed before holds. What to say now, and what the peer refused.
    pub(super) fn give_up(&mut self) -> Option<(Terms, Vec<Told>)> {
        if !self.said.differs_from(&self.ours) {
            return None;
        }
        let mut refused = Vec::new();
        if self.said.held != self.ours.held {
            refused.push(Told::HoldRefused(self.said.held));
        }
        if self.said.has_changed_from(&self.ours) {
            refused.push(Told::MediaRefused);
        }
        self.wanted = self.without_refused();
        self.said = self.ours.clone();
        Some((self.ours.clone(), refused))
    }

    /// What is still wanted when what we said is refused: what came after it.
    fn without_refused(&self) -> Terms {
        let (wanted, said, ours) = (
            self.wanted.change.as_deref(),
            self.said.change.as_deref(),
            &self.ours,
        );
        let held = match self.wanted.held == self.said.held {
            true => ours.held,
            false => self.wanted.held,
        };
        let Some(wanted) = wanted.filter(|_| self.wanted.has_changed_from(&self.said)) else {
            let change = ours.change.clone();
            return Terms { held, change };
        };
        let (said, agreed) = (said.cloned().unwrap_or_default(), ours.change.as_deref());
        let agreed = agreed.cloned().unwrap_or_default();
        let mut change = wanted.clone();
        if change.codecs == said.codecs {
            change.codecs = agreed.codecs;
        }
        if change.direction == said.direction {
            change.direction = agreed.direction;
        }
        if is_same_video(&change.video, &said.video) {
            change.video = agreed.video;
        }
        Terms {
            held,
            change: Some(Arc::new(change)),
        }
    }

    /// What the application does not know yet.
    pub(super) fn news(&mut self) -> Vec<Told> {
        let (ours, theirs) = std::mem::replace(&mut self.told, (self.ours.clone(), self.theirs));
        let mut news = Vec::new();
        for (before, now, by) in [
            (ours.held, self.ours.held, Side::Local),
            (theirs, self.theirs, Side::Remote),
        ] {
            match (before, now) {
                (false, true) => news.push(Told::Held(by)),
                (true, false) => news.push(Told::Resumed(by)),
                _ => {}
            }
        }
        if self.ours.has_changed_from(&ours) {
            news.push(Told::MediaChanged);
        }
        news
    }
}
