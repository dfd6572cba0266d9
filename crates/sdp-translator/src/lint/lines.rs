//! The lines as such: what RFC 8866 section 5 says of all of them.

use super::{Check, Desk};
use crate::MAX_DATAGRAM;
use crate::repair::repair;
use crate::rule::Rule;
use crate::work::Work;

/// What the translator would repair is what is wrong.
pub(super) fn look(desk: &mut Desk<'_, '_>, text: &str) {
    let Ok(mut work) = Work::new(text) else { return };
    repair(&mut work);
    for change in work.notes.0 {
        let check = match change.rule {
            Rule::LineEnd => Check::LineEnd,
            Rule::LineInvalid => Check::LineInvalid,
            Rule::LineMissing => Check::LineMissing,
            Rule::LineOrder => Check::LineOrder,
            _ => continue,
        };
        // "s= " is the name of a session that has none (RFC 8866 section 5.3).
        if change.before.as_deref() == Some("s= ") {
            continue;
        }
        let what = match (&change.before, &change.after) {
            (Some(before), None) if check == Check::LineEnd => before.clone(),
            (Some(before), _) if check == Check::LineOrder => format!("{before:?} stands in the wrong place"),
            (Some(before), _) => format!("{before:?} cannot be read"),
            (None, Some(after)) => format!(
                "there is no {}= line",
                after.split('=').next().unwrap_or_default()
            ),
            (None, None) => continue,
        };
        let section = match change.media {
            Some(index) => desk.sdp.media.get(index),
            None => Some(&desk.sdp.session),
        };
        let at = section.and_then(|section| {
            section
                .lines
                .iter()
                .position(|line| Some(&*line.0) == change.before.as_deref())
        });
        desk.find(check, change.media, at, what).fix(change.rule);
    }
    if text.len() > MAX_DATAGRAM {
        let what = format!("it has {} octets", text.len());
        desk.find(Check::LongForDatagram, None, None, what);
    }
}
