//! Bodies of the type `application/trickle-ice-sdpfrag` (RFC 8840 section 9).

use crate::sdp::{Line, Sdp, Section};
use crate::{MAX_LINES, MAX_MEDIA};
use siprtc_core::ice::Candidate;
use siprtc_core::{Error, Fault, Result};
use std::fmt;
use std::str::FromStr;

/// The longest fragment, in octets. A longer one is an error: a hundred candidates have some 10 kB.
pub const MAX_FRAG: usize = 32_768;

/// The most candidates of a fragment; more is an error. Every INFO repeats all that went before (RFC 8840 section 4.4).
pub const MAX_CANDIDATES: usize = 256;

/// The longest user fragment or password, in octets (RFC 8839 section 5.4).
const MAX_CREDENTIAL: usize = 256;

/// Candidates that were found so far, as an INFO carries them (RFC 8840 section 4.4).
///
/// It is read with [`FromStr`] and written with [`Display`](fmt::Display), with CRLF after each line; a fragment of a
/// description of our own is made by [`SdpFrag::of`]. Lines that are not understood, and candidates that cannot be read,
/// are passed over.
///
/// ```
/// use siprtc_sdp_translator::SdpFrag;
///
/// let frag: SdpFrag = "a=ice-ufrag:8hhY\r\n\
///     a=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
///     m=audio 9 RTP/AVP 0\r\n\
///     a=mid:1\r\n\
///     a=candidate:1 1 UDP 2130706431 192.0.2.1 40000 typ host\r\n"
///     .parse()?;
/// assert_eq!(frag.media()[0].mid(), "1");
/// assert_eq!(frag.media()[0].candidates(), ["1 1 UDP 2130706431 192.0.2.1 40000 typ host"]);
/// assert!(!frag.is_complete());
/// # Ok::<(), siprtc_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SdpFrag {
    credentials: Option<IceCredentials>,
    end_of_candidates: bool,
    media: Vec<FragMedia>,
}

/// User fragment and password: they name the ICE generation that candidates belong to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IceCredentials {
    ufrag: String,
    pwd: String,
}

impl IceCredentials {
    /// `a=ice-ufrag`.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// `a=ice-pwd`.
    pub fn pwd(&self) -> &str {
        &self.pwd
    }

    /// Those of a section; an error when there is only one of the two, or when they are no credentials at all.
    fn of(section: &Section<'_>) -> Result<Option<Self>> {
        let is_fine = |text: &&str| {
            (1..=MAX_CREDENTIAL).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let read = |name| section.attribute(name).filter(is_fine);
        match (read("ice-ufrag"), read("ice-pwd")) {
            (Some(ufrag), Some(pwd)) => Ok(Some(IceCredentials {
                ufrag: ufrag.to_owned(),
                pwd: pwd.to_owned(),
            })),
            _ if section.attribute("ice-ufrag").is_some() || section.attribute("ice-pwd").is_some() => Err(
                misbehaved("it has not both a=ice-ufrag and a=ice-pwd in one place".to_owned()),
            ),
            _ => Ok(None),
        }
    }
}

/// The candidates of one m-line, under a pseudo m-line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FragMedia {
    /// What follows `m=`: it says nothing (RFC 8840 section 4.4).
    line: String,
    credentials: Option<IceCredentials>,
    mid: String,
    candidates: Vec<String>,
    end_of_candidates: bool,
}

impl FragMedia {
    /// The `a=mid` of the m-line in offer and answer.
    pub fn mid(&self) -> &str {
        &self.mid
    }

    /// The values of its `a=candidate` lines, in the order in which they were found. Each can be read as a
    /// [`Candidate`]; its extensions are kept.
    pub fn candidates(&self) -> &[String] {
        &self.candidates
    }

    /// No candidate of this m-line follows.
    pub fn end_of_candidates(&self) -> bool {
        self.end_of_candidates
    }

    fn of(section: &Section<'_>, mid: &str) -> Result<Self> {
        let line = section.lines.first().map(Line::value);
        Ok(FragMedia {
            line: line.filter(|line| is_text(line)).unwrap_or(PSEUDO).to_owned(),
            credentials: IceCredentials::of(section)?,
            mid: mid.to_owned(),
            candidates: section
                .attributes("candidate")
                .filter(|value| is_text(value) && value.parse::<Candidate>().is_ok())
                .map(str::to_owned)
                .collect(),
            end_of_candidates: section.position(END).is_some(),
        })
    }
}

const END: &str = "end-of-candidates";

/// The pseudo m-line of an agent that does not know better (RFC 8840 section 4.4).
const PSEUDO: &str = "audio 9 RTP/AVP 0";

impl SdpFrag {
    /// All that a description of ours says of candidates: what the next INFO carries, once `description` has every
    /// candidate that was found so far. User fragment and password stand where they stand in the description.
    ///
    /// # Errors
    /// `PeerMisbehaved` (here the engine is the peer) for what is no SDP, and when an m-line with candidates has no
    /// `a=mid`, or none has ICE credentials.
    pub fn of(description: &str) -> Result<Self> {
        let sdp = Sdp::parse(description)?;
        let live: Vec<_> = sdp.media.iter().filter(|media| media.is_live()).collect();
        // Without any candidate the fragment still names the generation: it tells the peer that the dialog stands.
        let has_news = |media: &Section<'_>| {
            ["candidate", END]
                .iter()
                .any(|name| media.position(name).is_some())
        };
        let any = live.iter().any(|media| has_news(media));
        let told = live
            .iter()
            .enumerate()
            .filter(|(index, media)| has_news(media) || (!any && *index == 0));
        SdpFrag::read(&sdp.session, told.map(|(_, media)| *media))
    }

    /// In the order of the fragment.
    pub fn media(&self) -> &[FragMedia] {
        &self.media
    }

    /// The generation that the candidates of `media` belong to: its own credentials, else those of the session.
    pub fn credentials<'s>(&'s self, media: &'s FragMedia) -> Option<&'s IceCredentials> {
        media.credentials.as_ref().or(self.credentials.as_ref())
    }

    /// No candidate follows, of any m-line that the fragment names.
    pub fn is_complete(&self) -> bool {
        let each = !self.media.is_empty() && self.media.iter().all(|media| media.end_of_candidates);
        self.end_of_candidates || each
    }

    /// Whether it belongs to the ICE generation of `description`, the peer's latest: each of its m-lines is there, with
    /// the same user fragment and password. What does not belong to it must be discarded (RFC 8840 section 4.4).
    pub fn belongs_to(&self, description: &str) -> bool {
        let Ok(sdp) = Sdp::parse(description) else {
            return false;
        };
        let said = |section: &Section<'_>, ours: &IceCredentials| {
            sdp.attribute(section, "ice-ufrag") == Some(&ours.ufrag)
                && sdp.attribute(section, "ice-pwd") == Some(&ours.pwd)
        };
        let in_session = self
            .credentials
            .as_ref()
            .is_none_or(|ours| said(&sdp.session, ours) || sdp.media.iter().any(|media| said(media, ours)));
        let is_there = |frag: &FragMedia| {
            let section = sdp
                .media
                .iter()
                .find(|media| media.attribute("mid") == Some(&frag.mid));
            section.is_some_and(|section| self.credentials(frag).is_some_and(|ours| said(section, ours)))
        };
        in_session && self.media.iter().all(is_there)
    }

    /// What it says that `earlier` does not: candidates are the same when address, port, transport and component are
    /// (RFC 8840 section 4.4), within one m-line of one generation.
    pub fn beyond(&self, earlier: &SdpFrag) -> SdpFrag {
        let known = |media: &FragMedia| -> Vec<Candidate> {
            let same = |other: &&FragMedia| {
                other.mid == media.mid && earlier.credentials(other) == self.credentials(media)
            };
            let lines = earlier
                .media
                .iter()
                .filter(same)
                .flat_map(|other| &other.candidates);
            lines.filter_map(|line| line.parse().ok()).collect()
        };
        let news = |media: &FragMedia| {
            let known = known(media);
            let is_new = |line: &&String| {
                let candidate: Option<Candidate> = line.parse().ok();
                candidate.is_some_and(|candidate| !known.iter().any(|other| is_same(other, &candidate)))
            };
            FragMedia {
                candidates: media.candidates.iter().filter(is_new).cloned().collect(),
                ..media.clone()
            }
        };
        SdpFrag {
            media: self.media.iter().map(news).collect(),
            ..self.clone()
        }
    }

    /// The same with what was found since: `candidates` of the first m-line, those that it does not have yet. The m-lines of a
    /// BUNDLE group share the first one's (RFC 8843 section 10.1).
    #[must_use]
    pub fn with(&self, candidates: &[Candidate], is_complete: bool) -> SdpFrag {
        let mut frag = self.clone();
        let Some(first) = frag.media.first_mut() else {
            return frag;
        };
        let mut known: Vec<Candidate> = first
            .candidates
            .iter()
            .filter_map(|line| line.parse().ok())
            .collect();
        for candidate in candidates {
            if known.len() < MAX_CANDIDATES && !known.iter().any(|other| is_same(other, candidate)) {
                first.candidates.push(candidate.to_string());
                known.push(candidate.clone());
            }
        }
        if is_complete && !frag.is_complete() {
            frag.media
                .iter_mut()
                .for_each(|media| media.end_of_candidates = true);
        }
        frag
    }

    fn read<'s, 'a: 's>(session: &Section<'a>, media: impl Iterator<Item = &'s Section<'a>>) -> Result<Self> {
        let mut frag = SdpFrag {
            credentials: IceCredentials::of(session)?,
            end_of_candidates: session.position(END).is_some(),
            media: Vec::new(),
        };
        let mut candidates = 0;
        for (index, section) in media.enumerate() {
            let Some(mid) = section.attribute("mid").filter(|mid| is_token(mid)) else {
                if section.position("candidate").is_none() {
                    continue;
                }
                return Err(misbehaved(format!(
                    "its m-line {index} has candidates and no a=mid"
                )));
            };
            let media = FragMedia::of(section, mid)?;
            candidates += media.candidates.len();
            if candidates > MAX_CANDIDATES {
                return Err(misbehaved(format!(
                    "it has more than {MAX_CANDIDATES} candidates"
                )));
            }
            if media.credentials.is_none() && frag.credentials.is_none() {
                return Err(misbehaved(format!(
                    "its m-line {index} has no a=ice-ufrag and a=ice-pwd"
                )));
            }
            frag.media.push(media);
        }
        if frag.credentials.is_none() && frag.media.is_empty() {
            return Err(misbehaved("it has no a=ice-ufrag and a=ice-pwd".to_owned()));
        }
        Ok(frag)
    }
}

impl FromStr for SdpFrag {
    type Err = Error;

    /// # Errors
    /// `PeerMisbehaved` when it is too big, when candidates have no `a=mid`, or when user fragment and password are
    /// missing.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > MAX_FRAG {
            return Err(misbehaved(format!(
                "it has {} octets, more than {MAX_FRAG}",
                text.len()
            )));
        }
        let mut session = Section::default();
        let mut media: Vec<Section<'_>> = Vec::new();
        let lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        for (count, line) in lines.enumerate() {
            if count == MAX_LINES {
                return Err(misbehaved(format!("it has more than {MAX_LINES} lines")));
            }
            if !is_text(line) {
                continue;
            }
            let line = Line::new(line);
            match line.letter() {
                Some(b'm') if media.len() == MAX_MEDIA => {
                    return Err(misbehaved(format!("it has more than {MAX_MEDIA} m-lines")));
                }
                Some(b'm') => media.push(Section { lines: vec![line] }),
                Some(b'a') => media.last_mut().unwrap_or(&mut session).lines.push(line),
                _ => {}
            }
        }
        SdpFrag::read(&session, media.iter())
    }
}

impl fmt::Display for SdpFrag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_credentials(f, self.credentials.as_ref())?;
        write_end(f, self.end_of_candidates)?;
        for media in &self.media {
            write!(f, "m={}\r\n", media.line)?;
            write_credentials(f, media.credentials.as_ref())?;
            // RFC 8840 section 4.4: the mid stands immediately before the candidates.
            write!(f, "a=mid:{}\r\n", media.mid)?;
            for candidate in &media.candidates {
                write!(f, "a=candidate:{candidate}\r\n")?;
            }
            write_end(f, media.end_of_candidates)?;
        }
        Ok(())
    }
}

fn write_credentials(f: &mut fmt::Formatter<'_>, credentials: Option<&IceCredentials>) -> fmt::Result {
    match credentials {
        Some(IceCredentials { ufrag, pwd }) => write!(f, "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n"),
        None => Ok(()),
    }
}

fn write_end(f: &mut fmt::Formatter<'_>, end: bool) -> fmt::Result {
    if end { write!(f, "a={END}\r\n") } else { Ok(()) }
}

fn is_same(one: &Candidate, other: &Candidate) -> bool {
    let transport = one.transport.eq_ignore_ascii_case(&other.transport);
    transport && (one.component, one.port, &one.host) == (other.component, other.port, &other.host)
}

/// A control character inside a line is no text (RFC 8866 section 9), and would not come out as it came in.
fn is_text(line: &str) -> bool {
    !line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t')
}

/// RFC 5888 section 4.
fn is_token(mid: &str) -> bool {
    !mid.is_empty() && mid.bytes().all(|byte| byte.is_ascii_graphic())
}

fn misbehaved(what: String) -> Error {
    Error::new(Fault::PeerMisbehaved, "read SDP fragment", what)
        .advice("RFC 8840 section 9 says what a trickle-ice-sdpfrag body looks like")
}
