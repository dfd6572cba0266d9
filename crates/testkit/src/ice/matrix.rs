//! Every ordered pair of agents behind every pair of NATs, with and without relays.

use super::run::{Behind, Outcome, PathKind, Trial, expected, run};
use super::suite::{check, checks};
use crate::net::Link;
use parking_lot::Mutex;
use serde::Serialize;
use siprtc_core::ice::{IceAgentFactory, IceFeature};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// One trial and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The agent that offers and controls.
    pub alice: &'static str,
    /// The agent that answers.
    pub bob: &'static str,
    /// Where Alice is.
    pub alice_behind: Behind,
    /// Where Bob is.
    pub bob_behind: Behind,
    /// Both may use a relay.
    pub relays: bool,
    /// The best path that exists.
    pub expected: Option<PathKind>,
    /// What came of it; the error's words when an agent refused to go on.
    pub outcome: Result<Outcome, String>,
}

impl Cell {
    /// Whether a path was found where there is one, and none where there is none.
    pub fn is_as_it_should_be(&self) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|outcome| outcome.path.is_some() == self.expected.is_some())
    }
}

/// The matrix.
#[derive(Clone, Debug, Serialize)]
pub struct IceMatrix {
    /// By Alice's agent, Bob's agent, Alice's place, Bob's place, relays.
    pub cells: Vec<Cell>,
    /// The agents' own checks that came out wrong: agent, check, why.
    pub failed_checks: Vec<(&'static str, &'static str, String)>,
    /// What the agents declare: agent, feature, why.
    pub gaps: Vec<(&'static str, String, &'static str)>,
    agents: Vec<&'static str>,
}

impl IceMatrix {
    /// Runs all of it in virtual time. `done` is called after each trial with its number and the number of all.
    pub fn run(agents: &[Arc<dyn IceAgentFactory>], done: &(dyn Fn(usize, usize) + Sync)) -> Self {
        let mut plan = Vec::new();
        for alice in agents {
            for bob in agents {
                for alice_behind in Behind::ALL {
                    for bob_behind in Behind::ALL {
                        for relays in [false, true] {
                            plan.push((alice, bob, alice_behind, bob_behind, relays));
                        }
                    }
                }
            }
        }
        let cells: Vec<Mutex<Option<Cell>>> = plan.iter().map(|_| Mutex::default()).collect();
        let todo = Mutex::new(plan.iter().zip(&cells).enumerate());
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    loop {
                        let Some((number, ((alice, bob, alice_behind, bob_behind, relays), cell))) =
                            todo.lock().next()
                        else {
                            break;
                        };
                        *cell.lock() = Some(attempt(alice, bob, *alice_behind, *bob_behind, *relays));
                        done(number + 1, plan.len());
                    }
                });
            }
        });
        let failed = |agent: &Arc<dyn IceAgentFactory>| {
            let name = agent.name();
            let wrong = checks()
                .iter()
                .filter_map(|one| Some((one, check(agent, one).err()?)));
            wrong.map(|(one, why)| (name, one.name, why)).collect::<Vec<_>>()
        };
        let gaps = |agent: &Arc<dyn IceAgentFactory>| {
            let name = agent.name();
            let gaps = agent.capability().gaps.iter();
            gaps.map(|gap| (name, gap.feature.to_string(), gap.why))
                .collect::<Vec<_>>()
        };
        IceMatrix {
            cells: cells
                .into_iter()
                .map(|cell| cell.into_inner().expect("BUG: a trial was left out"))
                .collect(),
            failed_checks: agents.iter().flat_map(failed).collect(),
            gaps: agents.iter().flat_map(gaps).collect(),
            agents: agents.iter().map(|agent| agent.name()).collect(),
        }
    }

    /// The trials that did not end as well as they could.
    pub fn wrong(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| !cell.is_as_it_should_be())
    }

    /// Whether every agent does what it should, alone and with every other.
    pub fn is_as_it_should_be(&self) -> bool {
        self.failed_checks.is_empty() && self.wrong().next().is_none()
    }

    fn of_pair<'a>(&'a self, alice: &'a str, bob: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells
            .iter()
            .filter(move |cell| cell.alice == alice && cell.bob == bob)
    }

    fn pairs(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.agents
            .iter()
            .flat_map(|alice| self.agents.iter().map(move |bob| (*alice, *bob)))
    }

    /// For a terminal: a line for each pair of agents, and what went wrong.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (alice, bob) in self.pairs() {
            let summary = Summary::of(self.of_pair(alice, bob));
            let _ = writeln!(
                text,
                "{alice:>4} -> {bob:<4} {:>3} direct, {:>2} relayed, {:>2} impossible, {:>2} wrong; first pair {:>4} ms, {:>3} datagrams (medians)",
                summary.direct,
                summary.relayed,
                summary.impossible,
                summary.wrong,
                summary.first_pair.as_millis(),
                summary.datagrams
            );
        }
        for (agent, name, why) in &self.failed_checks {
            let _ = writeln!(text, "{agent}: {name}: {why}");
        }
        for cell in self.wrong() {
            let _ = writeln!(
                text,
                "{} behind {} -> {} behind {}, relays {}: {:?} was expected, and came {:?}",
                cell.alice,
                cell.alice_behind,
                cell.bob,
                cell.bob_behind,
                cell.relays,
                cell.expected,
                cell.outcome
            );
        }
        text
    }

    /// docs/ice.md. Nothing in it depends on chance: times and datagrams, which do a little, are in the program's output.
    pub fn to_markdown(&self) -> String {
        let mut page = HEAD.to_owned();
        page.push_str("\n## What they declare\n\n");
        for (agent, feature, why) in &self.gaps {
            let _ = writeln!(page, "* {agent} lacks {feature}: {}.", why.trim_end_matches('.'));
        }
        for relays in [false, true] {
            let _ = write!(
                page,
                "\n## With{} relays\n\n| offerer's NAT | answerer's NAT |",
                if relays { "" } else { "out" }
            );
            for (alice, bob) in self.pairs() {
                let _ = write!(page, " {alice} → {bob} |");
            }
            let _ = writeln!(page, "\n|---|---|{}", "---|".repeat(self.pairs().count()));
            for alice_behind in Behind::ALL {
                for bob_behind in Behind::ALL {
                    let _ = write!(page, "| {alice_behind} | {bob_behind} |");
                    for (alice, bob) in self.pairs() {
                        let cell = self.of_pair(alice, bob).find(|cell| {
                            (cell.alice_behind, cell.bob_behind, cell.relays)
                                == (alice_behind, bob_behind, relays)
                        });
                        let _ = write!(page, " {} |", cell.map_or(String::new(), words));
                    }
                    page.push('\n');
                }
            }
        }
        page
    }
}

const HEAD: &str = "\
# ICE agents

<!-- Generated: `UPDATE=1 cargo nextest run --release -p siprtc-integration-tests --test ice`. Do not edit. -->

`siprtc ice` runs every ordered pair of the ICE agents behind every pair of NATs (RFC 4787), with and without relays, over
a network in virtual time (`crates/testkit`), and prints this with times and numbers of datagrams. The offerer controls.

What is run are the bare agents (`core::ice::IceAgent`): each has one host candidate, its address as a server sees it, and a
relay's, all IPv4, all known to the peer at once. What `nat-agent` adds to every agent over real sockets is not in this table but
in `crates/nat-agent/tests/paths`: gathering, TURN, the use of a pair before its nomination, consent, role conflicts, shared
ports, mDNS names.

* **direct**, **relayed**: the best path that exists, found; a datagram went through both ways.
* *relayed*: by a relay, although a direct path exists: the agent that controls had nominated it by then, and stayed.
* **no**: there is no path, and none was found.
* **FAIL**: there is a path and none was found, or the other way round.
";

fn words(cell: &Cell) -> String {
    let word = |path: Option<PathKind>| match path {
        Some(PathKind::Direct) => "direct",
        Some(PathKind::Relayed) => "relayed",
        None => "no",
    };
    match &cell.outcome {
        Ok(outcome) if outcome.path == cell.expected => word(outcome.path).to_owned(),
        Ok(outcome) if cell.is_as_it_should_be() => format!("*{}*", word(outcome.path)),
        Ok(outcome) => format!("FAIL ({})", word(outcome.path)),
        Err(_) => "FAIL (error)".to_owned(),
    }
}

struct Summary {
    direct: usize,
    relayed: usize,
    impossible: usize,
    wrong: usize,
    first_pair: Duration,
    datagrams: u64,
}

impl Summary {
    fn of<'a>(cells: impl Iterator<Item = &'a Cell>) -> Self {
        let mut summary = Summary {
            direct: 0,
            relayed: 0,
            impossible: 0,
            wrong: 0,
            first_pair: Duration::ZERO,
            datagrams: 0,
        };
        let (mut times, mut datagrams) = (Vec::new(), Vec::new());
        for cell in cells {
            let Ok(outcome) = &cell.outcome else {
                summary.wrong += 1;
                continue;
            };
            times.extend(outcome.first_pair);
            if outcome.path.is_some() {
                datagrams.push(outcome.datagrams);
            }
            match outcome.path {
                _ if !cell.is_as_it_should_be() => summary.wrong += 1,
                Some(PathKind::Direct) => summary.direct += 1,
                Some(PathKind::Relayed) => summary.relayed += 1,
                None => summary.impossible += 1,
            }
        }
        times.sort_unstable();
        datagrams.sort_unstable();
        summary.first_pair = times.get(times.len() / 2).copied().unwrap_or_default();
        summary.datagrams = datagrams.get(datagrams.len() / 2).copied().unwrap_or_default();
        summary
    }
}

fn attempt(
    alice: &Arc<dyn IceAgentFactory>,
    bob: &Arc<dyn IceAgentFactory>,
    alice_behind: Behind,
    bob_behind: Behind,
    relays: bool,
) -> Cell {
    let trial = Trial {
        alice: alice_behind,
        bob: bob_behind,
        relays,
        link: Link::default(),
        seed: 8445,
    };
    let takes_relays = |agent: &Arc<dyn IceAgentFactory>| agent.capability().gap(IceFeature::Relay).is_none();
    Cell {
        alice: alice.name(),
        bob: bob.name(),
        alice_behind,
        bob_behind,
        relays,
        expected: expected(&trial, takes_relays(alice), takes_relays(bob)),
        outcome: run(alice.as_ref(), bob.as_ref(), &trial).map_err(|error| error.to_string()),
    }
}
