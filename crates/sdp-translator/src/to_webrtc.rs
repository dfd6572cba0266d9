//! The peer's description, in the form in which the engine takes it.

use crate::disguise::Rejected;
use crate::repair::{contradictions, repair};
use crate::rule::Rule;
use crate::sdp::{Line, Sdp, static_encoding};
use crate::transport::{Transport, is_sha256};
use crate::work::Work;
use crate::{Translation, candidate, check};
use siprtc_core::Result;

/// In this order: each may rely on those before it.
const RULES: &[fn(&mut Work<'_>)] = &[
    contradictions,
    mids,
    rejected_lines,
    bundle_group,
    one_fingerprint,
    one_set_of_ice_credentials,
    candidate_place,
    candidate_component,
    candidate_unusable,
    setup,
    direction,
    payloads,
    rtpmaps,
    extmaps,
    rtcp_mux,
];

/// The peer's description in the form in which the engine takes it; what no rule knows stays as it is.
///
/// For an answer, [`answer_to_webrtc`] knows more: the mids of our offer, and what a missing `a=setup` means.
///
/// # Errors
/// `PeerMisbehaved` for what is no SDP or is too big; `PeerIncompatible` when no m-line can be carried by a DTLS-SRTP
/// transport with ICE (answer 488).
pub fn to_webrtc(sip_sdp: &str) -> Result<Translation> {
    let mut work = Work::new(sip_sdp)?;
    repair(&mut work);
    translate(work)
}

/// The peer's answer to our `offer`, in the form in which the engine takes it.
///
/// The mids are those of the offer; an answer without `a=setup`, or with `actpass`, is passive.
///
/// # Errors
/// As [`to_webrtc`] and [`crate::check_answer`].
pub fn answer_to_webrtc(offer: &str, sip_answer: &str) -> Result<Translation> {
    check::fits(offer, sip_answer)?;
    let offer = Sdp::parse(offer)?;
    let mut work = Work::new(sip_answer)?;
    repair(&mut work);
    for (index, asked) in offer.media.iter().enumerate() {
        if let Some(mid) = asked.attribute("mid") {
            set_attribute(&mut work, Rule::Mid, index, "mid", mid);
        }
    }
    for index in work.live() {
        let role = work.sdp.attribute(&work.sdp.media[index], "setup");
        if !matches!(role, Some("active" | "passive" | "holdconn")) {
            set_attribute(&mut work, Rule::AnswerSetup, index, "setup", "passive");
        }
    }
    translate(work)
}

fn translate(mut work: Work<'_>) -> Result<Translation> {
    let transport = Transport::choose(&work.sdp)?;
    work.carried = transport.carried;
    work.kept = transport.tagged;
    for rule in RULES {
        rule(&mut work);
    }
    Ok(work.finish())
}

/// Puts `a=name:value` in the place of the first one in the m-line, or at its end.
pub(crate) fn set_attribute(work: &mut Work<'_>, rule: Rule, index: usize, name: &str, value: &str) {
    let text = format!("a={name}:{value}");
    match work.sdp.media[index].position(name) {
        Some(at) if work.sdp.media[index].attribute(name) != Some(value) => {
            work.replace(rule, Some(index), at, text)
        }
        Some(_) => {}
        None => work.append(rule, Some(index), text),
    }
}

pub(crate) fn mids(work: &mut Work<'_>) {
    let mut taken: Vec<String> = Vec::new();
    for index in 0..work.sdp.media.len() {
        let mid = work.sdp.media[index].attribute("mid").unwrap_or_default();
        if !mid.is_empty() && !taken.iter().any(|other| other == mid) {
            taken.push(mid.to_owned());
            continue;
        }
        let others: Vec<&str> = work
            .sdp
            .media
            .iter()
            .filter_map(|media| media.attribute("mid"))
            .collect();
        // The engine numbers its own m-lines so too, which makes an answer without mids fit.
        let fresh = (0..=work.sdp.media.len())
            .map(|extra| {
                if extra == 0 {
                    index.to_string()
                } else {
                    format!("{index}.{extra}")
                }
            })
            .find(|mid| !others.contains(&mid.as_str()) && !taken.contains(mid))
            .unwrap_or_else(|| format!("m{index}"));
        set_attribute(work, Rule::Mid, index, "mid", &fresh);
        taken.push(fresh);
    }
}

fn rejected_lines(work: &mut Work<'_>) {
    for index in (0..work.carried.len())
        .filter(|&index| !work.carried[index])
        .collect::<Vec<_>>()
    {
        let media = &work.sdp.media[index];
        // A video m-line keeps its mid, so that it stays the same m-line when it is rejected later on.
        let had_mid =
            !work.notes.0.iter().any(|change| {
                change.rule == Rule::Mid && change.media == Some(index) && change.before.is_none()
            });
        let is_video = media.media_line().media == "video";
        let mid = match media.attribute("mid") {
            Some(mid) if is_video && had_mid => mid.to_owned(),
            _ => {
                let mut line = Rejected::of(media);
                line.mid = line.mid.filter(|_| had_mid);
                line.to_mid(index)
            }
        };
        set_attribute(work, Rule::RejectedLine, index, "mid", &mid);
        work.replace(
            Rule::RejectedLine,
            Some(index),
            0,
            "m=video 0 UDP/TLS/RTP/SAVPF 0".to_owned(),
        );
        // One order of the two, so that the way there and back ends where it began.
        let media = &work.sdp.media[index];
        let is_last = media.position("inactive") > media.position("mid");
        work.remove(Rule::RejectedLine, Some(index), |line| {
            line.letter() != Some(b'm')
                && line.attribute_value("mid").is_none()
                && !(is_last && line.attribute_value("inactive").is_some())
        });
        // The engine drops an m-line without a direction from its answer, and gives an inactive one no transceiver
        // that is ours.
        if work.sdp.media[index].position("inactive").is_none() {
            work.append(Rule::RejectedLine, Some(index), "a=inactive".to_owned());
        }
    }
}

pub(crate) fn bundle_group(work: &mut Work<'_>) {
    let mids = |indices: &[usize]| -> Vec<String> {
        let mid = |&index: &usize| work.sdp.media[index].attribute("mid").map(str::to_owned);
        indices.iter().filter_map(mid).collect()
    };
    let mut wanted = mids(&[work.kept]);
    for mid in mids(&work.carried()) {
        if !wanted.contains(&mid) {
            wanted.push(mid);
        }
    }
    let is_group = |line: &Line<'_>| {
        line.attribute_value("group")
            .is_some_and(|value| value.split_ascii_whitespace().next() == Some("BUNDLE"))
    };
    let is_right = |group: &[&str]| {
        group.len() == wanted.len() && wanted.iter().all(|mid| group.contains(&mid.as_str()))
    };
    let groups: Vec<Vec<&str>> = work.sdp.bundles().collect();
    if matches!(groups.as_slice(), [group] if is_right(group)) {
        return;
    }
    let text = format!("a=group:BUNDLE {}", wanted.join(" "));
    match work.sdp.session.lines.iter().position(is_group) {
        Some(at) => {
            work.replace(Rule::BundleGroup, None, at, text.clone());
            work.remove(Rule::BundleGroup, None, |line| is_group(line) && line.0 != text);
        }
        None => work.append(Rule::BundleGroup, None, text),
    }
}

fn one_fingerprint(work: &mut Work<'_>) {
    let candidates = [Some(work.kept), None]
        .into_iter()
        .chain(work.carried().into_iter().map(Some));
    let mut values = candidates
        .filter_map(|place| work.section(place))
        .flat_map(|section| section.attributes("fingerprint"));
    let Some(chosen) = values.find(|value| is_sha256(value)) else {
        return;
    };
    let (plain, lower) = (squeeze(chosen), normal_fingerprint(chosen));
    drop(values);
    work.remove_everywhere(Rule::FingerprintSingle, |line| {
        line.attribute_value("fingerprint").is_some_and(|value| {
            !value.eq_ignore_ascii_case(&plain) && !squeeze(value).eq_ignore_ascii_case(&plain)
        })
    });
    for place in work.places() {
        let Some(section) = work.section(place) else {
            continue;
        };
        let at: Vec<usize> = (0..section.lines.len())
            .filter(|&at| {
                section.lines[at]
                    .attribute_value("fingerprint")
                    .is_some_and(|value| value != lower)
            })
            .collect();
        for at in at {
            work.replace(Rule::FingerprintHash, place, at, format!("a=fingerprint:{lower}"));
        }
    }
}

fn squeeze(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn normal_fingerprint(value: &str) -> String {
    match squeeze(value).split_once(' ') {
        Some((hash, bytes)) => format!("{} {bytes}", hash.to_ascii_lowercase()),
        None => value.to_owned(),
    }
}

fn one_set_of_ice_credentials(work: &mut Work<'_>) {
    for name in ["ice-ufrag", "ice-pwd"] {
        let tagged = &work.sdp.media[work.kept];
        let Some(chosen) = work.sdp.attribute(tagged, name).map(str::to_owned) else {
            continue;
        };
        work.remove_everywhere(Rule::IceSingle, |line| {
            line.attribute_value(name).is_some_and(|value| value != chosen)
        });
    }
}

fn candidate_place(work: &mut Work<'_>) {
    if work.sdp.media[work.kept].position("candidate").is_none() {
        return;
    }
    for index in work
        .carried()
        .into_iter()
        .filter(|&index| index != work.kept)
        .collect::<Vec<_>>()
    {
        work.remove(Rule::CandidatePlace, Some(index), |line| {
            line.attribute_value("candidate").is_some()
        });
    }
}

fn candidate_component(work: &mut Work<'_>) {
    for index in work.carried() {
        work.remove(Rule::CandidateComponent, Some(index), |line| {
            let component = line
                .attribute_value("candidate")
                .and_then(|value| value.split_ascii_whitespace().nth(1));
            component.is_some_and(|component| component != "1")
        });
    }
}

fn candidate_unusable(work: &mut Work<'_>) {
    work.remove_everywhere(Rule::CandidateUnusable, |line| {
        line.attribute_value("candidate")
            .is_some_and(|value| !candidate::is_usable(value))
    });
}

fn setup(work: &mut Work<'_>) {
    let mut said = std::iter::once(work.kept).chain(work.carried());
    let Some(role) = said
        .find_map(|index| work.sdp.attribute(&work.sdp.media[index], "setup"))
        .map(str::to_owned)
    else {
        return;
    };
    for index in work.carried() {
        set_attribute(work, Rule::SessionSetup, index, "setup", &role);
    }
}

pub(crate) fn direction(work: &mut Work<'_>) {
    for index in work.carried() {
        let media = &work.sdp.media[index];
        if media.direction().is_none() && !media.media_line().is_data_channel() {
            let direction = work.sdp.direction(media);
            work.append(Rule::Direction, Some(index), format!("a={direction}"));
        }
    }
}

/// The engine fails on a payload type that it finds no encoding for.
pub(crate) fn payloads(work: &mut Work<'_>) {
    for index in work.carried() {
        let media = &work.sdp.media[index];
        let line = media.media_line();
        if line.is_data_channel() {
            continue;
        }
        let maps = media.rtpmaps();
        let is_mapped = |format: &&str| {
            format
                .parse::<u8>()
                .is_ok_and(|pt| maps.of(format).is_some() || static_encoding(pt).is_some())
        };
        let formats: Vec<&str> = line.formats.iter().copied().filter(is_mapped).collect();
        if formats.len() < line.formats.len() {
            let text = format!(
                "m={} {} {} {}",
                line.media,
                line.port,
                line.proto,
                formats.join(" ")
            );
            work.replace(Rule::PayloadUnmapped, Some(index), 0, text);
        }
    }
}

pub(crate) fn rtpmaps(work: &mut Work<'_>) {
    for index in work.carried() {
        let media = &work.sdp.media[index];
        let maps = media.rtpmaps();
        let missing: Vec<String> = (media.media_line().formats.iter())
            .filter(|format| maps.of(format).is_none())
            .filter_map(|format| {
                Some(format!(
                    "a=rtpmap:{format} {}",
                    static_encoding(format.parse().ok()?)?
                ))
            })
            .collect();
        for text in missing {
            work.append(Rule::RtpmapStatic, Some(index), text);
        }
    }
}

fn extmaps(work: &mut Work<'_>) {
    let is_whole = |value: &str| {
        let mut words = value.split_ascii_whitespace();
        let id = words
            .next()
            .and_then(|id| id.split('/').next()?.parse::<u16>().ok());
        let scheme = words
            .next()
            .and_then(|uri| uri.split_once(':'))
            .map(|(scheme, _)| scheme);
        id.is_some() && scheme.is_some_and(|scheme| scheme.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    work.remove_everywhere(Rule::ExtmapInvalid, |line| {
        line.attribute_value("extmap")
            .is_some_and(|value| !is_whole(value))
    });
}

fn rtcp_mux(work: &mut Work<'_>) {
    for index in work.carried() {
        let media = &work.sdp.media[index];
        if media.position("rtcp-mux").is_none() && !media.media_line().is_data_channel() {
            work.append(Rule::RtcpMux, Some(index), "a=rtcp-mux".to_owned());
        }
    }
}
