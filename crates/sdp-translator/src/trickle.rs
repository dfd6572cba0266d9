//! What a description says of trickle ICE (RFC 8838, RFC 8840).

use crate::rule::Rule;
use crate::sdp::{Sdp, Section};
use crate::work::Work;

/// The word in `a=ice-options` (RFC 8840 section 5).
const OPTION: &str = "trickle";
const OPTIONS: &str = "ice-options";
const END: &str = "end-of-candidates";

/// What our description tells the peer of the candidates that it does not have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trickle {
    /// Candidates may follow, in INFOs (full trickle, RFC 8838 section 3): for a peer that is known to take them.
    Full,
    /// None follows, and the peer may trickle its own (half trickle, RFC 8838 section 16): for a peer of which nothing
    /// is known.
    Half,
    /// No trickle, as a peer of RFC 5245 expects it.
    #[default]
    None,
}

/// Whether a description says `a=ice-options:trickle`, at session level or in an m-line that is not rejected. `false` for
/// what is no SDP.
pub fn says_trickle(sdp: &str) -> bool {
    Sdp::parse(sdp).is_ok_and(|sdp| anywhere(&sdp).any(has_option))
}

/// Whether every candidate is there: `a=end-of-candidates` at session level, or in each m-line that has candidates and in
/// at least one (RFC 8840 section 8). `false` for what is no SDP.
///
/// A description that does not trickle is complete without saying so: see [`says_trickle`].
pub fn says_end_of_candidates(sdp: &str) -> bool {
    let Ok(sdp) = Sdp::parse(sdp) else { return false };
    if sdp.session.position(END).is_some() {
        return true;
    }
    let with_candidates =
        |section: &&Section<'_>| section.is_live() && section.position("candidate").is_some();
    let ended = |section: &Section<'_>| section.position(END).is_some();
    sdp.media.iter().any(ended) && sdp.media.iter().filter(with_candidates).all(ended)
}

/// The session and the m-lines that are not rejected.
fn anywhere<'s, 'a>(sdp: &'s Sdp<'a>) -> impl Iterator<Item = &'s Section<'a>> {
    std::iter::once(&sdp.session).chain(sdp.media.iter().filter(|media| media.is_live()))
}

pub(crate) fn has_option(section: &Section<'_>) -> bool {
    section
        .attributes(OPTIONS)
        .any(|options| options.split_ascii_whitespace().any(|option| option == OPTION))
}

/// Makes the description say what its form wants.
pub(crate) fn trickle(work: &mut Work<'_>) {
    match work.form.trickle {
        Trickle::Full => offer(work),
        Trickle::Half => {
            offer(work);
            end(work);
        }
        Trickle::None => withdraw(work),
    }
}

fn offer(work: &mut Work<'_>) {
    if !anywhere(&work.sdp).any(has_option) {
        work.append(Rule::TrickleOffered, None, format!("a={OPTIONS}:{OPTION}"));
    }
}

/// Says that the candidates are complete, in each m-line that has some.
fn end(work: &mut Work<'_>) {
    if work.sdp.session.position(END).is_some() {
        return;
    }
    for index in work.live() {
        let media = &work.sdp.media[index];
        if media.position("candidate").is_some() && media.position(END).is_none() {
            work.append(Rule::EndOfCandidates, Some(index), format!("a={END}"));
        }
    }
}

fn withdraw(work: &mut Work<'_>) {
    for place in work.places() {
        let Some(section) = work.section(place) else {
            continue;
        };
        let Some(at) = section.position(OPTIONS) else {
            continue;
        };
        let options: Vec<&str> = section
            .attribute(OPTIONS)
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let kept: Vec<&str> = options
            .iter()
            .copied()
            .filter(|option| *option != OPTION)
            .collect();
        if kept.is_empty() {
            work.remove(Rule::Trickle, place, |line| {
                line.attribute_value(OPTIONS) == Some(OPTION)
            });
        } else if kept.len() < options.len() {
            let text = format!("a={OPTIONS}:{}", kept.join(" "));
            work.replace(Rule::Trickle, place, at, text);
        }
    }
}
