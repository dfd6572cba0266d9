//! What every rule works on: the lines, and edits that leave a note.

use crate::rule::{Notes, Rule};
use crate::sdp::{Line, Sdp, Section};
use crate::{Change, SipForm, Translation};
use siprtc_core::Result;

/// A description under translation.
pub(crate) struct Work<'a> {
    pub(crate) sdp: Sdp<'a>,
    pub(crate) notes: Notes,
    /// The m-line that names the one transport of the engine; set by `to_webrtc` alone.
    pub(crate) kept: usize,
    /// For each m-line whether the engine carries it; set by `to_webrtc` alone.
    pub(crate) carried: Vec<bool>,
    /// The form for the wire; set by `to_sip` alone.
    pub(crate) form: SipForm,
}

impl<'a> Work<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self> {
        Ok(Work {
            sdp: Sdp::parse(text)?,
            notes: Notes::default(),
            kept: 0,
            carried: Vec::new(),
            form: SipForm::default(),
        })
    }

    pub(crate) fn finish(self) -> Translation {
        let changes: Vec<Change> = self.notes.0;
        Translation {
            sdp: self.sdp.to_text(),
            changes,
        }
    }

    /// The length of the text, line ends included.
    pub(crate) fn octets(&self) -> usize {
        self.sdp.lines().map(|line| line.0.len() + 2).sum()
    }

    /// The session for `None`, an m-line else.
    pub(crate) fn section(&self, media: Option<usize>) -> Option<&Section<'a>> {
        match media {
            Some(index) => self.sdp.media.get(index),
            None => Some(&self.sdp.session),
        }
    }

    pub(crate) fn section_mut(&mut self, media: Option<usize>) -> Option<&mut Section<'a>> {
        match media {
            Some(index) => self.sdp.media.get_mut(index),
            None => Some(&mut self.sdp.session),
        }
    }

    /// `None` for the session, then each m-line.
    pub(crate) fn places(&self) -> impl Iterator<Item = Option<usize>> + use<> {
        std::iter::once(None).chain((0..self.sdp.media.len()).map(Some))
    }

    /// The m-lines that are not rejected.
    pub(crate) fn live(&self) -> Vec<usize> {
        (0..self.sdp.media.len())
            .filter(|&index| self.sdp.media[index].is_live())
            .collect()
    }

    /// The m-lines that the engine carries.
    pub(crate) fn carried(&self) -> Vec<usize> {
        (0..self.carried.len())
            .filter(|&index| self.carried[index])
            .collect()
    }

    pub(crate) fn replace(&mut self, rule: Rule, media: Option<usize>, at: usize, text: String) {
        let Some(line) = self
            .section_mut(media)
            .and_then(|section| section.lines.get_mut(at))
        else {
            return;
        };
        if line.0 == text {
            return;
        }
        let before = std::mem::replace(line, Line::new(text.clone()));
        self.notes
            .push_at(rule, media, at, Some(before.0.into_owned()), Some(text));
    }

    /// Takes out the line at `at`.
    pub(crate) fn take(&mut self, rule: Rule, media: Option<usize>, at: usize) {
        let Some(section) = self.section_mut(media).filter(|section| at < section.lines.len()) else {
            return;
        };
        let gone = section.lines.remove(at);
        self.notes
            .push_at(rule, media, at, Some(gone.0.into_owned()), None);
    }

    pub(crate) fn append(&mut self, rule: Rule, media: Option<usize>, text: String) {
        let end = self.section(media).map_or(0, |section| section.lines.len());
        self.insert(rule, media, end, text);
    }

    pub(crate) fn insert(&mut self, rule: Rule, media: Option<usize>, at: usize, text: String) {
        let Some(section) = self.section_mut(media) else {
            return;
        };
        let at = at.min(section.lines.len());
        section.lines.insert(at, Line::new(text.clone()));
        self.notes.push_at(rule, media, at, None, Some(text));
    }

    /// Takes out every line for which `unwanted` is true.
    pub(crate) fn remove(
        &mut self,
        rule: Rule,
        media: Option<usize>,
        mut unwanted: impl FnMut(&Line<'_>) -> bool,
    ) {
        let Some(section) = self.section_mut(media) else {
            return;
        };
        let mut gone = Vec::new();
        let mut kept = 0;
        section.lines.retain_mut(|line| {
            let out = unwanted(line);
            if out {
                gone.push((kept, std::mem::take(&mut line.0)));
            } else {
                kept += 1;
            }
            !out
        });
        // Where each stood when those before it were gone.
        for (at, line) in gone {
            self.notes.push_at(rule, media, at, Some(line.into_owned()), None);
        }
    }

    /// [`Work::remove`] in the session and in every m-line.
    pub(crate) fn remove_everywhere(&mut self, rule: Rule, unwanted: impl Fn(&Line<'_>) -> bool) {
        for place in self.places() {
            self.remove(rule, place, &unwanted);
        }
    }
}
