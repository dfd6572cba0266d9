//! Between a WebRTC description and a classic one: typed steps, each with its rule, and the way back.

mod bundle;
mod media;
mod payload;
mod steps;
mod target;
mod undo;

use crate::check;
use crate::repair::repair;
use crate::sdp::Sdp;
use crate::work::Work;
use crate::{Change, RtpProfile, Translation};
use siprtc_core::{Error, Fault, Result};

pub use payload::payload_types;
pub use target::{ClassicTransport, Dtls, RtcpPort, Target, WebrtcSide, choose_crypto};
pub use undo::Undo;

/// A classic description, what was changed for it, and the way back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Classic {
    /// The description, with CRLF after each line.
    pub sdp: String,
    /// What was changed, in the order of the steps.
    pub changes: Vec<Change>,
    /// What it takes to make the WebRTC description again.
    pub undo: Undo,
}

/// What the steps go by.
struct Plan<'p> {
    target: &'p Target,
    /// The description that is answered.
    offer: Option<&'p Sdp<'p>>,
}

impl Plan<'_> {
    fn transport(&self, index: usize) -> Option<&ClassicTransport> {
        self.target.transports.get(index)?.as_ref()
    }

    /// An answer repeats its offer's profile.
    fn profile(&self, index: usize) -> Option<RtpProfile> {
        match self.offer {
            Some(offer) => RtpProfile::from_name(offer.media.get(index)?.media_line().proto),
            None => Some(self.target.profile),
        }
    }

    /// What the offer says of an m-line; nothing, when this is the offer.
    fn was_offered(&self, index: usize, name: &str) -> bool {
        let media = self.offer.and_then(|offer| offer.media.get(index));
        media.is_none_or(|media| media.position(name).is_some())
    }
}

/// A WebRTC offer as a classic one for `target`: without BUNDLE, ICE and streams, each m-line at its own address.
///
/// What no step knows stays as it is. What the target does not take is declined with port 0, in its place.
///
/// # Errors
/// `ApiMisuse` for a target that contradicts itself or that gives one payload type to two formats; `PeerIncompatible` when no
/// m-line is left; `PeerMisbehaved` for what is no SDP.
///
/// ```
/// use siprtc_sdp_translator::{ClassicTransport, Target, to_classic};
///
/// let webrtc = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
///               m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtcp-mux\r\na=setup:actpass\r\n\
///               a=fingerprint:sha-256 AA:BB\r\na=ice-ufrag:user\r\na=ice-pwd:passwordpasswordpassword\r\n";
/// let transport = ClassicTransport::plain("192.0.2.9:4000".parse().unwrap());
/// let classic = to_classic(webrtc, &Target::plain(vec![Some(transport)]))?;
/// assert!(classic.sdp.ends_with("t=0 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.9\r\n"));
/// assert_eq!(classic.undo.restore(&classic.sdp)?.sdp, webrtc);
/// # Ok::<(), siprtc_core::Error>(())
/// ```
pub fn to_classic(webrtc_sdp: &str, target: &Target) -> Result<Classic> {
    translate(webrtc_sdp, &Plan { target, offer: None })
}

/// A WebRTC answer as the answer to a classic offer: with the offer's profiles, no formats but its own, no direction that it
/// does not allow, and keys that it has.
///
/// # Errors
/// As [`to_classic`] and [`crate::check_classic_answer`]; `ApiMisuse` when a transport's keys are not of the offer.
pub fn answer_to_classic(classic_offer: &str, webrtc_answer: &str, target: &Target) -> Result<Classic> {
    check::fits(classic_offer, webrtc_answer)?;
    let offer = Sdp::parse(classic_offer)?;
    let offer = Some(&offer);
    let classic = translate(webrtc_answer, &Plan { target, offer })?;
    check::check_classic_answer(classic_offer, &classic.sdp).map_err(|error| {
        let told = format!("the answer does not fit its offer: {}", error.message());
        Error::new(Fault::ApiMisuse, "translate SDP", told)
            .advice("give each transport one of the keys that the offer has for its m-line")
    })?;
    Ok(classic)
}

fn translate(text: &str, plan: &Plan<'_>) -> Result<Classic> {
    plan.target.check()?;
    let mut work = Work::new(text)?;
    repair(&mut work);
    let repairs = work.notes.0.len();
    for step in steps::STEPS {
        step.take(&mut work, plan)?;
    }
    if work.live().is_empty() {
        let what = "no m-line is left that the target takes".to_owned();
        return Err(Error::new(Fault::PeerIncompatible, "translate SDP", what)
            .advice("give the target a transport and the media and codecs of an m-line, or answer 488"));
    }
    let places = work.notes.1.get(repairs..).unwrap_or_default();
    let changes = work.notes.0.get(repairs..).unwrap_or_default();
    let undo = Undo::new(changes, places);
    let Translation { sdp, changes } = work.finish();
    // What was put in may be more than what was taken out.
    Sdp::parse(&sdp)?;
    Ok(Classic { sdp, changes, undo })
}

/// A classic offer as a WebRTC one: one BUNDLE group on the transport of `side`, payload types as `side` has them.
///
/// Doubles of an m-line (one medium at one address in several profiles) are declined but for the first: they are
/// alternatives, and a WebRTC endpoint would take them for several streams.
///
/// # Errors
/// `PeerMisbehaved` for what is no SDP; `PeerIncompatible` when no m-line can be carried; `ApiMisuse` for a line end in what
/// is ours, and for payload types that give one number to two formats.
pub fn from_classic(classic_offer: &str, side: &WebrtcSide) -> Result<Translation> {
    bundle::translate(classic_offer, None, side)
}

/// A classic answer as the answer to a WebRTC offer, on the transport of `side`: the offer's mids, profiles and BUNDLE group,
/// the DTLS role of the association that is there already.
///
/// # Errors
/// As [`from_classic`], and when the answer does not have the offer's m-lines.
pub fn answer_from_classic(
    webrtc_offer: &str,
    classic_answer: &str,
    side: &WebrtcSide,
) -> Result<Translation> {
    check::fits(webrtc_offer, classic_answer)?;
    bundle::translate(classic_answer, Some(&Sdp::parse(webrtc_offer)?), side)
}
