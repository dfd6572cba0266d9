//! The hub: the only actor that knows the other five. It asks [`Call`](crate::machine::Call) what to do, and does it.

mod commands;
mod events;
mod perform;
#[cfg(test)]
mod recovery;
mod roaming;
mod watch;

use crate::calls::Entry;
use crate::control::{CallControl, Transfers};
use crate::errands::DtmfWay;
use crate::keeper::{Leave, keep};
use crate::messages::*;
use crate::reach::Reach;
use crate::router::{DIALOGS, REGISTRAR, Router};
use actix::prelude::*;
use siprtc_core::sip::SipStack;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::{self as dialog, DialogManager, Referral};
use siprtc_nat_agent::NatAgent;
use siprtc_registrar_client::{RegistrarClient, RegistrarConfig};
use siprtc_sdp_translator::SdpTranslator;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The SIPRTC local gateway: one endpoint's calls.
///
/// Started on an arbiter, it starts the other actors on the same one; media and sockets run on the configuration's
/// runtime.
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    stack: Arc<dyn SipStack>,
    router: Arc<Router>,
    events: Recipient<GatewayEvent>,
    house: Option<House>,
    reach: Reach,
    pub(crate) calls: HashMap<CallId, Entry>,
    /// Messages and digits whose answers are awaited.
    pub(crate) errands: HashMap<CallId, oneshot::Sender<u16>>,
    /// Calls that others ask for and nobody has answered for; the dialog manager bounds them.
    pub(crate) asked: HashMap<CallId, Referral>,
    idle: Vec<oneshot::Sender<()>>,
    closing: bool,
    leave: Leave,
    /// The call that an input is for, as long as it is worked on.
    in_hand: Option<CallId>,
    /// Addresses have changed and no route leads out yet.
    wayless: Option<SpawnHandle>,
}

/// The actors around the hub.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) dialogs: Addr<DialogManager>,
    registrar: Addr<RegistrarClient>,
    pub(crate) translator: Addr<SdpTranslator>,
    nat: Addr<NatAgent>,
}

impl Gateway {
    /// Commands and events that may wait; beyond it the sender's own policy holds.
    pub const MAILBOX: usize = 1024;

    /// A gateway over a stack that was started with `router` as its sink.
    pub fn new(
        config: GatewayConfig,
        stack: Arc<dyn SipStack>,
        router: Arc<Router>,
        events: Recipient<GatewayEvent>,
    ) -> Self {
        let account = &config.account;
        let reach = Reach::new(account.contact.clone(), account.connected_only);
        Gateway {
            config,
            stack,
            router,
            events,
            house: None,
            reach,
            calls: HashMap::new(),
            errands: HashMap::new(),
            asked: HashMap::new(),
            idle: Vec::new(),
            closing: false,
            leave: Leave::default(),
            in_hand: None,
            wayless: None,
        }
    }

    /// Starts it so that it and the actors around it begin again after a panic or a stop: its calls go on, but for the one that
    /// was in hand. `gone` is called when it breaks down too often.
    pub fn keep(self, gone: impl FnOnce() + 'static) -> Addr<Self> {
        let leave = self.leave.clone();
        keep("gateway", self, leave, gone)
    }

    fn furnish(&self, hub: &Addr<Gateway>) -> House {
        let account = &self.config.account;
        let dialogs = DialogManager::new(
            dialog::DialogConfig {
                account: dialog::Account {
                    aor: account.aor.clone(),
                    display_name: account.display_name.clone(),
                    contact: account.contact.clone(),
                    secret: account.secret.clone(),
                    weakest_digest: account.weakest_digest,
                    outbound: account.outbound.clone(),
                },
                timers: self.config.timers,
                max_calls: self.config.max_calls,
                answer_options: true,
                no_answer: self.config.no_answer,
                trickle_ice: self.config.trickle != Trickle::Off,
                session_timer: self.config.session_timer,
                control: dialog::Control {
                    take_digits: self.config.control.dtmf != DtmfWay::Rfc4733,
                    take_referrals: self.config.control.transfers != Transfers::Refuse,
                    ..self.config.control.dialogs.clone()
                },
            },
            self.stack.clone(),
            DIALOGS,
            hub.clone().recipient(),
        );
        let registrar = RegistrarClient::new(
            RegistrarConfig {
                aor: account.aor.clone(),
                contact: account.contact.clone(),
                registrars: account.registrars.clone(),
                secret: account.secret.clone(),
                expires: account.expires,
                backoff: account.backoff.clone(),
                instance: account.instance.clone(),
                flows: account.flows,
                recovery: account.recovery.clone(),
                keepalive: account.keepalive,
                gruu: account.gruu,
                weakest_digest: account.weakest_digest,
            },
            self.stack.clone(),
            REGISTRAR,
            hub.clone().recipient(),
        );
        House {
            dialogs: kept("dialog manager", dialogs, hub),
            registrar: kept("registrar client", registrar, hub),
            translator: kept("SDP translator", SdpTranslator, hub),
            nat: self.nat_agent(hub),
        }
    }

    fn nat_agent(&self, hub: &Addr<Gateway>) -> Addr<NatAgent> {
        let agent = NatAgent::new(
            self.config.nat.clone(),
            self.config.runtime.clone(),
            hub.clone().recipient(),
        );
        kept("NAT agent", agent, hub)
    }

    /// The other actors. Of those that broke down too often to be kept, the two that keep no call's state are made anew.
    pub(crate) fn house(&mut self, ctx: &Context<Self>) -> Result<House> {
        let hub = ctx.address();
        let nat_is_gone = self.house.as_ref().is_some_and(|house| !house.nat.connected());
        let nat = nat_is_gone.then(|| self.nat_agent(&hub));
        let Some(house) = &mut self.house else {
            return Err(Error::new(
                Fault::ApiMisuse,
                "use the gateway",
                "it is not started or already stopped",
            ));
        };
        if let Some(nat) = nat {
            tracing::error!("the NAT agent was gone and is made anew: report this with the log above");
            house.nat = nat;
        }
        if !house.translator.connected() {
            tracing::error!("the SDP translator was gone and is made anew: report this with the log above");
            house.translator = kept("SDP translator", SdpTranslator, &hub);
        }
        Ok(house.clone())
    }

    pub(crate) fn control(&self) -> &CallControl {
        &self.config.control
    }

    /// Tells of a call that is not over: `Ended` or `Failed` is its last event.
    pub(crate) fn tell(&self, call: CallId, kind: CallEventKind) {
        if self.calls.contains_key(&call) {
            self.tell_all(GatewayEvent::Call(CallEvent {
                call,
                at: tokio::time::Instant::now(),
                kind,
            }));
        }
    }

    pub(crate) fn tell_all(&self, event: GatewayEvent) {
        // Policy: an application that does not read its events loses them; calls go on.
        if let Err(error) = self.events.try_send(event) {
            tracing::warn!(%error, "the application does not take its events");
        }
    }
}

/// An actor that is kept, and of which the hub hears when it cannot be.
fn kept<A>(name: &'static str, actor: A, hub: &Addr<Gateway>) -> Addr<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    let hub = hub.downgrade();
    keep(name, actor, Leave::default(), move || {
        if let Some(hub) = hub.upgrade() {
            actix::spawn(async move { _ = hub.send(watch::Gone { name }).await });
        }
    })
}

impl Actor for Gateway {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(Gateway::MAILBOX);
        if self.house.is_some() {
            return; // It begins again.
        }
        let house = self.furnish(&ctx.address());
        self.router.bind(
            house.dialogs.clone().recipient(),
            house.registrar.clone().recipient(),
        );
        self.house = Some(house);
    }
}
