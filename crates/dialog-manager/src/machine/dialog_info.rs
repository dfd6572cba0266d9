//! The calls of an account as a dialog-info document (RFC 4235 section 4).

use super::call::{Call, Phase};
use siprtc_core::CallId;
use siprtc_core::sip::SipUri;
use std::fmt::Write;

pub(super) const MEDIA_TYPE: &str = "application/dialog-info+xml";

/// The whole document. It always has the full state, so that nobody has to put parts together.
pub(super) fn whole(aor: &SipUri, version: u32, dialogs: &str) -> String {
    let entity = escape(&aor.address_of_record().to_string());
    format!(
        "<?xml version=\"1.0\"?>\r\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{version}\" \
         state=\"full\" entity=\"{entity}\">\r\n{dialogs}</dialog-info>\r\n"
    )
}

/// One element for each call that is not over, of a call that forks for its first dialog.
pub(super) fn dialogs<'a>(aor: &SipUri, calls: impl Iterator<Item = &'a Call>) -> String {
    let own = escape(&aor.address_of_record().to_string());
    let mut all = String::new();
    for call in calls.filter(|call| !call.is_ending()) {
        let Some((state, remote_tag)) = state(call) else {
            continue;
        };
        let direction = if call.begun_by.is_none() {
            "initiator"
        } else {
            "recipient"
        };
        let remote_tag = match remote_tag.as_str() {
            "" => String::new(),
            tag => format!(" remote-tag=\"{}\"", escape(tag)),
        };
        let _ = write!(
            all,
            "<dialog id=\"{}\" call-id=\"{}\" local-tag=\"{}\"{remote_tag} direction=\"{direction}\"><state>{state}</state>\
             <local><identity>{own}</identity></local><remote><identity>{}</identity></remote></dialog>\r\n",
            id(call.id),
            escape(&call.sip_call_id),
            escape(&call.local_tag),
            escape(&call.peer),
        );
    }
    all
}

fn id(call: CallId) -> String {
    escape(&call.to_string())
}

/// RFC 4235 section 3.7.1, and the peer's tag as far as there is one.
fn state(call: &Call) -> Option<(&'static str, String)> {
    match &call.phase {
        Phase::Calling(calling) => Some(match calling.first_tag() {
            Some(tag) => ("early", tag.to_owned()),
            None if calling.is_proceeding() => ("proceeding", String::new()),
            None => ("trying", String::new()),
        }),
        Phase::Inviting(_) => Some(("early", call.caller_tag.clone())),
        Phase::Established(session) => Some(("confirmed", session.dialog.remote_tag().to_owned())),
        Phase::Closing(_) | Phase::Over => None,
    }
}

/// Nothing that comes from outside becomes markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_write_stays_text() {
        assert_eq!(escape("a<b>&\"c'\u{1}"), "a&lt;b&gt;&amp;&quot;c&apos; ");
    }
}
