//! Messages (RFC 3428), within calls and beside them.

use crate::endpoint::{Call, Endpoint, ask, read_target};
use siprtc_core::sip::Headers;
use siprtc_core::{Error, Fault, Result};
use siprtc_gateway::{MessageTo, SendMessage};

impl Call {
    /// Sends a text to the peer, within the call (MESSAGE), and waits for its answer.
    ///
    /// Errors: [`Fault::PeerIncompatible`] when the peer refuses it, [`Fault::TimedOut`] without an answer.
    pub async fn send_message(&self, text: &str) -> Result<()> {
        let sent = ask(self.gateway(), message(MessageTo::Call(self.id()), text)).await?;
        taken(sent)
    }
}

impl Endpoint {
    /// Sends a text to `target`, a SIP URI or a bare user name of the account's own domain, outside of any call. The MESSAGE has
    /// 1,300 octets at most.
    ///
    /// Errors: [`Fault::PeerIncompatible`] when it is refused, [`Fault::TimedOut`] without an answer.
    pub async fn send_message(&self, target: &str, text: &str) -> Result<()> {
        self.send_message_with(target, text, Headers::new()).await
    }

    /// As [`Endpoint::send_message`], with header fields of one's own, such as Subject.
    pub async fn send_message_with(&self, target: &str, text: &str, headers: Headers) -> Result<()> {
        let to = MessageTo::Uri(read_target(&self.house().aor, target)?);
        let message = SendMessage {
            headers,
            ..message(to, text)
        };
        taken(ask(&self.house().hub, message).await?)
    }
}

fn message(to: MessageTo, text: &str) -> SendMessage {
    SendMessage {
        to,
        content_type: "text/plain".to_owned(),
        body: text.to_owned(),
        headers: Headers::new(),
    }
}

fn taken(status: u16) -> Result<()> {
    let (fault, advice) = match status {
        200..=299 => return Ok(()),
        408 => (Fault::TimedOut, "is the peer, or the server, up?"),
        413 | 415 => (Fault::PeerIncompatible, "the peer takes no such message"),
        _ => (
            Fault::PeerIncompatible,
            "is it the right address, and does the peer take messages?",
        ),
    };
    Err(Error::new(fault, "send message", format!("it was answered {status}")).advice(advice))
}
