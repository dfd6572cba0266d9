//! The actor: the pure functions behind a mailbox, with the changes in the log.

use crate::{AnswerToSip, AnswerToWebrtc, Negotiate, Negotiated, ToSip, ToWebrtc, Translation};
use actix::{Actor, Context, Handler, Supervised};
use siprtc_core::Result;

/// Translates for whoever asks. It keeps nothing between two messages, so that one serves every call and a new one
/// may take its place at any time.
#[derive(Debug, Default)]
pub struct SdpTranslator;

impl SdpTranslator {
    /// How many translations may wait; a sender finds the mailbox full beyond it. At tens of microseconds each, a
    /// full mailbox is some ten milliseconds of work.
    pub const MAILBOX: usize = 256;
}

/// It keeps nothing: there is nothing to put right.
impl Supervised for SdpTranslator {}

impl Actor for SdpTranslator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(Self::MAILBOX);
    }
}

impl Handler<ToSip> for SdpTranslator {
    type Result = Result<Translation>;

    fn handle(&mut self, message: ToSip, _: &mut Self::Context) -> Self::Result {
        told("to SIP", crate::to_sip_as(&message.sdp, message.form))
    }
}

impl Handler<ToWebrtc> for SdpTranslator {
    type Result = Result<Translation>;

    fn handle(&mut self, message: ToWebrtc, _: &mut Self::Context) -> Self::Result {
        told("to WebRTC", crate::to_webrtc(&message.sdp))
    }
}

impl Handler<AnswerToSip> for SdpTranslator {
    type Result = Result<Translation>;

    fn handle(&mut self, message: AnswerToSip, _: &mut Self::Context) -> Self::Result {
        told(
            "answer to SIP",
            crate::answer_to_sip_as(&message.offer, &message.answer, message.form),
        )
    }
}

impl Handler<AnswerToWebrtc> for SdpTranslator {
    type Result = Result<Translation>;

    fn handle(&mut self, message: AnswerToWebrtc, _: &mut Self::Context) -> Self::Result {
        told(
            "answer to WebRTC",
            crate::answer_to_webrtc(&message.offer, &message.answer),
        )
    }
}

impl Handler<Negotiate> for SdpTranslator {
    type Result = Result<Negotiated>;

    fn handle(&mut self, message: Negotiate, _: &mut Self::Context) -> Self::Result {
        let Negotiate {
            local,
            remote,
            answerer,
        } = message;
        let audio = match answerer {
            Some(answerer) => crate::negotiated_audio_as(&local, &remote, answerer),
            None => crate::negotiated_audio(&local, &remote),
        }?;
        let video = crate::negotiated_video(&local, &remote, answerer)?;
        Ok(Negotiated { audio, video })
    }
}

fn told(way: &'static str, result: Result<Translation>) -> Result<Translation> {
    match &result {
        Ok(translation) => {
            for change in &translation.changes {
                tracing::debug!(way, rule = %change.rule, %change, "SDP changed");
                if change.rule == crate::Rule::RtcpMux {
                    tracing::warn!(way, %change, "the peer does not multiplex RTCP: its reports will be missing");
                }
            }
        }
        Err(error) => tracing::debug!(way, %error, "SDP refused"),
    }
    result
}
