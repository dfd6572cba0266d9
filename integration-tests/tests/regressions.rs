//! docs/regressions.md names a test for each fault that others have had, and each of them is there.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeSet;
use std::path::Path;

const FAULTS: u32 = 21;

/// Number, file and name of each row.
fn rows(text: &str) -> Vec<(u32, String, String)> {
    text.lines()
        .filter_map(|line| {
            let (number, rest) = line.strip_prefix("| F")?.split_once(" |")?;
            let quoted: Vec<&str> = rest.split('|').nth(1)?.split('`').collect();
            let [_, file, _, name, _] = quoted[..] else {
                panic!("no file and name in {line}");
            };
            Some((number.parse().unwrap(), file.to_owned(), name.to_owned()))
        })
        .collect()
}

/// Whether `text` has this function, and it is a test.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let is_it = |line: &str| {
        line.trim_start_matches("async ")
            .starts_with(&format!("fn {name}("))
    };
    lines.iter().enumerate().any(|(at, line)| {
        let above = &lines[at.saturating_sub(4)..at];
        is_it(line.trim_start())
            && above
                .iter()
                .any(|line| line.trim_start().starts_with("#[") && line.contains("test"))
    })
}

#[test]
fn every_fault_that_others_have_had_has_a_test_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rows = rows(&std::fs::read_to_string(root.join("docs/regressions.md")).unwrap());
    let named: BTreeSet<u32> = rows.iter().map(|(number, ..)| *number).collect();
    assert_eq!(named, (1..=FAULTS).collect(), "a fault without a test");
    for (number, file, name) in rows {
        let text = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
        assert!(has_test(&text, &name), "F{number}: {file} has no test {name}");
    }
}
