//! Client transactions (RFC 3261 section 17.1, RFC 6026 section 7.2).

use crate::Transactions;
use crate::config::{Output, Path};
use crate::finished::Acknowledged;
use crate::key::{Key, has_cookie};
use crate::live::{Inviting, Live, Role};
use crate::timers::Time;
use crate::{misuse, words};
use bytes::Bytes;
use siprtc_core::sip::{Headers, Method, SipRequest, SipResponse, TxEnd, TxId, Via};
use siprtc_core::{Error, Fault, Result};

impl<P: Path> Transactions<P> {
    pub(crate) fn begin_client(&mut self, now: Time, tx: TxId, request: SipRequest, path: P) -> Result<()> {
        const OPERATION: &str = "send request";
        if matches!(request.method, Method::Ack | Method::Cancel) {
            let message = format!("{} begins no transaction", request.method);
            return Err(misuse(OPERATION, message).advice("send an ACK by itself, and call cancel"));
        }
        let via = check(&request)?;
        let key = self.keys.client(&via, &request.method);
        if self.live.get(tx).is_some() {
            let message = format!("{tx} is in use");
            return Err(misuse(OPERATION, message).advice("mint an id for each request"));
        }
        if self.live.by_key(&key).is_some() {
            let message = format!("the branch of {via} is in use");
            return Err(misuse(OPERATION, message).advice("make a new branch for each request"));
        }
        if self.is_full() {
            let message = format!("{} transactions wait for an answer", self.active());
            return Err(Error::new(Fault::Backend, OPERATION, message)
                .advice("send fewer requests at once, or raise max_transactions"));
        }
        let bytes = request.to_bytes();
        let role = match request.method {
            Method::Invite => Role::Invite(Box::new(Inviting {
                request: words::essence(&request),
                proceeding: false,
                cancelled: false,
            })),
            _ => Role::Other { proceeding: false },
        };
        self.start(now, tx, key, role, path, bytes);
        Ok(())
    }

    /// RFC 3261 section 9.1.
    pub(crate) fn begin_cancel(&mut self, now: Time, invite: TxId, extra: &Headers) -> Result<()> {
        const OPERATION: &str = "cancel";
        let live = self.live.get_mut(invite);
        let Some((live, Role::Invite(inviting))) = live.map(|live| (live.path.clone(), &mut live.role))
        else {
            let message = format!("{invite} is no INVITE that waits for its final answer");
            return Err(misuse(OPERATION, message).advice("cancel only what has not ended"));
        };
        if inviting.cancelled {
            return Ok(());
        }
        if !inviting.proceeding {
            let message = format!("{invite} has had no provisional answer");
            return Err(misuse(OPERATION, message).advice("wait for one (RFC 3261 section 9.1)"));
        }
        let cancel = words::cancel(&inviting.request, extra)?;
        let via = cancel.headers.top_via()?;
        if !self.make_room() {
            return Err(Error::new(Fault::Backend, OPERATION, "too many transactions").advice("try again"));
        }
        if let Some(Role::Invite(inviting)) = self.live.get_mut(invite).map(|live| &mut live.role) {
            inviting.cancelled = true;
        }
        let give_up = now.saturating_add(self.timers.t1_64);
        if let Some(live) = self.live.get_mut(invite) {
            live.expires = give_up;
        }
        self.live.set_alarm(invite);
        let key = self.keys.client(&via, &Method::Cancel);
        let tx = self.ids.mint();
        self.start(
            now,
            tx,
            key,
            Role::Cancel { proceeding: false },
            live,
            cancel.to_bytes(),
        );
        Ok(())
    }

    /// Timers A and B, or E and F.
    fn start(&mut self, now: Time, tx: TxId, key: Key, role: Role, path: P, bytes: Bytes) {
        let mut live = Live::new(key, path, role, now.saturating_add(self.timers.t1_64));
        live.repeat(now, self.timers.t1, bytes.clone());
        self.outputs.push_back(live.send(tx, bytes));
        self.live.insert(tx, live);
    }

    pub(crate) fn hear(&mut self, now: Time, path: P, response: SipResponse) {
        let headers = &response.headers;
        let (Ok(via), Ok(cseq)) = (headers.top_via(), headers.cseq()) else {
            self.strays += 1;
            return;
        };
        let key = self.keys.client(&via, &cseq.method);
        match self.live.by_key(&key) {
            Some(tx) if response.is_provisional() => self.hear_provisional(now, tx, path, response),
            Some(tx) => self.hear_final(now, tx, path, response),
            None => self.hear_again(&key, path, response),
        }
    }

    fn hear_provisional(&mut self, now: Time, tx: TxId, path: P, response: SipResponse) {
        let patience = now.saturating_add(self.timers.proceeding);
        let Some(live) = self.live.get_mut(tx) else {
            return;
        };
        match &mut live.role {
            Role::Cancel { proceeding } => {
                *proceeding = true;
                return;
            }
            Role::Other { proceeding } => *proceeding = true,
            Role::Invite(inviting) if !inviting.proceeding => {
                inviting.proceeding = true;
                live.expires = patience;
                live.stop_repeating();
            }
            _ => (),
        }
        self.outputs.push_back(Output::Response { tx, response, path });
    }

    fn hear_final(&mut self, now: Time, tx: TxId, path: P, response: SipResponse) {
        let Some(live) = self.live.remove(tx) else {
            return;
        };
        let is_cancel = matches!(live.role, Role::Cancel { .. });
        let (key, reliable) = (live.key, live.path.is_reliable());
        match live.role {
            Role::Invite(_) if response.is_success() => {
                // RFC 6026 section 7.2: more may come, for timer M.
                self.make_room();
                self.finished.successful.push(now, key, tx);
                self.outputs.push_back(Output::Response { tx, response, path });
                return;
            }
            Role::Invite(inviting) => self.acknowledge(now, key, live.path, &inviting.request, &response),
            _ if reliable => (),
            _ => {
                self.make_room();
                self.finished.heard.push(now, key, ());
            }
        }
        if !is_cancel {
            self.outputs.push_back(Output::Response { tx, response, path });
            self.end(tx, TxEnd::Done);
        }
    }

    /// RFC 3261 section 17.1.1.3, and timer D.
    fn acknowledge(&mut self, now: Time, key: Key, path: P, invite: &SipRequest, response: &SipResponse) {
        let Ok(ack) = words::ack(invite, response) else {
            return;
        };
        let bytes = ack.to_bytes();
        if !path.is_reliable() {
            self.make_room();
            let (path, ack) = (path.clone(), bytes.as_ref().into());
            self.finished
                .acknowledged
                .push(now, key, Acknowledged { path, ack });
        }
        self.outputs.push_back(Output::Send {
            path,
            bytes,
            tx: None,
        });
    }

    /// An answer to a request that has had its final answer, or to none of ours.
    fn hear_again(&mut self, key: &Key, path: P, response: SipResponse) {
        if let Some(&tx) = self.finished.successful.find(key) {
            if response.is_success() {
                self.outputs.push_back(Output::Response { tx, response, path });
            }
        } else if let Some(done) = self.finished.acknowledged.find(key) {
            if response.is_final() && !response.is_success() {
                self.outputs.push_back(Output::Send {
                    path: done.path.clone(),
                    bytes: Bytes::copy_from_slice(&done.ack),
                    tx: None,
                });
            }
        } else if self.finished.heard.find(key).is_none() {
            self.strays += 1;
        }
    }

    pub(crate) fn client_timeout(&mut self, now: Time, tx: TxId) {
        let timers = self.timers;
        let Some(live) = self.live.get_mut(tx) else {
            return;
        };
        if live.expires <= now {
            return self.give_up(tx, TxEnd::TimedOut);
        }
        let interval = match live.role {
            // Timer A doubles without a bound.
            Role::Invite(_) => live.interval.saturating_mul(2),
            Role::Cancel { proceeding: true } | Role::Other { proceeding: true } => timers.t2,
            _ => timers.doubled(live.interval),
        };
        let bytes = live.bytes.clone();
        live.repeat(now, interval, bytes.clone());
        let copy = live.send(tx, bytes);
        self.live.set_alarm(tx);
        self.outputs.push_back(copy);
    }

    /// A transaction without a final answer is over.
    pub(crate) fn give_up(&mut self, tx: TxId, end: TxEnd) {
        if let Some(live) = self.live.remove(tx)
            && !matches!(live.role, Role::Cancel { .. })
        {
            self.end(tx, end);
        }
    }
}

/// What a request of ours needs for us to know its answers again, and to acknowledge and cancel it.
fn check(request: &SipRequest) -> Result<Via> {
    let incomplete = |error: Error| {
        misuse(
            "send request",
            "the request lacks what every request has (RFC 3261 section 8.1.1)",
        )
        .caused_by(error)
        .advice("set Via, From, To, Call-ID and CSeq")
    };
    let headers = &request.headers;
    headers.from().map_err(incomplete)?;
    headers.to().map_err(incomplete)?;
    headers.call_id().map_err(incomplete)?;
    let (via, cseq) = (
        headers.top_via().map_err(incomplete)?,
        headers.cseq().map_err(incomplete)?,
    );
    if cseq.method != request.method {
        let message = format!("CSeq says {}, the request {}", cseq.method, request.method);
        return Err(misuse("send request", message).advice("write the request's method into CSeq"));
    }
    if !via.branch().is_some_and(has_cookie) {
        let message = format!("the branch of {via} has no magic cookie");
        return Err(misuse("send request", message).advice("begin it with z9hG4bK"));
    }
    Ok(via)
}
