//! The ladder in a terminal.

use super::words::{columns, fit, width, wrap};
use super::{Item, Ladder, Layer, Step, milliseconds};

impl Ladder {
    /// The diagram for a terminal of `width` columns: lifelines, arrows, a column of milliseconds and one of layers.
    /// It takes no more columns than it needs, and more than `width` only when the lifelines would stand too close to
    /// carry labels. `colour` adds ANSI colours (SGR). Ends with a line end.
    pub fn to_text(&self, width: usize, colour: bool) -> String {
        let items = self.items();
        let grid = Grid::new(self, &items, width);
        let mut rows = vec![grid.title(&self.title), Row::default()];
        rows.extend(grid.heads(&self.participants));
        for item in &items {
            match item {
                Item::Step(step) => grid.step(step, &mut rows),
                Item::LeftOut(_) | Item::Pause(_) => {
                    rows.push(grid.cut(&item.cut().unwrap_or_default()));
                }
            }
        }
        rows.push(grid.row('╵'));
        rows.iter().map(|row| row.render(colour)).collect()
    }
}

/// Where things stand.
struct Grid {
    /// Columns of the time.
    time: usize,
    /// The column of each lifeline.
    lines: Vec<usize>,
    /// Columns between two lifelines.
    gap: usize,
    /// Columns on which notes may be written.
    right: usize,
}

impl Grid {
    fn new(ladder: &Ladder, items: &[Item<'_>], most: usize) -> Self {
        let steps = || {
            items.iter().filter_map(|item| match item {
                Item::Step(step) => Some(*step),
                _ => None,
            })
        };
        let time = steps()
            .map(|step| milliseconds(step.at).len())
            .max()
            .unwrap_or(0)
            .max(MIN_TIME);
        let left = time + TAG;
        let half = |name: &String| (width(name) + 4).min(MAX_HEAD) / 2;
        let first = half(&ladder.participants[0]);
        let last = ladder.participants.last().map_or(0, half);
        let gaps = ladder.participants.len() - 1;
        let wanted = items
            .iter()
            .map(wanted)
            .chain(ladder.participants.iter().map(|name| width(name) + 6))
            .max();
        let room = most
            .saturating_sub(left + first + last + 1)
            .checked_div(gaps)
            .unwrap_or(0);
        let gap = wanted.unwrap_or(0).min(room).max(MIN_GAP);
        let lines: Vec<usize> = (0..=gaps).map(|index| left + first + index * gap).collect();
        let right =
            lines.last().copied().unwrap_or(left) + if gaps == 0 { gap.max(room).max(40) } else { last };
        Grid {
            time,
            lines,
            gap,
            right,
        }
    }

    fn title(&self, title: &str) -> Row {
        let mut row = Row::default();
        row.put(1, &fit(title, self.right.saturating_sub(1)), Paint::Strong);
        row
    }

    /// The participants in boxes.
    fn heads(&self, names: &[String]) -> [Row; 3] {
        let [mut top, mut middle, mut bottom] = [Row::default(), Row::default(), Row::default()];
        middle.put(self.time - 1, "ms", Paint::Faint);
        for (name, &line) in names.iter().zip(&self.lines) {
            let name = fit(name, self.gap.min(MAX_HEAD) - 4);
            let inner = width(&name) + 2;
            let start = line - inner.div_ceil(2);
            let end = start + inner + 1;
            let edge = "─".repeat(inner);
            top.put(start, &format!("┌{edge}┐"), Paint::Line);
            middle.put(start, "│", Paint::Line);
            middle.put(start + 2, &name, Paint::Strong);
            middle.put(end, "│", Paint::Line);
            bottom.put(start, &format!("└{edge}┘"), Paint::Line);
            bottom.put(line, "┬", Paint::Line);
        }
        [top, middle, bottom]
    }

    fn step(&self, step: &Step, rows: &mut Vec<Row>) {
        let mut row = self.row('│');
        let at = milliseconds(step.at);
        row.put(1 + self.time - at.len(), &at, Paint::Faint);
        row.put(self.time + 3, step.layer.as_str(), Paint::Layer(step.layer));
        let span = if step.from == step.to {
            self.note(step, &mut row)
        } else {
            self.arrow(step, &mut row)
        };
        rows.push(row);
        let Some(detail) = &step.detail else { return };
        for line in wrap(detail, span.width, DETAIL_ROWS) {
            let mut row = self.row('│');
            row.put(span.place(&line), &line, Paint::Faint);
            rows.push(row);
        }
    }

    /// `├─── INVITE ───▶│`, and says where its detail goes.
    fn arrow(&self, step: &Step, row: &mut Row) -> Span {
        let paint = Paint::Layer(step.layer);
        let (from, to) = (self.lines[step.from], self.lines[step.to]);
        let (low, high) = (from.min(to), from.max(to));
        row.put(low + 1, &"─".repeat(high - low - 1), paint);
        for &line in self.lines.iter().filter(|line| (low + 1..high).contains(line)) {
            row.put(line, "┼", paint);
        }
        row.put(from, if from < to { "├" } else { "┤" }, Paint::Line);
        // The label stands beside its sender, so that it covers no lifeline; one that is too long takes the whole.
        let near = if from < to {
            low..low + self.gap
        } else {
            high - self.gap..high
        };
        let whole = if width(&step.label) + ARROW <= near.end - near.start {
            near.clone()
        } else {
            low..high
        };
        let head = if from < to { 0 } else { 1 };
        let span = Span {
            start: whole.start + 3 + head,
            width: whole.end - whole.start - ARROW,
            align: Align::Centre,
        };
        let label = fit(&step.label, span.width);
        let start = span.place(&label);
        row.put(start - 1, &format!(" {label} "), paint);
        if from < to {
            row.put(to - 1, "▶", paint);
        } else {
            row.put(to + 1, "◀", paint);
        }
        Span {
            start: near.start + 2,
            width: near.end - near.start - 3,
            align: Align::Centre,
        }
    }

    /// `● connected`, to the right of its lifeline, to the left of the last one.
    fn note(&self, step: &Step, row: &mut Row) -> Span {
        let paint = Paint::Layer(step.layer);
        let line = self.lines[step.from];
        let is_last = step.from + 1 == self.lines.len() && step.from > 0;
        let (start, end) = if is_last {
            (line - self.gap + 2, line - 1)
        } else if self.lines.len() == 1 {
            (line + 2, self.right)
        } else {
            (line + 2, line + self.gap - 1)
        };
        row.put(line, "●", paint);
        let span = Span {
            start,
            width: end - start,
            align: if is_last { Align::Right } else { Align::Left },
        };
        let label = fit(&step.label, span.width);
        row.put(span.place(&label), &label, paint);
        span
    }

    /// Where time is cut out.
    fn cut(&self, words: &str) -> Row {
        let mut row = self.row('┆');
        row.put(self.time - 1, "⋮", Paint::Faint);
        let (first, second) = (self.lines[0], self.lines.get(1).copied().unwrap_or(self.right));
        let span = Span {
            start: first + 2,
            width: second - first - 3,
            align: Align::Centre,
        };
        let words = fit(words, span.width);
        row.put(span.place(&words), &words, Paint::Faint);
        row
    }

    /// Lifelines and nothing else.
    fn row(&self, line: char) -> Row {
        let mut row = Row::default();
        self.lines
            .iter()
            .for_each(|&at| row.put(at, line.encode_utf8(&mut [0; 4]), Paint::Line));
        row
    }
}

/// Columns for text.
struct Span {
    start: usize,
    width: usize,
    align: Align,
}

#[derive(Clone, Copy)]
enum Align {
    Centre,
    Left,
    Right,
}

impl Span {
    fn place(&self, text: &str) -> usize {
        let free = self.width.saturating_sub(width(text));
        match self.align {
            Align::Centre => self.start + free / 2,
            Align::Left => self.start,
            Align::Right => self.start + free,
        }
    }
}

/// One line of the drawing, cell by cell.
#[derive(Clone, Default)]
struct Row(Vec<Cell>);

#[derive(Clone)]
struct Cell {
    /// A character with the marks that sit on it; nothing behind a wide one.
    text: String,
    paint: Paint,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Paint {
    Blank,
    Faint,
    Layer(Layer),
    Line,
    Strong,
}

impl Row {
    fn put(&mut self, mut at: usize, text: &str, paint: Paint) {
        for c in text.chars() {
            let wide = columns(c);
            if wide == 0 {
                if let Some(cell) = at.checked_sub(1).and_then(|before| self.0.get_mut(before)) {
                    cell.text.push(c);
                }
                continue;
            }
            let blank = || Cell {
                text: " ".to_owned(),
                paint: Paint::Blank,
            };
            if self.0.len() < at + wide {
                self.0.resize_with(at + wide, blank);
            }
            for offset in 0..wide {
                let text = if offset == 0 { c.to_string() } else { String::new() };
                self.0[at + offset] = Cell { text, paint };
            }
            at += wide;
        }
    }

    fn render(&self, colour: bool) -> String {
        let end = self
            .0
            .iter()
            .rposition(|cell| cell.paint != Paint::Blank)
            .map_or(0, |last| last + 1);
        let mut out = String::new();
        let mut before = Paint::Blank;
        for cell in &self.0[..end] {
            if colour && cell.paint != before {
                out.push_str("\x1b[0m");
                out.push_str(cell.paint.sgr());
                before = cell.paint;
            }
            out.push_str(&cell.text);
        }
        if colour && before != Paint::Blank {
            out.push_str("\x1b[0m");
        }
        out.push('\n');
        out
    }
}

impl Paint {
    /// The sixteen colours that every theme, light or dark, makes readable.
    fn sgr(self) -> &'static str {
        match self {
            Paint::Blank => "",
            Paint::Faint | Paint::Line => "\x1b[2m",
            Paint::Layer(Layer::Sip) => "\x1b[34m",
            Paint::Layer(Layer::Ice) => "\x1b[33m",
            Paint::Layer(Layer::Dtls) => "\x1b[35m",
            Paint::Layer(Layer::Rtp) => "\x1b[32m",
            Paint::Strong => "\x1b[1m",
        }
    }
}

/// Columns between lifelines so that a label shows whole, and a detail in its rows.
fn wanted(item: &Item<'_>) -> usize {
    let step = match item {
        Item::Step(step) => step,
        Item::LeftOut(_) | Item::Pause(_) => return width(&item.cut().unwrap_or_default()) + 4,
    };
    let detail = step
        .detail
        .as_deref()
        .map_or(0, |detail| width(detail).min(MAX_DETAIL) + 4);
    (width(&step.label).min(MAX_WANTED) + ARROW).max(detail)
}

/// What an arrow needs besides its label: a lifeline, a dash and a blank on each side, the head.
const ARROW: usize = 6;

/// Most rows of a detail.
const DETAIL_ROWS: usize = 2;

/// The columns that a detail may ask for; a longer one is broken into rows.
const MAX_DETAIL: usize = 30;

/// Widest box of a participant.
const MAX_HEAD: usize = 24;

/// The columns that a label may ask for.
const MAX_WANTED: usize = 48;

/// Lifelines do not stand closer.
const MIN_GAP: usize = 16;

/// `123.4`.
const MIN_TIME: usize = 7;

/// The column of layers and the blanks beside it.
const TAG: usize = 9;
