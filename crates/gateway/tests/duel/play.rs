//! The two applications, and what must hold when they have done all that they wanted.

use crate::world::{Side, Weather, World, others};
use rand::Rng;
use siprtc_core::CallId;
use siprtc_core::media::{Codec, Direction};
use siprtc_core::sip::Uri;
use siprtc_dialog_manager::machine::Input as DialogInput;
use siprtc_dialog_manager::{self as dialog, ReferTo};
use siprtc_gateway::machine::{Call, Input, Told};
use siprtc_gateway::table::{Jsep, Sip};
use siprtc_media_session::MediaChange;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Everything that was ordered has come about by then: the last order, a telephone's patience, a transaction's, and more.
const QUIET: Duration = Duration::from_secs(500);
/// A call's orders come within this time of its beginning.
const BUSY: u64 = 60_000;

#[derive(Clone, Copy, Debug)]
enum Order {
    AcceptTransfer(Side, CallId),
    Answer(Side, CallId),
    AnswerEarly(Side, CallId),
    /// Has the first call's peer talk to the second one's.
    Attended(Side, CallId, CallId),
    Change(Side, CallId),
    Dial(Side),
    Hangup(Side, CallId),
    Hold(Side, CallId, bool),
    PathBroken(Side, CallId),
    /// A telephone that offers nothing: calls, asks for an offer in its call, hangs up.
    PhoneAsks(usize),
    PhoneDials(Side),
    PhoneEnds(usize),
    Quiet,
    Refuse(Side, CallId),
    RefuseTransfer(Side, CallId),
    Transfer(Side, CallId),
}

/// What an application knows of one call.
#[derive(Debug, Default)]
struct Known {
    /// The last wish to hold or to resume that was taken and not refused since.
    wish: Option<bool>,
    held: bool,
    /// Other codecs are wanted, and nothing was said of them since.
    changing: bool,
    /// We asked the peer to call somebody else, and heard no final word.
    transferring: bool,
    confirmed: bool,
    /// The call whose place it takes.
    replaces: Option<CallId>,
    /// Another call has taken its place.
    is_replaced: bool,
    ended: u32,
}

/// What came of it all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) established: u32,
    pub(crate) ended: u32,
    pub(crate) changed: u32,
    pub(crate) held: u32,
    pub(crate) transferred: u32,
    /// Calls that took another's place.
    pub(crate) replaced: u32,
    /// Calls that rang at several places, and were answered at one.
    pub(crate) forked: u32,
    /// Calls that stood with media before their answer.
    pub(crate) early: u32,
    /// Calls of the telephone's that stood at the end.
    pub(crate) offerless: u32,
    pub(crate) states: BTreeSet<(Sip, Jsep)>,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.established += other.established;
        self.ended += other.ended;
        self.changed += other.changed;
        self.held += other.held;
        self.transferred += other.transferred;
        self.replaced += other.replaced;
        self.forked += other.forked;
        self.early += other.early;
        self.offerless += other.offerless;
        self.states.extend(other.states);
    }
}

pub(crate) struct Play {
    seed: u64,
    world: World<Order>,
    known: BTreeMap<(u8, CallId), Known>,
    /// Calls of ours that ring at several places.
    forking: BTreeSet<CallId>,
    /// Calls that we answered early.
    early: BTreeSet<CallId>,
    tally: Tally,
    quiet: bool,
}

impl Play {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Play {
            seed,
            world: World::new(seed, weather).logging(),
            known: BTreeMap::new(),
            forking: BTreeSet::new(),
            early: BTreeSet::new(),
            tally: Tally::default(),
            quiet: false,
        }
    }

    pub(crate) fn play(mut self) -> Tally {
        let played = catch_unwind(AssertUnwindSafe(|| self.run()));
        if let Err(panic) = played {
            eprintln!(
                "{}seed {} fails: SEED={} plays it again",
                self.world.log(),
                self.seed,
                self.seed
            );
            resume_unwind(panic);
        }
        self.tally.states = std::mem::take(&mut self.world.states);
        self.tally
    }

    fn run(&mut self) {
        for _ in 0..self.chance(1..=4) {
            let side = Side::ALL[self.chance(0..=2) as usize];
            let wait = self.within(20_000);
            let order = match self.chance(0..=4) {
                0 => Order::PhoneDials(side),
                _ => Order::Dial(side),
            };
            self.world.later(wait, order);
        }
        self.world.later(QUIET, Order::Quiet);
        for _ in 0..200_000 {
            match self.world.step() {
                None => return self.check_end(),
                Some(Some(order)) => self.obey(order),
                Some(None) => {}
            }
            while let Some((side, id, told)) = self.world.told.pop_front() {
                self.hear(side, id, told);
            }
        }
        panic!("it never ends");
    }

    fn chance(&mut self, of: std::ops::RangeInclusive<u32>) -> u32 {
        self.world.random.random_range(of)
    }

    fn within(&mut self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.world.random.random_range(0..=milliseconds))
    }

    fn later(&mut self, milliseconds: u64, order: Order) {
        // Who is about to leave has no new ideas.
        if !self.quiet {
            let wait = self.within(milliseconds);
            self.world.later(wait, order);
        }
    }

    fn known(&mut self, side: Side, id: CallId) -> &mut Known {
        self.known.entry((side as u8, id)).or_default()
    }

    fn obey(&mut self, order: Order) {
        self.world.say(|| format!("order {order:?}"));
        match order {
            Order::AcceptTransfer(side, id) => _ = self.world.tell(side, id, Input::AcceptTransfer),
            Order::Answer(side, id) => self.answer(side, id),
            Order::AnswerEarly(side, id) => self.answer_early(side, id),
            Order::Attended(side, id, other) => self.transfer(side, id, ReferTo::Call(other)),
            Order::Change(side, id) => {
                let change = MediaChange {
                    codecs: Some(vec![Codec::Pcma]),
                    ..MediaChange::default()
                };
                if self.world.tell(side, id, Input::Change(change)) {
                    self.known(side, id).changing = true;
                }
            }
            Order::Dial(side) => self.dial(side),
            Order::Hangup(side, id) => _ = self.world.tell(side, id, Input::Hangup),
            Order::Hold(side, id, held) => {
                if self.world.tell(side, id, Input::Hold(held)) {
                    self.known(side, id).wish = Some(held);
                }
            }
            Order::PathBroken(side, id) => _ = self.world.tell(side, id, Input::PathBroken),
            Order::PhoneAsks(line) => self.world.phone_asks(line),
            Order::PhoneDials(side) => {
                let line = self.world.phone_dials(side);
                for _ in 0..self.chance(0..=3) {
                    self.later(BUSY, Order::PhoneAsks(line));
                }
                if self.chance(0..=3) == 0 {
                    let soon = if self.chance(0..=1) == 0 { 8_000 } else { BUSY };
                    self.later(soon, Order::PhoneEnds(line));
                }
            }
            Order::PhoneEnds(line) => self.world.phone_ends(line),
            Order::Quiet => self.quiet(),
            Order::Refuse(side, id) => _ = self.world.tell(side, id, Input::Refuse { status: 486 }),
            Order::RefuseTransfer(side, id) => {
                self.world.tell(side, id, Input::RefuseTransfer { status: 603 });
            }
            Order::Transfer(side, id) => {
                // The peer is asked to call us, or anybody.
                let to = Side::ALL[self.chance(0..=2) as usize].uri();
                self.transfer(side, id, ReferTo::Uri(to.as_sip().unwrap().clone()));
            }
        }
    }

    fn dial(&mut self, side: Side) {
        let other = Side::ALL[(side as usize + self.chance(1..=2) as usize) % 3];
        let (falls_back, kind) = (self.chance(0..=1) == 1, self.chance(0..=3));
        let is_forked = self.chance(0..=2) == 0;
        let target: Uri = if is_forked { others() } else { other.uri() };
        let call = |id| {
            let call = Call::new(id);
            let call = if falls_back { call.falling_back() } else { call };
            match kind {
                0 => call,
                1 => call.waiting_for_answer(),
                kind => call.forking(true, true, kind == 2),
            }
        };
        let id = self.world.dial(side, target, call);
        self.known(side, id);
        if is_forked {
            self.forking.insert(id);
        }
        if self.chance(0..=5) == 0 {
            self.later(8_000, Order::Hangup(side, id));
        }
    }

    /// Media before the answer, which may never come; where there can be none, it is answered.
    fn answer_early(&mut self, side: Side, id: CallId) {
        if self.world.tell(side, id, Input::AnswerEarly) {
            self.early.insert(id);
            self.hold_soon(side, id);
        }
        match self.chance(0..=9) {
            0 => {}
            1 => self.later(6_000, Order::Refuse(side, id)),
            _ => self.later(6_000, Order::Answer(side, id)),
        }
    }

    /// One whose media runs already may be answered with another plan.
    fn answer(&mut self, side: Side, id: CallId) {
        let otherwise = self.early.contains(&id) && self.chance(0..=1) == 0;
        let change = MediaChange {
            direction: Some(Direction::SendRecv),
            ..MediaChange::default()
        };
        match otherwise {
            true if self.world.tell(side, id, Input::AnswerWith(change)) => {
                self.known(side, id).changing = true;
            }
            true => {}
            false => _ = self.world.tell(side, id, Input::Answer),
        }
    }

    /// Some hold a call before it is answered.
    fn hold_soon(&mut self, side: Side, id: CallId) {
        for held in [true, false] {
            if self.chance(0..=2) == 0 {
                self.later(6_000, Order::Hold(side, id, held));
            }
        }
    }

    fn transfer(&mut self, side: Side, id: CallId, to: ReferTo) {
        let refer = DialogInput::Refer(dialog::Refer { call: id, to });
        if self.world.command(side, refer).is_ok() {
            self.known(side, id).transferring = true;
        }
    }

    fn hear(&mut self, side: Side, id: CallId, told: Told) {
        assert_eq!(
            self.known(side, id).ended,
            0,
            "{side:?} {id} is told {told:?} after its end"
        );
        match told {
            Told::Confirmed => {
                assert!(!self.known(side, id).confirmed, "{id} is confirmed twice");
                let known = self.known(side, id);
                known.confirmed = true;
                let replaces = known.replaces;
                self.tally.established += 1;
                if let Some(replaced) = replaces {
                    self.tally.replaced += 1;
                    self.known(side, replaced).is_replaced = true;
                }
                self.tally.forked += u32::from(self.forking.contains(&id));
                self.tally.early += u32::from(self.early.contains(&id));
                self.plan(side, id);
            }
            Told::Ended(_) => {
                self.tally.ended += 1;
                let known = self.known(side, id);
                known.ended += 1;
                known.transferring = false;
            }
            Told::Held(dialog::Side::Local) => {
                self.tally.held += 1;
                self.known(side, id).held = true;
            }
            Told::HoldRefused(_) => self.known(side, id).wish = None,
            Told::MediaChanged => {
                self.tally.changed += 1;
                self.known(side, id).changing = false;
            }
            Told::MediaRefused => self.known(side, id).changing = false,
            // Nobody is asked.
            Told::Incoming { replaces, .. } if replaces.is_some() => self.known(side, id).replaces = replaces,
            Told::Incoming { .. } => match self.chance(0..=9) {
                0 => self.later(6_000, Order::Refuse(side, id)),
                1 => {}
                2..=5 => self.later(6_000, Order::AnswerEarly(side, id)),
                _ => self.later(6_000, Order::Answer(side, id)),
            },
            Told::Progress {
                early_media: true, ..
            } => self.hold_soon(side, id),
            Told::Resumed(dialog::Side::Local) => self.known(side, id).held = false,
            Told::TransferRefused(_) => self.known(side, id).transferring = false,
            Told::Transferred => {
                self.tally.transferred += 1;
                self.known(side, id).transferring = false;
            }
            Told::TransferWanted(_) => match self.chance(0..=9) {
                0 => {}
                1 | 2 => self.later(5_000, Order::RefuseTransfer(side, id)),
                _ => self.later(5_000, Order::AcceptTransfer(side, id)),
            },
            _ => {}
        }
    }

    /// A call stands: what shall be done with it?
    fn plan(&mut self, side: Side, id: CallId) {
        for _ in 0..self.chance(0..=4) {
            let order = match self.chance(0..=11) {
                0 => Order::PathBroken(side, id),
                10 | 11 => match self.other_call(side, id) {
                    Some(other) => Order::Attended(side, id, other),
                    None => Order::Hold(side, id, false),
                },
                1 => Order::Transfer(side, id),
                2 => Order::Change(side, id),
                // Some at the same time as the peer's: glare.
                number => Order::Hold(side, id, number % 2 == 0),
            };
            let busy = if self.chance(0..=2) == 0 { 500 } else { BUSY };
            self.later(busy, order);
        }
        if self.chance(0..=2) == 0 {
            self.later(BUSY * 2, Order::Hangup(side, id));
        }
    }

    /// Another call that stands, with somebody else.
    fn other_call(&mut self, side: Side, id: CallId) -> Option<CallId> {
        let peer = self.world.partner(side, id)?;
        let calls: Vec<CallId> = self.world.calls(side).map(|(id, _)| id).collect();
        let stands = |other: &CallId| {
            self.known
                .get(&(side as u8, *other))
                .is_some_and(|known| known.confirmed)
        };
        let is_elsewhere = |other: &CallId| {
            self.world
                .partner(side, *other)
                .is_some_and(|other| other != peer)
        };
        calls.into_iter().filter(stands).find(is_elsewhere)
    }

    /// Nothing is on its way any more: what stands must stand on both sides, and every order is done.
    fn quiet(&mut self) {
        self.quiet = true;
        let mut agreed: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let mut alive = Vec::new();
        // An end that nobody could hear of has another end that knows of none.
        let mut is_ending = self.world.has_unheard_farewell();
        for side in Side::ALL {
            for (id, life) in self.world.calls(side) {
                // A session that could not be refreshed ends when its time is over, which may be now: then its other end may still stand.
                if matches!(life.call.state().0, Sip::Ended | Sip::Ending) {
                    is_ending = true;
                    continue;
                }
                alive.push((side, id));
                let known = self.known.get(&(side as u8, id));
                assert_eq!(
                    life.call.state(),
                    (Sip::Confirmed, Jsep::Stable),
                    "{side:?} {id} has come to rest"
                );
                let known = known.expect("a call that stands was told");
                assert!(
                    !known.is_replaced,
                    "{side:?} {id} stands, and another call has its place"
                );
                assert!(
                    !known.transferring,
                    "{side:?} {id}: nobody says what became of the transfer"
                );
                assert!(
                    !known.changing,
                    "{side:?} {id}: nobody says what became of the change"
                );
                if let Some(wish) = known.wish {
                    assert_eq!(
                        known.held, wish,
                        "{side:?} {id}: hold was ordered and not refused"
                    );
                }
                let media = life.media.as_ref().expect("a call that stands has media");
                assert_eq!(media.held, known.held, "{side:?} {id}");
                let both = media.agreed.as_ref().expect("a call that stands has agreed");
                *agreed.entry(both.numbers()).or_default() += 1;
            }
        }
        for (_, numbers) in self.world.phone_stands() {
            self.tally.offerless += 1;
            *agreed.entry(numbers).or_default() += 1;
        }
        for (numbers, count) in agreed {
            assert!(
                count == 2 || is_ending,
                "one side alone believes in offer and answer {numbers:?}"
            );
        }
        for (side, id) in alive {
            let taken = self.world.tell(side, id, Input::Hangup);
            assert!(taken, "{side:?} {id} cannot be hung up");
        }
        for line in 0..self.world.phone_lines() {
            self.world.phone_ends(line);
        }
    }

    fn check_end(&self) {
        assert!(self.quiet);
        assert_eq!(self.world.leftovers(), Vec::<String>::new());
        for ((side, id), known) in &self.known {
            assert_eq!(known.ended, 1, "side {side}, {id}: {known:?}");
        }
    }
}
