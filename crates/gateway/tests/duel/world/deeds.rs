//! What calls, dialogs and transactions want done.

use super::super::media::{Peer, Words, failure};
use super::{Event, Life, Side, Wire, Work, World};
use rand::Rng;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Error};
use siprtc_dialog_manager::machine::{Input as DialogInput, Output as DialogOutput};
use siprtc_dialog_manager::{self as dialog, DialogEventKind};
use siprtc_gateway::machine::{Call, Command, Epoch, Input, Output, Step, Told};
use siprtc_sip_transactions::Output as StackOutput;
use std::time::Duration;

impl<O: std::fmt::Debug> World<O> {
    pub(super) fn stack_says(&mut self, side: Side, output: StackOutput<Wire>) {
        let event = match output {
            StackOutput::Send { bytes, .. } => return self.carry(bytes),
            StackOutput::Ack { request, .. } => StackEvent::Ack {
                request,
                flow: flow(),
            },
            StackOutput::Cancelled { invite } => StackEvent::Cancelled { invite },
            StackOutput::Ended { tx, end } => StackEvent::TxEnded { tx, end },
            StackOutput::Request { tx, request, .. } => StackEvent::Request {
                tx,
                request,
                flow: flow(),
            },
            StackOutput::Response { tx, response, .. } => StackEvent::Response {
                tx,
                response,
                flow: None,
            },
        };
        self.dialog(side, DialogInput::Stack(event))
            .expect("the stack cannot be wrong");
    }

    fn via(&mut self, side: Side) -> String {
        self.branches += 1;
        format!(
            "SIP/2.0/UDP {}.example.com;branch=z9hG4bK{}",
            side.name(),
            self.branches
        )
    }

    pub(super) fn dialogs_say(&mut self, side: Side, output: DialogOutput) {
        let now = self.now;
        match output {
            DialogOutput::Cancel { tx, headers, .. } => {
                drop(self.party(side).stack.cancel(tx, now, &headers))
            }
            DialogOutput::Event(event) => self.dialog_event(side, event.call, event.kind),
            DialogOutput::Respond { tx, response, .. } => {
                let failed = self.party(side).stack.respond(now, tx, response).err();
                self.send_failed(side, tx, failed);
            }
            DialogOutput::SendAck { mut request, .. } => {
                request.headers.push_front("Via", self.via(side));
                self.carry(request.to_bytes());
            }
            DialogOutput::SendRequest { tx, mut request, .. } => {
                request.headers.push_front("Via", self.via(side));
                let failed = self.party(side).stack.send_request(now, tx, request, Wire).err();
                self.send_failed(side, tx, failed);
            }
        }
    }

    fn send_failed(&mut self, side: Side, tx: TxId, error: Option<Error>) {
        if let Some(error) = error {
            self.dialog(side, DialogInput::SendFailed { tx, error })
                .expect("only a command can fail");
        }
    }

    fn dialog_event(&mut self, side: Side, id: CallId, kind: DialogEventKind) {
        if let DialogEventKind::Incoming { replaces, .. } = kind {
            let life = Box::new(Life {
                replaces,
                ..self.life_of(Call::new(id))
            });
            self.party(side).calls.insert(id, life);
        }
        self.say(|| format!("{side:?} {id} hears {}", word(&kind)));
        let now = self.now;
        let party = self.party(side);
        if let Some(life) = party.calls.get_mut(&id) {
            life.call.handle(now, Input::Dialog(kind));
            party.busy.push_back(id);
        }
    }

    fn obey(&mut self, side: Side, id: CallId, command: Command, input: DialogInput) {
        if let Err(error) = self.dialog(side, input) {
            self.say(|| format!("{side:?} {id} {command:?} refused: {error}"));
            let now = self.now;
            let party = self.party(side);
            if let Some(life) = party.calls.get_mut(&id) {
                life.call.handle(now, Input::CommandFailed(command, error));
                party.busy.push_back(id);
            }
        }
    }

    pub(super) fn perform(&mut self, side: Side, call: CallId, output: Output) {
        use Command as C;
        use DialogInput as D;
        match output {
            Output::Accept(sdp) => self.obey(side, call, C::Accept, D::Accept(dialog::Accept { call, sdp })),
            Output::AcceptOffer(sdp) => {
                self.obey(
                    side,
                    call,
                    C::AcceptOffer,
                    D::AcceptOffer(dialog::AcceptOffer { call, sdp }),
                );
            }
            Output::AddCandidates { .. } | Output::SendCandidates(_) => panic!("nobody trickles here"),
            Output::AcceptFork { fork, answer, .. } => self.begin_fork(side, call, fork, answer),
            Output::TakeFork {
                epoch, fork, answer, ..
            } => self.begin(side, call, epoch, Work::Take(fork, answer)),
            Output::ApplyAnswer { epoch, answer, .. } => self.begin(side, call, epoch, Work::Apply(answer)),
            Output::CloseMedia => {
                self.peer(side, call, |peer| *peer = None);
                self.close_forks(side, call);
                let wait = self.time_of_step();
                self.at(self.now + wait, Event::Closed(side, call));
            }
            Output::Forget => drop(self.party(side).calls.remove(&call)),
            Output::HangUp { reason } => {
                self.obey(side, call, C::HangUp, D::Hangup(dialog::Hangup { call, reason }));
            }
            Output::Invite { target, offer } => {
                let headers = self.life(side, call).map(|life| life.headers.clone());
                let invite = dialog::Invite {
                    call,
                    target,
                    offer,
                    headers: headers.unwrap_or_default(),
                };
                self.obey(side, call, C::Invite, D::Invite(invite));
            }
            Output::MakeAnswer { epoch, offer } => self.begin(side, call, epoch, Work::Answer(offer)),
            Output::MakeOffer { epoch } => self.begin(side, call, epoch, Work::Offer),
            Output::ReInvite { offer, early } => {
                self.obey(
                    side,
                    call,
                    C::ReInvite,
                    D::Reinvite(dialog::Reinvite { call, offer, early }),
                );
            }
            Output::Refuse(status) => {
                self.obey(side, call, C::Refuse, D::Reject(dialog::Reject { call, status }));
            }
            Output::RefuseOffer(status) => {
                self.obey(
                    side,
                    call,
                    C::RefuseOffer,
                    D::RejectOffer(dialog::RejectOffer { call, status }),
                );
            }
            Output::ReplaceMedia | Output::UseClassic { .. } => self.replace_media(side, call),
            Output::ReportReferral(status) => self.report(side, call, status),
            Output::RestartIce => self.peer(side, call, |peer| in_use(peer).restart_ice()),
            Output::Progress(sdp) => self.ring(side, call, Some(sdp)),
            Output::Ring => self.ring(side, call, None),
            Output::Screen { epoch, .. } => self.begin(side, call, epoch, Work::Screen),
            Output::SetMedia(terms) => self.peer(side, call, |peer| in_use(peer).held = terms.held),
            Output::TakeReferral(referral) => {
                self.report(side, call, 100);
                self.dial_for(side, referral.target, Call::new, Some(call), referral.headers);
            }
            Output::Tell(told) => self.hear(side, call, told),
            Output::UndoOffer => self.peer(side, call, |peer| in_use(peer).roll_back()),
        }
    }

    fn ring(&mut self, side: Side, call: CallId, answer: Option<String>) {
        let ring = DialogInput::Ring(dialog::Ring { call, answer });
        self.obey(side, call, Command::Ring, ring);
    }

    fn close_forks(&mut self, side: Side, call: CallId) {
        if let Some(life) = self.party(side).calls.get_mut(&call) {
            life.forks.clear();
        }
    }

    /// Only before the two have agreed: an association that stands is kept (RFC 8842 section 5.5).
    fn replace_media(&mut self, side: Side, call: CallId) {
        self.close_forks(side, call);
        let held = self.peer(side, call, |peer| in_use(peer).held);
        let new = self.new_peer(held);
        self.peer(side, call, |peer| *peer = Some(new));
    }

    fn report(&mut self, side: Side, call: CallId, status: u16) {
        let report = dialog::ReportReferral { call, status };
        self.obey(
            side,
            call,
            Command::ReportReferral,
            DialogInput::ReportReferral(report),
        );
    }

    fn hear(&mut self, side: Side, id: CallId, told: Told) {
        let reports_to = self.life(side, id).and_then(|life| life.reports_to);
        let status = match &told {
            Told::Accepted => Some(200),
            Told::Ended(ending) if !ending.established => Some(ending.status.unwrap_or(503)),
            Told::Progress { status, .. } => Some(*status),
            _ => None,
        };
        if let (Some(asked), Some(status)) = (reports_to, status) {
            self.report(side, asked, status);
        }
        self.take_place(side, id, &told);
        self.say(|| format!("{side:?} {id} is told {told:?}"));
        self.told.push_back((side, id, told));
    }

    /// An INVITE that takes the place of a call is answered as that one was, and hangs it up (RFC 3891).
    fn take_place(&mut self, side: Side, id: CallId, told: &Told) {
        let Some(replaced) = self.life(side, id).and_then(|life| life.replaces) else {
            return;
        };
        let (now, party) = (self.now, self.party(side));
        let is_there = party.calls.contains_key(&replaced);
        let (whom, input) = match told {
            Told::Incoming { .. } if is_there => (id, Input::Answer),
            Told::Incoming { .. } => (id, Input::Refuse { status: 603 }),
            Told::Accepted => (replaced, Input::Replaced),
            _ => return,
        };
        if let Some(life) = party.calls.get_mut(&whom) {
            life.call.handle(now, input);
            party.busy.push_back(whom);
        }
    }

    fn peer<T>(&mut self, side: Side, id: CallId, act: impl FnOnce(&mut Option<Peer>) -> T) -> T {
        act(&mut self
            .party(side)
            .calls
            .get_mut(&id)
            .expect("a call that is polled")
            .media)
    }

    pub(super) fn time_of_step(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(1..=self.weather.step))
    }

    fn begin(&mut self, side: Side, id: CallId, epoch: Epoch, work: Work) {
        let number = self.peer(side, id, |peer| in_use(peer).number);
        let wait = self.time_of_step();
        self.at(self.now + wait, Event::Stepped(side, id, number, epoch, work));
    }

    pub(super) fn stepped(&mut self, side: Side, id: CallId, number: u32, epoch: Epoch, work: Work) {
        let fails = self.random.random_bool(self.weather.failures);
        let theirs = self.random.random_bool(0.5);
        self.descriptions += 1;
        let next = self.descriptions;
        let Some(life) = self.party(side).calls.get_mut(&id) else {
            return;
        };
        let is_awaited = life.call.awaits(epoch);
        let Some(peer) = life.media.as_mut().filter(|peer| peer.number == number) else {
            return;
        };
        let done = match work {
            _ if fails => Err(failure(theirs)),
            // A fork was taken meanwhile: this was set before it, or is for a media peer that is closed.
            Work::Apply(_) if !is_awaited && peer.has_answer() => return,
            Work::Answer(offer) => Ok(Step::AnswerMade(
                peer.make_answer(next, Words::read(&offer)).sdp(),
            )),
            Work::Apply(answer) => {
                peer.apply_answer(Words::read(&answer));
                Ok(Step::AnswerApplied)
            }
            Work::Offer => Ok(Step::OfferMade(peer.make_offer(next).sdp())),
            Work::Screen => Ok(Step::ScreenPassed),
            Work::Take(fork, answer) => {
                self.take_fork(side, id, fork, &answer);
                Ok(Step::AnswerApplied)
            }
        };
        self.tell(side, id, Input::Step(epoch, done));
    }
}

fn in_use(peer: &mut Option<Peer>) -> &mut Peer {
    peer.as_mut()
        .expect("nothing is asked of a media peer that is closed")
}

fn word(kind: &DialogEventKind) -> String {
    let text = format!("{kind:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn flow() -> Flow {
    let addr = "192.0.2.1:5060".parse().unwrap();
    Flow {
        id: FlowId(1),
        transport: Transport::Udp,
        local: addr,
        remote: addr,
    }
}
