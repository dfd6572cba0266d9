//! Tests that reach into a running gateway: what happens when an actor around it dies.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[allow(dead_code, reason = "the tests of whole calls use the rest")]
#[path = "../../tests/calls/bench.rs"]
mod bench;

use super::{Entry, Gateway, House};
use crate::messages::{Hangup, MediaPlan};
use crate::router::DIALOGS;
use actix::prelude::*;
use bench::*;
use siprtc_core::{CallId, Cause};
use siprtc_dialog_manager::{Account, DialogConfig, DialogManager};
use siprtc_nat_agent::NatAgent;
use siprtc_sdp_translator::SdpTranslator;

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

/// An actor that is gone as soon as it has begun.
fn dead<A: Actor<Context = Context<A>>>(actor: A) -> Addr<A> {
    A::create(|ctx| {
        ctx.stop();
        actor
    })
}

fn house(gateway: &mut Gateway) -> &mut House {
    gateway.house.as_mut().unwrap()
}

fn kill_helpers(gateway: &mut Gateway, ctx: &mut Context<Gateway>) {
    let config = &gateway.config;
    let nat = NatAgent::new(
        config.nat.clone(),
        config.runtime.clone(),
        ctx.address().recipient(),
    );
    house(gateway).nat = dead(nat);
    house(gateway).translator = dead(SdpTranslator);
}

fn kill_dialogs(gateway: &mut Gateway, ctx: &mut Context<Gateway>) {
    let account = &gateway.config.account;
    let config = DialogConfig::new(Account::new(account.aor.clone(), account.contact.clone()));
    let dialogs = DialogManager::new(config, gateway.stack.clone(), DIALOGS, ctx.address().recipient());
    house(gateway).dialogs = dead(dialogs);
}

fn add_call(gateway: &mut Gateway, _: &mut Context<Gateway>) {
    let id = CallId::fresh();
    gateway
        .calls
        .insert(id, Entry::new(id, "caller", MediaPlan::default()));
}

#[test]
fn a_nat_agent_and_a_translator_that_died_are_made_anew_and_no_call_notices() {
    between(|mut alice, mut bob| async move {
        let (calling, _) = connect(&mut alice, &mut bob).await;
        for phone in [&alice, &bob] {
            phone.gateway.send(Inside(kill_helpers)).await.unwrap();
        }
        tokio::task::yield_now().await;
        connect(&mut alice, &mut bob).await;
        assert_eq!(alice.network.open_peers(), 4);
        alice.hang_up(calling).await;
        assert_eq!(alice.until_over().await, calling);
    });
}

#[test]
fn calls_end_when_the_dialog_manager_is_gone() {
    between(|mut alice, mut bob| async move {
        let (calling, _) = connect(&mut alice, &mut bob).await;
        alice.gateway.send(Inside(kill_dialogs)).await.unwrap();
        tokio::task::yield_now().await;
        alice.tell(Hangup { call: calling }).await.unwrap();
        assert_eq!(alice.over().await.unwrap().cause, Cause::Bye);
        alice.dial(&bob).await;
        let ending = alice.over().await.unwrap_err();
        assert_eq!(ending.cause, Cause::Internal);
        assert!(ending.sentence.unwrap().contains("gone"));
    });
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
