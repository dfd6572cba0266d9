//! What the gateway keeps of a call beside its machine, and the steps of its media peer.

use crate::actor::House;
use crate::machine::{Call, Step};
use crate::messages::{MediaPlan, Trickle};
use actix::dev::ToEnvelope;
use actix::prelude::*;
use siprtc_core::ice::PairEnd;
use siprtc_core::media::{Codec, NegotiatedAudio, SdpKind};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::MeasureInvite;
use siprtc_media_session::{AcceptAnswer, AnswerOffer, Begin, CreateOffer, MediaSession, SessionId};
use siprtc_sdp_translator::{
    AnswerToSip, AnswerToWebrtc, Negotiate, SdpTranslator, SipForm, ToSip, ToWebrtc, Trickle as SdpTrickle,
    check_answer, says_end_of_candidates, says_trickle,
};

/// One call's belongings.
pub(crate) struct Entry {
    pub(crate) call: Call,
    pub(crate) media: MediaPlan,
    pub(crate) session: Option<(SessionId, Addr<MediaSession>)>,
    /// Our end of the pair that carries the media.
    pub(crate) local: Option<PairEnd>,
    pub(crate) timer: Option<SpawnHandle>,
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
            media,
            session: None,
            local: None,
            timer: None,
            span,
        }
    }
}

/// What a step brings back.
pub(crate) struct Done {
    pub(crate) step: Step,
    pub(crate) audio: Option<NegotiatedAudio>,
}

impl From<Step> for Done {
    fn from(step: Step) -> Self {
        Done { step, audio: None }
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

/// Whether the peer's offer can be answered at all: before anybody's telephone rings.
pub(crate) async fn screen(
    translator: Addr<SdpTranslator>,
    offer: String,
    codecs: Vec<Codec>,
) -> Result<Done> {
    read_offer(&translator, offer, &codecs).await?;
    Ok(Step::ScreenPassed.into())
}

/// The peer's offer for the media peer, which never sees one without audio in common.
async fn read_offer(translator: &Addr<SdpTranslator>, offer: String, codecs: &[Codec]) -> Result<String> {
    let readable = ask(translator, ToWebrtc { sdp: offer }).await?.sdp;
    let lines = readable.lines().filter(|line| line.starts_with("m=")).count();
    ask(
        translator,
        Negotiate {
            local: shortest(codecs, lines),
            remote: readable.clone(),
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
) -> Result<Done> {
    let sdp = ask(&session, CreateOffer).await?;
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
    offer: String,
    codecs: Vec<Codec>,
    policy: Trickle,
) -> Result<Done> {
    let sdp = read_offer(&translator, offer.clone(), &codecs).await?;
    let sdp = ask(&session, AnswerOffer { sdp }).await?;
    let trickle = match says_trickle(&offer) {
        true => trickled(policy, &sdp),
        false => SdpTrickle::None,
    };
    let wire = ask(
        &translator,
        AnswerToSip {
            offer: offer.clone(),
            answer: sdp,
            form: SipForm {
                trickle,
                ..SipForm::default()
            },
        },
    )
    .await?
    .sdp;
    check_answer(&offer, &wire)?;
    let audio = ask(
        &translator,
        Negotiate {
            local: wire.clone(),
            remote: offer,
        },
    )
    .await?;
    ask(&session, Begin { audio }).await?;
    Ok(Done {
        step: Step::AnswerMade(wire),
        audio: Some(audio),
    })
}

/// `setRemoteDescription(answer)`; audio begins.
pub(crate) async fn apply_answer(
    session: Addr<MediaSession>,
    translator: Addr<SdpTranslator>,
    offer: String,
    answer: String,
) -> Result<Done> {
    check_answer(&offer, &answer)?;
    let readable = ask(
        &translator,
        AnswerToWebrtc {
            offer: offer.clone(),
            answer: answer.clone(),
        },
    )
    .await?;
    // Before setRemoteDescription: an answer without audio in common must not leave a half-set peer behind.
    let audio = ask(
        &translator,
        Negotiate {
            local: offer,
            remote: answer,
        },
    )
    .await?;
    ask(
        &session,
        AcceptAnswer {
            sdp: readable.sdp,
            kind: SdpKind::Answer,
        },
    )
    .await?;
    ask(&session, Begin { audio }).await?;
    Ok(Done {
        step: Step::AnswerApplied,
        audio: Some(audio),
    })
}
