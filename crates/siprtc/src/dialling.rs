//! Who calls whom, and what is said beside the call: header fields, privacy, forwarding.

use crate::bridge::Conference;
use crate::endpoint::{Call, Endpoint, ask, read_target};
use crate::incoming::IncomingCall;
use siprtc_core::sip::{Headers, NameAddr};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_gateway::{Attach, DialogName, Hangup, Head, MediaPlan, NameDialog, Occasion, Redirect};

/// What a call says of itself.
#[derive(Clone, Debug, Default)]
pub struct DialOptions {
    /// More header fields for the INVITE. Those that SIP needs itself (From, CSeq, Contact ...) are an error.
    pub headers: Headers,
    /// The callee is not told who calls; the account's own proxy is (RFC 3323, RFC 3325).
    pub anonymous: bool,
    /// Wants to be joined to that call of the callee's (RFC 3911), named as the callee knows it: by [`Call::dialog_name`] over there, or
    /// by what it tells in the event package `dialog`.
    pub joins: Option<DialogName>,
}

impl Endpoint {
    /// As [`Endpoint::dial`], with header fields of one's own, or without telling who calls.
    pub async fn dial_with(&self, target: &str, media: MediaPlan, options: DialOptions) -> Result<Call> {
        let DialOptions {
            mut headers,
            anonymous,
            joins,
        } = options;
        if let Some(joins) = joins {
            headers.push("Join", joins);
        }
        if anonymous {
            headers.push("Privacy", "id");
        }
        self.house().dial(target, media, headers).await
    }
}

impl IncomingCall {
    /// What else the INVITE says: its header fields; `asserted`, who is vouched for by a proxy of `call.trusted` (RFC 3325); and
    /// [`Head::diverted_by`], who had the call before.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// As [`IncomingCall::answer`], with header fields of one's own in the 200.
    pub async fn answer_with(self, media: MediaPlan, headers: Headers) -> Result<Call> {
        attach(&self.call, Occasion::Answers, headers).await?;
        self.answer(media).await
    }

    /// As [`IncomingCall::refuse`], with header fields of one's own, such as Retry-After.
    pub async fn refuse_with(self, status: u16, headers: Headers) -> Result<()> {
        attach(&self.call, Occasion::Answers, headers).await?;
        self.refuse(status).await
    }

    /// Sends the caller elsewhere (302): SIP URIs, or bare user names of the account's own domain, best first.
    pub async fn forward(self, targets: &[&str]) -> Result<()> {
        let read = |target: &&str| read_target(&self.call.house().aor, target).map(NameAddr::new);
        let contacts = targets.iter().map(read).collect::<Result<Vec<_>>>()?;
        let call = self.call.id();
        ask(self.call.gateway(), Redirect { call, contacts }).await?;
        self.guard.disarm();
        Ok(())
    }
}

impl IncomingCall {
    /// The call of this endpoint that the caller wants to be joined to (Join, RFC 3911). It rings like another one, and is answered as
    /// the application likes.
    pub fn joins(&self) -> Option<CallId> {
        self.head.joins
    }

    /// Grants the wish: answers, and seats the caller in a conference with `call`, which takes a seat there if it has none. Done when the
    /// call is confirmed; what it told until then is read.
    ///
    /// Errors: [`Fault::ApiMisuse`] when the caller wanted something else, or `call` is bridged or confers elsewhere. Then the caller is
    /// declined. Whatever goes wrong once it is answered ends it.
    pub async fn join_with(self, call: &Call, conference: &Conference, media: MediaPlan) -> Result<Call> {
        if self.joins() != Some(call.id()) {
            let what = format!("the caller did not ask for {}", call.id());
            return Err(Error::new(Fault::ApiMisuse, "join", what).advice("compare IncomingCall::joins"));
        }
        if !conference.seats(call) {
            conference.join(call).await?;
        }
        let mut joined = self.answer(media).await?;
        let seated = match joined.confirmed().await {
            Ok(()) => conference.join(&joined).await,
            Err(error) => Err(error),
        };
        if let Err(error) = seated {
            // It may be over already.
            drop(joined.hangup().await);
            return Err(error);
        }
        Ok(joined)
    }
}

impl Call {
    /// What names this call's dialog to others, as this end knows it: an INVITE of theirs to us may ask to join it.
    ///
    /// Errors: [`Fault::ApiMisuse`] when it is not confirmed, or over.
    pub async fn dialog_name(&self) -> Result<DialogName> {
        ask(self.gateway(), NameDialog { call: self.id() }).await
    }

    /// Header fields of one's own for every request of ours within the call from now on but BYE: re-INVITE, UPDATE, INFO, MESSAGE, REFER,
    /// NOTIFY, PRACK. They take the place of earlier ones.
    ///
    /// Errors: [`Fault::ApiMisuse`] for those that SIP needs itself (From, CSeq, Contact ...), and when the call is over.
    pub async fn attach(&self, headers: Headers) -> Result<()> {
        attach(self, Occasion::Requests, headers).await
    }

    /// As [`Call::hangup`], with header fields of one's own in the BYE of a call that was answered.
    pub async fn hangup_with(&self, headers: Headers) -> Result<()> {
        attach(self, Occasion::Bye, headers).await?;
        ask(self.gateway(), Hangup { call: self.id() }).await
    }
}

async fn attach(call: &Call, to: Occasion, headers: Headers) -> Result<()> {
    let call_id = call.id();
    ask(
        call.gateway(),
        Attach {
            call: call_id,
            to,
            headers,
        },
    )
    .await
}

/// A `Name: value` as people write it.
///
/// Errors: [`Fault::ApiMisuse`] without a colon or a name.
pub fn header_field(line: &str) -> Result<(String, String)> {
    let parts = line
        .split_once(':')
        .map(|(name, value)| (name.trim(), value.trim()));
    match parts.filter(|(name, _)| !name.is_empty()) {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => {
            let what = format!("{line:?} is no header field");
            Err(Error::new(Fault::ApiMisuse, "read header field", what).advice("write it as Name: value"))
        }
    }
}
