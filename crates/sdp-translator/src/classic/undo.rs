//! The way back: what a translation changed, taken back in reverse order.

use crate::sdp::{Line, MediaLine, Section};
use crate::work::Work;
use crate::{Change, Rule, Translation};
use siprtc_core::{Error, Fault, Result};
use std::collections::{HashMap, HashSet};

/// What it takes to make a WebRTC description again from the classic one that [`crate::to_classic`] made of it.
///
/// It holds what the classic description does not say (ICE credentials, candidates, fingerprints, stream ids, header
/// extensions, simulcast), so it belongs to the same call and to nobody else.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Undo {
    edits: Vec<(Change, usize)>,
}

impl Undo {
    pub(crate) fn new(changes: &[Change], places: &[usize]) -> Self {
        Undo {
            edits: changes.iter().cloned().zip(places.iter().copied()).collect(),
        }
    }

    /// The WebRTC description again. Of the classic description itself it is what it was, line by line; one that was changed
    /// since (another direction, fewer formats, a rejected m-line) keeps those changes.
    ///
    /// # Errors
    /// `PeerMisbehaved` for what is no SDP; `ApiMisuse` when it has more or fewer m-lines than the one that was made.
    pub fn restore(&self, classic_sdp: &str) -> Result<Translation> {
        let mut work = Work::new(classic_sdp)?;
        let places = self.edits.iter().filter_map(|(change, _)| change.media);
        if places.max().is_some_and(|last| last >= work.sdp.media.len()) {
            let what = "the description has fewer m-lines than the one that was translated".to_owned();
            return Err(Error::new(Fault::ApiMisuse, "restore SDP", what)
                .advice("give restore the description that to_classic made, or a later form of it"));
        }
        let was: Vec<Vec<String>> = work.sdp.media.iter().map(formats).collect();
        for (change, at) in self.edits.iter().rev() {
            take_back(&mut work, change, *at);
        }
        for (index, was) in was.iter().enumerate() {
            self.leave_out_what_went(&mut work, index, was);
        }
        Ok(work.finish())
    }

    /// Lines that came back for formats that did not.
    fn leave_out_what_went(&self, work: &mut Work<'_>, index: usize, was: &[String]) {
        // Only a list that was narrowed since can be missing formats.
        let made = self.edits.iter().rev().find_map(|(change, _)| match change {
            Change {
                media: Some(media),
                after: Some(after),
                ..
            } if *media == index && after.starts_with("m=") => Some(after.as_str()),
            _ => None,
        });
        let is_same = made.is_none_or(|made| {
            let line = Section {
                lines: vec![Line::new(made)],
            };
            formats(&line) == *was
        });
        if is_same {
            return;
        }
        let now: HashSet<String> = formats(&work.sdp.media[index]).into_iter().collect();
        work.remove(Rule::ClassicFormats, Some(index), |line| {
            format_of(line).is_some_and(|format| !now.contains(format))
        });
    }
}

/// The format that an attribute speaks of.
pub(super) fn format_of<'l>(line: &'l Line<'_>) -> Option<&'l str> {
    let value = ["rtpmap", "fmtp", "rtcp-fb"]
        .iter()
        .find_map(|name| line.attribute_value(name))?;
    value
        .split_ascii_whitespace()
        .next()
        .filter(|format| *format != "*")
}

fn formats(section: &Section<'_>) -> Vec<String> {
    let line = section.media_line();
    line.formats.iter().map(|format| (*format).to_owned()).collect()
}

fn take_back(work: &mut Work<'_>, change: &Change, at: usize) {
    let place = change.media;
    let Some(section) = work.section(place) else {
        return;
    };
    // Where the line stands now: at its place, or, when others came or went since, wherever it is.
    let found = change.after.as_deref().and_then(|after| {
        let is_there = section.lines.get(at).is_some_and(|line| line.0 == after);
        if is_there {
            return Some(at);
        }
        section
            .lines
            .iter()
            .position(|line| line.0 == after)
            .or_else(|| section.lines.iter().position(|line| is_successor(line, after)))
    });
    match (&change.before, &change.after, found) {
        (Some(before), Some(after), Some(at)) => {
            let now = section.lines.get(at).map(|line| line.0.clone().into_owned());
            let text = match now {
                Some(now) if now != *after && now.starts_with("m=") => merge(before, after, &now),
                _ => before.clone(),
            };
            work.replace(change.rule, place, at, text);
        }
        (None, Some(_), Some(at)) => work.take(change.rule, place, at),
        (Some(before), None, _) => work.insert(change.rule, place, at, before.clone()),
        _ => {}
    }
}

/// A line of which there is one in a section: another value of it stands for it.
fn is_successor(line: &Line<'_>, after: &str) -> bool {
    let made = Line::new(after);
    match (made.letter(), made.attribute()) {
        (Some(letter @ (b'm' | b'c')), _) => line.letter() == Some(letter),
        (_, Some((name @ ("rtcp" | "crypto" | "setup" | "fingerprint"), _))) => {
            line.attribute_value(name).is_some()
        }
        _ => false,
    }
}

/// An m= line that was `before`, was made `after` and is `now`: what was changed since stays changed.
fn merge(before: &str, after: &str, now: &str) -> String {
    let lines = [before, after, now].map(|text| Section {
        lines: vec![Line::new(text)],
    });
    let [before, after, now] = [&lines[0], &lines[1], &lines[2]].map(Section::media_line);
    let either = |was: fn(&MediaLine<'_>) -> String| match was(&now) == was(&after) {
        true => was(&before),
        false => was(&now),
    };
    let medium = either(|line| line.media.to_owned());
    let port = either(|line| line.port.to_owned());
    let proto = either(|line| line.proto.to_owned());
    let formats: Vec<&str> = if now.formats == after.formats {
        before.formats
    } else if before.formats.len() == after.formats.len() {
        let table: HashMap<&str, &str> = after.formats.iter().copied().zip(before.formats).collect();
        let back = |format: &&str| table.get(format).copied();
        now.formats
            .into_iter()
            .map(|format| back(&format).unwrap_or(format))
            .collect()
    } else {
        now.formats
    };
    format!("m={medium} {port} {proto} {}", formats.join(" "))
}
