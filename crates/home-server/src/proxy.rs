//! Response contexts: forking, the choice of the best answer, CANCEL and timer C (RFC 3261 sections 16.6 to 16.10).

use crate::context::{BranchState, Cancelling, Context};
use crate::identity::Identity;
use crate::machine::Output;
use crate::refusal::answer;
use siprtc_core::sip::{Headers, Route, SipRequest, SipResponse, TxEnd, TxId, TxIds, TxOwner};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Timer C (RFC 3261 section 16.6 step 11: more than 3 minutes): how long a branch may ring without a word.
pub(crate) const TIMER_C: Duration = Duration::from_secs(181);
/// How long a cancelled branch that never answered anything is waited for: no CANCEL may be sent to it yet (RFC 3261
/// section 9.1), and a dead contact must not keep the caller waiting for the whole of timer B.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// One copy of a request, and the way it goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) request: SipRequest,
    pub(crate) route: Route,
}

/// All forwarded requests.
#[derive(Debug)]
pub(crate) struct Proxy {
    ids: TxIds,
    max_contexts: usize,
    /// 64 * T1: timers B, F and H, and the wait for the end of a cancelled branch.
    span: Duration,
    /// By server transaction. Boxed, for a table keeps the size of the largest burst when it is empty.
    contexts: HashMap<TxId, Box<Context>>,
    /// Client transaction to server transaction.
    branches: HashMap<TxId, TxId>,
    /// Deadlines of client transactions (timer C, cancelled branches) and, by their server transaction, of answered
    /// contexts.
    timers: BTreeSet<(Instant, TxId)>,
}

impl Proxy {
    pub(crate) fn new(max_contexts: usize, t1: Duration) -> Self {
        Proxy {
            ids: TxIds::new(TxOwner::user(1)),
            max_contexts,
            span: t1 * 64,
            contexts: HashMap::new(),
            branches: HashMap::new(),
            timers: BTreeSet::new(),
        }
    }

    /// Whether one more request can be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.contexts.len() < self.max_contexts
    }

    /// Forwarded requests that are remembered, answered ones until their branches have ended.
    pub(crate) fn len(&self) -> usize {
        self.contexts.len()
    }

    /// Forwards a request to every target at once.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        server: TxId,
        request: SipRequest,
        targets: Vec<Target>,
        out: &mut VecDeque<Output>,
    ) {
        let mut context = Context::new(request);
        for Target { request, route } in targets {
            let tx = self.ids.mint();
            // An INVITE's stack ends it by timer B or by an answer; timer C is for the time between. For the others
            // it only guards against a lost event.
            let deadline = now + TIMER_C;
            context.add(tx, deadline);
            self.branches.insert(tx, server);
            self.timers.insert((deadline, tx));
            out.push_back(Output::Request { tx, request, route });
        }
        self.contexts.insert(server, Box::new(context));
    }

    /// A response on a branch (RFC 3261 section 16.7).
    pub(crate) fn response(
        &mut self,
        now: Instant,
        tx: TxId,
        response: SipResponse,
        identity: &Identity,
        out: &mut VecDeque<Output>,
    ) {
        let Some(server) = self.branches.get(&tx).copied() else {
            return;
        };
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        // Step 3: ours goes; the others are the request's own, by which a copy of a 2xx finds its way.
        let vias = response.headers.vias().unwrap_or_default();
        let Some(others) = vias.get(1..).filter(|others| !others.is_empty()) else {
            return;
        };
        let mut response = response;
        response.headers.remove("Via");
        for via in others.iter().rev() {
            response.headers.push_front("Via", via);
        }
        match response.status {
            ..200 => self.provisional(now, server, tx, response, out),
            200..300 => self.success(now, server, tx, response, out),
            _ => {
                let everywhere = response.status >= 600;
                context.finish(tx, response);
                self.unschedule(tx);
                if everywhere {
                    // Step 5: a 6xx speaks for every contact; the choice still waits, for a 2xx may cross.
                    self.cancel_pending(now, server, None, out);
                }
                self.answer_if_complete(now, server, identity, out);
            }
        }
    }

    /// A client transaction is over, or never began; or the server transaction is.
    pub(crate) fn ended(
        &mut self,
        now: Instant,
        tx: TxId,
        end: TxEnd,
        identity: &Identity,
        out: &mut VecDeque<Output>,
    ) {
        if tx.owner() == TxOwner::STACK {
            return self.server_ended(now, tx, out);
        }
        let Some(server) = self.branches.get(&tx).copied() else {
            return;
        };
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        if context.is_pending(tx) {
            // RFC 3261 sections 16.8 and 16.9: no answer is a 408, no transport a 503.
            let status = if end == TxEnd::TimedOut { 408 } else { 503 };
            let response = answer(&context.request, status, identity);
            context.finish(tx, response);
        }
        context.end(tx);
        self.unschedule(tx);
        self.answer_if_complete(now, server, identity, out);
        self.forget_if_over(server);
    }

    /// The caller cancelled (RFC 3261 section 16.10): so are the branches, and their answers make the caller's 487.
    pub(crate) fn cancelled(
        &mut self,
        now: Instant,
        server: TxId,
        identity: &Identity,
        out: &mut VecDeque<Output>,
    ) {
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        context.cancelled = true;
        self.cancel_pending(now, server, None, out);
        self.answer_if_complete(now, server, identity, out);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Fires what is due.
    pub(crate) fn timeout(&mut self, now: Instant, identity: &Identity, out: &mut VecDeque<Output>) {
        while let Some((at, tx)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.remove(&(at, tx));
            match self.branches.get(&tx).copied() {
                Some(server) => self.branch_timeout(now, server, tx, identity, out),
                None => self.linger_over(tx),
            }
        }
    }

    fn provisional(
        &mut self,
        now: Instant,
        server: TxId,
        tx: TxId,
        response: SipResponse,
        out: &mut VecDeque<Output>,
    ) {
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        let Some(branch) = context.branch(tx) else { return };
        if branch.state == BranchState::Calling {
            branch.state = BranchState::Proceeding;
        }
        match &branch.cancelling {
            Cancelling::Wanted(extra) => {
                let extra = extra.clone();
                branch.cancelling = Cancelling::Sent;
                out.push_back(Output::Cancel { invite: tx, extra });
                self.schedule(tx, now + self.span);
            }
            Cancelling::Sent => {}
            // RFC 3261 section 16.7 step 2: a 101 to 199 starts timer C again.
            Cancelling::No if response.status > 100 && branch.is_pending() => {
                self.schedule(tx, now + TIMER_C)
            }
            Cancelling::No => {}
        }
        let Some(context) = self.contexts.get(&server) else {
            return;
        };
        // Step 5: a 100 is for this hop only.
        if response.status > 100 && !context.is_answered() {
            out.push_back(Output::Respond { tx: server, response });
        }
    }

    fn success(
        &mut self,
        now: Instant,
        server: TxId,
        tx: TxId,
        response: SipResponse,
        out: &mut VecDeque<Output>,
    ) {
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        context.settle(tx);
        // Step 5: at once, and for an INVITE every one of them, for each is a dialog of its own. Nothing can follow a
        // non-2xx on the same server transaction.
        let first = !context.is_answered();
        if first || (context.is_invite() && context.succeeded) {
            context.succeeded = true;
            out.push_back(Output::Respond { tx: server, response });
        }
        self.unschedule(tx);
        if first {
            self.answered(now, server);
            self.cancel_pending(now, server, Some(200), out);
        }
    }

    /// RFC 3261 section 16.7 step 6: when every branch has its final answer, the best of them goes to the caller.
    fn answer_if_complete(
        &mut self,
        now: Instant,
        server: TxId,
        identity: &Identity,
        out: &mut VecDeque<Output>,
    ) {
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        if context.is_answered() || context.has_pending() {
            return;
        }
        let best = context
            .best()
            .unwrap_or_else(|| answer(&context.request, 408, identity));
        // A 503 is about one contact and not about this server: sent on, it would make the caller's client stop
        // sending here (RFC 3261 section 16.7 step 6).
        let best = match best.status {
            503 => answer(&context.request, 500, identity),
            _ => best,
        };
        let best = match context.cancelled && best.status < 600 {
            true => answer(&context.request, 487, identity),
            false => best,
        };
        // RFC 4320 section 4.2: a 408 to anything but an INVITE comes too late to be of use and must not be sent; the
        // stack ends that transaction by itself.
        if context.is_invite() || best.status != 408 {
            out.push_back(Output::Respond {
                tx: server,
                response: best,
            });
        }
        self.answered(now, server);
    }

    /// The caller has a final answer. The context stays for late 2xx and for the end of cancelled branches.
    fn answered(&mut self, now: Instant, server: TxId) {
        // Twice: a branch cancelled now is waited for once, and its 2xx would be repeated for as long again.
        let until = now + self.span * 2;
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        context.answered_until = Some(until);
        self.timers.insert((until, server));
        self.forget_if_over(server);
    }

    fn cancel_pending(
        &mut self,
        now: Instant,
        server: TxId,
        elsewhere: Option<u16>,
        out: &mut VecDeque<Output>,
    ) {
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        if !context.is_invite() {
            return;
        }
        let extra = reason(elsewhere);
        let mut deadlines = Vec::new();
        for branch in context
            .branches
            .iter_mut()
            .filter(|b| b.is_pending() && b.cancelling == Cancelling::No)
        {
            match branch.state {
                BranchState::Proceeding => {
                    branch.cancelling = Cancelling::Sent;
                    out.push_back(Output::Cancel {
                        invite: branch.tx,
                        extra: extra.clone(),
                    });
                    deadlines.push((branch.tx, now + self.span));
                }
                // RFC 3261 section 9.1: not before a provisional answer.
                _ => {
                    branch.cancelling = Cancelling::Wanted(extra.clone());
                    deadlines.push((branch.tx, now + CANCEL_GRACE));
                }
            }
        }
        for (tx, deadline) in deadlines {
            self.schedule(tx, deadline);
        }
    }

    fn branch_timeout(
        &mut self,
        now: Instant,
        server: TxId,
        tx: TxId,
        identity: &Identity,
        out: &mut VecDeque<Output>,
    ) {
        let span = self.span;
        let Some(context) = self.contexts.get_mut(&server) else {
            return;
        };
        let invite = context.is_invite();
        let Some(branch) = context.branch(tx).filter(|branch| branch.is_pending()) else {
            return;
        };
        let status = match (&branch.cancelling, branch.state) {
            // RFC 3261 section 16.8: timer C cancels what rings, and its 487 or its silence ends the branch.
            (Cancelling::No, BranchState::Proceeding) if invite => {
                branch.cancelling = Cancelling::Sent;
                out.push_back(Output::Cancel {
                    invite: tx,
                    extra: Headers::new(),
                });
                return self.schedule(tx, now + span);
            }
            (Cancelling::No, _) => 408,
            // RFC 3261 section 9.1: cancelled, whether the branch says so or not.
            _ => 487,
        };
        let response = answer(&context.request, status, identity);
        context.finish(tx, response);
        self.answer_if_complete(now, server, identity, out);
    }

    /// The stack gave the caller's transaction up: nobody waits for an answer any more.
    fn server_ended(&mut self, now: Instant, server: TxId, out: &mut VecDeque<Output>) {
        let Some(context) = self.contexts.get(&server) else {
            return;
        };
        if !context.is_answered() {
            self.cancel_pending(now, server, None, out);
            self.answered(now, server);
        }
    }

    fn linger_over(&mut self, server: TxId) {
        let Some(context) = self.contexts.remove(&server) else {
            return;
        };
        for branch in context.branches {
            self.branches.remove(&branch.tx);
            if let Some(at) = branch.deadline {
                self.timers.remove(&(at, branch.tx));
            }
        }
    }

    fn forget_if_over(&mut self, server: TxId) {
        let Some(context) = self.contexts.get(&server) else {
            return;
        };
        let Some(until) = context.answered_until else {
            return;
        };
        if context.branches.iter().all(|branch| branch.ended) {
            self.timers.remove(&(until, server));
            self.linger_over(server);
        }
    }

    fn schedule(&mut self, tx: TxId, at: Instant) {
        self.unschedule(tx);
        if let Some(branch) = self.branch(tx) {
            branch.deadline = Some(at);
            self.timers.insert((at, tx));
        }
    }

    fn unschedule(&mut self, tx: TxId) {
        if let Some(at) = self.branch(tx).and_then(|branch| branch.deadline.take()) {
            self.timers.remove(&(at, tx));
        }
    }

    fn branch(&mut self, tx: TxId) -> Option<&mut crate::context::Branch> {
        let server = self.branches.get(&tx)?;
        self.contexts.get_mut(server)?.branch(tx)
    }
}

/// Tells the phones that stop ringing that the call was taken elsewhere, so that they do not call it missed (RFC 3326).
fn reason(elsewhere: Option<u16>) -> Headers {
    let mut extra = Headers::new();
    if let Some(status) = elsewhere {
        extra.push(
            "Reason",
            format!("SIP;cause={status};text=\"Call completed elsewhere\""),
        );
    }
    extra
}
