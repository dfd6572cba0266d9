//! Does a description fit (RFC 3264)?

use crate::sdp::Sdp;
use crate::transport::Transport;
use siprtc_core::{Error, Fault, Result};

/// Whether an offer can be given to the engine at all, before it is.
///
/// # Errors
/// `PeerMisbehaved` for what breaks RFC 8866; `PeerIncompatible` when no m-line can be carried (answer 488).
pub fn check_offer(sdp: &str) -> Result<()> {
    let sdp = Sdp::parse(sdp)?;
    for (index, media) in sdp.media.iter().enumerate() {
        let line = media.media_line();
        if line.media.is_empty() || line.port.split('/').any(|number| number.parse::<u16>().is_err()) {
            return Err(misbehaved(format!("m-line {index} has no medium or no port")));
        }
    }
    Transport::choose(&sdp).map(drop)
}

/// Whether `answer` answers `offer` (RFC 3264 section 6) and can be given to the engine.
///
/// # Errors
/// `PeerMisbehaved` when the m-lines differ in number, order or medium, or when a rejected one came to life;
/// `PeerIncompatible` when no m-line can be carried, as when the peer rejects all.
pub fn check_answer(offer: &str, answer: &str) -> Result<()> {
    fits(offer, answer)?;
    Transport::choose(&Sdp::parse(answer)?).map(drop)
}

/// The part of [`check_answer`] that knows nothing of transports.
pub(crate) fn fits(offer: &str, answer: &str) -> Result<()> {
    let (offer, answer) = (Sdp::parse(offer)?, Sdp::parse(answer)?);
    let (asked, given) = (offer.media.len(), answer.media.len());
    if asked != given {
        return Err(misbehaved(format!(
            "the offer has {asked} m-lines, the answer {given}"
        )));
    }
    for (index, (asked, given)) in offer.media.iter().zip(&answer.media).enumerate() {
        let (was, is) = (asked.media_line().media, given.media_line().media);
        if was != is {
            return Err(misbehaved(format!(
                "m-line {index} is {was} in the offer and {is} in the answer"
            )));
        }
        if given.is_live() && !asked.is_live() {
            return Err(misbehaved(format!(
                "m-line {index} is rejected in the offer and accepted in the answer"
            )));
        }
    }
    Ok(())
}

fn misbehaved(what: String) -> Error {
    Error::new(Fault::PeerMisbehaved, "check SDP", what)
        .advice("RFC 3264 section 6: an answer has the offer's m-lines, one by one")
}
