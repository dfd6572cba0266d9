//! This host has other addresses than before: the signalling follows first, then the media.

use super::Gateway;
use crate::calls::Entry;
use crate::machine::Input;
use actix::prelude::*;
use siprtc_core::ice::CandidateKind;
use siprtc_registrar_client::Moved;
use std::net::IpAddr;
use std::time::Duration;

/// How often it is asked whether a route leads out again: addresses come before their routes.
const LOOK: Duration = Duration::from_secs(1);

impl Gateway {
    /// The order matters: a re-INVITE must find neither a connection from an address that is gone nor the old contact.
    pub(super) fn moved(&mut self, ctx: &mut Context<Self>, addresses: Vec<IpAddr>) {
        if let Some(waiting) = self.wayless.take() {
            ctx.cancel_future(waiting);
        }
        self.stack.addresses_changed();
        let contact = match &self.config.contact_now {
            None => self.config.account.contact.clone(),
            Some(now) => match now() {
                Some(contact) => contact,
                None => {
                    let again = ctx.run_later(LOOK, |act, ctx| act.moved(ctx, addresses));
                    self.wayless = Some(again);
                    return;
                }
            },
        };
        let Ok(house) = self.house(ctx) else { return };
        self.config.account.contact.clone_from(&contact);
        // Policy when a mailbox is full: dialogs keep the old contact until the registration changes, the registration until
        // it is refreshed.
        if let Err(error) = house.dialogs.try_send(self.reach.moved(contact.clone())) {
            tracing::warn!(%error, "the dialog manager did not hear of the new contact");
        }
        if let Err(error) = house.registrar.try_send(Moved { contact }) {
            tracing::warn!(%error, "the registrar client did not hear of the new contact");
        }
        // An interface that came concerns nobody whose own is still there. What is below a relay or a NAT nobody here
        // knows: better once too often.
        let is_broken = |entry: &Entry| {
            entry.local.is_some_and(|local| {
                local.kind != CandidateKind::Host || !addresses.contains(&local.addr.ip())
            })
        };
        let broken = self.calls.iter().filter(|(_, entry)| is_broken(entry));
        for id in broken.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.input(ctx, id, Input::PathBroken);
        }
    }
}
