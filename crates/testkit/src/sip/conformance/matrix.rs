//! Every scenario, on every stack and on every ordered pair of stacks.

use super::runner::capability;
use super::{Kind, Network, Outcome, Scenario, Setting, attempt, scenarios};
use parking_lot::Mutex;
use serde::Serialize;
use siprtc_core::sip::{Keepalive, SipStackFactory};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many scenarios wait for their timers at once, on two cores.
pub const AT_ONCE: usize = 16;

/// How often a run may come out wrong before it counts: a machine that stands still for half a second fails one of
/// thousands.
pub const ATTEMPTS: u32 = 3;

/// Which runs of all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in which this stack takes part.
    pub stack: Option<String>,
    /// Only those of scenarios whose name contains this.
    pub scenario: Option<String>,
}

/// What came of every run.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    /// The stacks that took part, in the order given.
    pub stacks: Vec<StackFacts>,
    /// The scenarios that were run, in the order of their tables.
    pub scenarios: Vec<ScenarioFacts>,
    /// The runs: by scenario, network, Alice's stack, Bob's stack.
    pub runs: Vec<Ran>,
}

/// A stack, as it declares itself.
#[derive(Clone, Debug, Serialize)]
pub struct StackFacts {
    /// The word that selects it.
    pub name: String,
    /// Transports that it listens on and connects with.
    pub transports: Vec<String>,
    /// Keepalives that it sends.
    pub keepalives: Vec<String>,
    /// What it does not do, and why.
    pub gaps: Vec<(String, String)>,
}

/// A scenario, without its code.
#[derive(Clone, Debug, Serialize)]
pub struct ScenarioFacts {
    /// See [`Scenario::name`].
    pub name: &'static str,
    /// See [`Scenario::about`].
    pub about: &'static str,
    /// See [`Scenario::section`].
    pub section: &'static str,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Ran {
    /// The scenario's name.
    pub scenario: &'static str,
    /// What it ran over.
    pub network: Network,
    /// The stack that asked, or the only one.
    pub alice: String,
    /// The stack that answered; the same as `alice` in a scenario with one stack.
    pub bob: String,
    /// How often it was run: once, and again while it came out as it should not.
    pub attempts: u32,
    /// What came of it the last time.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Ran {
    /// Between stacks of different kinds.
    pub fn is_crossed(&self) -> bool {
        self.alice != self.bob
    }
}

impl Matrix {
    /// Runs everything that `filter` lets through, `at_once` at a time; those that must not be disturbed come last,
    /// one by one. Blocks until all are done. `done` is called after each with their number and the number of all.
    ///
    /// Scenarios measure real timers: what comes out wrong is run again by itself, up to [`ATTEMPTS`] times in all.
    ///
    /// A scenario runs over all its networks with a stack alone or with itself, and over [`Scenario::crossed`] with two
    /// different ones.
    pub fn run(
        stacks: &[Arc<dyn SipStackFactory>],
        filter: &Filter,
        at_once: usize,
        done: &(dyn Fn(usize, usize) + Sync),
    ) -> Matrix {
        let plan = plan(stacks, filter);
        let outcomes: Vec<Mutex<Option<Outcome>>> = plan.iter().map(|_| Mutex::default()).collect();
        let count = AtomicUsize::new(0);
        let work = |undisturbed: bool, threads: usize| {
            let todo = plan
                .iter()
                .zip(&outcomes)
                .filter(|((scenario, _), _)| (scenario.kind == Kind::Undisturbed) == undisturbed);
            let todo = Mutex::new(todo);
            std::thread::scope(|scope| {
                for _ in 0..threads.max(1) {
                    scope.spawn(|| {
                        loop {
                            let Some(((scenario, on), outcome)) = todo.lock().next() else {
                                break;
                            };
                            *outcome.lock() = Some(attempt(scenario, on));
                            done(count.fetch_add(1, Ordering::Relaxed) + 1, plan.len());
                        }
                    });
                }
            });
        };
        work(false, at_once);
        work(true, 1);
        let ran = |((scenario, on), outcome): (&(&'static Scenario, Setting), Mutex<Option<Outcome>>)| {
            let mut outcome = outcome.into_inner().expect("BUG: a run was left out");
            let mut attempts = 1;
            while !outcome.is_as_it_should_be() && attempts < ATTEMPTS {
                outcome = attempt(scenario, on);
                attempts += 1;
            }
            Ran {
                scenario: scenario.name,
                network: on.network,
                alice: on.alice.name().to_owned(),
                bob: on.bob.name().to_owned(),
                attempts,
                outcome,
            }
        };
        let runs: Vec<Ran> = plan.iter().zip(outcomes).map(ran).collect();
        let took_part = |name: &str| runs.iter().any(|ran| ran.alice == name || ran.bob == name);
        Matrix {
            stacks: stacks
                .iter()
                .filter(|stack| took_part(stack.name()))
                .map(facts)
                .collect(),
            scenarios: scenarios()
                .iter()
                .filter(|scenario| runs.iter().any(|ran| ran.scenario == scenario.name))
                .map(|scenario| ScenarioFacts {
                    name: scenario.name,
                    about: scenario.about,
                    section: scenario.section,
                })
                .collect(),
            runs,
        }
    }

    /// The runs that came out as they should only when they were run again.
    pub fn flaky(&self) -> impl Iterator<Item = &Ran> {
        self.runs
            .iter()
            .filter(|ran| ran.attempts > 1 && ran.outcome.is_as_it_should_be())
    }

    /// The runs that came out as they should not.
    pub fn wrong(&self) -> impl Iterator<Item = &Ran> {
        self.runs.iter().filter(|ran| !ran.outcome.is_as_it_should_be())
    }
}

fn plan(stacks: &[Arc<dyn SipStackFactory>], filter: &Filter) -> Vec<(&'static Scenario, Setting)> {
    let wanted = |name: &str| filter.stack.as_deref().is_none_or(|only| only == name);
    let mut plan = Vec::new();
    for scenario in scenarios() {
        let part = filter.scenario.as_deref().unwrap_or_default();
        if !scenario.name.contains(part) {
            continue;
        }
        for &network in scenario.networks {
            for (alice, bob) in stacks
                .iter()
                .flat_map(|alice| stacks.iter().map(move |bob| (alice, bob)))
            {
                let own = alice.name() == bob.name();
                let crossed = scenario.kind == Kind::Pair && scenario.crossed.contains(&network);
                if (own || crossed) && (wanted(alice.name()) || wanted(bob.name())) {
                    let (alice, bob) = (alice.clone(), bob.clone());
                    plan.push((scenario, Setting { alice, bob, network }));
                }
            }
        }
    }
    plan
}

fn facts(stack: &Arc<dyn SipStackFactory>) -> StackFacts {
    let capability = capability(stack);
    let keepalive = |kind: &Keepalive| match kind {
        Keepalive::Crlf => "CRLF",
        Keepalive::Stun => "STUN",
        _ => "another",
    };
    StackFacts {
        name: stack.name().to_owned(),
        transports: capability.transports.iter().map(ToString::to_string).collect(),
        keepalives: capability
            .keepalives
            .iter()
            .map(|kind| keepalive(kind).to_owned())
            .collect(),
        gaps: capability
            .gaps
            .iter()
            .map(|gap| (gap.feature.to_string(), gap.why.to_owned()))
            .collect(),
    }
}
