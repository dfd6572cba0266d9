//! `siprtc stacks`, and the matrix of docs/stacks.md: every SIP stack of this build, alone, with itself and with every
//! other.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use siprtc::registry;
use siprtc_integration_tests::folder::{siprtc, workspace};
use siprtc_testkit::sip::{AT_ONCE, Filter, Matrix, Ran};
use std::process::{Command, Output};

#[test]
fn no_stack_fails_what_it_does_not_declare_and_the_page_says_so() {
    let matrix = Matrix::run(&registry::sip_stacks(), &Filter::default(), AT_ONCE, &|_, _| ());
    for ran in matrix.flaky() {
        eprintln!("right at attempt {} only: {ran:?}", ran.attempts);
    }
    let wrong: Vec<&Ran> = matrix.wrong().collect();
    assert!(
        wrong.is_empty(),
        "{} of {} runs: {wrong:#?}",
        wrong.len(),
        matrix.runs.len()
    );

    let docs = workspace().join("docs");
    let figures = std::fs::read_to_string(docs.join("stacks-figures.md")).ok();
    let page = matrix.to_markdown(figures.as_deref());
    let path = docs.join("stacks.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/stacks.md is not what comes out; UPDATE=1 writes it. First difference: {:?}",
        page.lines()
            .zip(written.lines())
            .find(|(one, other)| one != other)
    );
}

fn program(args: &[&str]) -> Output {
    Command::new(siprtc()).arg("stacks").args(args).output().unwrap()
}

#[test]
fn the_program_runs_chosen_scenarios_on_a_chosen_stack() {
    let ran = program(&[
        "--only",
        "ezk",
        "--scenario",
        "an_options_makes_a_round_trip",
        "--json",
    ]);
    assert!(ran.status.success(), "{ran:?}");
    let line = String::from_utf8(ran.stdout).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let runs = said["matrix"]["runs"].as_array().unwrap();
    assert!(runs.len() >= 4, "{said}");
    for ran in runs {
        assert!(ran["alice"] == "ezk" || ran["bob"] == "ezk", "{ran}");
        assert!(
            ran["outcome"] == "passed" || ran["outcome"] == "declared",
            "{ran}"
        );
    }
}

#[test]
fn a_stack_or_a_scenario_that_is_not_there_is_an_error_that_lists_what_is() {
    let wrong = program(&["--only", "asterisk"]);
    let sentence = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{sentence}");
    assert!(
        sentence.contains("asterisk") && sentence.contains("ezk"),
        "{sentence}"
    );
    let wrong = program(&["--scenario", "pigs_fly"]);
    let sentence = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{sentence}");
    assert!(sentence.contains("pigs_fly"), "{sentence}");
}
