//! Candidates that come after their description (RFC 8838): which of them the peer is told, and how.
//!
//! A peer that takes INFOs of the package `trickle-ice` (RFC 8840) gets them as INFOs. Any other gets them with a new offer,
//! once all are there, if no pair was found without them.

use siprtc_core::ice::Candidate;
use siprtc_dialog_manager::DialogTag;
use siprtc_media_session::Fork;
use siprtc_sdp_translator::{SdpFrag, says_trickle};

/// Most candidates of ours that come late. **Policy when full**: later ones are not told.
const MOST_LATE: usize = 64;
/// Most dialogs of a call, as many forks as the dialog manager knows. **Policy when full**: what others say is not heard.
const MOST_DIALOGS: usize = 32;

/// What a dialog's peer has said.
#[derive(Debug)]
struct Peer {
    dialog: DialogTag,
    /// It takes INFOs.
    takes: bool,
    /// It has sent a provisional answer, and our INFO tells it that the dialog stands (RFC 8840 section 4.3).
    is_told: bool,
    /// Its latest fragment, which repeats all that went before.
    heard: Option<SdpFrag>,
}

/// A description of a peer's that a media peer has, and all of that peer's candidates that it knows.
#[derive(Debug)]
struct Applied {
    fork: Fork,
    theirs: String,
    known: SdpFrag,
}

impl Applied {
    /// `None`: it says nothing of ICE.
    fn of(fork: Fork, theirs: &str) -> Option<Self> {
        Some(Applied {
            fork,
            theirs: theirs.to_owned(),
            known: SdpFrag::of(theirs).ok()?,
        })
    }

    /// What peers have said that belongs to this description and is new.
    fn hear(&mut self, peers: &mut [Peer]) -> Vec<Candidate> {
        let mut new = Vec::new();
        for peer in peers {
            // What belongs to none of the descriptions that are set comes too early, or too late.
            let Some(frag) = peer.heard.take_if(|frag| frag.belongs_to(&self.theirs)) else {
                continue;
            };
            let beyond = frag.beyond(&self.known);
            let lines = beyond.media().iter().flat_map(|media| media.candidates());
            let found: Vec<Candidate> = lines.filter_map(|line| line.parse().ok()).collect();
            self.known = self.known.with(&found, false);
            new.extend(found);
        }
        new
    }
}

/// The candidates of one call.
#[derive(Debug, Default)]
pub(super) struct Trickle {
    /// Of our latest description; `None` when it says nothing of ICE.
    ours: Option<SdpFrag>,
    /// Whether that description says that we trickle.
    is_offered: bool,
    /// Of the last description that was settled: what holds if the latest is taken back.
    settled: Option<(SdpFrag, bool)>,
    /// Found since.
    late: Vec<Candidate>,
    is_complete: bool,
    /// What the peer knows of us.
    told: Option<SdpFrag>,
    /// How many of `late` a new offer was made for already.
    offered_for: usize,
    peers: Vec<Peer>,
    /// The peer's descriptions that are set: one for each media peer.
    applied: Vec<Applied>,
    /// None of them is about to give way to another one.
    is_settled: bool,
    is_up: bool,
}

impl Trickle {
    /// The media peer found one more.
    pub(super) fn found(&mut self, candidate: Candidate) {
        if self.late.len() < MOST_LATE && !self.late.contains(&candidate) {
            self.late.push(candidate);
        }
    }

    /// The media peer has found all.
    pub(super) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// A pair was found.
    pub(super) fn is_up(&mut self) {
        self.is_up = true;
    }

    /// A description of ours goes out.
    pub(super) fn describe(&mut self, ours: &str) {
        self.ours = SdpFrag::of(ours).ok();
        self.is_offered = says_trickle(ours);
        self.told = self.ours.clone();
    }

    /// Both descriptions are set in the media peer of this fork, which is the only one from now on.
    pub(super) fn settle(&mut self, fork: Fork, theirs: &str) {
        self.settled = self.ours.clone().map(|ours| (ours, self.is_offered));
        // A fork that is taken knows what came before it answered for good.
        let known =
            (self.applied.iter()).position(|applied| applied.theirs == theirs && applied.fork == fork);
        let applied = match known {
            Some(at) => Some(self.applied.swap_remove(at)),
            None => Applied::of(fork, theirs),
        };
        self.applied = applied.into_iter().collect();
        self.is_settled = true;
    }

    /// A fork has a media peer beside the others, in which its answer is set.
    pub(super) fn settle_beside(&mut self, fork: Fork, theirs: &str) {
        self.applied.extend(Applied::of(fork, theirs));
    }

    /// Another description of the peer's is about to be set: what the peer trickles from now on may belong to it.
    pub(super) fn unsettle(&mut self) {
        self.is_settled = false;
    }

    /// The peer offers. With other credentials than before ICE begins anew (RFC 8839 section 4.4.1.1.1), and what was found for the old ones
    /// is of no use; whether a path is up is for the media peer to say.
    pub(super) fn offered(&mut self, theirs: &str) {
        // An m-line that comes or goes is no restart.
        let known = |ufrag: &str| {
            let mut all = self.applied.iter().flat_map(|applied| ufrags(&applied.theirs));
            all.any(|other| other == ufrag)
        };
        let is_restart = ufrags(theirs).next().is_some() && !ufrags(theirs).any(known);
        if is_restart && !self.applied.is_empty() {
            let is_up = self.is_up;
            self.restart();
            self.is_up = is_up;
        }
    }

    /// Our description is taken back.
    pub(super) fn undo(&mut self) {
        if let Some((ours, is_offered)) = self.settled.clone() {
            (self.told, self.ours, self.is_offered) = (Some(ours.clone()), Some(ours), is_offered);
        }
    }

    /// ICE begins anew, or the media peer does.
    pub(super) fn restart(&mut self) {
        // Nothing is told until there is a description to tell it of.
        (self.ours, self.told) = (None, None);
        self.late.clear();
        self.offered_for = 0;
        (self.is_complete, self.is_up) = (false, false);
    }

    /// The dialog manager says what a dialog's peer can.
    pub(super) fn supports(&mut self, dialog: DialogTag, takes: bool) {
        if let Some(peer) = self.peer(&dialog) {
            peer.takes = takes;
        } else if self.peers.len() < MOST_DIALOGS {
            self.peers.push(Peer {
                dialog,
                takes,
                is_told: false,
                heard: None,
            });
        }
    }

    /// An INFO came to nothing.
    pub(super) fn refused(&mut self, dialog: &DialogTag) {
        if let Some(peer) = self.peer(dialog) {
            peer.takes = false;
            // Whatever it was told, it may not know.
            self.told = self.ours.clone();
        }
    }

    /// Whether any peer takes INFOs.
    pub(super) fn is_taken(&self) -> bool {
        self.peers.iter().any(|peer| peer.takes)
    }

    /// A provisional answer made the dialog known to us; the INFO that tells its peer so, if one is owed.
    pub(super) fn rings(&mut self, dialog: &DialogTag) -> Option<String> {
        let is_offered = self.is_offered;
        let peer = self.peer(dialog)?;
        if !is_offered || !peer.takes || std::mem::replace(&mut peer.is_told, true) {
            return None;
        }
        self.info()
    }

    /// A fragment of the peer's.
    pub(super) fn hear(&mut self, dialog: &DialogTag, frag: SdpFrag) {
        if let Some(peer) = self.peer(dialog) {
            peer.heard = Some(frag);
        }
    }

    /// The peers' candidates that their media peers do not know yet.
    pub(super) fn new_candidates(&mut self) -> Vec<(Fork, Vec<Candidate>)> {
        let mut new = Vec::new();
        for applied in self.applied.iter_mut().filter(|_| self.is_settled) {
            let found = applied.hear(&mut self.peers);
            if !found.is_empty() {
                new.push((applied.fork, found));
            }
        }
        new
    }

    /// The INFO that tells the peer what it does not know yet.
    pub(super) fn news(&mut self) -> Option<String> {
        let is_news = self.is_offered && self.is_taken() && self.now() != self.told;
        is_news.then(|| self.info()).flatten()
    }

    /// Nothing but a new offer tells the peer of what was found, and nothing works without it.
    pub(super) fn takes_offer(&mut self) -> bool {
        let takes_infos = self.is_offered && self.is_taken();
        let (Some(now), Some(told)) = (self.now(), &self.told) else {
            return false;
        };
        let beyond = now.beyond(told);
        let is_new = beyond.media().iter().any(|media| !media.candidates().is_empty());
        let owed =
            self.is_complete && !self.is_up && !takes_infos && is_new && self.late.len() > self.offered_for;
        if owed {
            // Once for each, whatever becomes of the offer.
            self.offered_for = self.late.len();
        }
        owed
    }

    fn info(&mut self) -> Option<String> {
        self.told = self.now();
        self.told.as_ref().map(ToString::to_string)
    }

    fn now(&self) -> Option<SdpFrag> {
        Some(self.ours.as_ref()?.with(&self.late, self.is_complete))
    }

    fn peer(&mut self, dialog: &DialogTag) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.dialog == *dialog)
    }
}

/// The user fragments of a description (RFC 8839 section 5.4).
fn ufrags(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.lines().filter_map(|line| line.strip_prefix("a=ice-ufrag:"))
}
