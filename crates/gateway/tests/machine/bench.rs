//! A call with a test in the place of the other actors.
//!
//! Our descriptions are `ours-1`, `ours-2`...; what the peer says is `theirs-...`.

use siprtc_core::sip::{NameAddr, Uri};
use siprtc_core::{CallId, Cause, Error, Fault};
use siprtc_dialog_manager::{DialogEventKind as K, DialogTag, Head, Side};
use siprtc_gateway::Ending;
use siprtc_gateway::machine::{Call, Command, Epoch, Input, Output, Step, Told};
use siprtc_gateway::table::{Jsep, Sip};
use siprtc_media_session::Fork;
use siprtc_sdp_translator::SdpFrag;
use std::time::{Duration, Instant};

pub(crate) const NOBODY: [&str; 0] = [];

/// The ports of the candidates in an INFO, and whether they are all.
fn info(body: &str) -> String {
    let frag: SdpFrag = body.parse().expect("we write what we can read");
    let ports: Vec<&str> = frag
        .media()
        .iter()
        .flat_map(|media| media.candidates())
        .filter_map(|line| line.split(' ').nth(5))
        .collect();
    format!(
        "{}{}",
        ports.join(" "),
        if frag.is_complete() { " all" } else { "" }
    )
}

pub(crate) struct Bench {
    pub(crate) call: Call,
    now: Instant,
    made: u32,
    pub(crate) epoch: Epoch,
    pub(crate) ending: Option<Ending>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Bench {
            call: Call::new(CallId::fresh()),
            now: tokio::time::Instant::now().into_std(),
            made: 0,
            epoch: Epoch::default(),
            ending: None,
        }
    }

    /// Gives an input and returns what is to be done, in short.
    pub(crate) fn on(&mut self, input: Input) -> Vec<String> {
        self.call.handle(self.now, input);
        self.drain()
    }

    /// Whether the input means anything; nothing may come of one that does not.
    pub(crate) fn takes(&mut self, input: Input) -> bool {
        let taken = self.call.handle(self.now, input);
        assert!(taken || self.call.poll().is_none());
        taken
    }

    pub(crate) fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.call.handle_timeout(self.now);
        self.drain()
    }

    /// Waits as long as the call wants to.
    pub(crate) fn wait_on(&mut self) -> Vec<String> {
        let deadline = self.call.poll_timeout().expect("it waits for something");
        self.wait(deadline - self.now)
    }

    fn drain(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(output) = self.call.poll() {
            said.push(self.short(output));
        }
        said
    }

    fn short(&mut self, output: Output) -> String {
        match output {
            Output::AddCandidates { fork, candidates } => {
                let told: Vec<String> = candidates.iter().map(|one| one.port.to_string()).collect();
                match fork {
                    Fork::FIRST => format!("add {}", told.join(" ")),
                    Fork(number) => format!("add {} to {number}", told.join(" ")),
                }
            }
            Output::Accept(sdp) => format!("200 {sdp}"),
            Output::AcceptOffer(sdp) => format!("200 re {sdp}"),
            Output::ApplyAnswer { epoch, offer, answer } => {
                self.epoch = epoch;
                format!("apply {answer} to {offer}")
            }
            Output::AcceptFork {
                fork,
                offer,
                answer,
                is_heard,
            } => {
                let word = if is_heard { "hear" } else { "open" };
                format!("{word} {} with {answer} to {offer}", fork.0)
            }
            Output::TakeFork {
                epoch,
                fork,
                offer,
                answer,
            } => {
                self.epoch = epoch;
                format!("take {} with {answer} to {offer}", fork.0)
            }
            Output::CloseMedia => "close".into(),
            Output::Forget => "forget".into(),
            Output::HangUp { reason: None } => "hang up".into(),
            Output::HangUp { reason: Some(reason) } => format!("hang up {reason}"),
            Output::Invite { offer, .. } => format!("INVITE {offer}"),
            Output::MakeAnswer { epoch, offer } => {
                self.epoch = epoch;
                format!("answer {offer}")
            }
            Output::MakeOffer { epoch } => {
                self.epoch = epoch;
                "offer".into()
            }
            Output::Progress(sdp) => format!("183 {sdp}"),
            Output::ReInvite { offer, early: None } => format!("re-INVITE {offer}"),
            Output::ReInvite {
                offer,
                early: Some(dialog),
            } => format!("UPDATE {offer} to {dialog}"),
            Output::Refuse(status) => status.to_string(),
            Output::RefuseOffer(status) => format!("{status} re"),
            Output::ReplaceMedia => "replace".into(),
            Output::UseClassic { heard: None } => "classic".into(),
            Output::UseClassic { heard: Some(heard) } => format!("classic as {heard}"),
            Output::ReportReferral(status) => format!("report {status}"),
            Output::RestartIce => "restart ICE".into(),
            Output::Ring => "180".into(),
            Output::Screen { epoch, offer } => {
                self.epoch = epoch;
                format!("screen {offer}")
            }
            Output::SendCandidates(body) => format!("INFO {}", info(&body)),
            Output::SetMedia(terms) => match terms.change {
                Some(change) => format!("set hold {} and {change:?}", terms.held),
                None => format!("set hold {}", terms.held),
            },
            Output::TakeReferral(referral) => format!("call {}", referral.target),
            Output::Tell(told) => self.told(told),
            Output::UndoOffer => "undo".into(),
        }
    }

    fn told(&mut self, told: Told) -> String {
        match told {
            Told::Accepted => "Accepted".into(),
            Told::Confirmed => "Confirmed".into(),
            Told::Ended(ending) => {
                let word = if ending.established { "Ended" } else { "Failed" };
                let told = format!("{word} {}", ending.cause);
                assert!(self.ending.replace(ending).is_none(), "told twice");
                told
            }
            Told::Held(by) => format!("Held {by:?}"),
            Told::HoldRefused(held) => format!("HoldRefused {held}"),
            Told::MediaChanged => "MediaChanged".into(),
            Told::MediaRefused => "MediaRefused".into(),
            Told::Incoming { replaces: None, .. } => "Incoming".into(),
            Told::Incoming { .. } => "Incoming instead".into(),
            Told::Resumed(by) => format!("Resumed {by:?}"),
            Told::TransferLapsed => "TransferLapsed".into(),
            Told::TransferProgress(status) => format!("TransferProgress {status}"),
            Told::TransferRefused(status) => format!("TransferRefused {status}"),
            Told::TransferWanted(referral) => format!("TransferWanted {}", referral.target),
            Told::Transferred => "Transferred".into(),
            Told::Progress { status, early_media } => {
                format!("Progress {status}{}", if early_media { " early" } else { "" })
            }
        }
    }

    pub(crate) fn step(&mut self, step: Step) -> Vec<String> {
        self.on(Input::Step(self.epoch, Ok(step)))
    }

    pub(crate) fn ours(&mut self) -> String {
        self.made += 1;
        format!("ours-{}", self.made)
    }

    pub(crate) fn offer_made(&mut self) -> Vec<String> {
        let sdp = self.ours();
        self.step(Step::OfferMade(sdp))
    }

    pub(crate) fn answer_made(&mut self) -> Vec<String> {
        let sdp = self.ours();
        self.step(Step::AnswerMade(sdp))
    }

    pub(crate) fn fails(&mut self, fault: Fault) -> Vec<String> {
        self.on(Input::Step(self.epoch, Err(error(fault))))
    }

    pub(crate) fn dialog(&mut self, kind: K) -> Vec<String> {
        self.on(Input::Dialog(kind))
    }

    pub(crate) fn ringing(&mut self, tag: &str, status: u16, sdp: Option<&str>) -> Vec<String> {
        self.dialog(K::Ringing {
            dialog: DialogTag(tag.into()),
            status,
            sdp: sdp.map(Into::into),
            takes_offers: false,
        })
    }

    /// An early answer that is acknowledged, of a peer that takes UPDATE.
    pub(crate) fn settled(&mut self, tag: &str, sdp: &str) -> Vec<String> {
        self.dialog(K::Ringing {
            dialog: DialogTag(tag.into()),
            status: 183,
            sdp: Some(sdp.into()),
            takes_offers: true,
        })
    }

    pub(crate) fn answered(&mut self, tag: &str, sdp: Option<&str>) -> Vec<String> {
        self.dialog(K::Answered {
            dialog: DialogTag(tag.into()),
            sdp: sdp.map(Into::into),
        })
    }

    pub(crate) fn offered(&mut self, sdp: Option<&str>) -> Vec<String> {
        self.offered_in("bob", sdp)
    }

    pub(crate) fn offered_in(&mut self, tag: &str, sdp: Option<&str>) -> Vec<String> {
        self.dialog(K::Offered {
            dialog: DialogTag(tag.into()),
            sdp: sdp.map(Into::into),
        })
    }

    pub(crate) fn refused(&mut self, command: Command) -> Vec<String> {
        self.on(Input::CommandFailed(command, error(Fault::ApiMisuse)))
    }

    pub(crate) fn state(&self) -> (Sip, Jsep) {
        self.call.state()
    }

    /// Dials: the INVITE with `ours-1` is out.
    pub(crate) fn dialled() -> Self {
        let mut bench = Bench::new();
        assert_eq!(bench.on(Input::Dial { target: target() }), ["offer"]);
        assert_eq!(bench.offer_made(), ["INVITE ours-1"]);
        bench
    }

    /// A caller's call that stands: `ours-1` answered by `theirs-1`.
    pub(crate) fn calling() -> Self {
        let mut bench = Bench::dialled();
        assert_eq!(
            bench.answered("a", Some("theirs-1")),
            ["Accepted", "apply theirs-1 to ours-1"]
        );
        assert_eq!(bench.step(Step::AnswerApplied), ["Confirmed"]);
        bench
    }

    /// A call that rings here, with the offer `theirs-1`.
    pub(crate) fn invited() -> Self {
        let mut bench = Bench::new();
        assert_eq!(bench.on(incoming(Some("theirs-1"))), ["screen theirs-1"]);
        assert_eq!(bench.step(Step::ScreenPassed), ["180", "Incoming"]);
        bench
    }

    /// Our 200 with `ours-1` is out.
    pub(crate) fn accepting() -> Self {
        let mut bench = Bench::invited();
        assert_eq!(bench.on(Input::Answer), ["answer theirs-1"]);
        assert_eq!(bench.answer_made(), ["200 ours-1", "Accepted"]);
        bench
    }
}

pub(crate) fn error(fault: Fault) -> Error {
    Error::new(fault, "test", "it went wrong").advice("nothing to do")
}

pub(crate) fn target() -> Uri {
    "sip:bob@example.com".parse().unwrap()
}

pub(crate) fn incoming(offer: Option<&str>) -> Input {
    incoming_of(offer, false)
}

/// Of a caller that acknowledges a 183, or does not.
pub(crate) fn incoming_of(offer: Option<&str>, reliable: bool) -> Input {
    let party = |uri: &str| NameAddr::new(uri.parse::<siprtc_core::sip::SipUri>().unwrap());
    Input::Dialog(K::Incoming {
        sip_call_id: "1".into(),
        from: party("sip:alice@example.com"),
        to: party("sip:bob@example.com"),
        offer: offer.map(Into::into),
        replaces: None,
        head: Box::new(Head {
            reliable,
            ..Head::default()
        }),
    })
}

pub(crate) fn ended(cause: Cause, by: Side, status: Option<u16>) -> Input {
    Input::Dialog(K::Ended {
        cause,
        by,
        status,
        reason: None,
        contacts: Vec::new(),
        retry_after: None,
    })
}
