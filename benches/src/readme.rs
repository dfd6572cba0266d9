//! The block of measured figures in this crate's README: for each measurement the machine that it was made on, and one table of
//! all. A run replaces what it measured, and leaves the rest.

use crate::figure::{Figure, HEAD};
use std::fmt::Write as _;

/// `block` with what was measured anew; `order` is that of the measurements.
pub fn merged(block: &str, figures: &[Figure], about: &str, order: &[&str]) -> String {
    let is_new = |what: &str| figures.iter().any(|figure| figure.what == what);
    let is_row = |line: &&str| line.starts_with("| ") && !HEAD.contains(line);
    let old = block.lines().filter(is_row).map(str::to_owned);
    let rows: Vec<String> = old
        .filter(|row| !is_new(what_of(row)))
        .chain(figures.iter().map(Figure::row))
        .collect();
    let mut text = String::new();
    for what in order {
        let old = block
            .lines()
            .find_map(|line| line.strip_prefix(&format!("- `{what}`: ")));
        if let Some(machine) = is_new(what).then_some(about).or(old) {
            let _ = writeln!(text, "- `{what}`: {machine}");
        }
    }
    let _ = write!(text, "\n{HEAD}");
    for what in order {
        for row in rows.iter().filter(|row| what_of(row) == *what) {
            let _ = writeln!(text, "{row}");
        }
    }
    text
}

fn what_of(row: &str) -> &str {
    row.trim_start_matches("| ")
        .split(" | ")
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_replaces_its_own_rows_and_no_others() {
        let order = ["words", "calls"];
        let calls = [
            Figure::new("calls", "a step", 1.0, "µs"),
            Figure::new("calls", "a call", 200.0, "µs"),
        ];
        let first = merged("", &calls, "one machine", &order);
        let words = [Figure::new("words", "parse", 4.0, "µs").at_most(10.0)];
        let both = merged(&first, &words, "another", &order);
        let again = merged(
            &both,
            &[Figure::new("calls", "a step", 2.0, "µs")],
            "a third",
            &order,
        );
        let expected = format!(
            "- `words`: another\n- `calls`: a third\n\n{HEAD}\
             | words | parse | 4 µs | ≤ 10 µs: held |  |  |  |\n\
             | calls | a step | 2 µs |  |  |  |  |\n"
        );
        assert_eq!(again, expected);
    }
}
