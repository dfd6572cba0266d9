//! Edits of an m-line that both ways need.

use crate::rule::Rule;
use crate::sdp::{Line, Name, names};
use crate::work::Work;
use siprtc_core::media::Direction;
use std::collections::HashSet;
use std::net::IpAddr;

/// Fields of an m= line that are to be others.
#[derive(Default)]
pub(super) struct Fields<'v> {
    pub(super) port: Option<&'v str>,
    pub(super) proto: Option<&'v str>,
    pub(super) formats: Option<Vec<&'v str>>,
}

/// Writes the m= line anew.
pub(super) fn set_line(work: &mut Work<'_>, rule: Rule, index: usize, fields: Fields<'_>) {
    let Some(media) = work.sdp.media.get(index) else {
        return;
    };
    let line = media.media_line();
    let text = format!(
        "m={} {} {} {}",
        line.media,
        fields.port.unwrap_or(line.port),
        fields.proto.unwrap_or(line.proto),
        fields.formats.as_ref().unwrap_or(&line.formats).join(" ")
    );
    work.replace(rule, Some(index), 0, text);
}

/// Port 0, and nothing that speaks of a medium which is not there.
pub(super) fn decline(work: &mut Work<'_>, index: usize) {
    let is_bare = work
        .sdp
        .media
        .get(index)
        .is_none_or(|media| media.media_line().formats.is_empty());
    let fields = Fields {
        port: Some("0"),
        // At least one format must stand there, whichever (RFC 3264 section 6).
        formats: is_bare.then(|| vec!["0"]),
        ..Fields::default()
    };
    set_line(work, Rule::ClassicDeclined, index, fields);
    work.remove(Rule::ClassicDeclined, Some(index), |line| {
        !matches!(line.letter(), Some(b'm' | b'i' | b'c'))
    });
}

/// Takes attributes out of the session and of every m-line.
pub(super) fn drop_attributes(work: &mut Work<'_>, rule: Rule, names: &[Name<'_>]) {
    work.remove_everywhere(rule, |line| is_one_of(line, names));
}

pub(super) fn is_one_of(line: &Line<'_>, names: &[Name<'_>]) -> bool {
    names.iter().any(|name| line.value_of(*name).is_some())
}

/// Where the first line of `letter` stands, or where it belongs: behind m= and i=.
fn connection_place(work: &Work<'_>, index: usize) -> (bool, usize) {
    let lines = work.sdp.media.get(index).map(|media| media.lines.as_slice());
    let lines = lines.unwrap_or_default();
    match lines.iter().position(|line| line.letter() == Some(b'c')) {
        Some(at) => (true, at),
        None => {
            let title = lines
                .iter()
                .take_while(|line| matches!(line.letter(), Some(b'm' | b'i')));
            (false, title.count())
        }
    }
}

/// The m-line's own c= line.
pub(super) fn set_connection(work: &mut Work<'_>, rule: Rule, index: usize, address: IpAddr) {
    let text = connection(address);
    match connection_place(work, index) {
        (true, at) => work.replace(rule, Some(index), at, text),
        (false, at) => work.insert(rule, Some(index), at, text),
    }
}

pub(super) fn connection(address: IpAddr) -> String {
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    format!("c=IN {family} {address}")
}

/// The m-line's own direction; several become one.
pub(super) fn set_direction(work: &mut Work<'_>, rule: Rule, index: usize, direction: Direction) {
    const DIRECTIONS: &[Name<'static>] = &names(["inactive", "recvonly", "sendonly", "sendrecv"]);
    let is_direction = |line: &Line<'_>| is_one_of(line, DIRECTIONS);
    let Some(media) = work.sdp.media.get(index) else {
        return;
    };
    let text = format!("a={direction}");
    let Some(at) = media.lines.iter().position(is_direction) else {
        work.append(rule, Some(index), text);
        return;
    };
    work.replace(rule, Some(index), at, text);
    let mut is_first = true;
    work.remove(rule, Some(index), |line| {
        is_direction(line) && !std::mem::replace(&mut is_first, false)
    });
}

/// Keeps the formats of `kept`, and takes out the lines that speak of others.
pub(super) fn keep_formats(work: &mut Work<'_>, rule: Rule, index: usize, kept: &HashSet<String>) {
    let Some(media) = work.sdp.media.get(index) else {
        return;
    };
    let formats: Vec<String> = media
        .media_line()
        .formats
        .into_iter()
        .map(str::to_owned)
        .collect();
    let (stay, go): (Vec<&str>, Vec<&str>) = formats
        .iter()
        .map(String::as_str)
        .partition(|format| kept.contains(*format));
    if go.is_empty() {
        return;
    }
    let go: HashSet<&str> = go.into_iter().collect();
    let fields = Fields {
        formats: Some(stay),
        ..Fields::default()
    };
    set_line(work, rule, index, fields);
    work.remove(rule, Some(index), |line| {
        super::undo::format_of(line).is_some_and(|format| go.contains(format))
    });
}
