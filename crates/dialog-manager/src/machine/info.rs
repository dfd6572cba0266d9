//! INFOs within dialogs (RFC 6086), and what the peer takes of them.
//!
//! Each dialog has a line of its own, one INFO of which is on its way at a time (RFC 8840 section 10.9 for `trickle-ice`;
//! for any package it keeps the order, which CSeq alone does not on an unreliable transport).

use super::Scope;
use super::call::{Call, Client, Departure, MAX_FORKS, Phase, Purpose, is_challenge};
use super::words::{Abilities, SDPFRAG, TRICKLE_ICE, is_one_line, is_token, misuse, unsupported_body};
use crate::event::{DialogEventKind, DialogTag};
use crate::message::SendInfo;
use siprtc_core::Result;
use siprtc_core::sip::{Headers, Method, SipRequest, SipResponse, TxEnd, TxId};
use std::collections::VecDeque;

/// Most INFOs of one dialog that wait for the one on its way. **Policy when full**: the command is refused.
const MAX_WAITING: usize = 16;

/// Most packages of one Recv-Info that are remembered; IANA has registered a dozen. **Policy when full**: the others are
/// taken for not named.
const MAX_PACKAGES: usize = 32;

/// The lines of a call's dialogs, of its forks too; as many as there are dialogs.
#[derive(Default)]
pub(super) struct Infos {
    lines: Vec<Line>,
    /// Tag and last CSeq of dialogs that an INVITE made before it went out again: a late 2xx brings one back to be hung up.
    gone: Vec<(String, u32)>,
}

/// The INFOs of one dialog, and what its peer said of them.
struct Line {
    /// The peer's tag.
    tag: String,
    /// The peer knows of the dialog: a callee's INFO before that would be answered 481.
    open: bool,
    /// The option-tag `trickle-ice` (RFC 8840 section 10.6).
    trickle_ice: bool,
    /// The latest Recv-Info (RFC 6086 section 5.2); `None` from a peer that never sent one.
    packages: Option<Vec<String>>,
    /// It said that it takes a package and then refused it.
    refused: Vec<String>,
    outstanding: Option<(TxId, String)>,
    waiting: VecDeque<SendInfo>,
    /// The CSeq of the last INFO.
    sequence: u32,
}

impl Line {
    /// Takes what a message of the peer says; what it does not say stays as it was. Whether anything is different.
    fn hear(&mut self, headers: &Headers) -> bool {
        let before = self.supports();
        let has = |name| headers.has_token(name, TRICKLE_ICE);
        self.trickle_ice |= has("Supported") || has("Require");
        if headers.contains("Recv-Info") {
            let items = headers.items("Recv-Info").into_iter().take(MAX_PACKAGES);
            self.packages = Some(items.map(|item| package_of(item).to_owned()).collect());
            self.refused.clear();
        }
        self.supports() != before
    }

    /// RFC 6086 section 4.2.1: a package goes to who says that it takes it. The option-tag says so too: an unreliable 18x,
    /// which is what trickle begins with, need not have a Recv-Info.
    fn takes(&self, package: &str) -> bool {
        let is = |other: &String| other.eq_ignore_ascii_case(package);
        let willing = match &self.packages {
            Some(packages) => packages.iter().any(is),
            None => self.trickle_ice && package.eq_ignore_ascii_case(TRICKLE_ICE),
        };
        willing && !self.refused.iter().any(is)
    }

    fn supports(&self) -> (bool, bool) {
        (self.trickle_ice, self.takes(TRICKLE_ICE))
    }

    fn is_full_for(&self, info: &SendInfo) -> bool {
        self.waiting.len() >= MAX_WAITING && !self.waiting.iter().any(|other| supersedes(info, other))
    }

    fn queue(&mut self, info: SendInfo) {
        self.waiting.retain(|other| !supersedes(&info, other));
        self.waiting.push_back(info);
    }
}

/// RFC 8840 section 4.4: each INFO repeats all candidates that went before, so that the last one is enough.
fn supersedes(info: &SendInfo, earlier: &SendInfo) -> bool {
    let is_trickle = |info: &SendInfo| info.package.eq_ignore_ascii_case(TRICKLE_ICE);
    is_trickle(info) && is_trickle(earlier)
}

impl Infos {
    fn line(&mut self, tag: &str) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.tag == tag)
    }

    fn line_of(&mut self, tx: TxId) -> Option<&mut Line> {
        let is_its = |line: &&mut Line| line.outstanding.as_ref().is_some_and(|(other, _)| *other == tx);
        self.lines.iter_mut().find(is_its)
    }

    /// The CSeq of the last INFO in the dialog with `tag`; 0 without one.
    pub(super) fn last_sequence(&self, tag: &str) -> u32 {
        let here = self.lines.iter().map(|line| (&line.tag, line.sequence));
        let gone = self.gone.iter().map(|(tag, sequence)| (tag, *sequence));
        here.chain(gone)
            .filter(|(other, _)| *other == tag)
            .map(|(_, sequence)| sequence)
            .max()
            .unwrap_or_default()
    }

    /// The INVITE goes out again: the dialogs that its last try made are gone.
    pub(super) fn begin_anew(&mut self) {
        let gone = self.lines.drain(..).filter(|line| line.sequence > 0);
        self.gone.extend(gone.map(|line| (line.tag, line.sequence)));
        let excess = self.gone.len().saturating_sub(MAX_FORKS);
        self.gone.drain(..excess);
    }
}

impl Call {
    /// A message of the peer, in the dialog with `tag`, says what it can.
    pub(super) fn hear_abilities(&mut self, scope: &mut Scope, tag: &str, headers: &Headers) {
        if self.dialog(tag).is_none() {
            return;
        }
        let (fresh, open) = (
            self.infos.line(tag).is_none(),
            !matches!(self.phase, Phase::Inviting(_)),
        );
        if fresh {
            self.infos.lines.push(Line {
                tag: tag.to_owned(),
                open,
                trickle_ice: false,
                packages: None,
                refused: Vec::new(),
                outstanding: None,
                waiting: VecDeque::new(),
                sequence: 0,
            });
        }
        self.refresh.hear(headers);
        let Some(line) = self.infos.line(tag) else { return };
        let changed = line.hear(headers);
        let (option_tag, info) = line.supports();
        if scope.config.trickle_ice && (fresh || changed) {
            let dialog = DialogTag(tag.to_owned());
            self.tell(
                scope,
                DialogEventKind::PeerSupports {
                    dialog,
                    option_tag,
                    info,
                },
            );
        }
    }

    /// The peer has sent something within the dialog: it knows of it (RFC 8840 section 4.3).
    pub(super) fn dialog_is_known(&mut self, scope: &mut Scope, tag: &str) {
        let Some(line) = self.infos.line(tag) else { return };
        if !std::mem::replace(&mut line.open, true) {
            self.progress_is_heard(scope);
            self.next_info(scope, tag);
        }
    }

    /// The caller trickles, and has not shown yet that it has our 18x.
    pub(super) fn progress_is_owed(&mut self, scope: &Scope) -> bool {
        let tag = self.caller_tag.clone();
        scope.config.trickle_ice
            && self
                .infos
                .line(&tag)
                .is_some_and(|line| line.trickle_ice && !line.open)
    }

    pub(super) fn send_info(&mut self, scope: &mut Scope, info: SendInfo) -> Result<()> {
        const OPERATION: &str = "send INFO";
        if !is_token(&info.package) || !is_one_line(&info.content_type) || info.content_type.is_empty() {
            return Err(
                misuse(OPERATION, "the package is no token, or the content type no line")
                    .advice("give a name of IANA's Info Packages and a media type"),
            );
        }
        if self.is_ending() {
            return Err(misuse(OPERATION, format!("{} is ending", self.id)));
        }
        let tags: Vec<String> = self.infos.lines.iter().map(|line| line.tag.clone()).collect();
        let mut tags: Vec<String> = tags
            .into_iter()
            .filter(|tag| self.dialog(tag).is_some())
            .collect();
        tags.retain(|tag| self.infos.line(tag).is_some_and(|line| line.takes(&info.package)));
        if tags.is_empty() {
            let what = format!("no dialog of {} has a peer that takes {}", self.id, info.package);
            return Err(misuse(OPERATION, what).advice("wait for a PeerSupports that says so"));
        }
        if self
            .infos
            .lines
            .iter()
            .any(|line| tags.contains(&line.tag) && line.is_full_for(&info))
        {
            return Err(misuse(
                OPERATION,
                format!("{MAX_WAITING} INFOs of {} wait already", self.id),
            ));
        }
        for tag in tags {
            if let Some(line) = self.infos.line(&tag) {
                line.queue(info.clone());
            }
            self.next_info(scope, &tag);
        }
        Ok(())
    }

    /// Sends the first that waits, when it is its turn.
    pub(super) fn next_info(&mut self, scope: &mut Scope, tag: &str) {
        let may_go = |line: &&mut Line| line.open && line.outstanding.is_none();
        if self.is_ending() || self.dialog(tag).is_none() || self.awaits_prack(tag) {
            return;
        }
        let Some(info) = self
            .infos
            .line(tag)
            .filter(may_go)
            .and_then(|line| line.waiting.pop_front())
        else {
            return;
        };
        let Some(dialog) = self.dialog(tag) else { return };
        let (mut request, sequence) = dialog.request(Method::Info);
        request.headers.push("Info-Package", &info.package);
        request.headers.push("Content-Disposition", "Info-Package");
        let request = request.with_body(&info.content_type, info.body);
        let route = self.way(scope);
        let tx = self.send(
            scope,
            Departure::within(Purpose::Info, (request, sequence), route),
        );
        self.info_is_out(tag, tx, info.package, sequence);
    }

    fn info_is_out(&mut self, tag: &str, tx: TxId, package: String, sequence: u32) {
        if let Some(line) = self.infos.line(tag) {
            line.outstanding = Some((tx, package));
            line.sequence = sequence;
        }
    }

    /// A final answer to an INFO of ours.
    pub(super) fn info_answered(&mut self, scope: &mut Scope, tx: TxId, response: &SipResponse) {
        let Some(line) = self.infos.line_of(tx) else {
            return;
        };
        let (tag, package) = (
            line.tag.clone(),
            line.outstanding.take().map(|(_, package)| package),
        );
        if is_challenge(response)
            && !self.is_ending()
            && let Ok(again) = self.retry(scope, tx, response)
        {
            let sequence = self.client(again).map_or(0, |client| client.sequence);
            return self.info_is_out(&tag, again, package.unwrap_or_default(), sequence);
        }
        match response.is_success() {
            true => self.next_info(scope, &tag),
            false => self.info_refused(scope, &tag, package.unwrap_or_default(), response.status),
        }
    }

    /// An INFO of ours ended without an answer; the statuses are those of RFC 3261 section 8.1.3.1.
    pub(super) fn info_lost(&mut self, scope: &mut Scope, client: &Client, end: &TxEnd) {
        let Some(line) = self.infos.line_of(client.tx) else {
            return;
        };
        let (tag, package) = (
            line.tag.clone(),
            line.outstanding.take().map(|(_, package)| package),
        );
        let status = match end {
            TxEnd::Done => 500,
            TxEnd::TimedOut => 408,
            TxEnd::Transport(_) => 503,
        };
        self.info_refused(scope, &tag, package.unwrap_or_default(), status);
    }

    /// The call goes on: a middlebox that does not know INFO within early dialogs must not end a call that would work
    /// (RFC 3261 section 12.2.1.2 would end it after 408 and 481).
    fn info_refused(&mut self, scope: &mut Scope, tag: &str, package: String, status: u16) {
        let is_final = matches!(status, 405 | 408 | 415 | 469 | 481 | 501);
        if let Some(line) = self.infos.line(tag).filter(|_| is_final) {
            line.waiting
                .retain(|info| !info.package.eq_ignore_ascii_case(&package));
            line.refused.push(package.clone());
        }
        // A fork that lost concerns nobody.
        if self.dialog(tag).is_some() {
            let dialog = DialogTag(tag.to_owned());
            self.tell(
                scope,
                DialogEventKind::InfoRefused {
                    dialog,
                    package,
                    status,
                },
            );
            self.next_info(scope, tag);
        }
    }

    /// An INFO of the peer.
    pub(super) fn informed(&mut self, scope: &mut Scope, tx: TxId, request: &SipRequest, tag: &str) {
        let abilities = scope.abilities();
        let Some(package) = request.headers.value("Info-Package").map(package_of) else {
            return self.informed_of_digits(scope, tx, request);
        };
        if let Some(response) = info_objection(abilities, request, package) {
            return scope.respond(Some(self.id), tx, response);
        }
        let Ok(body) = std::str::from_utf8(&request.body) else {
            return scope.respond(Some(self.id), tx, request.response(400));
        };
        scope.respond(Some(self.id), tx, request.response(200));
        let kind = DialogEventKind::Info {
            dialog: DialogTag(tag.to_owned()),
            package: package.to_ascii_lowercase(),
            content_type: SDPFRAG.to_owned(),
            body: body.to_owned(),
        };
        self.tell(scope, kind);
    }
}

/// RFC 6086 section 4.2.2: 469 for a package that we do not take, 415 for a body that its package does not have.
fn info_objection(abilities: Abilities, request: &SipRequest, package: &str) -> Option<SipResponse> {
    if !abilities
        .packages()
        .iter()
        .any(|known| known.eq_ignore_ascii_case(package))
    {
        let mut response = request.response(469);
        response
            .headers
            .push("Recv-Info", abilities.packages().join(", "));
        return Some(response);
    }
    let encoding = request.headers.value("Content-Encoding");
    let plain = encoding.is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
    match plain && request.headers.content_type().as_deref() == Some(SDPFRAG) {
        true => None,
        false => Some(unsupported_body(request, SDPFRAG)),
    }
}

/// Without its parameters (RFC 6086 section 7.2).
fn package_of(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}
