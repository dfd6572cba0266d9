//! `siprtc ice`, and the matrix of docs/ice.md: every ICE agent of this build with every other, behind every pair of NATs.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use siprtc::registry;
use siprtc_integration_tests::folder::{siprtc, workspace};
use siprtc_testkit::ice::IceMatrix;
use std::process::Command;

#[test]
fn every_pair_of_agents_finds_the_best_path_there_is_and_the_page_says_so() {
    let matrix = IceMatrix::run(&registry::ice_agents(), &|_, _| ());
    let page = matrix.to_markdown();
    let path = workspace().join("docs/ice.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(matrix.is_as_it_should_be(), "{}", matrix.to_text());
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/ice.md is not what comes out; UPDATE=1 writes it"
    );
}

#[test]
fn the_program_prints_the_matrix() {
    let ran = Command::new(siprtc()).args(["ice", "--json"]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let said: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let cells = said["matrix"]["cells"].as_array().unwrap();
    assert!(cells.len() > 800, "{}", cells.len());
}
