//! What deciding costs: the gateway's table and machine, and whole calls of two endpoints without I/O and with media that is none.

use crate::duel::world::{Side, Weather, World};
use crate::process;
use siprtc_benches::figure::Figure;
use siprtc_core::{CallId, Cause, Error, Fault, Result};
use siprtc_dialog_manager::{DialogEventKind as K, DialogTag, Side as End};
use siprtc_gateway::machine::{Call, Epoch, Input, Output, Step, Told};
use siprtc_gateway::table::{Jsep, On, Sip, lookup};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Calls that are set up and hung up,
const CALLS: usize = 10_000;
/// so many times; the median counts.
const TIMES: usize = 5;
/// Of them at the same time.
const LANES: usize = 64;
/// Calls that are held and resumed,
const HELD: usize = 1_000;
/// each after this long again,
const TURN: Duration = Duration::from_secs(60);
/// for so many hours.
const HOURS: u32 = 10;
/// A machine's steps: lives of a call, with eight events each.
const LIVES: usize = 100_000;

const WIRE: Weather = Weather {
    loss: 0.0,
    copies: 0.0,
    delay: 40,
    failures: 0.0,
    step: 20,
    extensions: false,
};

pub(crate) fn run() -> Result<Vec<Figure>> {
    let mut figures = vec![lookups(), steps()?];
    figures.extend(set_up()?);
    figures.extend(hold()?);
    Ok(figures)
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Every event in every pair of states, also in those that no call can be in.
fn lookups() -> Figure {
    const ROUNDS: usize = 200;
    let begun = now();
    for _ in 0..ROUNDS {
        for &sip in Sip::ALL {
            for &jsep in Jsep::ALL {
                for &on in On::ALL {
                    black_box(lookup(black_box(sip), jsep, on));
                }
            }
        }
    }
    let count = ROUNDS * Sip::ALL.len() * Jsep::ALL.len() * On::ALL.len();
    let each = begun.elapsed().as_secs_f64() * 1e6 / count as f64;
    let note = format!("{count} of them, all events in all pairs of states; most find no row");
    Figure::new("calls", "a row of the table is found", each, "µs")
        .at_most(1.0)
        .note(note)
}

/// A call that is dialled, answered and hung up: each event into the machine, and its outputs out of it.
fn steps() -> Result<Figure> {
    let target: siprtc_core::sip::Uri = "sip:bob@example.com".parse()?;
    let dialog = || DialogTag("b".to_owned());
    let start = now();
    let mut events = 0;
    for _ in 0..LIVES {
        let mut call = Call::new(CallId::fresh());
        let mut epoch = Epoch::default();
        let mut give = |input: Input| {
            call.handle(start, input);
            while let Some(output) = call.poll() {
                if let Output::MakeOffer { epoch: new } | Output::ApplyAnswer { epoch: new, .. } = &output {
                    epoch = *new;
                }
                black_box(output);
            }
            events += 1;
            epoch
        };
        let epoch = give(Input::Dial {
            target: target.clone(),
        });
        give(Input::Step(epoch, Ok(Step::OfferMade("ours".to_owned()))));
        give(Input::Dialog(K::Ringing {
            dialog: dialog(),
            status: 180,
            sdp: None,
            takes_offers: false,
        }));
        let epoch = give(Input::Dialog(K::Answered {
            dialog: dialog(),
            sdp: Some("theirs".to_owned()),
        }));
        give(Input::Step(epoch, Ok(Step::AnswerApplied)));
        give(Input::Hangup);
        give(Input::MediaClosed(None));
        give(Input::Dialog(K::Ended {
            cause: Cause::Bye,
            by: End::Local,
            status: None,
            reason: None,
            contacts: Vec::new(),
            retry_after: None,
        }));
        if call.state() != (Sip::Ended, Jsep::Closed) {
            return Err(wrong("a call did not end"));
        }
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(events);
    let note = "dial to end, eight events a call, with the data that they bring and all that comes of them";
    Ok(Figure::new("calls", "a step of a call's machine", each, "µs")
        .at_most(1.0)
        .note(note))
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Hangup(CallId),
    Hold(CallId, bool),
}

fn wrong(what: &str) -> Error {
    Error::new(Fault::Backend, "measure", what.to_owned()).advice("the gateway's tests say more")
}

fn set_up() -> Result<Vec<Figure>> {
    let (mut times, mut confirmed) = (Vec::new(), 0);
    for _ in 0..TIMES {
        let (each, of_them) = set_up_once()?;
        times.push(each);
        confirmed += of_them;
    }
    times.sort_by(f64::total_cmp);
    let each = times[TIMES / 2];
    let note = format!(
        "{:.0} calls a second on one core: {CALLS} calls, {LANES} at a time, both ends: gateways' machines, dialogs, transactions, \
         messages printed and parsed; no sockets, no actors, no media; the median of {TIMES} runs, of which the best took {:.0} µs",
        1e6 / each,
        times[0]
    );
    Ok(vec![
        Figure::new("calls", "a call set up and hung up, processor time", each, "µs")
            .at_most(200.0)
            .note(note),
        Figure::new(
            "calls",
            "of them not confirmed",
            (TIMES * CALLS - confirmed) as f64,
            "",
        )
        .at_most(0.0),
    ])
}

/// Processor time of a call in µs, and how many were confirmed.
fn set_up_once() -> Result<(f64, usize)> {
    let mut world: World<Order> = World::new(1, WIRE);
    let (mut dialled, mut ended, mut confirmed) = (0, 0, 0);
    let begun = process::processor_ms();
    while ended < 2 * CALLS {
        while dialled < CALLS && world.calls(Side::Alice).count() < LANES {
            world.dial(Side::Alice, Side::Bob.uri(), Call::new);
            dialled += 1;
        }
        match world.step() {
            Some(Some(Order::Hangup(id))) => _ = world.tell(Side::Alice, id, Input::Hangup),
            Some(_) => {}
            None => return Err(wrong("calls did not end")),
        }
        while let Some((side, id, told)) = world.told.pop_front() {
            match told {
                Told::Incoming { .. } => _ = world.tell(side, id, Input::Answer),
                Told::Confirmed if side == Side::Alice => {
                    confirmed += 1;
                    world.later(Duration::from_millis(100), Order::Hangup(id));
                }
                Told::Ended(_) => ended += 1,
                _ => {}
            }
        }
    }
    let each = (process::processor_ms() - begun) * 1000.0 / CALLS as f64;
    Ok((each, confirmed))
}

/// Some calls that are held and resumed for hours of the world's own time.
fn hold() -> Result<Vec<Figure>> {
    let mut world: World<Order> = World::new(2, WIRE);
    for _ in 0..HELD {
        world.dial(Side::Alice, Side::Bob.uri(), Call::new);
    }
    let (mut turns, mut hour) = (0_u64, 0);
    let (mut marks, begun) = (Vec::new(), process::processor_ms());
    while hour <= HOURS {
        match world.step() {
            Some(Some(Order::Hold(id, held))) => {
                if !world.tell(Side::Alice, id, Input::Hold(held)) {
                    return Err(wrong("a call is gone"));
                }
                world.later(TURN, Order::Hold(id, !held));
            }
            Some(_) => {}
            None => return Err(wrong("the calls are over")),
        }
        while let Some((side, id, told)) = world.told.pop_front() {
            match told {
                Told::Incoming { .. } => _ = world.tell(side, id, Input::Answer),
                Told::Confirmed if side == Side::Alice => world.later(TURN, Order::Hold(id, true)),
                Told::Held(End::Local) | Told::Resumed(End::Local) => turns += 1,
                Told::Ended(_) | Told::HoldRefused(_) => {
                    return Err(wrong("a call is over, or was not held"));
                }
                _ => {}
            }
        }
        if world.since_start() >= Duration::from_secs(3600) * hour {
            marks.push(process::resident_kb());
            hour += 1;
        }
    }
    let (first, last) = (
        marks.get(1).copied().unwrap_or(0.0),
        marks.last().copied().unwrap_or(0.0),
    );
    let shown: Vec<String> = marks.iter().map(|mark| format!("{mark:.0}")).collect();
    let each = (process::processor_ms() - begun) * 1000.0 / turns.max(1) as f64;
    let note = format!(
        "{HELD} calls, held and resumed in turns {turns} times in {HOURS} hours of their own; resident each hour: {} kB",
        shown.join(", ")
    );
    Ok(vec![
        Figure::new(
            "calls",
            "memory a held call, growth after the first hour",
            (last - first) / HELD as f64,
            "kB",
        )
        .at_most(1.0)
        .note(note),
        Figure::new(
            "calls",
            "held or resumed, processor time of both ends",
            each,
            "µs",
        ),
    ])
}
