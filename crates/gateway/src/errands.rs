//! What is carried beside calls and within them: messages (RFC 3428), and digits by INFO.

use crate::actor::Gateway;
use crate::calls::ask;
use crate::messages::SendDtmf;
use actix::prelude::*;
use siprtc_core::sip::{Headers, Uri};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::{self as dialog, Carrier};
use siprtc_media_session as media;
use tokio::sync::oneshot;

/// Most errands whose answer is awaited. **Policy when full**: the command is refused.
const MAX_ERRANDS: usize = 256;

/// How digits travel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DtmfWay {
    /// As telephone-event where it was negotiated, else in INFOs.
    #[default]
    Auto,
    /// In INFOs (`application/dtmf-relay`).
    Info,
    /// As telephone-event (RFC 4733); INFOs mean nothing.
    Rfc4733,
}

impl DtmfWay {
    /// Whether INFOs carry the digits of a call, both ways; each digit is heard once.
    pub(crate) fn is_info(self, telephone_event: bool) -> bool {
        match self {
            DtmfWay::Auto => !telephone_event,
            DtmfWay::Info => true,
            DtmfWay::Rfc4733 => false,
        }
    }
}

/// Sends a MESSAGE (RFC 3428): within a call, or outside of any, where it has 1,300 octets at most. The answer is the final status.
#[derive(Debug, Message)]
#[rtype(result = "Result<u16, Error>")]
pub struct SendMessage {
    /// To whom.
    pub to: MessageTo,
    /// The media type of the body, usually `text/plain`.
    pub content_type: String,
    /// The body.
    pub body: String,
    /// More header fields, outside of a call; within it those of [`Occasion::Requests`](crate::Occasion) go along.
    pub headers: Headers,
}

/// To whom a message goes.
#[derive(Clone, Debug)]
pub enum MessageTo {
    /// To the peer of a call.
    Call(CallId),
    /// To that address.
    Uri(Uri),
}

/// The status that a message or a digit was answered with.
type Answered = oneshot::Receiver<u16>;

impl Gateway {
    fn errand(&mut self) -> Result<(CallId, Answered)> {
        self.errands.retain(|_, waiting| !waiting.is_closed());
        if self.errands.len() >= MAX_ERRANDS {
            let what = format!("{MAX_ERRANDS} messages and digits wait for their answers already");
            return Err(Error::new(Fault::ApiMisuse, "send", what).advice("wait for some of them"));
        }
        let (errand, (sender, answered)) = (CallId::fresh(), oneshot::channel());
        self.errands.insert(errand, sender);
        Ok((errand, answered))
    }

    /// An errand's answer is here.
    pub(crate) fn delivered(&mut self, errand: CallId, status: u16) {
        if let Some(waiting) = self.errands.remove(&errand) {
            let _ = waiting.send(status); // Whoever waited may have given up.
        }
    }
}

async fn answer(answered: Answered) -> Result<u16> {
    answered
        .await
        .map_err(|error| Error::new(Fault::Backend, "send", "the gateway is gone").caused_by(error))
}

impl Handler<SendMessage> for Gateway {
    type Result = ResponseFuture<Result<u16>>;

    fn handle(&mut self, message: SendMessage, ctx: &mut Context<Self>) -> Self::Result {
        let SendMessage {
            to,
            content_type,
            body,
            headers,
        } = message;
        let prepared = self.house(ctx).and_then(|house| Ok((house, self.errand()?)));
        Box::pin(async move {
            let (house, (errand, answered)) = prepared?;
            match to {
                MessageTo::Call(call) => {
                    let parcel = dialog::Deliver {
                        call,
                        errand,
                        carrier: Carrier::Message,
                        content_type,
                        body,
                    };
                    ask(&house.dialogs, parcel).await?;
                }
                MessageTo::Uri(target) => {
                    let message = dialog::SendMessage {
                        errand,
                        target,
                        content_type,
                        body,
                        headers,
                    };
                    ask(&house.dialogs, message).await?;
                }
            }
            answer(answered).await
        })
    }
}

impl Handler<SendDtmf> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: SendDtmf, ctx: &mut Context<Self>) -> Self::Result {
        let has_event = self
            .calls
            .get(&message.call)
            .is_some_and(|entry| entry.telephone_event);
        if self.control().dtmf.is_info(has_event) {
            return self.send_infos(ctx, message);
        }
        let session = self.session("send DTMF", message.call);
        Box::pin(async move {
            let duration_ms = message.duration.as_millis().min(u128::from(u32::MAX)) as u32;
            ask(
                &session?,
                media::SendDtmf {
                    digits: message.digits,
                    duration_ms,
                },
            )
            .await
        })
    }
}

impl Gateway {
    fn send_infos(&mut self, ctx: &mut Context<Self>, message: SendDtmf) -> ResponseFuture<Result<()>> {
        const OPERATION: &str = "send DTMF";
        let SendDtmf {
            call,
            digits,
            duration,
        } = message;
        let is_digit = |digit: char| matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d');
        let house = self
            .house(ctx)
            .and_then(|house| match digits.chars().all(is_digit) {
                true => Ok(house),
                false => Err(Error::new(
                    Fault::ApiMisuse,
                    OPERATION,
                    format!("{digits:?} is not only digits"),
                )
                .advice("digits are 0 to 9, *, # and A to D")),
            });
        let errands: Result<Vec<_>> = digits
            .chars()
            .map(|digit| Ok((digit.to_ascii_uppercase(), self.errand()?)))
            .collect();
        let milliseconds = duration.as_millis();
        Box::pin(async move {
            let (house, mut awaited) = (house?, Vec::new());
            for (digit, (errand, answered)) in errands? {
                let parcel = dialog::Deliver {
                    call,
                    errand,
                    carrier: Carrier::Info,
                    content_type: "application/dtmf-relay".to_owned(),
                    body: format!("Signal={digit}\r\nDuration={milliseconds}\r\n"),
                };
                ask(&house.dialogs, parcel).await?;
                awaited.push(answered);
            }
            for answered in awaited {
                let status = answer(answered).await?;
                if !(200..300).contains(&status) {
                    let what = format!("the peer takes no digits in INFOs ({status})");
                    return Err(Error::new(Fault::PeerIncompatible, OPERATION, what)
                        .advice("set call.dtmf to rfc4733, or ask who runs the peer"));
                }
            }
            Ok(())
        })
    }
}
