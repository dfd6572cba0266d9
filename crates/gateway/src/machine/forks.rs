//! Early answers of several dialogs: each has a media peer of its own, of our one offer. Beside the table, which knows the first
//! answer and the 2xx.

use super::{Call, Output};
use crate::table::{Jsep, Sip};
use siprtc_dialog_manager::DialogTag;
use siprtc_media_session::Fork;

/// Early dialogs beside the first one that have a media peer before somebody answers for good. **Policy when full**: a later one has
/// its media peer with the 2xx.
const MOST_FORKS: usize = 7;

/// How far a fork's media peer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// Its answer is set.
    Open,
    Opening,
    /// It could not be made, or does not take the answer.
    Refused,
    /// Its answer waits for its turn.
    Waiting,
}

#[derive(Debug)]
struct Known {
    dialog: DialogTag,
    fork: Fork,
    answer: String,
    standing: Standing,
}

/// The early dialogs beside the one whose answer came first.
#[derive(Debug, Default)]
pub(super) struct Forks {
    /// Whether the engine forks, and whether the one that may take its place does.
    engine: bool,
    classic: bool,
    /// Each new early answer is heard in the place of the one before.
    follows_latest: bool,
    known: Vec<Known>,
}

impl Forks {
    pub(super) fn new(engine: bool, classic: bool, follows_latest: bool) -> Self {
        Forks {
            engine,
            classic,
            follows_latest,
            known: Vec::new(),
        }
    }

    /// The media peer and its forks are gone.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// The classic engine carries the call from now on.
    pub(super) fn become_classic(&mut self) {
        self.engine = self.classic;
        self.clear();
    }

    /// The first early dialog has been offered anew: nobody else answers our first offer any more.
    pub(super) fn close(&mut self) {
        self.engine = false;
    }

    /// Whether another dialog has, or may come to have, a media peer of our first offer: then nothing is offered anew.
    pub(super) fn is_forked(&self) -> bool {
        self.known.iter().any(|known| known.standing != Standing::Refused)
    }

    /// An early answer of a dialog that is not the first. What it says later repeats it (RFC 3261 section 13.2.1).
    fn hear(&mut self, dialog: &DialogTag, answer: &str) {
        if !self.engine || self.known.len() == MOST_FORKS || self.of(dialog).is_some() {
            return;
        }
        self.known.push(Known {
            dialog: dialog.clone(),
            fork: Fork(self.known.len() as u32 + 1),
            answer: answer.to_owned(),
            standing: Standing::Waiting,
        });
    }

    fn of(&self, dialog: &DialogTag) -> Option<&Known> {
        self.known.iter().find(|known| known.dialog == *dialog)
    }

    /// Whether there is, or is about to be, a media peer beside the first.
    pub(super) fn has_any(&self) -> bool {
        self.known
            .iter()
            .any(|known| matches!(known.standing, Standing::Open | Standing::Opening))
    }

    /// The media peer of a dialog that has answered for good, which may still have to be made, and the answer that it is for.
    /// `None`: there can be none.
    pub(super) fn take(&self, dialog: &DialogTag, sdp: Option<String>) -> Option<(Fork, String)> {
        match self.of(dialog) {
            Some(known) if known.standing == Standing::Refused => None,
            Some(known) => Some((known.fork, known.answer.clone())),
            // Behind all that have a number.
            None => Some((Fork(MOST_FORKS as u32 + 1), sdp.filter(|_| self.engine)?)),
        }
    }

    /// The next fork whose turn it is: one after the other, so that the latest is the latest.
    fn next(&mut self) -> Option<(Fork, String)> {
        if self.known.iter().any(|known| known.standing == Standing::Opening) {
            return None;
        }
        let known = (self.known.iter_mut()).find(|known| known.standing == Standing::Waiting)?;
        known.standing = Standing::Opening;
        Some((known.fork, known.answer.clone()))
    }
}

impl Call {
    /// Early answers of several dialogs have a media peer each, if the engine forks, and if the classic one does; `follows_latest`: the
    /// latest of them is heard, not the first.
    #[must_use]
    pub fn forking(self, engine: bool, classic: bool, follows_latest: bool) -> Self {
        Call {
            forks: Forks::new(engine, classic, follows_latest),
            ..self
        }
    }

    /// Whether the result of this fork's opening is awaited.
    pub(crate) fn awaits_fork(&self, fork: Fork) -> bool {
        let is_early = self.sip == Sip::Early;
        is_early
            && (self.forks.known.iter())
                .any(|known| known.fork == fork && known.standing == Standing::Opening)
    }

    /// An early answer of a dialog whose answer is not the one that is applied.
    pub(super) fn hear_fork(&mut self, dialog: &DialogTag, answer: &str) {
        let is_beside = self.early.as_ref().is_some_and(|early| early != dialog);
        if is_beside && !self.offers_anew {
            self.forks.hear(dialog, answer);
        }
    }

    /// A fork's media peer is there, or cannot be.
    pub(super) fn fork_opened(&mut self, fork: Fork, is_open: bool) {
        let opening = |known: &&mut Known| known.fork == fork && known.standing == Standing::Opening;
        let Some(known) = self.forks.known.iter_mut().find(opening) else {
            return;
        };
        known.standing = match is_open {
            true => Standing::Open,
            false => Standing::Refused,
        };
        if is_open && self.sip == Sip::Early {
            // What it has trickled meanwhile, and what it trickles before it answers for good, is its media peer's.
            self.trickle.settle_beside(fork, &known.answer);
        }
    }

    /// Once the first answer is applied, the others have their turn.
    pub(super) fn open_forks(&mut self) {
        if (self.sip, self.jsep) != (Sip::Early, Jsep::Stable) || self.offers_anew {
            return;
        }
        let (is_heard, offer) = (self.forks.follows_latest, self.ours.clone());
        if let Some((fork, answer)) = self.forks.next() {
            self.outputs.push_back(Output::AcceptFork {
                fork,
                offer: offer.unwrap_or_default(),
                answer,
                is_heard,
            });
        }
    }
}
