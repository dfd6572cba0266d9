//! Payload types of two sides.

use crate::classic::media::{Fields, set_line};
use crate::classic::target::misuse;
use crate::rule::Rule;
use crate::sdp::{Encoding, Sdp};
use crate::work::Work;
use siprtc_core::Result;
use std::collections::{HashMap, HashSet};

/// The payload types of `here` with those of the same encodings in m-line `index` of `there`, in the order of `here`: what a
/// bridge between the two writes over in each packet, and [`crate::Target::payload_types`]. Encodings are the same by name,
/// clock rate and channels; of several alike the first goes with the first.
///
/// # Errors
/// `PeerMisbehaved` for what is no SDP.
///
/// ```
/// let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n";
/// let here = format!("{head}m=audio 9 RTP/AVP 111 0 126\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:126 telephone-event/8000\r\n");
/// let there = format!("{head}m=audio 9 RTP/AVP 101 96 0\r\na=rtpmap:96 OPUS/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n");
/// assert_eq!(siprtc_sdp_translator::payload_types(&here, &there, 0)?, [(111, 96), (0, 0), (126, 101)]);
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub fn payload_types(here: &str, there: &str, index: usize) -> Result<Vec<(u8, u8)>> {
    let (here, there) = (Sdp::parse(here)?, Sdp::parse(there)?);
    let (Some(here), Some(there)) = (here.media.get(index), there.media.get(index)) else {
        return Ok(Vec::new());
    };
    let key = |encoding: &Encoding<'_>| {
        (
            encoding.name.to_ascii_lowercase(),
            encoding.clock_rate,
            encoding.channels,
        )
    };
    let mut theirs: HashMap<_, Vec<u8>> = HashMap::new();
    // The last first, so that the first is taken first.
    for encoding in there.encodings().iter().rev() {
        theirs
            .entry(key(encoding))
            .or_default()
            .push(encoding.payload_type);
    }
    let pair = |encoding: &Encoding<'_>| {
        let other = theirs.get_mut(&key(encoding))?.pop()?;
        Some((encoding.payload_type, other))
    };
    Ok(here.encodings().iter().filter_map(pair).collect())
}

/// Writes the payload types of an m-line over, wherever they stand.
pub(super) fn renumber(work: &mut Work<'_>, index: usize, table: &HashMap<u8, u8>) -> Result<()> {
    let Some(media) = work.sdp.media.get(index).filter(|_| !table.is_empty()) else {
        return Ok(());
    };
    let old = media.media_line().formats;
    let formats: Vec<String> = old.iter().map(|format| number(format, table)).collect();
    let distinct = |count: usize, set: HashSet<&str>| set.len() == count;
    let was_distinct = distinct(old.len(), old.iter().copied().collect());
    if was_distinct && !distinct(formats.len(), formats.iter().map(String::as_str).collect()) {
        let what = format!("payload_types gives one number to two formats of m-line {index}");
        return Err(misuse(what).advice("name both of them in payload_types"));
    }
    let fields = Fields {
        formats: Some(formats.iter().map(String::as_str).collect()),
        ..Fields::default()
    };
    set_line(work, Rule::ClassicPayload, index, fields);
    let count = work.sdp.media.get(index).map_or(0, |media| media.lines.len());
    for at in 1..count {
        let line = work.sdp.media.get(index).and_then(|media| media.lines.get(at));
        if let Some(text) = line.and_then(|line| renumbered(line.attribute()?, table)) {
            work.replace(Rule::ClassicPayload, Some(index), at, text);
        }
    }
    Ok(())
}

fn renumbered((name, value): (&str, &str), table: &HashMap<u8, u8>) -> Option<String> {
    if !matches!(name, "rtpmap" | "fmtp" | "rtcp-fb") {
        return None;
    }
    let (format, rest) = value.split_once(' ')?;
    let rest = match name {
        "fmtp" => parameters(rest, table),
        _ => rest.to_owned(),
    };
    let text = format!("{} {rest}", number(format, table));
    (text != value).then(|| format!("a={name}:{text}"))
}

/// `apt=` of rtx (RFC 4588 section 8.1), and the list of red (RFC 2198 section 5).
fn parameters(text: &str, table: &HashMap<u8, u8>) -> String {
    let is_list = text.contains('/') && text.split('/').all(|word| word.parse::<u8>().is_ok());
    if is_list {
        let words: Vec<String> = text.split('/').map(|word| number(word, table)).collect();
        return words.join("/");
    }
    let words: Vec<String> = text
        .split(';')
        .map(|word| match word.split_once("apt=") {
            Some((before, format)) if before.trim().is_empty() => {
                format!("{before}apt={}", number(format.trim_end(), table))
            }
            _ => word.to_owned(),
        })
        .collect();
    words.join(";")
}

/// The formats that a format's parameters rest on.
pub(super) fn rests_on(parameters: &str) -> Vec<&str> {
    if parameters.contains('/') && parameters.split('/').all(|word| word.parse::<u8>().is_ok()) {
        return parameters.split('/').collect();
    }
    let of_rtx = parameters
        .split(';')
        .filter_map(|word| word.trim().strip_prefix("apt="));
    of_rtx.map(str::trim_end).collect()
}

fn number(format: &str, table: &HashMap<u8, u8>) -> String {
    let known = format.parse().ok().and_then(|own: u8| table.get(&own));
    known.map_or_else(|| format.to_owned(), u8::to_string)
}
