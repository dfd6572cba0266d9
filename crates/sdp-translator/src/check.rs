//! Does a description fit (RFC 3264)?

use crate::needs::{self, RtpProfile};
use crate::sdp::Sdp;
use crate::transport::Transport;
use siprtc_core::{Error, Fault, Result};

/// Whether an offer can be given to the engine at all, before it is.
///
/// # Errors
/// `PeerMisbehaved` for what breaks RFC 8866; `PeerIncompatible` when no m-line can be carried (answer 488).
pub fn check_offer(sdp: &str) -> Result<()> {
    let sdp = Sdp::parse(sdp)?;
    needs::media_lines(&sdp)?;
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

/// Whether an offer can be given to a classic engine, before it is: RTP or SRTP without ICE, at the addresses of m= and c=.
/// [`needs()`](crate::needs()) tells what for.
///
/// # Errors
/// `PeerMisbehaved` for what breaks RFC 8866, and for a secure profile without keys; `PeerIncompatible` when no m-line can be
/// carried (answer 488).
pub fn check_classic_offer(sdp: &str) -> Result<()> {
    let sdp = Sdp::parse(sdp)?;
    needs::media_lines(&sdp)?;
    needs::classic(&sdp).map(drop)
}

/// Whether `answer` answers `offer` (RFC 3264 section 6) and can be given to a classic engine: also that it is secure where
/// the offer is, and takes its keys from the offer's (RFC 4568 section 5.1.2).
///
/// An answer with RTP/AVP to RTP/AVPF, or the other way round, is let through: phones give it, and media is the same.
///
/// # Errors
/// `PeerMisbehaved` as [`check_answer`], and when profile or `a=crypto` are not the offer's; `PeerIncompatible` when no
/// m-line can be carried, as when the peer rejects all.
pub fn check_classic_answer(offer: &str, answer: &str) -> Result<()> {
    fits(offer, answer)?;
    let (offer, answer) = (Sdp::parse(offer)?, Sdp::parse(answer)?);
    for (index, (asked, given)) in offer.media.iter().zip(&answer.media).enumerate() {
        if !given.is_live() {
            continue;
        }
        let (was, is) = (asked.media_line().proto, given.media_line().proto);
        let is_secure = |proto: &str| RtpProfile::from_name(proto).map(RtpProfile::is_secure);
        if !was.eq_ignore_ascii_case(is) && (is_secure(was).is_none() || is_secure(was) != is_secure(is)) {
            return Err(misbehaved(format!(
                "m-line {index} is {was} in the offer and {is} in the answer"
            )));
        }
        needs::crypto_fits(&offer, &answer, index)?;
    }
    needs::classic(&answer).map(drop)
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
