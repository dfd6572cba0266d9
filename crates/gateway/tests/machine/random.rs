//! Whatever happens, in whatever order.

use crate::bench::{ended, error, incoming_of, target};
use proptest::prelude::*;
use siprtc_core::{CallId, Cause, Fault};
use siprtc_dialog_manager::{DialogEventKind as K, DialogTag, Side};
use siprtc_gateway::machine::{Call, Command, Epoch, Input, Output, Step, Told};
use siprtc_media_session::Fork;
use std::time::Duration;

/// What may happen; descriptions and epochs are filled in when it does.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Answer,
    AnswerEarly,
    Answered {
        tag: bool,
        sdp: bool,
    },
    CommandFailed(Command, bool),
    Confirmed {
        sdp: bool,
    },
    Dial,
    /// The fork that is being opened is there, or is not.
    Forked {
        ok: bool,
    },
    Ended {
        status: bool,
    },
    GiveUp,
    Hangup,
    Incoming {
        sdp: bool,
    },
    MediaClosed,
    MediaLost,
    PathBroken,
    OfferAnswered {
        sdp: bool,
    },
    OfferConfirmed {
        sdp: bool,
    },
    OfferRejected(u16),
    Offered {
        sdp: bool,
    },
    ProgressConfirmed {
        sdp: bool,
    },
    Refuse,
    Ringing {
        tag: bool,
        sdp: bool,
    },
    StepFails {
        stale: bool,
        ours: bool,
    },
    /// The step that runs succeeds.
    StepIsDone,
    /// Any result, of this epoch or the one before.
    StepSays {
        stale: bool,
        which: u8,
    },
    Wait,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let commands = prop::sample::select(vec![
        Command::Accept,
        Command::AcceptOffer,
        Command::HangUp,
        Command::Invite,
        Command::ReInvite,
        Command::Refuse,
        Command::RefuseOffer,
        Command::Ring,
    ]);
    prop_oneof![
        8 => Just(StepIsDone),
        4 => any::<(bool, bool)>().prop_map(|(tag, sdp)| Answered { tag, sdp }),
        3 => any::<(bool, bool)>().prop_map(|(tag, sdp)| Ringing { tag, sdp }),
        3 => any::<bool>().prop_map(|sdp| Offered { sdp }),
        2 => any::<bool>().prop_map(|sdp| Confirmed { sdp }),
        2 => any::<bool>().prop_map(|sdp| OfferConfirmed { sdp }),
        2 => any::<bool>().prop_map(|sdp| OfferAnswered { sdp }),
        2 => prop::sample::select(vec![487, 488, 491, 500]).prop_map(OfferRejected),
        2 => Just(Answer),
        2 => Just(AnswerEarly),
        2 => any::<bool>().prop_map(|sdp| ProgressConfirmed { sdp }),
        1 => (commands, any::<bool>()).prop_map(|(command, gone)| CommandFailed(command, gone)),
        1 => Just(Dial),
        3 => any::<bool>().prop_map(|ok| Forked { ok }),
        1 => any::<bool>().prop_map(|status| Ended { status }),
        1 => Just(GiveUp),
        1 => Just(Hangup),
        1 => any::<bool>().prop_map(|sdp| Incoming { sdp }),
        1 => Just(MediaClosed),
        1 => Just(MediaLost),
        2 => Just(PathBroken),
        1 => Just(Refuse),
        1 => any::<(bool, bool)>().prop_map(|(stale, ours)| StepFails { stale, ours }),
        1 => (any::<bool>(), 0..4u8).prop_map(|(stale, which)| StepSays { stale, which }),
        1 => Just(Wait),
    ]
}

/// What must hold whatever happens.
struct Witness {
    call: Call,
    now: std::time::Instant,
    made: u32,
    heard: u32,
    epochs: [Epoch; 2],
    running: Option<fn(String) -> Step>,
    opening: Option<Fork>,
    ended: u32,
    closed: u32,
    forgotten: bool,
}

impl Witness {
    fn new(forks: bool) -> Self {
        Witness {
            call: Call::new(CallId::fresh()).forking(forks, false, true),
            now: tokio::time::Instant::now().into_std(),
            made: 0,
            heard: 0,
            epochs: [Epoch::default(); 2],
            running: None,
            opening: None,
            ended: 0,
            closed: 0,
            forgotten: false,
        }
    }

    fn ours(&mut self) -> String {
        self.made += 1;
        format!("ours-{}", self.made)
    }

    fn theirs(&mut self, there: bool) -> Option<String> {
        self.heard += 1;
        there.then(|| format!("theirs-{}", self.heard))
    }

    fn input(&mut self, happening: Happening) -> Option<Input> {
        use Happening as H;
        let tag = |tag: bool| DialogTag(if tag { "a" } else { "b" }.into());
        let epoch = |stale: bool| self.epochs[usize::from(stale)];
        Some(match happening {
            H::Answer => Input::Answer,
            H::AnswerEarly => Input::AnswerEarly,
            H::Answered { tag: name, sdp } => Input::Dialog(K::Answered {
                dialog: tag(name),
                sdp: self.theirs(sdp),
            }),
            H::CommandFailed(command, gone) => Input::CommandFailed(
                command,
                error(if gone { Fault::Backend } else { Fault::ApiMisuse }),
            ),
            H::Confirmed { sdp } => Input::Dialog(K::Confirmed {
                sdp: self.theirs(sdp),
            }),
            H::Dial => Input::Dial { target: target() },
            H::Ended { status } => ended(Cause::Cancelled, Side::Remote, status.then_some(487)),
            H::Forked { ok } => {
                let opened = if ok {
                    Ok(())
                } else {
                    Err(error(Fault::Unsupported))
                };
                Input::Forked(self.opening.take()?, opened)
            }
            H::GiveUp => Input::GiveUp,
            H::Hangup => Input::Hangup,
            H::Incoming { sdp } => incoming_of(self.theirs(sdp).as_deref(), true),
            H::MediaClosed => Input::MediaClosed(None),
            H::PathBroken => Input::PathBroken,
            H::MediaLost => Input::MediaLost("lost".into()),
            H::OfferAnswered { sdp } => Input::Dialog(K::OfferAnswered {
                sdp: self.theirs(sdp),
            }),
            H::OfferConfirmed { sdp } => Input::Dialog(K::OfferConfirmed {
                sdp: self.theirs(sdp),
            }),
            H::OfferRejected(status) => Input::Dialog(K::OfferRejected { status }),
            H::Offered { sdp } => Input::Dialog(K::Offered {
                dialog: tag(sdp),
                sdp: self.theirs(sdp),
            }),
            H::ProgressConfirmed { sdp } => Input::Dialog(K::ProgressConfirmed {
                sdp: self.theirs(sdp),
                takes_offers: true,
            }),
            H::Refuse => Input::Refuse { status: 486 },
            H::Ringing { tag: name, sdp } => Input::Dialog(K::Ringing {
                dialog: tag(name),
                status: 183,
                sdp: self.theirs(sdp),
                takes_offers: sdp,
            }),
            H::StepFails { stale, ours } => {
                let fault = if ours {
                    Fault::Backend
                } else {
                    Fault::PeerIncompatible
                };
                Input::Step(epoch(stale), Err(error(fault)))
            }
            H::StepIsDone => {
                let (done, epoch) = (self.running?, epoch(false));
                Input::Step(epoch, Ok(done(self.ours())))
            }
            H::StepSays { stale, which } => {
                let (epoch, sdp) = (epoch(stale), self.ours());
                let step = [
                    Step::OfferMade,
                    Step::AnswerMade,
                    |_| Step::AnswerApplied,
                    |_| Step::ScreenPassed,
                ];
                Input::Step(epoch, Ok(step[usize::from(which)](sdp)))
            }
            H::Wait => {
                self.now += Duration::from_secs(7);
                self.call.handle_timeout(self.now);
                self.drain();
                return None;
            }
        })
    }

    fn live(&mut self, happening: Happening) {
        if let Some(input) = self.input(happening) {
            self.call.handle(self.now, input);
            self.drain();
        }
    }

    fn began(&mut self, epoch: Epoch, done: fn(String) -> Step) {
        self.epochs = [epoch, self.epochs[0]];
        self.running = Some(done);
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll() {
            assert!(!self.forgotten, "{output:?} after the call was forgotten");
            match output {
                Output::Accept(sdp)
                | Output::AcceptOffer(sdp)
                | Output::Progress(sdp)
                | Output::ReInvite { offer: sdp, .. } => is_ours(&sdp),
                Output::AcceptFork {
                    fork, offer, answer, ..
                } => {
                    is_ours(&offer);
                    is_theirs(&answer);
                    self.opening = Some(fork);
                }
                Output::ApplyAnswer { epoch, offer, answer }
                | Output::TakeFork {
                    epoch, offer, answer, ..
                } => {
                    is_ours(&offer);
                    is_theirs(&answer);
                    self.began(epoch, |_| Step::AnswerApplied);
                }
                Output::CloseMedia => self.closed += 1,
                Output::Forget => self.forgotten = true,
                Output::Invite { offer, .. } => is_ours(&offer),
                Output::MakeAnswer { epoch, offer } => {
                    is_theirs(&offer);
                    self.began(epoch, Step::AnswerMade);
                }
                Output::MakeOffer { epoch } => self.began(epoch, Step::OfferMade),
                Output::Screen { epoch, offer } => {
                    is_theirs(&offer);
                    self.began(epoch, |_| Step::ScreenPassed);
                }
                Output::Tell(Told::Ended(_)) => self.ended += 1,
                Output::Tell(_) => assert_eq!(self.ended, 0, "told after the end"),
                _ => {}
            }
            assert!(self.ended <= 1 && self.closed <= 1);
        }
    }
}

fn is_ours(sdp: &str) {
    assert!(sdp.starts_with("ours-"), "{sdp:?} goes out as ours");
}

fn is_theirs(sdp: &str) {
    assert!(sdp.starts_with("theirs-"), "{sdp:?} is set as the peer's");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_description_crosses_over_and_every_call_ends_once(
        begin in prop_oneof![Just(Happening::Dial), any::<bool>().prop_map(|sdp| Happening::Incoming { sdp })],
        forks in any::<bool>(),
        life in prop::collection::vec(happening(), 0..60),
    ) {
        let mut witness = Witness::new(forks);
        witness.live(begin);
        for happening in life {
            witness.live(happening);
        }
        // However it stands: it can be ended, with nobody's help.
        witness.live(Happening::Hangup);
        witness.live(Happening::Wait);
        witness.live(Happening::Wait);
        prop_assert!(witness.forgotten, "left in {:?}", witness.call.state());
        prop_assert_eq!((witness.ended, witness.closed), (1, 1));
        prop_assert_eq!(witness.call.poll_timeout(), None);
    }
}
