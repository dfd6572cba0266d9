//! Text whose width matters: cleaned, measured, cut and broken into lines.

use std::time::Duration;

/// Without what would break a terminal, an XML document or the order of writing: control characters become `�`, line
/// ends and tabs blanks, invisible characters and direction marks go. At most `most` characters.
pub(super) fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().filter(|c| !is_invisible(*c)).enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        out.push(match c {
            '\n' | '\r' | '\t' => ' ',
            '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        });
    }
    out
}

/// Columns of a terminal.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The start of `text` that fits into `most` columns, with `…` when something is missing.
pub(super) fn fit(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += columns(c);
        if used > most {
            break;
        }
        out.push(c);
    }
    // A blank before the dots looks like a word that was lost.
    let mut out = out.trim_end().to_owned();
    if most > 0 {
        out.push('…');
    }
    out
}

/// Broken at blanks into at most `rows` lines of at most `most` columns, about equally long; what does not fit is cut.
pub(super) fn wrap(text: &str, most: usize, rows: usize) -> Vec<String> {
    let lines = broken(text, most, rows);
    if lines.iter().any(|line| width(line) > most) {
        return lines.iter().map(|line| fit(line, most)).collect();
    }
    // The narrowest column that needs no more lines and cuts nothing.
    (1..most)
        .map(|narrow| (narrow, broken(text, narrow, lines.len())))
        .find(|(narrow, lines)| lines.iter().all(|line| width(line) <= *narrow))
        .map_or(lines, |(_, lines)| lines)
}

/// Lines of `most` columns while there are rows for them; a word longer than that, and the last line, may be longer.
fn broken(text: &str, most: usize, rows: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let is_last_row = lines.len() >= rows;
        match lines.last_mut() {
            Some(line) if is_last_row || width(line) + 1 + width(word) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `350 ms`, `2.4 s`, `3 min 5 s`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Columns of one character: 0 for marks that sit on the one before, 2 for East Asian wide ones and pictographs.
pub(super) fn columns(c: char) -> usize {
    let code = u32::from(c);
    if code < 0x300 {
        return 1;
    }
    match () {
        () if within(code, ZERO) => 0,
        () if within(code, WIDE) => 2,
        () => 1,
    }
}

fn within(code: u32, ranges: &[(u32, u32)]) -> bool {
    let index = ranges.partition_point(|(_, end)| *end < code);
    ranges.get(index).is_some_and(|(start, _)| *start <= code)
}

/// Zero-width blanks and joiners, variation selectors, and the marks that turn the direction of writing.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c),
        0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff
        | 0xfff9..=0xfffb | 0xe0000..=0xe0fff)
}

/// Combining marks of the scripts most met; sorted.
const ZERO: &[(u32, u32)] = &[
    (0x300, 0x36f),
    (0x483, 0x489),
    (0x591, 0x5bd),
    (0x5bf, 0x5bf),
    (0x5c1, 0x5c2),
    (0x5c4, 0x5c5),
    (0x610, 0x61a),
    (0x64b, 0x65f),
    (0x670, 0x670),
    (0x6d6, 0x6dc),
    (0x93c, 0x93c),
    (0x941, 0x948),
    (0x94d, 0x94d),
    (0xe31, 0xe31),
    (0xe34, 0xe3a),
    (0xe47, 0xe4e),
    (0x1ab0, 0x1aff),
    (0x1dc0, 0x1dff),
    (0x20d0, 0x20ff),
    (0x3099, 0x309a),
    (0xfe20, 0xfe2f),
];

/// East Asian Width W and F, and pictographs shown wide; sorted.
const WIDE: &[(u32, u32)] = &[
    (0x1100, 0x115f),
    (0x231a, 0x231b),
    (0x2329, 0x232a),
    (0x23e9, 0x23ec),
    (0x23f0, 0x23f0),
    (0x23f3, 0x23f3),
    (0x25fd, 0x25fe),
    (0x2614, 0x2615),
    (0x2648, 0x2653),
    (0x267f, 0x267f),
    (0x2693, 0x2693),
    (0x26a1, 0x26a1),
    (0x26aa, 0x26ab),
    (0x26bd, 0x26be),
    (0x26c4, 0x26c5),
    (0x26ce, 0x26ce),
    (0x26d4, 0x26d4),
    (0x26ea, 0x26ea),
    (0x26f2, 0x26f3),
    (0x26f5, 0x26f5),
    (0x26fa, 0x26fa),
    (0x26fd, 0x26fd),
    (0x2705, 0x2705),
    (0x270a, 0x270b),
    (0x2728, 0x2728),
    (0x274c, 0x274c),
    (0x274e, 0x274e),
    (0x2753, 0x2755),
    (0x2757, 0x2757),
    (0x2795, 0x2797),
    (0x27b0, 0x27b0),
    (0x27bf, 0x27bf),
    (0x2b1b, 0x2b1c),
    (0x2b50, 0x2b50),
    (0x2b55, 0x2b55),
    (0x2e80, 0x303e),
    (0x3041, 0xa4cf),
    (0xa960, 0xa97f),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe10, 0xfe19),
    (0xfe30, 0xfe6f),
    (0xff00, 0xff60),
    (0xffe0, 0xffe6),
    (0x1f004, 0x1f004),
    (0x1f0cf, 0x1f0cf),
    (0x1f18e, 0x1f18e),
    (0x1f191, 0x1f19a),
    (0x1f200, 0x1f265),
    (0x1f300, 0x1f320),
    (0x1f32d, 0x1f64f),
    (0x1f680, 0x1f6ff),
    (0x1f7e0, 0x1f7eb),
    (0x1f90c, 0x1f9ff),
    (0x1fa70, 0x1faff),
    (0x20000, 0x3fffd),
];
