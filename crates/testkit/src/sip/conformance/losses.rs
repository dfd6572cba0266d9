//! A connection that is lost, in every state of what runs over it.

use super::line::{Line, Port};
use super::{Setting, config, hears, respond, start_one};
use crate::sip::{RecordingSink, answer, request};
use siprtc_core::sip::{Flow, Method, Route, SipRequest, SipStack, StackEvent, TxEnd, TxId, TxIds, TxOwner};
use std::sync::Arc;
use std::time::Duration;

/// A connection that is lost, in every state of what runs over it.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_losses {
    ($then:ident $given:tt) => {
        $crate::$then! { $given losses
            a_request_ends_when_its_connection_is_lost
                Alone [Tcp Tls Ws Wss] []
                "RFC 3261 17.1.4" "The peer closes before any answer: the user hears so, long before timer F.";
            an_invite_ends_when_its_connection_is_lost
                Alone [Tcp Tls Ws] []
                "RFC 3261 17.1.4" "The peer closes before any answer: the user hears so, long before timer B.";
            a_ringing_invite_ends_when_its_connection_is_lost
                Alone [Tcp Tls Ws] []
                "RFC 3261 17.1.4" "The peer closes after 180: nobody waits for an answer that cannot come.";
            an_answered_invite_does_not_mind_the_loss_of_its_connection
                Alone [Tcp Tls Ws] []
                "RFC 3261 18.4" "The peer closes behind its 200: the user has its answer, and the transaction ends.";
            a_request_to_serve_does_not_mind_the_loss_of_its_connection
                Alone [Tcp Tls Ws] []
                "RFC 3261 17.2.4" "The peer closes before the user answers: the answer goes nowhere, and the stack serves others.";
            an_invite_to_serve_does_not_mind_the_loss_of_its_connection
                Alone [Tcp Tls Ws] []
                "RFC 3261 17.2.4" "The peer closes after 180: the transaction ends, and the stack serves others.";
            a_2xx_does_not_mind_the_loss_of_its_connection
                Alone [Tcp Tls Ws] []
                "RFC 3261 17.2.4" "The peer closes after 200 and before its ACK: the transaction ends, and the stack serves others.";
            a_new_connection_is_made_when_the_old_one_is_lost
                Alone [Tcp Tls Ws] []
                "RFC 3261 18.1.1" "The peer closes and listens on: the next request opens a connection of its own.";
        }
    };
}

/// Less than half of 64*T1: whoever needs longer has waited for a timer.
const AT_ONCE: Duration = Duration::from_millis(700);

/// A stack, and a port that it calls.
struct Calling {
    stack: Arc<dyn SipStack>,
    hears: Arc<RecordingSink>,
    port: Port,
    ids: TxIds,
}

impl Calling {
    async fn start(on: &Setting) -> Self {
        let hears = hears();
        Calling {
            stack: start_one(&on.alice, config(on.network), hears.clone()).await,
            hears,
            port: Port::open(on.network).await,
            ids: TxIds::new(TxOwner::user(1)),
        }
    }

    /// A request that has arrived at the port.
    async fn ask(&mut self, method: Method) -> (TxId, Line, SipRequest) {
        let tx = self.ids.mint();
        let asked = request(method.clone(), self.port.uri());
        let sent = self.stack.send_request(tx, asked, Route::by_request()).await;
        sent.unwrap_or_else(|error| panic!("the {method} was not sent: {error}"));
        let mut line = self.port.accept().await;
        let heard = line.expect(method).await;
        (tx, line, heard)
    }

    async fn expect_lost(&self, tx: TxId) {
        let ended = tokio::time::timeout(AT_ONCE, self.hears.expect_ended(tx)).await;
        match ended {
            Ok(TxEnd::Transport(_)) => (),
            Ok(other) => panic!("the connection is lost, but {tx} ended: {other:?}"),
            Err(_) => panic!("the connection is lost, and {tx} goes on"),
        }
        flow_down(&self.hears, None).await;
    }
}

/// The end of a flow is told.
async fn flow_down(hears: &RecordingSink, flow: Option<Flow>) {
    loop {
        if let StackEvent::FlowDown { id, .. } = hears.next().await {
            assert!(flow.is_none_or(|flow| flow.id == id), "the end of another flow");
            return;
        }
    }
}

pub(super) async fn a_request_ends_when_its_connection_is_lost(on: Setting) {
    let mut calling = Calling::start(&on).await;
    let (tx, line, _) = calling.ask(Method::Options).await;
    drop(line);
    calling.expect_lost(tx).await;
    calling.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn an_invite_ends_when_its_connection_is_lost(on: Setting) {
    let mut calling = Calling::start(&on).await;
    let (tx, line, _) = calling.ask(Method::Invite).await;
    drop(line);
    calling.expect_lost(tx).await;
    calling.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_ringing_invite_ends_when_its_connection_is_lost(on: Setting) {
    let mut calling = Calling::start(&on).await;
    let (tx, mut line, invite) = calling.ask(Method::Invite).await;
    line.send(&answer(&invite, 180, "far").to_bytes()).await;
    calling.hears.expect_response(180).await;
    drop(line);
    calling.expect_lost(tx).await;
    calling.stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn an_answered_invite_does_not_mind_the_loss_of_its_connection(on: Setting) {
    let mut calling = Calling::start(&on).await;
    let (tx, mut line, invite) = calling.ask(Method::Invite).await;
    line.send(&answer(&invite, 200, "far").to_bytes()).await;
    drop(line);
    let (answered, _) = calling.hears.expect_response(200).await;
    assert_eq!(answered, tx);
    // As timer M would have it, or as the connection: the answer was there.
    calling.hears.expect_ended(tx).await;
    calling.stack.shutdown(Duration::ZERO).await;
}

/// A stack, and somebody who has asked it something.
struct Called {
    stack: Arc<dyn SipStack>,
    hears: Arc<RecordingSink>,
    line: Line,
    served: TxId,
    heard: SipRequest,
    flow: Flow,
}

impl Called {
    async fn start(on: &Setting, method: Method) -> Self {
        let hears = hears();
        let stack = start_one(&on.alice, config(on.network), hears.clone()).await;
        let to = stack.listeners()[0].bound;
        let mut line = Line::to(on.network, to).await;
        let asked = line.request(method.clone(), to, "lost");
        line.send(&asked.to_bytes()).await;
        let (served, heard, flow) = hears.expect_request(method).await;
        Called {
            stack,
            hears,
            line,
            served,
            heard,
            flow,
        }
    }

    /// The peer closes; the user hears so, and answers all the same.
    async fn lose(self, on: &Setting, status: u16) {
        drop(self.line);
        flow_down(&self.hears, Some(self.flow)).await;
        let late = self
            .stack
            .respond(self.served, answer(&self.heard, status, "bob"))
            .await;
        if late.is_ok() {
            self.hears.expect_ended(self.served).await;
        }
        serves_others(&*self.stack, &self.hears, on).await;
        self.stack.shutdown(Duration::ZERO).await;
    }
}

/// Somebody else is served over a new connection.
async fn serves_others(stack: &dyn SipStack, hears: &RecordingSink, on: &Setting) {
    let to = stack.listeners()[0].bound;
    let mut line = Line::to(on.network, to).await;
    let options = line.request(Method::Options, to, "other");
    line.send(&options.to_bytes()).await;
    let (served, heard, _) = hears.expect_request(Method::Options).await;
    respond(stack, served, &heard, 200).await;
    line.expect_status(200).await;
}

pub(super) async fn a_request_to_serve_does_not_mind_the_loss_of_its_connection(on: Setting) {
    Called::start(&on, Method::Message).await.lose(&on, 200).await;
}

pub(super) async fn an_invite_to_serve_does_not_mind_the_loss_of_its_connection(on: Setting) {
    let mut called = Called::start(&on, Method::Invite).await;
    respond(&*called.stack, called.served, &called.heard, 180).await;
    called.line.expect_status(180).await;
    called.lose(&on, 486).await;
}

pub(super) async fn a_2xx_does_not_mind_the_loss_of_its_connection(on: Setting) {
    let mut called = Called::start(&on, Method::Invite).await;
    respond(&*called.stack, called.served, &called.heard, 200).await;
    called.line.expect_status(200).await;
    called.lose(&on, 200).await;
}

pub(super) async fn a_new_connection_is_made_when_the_old_one_is_lost(on: Setting) {
    let mut calling = Calling::start(&on).await;
    for _ in 0..3 {
        let (tx, mut line, asked) = calling.ask(Method::Options).await;
        line.send(&answer(&asked, 200, "far").to_bytes()).await;
        let (answered, _) = calling.hears.expect_response(200).await;
        assert_eq!(answered, tx);
        drop(line);
        flow_down(&calling.hears, None).await;
    }
    calling.stack.shutdown(Duration::ZERO).await;
}
