//! What is carried to a call's peer beside offers: MESSAGEs (RFC 3428) and digits in INFOs; and what the peer sends of them.
//!
//! One errand of a call is on its way at a time, so that they arrive in their order.

use super::Scope;
use super::call::{Call, Departure, Phase, Purpose, is_challenge};
use super::words::{is_one_line, misuse, unsupported_body};
use crate::event::{DialogEvent, DialogEventKind, Note};
use crate::message::{Carrier, Deliver};
use siprtc_core::sip::{Method, SipRequest, SipResponse, TxEnd, TxId};
use siprtc_core::{CallId, Result};
use std::collections::VecDeque;
use std::time::Duration;

/// Most errands of a call that wait. **Policy when full**: the command is refused.
const MAX_WAITING: usize = 64;
/// Longest MESSAGE that is taken. **Policy beyond**: 413.
const MAX_BODY: usize = 65_536;
/// What a MESSAGE that is taken has in it.
pub(super) const TEXT: &str = "text/plain";
/// A digit and its duration (used everywhere, standardized nowhere).
const DTMF_RELAY: &str = "application/dtmf-relay";
/// A digit alone.
const DTMF: &str = "application/dtmf";
/// How long a digit is that does not say it.
const DIGIT: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Errands {
    outstanding: Option<(TxId, CallId)>,
    waiting: VecDeque<Deliver>,
}

/// What became of an errand.
pub(super) fn delivered(scope: &mut Scope, errand: CallId, status: u16) {
    let kind = DialogEventKind::Delivered { status };
    scope.push(super::Output::Event(DialogEvent { call: errand, kind }));
}

/// The status that stands for no answer (RFC 3261 section 8.1.3.1).
pub(super) fn status_of(end: &TxEnd) -> u16 {
    match end {
        TxEnd::Done => 500,
        TxEnd::TimedOut => 408,
        TxEnd::Transport(_) => 503,
    }
}

impl Call {
    pub(super) fn deliver(&mut self, scope: &mut Scope, parcel: Deliver) -> Result<()> {
        const OPERATION: &str = "deliver";
        if parcel.content_type.is_empty() || !is_one_line(&parcel.content_type) {
            return Err(misuse(OPERATION, "the content type is no line").advice("give a media type"));
        }
        if !matches!(self.phase, Phase::Established(_)) || self.is_ending() {
            return Err(misuse(OPERATION, format!("{} is not established", self.id))
                .advice("send within a call between Confirmed and Ended"));
        }
        if self.errands.waiting.len() >= MAX_WAITING {
            return Err(misuse(
                OPERATION,
                format!("{MAX_WAITING} messages or digits of {} wait already", self.id),
            ));
        }
        self.errands.waiting.push_back(parcel);
        self.next_errand(scope);
        Ok(())
    }

    fn next_errand(&mut self, scope: &mut Scope) {
        let route = self.way(scope);
        let Phase::Established(session) = &mut self.phase else {
            return;
        };
        if self.errands.outstanding.is_some() {
            return;
        }
        let Some(parcel) = self.errands.waiting.pop_front() else {
            return;
        };
        let method = match parcel.carrier {
            Carrier::Info => Method::Info,
            Carrier::Message => Method::Message,
        };
        let (request, sequence) = session.dialog.request(method);
        let request = request.with_body(&parcel.content_type, parcel.body);
        let departure = Departure::within(Purpose::Errand, (request, sequence), route);
        let tx = self.send(scope, departure);
        self.errands.outstanding = Some((tx, parcel.errand));
    }

    pub(super) fn errand_answered(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let Some((_, errand)) = self.errands.outstanding.take_if(|(other, _)| *other == tx) else {
            return;
        };
        if is_challenge(response)
            && !self.is_ending()
            && let Ok(again) = self.retry(scope, tx, response)
        {
            self.errands.outstanding = Some((again, errand));
            return;
        }
        delivered(scope, errand, response.status);
        self.next_errand(scope);
    }

    pub(super) fn errand_lost(&mut self, scope: &mut Scope, tx: TxId, end: &TxEnd) {
        if let Some((_, errand)) = self.errands.outstanding.take_if(|(other, _)| *other == tx) {
            delivered(scope, errand, status_of(end));
            self.next_errand(scope);
        }
    }

    /// The call is over: whatever still waits finds nobody.
    pub(super) fn forget_errands(&mut self, scope: &mut Scope) {
        let outstanding = self.errands.outstanding.take().map(|(_, errand)| errand);
        let waiting = self.errands.waiting.drain(..).map(|parcel| parcel.errand);
        let left: Vec<CallId> = outstanding.into_iter().chain(waiting).collect();
        for errand in left {
            delivered(scope, errand, 481);
        }
    }

    /// A MESSAGE of the peer.
    pub(super) fn messaged(&mut self, scope: &mut Scope, tx: TxId, message: &SipRequest) {
        match read_note(message) {
            Ok(note) => {
                scope.respond(Some(self.id), tx, message.response(200));
                self.tell(scope, DialogEventKind::Message(note));
            }
            Err(refusal) => scope.respond(Some(self.id), tx, refusal),
        }
    }

    /// An INFO of the peer without a package: digits, or nothing that means anything to us (RFC 6086 section 9).
    pub(super) fn informed_of_digits(&mut self, scope: &mut Scope, tx: TxId, info: &SipRequest) {
        let content_type = info.headers.content_type();
        let is_digit = matches!(content_type.as_deref(), Some(DTMF_RELAY | DTMF));
        if !is_digit || !scope.config.control.take_digits {
            return scope.respond(Some(self.id), tx, info.response(200));
        }
        match read_digit(&info.body) {
            Some((digit, duration)) => {
                scope.respond(Some(self.id), tx, info.response(200));
                self.tell(scope, DialogEventKind::Dtmf { digit, duration });
            }
            None => scope.respond(Some(self.id), tx, info.response(400)),
        }
    }
}

/// What a MESSAGE says, or what refuses it (RFC 3428 section 7).
pub(super) fn read_note(message: &SipRequest) -> Result<Note, SipResponse> {
    if message.body.len() > MAX_BODY {
        return Err(message.response(413));
    }
    let encoding = message.headers.value("Content-Encoding");
    let plain = encoding.is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
    if !plain || message.headers.content_type().as_deref() != Some(TEXT) {
        return Err(unsupported_body(message, TEXT));
    }
    let read = || {
        Some(Note {
            from: message.headers.from().ok()?,
            to: message.headers.to().ok()?,
            content_type: TEXT.to_owned(),
            body: std::str::from_utf8(&message.body).ok()?.to_owned(),
        })
    };
    read().ok_or_else(|| message.response(400))
}

/// `Signal=5`, `Duration=160`; or the digit alone. 10 and 11 are what some send for the star and the pound.
fn read_digit(body: &[u8]) -> Option<(char, Duration)> {
    let text = std::str::from_utf8(body).ok()?;
    let (mut signal, mut duration) = (None, DIGIT);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
        {
            Some((name, value)) if name.eq_ignore_ascii_case("signal") => signal = Some(value),
            Some((name, value)) if name.eq_ignore_ascii_case("duration") => {
                duration = Duration::from_millis(value.parse::<u16>().ok()?.into());
            }
            Some(_) => {}
            None => signal = signal.or(Some(line)),
        }
    }
    let digit = match signal? {
        "10" => '*',
        "11" => '#',
        other => {
            let mut chars = other.chars();
            chars
                .next()
                .filter(|_| chars.next().is_none())?
                .to_ascii_uppercase()
        }
    };
    matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D').then_some((digit, duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_in_every_spelling() {
        for (body, digit, ms) in [
            ("Signal=5\r\nDuration=160\r\n", '5', 160),
            ("Signal= *\nDuration= 250", '*', 250),
            ("signal=d\r\n", 'D', 100),
            ("Duration=90\r\nSignal=11\r\n", '#', 90),
            ("7", '7', 100),
            ("#\r\n", '#', 100),
        ] {
            let read = read_digit(body.as_bytes());
            assert_eq!(read, Some((digit, Duration::from_millis(ms))), "{body}");
        }
        for body in [
            "",
            "Signal=",
            "Signal=55",
            "Signal=x",
            "Duration=100",
            "Signal=1\r\nDuration=long",
            "!",
        ] {
            assert_eq!(read_digit(body.as_bytes()), None, "{body}");
        }
        assert_eq!(read_digit(&[0xff]), None);
    }
}
