//! Server transactions (RFC 3261 section 17.2, RFC 6026 section 7.1, RFC 4320).

use crate::Transactions;
use crate::config::{Output, Path, RETRY_AFTER};
use crate::finished::Accepted;
use crate::key::Key;
use crate::live::{Live, Role, Serving};
use crate::timers::{NEVER, Time};
use crate::{misuse, words};
use bytes::Bytes;
use siprtc_core::sip::{Headers, Method, SipRequest, SipResponse, TxEnd, TxId};
use siprtc_core::{Error, Result};

const RESPOND: &str = "respond";

impl<P: Path> Transactions<P> {
    pub(crate) fn serve(&mut self, now: Time, path: P, request: SipRequest) {
        let method = match &request.method {
            Method::Ack | Method::Cancel => &Method::Invite,
            method => method,
        };
        let key = request
            .headers
            .top_via()
            .and_then(|via| self.keys.server(&request.headers, &via, method));
        let Ok(key) = key else {
            self.strays += 1;
            return;
        };
        match request.method {
            Method::Ack => self.serve_ack(now, &key, path, request),
            Method::Cancel => self.serve_cancel(&key, path, &request),
            _ if self.absorb(&key, &path) => (),
            _ if self.is_full() => self.answer_alone(path, &request.headers, 503, Some(RETRY_AFTER)),
            _ => self.begin_server(now, key, path, request),
        }
    }

    /// Deals with a copy of a request that is known; says whether it was one.
    fn absorb(&mut self, key: &Key, path: &P) -> bool {
        let (tx, again) = if let Some(tx) = self.live.by_key(key) {
            (Some(tx), self.live.get(tx).map(|live| live.bytes.clone()))
        } else if let Some(answer) = self.finished.answered.find(key) {
            (None, Some(Bytes::copy_from_slice(answer)))
        } else {
            // RFC 6026 section 7.1: a 2xx to an INVITE is its user's to repeat.
            let known =
                self.finished.accepted.find(key).is_some() || self.finished.confirmed.find(key).is_some();
            return known;
        };
        if let Some(bytes) = again.filter(|bytes| !bytes.is_empty()) {
            let path = path.clone();
            self.outputs.push_back(Output::Send { path, bytes, tx });
        }
        true
    }

    fn begin_server(&mut self, now: Time, key: Key, path: P, request: SipRequest) {
        let invite = request.method == Method::Invite;
        let tx = self.ids.mint();
        let role = Role::Served(Box::new(Serving {
            invite,
            identity: words::identity(&request.headers),
            cancelled: false,
        }));
        // A final answer after timer F is of no use to anybody (RFC 4320).
        let (patience, trying) = match invite {
            true => (self.timers.proceeding, self.timers.trying),
            false => (self.timers.t1_64, self.timers.late),
        };
        let mut live = Live::new(key, path.clone(), role, now.saturating_add(patience));
        live.wake = now.saturating_add(trying);
        self.live.insert(tx, live);
        self.outputs.push_back(Output::Request { tx, request, path });
    }

    fn serve_ack(&mut self, now: Time, key: &Key, path: P, request: SipRequest) {
        if let Some(tx) = self.live.by_key(key) {
            if self
                .live
                .get(tx)
                .is_some_and(|live| matches!(live.role, Role::Unacknowledged))
                && let Some(live) = self.live.remove(tx)
            {
                self.end(tx, TxEnd::Done);
                if !live.path.is_reliable() {
                    self.make_room();
                    self.finished.confirmed.push(now, live.key, ());
                }
            }
            return;
        }
        let of_stateless = || {
            request
                .headers
                .to()
                .is_ok_and(|to| to.tag() == Some(&self.stateless_tag))
        };
        if self.finished.confirmed.find(key).is_none() && !of_stateless() {
            self.outputs.push_back(Output::Ack { request, path });
        }
    }

    /// RFC 3261 section 9.2. A copy of a CANCEL gets the same answer again, and nobody's user hears of it.
    fn serve_cancel(&mut self, invite: &Key, path: P, request: &SipRequest) {
        let mut fresh = None;
        let known = if let Some(tx) = self.live.by_key(invite) {
            if let Some(Role::Served(serving)) = self.live.get_mut(tx).map(|live| &mut live.role)
                && !serving.cancelled
            {
                serving.cancelled = true;
                fresh = Some(tx);
            }
            true
        } else {
            self.finished.accepted.find(invite).is_some() || self.finished.confirmed.find(invite).is_some()
        };
        self.answer_alone(path, &request.headers, if known { 200 } else { 481 }, None);
        if let Some(invite) = fresh {
            self.outputs.push_back(Output::Cancelled { invite });
        }
    }

    pub(crate) fn answer(&mut self, now: Time, tx: TxId, response: SipResponse) -> Result<()> {
        let status = response.status;
        if !(100..700).contains(&status) {
            return Err(misuse(RESPOND, format!("{status} is no status")).advice("use 100 to 699"));
        }
        let Some(live) = self.live.get(tx) else {
            return self.answer_again(tx, response);
        };
        match &live.role {
            Role::Served(serving) => {
                let (invite, response) = (serving.invite, words::complete(&serving.identity, response));
                match (status, invite) {
                    (..200, true) => self.answer_provisional(tx, &response),
                    (100, false) => self.answer_trying(tx, &response),
                    (..200, false) => {
                        let message = format!("a {status} answers only an INVITE");
                        return Err(misuse(RESPOND, message).advice("see RFC 4320 section 4.1"));
                    }
                    (200..300, true) => self.accept(now, tx, &response),
                    (_, true) => self.refuse_invite(now, tx, &response),
                    (_, false) => self.answer_final(now, tx, &response),
                }
                Ok(())
            }
            Role::Unacknowledged => Err(answered(tx)),
            _ => Err(unknown(tx)),
        }
    }

    fn answer_provisional(&mut self, tx: TxId, response: &SipResponse) {
        if let Some(live) = self.live.get_mut(tx) {
            let bytes = response.to_bytes();
            (live.wake, live.bytes) = (NEVER, bytes.clone());
            self.outputs.push_back(live.send(tx, bytes));
        }
    }

    /// RFC 4320 section 4.1: not over an unreliable transport before its time, when it is sent anyway.
    fn answer_trying(&mut self, tx: TxId, response: &SipResponse) {
        if self.live.get(tx).is_some_and(|live| live.path.is_reliable()) {
            self.answer_provisional(tx, response);
        }
    }

    /// RFC 6026: state Accepted. The request is forgotten.
    fn accept(&mut self, now: Time, tx: TxId, response: &SipResponse) {
        if let Some(live) = self.live.remove(tx) {
            self.outputs.push_back(live.send(tx, response.to_bytes()));
            let path = live.path;
            self.make_room();
            self.finished.accepted.push(now, live.key, Accepted { tx, path });
        }
    }

    /// Timers G and H.
    fn refuse_invite(&mut self, now: Time, tx: TxId, response: &SipResponse) {
        let room = self.make_room();
        let bytes = response.to_bytes();
        self.live.await_ack(tx);
        let Some(live) = self.live.get_mut(tx) else {
            return;
        };
        self.outputs.push_back(live.send(tx, bytes.clone()));
        live.stop_repeating();
        live.repeat(now, self.timers.t1, bytes.clone());
        live.bytes = bytes;
        live.expires = now.saturating_add(self.timers.t1_64);
        self.live.set_alarm(tx);
        if !room {
            self.give_up(tx, TxEnd::Done);
        }
    }

    fn answer_final(&mut self, now: Time, tx: TxId, response: &SipResponse) {
        let Some(live) = self.live.remove(tx) else {
            return;
        };
        // RFC 4320 section 4.2: a 408 comes too late to be of use. Whoever asks again gets nothing again.
        let late = response.status == 408;
        let bytes = if late { Bytes::new() } else { response.to_bytes() };
        if !live.path.is_reliable() {
            self.make_room();
            self.finished.answered.push(now, live.key, bytes.as_ref().into());
        }
        if !late {
            self.outputs.push_back(live.send(tx, bytes));
        }
        self.end(tx, if late { TxEnd::TimedOut } else { TxEnd::Done });
    }

    /// A 2xx that is given again (RFC 3261 section 13.3.1.4), or by another fork.
    fn answer_again(&mut self, tx: TxId, response: SipResponse) -> Result<()> {
        // The request is forgotten: the answer's own Via tells whose it is.
        let via = response
            .headers
            .top_via()
            .map_err(|_| unknown(tx).advice("a 2xx that is given again is given whole, with its Via"))?;
        let key = self.keys.server(&response.headers, &via, &Method::Invite);
        let key = key.map_err(|_| unknown(tx))?;
        let accepted = self
            .finished
            .accepted
            .find(&key)
            .filter(|accepted| accepted.tx == tx);
        let accepted = accepted.ok_or_else(|| unknown(tx))?;
        if !response.is_success() {
            return Err(answered(tx));
        }
        if !words::is_complete(&response) {
            let message = format!("the 2xx that is given again for {tx} is not whole");
            return Err(misuse(RESPOND, message).advice("give it again as it was given first"));
        }
        self.outputs.push_back(Output::Send {
            path: accepted.path.clone(),
            bytes: response.to_bytes(),
            tx: Some(tx),
        });
        Ok(())
    }

    /// An answer in no transaction.
    pub(crate) fn answer_alone(
        &mut self,
        path: P,
        identity: &Headers,
        status: u16,
        retry_after: Option<u32>,
    ) {
        let response = words::stateless(identity, status, retry_after, &self.stateless_tag);
        self.outputs.push_back(Output::Send {
            path,
            bytes: response.to_bytes(),
            tx: None,
        });
    }

    pub(crate) fn server_timeout(&mut self, now: Time, tx: TxId) {
        let timers = self.timers;
        let Some(live) = self.live.get_mut(tx) else {
            return;
        };
        if live.expires <= now {
            return self.give_up(tx, TxEnd::TimedOut);
        }
        let bytes = match &live.role {
            Role::Served(serving) => {
                let bytes = words::trying(&serving.identity).to_bytes();
                (live.wake, live.bytes) = (NEVER, bytes.clone());
                bytes
            }
            // Timer G.
            _ => {
                let (bytes, interval) = (live.bytes.clone(), timers.doubled(live.interval));
                live.repeat(now, interval, bytes.clone());
                bytes
            }
        };
        let copy = live.send(tx, bytes);
        self.live.set_alarm(tx);
        self.outputs.push_back(copy);
    }
}

fn unknown(tx: TxId) -> Error {
    misuse(
        RESPOND,
        format!("there is no server transaction {tx} that can still be answered"),
    )
    .advice("it has ended, has had its final answer, or never was")
}

fn answered(tx: TxId) -> Error {
    misuse(RESPOND, format!("{tx} has had its final answer")).advice("answer once")
}
