//! One forwarded request and its branches (RFC 3261 section 16.7: the response context).

use siprtc_core::sip::{Headers, Method, SipRequest, SipResponse, TxId};
use std::time::Instant;

/// How far a branch is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BranchState {
    /// Nothing has come back yet.
    Calling,
    /// It has its final answer.
    Completed,
    /// A provisional answer came.
    Proceeding,
}

/// Whether a branch is being cancelled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Cancelling {
    No,
    Sent,
    /// As soon as a provisional answer allows it, with these header fields.
    Wanted(Headers),
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) tx: TxId,
    pub(crate) state: BranchState,
    pub(crate) cancelling: Cancelling,
    pub(crate) deadline: Option<Instant>,
    /// The stack will not speak of it again.
    pub(crate) ended: bool,
    /// Its non-2xx final answer.
    answer: Option<SipResponse>,
}

impl Branch {
    pub(crate) fn is_pending(&self) -> bool {
        self.state != BranchState::Completed
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    /// As it came, without its body.
    pub(crate) request: SipRequest,
    pub(crate) branches: Vec<Branch>,
    /// The caller sent a CANCEL.
    pub(crate) cancelled: bool,
    /// A 2xx went to the caller.
    pub(crate) succeeded: bool,
    /// The caller has its final answer; the context is forgotten then at the latest.
    pub(crate) answered_until: Option<Instant>,
}

impl Context {
    pub(crate) fn new(mut request: SipRequest) -> Self {
        request.body = Default::default();
        Context {
            request,
            branches: Vec::new(),
            cancelled: false,
            succeeded: false,
            answered_until: None,
        }
    }

    pub(crate) fn add(&mut self, tx: TxId, deadline: Instant) {
        self.branches.push(Branch {
            tx,
            state: BranchState::Calling,
            cancelling: Cancelling::No,
            deadline: Some(deadline),
            ended: false,
            answer: None,
        });
    }

    pub(crate) fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answered_until.is_some() || self.succeeded
    }

    pub(crate) fn branch(&mut self, tx: TxId) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|branch| branch.tx == tx)
    }

    pub(crate) fn is_pending(&self, tx: TxId) -> bool {
        self.branches
            .iter()
            .any(|branch| branch.tx == tx && branch.is_pending())
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.branches.iter().any(Branch::is_pending)
    }

    /// Keeps a branch's non-2xx final answer; the first one counts.
    pub(crate) fn finish(&mut self, tx: TxId, answer: SipResponse) {
        if let Some(branch) = self.branch(tx).filter(|branch| branch.is_pending()) {
            branch.state = BranchState::Completed;
            branch.answer = Some(answer);
        }
    }

    /// A 2xx came on this branch.
    pub(crate) fn settle(&mut self, tx: TxId) {
        if let Some(branch) = self.branch(tx) {
            branch.state = BranchState::Completed;
            branch.answer = None;
        }
    }

    /// The stack has ended this branch.
    pub(crate) fn end(&mut self, tx: TxId) {
        if let Some(branch) = self.branch(tx) {
            branch.ended = true;
        }
    }

    /// The best of the non-2xx answers (RFC 3261 section 16.7 steps 6 and 7).
    pub(crate) fn best(&self) -> Option<SipResponse> {
        let answers = || self.branches.iter().filter_map(|branch| branch.answer.as_ref());
        let mut best = answers().min_by_key(|answer| rank(answer.status))?.clone();
        if matches!(best.status, 401 | 407) {
            // Step 7: the caller gets every challenge at once, and can satisfy them all in one new request.
            for name in ["WWW-Authenticate", "Proxy-Authenticate"] {
                best.headers.remove(name);
                for other in answers().filter(|other| matches!(other.status, 401 | 407)) {
                    best.headers.copy_from(&other.headers, name);
                }
            }
        }
        Some(best)
    }
}

/// Lower is better: 6xx, then by class; within the 4xx first what lets the caller try again (step 6 names 401, 407,
/// 415, 420 and 484), then what tells most, and a 408 last.
fn rank(status: u16) -> (u16, u8) {
    let class = if status >= 600 { 0 } else { status / 100 };
    let within = match status {
        401 | 407 => 0,
        415 | 420 | 484 => 1,
        486 => 2,
        480 => 4,
        404 => 5,
        487 => 6,
        408 => 7,
        // Within the 5xx as well: an answer of the callee before one that means no transport.
        503 => 8,
        _ => 3,
    };
    (class, within)
}
