//! A session description as lines: what is not understood stays as it is, byte for byte.

use crate::{MAX_LINES, MAX_MEDIA, MAX_SDP};
use siprtc_core::media::Direction;
use siprtc_core::{Error, Fault, Result};
use std::borrow::Cow;
use std::collections::HashMap;

/// One line without its line end. Borrowed as long as no rule touches it.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a>(pub(crate) Cow<'a, str>);

impl<'a> Line<'a> {
    pub(crate) fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Line(text.into())
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
        // Each rule asks this of each line: two octets tell that nearly all are another attribute.
        let ([b'a', b'=', rest @ ..], [first, ..]) = (self.0.as_bytes(), name.as_bytes()) else {
            return None;
        };
        // What is no printable ASCII may be a blank: it is looked at below.
        let is_blank = |byte: &u8| *byte <= b' ' || !byte.is_ascii();
        let may_be = match rest.first() {
            Some(byte) if byte == first => {
                let end = rest.get(name.len());
                end.is_none_or(|byte| *byte == b':' || is_blank(byte))
            }
            byte => byte.is_some_and(is_blank),
        };
        if !may_be {
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
        self.proto.split('/').any(|word| word == "RTP")
    }

    /// A data channel in the one form that WebRTC engines know (RFC 8841 section 4).
    pub(crate) fn is_data_channel(&self) -> bool {
        self.media == "application" && self.formats == ["webrtc-datachannel"]
    }
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

    /// The values of every attribute `name`.
    #[inline]
    pub(crate) fn attributes<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.lines
            .iter()
            .filter_map(move |line| line.attribute_value(name))
    }

    /// The first attribute `name`.
    #[inline]
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.attribute_value(name))
    }

    /// Where the first attribute `name` stands.
    #[inline]
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.lines
            .iter()
            .position(|line| line.attribute_value(name).is_some())
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
        self.lines.iter().find_map(|line| {
            [Inactive, RecvOnly, SendOnly, SendRecv]
                .into_iter()
                .find(|direction| line.attribute_value(direction.as_str()).is_some())
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
        let mut maps = HashMap::new();
        for (format, encoding) in self
            .attributes("rtpmap")
            .filter_map(|value| value.split_once(' '))
        {
            if Encoding::read(0, encoding).is_some() {
                maps.entry(format).or_insert(encoding.trim());
            }
        }
        RtpMaps(maps)
    }
}

/// The `a=rtpmap` lines of one m-line, the first of each format. A table, because an m-line may have tens of thousands of
/// formats within the bounds, and each is looked up.
#[derive(Debug)]
pub(crate) struct RtpMaps<'a>(HashMap<&'a str, &'a str>);

impl<'a> RtpMaps<'a> {
    /// `name/clock[/channels]` of a format.
    pub(crate) fn of(&self, format: &str) -> Option<&'a str> {
        self.0.get(format).copied()
    }
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
        if text.contains('\r') && !text.contains('\n') {
            return Err(misbehaved("its lines end in CR alone".to_owned()));
        }
        let mut sdp = Sdp::default();
        let mut count = 0;
        let mut clean = 0;
        for raw in text.split_inclusive('\n') {
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
            count += 1;
            if count > MAX_LINES {
                return Err(misbehaved(format!("it has more than {MAX_LINES} lines")));
            }
            sdp.push(Line::new(line))?;
        }
        let octets = text.as_bytes();
        sdp.has_noise = octets.contains(&0) || octets.iter().filter(|byte| **byte == b'\r').count() != clean;
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
            self.media.push(Section::default());
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
