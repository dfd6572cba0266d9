//! What holds on every way through the table.

use crate::nothing::{NOTHING, is_never, reasons};
use crate::{State, reachable, transitions};
use siprtc_gateway::table::{Do, FALLBACK, Jsep, On, Sip, TABLE, lookup, patience};
use std::collections::{BTreeSet, HashSet};

fn has_own_row((sip, jsep): State, on: On) -> bool {
    TABLE
        .iter()
        .any(|row| (row.sip, row.jsep, row.on) == (sip, jsep, on))
}

#[test]
fn every_event_in_every_state_has_a_row_or_one_reason_to_have_none() {
    for state in reachable() {
        for &on in On::ALL {
            let count = reasons(state, on).count();
            if has_own_row(state, on) {
                assert_eq!(
                    count, 0,
                    "{state:?} on {on:?} has a row and a reason to have none"
                );
            } else if lookup(state.0, state.1, on).is_none() {
                assert_eq!(count, 1, "{state:?} on {on:?} has no row, and {count} reasons");
            }
        }
    }
}

#[test]
fn every_reason_is_needed() {
    let states = reachable();
    for nothing in NOTHING {
        for &on in nothing.on {
            let covers = |&(sip, jsep): &State| (nothing.at)(sip, jsep) && !has_own_row((sip, jsep), on);
            assert!(
                states.iter().any(covers),
                "{on:?} at {} explains nothing",
                nothing.at_words
            );
        }
    }
}

#[test]
fn no_pair_of_states_has_two_rows_for_one_event() {
    let mut keys = HashSet::new();
    for row in TABLE {
        assert!(keys.insert((row.sip, row.jsep, row.on)), "{row:?} is there twice");
    }
    let mut events = HashSet::new();
    for (on, ..) in FALLBACK {
        assert!(events.insert(on), "{on:?} falls back twice");
    }
}

#[test]
fn every_row_can_happen_and_every_word_is_used() {
    let states = reachable();
    for row in TABLE {
        assert!(states.contains(&(row.sip, row.jsep)), "no way leads to {row:?}");
        assert!(!is_never((row.sip, row.jsep), row.on), "{row:?} cannot happen");
    }
    let actions: HashSet<Do> = TABLE.iter().flat_map(|row| row.actions.iter().copied()).collect();
    assert!(Do::ALL.iter().all(|action| actions.contains(action)));
    assert!(
        Sip::ALL
            .iter()
            .all(|sip| states.iter().any(|(state, _)| state == sip))
    );
    assert!(
        Jsep::ALL
            .iter()
            .all(|jsep| states.iter().any(|(_, state)| state == jsep))
    );
    let used =
        |on: &On| TABLE.iter().any(|row| row.on == *on) || FALLBACK.iter().any(|(event, ..)| event == on);
    assert!(On::ALL.iter().all(used));
}

#[test]
fn the_words_are_in_the_order_of_the_alphabet() {
    fn names<W: std::fmt::Debug>(all: &[W]) -> Vec<String> {
        all.iter().map(|word| format!("{word:?}")).collect()
    }
    for names in [names(Sip::ALL), names(Jsep::ALL), names(On::ALL), names(Do::ALL)] {
        assert!(names.is_sorted(), "{names:?}");
    }
}

/// The media peer as JSEP sees it; an illegal step panics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Peer {
    Answering,
    Applying,
    Closed,
    HaveLocalOffer,
    Offering,
    Stable,
}

impl Peer {
    /// The state in which the table believes it to be.
    fn of(jsep: Jsep) -> Self {
        match jsep {
            Jsep::ApplyingAnswer => Peer::Applying,
            Jsep::Closed | Jsep::Closing => Peer::Closed,
            Jsep::HaveLocalOffer => Peer::HaveLocalOffer,
            Jsep::MakingAnswer => Peer::Answering,
            Jsep::MakingOffer => Peer::Offering,
            Jsep::Screening | Jsep::Stable => Peer::Stable,
        }
    }

    fn hears(self, on: On) -> Self {
        match (self, on) {
            (Peer::Answering, On::AnswerMade) | (Peer::Applying, On::AnswerApplied) => Peer::Stable,
            // A peer that cannot answer rolls the offer back itself.
            (Peer::Answering, On::OfferFailed) => Peer::Stable,
            (Peer::Offering, On::OfferMade) => Peer::HaveLocalOffer,
            (peer, _) => peer,
        }
    }

    fn does(self, action: Do) -> Self {
        match (action, self) {
            (Do::ApplyAnswer, Peer::HaveLocalOffer) => Peer::Applying,
            (Do::CloseMedia, _) => Peer::Closed,
            (Do::MakeAnswer, Peer::Stable) => Peer::Answering,
            (Do::MakeOffer, Peer::Stable) => Peer::Offering,
            (Do::ReplaceMedia | Do::UseClassic, _) => Peer::Stable,
            // Another media peer of the same offer, or this one with its answer.
            (Do::TakeFork, Peer::Applying | Peer::Stable) => Peer::Applying,
            // How far the offer came when it failed nobody knows.
            (Do::UndoOffer, Peer::HaveLocalOffer | Peer::Offering | Peer::Stable) => Peer::Stable,
            (Do::ApplyAnswer | Do::MakeAnswer | Do::MakeOffer | Do::TakeFork | Do::UndoOffer, _) => {
                panic!("{action:?} is illegal in {self:?}")
            }
            _ => self,
        }
    }
}

#[test]
fn the_media_peer_is_only_asked_for_what_jsep_allows_and_is_where_the_table_believes_it() {
    for state in reachable() {
        for (on, next) in transitions(state) {
            let (_, actions) = lookup(state.0, state.1, on).unwrap();
            let peer = actions
                .iter()
                .fold(Peer::of(state.1).hears(on), |peer, action| peer.does(*action));
            assert_eq!(peer, Peer::of(next.1), "{state:?} on {on:?} with {actions:?}");
        }
    }
}

#[test]
fn an_offer_while_one_is_pending_is_answered_491_and_changes_nothing() {
    let mut pending = 0;
    for state in reachable() {
        for on in [On::Offered, On::OfferedOfferless] {
            let Some((next, actions)) = lookup(state.0, state.1, on) else {
                continue;
            };
            if state.1 == Jsep::Stable {
                assert!(
                    matches!(actions, [Do::MakeAnswer | Do::MakeOffer]),
                    "{state:?}: {actions:?}"
                );
            } else {
                assert_eq!((next, actions), (state, &[Do::RefusePending][..]));
                pending += 1;
            }
        }
    }
    assert!(pending >= 6);
}

#[test]
fn a_message_goes_out_only_where_its_dialog_wants_it() {
    for state in reachable() {
        for (on, _) in transitions(state) {
            for action in lookup(state.0, state.1, on).unwrap().1 {
                let fits = match action {
                    // The 200 that follows a 183 goes out while nothing else is negotiated.
                    Do::Accept => {
                        matches!(state, (Sip::Incoming, _) | (Sip::Progressed, Jsep::Stable))
                    }
                    Do::RefuseMedia | Do::RefuseWithStatus => matches!(
                        state.0,
                        Sip::Incoming | Sip::Progressed | Sip::ProgressedOffered | Sip::Progressing
                    ),
                    Do::AcceptOffer | Do::RefuseOffer => {
                        matches!(
                            state.0,
                            Sip::EarlyOffered | Sip::ProgressedOffered | Sip::ReOffered
                        )
                    }
                    Do::HangUp => !matches!(state.0, Sip::Ending | Sip::Ended | Sip::Idle),
                    Do::Invite => state.0 == Sip::Idle && on == On::OfferMade,
                    Do::RefusePending => matches!(on, On::Offered | On::OfferedOfferless),
                    Do::ReInvite => matches!(on, On::OfferMade | On::AcceptFailed),
                    Do::Progress => state.0 == Sip::Progressing,
                    Do::Ring => matches!(state.0, Sip::Idle | Sip::Incoming),
                    _ => true,
                };
                assert!(fits, "{action:?} in {state:?} on {on:?}");
            }
        }
    }
}

/// Every result that a state waits for is of a step that runs: it was begun on the way in, or runs on.
#[test]
fn no_state_waits_for_the_result_of_a_step_that_was_dropped() {
    let starts = |jsep| -> &[Do] {
        match jsep {
            Jsep::ApplyingAnswer => &[Do::ApplyAnswer, Do::TakeFork],
            Jsep::MakingAnswer => &[Do::MakeAnswer],
            Jsep::MakingOffer => &[Do::MakeOffer],
            Jsep::Screening => &[Do::Screen],
            _ => &[],
        }
    };
    let mut entered = 0;
    for state in reachable() {
        for (on, next) in transitions(state) {
            if starts(next.1).is_empty() {
                continue;
            }
            let begins: Vec<&Do> = lookup(state.0, state.1, on)
                .unwrap()
                .1
                .iter()
                .filter(|action| Jsep::ALL.iter().any(|jsep| starts(*jsep).contains(action)))
                .collect();
            match begins[..] {
                // Nothing new makes the running step's result stale.
                [] => assert_eq!(state.1, next.1, "{state:?} on {on:?} waits for nothing"),
                [begun] => assert!(starts(next.1).contains(begun), "{state:?} on {on:?}"),
                _ => panic!("{state:?} on {on:?} begins two steps"),
            }
            entered += 1;
        }
    }
    assert!(entered > 10);
}

/// An offer of a call that is not answered is the first one, in a 183, or one of two that have agreed already.
#[test]
fn the_first_answer_of_a_callee_is_said_once() {
    let says = |state: State, on: On| {
        let (_, actions) = lookup(state.0, state.1, on).unwrap();
        actions
            .iter()
            .filter(|action| matches!(action, Do::Progress))
            .count()
    };
    let mut said: BTreeSet<(State, usize)> = BTreeSet::from([((Sip::Idle, Jsep::Stable), 0)]);
    let mut todo: Vec<(State, usize)> = said.iter().copied().collect();
    while let Some((state, count)) = todo.pop() {
        for (on, next) in transitions(state) {
            let count = count + says(state, on);
            assert!(count <= 1, "a second 183 in {state:?} on {on:?}");
            if said.insert((next, count)) {
                todo.push((next, count));
            }
        }
    }
    assert!(said.contains(&((Sip::Confirmed, Jsep::Stable), 1)));
}

/// A call's state with what it has said and done so far.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Trail {
    state: State,
    closes: u8,
    hangups: u8,
    ended: u8,
    forgets: u8,
}

impl Trail {
    fn start() -> Self {
        Trail {
            state: (Sip::Idle, Jsep::Stable),
            closes: 0,
            hangups: 0,
            ended: 0,
            forgets: 0,
        }
    }

    fn on(mut self, on: On) -> Option<Self> {
        let (next, actions) = lookup(self.state.0, self.state.1, on)?;
        for action in actions {
            assert_eq!(
                self.forgets, 0,
                "{self:?} does {action:?} on {on:?} after it was forgotten"
            );
            match action {
                Do::CloseMedia => self.closes += 1,
                Do::Forget => self.forgets += 1,
                Do::HangUp | Do::RefuseMedia | Do::RefuseWithStatus => self.hangups += 1,
                Do::TellEnded => self.ended += 1,
                _ => {}
            }
        }
        self.state = next;
        Some(self)
    }

    fn all() -> BTreeSet<Self> {
        let mut found = BTreeSet::from([Trail::start()]);
        let mut todo = vec![Trail::start()];
        while let Some(trail) = todo.pop() {
            for (on, _) in transitions(trail.state) {
                let next = trail.on(on).unwrap();
                if found.insert(next) {
                    todo.push(next);
                }
            }
        }
        found
    }
}

#[test]
fn on_every_way_a_call_ends_once_closes_its_media_once_and_hangs_up_at_most_once() {
    for trail in Trail::all() {
        let Trail {
            state,
            closes,
            hangups,
            ended,
            forgets,
        } = trail;
        let over = state == (Sip::Ended, Jsep::Closed);
        assert!(hangups <= 1, "{trail:?}");
        assert_eq!((ended, forgets), if over { (1, 1) } else { (0, 0) }, "{trail:?}");
        assert_eq!(
            closes,
            u8::from(matches!(state.0, Sip::Ending | Sip::Ended)),
            "{trail:?}"
        );
    }
}

#[test]
fn from_every_state_every_end_leads_to_the_end_in_whatever_order_its_parts_come() {
    let over = |trail: &Trail| trail.state == (Sip::Ended, Jsep::Closed);
    let mut ends = 0;
    for trail in Trail::all()
        .into_iter()
        .filter(|trail| trail.closes == 0 && trail.state.0 != Sip::Idle)
    {
        for on in [
            On::Hangup,
            On::MediaError,
            On::MediaLost,
            On::CommandFailed,
            On::DialogEnded,
        ] {
            let ending = trail.on(on).unwrap();
            let dialog = [On::DialogEnded, On::TookTooLong];
            for dialog in dialog {
                for order in [[On::MediaClosed, dialog], [dialog, On::MediaClosed]] {
                    let end = order
                        .iter()
                        .fold(ending, |trail, on| trail.on(*on).unwrap_or(trail));
                    assert!(
                        over(&end),
                        "{trail:?} on {on:?} then {order:?} is left in {end:?}"
                    );
                    ends += 1;
                }
            }
            // Nobody helps: neither the peer nor the media peer says anything any more.
            let alone = ending.on(On::TookTooLong).unwrap();
            assert!(
                over(&alone) || over(&alone.on(On::TookTooLong).unwrap()),
                "{trail:?} on {on:?}"
            );
        }
    }
    assert!(ends > 300, "{ends}");
}

#[test]
fn a_call_that_never_left_the_house_ends_without_a_message() {
    let dialled = Trail::start().on(On::Dial).unwrap();
    for on in [On::Hangup, On::MediaError, On::MediaLost] {
        let ended = dialled
            .on(on)
            .and_then(|trail| trail.on(On::MediaClosed))
            .unwrap();
        assert_eq!((ended.hangups, ended.ended), (0, 1));
    }
}

#[test]
fn every_state_that_nobody_else_limits_has_a_patience_and_a_row_for_its_end() {
    for (sip, jsep) in reachable() {
        assert_eq!(
            patience(sip, jsep).is_some(),
            lookup(sip, jsep, On::TookTooLong).is_some() || (sip, jsep) == (Sip::Ending, Jsep::Closed),
            "{sip:?}/{jsep:?}"
        );
    }
    assert!(lookup(Sip::Ending, Jsep::Closed, On::TookTooLong).is_some());
}
