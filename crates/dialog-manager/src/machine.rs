//! Decides: dialogs and the users of their transactions, without I/O, clock or randomness of its own.
//!
//! **The drain rule: after every [`Machine::handle`], call [`Machine::poll`] until it returns `None` and do what it
//! says in that order; then ask [`Machine::poll_timeout`] when to give the next [`Input::Timeout`].** Outputs of one
//! call must be done in their order; outputs of different calls may overtake each other.
//!
//! What the SIP stack does already (RFC 3261 section 17: retransmission of requests, ACK of a non-2xx, answer to a
//! CANCEL) is not repeated here; what it leaves to the user of a transaction is here: 2xx and their ACK, CANCEL's
//! waiting for a provisional answer, glare, forks, digest credentials, and the timers that go with them.

mod asking;
mod auth;
mod call;
mod client;
mod dialog;
mod dialog_info;
mod end;
mod errand;
mod info;
mod ledger;
mod notify;
mod offers;
mod outside;
mod prack;
mod recover;
mod referral;
mod refresh;
mod reinvite;
pub(crate) mod replaces;
mod requests;
mod session;
mod standing;
mod subscribe;
mod timers;
mod transfer;
mod uac;
mod uas;
mod way;
mod words;

use crate::config::DialogConfig;
use crate::event::{DialogEvent, DialogName};
use crate::message::{
    Accept, AcceptOffer, Attach, Deliver, Hangup, Invite, MeasureInvite, Notify, Reach, Redirect, Refer,
    ReferTo, Reinvite, Reject, RejectOffer, ReportReferral, Ring, SendInfo, SendMessage, SendRefer,
    Subscribe, Unsubscribe,
};
use call::Call;
use ledger::Ledger;
use notify::Notifier;
use outside::Outside;
use recover::InHand;
use siprtc_core::sip::{
    Headers, Route, SipRequest, SipResponse, SipUri, StackEvent, TxEnd, TxId, TxIds, TxOwner,
};
use siprtc_core::{CallId, Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};
use subscribe::Subscriptions;
use timers::{Timer, Timers};
use way::Flows;
use words::misuse;

/// Most ended calls that are kept because the peer or the stack still owes something. Beyond it the oldest is
/// forgotten: a late 2xx of its is then never acknowledged.
const MAX_LINGERING: usize = 256;

/// Randomness from outside, so that a test can repeat what happened.
pub trait Entropy: Send {
    /// 64 random bits: unpredictable ones outside of tests, for they become tags and Call-IDs.
    fn next_u64(&mut self) -> u64;
}

impl<F: FnMut() -> u64 + Send> Entropy for F {
    fn next_u64(&mut self) -> u64 {
        self()
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// See [`Accept`].
    Accept(Accept),
    /// See [`AcceptOffer`].
    AcceptOffer(AcceptOffer),
    /// An ACK could not be sent: the stack's [`send_ack`](siprtc_core::sip::SipStack::send_ack) failed.
    AckFailed {
        /// Whose.
        call: CallId,
        /// The stack's words.
        error: Error,
    },
    /// See [`Attach`].
    Attach(Attach),
    /// See [`Deliver`].
    Deliver(Deliver),
    /// See [`Hangup`].
    Hangup(Hangup),
    /// See [`Invite`].
    Invite(Invite),
    /// See [`Notify`].
    Notify(Notify),
    /// See [`Reach`].
    Reach(Reach),
    /// See [`Redirect`].
    Redirect(Redirect),
    /// See [`Refer`].
    Refer(Refer),
    /// See [`Reinvite`].
    Reinvite(Reinvite),
    /// See [`Reject`].
    Reject(Reject),
    /// See [`RejectOffer`].
    RejectOffer(RejectOffer),
    /// See [`ReportReferral`].
    ReportReferral(ReportReferral),
    /// See [`Ring`].
    Ring(Ring),
    /// A request or response could not be handed to the stack; nothing more will be heard of the transaction.
    SendFailed {
        /// Of which transaction.
        tx: TxId,
        /// The stack's words.
        error: Error,
    },
    /// See [`SendInfo`].
    SendInfo(SendInfo),
    /// See [`SendMessage`].
    SendMessage(SendMessage),
    /// See [`SendRefer`].
    SendRefer(SendRefer),
    /// From the stack.
    Stack(StackEvent),
    /// See [`Subscribe`].
    Subscribe(Subscribe),
    /// See [`Terminate`](crate::Terminate).
    Terminate,
    /// The time of [`Machine::poll_timeout`] has come.
    Timeout,
    /// See [`Unsubscribe`].
    Unsubscribe(Unsubscribe),
}

/// What to do. `call` names the queue: see the drain rule.
#[derive(Clone, Debug)]
pub enum Output {
    /// Cancel the INVITE.
    Cancel {
        /// Whose.
        call: CallId,
        /// The INVITE's transaction.
        tx: TxId,
        /// A Reason, if there is one.
        headers: Headers,
    },
    /// Tell the user.
    Event(DialogEvent),
    /// Answer a server transaction.
    Respond {
        /// Whose, when it belongs to a call.
        call: Option<CallId>,
        /// The server transaction.
        tx: TxId,
        /// The answer.
        response: SipResponse,
    },
    /// Acknowledge a 2xx.
    SendAck {
        /// Whose.
        call: CallId,
        /// The ACK.
        request: SipRequest,
        /// Where to.
        route: Route,
    },
    /// Begin a client transaction.
    SendRequest {
        /// Whose.
        call: CallId,
        /// The new transaction.
        tx: TxId,
        /// The request.
        request: SipRequest,
        /// Where to.
        route: Route,
    },
}

impl Output {
    /// The call it belongs to; `None` for the answer to a request that is part of no call.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Output::Cancel { call, .. } | Output::SendAck { call, .. } | Output::SendRequest { call, .. } => {
                Some(*call)
            }
            Output::Event(event) => Some(event.call),
            Output::Respond { call, .. } => *call,
        }
    }
}

/// All calls of one account. See the [module](self) for the drain rule.
pub struct Machine {
    scope: Scope,
    /// Boxed: a tree moves its values about, and these are large.
    calls: BTreeMap<CallId, Box<Call>>,
    outside: Outside,
    subscriptions: Subscriptions,
    notifier: Notifier,
    /// By Call-ID and our tag: where requests within dialogs belong.
    dialogs: HashMap<(String, String), CallId>,
    /// By Call-ID and the caller's tag: merged requests (RFC 3261 section 8.2.2.2).
    invitations: HashMap<(String, String), CallId>,
    terminating: bool,
}

impl Machine {
    /// No calls yet. Client transactions are minted for `owner`.
    pub fn new(config: DialogConfig, owner: TxOwner, entropy: Box<dyn Entropy>, now: Instant) -> Self {
        Machine {
            scope: Scope {
                now,
                config,
                flows: Flows::default(),
                entropy,
                tx_ids: TxIds::new(owner),
                timers: Timers::default(),
                outputs: VecDeque::new(),
                in_hand: InHand::default(),
                owners: Ledger::default(),
                ended: BTreeSet::new(),
            },
            calls: BTreeMap::new(),
            outside: Outside::default(),
            subscriptions: Subscriptions::default(),
            notifier: Notifier::default(),
            dialogs: HashMap::new(),
            invitations: HashMap::new(),
            terminating: false,
        }
    }

    /// Takes what happened at `now`. An error is the answer to a command that cannot be obeyed, with
    /// [`Fault::ApiMisuse`](siprtc_core::Fault::ApiMisuse); nothing has changed then. Other inputs never fail.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<()> {
        self.scope.now = self.scope.now.max(now);
        let done = self.take(input);
        self.tell_of_calls();
        self.scope.in_hand = InHand::default();
        done
    }

    fn take(&mut self, input: Input) -> Result<()> {
        match input {
            Input::Accept(m) => self.command("accept", m.call, |call, scope| call.accept(scope, m.sdp)),
            Input::AcceptOffer(m) => self.command("accept offer", m.call, |call, scope| {
                call.accept_offer(scope, m.sdp)
            }),
            Input::AckFailed { call, error } => self.ack_failed(call, &error),
            Input::Attach(m) => self.command("attach", m.call, |call, _| call.attach(m.to, m.headers)),
            Input::Deliver(m) => self.command("deliver", m.call, |call, scope| call.deliver(scope, m)),
            Input::Hangup(m) => self.command("hang up", m.call, |call, scope| call.hangup(scope, m.reason)),
            Input::Invite(m) => self.invite(m),
            Input::Notify(m) => self.notify(m),
            Input::Reach(m) => self.reach(m),
            Input::Redirect(m) => self.command("redirect", m.call, |call, scope| {
                call.redirect(scope, &m.contacts)
            }),
            Input::Refer(m) => self.refer(m),
            Input::Reinvite(m) => self.command("re-INVITE", m.call, |call, scope| {
                call.reinvite(scope, m.offer, m.early)
            }),
            Input::Reject(m) => self.command("reject", m.call, |call, scope| call.reject(scope, m.status)),
            Input::RejectOffer(m) => self.command("reject offer", m.call, |call, scope| {
                call.reject_offer(scope, m.status)
            }),
            Input::ReportReferral(m) => self.report_referral(m),
            Input::Ring(m) => self.command("ring", m.call, |call, scope| call.ring(scope, m.answer)),
            Input::SendFailed { tx, error } => {
                self.transaction_ended(tx, TxEnd::Transport(words::told(&error)))
            }
            Input::SendInfo(m) => self.command("send INFO", m.call, |call, scope| call.send_info(scope, m)),
            Input::SendMessage(m) => self.send_message(m),
            Input::SendRefer(m) => self.send_refer(m),
            Input::Stack(event) => self.stack(event),
            Input::Subscribe(m) => self.subscribe(m),
            Input::Terminate => self.terminate(),
            Input::Timeout => self.timeout(),
            Input::Unsubscribe(m) => self.unsubscribe(m.subscription),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.scope.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.scope.timers.next()
    }

    /// Calls that have not ended.
    pub fn calls(&self) -> impl Iterator<Item = CallId> + '_ {
        self.calls
            .values()
            .filter(|call| !call.has_ended())
            .map(|call| call.id)
    }

    /// A call's SIP Call-ID, for logs.
    pub fn sip_call_id(&self, call: CallId) -> Option<&str> {
        self.calls.get(&call).map(|call| call.sip_call_id.as_str())
    }

    /// See [`NameDialog`](crate::NameDialog).
    pub fn dialog_name(&self, call: CallId) -> Option<DialogName> {
        self.calls.get(&call)?.dialog_name()
    }

    /// See [`MeasureInvite`].
    pub fn measure_invite(&self, message: &MeasureInvite) -> Option<usize> {
        uac::room_for_description(&self.scope, message)
    }

    fn command(
        &mut self,
        operation: &'static str,
        id: CallId,
        act: impl FnOnce(&mut Call, &mut Scope) -> Result<()>,
    ) -> Result<()> {
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.has_ended()) else {
            return Err(misuse(operation, format!("{id} is unknown or has ended"))
                .advice("give commands to a call between Started or Incoming and Ended"));
        };
        self.scope.in_hand.call = Some(id);
        let done = act(call, &mut self.scope);
        self.reap(id);
        done
    }

    /// Lets a call act if it is still there, ended or not.
    fn with(&mut self, id: CallId, act: impl FnOnce(&mut Call, &mut Scope)) {
        if let Some(call) = self.calls.get_mut(&id) {
            self.scope.in_hand.call = Some(id);
            act(call, &mut self.scope);
            self.reap(id);
        }
    }

    fn invite(&mut self, message: Invite) -> Result<()> {
        const OPERATION: &str = "invite";
        // One that was refused may be tried again under its id. What it still lingered for was another fork's late 2xx.
        if self.calls.get(&message.call).is_some_and(|call| call.has_ended()) {
            self.forget(message.call);
        }
        if self.calls.contains_key(&message.call) {
            return Err(misuse(OPERATION, format!("{} exists already", message.call))
                .advice("take a fresh CallId for every call"));
        }
        if self.terminating {
            return Err(misuse(OPERATION, "the dialog manager is terminating"));
        }
        if self.is_full() {
            return Err(misuse(
                OPERATION,
                format!("{} calls are alive", self.scope.config.max_calls),
            )
            .advice("hang one up or raise max_calls"));
        }
        let call = Call::start(&mut self.scope, message)?;
        self.insert(call);
        Ok(())
    }

    fn refer(&mut self, message: Refer) -> Result<()> {
        const OPERATION: &str = "transfer";
        let to = self.refer_to(OPERATION, message.to, Some(message.call))?;
        self.command(OPERATION, message.call, |call, scope| call.refer(scope, &to))
    }

    /// Whom a REFER names; not the peer of `this` call.
    fn refer_to(&self, operation: &'static str, to: ReferTo, this: Option<CallId>) -> Result<SipUri> {
        let other = match to {
            ReferTo::Uri(uri) => return Ok(uri),
            ReferTo::Call(other) => other,
        };
        let known = self.calls.get(&other).filter(|_| Some(other) != this);
        known.and_then(|call| call.replaceable()).ok_or_else(|| {
            misuse(
                operation,
                format!("{other} has no confirmed dialog that a peer could replace"),
            )
            .advice("name another call of this endpoint, after its Confirmed")
        })
    }

    fn reach(&mut self, message: Reach) -> Result<()> {
        self.scope.config.account.contact = message.contact;
        self.scope.flows = Flows::new(message.flows);
        let alive: Vec<_> = self.calls().collect();
        for id in alive {
            self.with(id, Call::flows_changed);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.calls.len().saturating_sub(self.scope.ended.len()) >= self.scope.config.max_calls
    }

    fn insert(&mut self, call: Call) {
        if self.calls.len() >= self.scope.config.max_calls.saturating_add(MAX_LINGERING) {
            let oldest = self.scope.ended.first().copied();
            oldest.into_iter().for_each(|id| self.forget(id));
        }
        self.dialogs
            .insert((call.sip_call_id.clone(), call.local_tag.clone()), call.id);
        self.calls.insert(call.id, Box::new(call));
    }

    fn reap(&mut self, id: CallId) {
        if self.calls.get(&id).is_some_and(|call| call.is_over()) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: CallId) {
        self.scope.owners.forget(id);
        self.scope.timers.cancel_all(id);
        self.scope.ended.remove(&id);
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        let invitation = (call.sip_call_id.clone(), call.caller_tag);
        if self.invitations.get(&invitation) == Some(&id) {
            self.invitations.remove(&invitation);
        }
        self.dialogs.remove(&(call.sip_call_id, call.local_tag));
    }

    fn ack_failed(&mut self, id: CallId, error: &Error) -> Result<()> {
        let told = words::told(error);
        self.with(id, |call, scope| call.connection_lost(scope, &told));
        Ok(())
    }

    fn stack(&mut self, event: StackEvent) -> Result<()> {
        match event {
            StackEvent::Ack { request, .. } => self.acknowledged(&request),
            StackEvent::Cancelled { invite } => {
                if let Some(id) = self.scope.owners.owner(invite) {
                    self.with(id, |call, scope| call.cancelled(scope, invite));
                }
            }
            StackEvent::Request { tx, request, flow } => {
                self.scope.in_hand.takes(tx, &request);
                self.requested(tx, request, flow.remote.ip());
                if let Some(id) = self.scope.owners.owner(tx) {
                    self.with(id, |call, _| call.heard_over(&flow));
                }
            }
            StackEvent::Response { tx, response, flow } => {
                if let Some(id) = self.scope.owners.owner(tx) {
                    self.answered_outside(id, tx, &response);
                    self.subscribe_answered(id, tx, &response);
                    self.watcher_answered(id, tx, &response);
                    self.with(id, |call, scope| {
                        flow.iter().for_each(|flow| call.heard_over(flow));
                        call.answered(scope, tx, &response);
                    });
                }
            }
            StackEvent::TxEnded { tx, end } => return self.transaction_ended(tx, end),
            // A dialog outlives its flow: the next request opens another one.
            StackEvent::FlowDown { id, .. } => {
                self.scope.flows.forget(id);
                self.calls.values_mut().for_each(|call| call.flow_down(id));
            }
            _ => {}
        }
        Ok(())
    }

    fn transaction_ended(&mut self, tx: TxId, end: TxEnd) -> Result<()> {
        if let Some(id) = self.scope.owners.remove(tx) {
            self.lost_outside(id, tx, &end);
            self.subscribe_lost(id, tx, &end);
            self.watcher_lost(id, tx);
            self.with(id, |call, scope| call.transaction_ended(scope, tx, end));
        }
        Ok(())
    }

    fn terminate(&mut self) -> Result<()> {
        self.terminating = true;
        self.unsubscribe_all();
        self.end_watchers();
        let alive: Vec<_> = self.calls().collect();
        for id in alive {
            self.with(id, Call::terminate);
        }
        Ok(())
    }

    fn timeout(&mut self) -> Result<()> {
        while let Some((id, timer)) = self.scope.timers.pop(self.scope.now) {
            if self.watcher_timeout(id, timer) || self.subscription_timeout(id, timer) {
                continue;
            }
            if timer == Timer::Linger {
                self.forget(id);
            } else {
                self.with(id, |call, scope| call.timeout(scope, timer));
            }
        }
        Ok(())
    }
}

/// What a call needs of the machine around it.
struct Scope {
    now: Instant,
    config: DialogConfig,
    flows: Flows,
    entropy: Box<dyn Entropy>,
    tx_ids: TxIds,
    timers: Timers,
    /// Emptied after every input, see the drain rule.
    outputs: VecDeque<Output>,
    in_hand: InHand,
    /// The calls' transactions, of both kinds; gone with the transaction or with the call.
    owners: Ledger,
    /// Calls that have ended and are still kept.
    ended: BTreeSet<CallId>,
}

impl Scope {
    fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn respond(&mut self, call: Option<CallId>, tx: TxId, response: SipResponse) {
        self.push(Output::Respond { call, tx, response });
    }

    fn set_timer(&mut self, call: CallId, timer: Timer, after: Duration) {
        // A configured duration may be absurd; a century is for ever.
        let at = self
            .now
            .checked_add(after)
            .unwrap_or(self.now + Duration::from_secs(3_000_000_000));
        self.timers.set(call, timer, at);
    }

    /// 64*T1: how long the RFC waits for what will not come.
    fn patience(&self) -> Duration {
        self.config.timers.t1 * 64
    }

    /// A tag or cnonce: 64 random bits (RFC 3261 section 19.3 asks for 32).
    fn token(&mut self) -> String {
        format!("{:016x}", self.entropy.next_u64())
    }

    /// A number from `range`.
    fn pick(&mut self, range: std::ops::RangeInclusive<u64>) -> u64 {
        let width = range.end() - range.start() + 1;
        range.start() + self.entropy.next_u64() % width
    }
}
