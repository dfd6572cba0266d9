//! Repairs of the syntax, the same both ways.

use crate::rule::Rule;
use crate::sdp::{Line, Name, Section, names};
use crate::work::Work;

/// In this order: each may rely on those before it.
const REPAIRS: &[fn(&mut Work<'_>)] = &[line_ends, invalid_lines, missing_lines, order];

pub(crate) fn repair(work: &mut Work<'_>) {
    for rule in REPAIRS {
        rule(work);
    }
}

/// Printing ends every line in CRLF; only the note is left to do, one for all lines.
fn line_ends(work: &mut Work<'_>) {
    let count = work.sdp.bare_line_ends;
    if count > 0 {
        let before = format!("{count} lines without CR LF");
        work.notes.push(Rule::LineEnd, None, Some(before), None);
    }
}

fn invalid_lines(work: &mut Work<'_>) {
    let has_noise = work.sdp.has_noise;
    for place in work.places() {
        let ranks = if place.is_none() {
            &SESSION_ORDER
        } else {
            &MEDIA_ORDER
        };
        work.remove(Rule::LineInvalid, place, |line| {
            rank(ranks, line).is_none() || (has_noise && !line.is_text())
        });
    }
}

/// What contradicts itself is read one way everywhere: the first counts. Whoever reads the last would not be where we are.
pub(crate) fn contradictions(work: &mut Work<'_>) {
    const SINGLE: [Name<'_>; 4] = names(["ice-pwd", "ice-ufrag", "mid", "setup"]);
    const DIRECTIONS: [Name<'_>; 4] = names(["inactive", "recvonly", "sendonly", "sendrecv"]);
    for place in work.places() {
        let mut seen = [false; SINGLE.len() + 1];
        work.remove(Rule::Contradiction, place, |line| {
            let is_it = |name: &Name<'_>| line.value_of(*name).is_some();
            let at = match SINGLE.iter().position(&is_it) {
                None if DIRECTIONS.iter().any(is_it) => Some(SINGLE.len()),
                at => at,
            };
            at.is_some_and(|at| std::mem::replace(&mut seen[at], true))
        });
    }
}

/// Whether a line's value can be read.
type IsFine = fn(&str) -> bool;

fn missing_lines(work: &mut Work<'_>) {
    const MANDATORY: [(u8, &str, IsFine); 4] = [
        (b'v', "v=0", |value| value == "0"),
        (b'o', "o=- 0 0 IN IP4 0.0.0.0", is_origin),
        (b's', "s=-", |value| !value.is_empty()),
        (b't', "t=0 0", is_timing),
    ];
    for (rank, (letter, text, is_fine)) in MANDATORY.into_iter().enumerate() {
        let lines = &work.sdp.session.lines;
        match lines.iter().position(|line| line.letter() == Some(letter)) {
            // At its own rank among v=, o= and s=; `order` moves t= behind c= and b=.
            None => work.insert(Rule::LineMissing, None, rank, text.to_owned()),
            Some(at) if !is_fine(lines[at].value()) => {
                work.replace(Rule::LineMissing, None, at, text.to_owned());
            }
            Some(_) => {}
        }
    }
}

/// RFC 8866 section 5.2.
fn is_origin(value: &str) -> bool {
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    matches!(words.as_slice(), [_, id, version, _, _, _] if id.parse::<u64>().is_ok() && version.parse::<u64>().is_ok())
}

/// Start and stop (RFC 8866 section 5.9).
pub(crate) fn is_timing(value: &str) -> bool {
    let times = value
        .split_ascii_whitespace()
        .filter(|time| time.parse::<u64>().is_ok());
    times.count() == 2
}

fn order(work: &mut Work<'_>) {
    for place in work.places() {
        let ranks = if place.is_none() {
            &SESSION_ORDER
        } else {
            &MEDIA_ORDER
        };
        let Some(section) = work.section_mut(place) else {
            continue;
        };
        if let Some(moved) = sort(section, ranks) {
            work.notes
                .push(Rule::LineOrder, place, Some(moved.clone()), Some(moved));
        }
    }
}

/// Each letter's rank, from 1; 0 for one that may not stand there.
type Ranks = [u8; 26];

/// An r= line belongs to the t= line before it: they share a rank and stay as they stand.
const SESSION_ORDER: Ranks = ranks(&[
    b"v", b"o", b"s", b"i", b"u", b"e", b"p", b"c", b"b", b"tr", b"z", b"k", b"a",
]);
const MEDIA_ORDER: Ranks = ranks(&[b"m", b"i", b"c", b"b", b"k", b"a"]);

const fn ranks(order: &[&[u8]]) -> Ranks {
    let (mut ranks, mut rank) = ([0; 26], 0);
    while rank < order.len() {
        let mut at = 0;
        while at < order[rank].len() {
            ranks[(order[rank][at] - b'a') as usize] = rank as u8 + 1;
            at += 1;
        }
        rank += 1;
    }
    ranks
}

#[inline]
fn rank(ranks: &Ranks, line: &Line<'_>) -> Option<u8> {
    let letter = line.letter()?;
    let rank = ranks.get(usize::from(letter.checked_sub(b'a')?))?;
    Some(*rank).filter(|rank| *rank > 0)
}

/// The first line that stood in a wrong place.
fn sort(section: &mut Section<'_>, ranks: &Ranks) -> Option<String> {
    let mut last = None;
    let is_wrong = |line: &&Line<'_>| {
        let rank = rank(ranks, line);
        std::mem::replace(&mut last, rank) > rank
    };
    let wrong = section.lines.iter().find(is_wrong)?.0.clone().into_owned();
    section.lines.sort_by_key(|line| rank(ranks, line));
    Some(wrong)
}
