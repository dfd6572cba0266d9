//! What the gateway keeps of a call beside its machine, and the steps of its media peer.

use crate::actor::House;
use crate::machine::{Call, Step};
use crate::messages::{MediaPlan, Trickle};
use actix::dev::ToEnvelope;
use actix::prelude::*;
use siprtc_core::ice::PairEnd;
use siprtc_core::media::{Codec, Dialect, Direction, MediaEngine, NegotiatedVideo, SdpKind, VideoCodec};
use siprtc_core::sip::{Headers, NameAddr};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::MeasureInvite;
use siprtc_media_session::{
    AcceptAnswer, AcceptFork, AnswerOffer, Begin, CreateOffer, Estate, Fork, MediaChange, MediaSession,
    SessionId, TakeFork,
};
use siprtc_sdp_translator::{
    AnswerToSip, AnswerToWebrtc, Answerer, Negotiate, Negotiated, SdpTranslator, SipForm, ToSip, ToWebrtc,
    Trickle as SdpTrickle, check_answer, check_classic_answer, check_classic_offer, needs,
    says_end_of_candidates, says_trickle,
};
use std::sync::Arc;

/// One call's belongings.
pub(crate) struct Entry {
    pub(crate) call: Call,
    pub(crate) media: MediaPlan,
    pub(crate) session: Option<(SessionId, Addr<MediaSession>)>,
    /// Which engine carries it: the classic one.
    pub(crate) is_classic: bool,
    /// What the peer answered to the first engine's offer, when that was no use.
    pub(crate) heard: Option<String>,
    /// We hold it, or are about to.
    pub(crate) held: bool,
    /// While it is held its source is sent on.
    pub(crate) plays_on: bool,
    /// Nothing is to be heard of its source.
    pub(crate) is_muted: bool,
    /// What differs from `media` in our descriptions.
    pub(crate) change: Option<Arc<MediaChange>>,
    /// What is agreed on about video.
    pub(crate) video: Option<NegotiatedVideo>,
    /// The application wants video: it hears that there is none, too.
    pub(crate) asks_for_video: bool,
    /// Our end of the pair that carries the media.
    pub(crate) local: Option<PairEnd>,
    /// Its caller is sent there.
    pub(crate) redirect: Vec<NameAddr>,
    /// telephone-event was negotiated.
    pub(crate) telephone_event: bool,
    /// For its INVITE.
    pub(crate) headers: Headers,
    /// The call whose peer asked for it.
    pub(crate) reports_to: Option<CallId>,
    /// The call in whose place it comes.
    pub(crate) replaces: Option<CallId>,
    /// What that one, or the call whose peer asked for it, has left to it.
    pub(crate) estate: Option<Estate>,
    /// What its peer asks for becomes this.
    pub(crate) successor: Option<(CallId, MediaPlan)>,
    pub(crate) timer: Option<SpawnHandle>,
    /// The gateway broke down over it once.
    pub(crate) is_condemned: bool,
    pub(crate) span: tracing::Span,
}

impl Entry {
    pub(crate) fn new(id: CallId, role: &'static str, media: MediaPlan) -> Self {
        let span = tracing::info_span!(
            "call",
            call_id = %id,
            role,
            sip_call_id = tracing::field::Empty,
            cause = tracing::field::Empty,
            otel.kind = if role == "caller" { "client" } else { "server" }
        );
        Entry {
            call: Call::new(id),
            asks_for_video: media.video.is_some(),
            media,
            session: None,
            is_classic: false,
            heard: None,
            held: false,
            plays_on: false,
            is_muted: false,
            change: None,
            video: None,
            local: None,
            redirect: Vec::new(),
            telephone_event: false,
            headers: Headers::new(),
            reports_to: None,
            replaces: None,
            estate: None,
            successor: None,
            timer: None,
            is_condemned: false,
            span,
        }
    }
}

impl Entry {
    /// The media of a call that takes this one's place, or that its peer asks for: as it is now, unrecorded.
    pub(crate) fn media_for_another(&self) -> MediaPlan {
        self.media_now().unrecorded()
    }

    /// The plan with what was changed since, but for a hold.
    fn media_now(&self) -> MediaPlan {
        let mut media = self.media.clone();
        let change = self.change.as_deref().cloned().unwrap_or_default();
        if let Some(video) = change.video {
            media.video = video.map(|plan| (*plan).clone());
        }
        media.direction = change.direction.unwrap_or(media.direction);
        media
    }

    /// What the peer would have to be told for the media to be as `media` says.
    pub(crate) fn change_to(&self, media: &MediaPlan, codecs: &[VideoCodec]) -> MediaChange {
        let now = self.media_now();
        let of = |plan: &MediaPlan| plan.video.clone().map(|plan| Arc::new(plan.or_codecs(codecs)));
        let (before, video) = (of(&now), of(media));
        let is_same_video = match (&before, &video) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        MediaChange {
            codecs: None,
            direction: (media.direction != now.direction).then_some(media.direction),
            video: (!is_same_video).then_some(video),
        }
    }

    /// Which way audio shall flow, from our side: who holds a call hears nothing (RFC 3264 section 8.4).
    pub(crate) fn direction(&self) -> Direction {
        let changed = self.change.as_ref().and_then(|change| change.direction);
        let wanted = changed.unwrap_or(self.media.direction);
        Direction::from_parts(wanted.sends(), wanted.receives() && !self.held)
    }
}

/// What is sent of what was agreed: nothing by one who holds the call quietly, which "sendonly" allows.
fn begin(agreed: Negotiated, quiet: bool) -> Begin {
    let narrowed = |agreed: &mut Direction| {
        *agreed = Direction::from_parts(agreed.sends() && !quiet, agreed.receives());
    };
    let Negotiated { mut audio, mut video } = agreed;
    narrowed(&mut audio.direction);
    if let Some(video) = &mut video {
        narrowed(&mut video.direction);
    }
    Begin { audio, video }
}

/// What a step brings back.
pub(crate) struct Done {
    pub(crate) step: Step,
    pub(crate) agreed: Option<Negotiated>,
    /// The offer that came in is for the classic engine.
    pub(crate) is_classic: bool,
}

impl From<Step> for Done {
    fn from(step: Step) -> Self {
        Done {
            step,
            agreed: None,
            is_classic: false,
        }
    }
}

/// Asks another actor and waits for its answer.
pub(crate) async fn ask<A, M, T>(addr: &Addr<A>, message: M) -> Result<T>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    addr.send(message).await.unwrap_or_else(|error| {
        Err(Error::new(
            Fault::Backend,
            "ask an actor",
            format!("{} is gone", std::any::type_name::<A>()),
        )
        .advice("this is a defect of siprtc: report it with the log above this line")
        .caused_by(error))
    })
}

/// Whether the peer's offer can be answered at all, and by which engine: before anybody's telephone rings.
pub(crate) async fn screen(
    translator: Addr<SdpTranslator>,
    offer: String,
    codecs: Vec<Codec>,
    (first, classic): (Arc<dyn MediaEngine>, Option<Arc<dyn MediaEngine>>),
) -> Result<Done> {
    let needs = needs(&offer)?;
    let fits = |engine: &Arc<dyn MediaEngine>| match engine.dialect() {
        Dialect::Sip => needs.classic.is_ok(),
        Dialect::WebRtc => needs.webrtc.is_ok(),
    };
    let classic = classic.filter(|classic| !fits(&first) && fits(classic));
    let is_classic = classic.is_some();
    let engine = classic.unwrap_or(first);
    let readable = read_offer(&translator, offer, &codecs, engine.dialect()).await?;
    engine.check_offer(&readable, &codecs)?;
    Ok(Done {
        is_classic,
        ..Step::ScreenPassed.into()
    })
}

/// The peer's offer for the media peer, which never sees one without audio in common.
async fn read_offer(
    translator: &Addr<SdpTranslator>,
    offer: String,
    codecs: &[Codec],
    dialect: Dialect,
) -> Result<String> {
    let readable = match dialect {
        Dialect::Sip => {
            check_classic_offer(&offer)?;
            offer
        }
        Dialect::WebRtc => ask(translator, ToWebrtc { sdp: offer }).await?.sdp,
    };
    let lines = readable.lines().filter(|line| line.starts_with("m=")).count();
    ask(
        translator,
        Negotiate {
            local: shortest(codecs, lines),
            remote: readable.clone(),
            answerer: None,
        },
    )
    .await?;
    Ok(readable)
}

/// The shortest description that has our codecs in each of its m-lines: to compare with, before there is a media peer.
fn shortest(codecs: &[Codec], lines: usize) -> String {
    let types: Vec<String> = codecs
        .iter()
        .map(|codec| codec.payload_type().to_string())
        .collect();
    let mut sdp = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
    for _ in 0..lines {
        sdp += &format!("m=audio 9 UDP/TLS/RTP/SAVPF {}\r\n", types.join(" "));
        for codec in codecs {
            let channels = if *codec == Codec::Opus { "/2" } else { "" };
            sdp += &format!(
                "a=rtpmap:{} {codec}/{}{channels}\r\n",
                codec.payload_type(),
                codec.clock_rate()
            );
        }
    }
    sdp
}

/// What a description says of candidates to come. One that is not complete says so to everybody: the peer's answer tells
/// whether it takes them.
fn trickled(policy: Trickle, sdp: &str) -> SdpTrickle {
    match policy {
        Trickle::Off => SdpTrickle::None,
        _ if says_end_of_candidates(sdp) => SdpTrickle::Half,
        _ => SdpTrickle::Full,
    }
}

/// `createOffer`, gathering, and the SDP for the wire, cut to `room` if it goes over UDP.
pub(crate) async fn make_offer(
    session: Addr<MediaSession>,
    house: House,
    policy: Trickle,
    room: Option<MeasureInvite>,
    dialect: Dialect,
) -> Result<Done> {
    let sdp = ask(&session, CreateOffer).await?;
    if dialect == Dialect::Sip {
        return Ok(Step::OfferMade(sdp).into());
    }
    let octets = match room {
        Some(room) => house.dialogs.send(room).await.ok().flatten(),
        None => None,
    };
    let trickle = trickled(policy, &sdp);
    let translator = house.translator;
    let wire = ask(
        &translator,
        ToSip {
            sdp,
            form: SipForm { octets, trickle },
        },
    )
    .await?;
    Ok(Step::OfferMade(wire.sdp).into())
}

/// `setRemoteDescription(offer)`, `createAnswer`, gathering, and the SDP for the wire; audio begins.
pub(crate) async fn make_answer(
    session: Addr<MediaSession>,
    translator: Addr<SdpTranslator>,
    (offer, codecs): (String, Vec<Codec>),
    policy: Trickle,
    dialect: Dialect,
    quiet: bool,
) -> Result<Done> {
    let sdp = read_offer(&translator, offer.clone(), &codecs, dialect).await?;
    let sdp = ask(&session, AnswerOffer { sdp }).await?;
    let wire = match dialect {
        Dialect::Sip => {
            check_classic_answer(&offer, &sdp)?;
            sdp
        }
        Dialect::WebRtc => answer_for_wire(&translator, &offer, sdp, policy).await?,
    };
    let agreed = ask(
        &translator,
        Negotiate {
            local: wire.clone(),
            remote: offer,
            answerer: Some(Answerer::Local),
        },
    )
    .await?;
    ask(&session, begin(agreed, quiet)).await?;
    Ok(Done {
        step: Step::AnswerMade(wire),
        agreed: Some(agreed),
        is_classic: false,
    })
}

/// A WebRTC engine's answer as the peer may see it.
async fn answer_for_wire(
    translator: &Addr<SdpTranslator>,
    offer: &str,
    answer: String,
    policy: Trickle,
) -> Result<String> {
    let trickle = match says_trickle(offer) {
        true => trickled(policy, &answer),
        false => SdpTrickle::None,
    };
    let wire = ask(
        translator,
        AnswerToSip {
            offer: offer.to_owned(),
            answer,
            form: SipForm {
                trickle,
                ..SipForm::default()
            },
        },
    )
    .await?
    .sdp;
    check_answer(offer, &wire)?;
    Ok(wire)
}

/// `setRemoteDescription(answer)`; audio begins.
pub(crate) async fn apply_answer(
    session: Addr<MediaSession>,
    translator: Addr<SdpTranslator>,
    offer_and_answer: (String, String),
    dialect: Dialect,
    quiet: bool,
) -> Result<Done> {
    let (sdp, agreed) = read_answer(&translator, offer_and_answer, dialect).await?;
    let kind = SdpKind::Answer;
    ask(&session, AcceptAnswer { sdp, kind }).await?;
    ask(&session, begin(agreed, quiet)).await?;
    Ok(applied(agreed))
}

/// The same in a media peer beside the first one; `is_heard`: its audio takes the other's place.
pub(crate) async fn accept_fork(
    session: Addr<MediaSession>,
    translator: Addr<SdpTranslator>,
    offer_and_answer: (String, String),
    dialect: Dialect,
    (fork, is_heard): (Fork, bool),
) -> Result<Option<Negotiated>> {
    let (sdp, agreed) = read_answer(&translator, offer_and_answer, dialect).await?;
    let begin = is_heard.then(|| begin(agreed, false));
    ask(&session, AcceptFork { fork, sdp, begin }).await?;
    Ok(is_heard.then_some(agreed))
}

/// The fork's media peer is the call's.
pub(crate) async fn take_fork(
    session: Addr<MediaSession>,
    translator: Addr<SdpTranslator>,
    offer_and_answer: (String, String),
    dialect: Dialect,
    fork: Fork,
) -> Result<Done> {
    let (sdp, agreed) = read_answer(&translator, offer_and_answer, dialect).await?;
    let begin = begin(agreed, false);
    ask(&session, TakeFork { fork, sdp, begin }).await?;
    Ok(applied(agreed))
}

fn applied(agreed: Negotiated) -> Done {
    Done {
        step: Step::AnswerApplied,
        agreed: Some(agreed),
        is_classic: false,
    }
}

/// The peer's answer for the media peer, and what it agrees on. Before setRemoteDescription: an answer without audio in common must
/// not leave a half-set peer behind.
async fn read_answer(
    translator: &Addr<SdpTranslator>,
    (offer, answer): (String, String),
    dialect: Dialect,
) -> Result<(String, Negotiated)> {
    let readable = match dialect {
        Dialect::Sip => {
            check_classic_answer(&offer, &answer)?;
            answer.clone()
        }
        Dialect::WebRtc => {
            check_answer(&offer, &answer)?;
            let (offer, answer) = (offer.clone(), answer.clone());
            ask(translator, AnswerToWebrtc { offer, answer }).await?.sdp
        }
    };
    let agreed = ask(
        translator,
        Negotiate {
            local: offer,
            remote: answer,
            answerer: Some(Answerer::Remote),
        },
    )
    .await?;
    Ok((readable, agreed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_media_session::{VideoPlan, VideoSink, VideoSource};

    fn recorded(name: &str) -> VideoPlan {
        let path = name.into();
        VideoPlan::new(VideoSource::None, VideoSink::File { path })
    }

    #[test]
    fn a_call_in_anothers_place_has_the_video_that_was_agreed_on_last_and_no_file_twice() {
        let media = MediaPlan {
            video: Some(recorded("first.ivf")),
            ..MediaPlan::default()
        };
        let mut entry = Entry::new(CallId::fresh(), "caller", media);
        let mut last = recorded("last.ivf");
        last.direction = Direction::RecvOnly;
        for (change, wanted) in [
            (None, Some(Direction::SendRecv)),
            (Some(Some(Arc::new(last))), Some(Direction::RecvOnly)),
            (Some(None), None),
        ] {
            entry.change = change.map(|video| {
                Arc::new(MediaChange {
                    video: Some(video),
                    ..MediaChange::default()
                })
            });
            let video = entry.media_for_another().video;
            assert_eq!(video.as_ref().map(|video| video.direction), wanted);
            assert!(video.is_none_or(|video| matches!(video.sink, VideoSink::Null)));
        }
    }
}
