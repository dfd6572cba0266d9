//! A [`Matrix`] for people: docs/stacks.md, and the program's output. Nothing in it depends on time or chance.

use super::{Matrix, Network, Outcome, Ran};
use std::collections::BTreeMap;
use std::fmt::Write;

const HEAD: &str = "\
# SIP stacks

<!-- Generated: `UPDATE=1 cargo nextest run --release -p siprtc-integration-tests --test stacks`. Do not edit. -->

`sip.stack` in the configuration selects one of these. Each runs the same scenarios (`crates/testkit`), alone or with
itself over every transport, and with every other stack, in both roles. `siprtc stacks` runs them and prints this.

* **pass**: it does what the scenario asks for.
* **declared**: it fails, and its capability says so: a transport or a feature that it does not have.
* **FAIL**: it fails, or passes although it declares that it cannot. The test that writes this page fails then, too.
";

impl Matrix {
    /// docs/stacks.md; `figures` is the part that the benches write, markdown below a heading of level 2.
    pub fn to_markdown(&self, figures: Option<&str>) -> String {
        let mut page = HEAD.to_owned();
        self.stacks_in_markdown(&mut page);
        if let Some(figures) = figures {
            let _ = write!(page, "\n## Figures\n\n{}\n", figures.trim());
        }
        page.push_str("\n## Each stack alone and with itself\n\n");
        page.push_str(&self.own_table());
        if self.stacks.len() > 1 {
            page.push_str(
                "\n## Every pair of stacks\n\nThe stack of a row asks, that of a column answers.\n\n",
            );
            page.push_str(&self.pairs_table());
        }
        page.push_str("\n## Failed, as declared\n");
        page.push_str(&self.declared());
        page.push_str("\n## Failed\n\n");
        page.push_str(&self.failures());
        page
    }

    /// For a terminal.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for stack in &self.stacks {
            let gaps: Vec<&str> = stack.gaps.iter().map(|(feature, _)| feature.as_str()).collect();
            let gaps = if gaps.is_empty() {
                "nothing".to_owned()
            } else {
                gaps.join(", ")
            };
            let transports = stack.transports.join(" ");
            let _ = writeln!(
                text,
                "{}: {transports}; declares that it lacks: {gaps}",
                stack.name
            );
        }
        let _ = write!(text, "\n{}", aligned(&self.own_rows()));
        if self.stacks.len() > 1 {
            let _ = write!(
                text,
                "\nThe stack of a row asks, that of a column answers.\n\n{}",
                aligned(&self.pairs_rows())
            );
        }
        let _ = write!(text, "\n{}", self.failures());
        text
    }

    fn stacks_in_markdown(&self, page: &mut String) {
        let head = ["stack", "transports", "keepalives", "declared gaps"]
            .map(str::to_owned)
            .to_vec();
        let or_none = |list: String| if list.is_empty() { "none".to_owned() } else { list };
        let rows = self.stacks.iter().map(|stack| {
            vec![
                stack.name.clone(),
                or_none(stack.transports.join(", ")),
                or_none(stack.keepalives.join(", ")),
                stack.gaps.len().to_string(),
            ]
        });
        page.push_str("\n## What they declare\n\n");
        page.push_str(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
        for stack in self.stacks.iter().filter(|stack| !stack.gaps.is_empty()) {
            let _ = write!(page, "\n{} lacks\n\n", stack.name);
            for (feature, why) in &stack.gaps {
                let _ = writeln!(page, "* {feature}: {}.", why.trim_end_matches('.'));
            }
        }
    }

    fn own_table(&self) -> String {
        table(&self.own_rows())
    }

    fn own_rows(&self) -> Vec<Vec<String>> {
        let mut head = vec!["scenario".to_owned(), "asked by".to_owned()];
        head.extend(self.stacks.iter().map(|stack| stack.name.clone()));
        let rows = self.scenarios.iter().map(|scenario| {
            let own = |name: &str| {
                let runs = self.runs.iter();
                let runs: Vec<&Ran> = runs
                    .filter(|ran| ran.scenario == scenario.name && ran.alice == name && ran.bob == name)
                    .collect();
                cell(&runs)
            };
            let mut row = vec![scenario.name.replace('_', " "), scenario.section.to_owned()];
            row.extend(self.stacks.iter().map(|stack| own(&stack.name)));
            row
        });
        std::iter::once(head).chain(rows).collect()
    }

    fn pairs_table(&self) -> String {
        table(&self.pairs_rows())
    }

    fn pairs_rows(&self) -> Vec<Vec<String>> {
        let mut head = vec!["asks \\ answers".to_owned()];
        head.extend(self.stacks.iter().map(|stack| stack.name.clone()));
        let rows = self.stacks.iter().map(|alice| {
            let mut row = vec![alice.name.clone()];
            row.extend(self.stacks.iter().map(|bob| self.count(&alice.name, &bob.name)));
            row
        });
        std::iter::once(head).chain(rows).collect()
    }

    /// Of a pair, or of one stack alone and with itself: `93 pass, 12 declared`.
    fn count(&self, alice: &str, bob: &str) -> String {
        let mut counts = BTreeMap::new();
        for ran in self
            .runs
            .iter()
            .filter(|ran| ran.alice == alice && ran.bob == bob)
        {
            *counts.entry(rank(&ran.outcome)).or_insert(0) += 1;
        }
        let counts: Vec<String> = counts
            .into_iter()
            .map(|((_, word), count)| format!("{count} {word}"))
            .collect();
        if counts.is_empty() {
            "-".to_owned()
        } else {
            counts.join(", ")
        }
    }

    /// Which gaps have shown, where, and in which scenarios.
    fn declared(&self) -> String {
        let mut by_gap: BTreeMap<(&str, bool), BTreeMap<&str, Vec<String>>> = BTreeMap::new();
        for ran in &self.runs {
            let Outcome::Declared(gaps) = &ran.outcome else {
                continue;
            };
            let network = ran.network.as_str();
            let place = match ran.is_crossed() {
                true => format!("{network} {} to {}", ran.alice, ran.bob),
                false => network.to_owned(),
            };
            for gap in gaps {
                let scenarios = by_gap.entry((gap, ran.is_crossed())).or_default();
                scenarios.entry(ran.scenario).or_default().push(place.clone());
            }
        }
        let mut text = String::new();
        for ((gap, crossed), scenarios) in by_gap {
            let with = if crossed { ", with another stack" } else { "" };
            let _ = write!(text, "\n{gap}{with}:\n\n");
            let mut by_places: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (scenario, places) in scenarios {
                by_places
                    .entry(places.join(", "))
                    .or_default()
                    .push(scenario.replace('_', " "));
            }
            for (places, scenarios) in by_places {
                let _ = writeln!(text, "* {places}: {}.", scenarios.join("; "));
            }
        }
        if text.is_empty() {
            "\nNothing.\n".to_owned()
        } else {
            text
        }
    }

    fn failures(&self) -> String {
        let mut text = String::new();
        for ran in self.wrong() {
            let Ran {
                scenario,
                network,
                alice,
                bob,
                ..
            } = ran;
            let who = if ran.is_crossed() {
                format!("{alice} to {bob}")
            } else {
                alice.clone()
            };
            let why = match &ran.outcome {
                Outcome::BetterThanDeclared(gaps) => format!("passes, though declared: {}", gaps.join(", ")),
                Outcome::Failed(why) => why.replace('\n', " "),
                Outcome::Declared(_) | Outcome::Passed => String::new(),
            };
            let _ = writeln!(text, "* {who} over {}: {scenario}: {why}", network.as_str());
        }
        if text.is_empty() {
            "Nothing failed that is not declared.\n".to_owned()
        } else {
            text
        }
    }
}

/// What came of one scenario over its networks: `pass`, or which did not.
fn cell(runs: &[&Ran]) -> String {
    let mut by_outcome: BTreeMap<(u8, &str), Vec<Network>> = BTreeMap::new();
    for ran in runs {
        by_outcome
            .entry(rank(&ran.outcome))
            .or_default()
            .push(ran.network);
    }
    let words: Vec<String> = match by_outcome.len() {
        0 => vec!["-".to_owned()],
        1 => by_outcome.into_keys().map(|(_, word)| word.to_owned()).collect(),
        _ => by_outcome
            .into_iter()
            .map(|((_, word), networks)| match word {
                "pass" => word.to_owned(),
                _ => format!(
                    "{word} {}",
                    networks
                        .iter()
                        .map(|network| network.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            })
            .collect(),
    };
    words.join("; ")
}

fn rank(outcome: &Outcome) -> (u8, &'static str) {
    match outcome {
        Outcome::Passed => (0, "pass"),
        Outcome::Declared(_) => (1, "declared"),
        Outcome::BetterThanDeclared(_) | Outcome::Failed(_) => (2, "FAIL"),
    }
}

/// In markdown; the first row is the head.
fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if number == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    text
}

/// In columns; the first row is the head.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{ScenarioFacts, StackFacts};

    fn ran(alice: &str, bob: &str, network: Network, outcome: Outcome) -> Ran {
        Ran {
            scenario: "a_call_is_made",
            network,
            alice: alice.to_owned(),
            bob: bob.to_owned(),
            attempts: 1,
            outcome,
        }
    }

    fn matrix() -> Matrix {
        let stack = |name: &str| StackFacts {
            name: name.to_owned(),
            transports: vec!["UDP".to_owned()],
            keepalives: Vec::new(),
            gaps: vec![("IPv6".to_owned(), "nobody wrote it".to_owned())],
        };
        let gap = || Outcome::Declared(vec!["one: IPv6".to_owned()]);
        Matrix {
            stacks: vec![stack("one"), stack("two")],
            scenarios: vec![ScenarioFacts {
                name: "a_call_is_made",
                about: "A call is made.",
                section: "RFC 3261 13",
            }],
            runs: vec![
                ran("one", "one", Network::Udp, Outcome::Passed),
                ran("one", "one", Network::Udp6, gap()),
                ran(
                    "one",
                    "two",
                    Network::Udp,
                    Outcome::Failed("it broke\nin two".to_owned()),
                ),
                ran("two", "one", Network::Udp, Outcome::Passed),
                ran(
                    "two",
                    "two",
                    Network::Udp,
                    Outcome::BetterThanDeclared(vec!["two: IPv6".to_owned()]),
                ),
            ],
        }
    }

    #[test]
    fn the_page_spells_out_every_outcome() {
        let page = matrix().to_markdown(Some("one is fast"));
        for line in [
            "| one | UDP | none | 1 |",
            "* IPv6: nobody wrote it.",
            "one is fast",
            "| a call is made | RFC 3261 13 | pass; declared UDP over IPv6 | FAIL |",
            "| one | 1 pass, 1 declared | 1 FAIL |",
            "* UDP over IPv6: a call is made.",
            "* one to two over UDP: a_call_is_made: it broke in two",
            "* two over UDP: a_call_is_made: passes, though declared: two: IPv6",
        ] {
            assert!(page.contains(line), "{line:?} is not in\n{page}");
        }
    }

    #[test]
    fn the_text_names_each_failure() {
        let text = matrix().to_text();
        assert!(
            text.contains("one to two over UDP: a_call_is_made: it broke in two"),
            "{text}"
        );
        assert_eq!(matrix().wrong().count(), 2);
    }
}
