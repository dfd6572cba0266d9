//! A dialog manager with a test for a user.

use actix::prelude::*;
use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause, Error};
use siprtc_dialog_manager::*;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

pub(crate) const OFFER: &str = "v=0\r\n(offer)\r\n";
pub(crate) const ANSWER: &str = "v=0\r\n(answer)\r\n";

/// Hands events to the test.
pub(crate) struct Listener(mpsc::Sender<DialogEvent>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<DialogEvent> for Listener {
    type Result = ();

    fn handle(&mut self, event: DialogEvent, _: &mut Context<Self>) {
        self.0.try_send(event).expect("the test reads fast enough");
    }
}

/// Lets a listener end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Leave;

impl Handler<Leave> for Listener {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// One phone.
pub(crate) struct Phone {
    pub(crate) manager: Addr<DialogManager>,
    pub(crate) events: mpsc::Receiver<DialogEvent>,
    pub(crate) listener: Addr<Listener>,
    pub(crate) stack: Arc<dyn SipStack>,
}

impl Phone {
    pub(crate) async fn tell<M>(&self, message: M) -> Result<(), Error>
    where
        M: Message<Result = Result<(), Error>> + Send + 'static,
        DialogManager: Handler<M>,
    {
        self.manager.send(message).await.expect("the manager runs")
    }

    pub(crate) async fn event(&mut self) -> DialogEvent {
        tokio::time::timeout(Duration::from_secs(600), self.events.recv())
            .await
            .expect("an event should have come")
            .expect("the manager runs")
    }

    pub(crate) async fn kind(&mut self) -> DialogEventKind {
        self.event().await.kind
    }

    pub(crate) async fn ended(&mut self) -> (Cause, Side, Option<u16>) {
        match self.kind().await {
            DialogEventKind::Ended {
                cause, by, status, ..
            } => (cause, by, status),
            other => panic!("expected Ended, got {other:?}"),
        }
    }

    pub(crate) async fn incoming(&mut self) -> CallId {
        let event = self.event().await;
        assert!(
            matches!(event.kind, DialogEventKind::Incoming { .. }),
            "{event:?}"
        );
        event.call
    }

    /// Calls whoever is behind `stack`.
    pub(crate) async fn invite(&mut self, stack: &Arc<dyn SipStack>) -> CallId {
        let call = CallId::fresh();
        let target = SipUri::from_addr(stack.listeners()[0].bound)
            .with_user("bob")
            .into();
        self.tell(Invite {
            call,
            target,
            offer: OFFER.to_owned(),
            headers: Headers::new(),
        })
        .await
        .unwrap();
        assert!(matches!(self.kind().await, DialogEventKind::Started { .. }));
        call
    }
}

pub(crate) type Late = Arc<OnceLock<Addr<DialogManager>>>;

pub(crate) fn sink(late: &Late) -> Arc<dyn EventSink> {
    let late = late.clone();
    Arc::new(move |event| match late.get() {
        Some(manager) => manager.try_send(FromStack(event)).map_err(|_| SinkFull),
        None => Err(SinkFull),
    })
}

pub(crate) fn phone(name: &str, stack: Arc<dyn SipStack>, late: &Late, max_calls: usize) -> Phone {
    phone_as(name, stack, late, |config| config.max_calls = max_calls)
}

pub(crate) fn phone_as(
    name: &str,
    stack: Arc<dyn SipStack>,
    late: &Late,
    change: impl FnOnce(&mut DialogConfig),
) -> Phone {
    let contact = SipUri::from_addr(stack.listeners()[0].advertised).with_user(name);
    let aor = format!("sip:{name}@example.com").parse().unwrap();
    let mut config = DialogConfig::new(Account::new(aor, NameAddr::new(contact)));
    change(&mut config);
    let (sender, events) = mpsc::channel(256);
    let listener = Listener(sender).start();
    let recipient = listener.clone().recipient();
    let manager = DialogManager::new(config, stack.clone(), TxOwner::user(3), recipient).start();
    assert!(late.set(manager.clone()).is_ok());
    Phone {
        manager,
        events,
        listener,
        stack,
    }
}

/// Alice calls and Bob answers.
pub(crate) async fn connect(alice: &mut Phone, bob: &mut Phone) -> (CallId, CallId) {
    let call = alice.invite(&bob.stack).await;
    let answering = bob.incoming().await;
    bob.tell(Accept {
        call: answering,
        sdp: ANSWER.to_owned(),
    })
    .await
    .unwrap();
    assert_eq!(alice.kind().await, DialogEventKind::Trying);
    assert!(matches!(alice.kind().await, DialogEventKind::Answered { sdp: Some(sdp), .. } if sdp == ANSWER));
    assert_eq!(bob.kind().await, DialogEventKind::Confirmed { sdp: None });
    (call, answering)
}
