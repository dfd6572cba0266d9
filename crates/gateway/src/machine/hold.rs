//! Who holds the call: we, by what our descriptions say; the peer, by what its last one said (RFC 3264 section 8.4).

use super::Told;
use siprtc_dialog_manager::Side;
use siprtc_sdp_translator::says_hold;

/// Whether a call is held, by either side.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// What the application wants of us. A later wish takes the place of one that is not yet fulfilled.
    wanted: bool,
    /// What our descriptions say from the next one on.
    said: bool,
    ours: bool,
    theirs: bool,
    /// What the application knows of the two.
    told: (bool, bool),
}

impl Hold {
    pub(super) fn want(&mut self, held: bool) {
        self.wanted = held;
    }

    /// Whether the peer has to be told.
    pub(super) fn is_pending(&self) -> bool {
        self.wanted != self.ours
    }

    /// The next description will say it.
    pub(super) fn say(&mut self) -> bool {
        self.said = self.wanted;
        self.said
    }

    /// An offer and its answer are set.
    pub(super) fn settle(&mut self, theirs: &str) {
        self.ours = self.said;
        self.theirs = says_hold(theirs);
    }

    /// Our offer came to nothing: what was agreed before holds. What the peer refused, and what to say now.
    pub(super) fn give_up(&mut self) -> Option<(bool, bool)> {
        let refused = self.wanted;
        (self.said != self.ours).then(|| {
            (self.wanted, self.said) = (self.ours, self.ours);
            (refused, self.ours)
        })
    }

    /// What the application does not know yet.
    pub(super) fn news(&mut self) -> [Option<Told>; 2] {
        let (ours, theirs) = std::mem::replace(&mut self.told, (self.ours, self.theirs));
        let changed = |before, now, by| {
            (before != now).then_some(match now {
                true => Told::Held(by),
                false => Told::Resumed(by),
            })
        };
        [
            changed(ours, self.ours, Side::Local),
            changed(theirs, self.theirs, Side::Remote),
        ]
    }
}
