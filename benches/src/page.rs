//! docs/stacks-figures.md: the figures of `stacks`, a row for each and a column for each stack. The page of the matrix,
//! docs/stacks.md, takes it in.

use crate::figure::{Figure, number};
use std::fmt::Write as _;

/// `about`: the machine and its load. Figures are named `stack: what`.
pub fn of(figures: &[&Figure], about: &str) -> String {
    let (mut stacks, mut rows): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (stack, what) in figures.iter().filter_map(|figure| figure.name.split_once(": ")) {
        push_new(&mut stacks, stack);
        push_new(&mut rows, what);
    }
    let mut text = format!(
        "Measured by `cargo run --release -p siprtc-benches --features run -- stacks --write`, which `benches/README.md` explains, on \
         {about}. The other side, SIPp, takes a part of the same cores. Each stack has a process of its own, with a dialog \
         manager above it where nothing else is said. **Bold**: over the limit.\n\n\
         | | limit | {} |\n|---|---|{}\n",
        stacks.join(" | "),
        "---|".repeat(stacks.len())
    );
    for what in rows {
        let of = |stack: &&str| {
            let name = format!("{stack}: {what}");
            figures.iter().find(|figure| figure.name == name)
        };
        let cells: Vec<String> = stacks
            .iter()
            .map(|stack| of(stack).map_or(String::new(), |figure| cell(figure)))
            .collect();
        let limits = stacks.iter().filter_map(of);
        let limit = limits.filter(|figure| figure.peer.is_none()).find_map(|figure| {
            let limit = figure.limit?;
            Some(format!("{} {}", number(limit), figure.unit))
        });
        let _ = writeln!(
            text,
            "| {what} | {} | {} |",
            limit.unwrap_or_default(),
            cells.join(" | ")
        );
    }
    text
}

fn push_new<'a>(list: &mut Vec<&'a str>, name: &'a str) {
    if !list.contains(&name) {
        list.push(name);
    }
}

fn cell(figure: &Figure) -> String {
    let value = format!("{} {}", number(figure.value), figure.unit);
    let value = match figure.limit {
        Some(limit) if figure.value > limit => format!("**{}**", value.trim_end()),
        _ => value.trim_end().to_owned(),
    };
    match &figure.peer {
        Some((name, bare)) => format!("{value} ({name}: {})", number(*bare)),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stack_has_a_column_and_what_is_over_its_limit_stands_out() {
        let figures = [
            Figure::new("stacks", "one: p99", 30.0, "ms").at_most(20.0),
            Figure::new("stacks", "two: p99", 7.0, "ms").at_most(20.0),
            Figure::new("stacks", "two: the port alone", 9.0, "µs")
                .at_most(9.9)
                .beside("bare-two", 9.0),
        ];
        let page = of(&figures.iter().collect::<Vec<_>>(), "a machine");
        let rows: Vec<&str> = page.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| | limit | one | two |",
                "|---|---|---|---|",
                "| p99 | 20 ms | **30 ms** | 7 ms |",
                "| the port alone |  |  | 9 µs (bare-two: 9) |",
            ]
        );
    }
}
