//! `docs/gateway.md` is the table, drawn.

use crate::nothing::{Kind, NOTHING};
use crate::{State, reachable, transitions};
use siprtc_gateway::table::{Do, FALLBACK, Jsep, On, Sip, TABLE};
use std::collections::BTreeMap;
use std::fmt::Write;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gateway.md");

#[test]
fn the_document_shows_the_table_as_it_is() {
    let drawn = document();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &drawn).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        written == drawn,
        "docs/gateway.md is stale: run UPDATE=1 cargo test --release -p siprtc-gateway --test table"
    );
}

fn document() -> String {
    let mut text = String::from(
        "# The gateway's table\n\n\
         *Drawn from `crates/gateway/src/table.rs` by its tests; do not edit. To draw it again:\n\
         `UPDATE=1 cargo test --release -p siprtc-gateway --test table`.*\n\n\
         A call has two sides: SIP, the dialog with the peer, and JSEP, the session description in the media peer. A row\n\
         says: in this pair of states, when this happens, do these things and be in that pair of states. What has no row\n\
         changes nothing; the last section says of each such case why.\n\n",
    );
    diagram(&mut text);
    words(&mut text, "SIP states", Sip::ALL, |sip| sip.meaning());
    words(&mut text, "JSEP states", Jsep::ALL, |jsep| jsep.meaning());
    words(&mut text, "Events", On::ALL, |on| on.meaning());
    words(&mut text, "Actions", Do::ALL, |action| action.meaning());
    rows(&mut text);
    nothing(&mut text);
    text
}

fn name((sip, jsep): State) -> String {
    format!("{sip:?}_{jsep:?}")
}

fn diagram(text: &mut String) {
    text.push_str(
        "## Ways\n\n![The automaton](gateway-automaton.svg)\n\nDrawn by `siprtc automaton` (`--dot` and `--json` say it to programs). Without the ways that every state has: to `Ending` when the application hangs up or something fails,\n\
         and to `Ended` when the dialog ends.\n\n```mermaid\nstateDiagram-v2\n    [*] --> Idle_Stable\n",
    );
    for state in reachable() {
        let mut ways: BTreeMap<State, Vec<String>> = BTreeMap::new();
        for (on, next) in transitions(state) {
            let alive = !matches!(state.0, Sip::Ending | Sip::Ended);
            let common = alive && FALLBACK.iter().any(|(event, to, _)| *event == on && *to == next);
            if next != state && !common {
                ways.entry(next).or_default().push(format!("{on:?}"));
            }
        }
        for (next, events) in ways {
            writeln!(
                text,
                "    {} --> {}: {}",
                name(state),
                name(next),
                events.join(", ")
            )
            .unwrap();
        }
    }
    text.push_str("    Ended_Closed --> [*]\n```\n\n");
}

fn words<W: Copy + std::fmt::Debug>(
    text: &mut String,
    title: &str,
    all: &[W],
    meaning: fn(W) -> &'static str,
) {
    writeln!(text, "## {title}\n\n| word | meaning |\n|---|---|").unwrap();
    for word in all {
        writeln!(text, "| `{word:?}` | {} |", plain(meaning(*word))).unwrap();
    }
    text.push('\n');
}

/// Rustdoc's links lead nowhere here.
fn plain(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`")
}

fn actions(actions: &[Do]) -> String {
    let names: Vec<String> = actions.iter().map(|action| format!("`{action:?}`")).collect();
    names.join(" ")
}

fn rows(text: &mut String) {
    text.push_str(
        "## Rows\n\n| SIP | JSEP | event | SIP then | JSEP then | actions |\n|---|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let (sip, jsep) = row.next;
        let (was, on) = ((row.sip, row.jsep), row.on);
        writeln!(
            text,
            "| {:?} | {:?} | {on:?} | {sip:?} | {jsep:?} | {} |",
            was.0,
            was.1,
            actions(row.actions)
        )
        .unwrap();
    }
    for (on, (sip, jsep), done) in FALLBACK {
        writeln!(
            text,
            "| *any other, but not ending* | | {on:?} | {sip:?} | {jsep:?} | {} |",
            actions(done)
        )
        .unwrap();
    }
    text.push('\n');
}

fn nothing(text: &mut String) {
    text.push_str("## What means nothing\n\n| events | in | | because |\n|---|---|---|---|\n");
    for nothing in NOTHING {
        let events = match nothing.on.len() {
            many if many == On::ALL.len() => "all".to_owned(),
            many if many > 12 => "all others".to_owned(),
            _ => nothing
                .on
                .iter()
                .map(|on| format!("{on:?}"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let kind = match nothing.kind {
            Kind::Ignored => "changes nothing",
            Kind::Never => "cannot come",
        };
        writeln!(
            text,
            "| {events} | {} | {kind} | {} |",
            nothing.at_words, nothing.why
        )
        .unwrap();
    }
}
