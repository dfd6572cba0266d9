//! What every SIP stack must do: a table of scenarios, run against real stacks on loopback.
//!
//! A file of scenarios begins with its table, a macro that hands its rows to another one: `sip_scenarios_of!` makes
//! [`Scenario`]s of them, `sip_tests_of!` makes tests. A row is
//!
//! ```text
//! the_function Pair|Alone|Undisturbed [networks of every pair | more of a stack with itself] [features it needs]
//!     "RFC and section" "What happens, in one sentence.";
//! ```

mod bare;
mod basics;
mod burst;
mod certificates;
mod edges;
mod features;
mod flows;
mod forks;
mod hostile;
mod invites;
mod line;
mod listeners;
mod losses;
mod lossy;
mod matrix;
mod pair;
mod panics;
mod raw;
mod report;
mod runner;
mod scenario;
mod streams;
mod tests;
mod timers;
mod tls;
mod torture;
mod websocket;
mod words;

use pair::*;

pub use matrix::{AT_ONCE, ATTEMPTS, Filter, Matrix, Ran, ScenarioFacts, StackFacts};
pub use runner::{Outcome, attempt, check};
pub use scenario::{Kind, Network, Run, Scenario, Setting, scenario, scenarios};

/// Hands the table of every file to the macro `$then`.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_scenarios {
    ($then:ident) => {
        $crate::sip_basics!($then {});
        $crate::sip_words!($then {});
        $crate::sip_invites!($then {});
        $crate::sip_forks!($then {});
        $crate::sip_edges!($then {});
        $crate::sip_timers!($then {});
        $crate::sip_raw!($then {});
        $crate::sip_lossy!($then {});
        $crate::sip_streams!($then {});
        $crate::sip_losses!($then {});
        $crate::sip_flows!($then {});
        $crate::sip_listeners!($then {});
        $crate::sip_tls!($then {});
        $crate::sip_websocket!($then {});
        $crate::sip_features!($then {});
        $crate::sip_torture!($then {});
        $crate::sip_hostile!($then {});
        $crate::sip_burst!($then {});
    };
}

/// The table of every file: the same list as in [`sip_scenarios!`](crate::sip_scenarios).
fn tables() -> Vec<&'static [Scenario]> {
    vec![
        crate::sip_basics!(sip_scenarios_of {}),
        crate::sip_words!(sip_scenarios_of {}),
        crate::sip_invites!(sip_scenarios_of {}),
        crate::sip_forks!(sip_scenarios_of {}),
        crate::sip_edges!(sip_scenarios_of {}),
        crate::sip_timers!(sip_scenarios_of {}),
        crate::sip_raw!(sip_scenarios_of {}),
        crate::sip_lossy!(sip_scenarios_of {}),
        crate::sip_streams!(sip_scenarios_of {}),
        crate::sip_losses!(sip_scenarios_of {}),
        crate::sip_flows!(sip_scenarios_of {}),
        crate::sip_listeners!(sip_scenarios_of {}),
        crate::sip_tls!(sip_scenarios_of {}),
        crate::sip_websocket!(sip_scenarios_of {}),
        crate::sip_features!(sip_scenarios_of {}),
        crate::sip_torture!(sip_scenarios_of {}),
        crate::sip_hostile!(sip_scenarios_of {}),
        crate::sip_burst!(sip_scenarios_of {}),
    ]
}
