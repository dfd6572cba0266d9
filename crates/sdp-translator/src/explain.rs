//! Every change of a translation, with its reason, and who needs it.

use crate::lint::{Check, Finding, Severity, lint};
use crate::{Change, PeerProfile, SipForm, Translation};
use crate::{answer_to_sip_as, answer_to_webrtc, to_sip_as, to_webrtc};
use serde::Serialize;
use siprtc_core::{Error, Result};
use std::fmt;

/// Which translation is explained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way<'a> {
    /// [`answer_to_sip_as`]: our answer, to the wire.
    AnswerToSip {
        /// The peer's offer.
        offer: &'a str,
        /// The form for the wire.
        form: SipForm,
    },
    /// [`answer_to_webrtc`]: the peer's answer, to the engine.
    AnswerToWebrtc {
        /// Our offer.
        offer: &'a str,
    },
    /// [`to_sip_as`]: ours, to the wire.
    ToSip {
        /// The form for the wire.
        form: SipForm,
    },
    /// [`to_webrtc()`]: the peer's, to the engine.
    ToWebrtc,
}

impl Way<'_> {
    /// The word in JSON: `to-sip`.
    pub fn as_str(self) -> &'static str {
        match self {
            Way::AnswerToSip { .. } => "answer-to-sip",
            Way::AnswerToWebrtc { .. } => "answer-to-webrtc",
            Way::ToSip { .. } => "to-sip",
            Way::ToWebrtc => "to-webrtc",
        }
    }

    fn translate(self, sdp: &str) -> Result<Translation> {
        match self {
            Way::AnswerToSip { offer, form } => answer_to_sip_as(offer, sdp, form),
            Way::AnswerToWebrtc { offer } => answer_to_webrtc(offer, sdp),
            Way::ToSip { form } => to_sip_as(sdp, form),
            Way::ToWebrtc => to_webrtc(sdp),
        }
    }
}

/// What a translation did, and why.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Explanation {
    /// Which translation: [`Way::as_str`].
    pub way: &'static str,
    /// The reader for whom needs were looked up.
    pub peer: Option<String>,
    /// What was changed, in the order of the rules.
    pub changes: Vec<Explained>,
    /// The description after translation; `None` when it was refused.
    pub sdp: Option<String>,
    /// Why there is no translation.
    pub refusal: Option<Refusal>,
    /// What the reader would refuse or misread although it was translated, from [`Severity::Degrades`] on.
    pub left: Vec<Finding>,
}

/// One change, and who needs it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Explained {
    /// The change.
    #[serde(flatten)]
    pub change: Change,
    /// What the reader would have refused or misread without it; `None` when nothing is known.
    pub needed: Option<Need>,
}

/// Why a reader needs a change: a finding that is there before it and gone after it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Need {
    /// What comes of it.
    pub severity: Severity,
    /// What was found.
    pub check: Check,
    /// In a sentence.
    pub what: String,
    /// From where it is known that the peer is so; `None` when an RFC says it of all.
    pub source: Option<String>,
}

/// Why a description cannot be translated.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Refusal {
    /// Whose fault it is.
    pub fault: &'static str,
    /// In a sentence.
    pub what: String,
    /// What to do next.
    pub advice: Option<String>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal {
            fault: error.fault().as_str(),
            what: error.message().to_owned(),
            advice: error.next_step().map(str::to_owned),
        }
    }
}

/// Translates, and tells each change with its reason. With a `peer`, the reader of the translated description, it tells
/// which of them that peer needs; without, which of them the RFCs ask for. Never fails: a refusal is explained too.
///
/// A change is needed when [`lint`] finds something before it that its rule corrects, and no longer finds it after it.
///
/// ```
/// use siprtc_sdp_translator::{PeerProfile, SipForm, Way, explain};
///
/// let ours = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
///             m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:0 PCMU/8000/1\r\n\
///             a=setup:actpass\r\na=ice-ufrag:user\r\na=ice-pwd:passwordpasswordpassword\r\n\
///             a=candidate:1 1 udp 2130706431 192.0.2.7 40000 typ host\r\n\
///             a=candidate:2 1 udp 2130706175 0a.local 40001 typ host\r\n";
/// let freeswitch = PeerProfile::named("freeswitch")?;
/// let told = explain(ours, Way::ToSip { form: SipForm::default() }, Some(&freeswitch));
/// let needed: Vec<&str> = told
///     .changes
///     .iter()
///     .filter(|explained| explained.needed.is_some())
///     .map(|explained| explained.change.rule.as_str())
///     .collect();
/// assert_eq!(needed, ["candidate-unusable", "default-candidate", "default-candidate"]);
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub fn explain(sdp: &str, way: Way<'_>, peer: Option<&PeerProfile>) -> Explanation {
    let mut told = Explanation {
        way: way.as_str(),
        peer: peer.map(|peer| peer.name.clone()),
        changes: Vec::new(),
        sdp: None,
        refusal: None,
        left: Vec::new(),
    };
    let translation = match way.translate(sdp) {
        Ok(translation) => translation,
        Err(error) => {
            told.refusal = Some(error.into());
            return told;
        }
    };
    let matters = |finding: &Finding| finding.severity >= Severity::Degrades;
    let mut before = lint(sdp, peer);
    before.retain(matters);
    told.left = lint(&translation.sdp, peer);
    told.left.retain(matters);
    let is_gone = |finding: &&Finding| {
        let is_same = |other: &Finding| other.check == finding.check && other.media == finding.media;
        !told.left.iter().any(is_same)
    };
    let gone: Vec<&Finding> = before.iter().filter(is_gone).collect();
    told.changes = translation
        .changes
        .into_iter()
        .map(|change| Explained {
            needed: need(&gone, &change),
            change,
        })
        .collect();
    told.sdp = Some(translation.sdp);
    told
}

/// The worst that the change prevents.
fn need(gone: &[&Finding], change: &Change) -> Option<Need> {
    let is_prevented = |finding: &&&Finding| {
        // A rule may correct in the m-lines what was said of the session, and the other way round.
        let same_place = finding.media == change.media || finding.media.is_none() || change.media.is_none();
        finding.fixed_by == Some(change.rule) && same_place
    };
    let finding = gone
        .iter()
        .filter(is_prevented)
        .max_by_key(|finding| (finding.media == change.media, finding.severity))?;
    Some(Need {
        severity: finding.severity,
        check: finding.check,
        what: finding.what.clone(),
        source: finding.source.clone(),
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reader = self.peer.as_deref().unwrap_or("the RFCs");
        if let Some(refusal) = &self.refusal {
            write!(f, "{}: refused ({}): {}", self.way, refusal.fault, refusal.what)?;
            return match &refusal.advice {
                Some(advice) => writeln!(f, "; {advice}"),
                None => writeln!(f),
            };
        }
        let needed = self
            .changes
            .iter()
            .filter(|explained| explained.needed.is_some())
            .count();
        writeln!(
            f,
            "{}: {} changes, {needed} of them needed by {reader}",
            self.way,
            self.changes.len()
        )?;
        for (number, explained) in self.changes.iter().enumerate() {
            writeln!(f, "{:>3}. {}", number + 1, explained.change)?;
            if let Some(need) = &explained.needed {
                writeln!(f, "     needed by {reader} ({}): {}", need.severity, need.what)?;
            }
        }
        if !self.left.is_empty() {
            writeln!(f, "left after translation:")?;
        }
        self.left
            .iter()
            .try_for_each(|finding| writeln!(f, "   - {finding}"))
    }
}
