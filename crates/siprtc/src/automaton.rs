//! The gateway's table as an automaton: its states, its ways, and their drawings.

mod svg;

use serde_json::{Value, json};
use siprtc_gateway::table::{Do, FALLBACK, Jsep, On, Sip, TABLE};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A SIP state with a JSEP state.
pub type State = (Sip, Jsep);

/// Everything that leads from one state to another, or to itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Way {
    /// From here,
    pub from: State,
    /// to there,
    pub to: State,
    /// when any of these happens; and what is done then.
    pub on: Vec<(On, &'static [Do])>,
}

/// The automaton of a call.
#[derive(Clone, Debug)]
pub struct Automaton {
    states: Vec<State>,
    ways: Vec<Way>,
}

impl Automaton {
    /// The table's states and ways, in the order of its rows. The ways that every state has (its last rows) are not among them:
    /// [`Automaton::common`].
    pub fn of_table() -> Self {
        let mut states = Vec::new();
        let mut ways: Vec<Way> = Vec::new();
        for row in TABLE {
            let (from, to) = ((row.sip, row.jsep), row.next);
            for state in [from, to] {
                if !states.contains(&state) {
                    states.push(state);
                }
            }
            let event = (row.on, row.actions);
            match ways.iter_mut().find(|way| (way.from, way.to) == (from, to)) {
                Some(way) => way.on.push(event),
                None => ways.push(Way {
                    from,
                    to,
                    on: vec![event],
                }),
            }
        }
        Automaton { states, ways }
    }

    /// Every state in which a call can be.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// How it comes from one to another.
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// The ways that every state has until the call ends, by where they lead.
    pub fn common() -> BTreeMap<State, Vec<On>> {
        let mut common: BTreeMap<State, Vec<On>> = BTreeMap::new();
        for (on, to, _) in FALLBACK {
            common.entry(*to).or_default().push(*on);
        }
        common
    }

    /// For Graphviz.
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph call {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
        for state in &self.states {
            let _ = writeln!(out, "  {} [label=\"{:?}\\n{:?}\"];", id(*state), state.0, state.1);
        }
        for way in &self.ways {
            let events = words(way, ", ");
            let _ = writeln!(out, "  {} -> {} [label=\"{events}\"];", id(way.from), id(way.to));
        }
        for (to, events) in Self::common() {
            let events: Vec<String> = events.iter().map(|on| format!("{on:?}")).collect();
            let _ = writeln!(out, "  any [label=\"any other\", style=dashed];");
            let _ = writeln!(out, "  any -> {} [label=\"{}\"];", id(to), events.join(", "));
        }
        out.push_str("}\n");
        out
    }

    /// For programs: states with what they mean, and ways with their actions.
    pub fn to_json(&self) -> Value {
        let name = |(sip, jsep): State| json!({ "sip": format!("{sip:?}"), "jsep": format!("{jsep:?}") });
        let states: Vec<Value> = self
            .states
            .iter()
            .map(|state| {
                json!({
                    "sip": format!("{:?}", state.0), "jsep": format!("{:?}", state.1),
                    "meaning": [state.0.meaning(), state.1.meaning()],
                })
            })
            .collect();
        let rows = self.ways.iter().flat_map(|way| {
            way.on.iter().map(move |(on, actions)| {
                let actions: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
                json!({ "from": name(way.from), "on": format!("{on:?}"), "to": name(way.to), "actions": actions })
            })
        });
        let common = FALLBACK.iter().map(|(on, to, actions)| {
            let actions: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
            json!({ "on": format!("{on:?}"), "to": name(*to), "actions": actions })
        });
        json!({
            "states": states,
            "ways": rows.collect::<Vec<_>>(),
            "from_any_state_that_is_not_ending": common.collect::<Vec<_>>(),
        })
    }
}

fn id((sip, jsep): State) -> String {
    format!("{sip:?}_{jsep:?}")
}

fn words(way: &Way, between: &str) -> String {
    let words: Vec<String> = way.on.iter().map(|(on, _)| format!("{on:?}")).collect();
    words.join(between)
}

#[cfg(test)]
mod tests {
    use super::{Automaton, TABLE};
    use std::collections::BTreeSet;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gateway-automaton.svg");

    #[test]
    fn the_drawing_shows_the_table_as_it_is() {
        let drawn = Automaton::of_table().to_svg();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(FILE, &drawn).unwrap();
        }
        let written = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            written == drawn,
            "docs/gateway-automaton.svg is stale: run siprtc automaton --svg --out docs/gateway-automaton.svg"
        );
    }

    #[test]
    fn every_row_is_a_way_and_every_way_is_drawn() {
        let automaton = Automaton::of_table();
        let events: usize = automaton.ways().iter().map(|way| way.on.len()).sum();
        assert_eq!(events, TABLE.len());
        let (svg, dot) = (automaton.to_svg(), automaton.to_dot());
        for row in TABLE {
            let word = format!("{:?}", row.on);
            assert!(svg.contains(&word) && dot.contains(&word), "{word} is not drawn");
        }
        let json = automaton.to_json();
        assert_eq!(json["ways"].as_array().map(Vec::len), Some(TABLE.len()));
        let states: BTreeSet<_> = automaton.states().iter().copied().collect();
        assert_eq!(states.len(), automaton.states().len());
    }
}
