//! Tests that reach into a running gateway: what happens when an actor around it dies.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[allow(dead_code, reason = "the tests of whole calls use the rest")]
#[path = "../../tests/calls/bench.rs"]
mod bench;

use super::{Entry, Gateway};
use crate::machine::Ending;
use crate::messages::{Answer, CallEventKind, Hangup, Hold, MediaPlan, StartRegistration};
use actix::prelude::*;
use bench::*;
use siprtc_core::sip::{
    FlowId, Headers, Keepalive, Listener, Method, Route, SipCapability, SipRequest, SipResponse, SipStack,
    TxId,
};
use siprtc_core::{CallId, Cause, Result};
use siprtc_dialog_manager::DialogManager;
use siprtc_media_session::MediaSession;
use siprtc_nat_agent::NatAgent;
use siprtc_registrar_client::RegistrarClient;
use siprtc_sdp_translator::SdpTranslator;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Does something inside the gateway.
#[derive(Message)]
#[rtype(result = "()")]
struct Inside(fn(&mut Gateway, &mut Context<Gateway>));

impl Handler<Inside> for Gateway {
    type Result = ();

    fn handle(&mut self, message: Inside, ctx: &mut Context<Self>) {
        message.0(self, ctx);
    }
}

/// What the tests of breakdowns panic with.
const WANTED: &str = "as the test wants";

/// Hundreds of wanted panics are not worth a backtrace each.
fn hide_wanted_panics() {
    static HIDDEN: std::sync::Once = std::sync::Once::new();
    HIDDEN.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() != Some(&WANTED) {
                others(panic);
            }
        }));
    });
}

/// How an actor breaks down.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
enum Blow {
    Panic,
    Stop,
}

macro_rules! breakable {
    ($($actor:ty),*) => {$(
        impl Handler<Blow> for $actor {
            type Result = ();

            fn handle(&mut self, blow: Blow, ctx: &mut Context<Self>) {
                match blow {
                    Blow::Panic => std::panic::panic_any(WANTED),
                    Blow::Stop => ctx.stop(),
                }
            }
        }
    )*};
}

breakable!(
    DialogManager,
    Gateway,
    MediaSession,
    NatAgent,
    RegistrarClient,
    SdpTranslator
);

#[derive(Clone, Copy, Debug)]
enum Whom {
    Dialogs,
    Gateway,
    /// In the midst of what it does for each of its calls.
    GatewayWithCall,
    Nat,
    Registrar,
    Sessions,
    Translator,
}

/// Has `whom` break down; those of calls all at once.
#[derive(Message)]
#[rtype(result = "()")]
struct Strike(Whom, Blow);

impl Handler<Strike> for Gateway {
    type Result = ();

    fn handle(&mut self, Strike(whom, blow): Strike, ctx: &mut Context<Self>) {
        let house = self.house.as_ref().unwrap();
        match whom {
            Whom::Dialogs => drop(house.dialogs.try_send(blow)),
            Whom::Gateway => self.handle(blow, ctx),
            Whom::GatewayWithCall => {
                self.in_hand = self.calls.keys().next().copied();
                self.handle(blow, ctx);
            }
            Whom::Nat => drop(house.nat.try_send(blow)),
            Whom::Registrar => drop(house.registrar.try_send(blow)),
            Whom::Sessions => {
                let sessions = self.calls.values().filter_map(|entry| entry.session.as_ref());
                sessions.for_each(|(_, session)| drop(session.try_send(blow)));
            }
            Whom::Translator => drop(house.translator.try_send(blow)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Dialling,
    Ringing,
    Answering,
    Confirmed,
    Offering,
    HangingUp,
}

const WHOM: [Whom; 7] = [
    Whom::Dialogs,
    Whom::Gateway,
    Whom::GatewayWithCall,
    Whom::Nat,
    Whom::Registrar,
    Whom::Sessions,
    Whom::Translator,
];
const PHASES: [Phase; 6] = [
    Phase::Dialling,
    Phase::Ringing,
    Phase::Answering,
    Phase::Confirmed,
    Phase::Offering,
    Phase::HangingUp,
];

/// A call until the blow: Alice's id of it, and Bob's when he has heard of it.
async fn until(phase: Phase, alice: &mut Phone, bob: &mut Phone) -> (CallId, Option<CallId>) {
    let calling = match phase {
        Phase::Confirmed | Phase::Offering | Phase::HangingUp => {
            let (calling, called) = connect(alice, bob).await;
            match phase {
                Phase::Offering => {
                    let (call, held, plays_on) = (calling, true, false);
                    alice.tell(Hold { call, held, plays_on }).await.unwrap();
                }
                Phase::HangingUp => alice.hang_up(calling).await,
                _ => {}
            }
            return (calling, Some(called));
        }
        _ => alice.dial(bob).await,
    };
    if let Phase::Dialling = phase {
        return (calling, None);
    }
    let called = bob.incoming().await;
    if let Phase::Answering = phase {
        bob.answer(called).await;
    }
    (calling, Some(called))
}

/// What a person does at each end then: answers what rings, and hangs up.
async fn go_on(phone: &mut Phone, mut call: Option<CallId>, over: bool) -> Ending {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(3), phone.next()).await;
        match event {
            Ok(event) => match event.kind {
                CallEventKind::Incoming { .. } => {
                    call = Some(event.call);
                    drop(phone.gateway.send(answer(event.call)).await);
                }
                CallEventKind::Ended(ending) | CallEventKind::Failed(ending) => return ending,
                _ => {}
            },
            // Quiet: whatever could be done is done.
            Err(_) if over => match call {
                Some(call) => drop(phone.gateway.send(Hangup { call }).await),
                None => panic!("it has not heard of the call"),
            },
            Err(_) => {}
        }
    }
}

fn answer(call: CallId) -> Answer {
    let media = MediaPlan::default();
    Answer {
        call,
        media: Some(media),
    }
}

/// Nobody has anything left of any call.
async fn nothing_is_left(phone: &Phone) {
    fn check(gateway: &mut Gateway, _: &mut Context<Gateway>) {
        assert!(gateway.calls.is_empty() && gateway.in_hand.is_none());
    }
    phone.gateway.send(Inside(check)).await.unwrap();
}

fn breaks_down(whom: Whom, phase: Phase, blow: Blow, (at_caller, later): (bool, usize)) {
    hide_wanted_panics();
    let one_call = Setup {
        max_calls: [1, 1],
        ..Setup::default()
    };
    set_up(one_call, |mut alice, mut bob| async move {
        let (calling, called) = until(phase, &mut alice, &mut bob).await;
        for _ in 0..later {
            tokio::task::yield_now().await;
        }
        let struck = if at_caller { &alice } else { &bob };
        struck.gateway.try_send(Strike(whom, blow)).unwrap();
        if let (Phase::Ringing, Some(called)) = (phase, called) {
            drop(bob.gateway.send(answer(called)).await);
        }
        is_put_right(&mut alice, &mut bob, (calling, called)).await;
    });
}

/// Alice's call ends, at Bob's end too if he has heard of it; nothing is left of it, and the next one works.
async fn is_put_right(alice: &mut Phone, bob: &mut Phone, (calling, called): (CallId, Option<CallId>)) {
    let ended = tokio::select! {
        ended = go_on(alice, Some(calling), true) => ended,
        _ = async { loop { go_on(bob, called, false).await; } } => unreachable!(),
    };
    assert!(ended.cause != Cause::Internal || ended.sentence.is_some());
    tokio::time::sleep(Duration::from_secs(10)).await;
    bob.ends_at_most_once().await;
    alice.ends_at_most_once().await;
    nothing_is_left(alice).await;
    nothing_is_left(bob).await;
    assert_eq!(alice.network.open_peers(), 0);
    let (calling, _) = connect(alice, bob).await;
    alice.hang_up(calling).await;
    assert_eq!(alice.over().await.unwrap().cause, Cause::Bye);
    assert_eq!(bob.over().await.unwrap().cause, Cause::Bye);
}

/// A stack that panics over one message, the one that comes when the counter is at 1.
struct Brittle(Arc<dyn SipStack>, Arc<AtomicUsize>);

impl Brittle {
    fn count(&self) {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::panic::panic_any(WANTED);
        }
    }
}

#[async_trait::async_trait]
impl SipStack for Brittle {
    fn capability(&self) -> SipCapability {
        self.0.capability()
    }

    fn listeners(&self) -> Vec<Listener> {
        self.0.listeners()
    }

    async fn send_request(&self, tx: TxId, request: SipRequest, route: Route) -> Result<()> {
        self.count();
        self.0.send_request(tx, request, route).await
    }

    async fn cancel(&self, invite: TxId, extra: Headers) -> Result<()> {
        self.count();
        self.0.cancel(invite, extra).await
    }

    async fn send_ack(&self, ack: SipRequest, route: Route) -> Result<()> {
        self.count();
        self.0.send_ack(ack, route).await
    }

    async fn respond(&self, tx: TxId, response: SipResponse) -> Result<()> {
        self.count();
        self.0.respond(tx, response).await
    }

    async fn keepalive(&self, flow: FlowId, kind: Keepalive) -> Result<()> {
        self.0.keepalive(flow, kind).await
    }

    async fn close_flow(&self, flow: FlowId) -> Result<()> {
        self.0.close_flow(flow).await
    }

    async fn shutdown(&self, grace: Duration) {
        self.0.shutdown(grace).await;
    }
}

/// Every message of a call and its end, at either end.
#[test]
fn a_stack_that_panics_over_a_message_costs_at_most_its_call() {
    hide_wanted_panics();
    for (at_caller, message) in [
        (true, 1),
        (true, 2),
        (true, 3),
        (false, 1),
        (false, 2),
        (false, 3),
        (false, 4),
    ] {
        let counter = Arc::new(AtomicUsize::new(message));
        let mut setup = Setup::default();
        let count = Arc::clone(&counter);
        setup.stacks[usize::from(!at_caller)] =
            Arc::new(move |stack| Arc::new(Brittle(stack, count.clone())));
        set_up(setup, |mut alice, mut bob| async move {
            let calling = alice.dial(&bob).await;
            is_put_right(&mut alice, &mut bob, (calling, None)).await;
            assert!(counter.load(Ordering::Relaxed) > usize::MAX / 2, "it was hit");
        });
    }
}

/// Each actor, in each phase of a call, at each end, by a panic and by a stop, a little later each time: the call goes on or
/// ends at both ends, nothing is left of it, and the next one works.
#[test]
fn whoever_breaks_down_and_whenever_no_call_is_left_hanging() {
    for whom in WHOM {
        for phase in PHASES {
            for blow in [Blow::Panic, Blow::Stop] {
                for at in [(true, 0), (true, 5), (false, 0), (false, 5)] {
                    println!("{whom:?} {phase:?} {blow:?} {at:?}");
                    breaks_down(whom, phase, blow, at);
                }
            }
        }
    }
}

/// What keeps no part of the call in hand costs no call.
#[test]
fn a_confirmed_call_goes_on_when_anything_but_its_media_breaks_down() {
    for whom in WHOM {
        if let Whom::Sessions | Whom::GatewayWithCall = whom {
            continue;
        }
        for blow in [Blow::Panic, Blow::Stop] {
            between(|mut alice, mut bob| async move {
                let (calling, _) = connect(&mut alice, &mut bob).await;
                for phone in [&alice, &bob] {
                    phone.gateway.try_send(Strike(whom, blow)).unwrap();
                }
                tokio::time::sleep(Duration::from_secs(60)).await;
                alice.hang_up(calling).await;
                assert_eq!(alice.over().await.unwrap().cause, Cause::Bye, "{whom:?} {blow:?}");
                assert_eq!(bob.over().await.unwrap().cause, Cause::Bye, "{whom:?} {blow:?}");
            });
        }
    }
}

/// In its midst, and between two of its REGISTERs.
#[test]
fn a_registration_is_kept_when_the_registrar_client_breaks_down() {
    for (blow, before_answer) in [
        (Blow::Panic, true),
        (Blow::Panic, false),
        (Blow::Stop, true),
        (Blow::Stop, false),
    ] {
        alone(|alice, far, sink| async move {
            let alice = alice; // Its events, too.
            alice.gateway.send(StartRegistration).await.unwrap().unwrap();
            let mut call_ids = Vec::new();
            for round in 0..3 {
                let (tx, request, _) = sink.expect_request(Method::Register).await;
                call_ids.push(request.headers.call_id().unwrap().to_owned());
                let mut ok = request.response(200);
                ok.headers.copy_from(&request.headers, "Contact");
                ok.headers.set("To", request.headers.to().unwrap().with_tag("r"));
                if round == 0 && before_answer {
                    alice.gateway.send(Strike(Whom::Registrar, blow)).await.unwrap();
                }
                far.respond(tx, ok).await.unwrap();
                if round == 0 && !before_answer {
                    alice.gateway.send(Strike(Whom::Registrar, blow)).await.unwrap();
                }
                // The next one is the refresh, of the same binding: when 85 % of the hour are over.
                tokio::time::sleep(Duration::from_secs(3_030)).await;
            }
            drop(alice);
            assert!(call_ids.iter().all(|id| *id == call_ids[0]), "{call_ids:?}");
        });
    }
}

#[test]
fn calls_end_when_the_dialog_manager_breaks_down_too_often() {
    between(|mut alice, mut bob| async move {
        connect(&mut alice, &mut bob).await;
        for _ in 0..=crate::keeper::MAX_RESTARTS {
            alice
                .gateway
                .try_send(Strike(Whom::Dialogs, Blow::Panic))
                .unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(alice.over().await.unwrap().cause, Cause::Internal);
        alice.dial(&bob).await;
        let ending = alice.over().await.unwrap_err();
        assert_eq!(ending.cause, Cause::Internal);
        assert!(ending.sentence.unwrap().contains("gone"));
    });
}

fn add_call(gateway: &mut Gateway, _: &mut Context<Gateway>) {
    let id = CallId::fresh();
    gateway
        .calls
        .insert(id, Entry::new(id, "caller", MediaPlan::default()));
}

#[test]
fn a_call_without_a_dialog_takes_room_too() {
    let setup = Setup {
        max_calls: [8, 1],
        ..Setup::default()
    };
    set_up(setup, |mut alice, mut bob| async move {
        bob.gateway.send(Inside(add_call)).await.unwrap();
        alice.dial(&bob).await;
        let ending = alice.over().await.unwrap_err();
        assert_eq!((ending.cause, ending.status), (Cause::Busy, Some(486)));
        bob.is_silent().await;
    });
}
