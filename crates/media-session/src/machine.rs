//! What a session may do when (RFC 9429 section 4.1.2's signalling states, seen from one peer).
//!
//! One operation runs at a time, others wait their turn; [`Request::Close`] overtakes those that wait. **After each
//! `handle`, call `poll` until it says `None`.** No I/O, no clock, no actix.

use siprtc_core::media::SdpKind;
use siprtc_core::{Error, Fault};
use std::collections::VecDeque;

/// How many requests may wait for the one that runs. More are refused.
pub(crate) const MAX_WAITING: usize = 16;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Request {
    AcceptAnswer(SdpKind),
    AcceptFork,
    AddCandidates,
    AnswerOffer,
    Begin,
    Close,
    /// A conference, a bridge or a recording: nothing of the negotiation's.
    Connect,
    CreateOffer,
    RestartIce,
    Rollback,
    SendDtmf,
    SetDirection,
    SetMedia,
    Snapshot,
    TakeFork,
}

/// Names a request from its arrival to its answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Ticket(pub(crate) u64);

/// What comes in.
#[derive(Debug)]
pub(crate) enum Input {
    Ask(Ticket, Request),
    /// The operation that ran is done; whether it succeeded.
    Done(bool),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    Refuse(Ticket, Error),
    Run(Ticket),
    /// The session is over.
    Stop,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Signalling {
    Closed,
    HaveLocalOffer,
    HaveRemotePranswer,
    New,
    Stable,
}

/// The decisions.
#[derive(Debug)]
pub(crate) struct Machine {
    signalling: Signalling,
    /// Whether a peer was ever negotiated with: a rollback of the first offer leads back to `New`.
    negotiated: bool,
    running: Option<Request>,
    waiting: VecDeque<(Ticket, Request)>,
    outputs: VecDeque<Output>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Machine {
            signalling: Signalling::New,
            negotiated: false,
            running: None,
            waiting: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        match input {
            Input::Ask(ticket, Request::Close) => self.close(ticket),
            Input::Ask(ticket, request) if self.waiting.len() >= MAX_WAITING => {
                let error = misuse(request, format!("{MAX_WAITING} requests wait already"));
                self.outputs.push_back(Output::Refuse(
                    ticket,
                    error.advice("wait for answers before asking more"),
                ));
            }
            Input::Ask(ticket, request) => self.waiting.push_back((ticket, request)),
            Input::Done(ok) => self.done(ok),
        }
        self.next();
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn close(&mut self, ticket: Ticket) {
        for (waiting, request) in std::mem::take(&mut self.waiting) {
            let error = misuse(request, "the session is closed".into());
            self.outputs.push_back(Output::Refuse(waiting, error));
        }
        self.waiting.push_back((ticket, Request::Close));
    }

    fn next(&mut self) {
        while self.running.is_none() {
            let Some((ticket, request)) = self.waiting.pop_front() else {
                return;
            };
            match self.check(request) {
                Ok(()) => {
                    self.running = Some(request);
                    self.outputs.push_back(Output::Run(ticket));
                }
                Err(error) => self.outputs.push_back(Output::Refuse(ticket, error)),
            }
        }
    }

    fn check(&self, request: Request) -> Result<(), Error> {
        use Signalling::*;
        let allowed = match request {
            Request::AcceptAnswer(SdpKind::Answer | SdpKind::Pranswer) => {
                matches!(self.signalling, HaveLocalOffer | HaveRemotePranswer)
            }
            Request::AcceptAnswer(SdpKind::Offer) => false,
            // Our first offer has several answers.
            Request::AcceptFork | Request::TakeFork => {
                matches!(self.signalling, HaveLocalOffer | HaveRemotePranswer | Stable)
            }
            Request::AnswerOffer | Request::CreateOffer => matches!(self.signalling, New | Stable),
            // An early answer may begin audio before the final one comes.
            Request::Begin | Request::SendDtmf => {
                matches!(self.signalling, HaveLocalOffer | HaveRemotePranswer | Stable)
            }
            Request::RestartIce => self.signalling == Stable,
            Request::Rollback => matches!(self.signalling, HaveLocalOffer | HaveRemotePranswer),
            Request::AddCandidates => !matches!(self.signalling, Closed | New),
            Request::Close
            | Request::Connect
            | Request::SetDirection
            | Request::SetMedia
            | Request::Snapshot => self.signalling != Closed,
        };
        if allowed {
            return Ok(());
        }
        let state = match self.signalling {
            Closed => "the session is closed",
            HaveLocalOffer => "our offer is not answered yet",
            HaveRemotePranswer => "our offer has only a provisional answer",
            New => "nothing was offered yet",
            Stable => "no offer is pending",
        };
        Err(misuse(request, state.into()))
    }

    fn done(&mut self, ok: bool) {
        use Signalling::*;
        match (self.running.take(), ok) {
            (Some(Request::Close), _) => {
                self.signalling = Closed;
                self.outputs.push_back(Output::Stop);
            }
            (Some(Request::CreateOffer), true) => self.signalling = HaveLocalOffer,
            (
                Some(Request::AnswerOffer | Request::AcceptAnswer(SdpKind::Answer) | Request::TakeFork),
                true,
            ) => {
                self.signalling = Stable;
                self.negotiated = true;
            }
            (Some(Request::AcceptAnswer(_)), true) => self.signalling = HaveRemotePranswer,
            (Some(Request::Rollback), true) => self.signalling = if self.negotiated { Stable } else { New },
            _ => {}
        }
    }
}

fn misuse(request: Request, what: String) -> Error {
    let operation = match request {
        Request::AcceptAnswer(_) => "accept answer",
        Request::AcceptFork => "accept a fork's answer",
        Request::AddCandidates => "add candidates",
        Request::AnswerOffer => "answer offer",
        Request::Begin => "begin audio",
        Request::Close => "close media session",
        Request::Connect => "connect media session",
        Request::CreateOffer => "create offer",
        Request::RestartIce => "restart ICE",
        Request::Rollback => "roll offer back",
        Request::SendDtmf => "send DTMF",
        Request::SetMedia => "set media",
        Request::SetDirection => "set direction",
        Request::Snapshot => "take a snapshot",
        Request::TakeFork => "take a fork",
    };
    Error::new(Fault::ApiMisuse, operation, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Bench {
        machine: Machine,
        tickets: u64,
    }

    impl Bench {
        fn new() -> Self {
            Bench {
                machine: Machine::new(),
                tickets: 0,
            }
        }

        /// Asks, and ends the operation if it ran: whether it was allowed.
        fn ask(&mut self, request: Request, ok: bool) -> bool {
            self.tickets += 1;
            self.machine.handle(Input::Ask(Ticket(self.tickets), request));
            match self.machine.poll() {
                Some(Output::Run(_)) => {
                    self.machine.handle(Input::Done(ok));
                    true
                }
                Some(Output::Refuse(_, error)) => {
                    assert_eq!(error.fault(), Fault::ApiMisuse);
                    false
                }
                other => panic!("{other:?}"),
            }
        }
    }

    const ANSWER: Request = Request::AcceptAnswer(SdpKind::Answer);
    const PRANSWER: Request = Request::AcceptAnswer(SdpKind::Pranswer);

    #[test]
    fn an_offer_waits_for_its_answer_before_another_is_made() {
        let mut bench = Bench::new();
        assert!(bench.ask(Request::CreateOffer, true));
        assert!(!bench.ask(Request::CreateOffer, true));
        assert!(!bench.ask(Request::AnswerOffer, true));
        assert!(bench.ask(PRANSWER, true));
        assert!(bench.ask(PRANSWER, true));
        assert!(bench.ask(ANSWER, true));
        assert!(!bench.ask(ANSWER, true));
        assert!(bench.ask(Request::CreateOffer, true));
    }

    #[test]
    fn an_offer_that_could_not_be_made_changes_nothing() {
        let mut bench = Bench::new();
        assert!(bench.ask(Request::CreateOffer, false));
        assert!(!bench.ask(ANSWER, true));
        assert!(bench.ask(Request::AnswerOffer, true));
    }

    #[test]
    fn a_rollback_leads_back_to_what_was_before_the_offer() {
        let mut bench = Bench::new();
        bench.ask(Request::CreateOffer, true);
        assert!(bench.ask(Request::Rollback, true));
        assert!(!bench.ask(Request::Begin, true));
        bench.ask(Request::AnswerOffer, true);
        bench.ask(Request::CreateOffer, true);
        assert!(bench.ask(Request::Rollback, true));
        assert!(bench.ask(Request::Begin, true));
        assert!(!bench.ask(Request::Rollback, true));
    }

    #[test]
    fn close_overtakes_what_waits_but_not_what_runs() {
        let mut machine = Machine::new();
        machine.handle(Input::Ask(Ticket(1), Request::CreateOffer));
        machine.handle(Input::Ask(Ticket(2), Request::Begin));
        machine.handle(Input::Ask(Ticket(3), Request::Close));
        assert!(matches!(machine.poll(), Some(Output::Run(Ticket(1)))));
        assert!(matches!(machine.poll(), Some(Output::Refuse(Ticket(2), _))));
        assert!(machine.poll().is_none());
        machine.handle(Input::Done(true));
        assert!(matches!(machine.poll(), Some(Output::Run(Ticket(3)))));
        machine.handle(Input::Done(true));
        assert!(matches!(machine.poll(), Some(Output::Stop)));
    }

    #[test]
    fn more_requests_than_may_wait_are_refused() {
        let mut machine = Machine::new();
        for ticket in 0..=MAX_WAITING as u64 + 1 {
            machine.handle(Input::Ask(Ticket(ticket), Request::Snapshot));
        }
        assert!(matches!(machine.poll(), Some(Output::Run(Ticket(0)))));
        assert!(
            matches!(machine.poll(), Some(Output::Refuse(Ticket(ticket), _)) if ticket == MAX_WAITING as u64 + 1)
        );
    }

    fn any_request() -> impl Strategy<Value = Request> {
        proptest::sample::select(vec![
            ANSWER,
            PRANSWER,
            Request::AcceptAnswer(SdpKind::Offer),
            Request::AcceptFork,
            Request::AddCandidates,
            Request::AnswerOffer,
            Request::Begin,
            Request::Close,
            Request::CreateOffer,
            Request::RestartIce,
            Request::Rollback,
            Request::SendDtmf,
            Request::SetDirection,
            Request::Snapshot,
            Request::TakeFork,
        ])
    }

    proptest! {
        #[test]
        fn every_request_is_answered_exactly_once(
            steps in proptest::collection::vec((any_request(), any::<bool>(), any::<bool>()), 0..60),
        ) {
            let mut machine = Machine::new();
            let mut answered = std::collections::HashMap::new();
            let (mut running, mut asked) = (None, 0u64);
            let mut drain = |machine: &mut Machine, running: &mut Option<Ticket>| {
                while let Some(output) = machine.poll() {
                    match output {
                        Output::Run(ticket) => assert!(running.replace(ticket).is_none()),
                        Output::Refuse(ticket, _) => *answered.entry(ticket).or_insert(0) += 1,
                        Output::Stop => {}
                    }
                }
            };
            for (request, finish, ok) in steps {
                machine.handle(Input::Ask(Ticket(asked), request));
                asked += 1;
                drain(&mut machine, &mut running);
                if finish && running.take().is_some() {
                    asked += 0;
                    machine.handle(Input::Done(ok));
                    drain(&mut machine, &mut running);
                }
            }
            let mut rounds = 0;
            while running.take().is_some() {
                machine.handle(Input::Done(true));
                drain(&mut machine, &mut running);
                rounds += 1;
                prop_assert!(rounds <= asked);
            }
            prop_assert!(machine.waiting.is_empty());
            prop_assert!(answered.values().all(|&count| count == 1));
        }
    }
}
