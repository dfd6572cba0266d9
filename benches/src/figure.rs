//! A measured figure, and the table of them.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// One row of the table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    pub what: String,
    pub name: String,
    pub value: f64,
    pub unit: String,
    /// The value should be at most this.
    pub limit: Option<f64>,
    /// Who did the same in the same run, and its value.
    pub peer: Option<(String, f64)>,
    pub note: String,
}

impl Figure {
    pub fn new(what: &str, name: impl Into<String>, value: f64, unit: &str) -> Self {
        Figure {
            what: what.to_owned(),
            name: name.into(),
            value,
            unit: unit.to_owned(),
            limit: None,
            peer: None,
            note: String::new(),
        }
    }

    pub fn at_most(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self
    }

    pub fn beside(mut self, peer: &str, value: f64) -> Self {
        self.peer = Some((peer.to_owned(), value));
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn row(&self) -> String {
        let limit = self.limit.map_or(String::new(), |limit| {
            let holds = if self.value <= limit { "held" } else { "**missed**" };
            format!("≤ {} {}: {holds}", number(limit), self.unit)
        });
        let (peer, ratio) = match &self.peer {
            Some((peer, value)) => {
                let ratio = if *value > 0.0 {
                    format!("{:.2}", self.value / value)
                } else {
                    String::new()
                };
                (format!("{peer}: {} {}", number(*value), self.unit), ratio)
            }
            None => (String::new(), String::new()),
        };
        let value = number(self.value);
        format!(
            "| {} | {} | {value} {} | {limit} | {peer} | {ratio} | {} |",
            self.what, self.name, self.unit, self.note
        )
    }
}

pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value == value.round() => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The table's first two lines.
pub(crate) const HEAD: &str =
    "| what | figure | siprtc | limit | peer, same run | ratio | note |\n|---|---|---|---|---|---|---|\n";

/// As Markdown.
pub fn table(figures: &[Figure]) -> String {
    let mut text = HEAD.to_owned();
    for figure in figures {
        let _ = writeln!(text, "{}", figure.row());
    }
    text
}

/// A sorted series.
pub struct Series(Vec<f64>);

impl Series {
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Series(values)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nearest-rank percentile; not a number when there is nothing.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let series = Series::new((1..=30).rev().map(f64::from).collect());
        assert_eq!(
            [50.0, 99.0, 100.0, 0.0].map(|p| series.percentile(p)),
            [15.0, 30.0, 30.0, 1.0]
        );
        assert!(Series::new(Vec::new()).median().is_nan());
    }

    #[test]
    fn a_row_says_whether_the_limit_holds_and_gives_the_ratio() {
        let figure = Figure::new("words", "parse", 5.0, "µs")
            .at_most(10.0)
            .beside("ezk", 2.5);
        assert_eq!(
            figure.row(),
            "| words | parse | 5 µs | ≤ 10 µs: held | ezk: 2.50 µs | 2.00 |  |"
        );
        assert!(
            Figure::new("words", "parse", 11.0, "µs")
                .at_most(10.0)
                .row()
                .contains("missed")
        );
    }
}
