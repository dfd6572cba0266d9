//! What a reader of a description would refuse or misread.

mod answer;
mod check;
mod ice;
mod lines;
mod media;
mod peer;
mod values;

pub use check::Check;

use crate::PeerProfile;
use crate::rule::Rule;
use crate::sdp::{Sdp, Section};
use crate::transport::group_of;
use serde::Serialize;
use std::fmt;

/// The most findings of one description. Of what goes beyond only the number is told, in a last finding of
/// [`Check::More`].
pub const MAX_FINDINGS: usize = 256;

/// What comes of a finding.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It may surprise, and nothing else.
    Note,
    /// Something is lost or late.
    Degrades,
    /// The description, or the m-line, is refused or does not work.
    Refuses,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Degrades => "degrades",
            Severity::Refuses => "refuses",
        })
    }
}

/// One thing that a reader would refuse or misread.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What comes of it.
    pub severity: Severity,
    /// What was looked for.
    pub check: Check,
    /// Which m-line, from 0; `None` for the session.
    pub media: Option<usize>,
    /// The number of the line, from 1; `None` when a line is missing.
    pub number: Option<usize>,
    /// The line, without its line end.
    pub line: Option<String>,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The reason, with the section of the RFC that it rests on.
    pub why: &'static str,
    /// From where it is known that the peer is so; `None` when no peer's profile was needed.
    pub source: Option<String>,
    /// What to do.
    pub advice: &'static str,
    /// The rule of the translator that does it, if there is one.
    pub fixed_by: Option<Rule>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.severity, self.check)?;
        match self.media {
            Some(index) => write!(f, " (m-line {index}")?,
            None => write!(f, " (session")?,
        }
        match (self.number, &self.line) {
            (Some(number), Some(line)) => write!(f, ", line {number} {line:?})")?,
            _ => write!(f, ")")?,
        }
        write!(f, ": {}, because {}", self.what, self.why)?;
        if let Some(source) = &self.source {
            write!(f, " [{}]", source.trim_end_matches('.'))?;
        }
        write!(f, "; {}", self.advice)?;
        match self.fixed_by {
            Some(rule) => write!(f, " (the rule {rule} does it)"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a description by the RFCs, and what the `peer` would refuse or misread, in the order of the lines.
/// Never fails: what is no description is a finding too.
///
/// ```
/// use siprtc_sdp_translator::{Check, PeerProfile, Severity, lint};
///
/// let plain = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
///              m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
/// assert!(lint(plain, None).is_empty());
///
/// let chrome = PeerProfile::named("chrome")?;
/// let findings = lint(plain, Some(&chrome));
/// assert!(findings.iter().any(|finding| finding.check == Check::PeerKeying && finding.severity == Severity::Refuses));
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub fn lint(sdp: &str, peer: Option<&PeerProfile>) -> Vec<Finding> {
    match Sdp::parse(sdp) {
        Ok(parsed) => {
            let mut desk = Desk::new(&parsed);
            desk.alone(sdp, peer);
            desk.finish()
        }
        Err(error) => vec![not_sdp(error.message())],
    }
}

/// [`lint`] of an answer, and whether it answers its `offer` (RFC 3264 section 6).
pub fn lint_answer(offer: &str, answer: &str, peer: Option<&PeerProfile>) -> Vec<Finding> {
    match (Sdp::parse(offer), Sdp::parse(answer)) {
        (Ok(asked), Ok(given)) => {
            let mut desk = Desk::new(&given);
            desk.alone(answer, peer);
            answer::look(&mut desk, &asked);
            desk.finish()
        }
        (Err(error), _) => vec![not_sdp(&format!("the offer is none: {}", error.message()))],
        (_, Err(error)) => vec![not_sdp(error.message())],
    }
}

fn not_sdp(what: &str) -> Finding {
    let check = Check::NotSdp;
    Finding {
        severity: check.severity(),
        check,
        media: None,
        number: None,
        line: None,
        what: what.to_owned(),
        why: check.why(),
        source: None,
        advice: check.advice(),
        fixed_by: None,
    }
}

/// A description on the desk, and what was found so far.
pub(crate) struct Desk<'s, 'a> {
    pub(crate) sdp: &'s Sdp<'a>,
    /// The number of each m-line's first line, from 1.
    starts: Vec<usize>,
    findings: Vec<Finding>,
    /// Findings beyond the bound.
    beyond: usize,
}

impl<'s, 'a> Desk<'s, 'a> {
    fn new(sdp: &'s Sdp<'a>) -> Self {
        let mut next = sdp.session.lines.len() + 1;
        let starts = sdp
            .media
            .iter()
            .map(|media| {
                let start = next;
                next += media.lines.len();
                start
            })
            .collect();
        Desk {
            sdp,
            starts,
            findings: Vec::new(),
            beyond: 0,
        }
    }

    /// Everything that needs no offer.
    fn alone(&mut self, text: &str, peer: Option<&PeerProfile>) {
        lines::look(self, text);
        media::look(self);
        values::look(self);
        ice::look(self);
        if let Some(peer) = peer {
            peer::look(self, peer);
        }
    }

    fn finish(mut self) -> Vec<Finding> {
        if self.beyond > 0 {
            // So that there is room for the one that tells of the others.
            self.findings.truncate(MAX_FINDINGS - 1);
            self.beyond += 1;
        }
        self.findings.sort_by_key(|finding| {
            (
                finding.media.map_or(0, |index| index + 1),
                finding.number,
                finding.check,
            )
        });
        if self.beyond > 0 {
            let what = format!("there are {} findings more", self.beyond);
            self.findings.push(Finding {
                check: Check::More,
                severity: Check::More.severity(),
                why: Check::More.why(),
                advice: Check::More.advice(),
                ..not_sdp(&what)
            });
        }
        self.findings
    }

    /// Notes a finding at line `at` of its section, or of the section as a whole.
    pub(crate) fn find(
        &mut self,
        check: Check,
        media: Option<usize>,
        at: Option<usize>,
        what: String,
    ) -> &mut Finding {
        if self.findings.len() == MAX_FINDINGS {
            // The newest takes the place of the one before it.
            self.beyond += 1;
            self.findings.truncate(MAX_FINDINGS - 1);
        }
        let section = match media {
            Some(index) => self.sdp.media.get(index),
            None => Some(&self.sdp.session),
        };
        let start = match media {
            Some(index) => self.starts.get(index).copied().unwrap_or(1),
            None => 1,
        };
        let line = at.and_then(|at| section?.lines.get(at));
        self.findings.push(Finding {
            severity: check.severity(),
            check,
            media,
            number: line.and(at).map(|at| start + at),
            line: line.map(|line| line.0.clone().into_owned()),
            what,
            why: check.why(),
            source: None,
            advice: check.advice(),
            fixed_by: None,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// The m-lines that are not rejected, with their number.
    pub(crate) fn live(&self) -> impl Iterator<Item = (usize, &'s Section<'a>)> + use<'s, 'a> {
        self.sdp
            .media
            .iter()
            .enumerate()
            .filter(|(_, media)| media.is_live())
    }

    /// The m-lines with RTP that are not rejected.
    pub(crate) fn live_rtp(&self) -> impl Iterator<Item = (usize, &'s Section<'a>)> + use<'s, 'a> {
        self.live().filter(|(_, media)| media.media_line().is_rtp())
    }

    /// An attribute of the transport: the m-line's, the session's, or that of an m-line on the same transport (RFC 9143
    /// section 7.1.3).
    pub(crate) fn transport_attribute(&self, index: usize, name: &str) -> Option<&'s str> {
        let sdp = self.sdp;
        let own = sdp.media.get(index).and_then(|media| sdp.attribute(media, name));
        own.or_else(|| {
            group_of(sdp, index)
                .into_iter()
                .filter_map(|mate| sdp.media.get(mate))
                .filter(|mate| mate.is_live())
                .find_map(|mate| mate.attribute(name))
        })
    }
}

/// Every attribute `name` of a section, with the place of its line.
pub(crate) fn attributes<'s>(
    section: &'s Section<'_>,
    name: &'s str,
) -> impl Iterator<Item = (usize, &'s str)> {
    let lines = section.lines.iter().enumerate();
    lines.filter_map(move |(at, line)| Some((at, line.attribute_value(name)?)))
}

impl Finding {
    /// The rule that does what the finding advises.
    pub(crate) fn fix(&mut self, rule: Rule) -> &mut Self {
        self.fixed_by = Some(rule);
        self
    }

    /// From where it is known.
    pub(crate) fn known(&mut self, source: &str) -> &mut Self {
        self.source = Some(source.to_owned());
        self
    }
}
