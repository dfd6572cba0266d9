//! What a user agent answers to each message of RFC 4475 and RFC 5118, over every stack of this build: a stack, a dialog
//! manager above it, and a user who is busy. A stranger sends the messages as they are in the corpus.

use actix::prelude::*;
use siprtc::registry;
use siprtc_core::sip::{
    EventSink, Feature, Limits, NameAddr, SinkFull, SipCapability, SipMessage, SipStack, SipStackFactory,
    SipUri, StackEvent, Transport, TxOwner,
};
use siprtc_dialog_manager::{
    Account, DialogConfig, DialogEvent, DialogEventKind, DialogManager, FromStack, Reject,
};
use siprtc_testkit::corpus::corpus_files;
use siprtc_testkit::sip::torture::{Fate, Torture};
use siprtc_testkit::sip::{Answer, Stranger, needs, start_on_loopback};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long no answer is waited for.
const SILENCE: Duration = Duration::from_millis(200);

#[test]
fn each_torture_message_of_rfc_4475_is_answered_as_the_rfc_says() {
    answers("rfc4475");
}

#[test]
fn each_torture_message_of_rfc_5118_is_answered_as_the_rfc_says() {
    answers("rfc5118");
}

fn answers(folder: &str) {
    System::new().block_on(async {
        let mut stranger = Stranger::new().await;
        let mut wrong = Vec::new();
        for factory in registry::sip_stacks() {
            for (name, octets) in corpus_files(folder) {
                let torture = Torture::of(&format!("{folder}/{name}"));
                if let Err(why) = meet(&factory, &mut stranger, torture, &octets).await {
                    wrong.push(format!("{}: {}: {why}", factory.name(), torture.file));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// Each message has an agent of its own: some share a branch, and would be copies of one another.
async fn meet(
    factory: &Arc<dyn SipStackFactory>,
    stranger: &mut Stranger,
    torture: &Torture,
    octets: &[u8],
) -> Result<(), String> {
    let transport = torture.transport();
    let stack = busy_agent(factory, transport).await;
    let to = stack.listeners()[0].bound;
    stranger.say(transport, to, octets).await;
    let excuse = excuse(&stack.capability(), torture, octets);
    let patience = if torture.statuses.is_empty() || excuse.is_some() {
        SILENCE
    } else {
        PATIENCE
    };
    let answer = stranger.answer(patience).await;
    stack.shutdown(Duration::ZERO).await;
    stranger.forget().await;
    judge(torture, answer.as_ref(), excuse)
}

fn judge(torture: &Torture, answer: Option<&Answer>, excuse: Option<Feature>) -> Result<(), String> {
    let Torture {
        statuses, section, ..
    } = torture;
    let status = answer.map(|answer| answer.status);
    match (status, excuse) {
        (None, _) if statuses.is_empty() => Ok(()),
        (Some(status), _) if statuses.contains(&status) => answer.map_or(Ok(()), says_why),
        // A malformed message is refused or dropped; so is what a stack says that it cannot read.
        (None | Some(400), Some(_)) => Ok(()),
        _ => Err(format!(
            "{statuses:?} was expected ({section}), and came {status:?}"
        )),
    }
}

/// Which declared gap stands between this message and its answer.
fn excuse(capability: &SipCapability, torture: &Torture, octets: &[u8]) -> Option<Feature> {
    let missing = |feature: &Feature| capability.gap(*feature).is_some();
    match torture.fate {
        Fate::Dropped => None,
        Fate::Refused => Some(Feature::AnswersMalformed).filter(missing),
        // Nobody owes it an answer who does not answer what is malformed.
        Fate::Tolerated if missing(&Feature::AnswersMalformed) => Some(Feature::AnswersMalformed),
        Fate::Delivered | Fate::Tolerated => {
            match SipMessage::parse(&octets.to_vec().into(), &Limits::default()) {
                Ok(SipMessage::Request(request)) => needs(octets, &request).into_iter().find(missing),
                other => panic!("BUG: {} is listed as a request, but: {other:?}", torture.file),
            }
        }
    }
}

/// What an answer of this status must carry for the peer to do better (RFC 3261 sections 21.4.6, 21.4.13, 21.4.15).
fn says_why(answer: &Answer) -> Result<(), String> {
    let field = match answer.status {
        405 => "Allow: ",
        // What is accepted depends on the method: a description, or a text.
        415 => "Accept: ",
        420 => "Unsupported: nothingSupportsThis, nothingSupportsThisEither",
        _ => return Ok(()),
    };
    let text = String::from_utf8_lossy(&answer.octets);
    match text.contains(&format!("\n{field}")) {
        true => Ok(()),
        false => Err(format!("a {} without {field:?}: {text}", answer.status)),
    }
}

/// A stack, a dialog manager, and a user who answers every call 486.
async fn busy_agent(factory: &Arc<dyn SipStackFactory>, transport: Transport) -> Arc<dyn SipStack> {
    let late = Late::default();
    let stack = start_on_loopback(factory, &[transport], Arc::new(late.clone())).await;
    let contact = SipUri::from_addr(stack.listeners()[0].advertised).with_transport(transport);
    let account = Account::new(contact.clone().with_user("user"), NameAddr::new(contact));
    let (config, port) = (DialogConfig::new(account), stack.clone());
    Busy::create(|ctx| {
        let manager = DialogManager::new(config, port, TxOwner::user(1), ctx.address().recipient()).start();
        assert!(
            late.0.set(manager.clone()).is_ok(),
            "BUG: one manager for each stack"
        );
        Busy(manager)
    });
    stack
}

/// The stack is there before the manager.
#[derive(Clone, Default)]
struct Late(Arc<OnceLock<Addr<DialogManager>>>);

impl EventSink for Late {
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        let manager = self.0.get().ok_or(SinkFull)?;
        manager.try_send(FromStack(event)).map_err(|_| SinkFull)
    }
}

struct Busy(Addr<DialogManager>);

impl Actor for Busy {
    type Context = Context<Self>;
}

impl Handler<DialogEvent> for Busy {
    type Result = ();

    fn handle(&mut self, event: DialogEvent, _: &mut Self::Context) {
        if matches!(event.kind, DialogEventKind::Incoming { .. }) {
            let told = self.0.try_send(Reject {
                call: event.call,
                status: 486,
            });
            assert!(told.is_ok(), "the manager's mailbox is full");
        }
    }
}
