//! Tables against each other: calls, dialogs and transactions of three endpoints, a proxy that forks between them, a telephone that
//! offers nothing, a wire that loses, copies, delays and reorders, and applications that do what comes to their minds.
//!
//! A seed that fails prints itself and the last messages; `SEED=17 cargo test -p siprtc-gateway --test duel` plays it again, and
//! `SEEDS=100000` plays more of them.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod media;
mod play;
mod world;

use play::Play;
use siprtc_gateway::table::{Jsep, Sip};
use world::Weather;

/// Copies and stragglers come, but within the timers that are there for them.
const ROUGH: Weather = Weather {
    loss: 0.2,
    copies: 0.2,
    delay: 400,
    failures: 0.02,
    step: 300,
    extensions: true,
};

const FINE: Weather = Weather {
    loss: 0.0,
    copies: 0.0,
    delay: 40,
    failures: 0.0,
    step: 100,
    extensions: true,
};

/// Nothing is sure: half of all messages are lost, and steps take longer than transactions have patience.
const AWFUL: Weather = Weather {
    loss: 0.5,
    copies: 0.4,
    delay: 3_000,
    failures: 0.1,
    step: 5_000,
    extensions: true,
};

fn play(weather: Weather, count: u64) -> play::Tally {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(count),
    };
    let mut tally = play::Tally::default();
    for seed in seeds {
        tally += Play::new(seed, weather).play();
    }
    tally
}

#[test]
fn over_a_fine_wire_every_order_comes_about_and_both_ends_agree() {
    let tally = play(FINE, 300);
    assert!(
        tally.established > 300 && tally.held > 100 && tally.changed > 20 && tally.transferred > 20,
        "{tally:?}"
    );
    assert!(
        tally.forked > 20 && tally.early > 20 && tally.offerless > 10 && tally.replaced > 5,
        "{tally:?}"
    );
    let seen = |state| assert!(tally.states.contains(&state), "{state:?} did not come about");
    [
        (Sip::Progressed, Jsep::Stable),
        (Sip::Progressed, Jsep::HaveLocalOffer),
        (Sip::Progressed, Jsep::ApplyingAnswer),
        (Sip::ProgressedOffered, Jsep::MakingAnswer),
        (Sip::EarlyOffered, Jsep::MakingAnswer),
        (Sip::EarlyOffering, Jsep::HaveLocalOffer),
        (Sip::ReOffered, Jsep::HaveLocalOffer),
    ]
    .into_iter()
    .for_each(seen);
}

#[test]
fn over_a_rough_wire_every_order_has_its_outcome_and_both_ends_agree() {
    let tally = play(ROUGH, 300);
    assert!(tally.established > 200 && tally.held > 50, "{tally:?}");
    let seen = |state| assert!(tally.states.contains(&state), "{state:?} did not come about");
    // Glare, an end that waits for its media, and one that waits for its dialog.
    [
        (Sip::ReInviting, Jsep::Stable),
        (Sip::Ended, Jsep::Closing),
        (Sip::Ending, Jsep::Closed),
    ]
    .into_iter()
    .for_each(seen);
}

#[test]
fn over_an_awful_wire_every_call_still_ends_once_and_leaves_nothing() {
    let tally = play(AWFUL, 200);
    assert!(tally.ended > 400, "{tally:?}");
}
