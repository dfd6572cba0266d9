//! What the other actors say.

use super::Gateway;
use crate::calls::Entry;
use crate::machine::{Command, Input};
use crate::messages::*;
use actix::prelude::*;
use siprtc_core::CallId;
use siprtc_core::ice::IceState;
use siprtc_core::media::MediaEvent;
use siprtc_dialog_manager::{self as dialog, DialogEvent, DialogEventKind, Note, Side};
use siprtc_media_session::{SessionEvent, SessionEventKind, Talker};
use siprtc_nat_agent::NatEvent;
use siprtc_registrar_client::RegistrationEvent;
use std::time::Duration;

impl Gateway {
    /// The status of an INVITE that finds no room: 486, or 480 once we are leaving.
    fn full(&self) -> Option<u16> {
        match self.calls.len() >= self.config.max_calls {
            _ if self.closing => Some(480),
            true => Some(486),
            false => None,
        }
    }
}

impl Gateway {
    /// A digit in an INFO. A peer that sends it as telephone-event, too, is heard once.
    fn heard_digit(&mut self, id: CallId, digit: char, duration: Duration) {
        let has_event = self.calls.get(&id).is_some_and(|entry| entry.telephone_event);
        if self.config.control.dtmf.is_info(has_event) {
            self.tell(id, CallEventKind::Dtmf { digit, duration });
        }
    }

    fn heard_message(&mut self, id: CallId, note: Note) {
        match self.calls.contains_key(&id) {
            true => self.tell(id, CallEventKind::Message(note)),
            false => self.tell_all(GatewayEvent::Message(note)),
        }
    }
}

impl Handler<DialogEvent> for Gateway {
    type Result = ();

    fn handle(&mut self, event: DialogEvent, ctx: &mut Context<Self>) {
        let id = event.call;
        match &event.kind {
            DialogEventKind::Delivered { status } => return self.delivered(id, *status),
            DialogEventKind::Dtmf { digit, duration } => return self.heard_digit(id, *digit, *duration),
            DialogEventKind::Message(note) => return self.heard_message(id, note.clone()),
            kind if self.heard_of_asking(id, kind) => return,
            kind if self.heard_of_subscription(id, kind) || self.heard_of_referral(id, kind) => return,
            _ => {}
        }
        if let DialogEventKind::Incoming { replaces, .. } = &event.kind {
            // The dialog manager counts dialogs; a call that still gathers or still closes has none.
            if let Some(status) = self.full() {
                return self.command(ctx, id, Command::Refuse, dialog::Reject { call: id, status });
            }
            let mut entry = Entry::new(id, "callee", MediaPlan::default());
            entry.replaces = *replaces;
            self.admit(id, entry);
        }
        if let DialogEventKind::Incoming { sip_call_id, .. } | DialogEventKind::Started { sip_call_id } =
            &event.kind
        {
            self.span(id).record("sip_call_id", sip_call_id.as_str());
            self.tell(
                id,
                CallEventKind::Signalling {
                    sip_call_id: sip_call_id.clone(),
                },
            );
        }
        self.input(ctx, id, Input::Dialog(event.kind));
    }
}

impl Handler<SessionEvent> for Gateway {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, ctx: &mut Context<Self>) {
        let id = event.call;
        // What a replaced or closing peer still says concerns nobody.
        let current = self.calls.get(&id).and_then(|entry| entry.session.as_ref());
        if current.is_none_or(|(session, _)| *session != event.session) {
            return;
        }
        let kind = match event.kind {
            SessionEventKind::Media(MediaEvent::Failed(text)) => {
                self.input(ctx, id, Input::MediaLost(text));
                return;
            }
            SessionEventKind::Media(MediaEvent::Candidate(candidate)) => {
                self.input(ctx, id, Input::Candidate(candidate));
                return;
            }
            SessionEventKind::Media(MediaEvent::Gathered) => {
                self.input(ctx, id, Input::Gathered);
                return;
            }
            SessionEventKind::Media(MediaEvent::Connected) => CallEventKind::Connected,
            SessionEventKind::Media(MediaEvent::Ice(state)) => {
                match state {
                    IceState::Connected => _ = self.input(ctx, id, Input::PathUp),
                    IceState::Disconnected => _ = self.input(ctx, id, Input::PathBroken),
                    _ => {}
                }
                CallEventKind::Ice(state)
            }
            SessionEventKind::Media(MediaEvent::VideoFailed(why)) => CallEventKind::VideoFailed(why),
            SessionEventKind::Media(MediaEvent::Selected(pair)) => {
                if let Some(entry) = self.calls.get_mut(&id) {
                    entry.local = Some(pair.local);
                }
                CallEventKind::Selected(pair)
            }
            SessionEventKind::FirstPacketSent => CallEventKind::FirstPacket { inbound: false },
            SessionEventKind::FirstPacketReceived => CallEventKind::FirstPacket { inbound: true },
            SessionEventKind::FirstFrameReceived => CallEventKind::FirstFrame,
            SessionEventKind::SourceEnded => CallEventKind::SourceEnded,
            SessionEventKind::VideoBridged {
                with,
                from_peer,
                to_peer,
            } => CallEventKind::VideoBridged {
                with,
                from_peer,
                to_peer,
            },
            SessionEventKind::VideoSourceEnded => CallEventKind::VideoSourceEnded,
            SessionEventKind::Dtmf { digit, duration } => CallEventKind::Dtmf { digit, duration },
            SessionEventKind::SinkFailed { error } => CallEventKind::SinkFailed(error),
            SessionEventKind::SourceFailed { error } => CallEventKind::SourceFailed(error),
            SessionEventKind::NoMedia { since } => CallEventKind::Silent(since),
            SessionEventKind::Quiet { who, since } => CallEventKind::Quiet { by: side(who), since },
            SessionEventKind::Voice { who } => CallEventKind::Voice { by: side(who) },
            SessionEventKind::Bridged {
                with,
                from_peer,
                to_peer,
            } => CallEventKind::Bridged {
                with,
                from_peer,
                to_peer,
            },
            SessionEventKind::Parted { by, hang_up } => {
                self.tell(id, CallEventKind::Parted(by));
                if hang_up {
                    self.input(ctx, id, Input::Hangup);
                }
                return;
            }
            _ => return,
        };
        self.tell(id, kind);
    }
}

fn side(who: Talker) -> Side {
    match who {
        Talker::Peer => Side::Remote,
        Talker::Us => Side::Local,
    }
}

impl Handler<RegistrationEvent> for Gateway {
    type Result = ();

    fn handle(&mut self, event: RegistrationEvent, ctx: &mut Context<Self>) {
        if let (Some(reach), Ok(house)) = (self.reach.hear(&event), self.house(ctx)) {
            // Policy when its mailbox is full: calls go out the way they did; the next change of the registration says
            // it all again.
            if let Err(error) = house.dialogs.try_send(reach) {
                tracing::warn!(%error, "the dialog manager did not hear of the registration");
            }
        }
        self.tell_all(GatewayEvent::Registration(event));
    }
}

impl Handler<NatEvent> for Gateway {
    type Result = ();

    fn handle(&mut self, event: NatEvent, ctx: &mut Context<Self>) {
        if let NatEvent::AddressesChanged(addresses) = &event {
            self.moved(ctx, addresses.clone());
        }
        self.tell_all(GatewayEvent::Nat(event));
    }
}
