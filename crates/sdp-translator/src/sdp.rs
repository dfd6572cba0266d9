//! A session description as lines: what is not understood stays as it is, byte for byte.

use crate::{MAX_LINES, MAX_MEDIA, MAX_SDP};
use siprtc_core::media::Direction;
use siprtc_core::{Error, Fault, Result};
use std::borrow::Cow;
use std::collections::HashMap;

/// An attribute's name, to look for in many lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'n> {
    text: &'n str,
    /// Its first eight octets, and which of those it has.
    lead: u64,
    mask: u64,
}

impl<'n> Name<'n> {
    #[inline]
    pub(crate) const fn new(text: &'n str) -> Self {
        let (octets, mut at) = (text.as_bytes(), 0);
        let (mut lead, mut mask) = (0, 0);
        while at < octets.len() && at < 8 {
            lead |= (octets[at] as u64) << (8 * at);
            mask |= 0xff << (8 * at);
            at += 1;
        }
        Name { text, lead, mask }
    }
}

/// Several, where they are written down once.
pub(crate) const fn names<const N: usize>(texts: [&'static str; N]) -> [Name<'static>; N] {
    let (mut names, mut at) = ([Name::new(""); N], 0);
    while at < N {
        names[at] = Name::new(texts[at]);
        at += 1;
    }
    names
}

/// One line without its line end, borrowed as long as no rule touches it; and the first eight octets of its attribute's name: each
/// rule asks each line whether it is this or that attribute, and nearly all are another.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a>(pub(crate) Cow<'a, str>, u64);

/// A line whose attribute's name begins with what may be a blank is looked at whole. No name begins with these octets.
const ODD: u64 = u64::MAX;

impl<'a> Line<'a> {
    pub(crate) fn new(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        let lead = lead(&text);
        Line(text, lead)
    }

    /// The type letter (RFC 8866 section 5); `None` for what is no SDP line.
    #[inline]
    pub(crate) fn letter(&self) -> Option<u8> {
        match self.0.as_bytes() {
            [letter @ b'a'..=b'z', b'=', ..] => Some(*letter),
            _ => None,
        }
    }

    /// A value has neither of them (RFC 8866 section 9, byte-string).
    pub(crate) fn is_text(&self) -> bool {
        !self.0.contains(['\0', '\r'])
    }

    /// What follows `x=`, without blanks around it.
    #[inline]
    pub(crate) fn value(&self) -> &str {
        self.0.get(2..).unwrap_or_default().trim()
    }

    /// Name and value of an `a=` line; the value of a property attribute is empty.
    #[inline]
    pub(crate) fn attribute(&self) -> Option<(&str, &str)> {
        if self.letter() != Some(b'a') {
            return None;
        }
        let value = self.value();
        Some(match value.split_once(':') {
            Some((name, value)) => (name.trim_end(), value.trim_start()),
            None => (value, ""),
        })
    }

    /// The value, when this is the attribute `name`.
    #[inline]
    pub(crate) fn attribute_value(&self, name: &str) -> Option<&str> {
        self.value_of(Name::new(name))
    }

    /// The same for a name that is asked for often.
    #[inline]
    pub(crate) fn value_of(&self, name: Name<'_>) -> Option<&str> {
        if self.1 & name.mask != name.lead && self.1 != ODD {
            return None;
        }
        self.value_after(name.text)
    }

    fn value_after(&self, name: &str) -> Option<&str> {
        if self.letter() != Some(b'a') {
            return None;
        }
        let rest = self.0.get(2..)?.trim_start().strip_prefix(name)?.trim();
        if rest.is_empty() {
            Some(rest)
        } else {
            rest.strip_prefix(':').map(str::trim_start)
        }
    }
}

/// See [`Line`].
fn lead(text: &str) -> u64 {
    let [b'a', b'=', rest @ ..] = text.as_bytes() else {
        return 0;
    };
    match rest.first() {
        None => 0,
        // What is no printable ASCII may be a blank.
        Some(byte) if *byte <= b' ' || !byte.is_ascii() => ODD,
        Some(_) => rest.first_chunk().map_or_else(
            || {
                let octets = rest.iter().enumerate();
                octets.fold(0, |lead, (at, octet)| lead | u64::from(*octet) << (8 * at))
            },
            |octets| u64::from_le_bytes(*octets),
        ),
    }
}

/// The fields of an `m=` line.
#[derive(Clone, Debug)]
pub(crate) struct MediaLine<'a> {
    pub(crate) media: &'a str,
    pub(crate) port: &'a str,
    pub(crate) proto: &'a str,
    pub(crate) formats: Vec<&'a str>,
}

impl MediaLine<'_> {
    /// RTP in any of its profiles.
    pub(crate) fn is_rtp(&self) -> bool {
        is_rtp(self.proto)
    }

    /// A data channel in the one form that WebRTC engines know (RFC 8841 section 4).
    pub(crate) fn is_data_channel(&self) -> bool {
        self.media == "application" && self.formats == ["webrtc-datachannel"]
    }
}

/// Lines of an m-line that there is room for from the beginning: a telephone's have twenty, a browser's a hundred.
const LINES: usize = 64;

/// RTP in any of its profiles.
pub(crate) fn is_rtp(proto: &str) -> bool {
    proto.split('/').any(|word| word == "RTP")
}

/// The lines of the session, or of one medium; a medium's first line is its `m=` line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section<'a> {
    pub(crate) lines: Vec<Line<'a>>,
}

impl<'a> Section<'a> {
    pub(crate) fn media_line(&self) -> MediaLine<'_> {
        let mut words = self
            .lines
            .first()
            .map(Line::value)
            .unwrap_or_default()
            .split_ascii_whitespace();
        MediaLine {
            media: words.next().unwrap_or_default(),
            port: words.next().unwrap_or_default(),
            proto: words.next().unwrap_or_default(),
            formats: words.collect(),
        }
    }

    /// Medium and transport of the `m=` line, without its formats.
    pub(crate) fn medium(&self) -> (&str, &str) {
        let line = self.lines.first().map(Line::value).unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let medium = words.next().unwrap_or_default();
        (medium, words.nth(1).unwrap_or_default())
    }

    /// The values of every attribute `name`.
    #[inline]
    pub(crate) fn attributes<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        let name = Name::new(name);
        self.lines.iter().filter_map(move |line| line.value_of(name))
    }

    /// The first attribute `name`.
    #[inline]
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let name = Name::new(name);
        self.lines.iter().find_map(|line| line.value_of(name))
    }

    /// Where the first attribute `name` stands.
    #[inline]
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        let name = Name::new(name);
        self.lines.iter().position(|line| line.value_of(name).is_some())
    }

    /// The first line of the type `letter`.
    pub(crate) fn line(&self, letter: u8) -> Option<&Line<'a>> {
        self.lines.iter().find(|line| line.letter() == Some(letter))
    }

    /// Not rejected: a port other than 0, or `a=bundle-only` (RFC 9143 section 6).
    pub(crate) fn is_live(&self) -> bool {
        let line = self.lines.first().map(Line::value).unwrap_or_default();
        let port = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        let number = port.split('/').next().unwrap_or_default();
        number.parse::<u32>().is_ok_and(|port| port != 0) || self.position("bundle-only").is_some()
    }

    /// The direction said here, if any.
    pub(crate) fn direction(&self) -> Option<Direction> {
        use Direction::*;
        let known = [Inactive, RecvOnly, SendOnly, SendRecv]
            .map(|direction| (direction, Name::new(direction.as_str())));
        self.lines.iter().find_map(|line| {
            let said = known.iter().find(|(_, name)| line.value_of(*name).is_some());
            said.map(|(direction, _)| *direction)
        })
    }

    /// Every payload type's encoding, in the m-line's order, from `a=rtpmap` or from RFC 3551's static table. Payload
    /// types with neither are left out.
    pub(crate) fn encodings(&self) -> Vec<Encoding<'_>> {
        let maps = self.rtpmaps();
        let formats = self.media_line().formats;
        let encoding = |format: &&str| {
            let payload_type = format.parse().ok()?;
            let text = maps.of(format).or_else(|| static_encoding(payload_type))?;
            Encoding::read(payload_type, text)
        };
        formats.iter().filter_map(encoding).collect()
    }

    /// Whether [`Section::encodings`] has any.
    pub(crate) fn has_encoding(&self) -> bool {
        let formats = self.media_line().formats;
        let is_static = |format: &&str| format.parse().ok().and_then(static_encoding).is_some();
        // Nearly always the first is one; the table is for what is left.
        let mapped = self
            .attributes("rtpmap")
            .take(1)
            .filter_map(|value| value.split_once(' '))
            .any(|(format, text)| {
                format
                    .parse()
                    .is_ok_and(|number| Encoding::read(number, text).is_some())
                    && formats.contains(&format)
            });
        mapped || formats.iter().any(is_static) || !self.encodings().is_empty()
    }

    /// Every `a=rtpmap` that can be read.
    pub(crate) fn rtpmaps(&self) -> RtpMaps<'_> {
        let mut maps = RtpMaps::default();
        for (format, encoding) in self
            .attributes("rtpmap")
            .filter_map(|value| value.split_once(' '))
        {
            if Encoding::read(0, encoding).is_some() {
                maps.add(format, encoding.trim());
            }
        }
        maps
    }
}

/// The `a=rtpmap` lines of one m-line, the first of each format. A table, because an m-line may have tens of thousands of
/// formats within the bounds, and each is looked up.
#[derive(Debug)]
pub(crate) struct RtpMaps<'a> {
    /// By payload type.
    numbered: [Option<&'a str>; 128],
    /// Of formats that are no payload type.
    other: HashMap<&'a str, &'a str>,
}

impl Default for RtpMaps<'_> {
    fn default() -> Self {
        RtpMaps {
            numbered: [None; 128],
            other: HashMap::new(),
        }
    }
}

impl<'a> RtpMaps<'a> {
    fn add(&mut self, format: &'a str, encoding: &'a str) {
        match payload_type(format).and_then(|number| self.numbered.get_mut(number)) {
            Some(map) => _ = map.get_or_insert(encoding),
            None => _ = self.other.entry(format).or_insert(encoding),
        }
    }

    /// `name/clock[/channels]` of a format.
    pub(crate) fn of(&self, format: &str) -> Option<&'a str> {
        match payload_type(format).and_then(|number| self.numbered.get(number)) {
            Some(map) => *map,
            None => self.other.get(format).copied(),
        }
    }
}

/// A payload type as it is written: without a sign or zeros before it.
fn payload_type(format: &str) -> Option<usize> {
    let octets = format.as_bytes();
    if !matches!(octets, [b'0'] | [b'1'..=b'9'] | [b'1'..=b'9', _] | [b'1', _, _]) {
        return None;
    }
    let digit = |octet: &u8| octet.is_ascii_digit().then(|| usize::from(octet - b'0'));
    let number = octets
        .iter()
        .try_fold(0, |number, octet| Some(number * 10 + digit(octet)?));
    number.filter(|number| *number < 128)
}

/// One payload type's `a=rtpmap`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding<'a> {
    pub(crate) payload_type: u8,
    pub(crate) name: &'a str,
    pub(crate) clock_rate: u32,
    /// One where nothing else is said (RFC 8866 section 6.6).
    pub(crate) channels: u8,
}

impl<'a> Encoding<'a> {
    fn read(payload_type: u8, text: &'a str) -> Option<Self> {
        let mut parts = text.trim().split('/');
        let name = parts.next().filter(|name| !name.is_empty())?;
        Some(Encoding {
            payload_type,
            name,
            clock_rate: parts.next()?.parse().ok()?,
            channels: parts
                .next()
                .and_then(|channels| channels.parse().ok())
                .unwrap_or(1),
        })
    }
}

/// RFC 3551 tables 4 and 5.
pub(crate) fn static_encoding(payload_type: u8) -> Option<&'static str> {
    Some(match payload_type {
        0 => "PCMU/8000",
        3 => "GSM/8000",
        4 => "G723/8000",
        5 => "DVI4/8000",
        6 => "DVI4/16000",
        7 => "LPC/8000",
        8 => "PCMA/8000",
        9 => "G722/8000",
        10 => "L16/44100/2",
        11 => "L16/44100",
        12 => "QCELP/8000",
        13 => "CN/8000",
        14 => "MPA/90000",
        15 => "G728/8000",
        16 => "DVI4/11025",
        17 => "DVI4/22050",
        18 => "G729/8000",
        25 => "CelB/90000",
        26 => "JPEG/90000",
        28 => "nv/90000",
        31 => "H261/90000",
        32 => "MPV/90000",
        33 => "MP2T/90000",
        34 => "H263/90000",
        _ => return None,
    })
}

/// A session description.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sdp<'a> {
    pub(crate) session: Section<'a>,
    pub(crate) media: Vec<Section<'a>>,
    /// Lines that did not end in CRLF; the last one may end in nothing.
    pub(crate) bare_line_ends: usize,
    /// Some line has a NUL or a CR within.
    pub(crate) has_noise: bool,
}

impl<'a> Sdp<'a> {
    /// Splits `text` into lines. Only what cannot be repaired is an error: no SDP at all, or too much of it.
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        if text.len() > MAX_SDP {
            return Err(misbehaved(format!(
                "it has {} octets, more than {MAX_SDP}",
                text.len()
            )));
        }
        let octets = text.as_bytes();
        let returns = memchr::memchr_iter(b'\r', octets).count();
        let feeds = memchr::memchr_iter(b'\n', octets).count();
        if returns > 0 && feeds == 0 {
            return Err(misbehaved("its lines end in CR alone".to_owned()));
        }
        if feeds + usize::from(octets.last().is_some_and(|octet| *octet != b'\n')) > MAX_LINES {
            return Err(misbehaved(format!("it has more than {MAX_LINES} lines")));
        }
        let mut sdp = Sdp::default();
        let (mut clean, mut start) = (0, 0);
        let ends = memchr::memchr_iter(b'\n', octets).map(|at| at + 1);
        // The last line may end in nothing.
        for end in ends.chain(std::iter::once(octets.len())) {
            let Some(raw) = text.get(start..end).filter(|raw| !raw.is_empty()) else {
                continue;
            };
            start = end;
            let line = match raw.strip_suffix("\r\n") {
                Some(line) if !line.ends_with('\r') => {
                    clean += 1;
                    line
                }
                _ => {
                    sdp.bare_line_ends += 1;
                    raw.trim_end_matches(['\r', '\n'])
                }
            };
            sdp.push(Line::new(line))?;
        }
        sdp.has_noise = returns != clean || memchr::memchr(0, octets).is_some();
        if sdp.session.lines.first().and_then(Line::letter) != Some(b'v') {
            return Err(misbehaved("it does not begin with \"v=\"".to_owned()));
        }
        Ok(sdp)
    }

    fn push(&mut self, line: Line<'a>) -> Result<()> {
        if line.letter() == Some(b'm') {
            if !line.is_text() {
                return Err(misbehaved("an m-line has a NUL or a CR within".to_owned()));
            }
            if self.media.len() == MAX_MEDIA {
                return Err(misbehaved(format!("it has more than {MAX_MEDIA} m-lines")));
            }
            self.media.push(Section {
                lines: Vec::with_capacity(LINES),
            });
        }
        self.media
            .last_mut()
            .unwrap_or(&mut self.session)
            .lines
            .push(line);
        Ok(())
    }

    /// Every line in its place.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line<'a>> {
        std::iter::once(&self.session)
            .chain(&self.media)
            .flat_map(|section| &section.lines)
    }

    /// The text, with CRLF after every line.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.lines().map(|line| line.0.len() + 2).sum());
        for line in self.lines() {
            text.push_str(&line.0);
            text.push_str("\r\n");
        }
        text
    }

    /// An attribute of an m-line, or the session's where RFC 8866 lets it stand for every m-line.
    pub(crate) fn attribute<'s>(&'s self, media: &'s Section<'_>, name: &str) -> Option<&'s str> {
        media.attribute(name).or_else(|| self.session.attribute(name))
    }

    /// The direction of an m-line (RFC 8866 section 6.7: the session's, and sendrecv by default).
    pub(crate) fn direction(&self, media: &Section<'_>) -> Direction {
        media
            .direction()
            .or_else(|| self.session.direction())
            .unwrap_or_default()
    }

    /// The mids of every BUNDLE group.
    pub(crate) fn bundles(&self) -> impl Iterator<Item = Vec<&str>> {
        self.session.attributes("group").filter_map(|value| {
            let mut words = value.split_ascii_whitespace();
            (words.next() == Some("BUNDLE")).then(|| words.collect())
        })
    }

    /// The connection address that counts for an m-line: its own `c=` line, or the session's.
    pub(crate) fn connection_address<'s>(&'s self, media: &'s Section<'_>) -> Option<&'s str> {
        let line = media
            .line(b'c')
            .map(Line::value)
            .or_else(|| self.session.line(b'c').map(Line::value))?;
        line.split_ascii_whitespace().nth(2)?.split('/').next()
    }
}

/// The address that stands for none: hold in old endpoints, "not known yet" in WebRTC.
pub(crate) fn is_unspecified(address: &str) -> bool {
    address
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
}

fn misbehaved(what: String) -> Error {
    Error::new(Fault::PeerMisbehaved, "read SDP", what)
        .advice("RFC 8866 says what a session description looks like")
}
