//! The table with the media's association beside it: ICE credentials, DTLS roles and fingerprints belong to a media peer, and
//! change with nothing but an ICE restart, which comes to its end before anybody else offers.

use crate::{State, transitions};
use siprtc_gateway::table::{Do, Jsep, On, Sip, lookup};
use std::collections::BTreeSet;

/// What holds between the two media peers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Association {
    /// Nothing was agreed with this media peer.
    None,
    /// An early answer is applied, or an answer of ours is out: nobody has confirmed it.
    Early,
    /// Confirmed: from now on this media peer stays.
    Standing,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Walk {
    state: State,
    association: Association,
    /// New credentials are in the offer that is made or out.
    restarts: bool,
}

impl Walk {
    /// Whether the machine, which knows more than the table, would say this event here (`machine/hear.rs`).
    fn can_hear(&self, on: On) -> bool {
        let stands = self.association == Association::Standing;
        match on {
            On::AnsweredSame => self.association != Association::None,
            On::AnswerUnfit => self.association == Association::None,
            On::ForkFailed | On::ReRefused => !stands,
            On::OfferFailed => {
                let is_early = matches!(self.state.0, Sip::Early | Sip::EarlyOffered | Sip::EarlyOffering);
                let is_progressed = matches!(self.state.0, Sip::Progressed | Sip::ProgressedOffered);
                stands || is_early || is_progressed && self.association != Association::None
            }
            _ => true,
        }
    }

    fn on(mut self, on: On) -> Option<Self> {
        let (next, actions) = lookup(self.state.0, self.state.1, on)?;
        if matches!(on, On::AnswerApplied | On::AnswerMade) {
            self.association = self.association.max(Association::Early);
            self.restarts = false;
        }
        for action in actions {
            self.does(on, *action);
        }
        self.state = next;
        assert!(
            self.association != Association::Standing
                || !matches!(
                    next.0,
                    Sip::Idle | Sip::Inviting | Sip::Early | Sip::Progressed | Sip::Progressing
                ),
            "{self:?}"
        );
        Some(self)
    }

    fn does(&mut self, on: On, action: Do) {
        let Walk {
            association,
            restarts,
            ..
        } = *self;
        match action {
            Do::ReplaceMedia | Do::UseClassic => {
                assert_ne!(
                    association,
                    Association::Standing,
                    "{self:?} changes fingerprints on {on:?}"
                );
                self.association = Association::None;
            }
            Do::RestartIce => {
                assert_eq!(on, On::PathBroken, "{self:?} changes credentials for no reason");
                assert_eq!(association, Association::Standing, "{self:?}");
                assert!(!restarts, "{self:?} restarts twice");
                self.restarts = true;
            }
            // What the peer offers meanwhile would be answered with credentials of ours that it did not ask for.
            Do::MakeAnswer => assert!(!restarts, "{self:?} answers in the middle of its own restart"),
            Do::UndoOffer | Do::CloseMedia => self.restarts = false,
            Do::TellConfirmed => {
                assert_ne!(
                    association,
                    Association::None,
                    "{self:?} confirms nothing on {on:?}"
                );
                self.association = Association::Standing;
            }
            _ => {}
        }
    }
}

fn walks() -> BTreeSet<Walk> {
    let start = Walk {
        state: (Sip::Idle, Jsep::Stable),
        association: Association::None,
        restarts: false,
    };
    let (mut found, mut todo) = (BTreeSet::from([start]), vec![start]);
    while let Some(walk) = todo.pop() {
        for (on, _) in transitions(walk.state).filter(|(on, _)| walk.can_hear(*on)) {
            let next = walk.on(on).expect("a transition has a row");
            if found.insert(next) {
                todo.push(next);
            }
        }
    }
    found
}

#[test]
fn an_association_that_stands_keeps_its_fingerprint_and_changes_credentials_only_by_a_restart() {
    let found = walks();
    let states: BTreeSet<State> = found.iter().map(|walk| walk.state).collect();
    assert_eq!(
        states,
        crate::reachable(),
        "every state is walked with its association"
    );
    assert!(
        found
            .iter()
            .any(|walk| walk.restarts && walk.state.0 == Sip::ReInviting)
    );
    assert!(found.len() > states.len() + 10, "{}", found.len());
}

#[test]
fn a_call_is_at_rest_with_what_was_agreed_and_with_nothing_else() {
    for walk in walks() {
        if walk.state == (Sip::Confirmed, Jsep::Stable) {
            assert!(!walk.restarts, "{walk:?} forgot an offer with new credentials");
            assert_eq!(
                walk.association,
                Association::Standing,
                "{walk:?} has agreed to nothing"
            );
        }
    }
}
