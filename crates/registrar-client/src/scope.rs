//! What every flow needs of the machine around it.

use crate::entropy::Entropy;
use crate::io::Output;
use crate::pace::Pace;
use siprtc_core::sip::{Feature, FlowId, Keepalive, SipCapability, Transport, TxIds};
use std::collections::VecDeque;
use std::time::Instant;

/// Shared by all flows of one registration.
pub(crate) struct Scope {
    pub(crate) abilities: Abilities,
    pub(crate) entropy: Entropy,
    pub(crate) ids: TxIds,
    pub(crate) now: Instant,
    /// Another flow than the one that is being handled is registered.
    pub(crate) others_up: bool,
    pub(crate) outputs: VecDeque<Output>,
    /// One for all, so that a registrar is not flooded by several flows either.
    pub(crate) pace: Pace,
}

impl Scope {
    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Closes a dead flow, where the stack can.
    pub(crate) fn close(&mut self, flow: FlowId) {
        if self.abilities.flow_control {
            self.push(Output::CloseFlow(flow));
        }
    }
}

/// What the stack below can do for a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Abilities {
    /// It tells of the answers to its keepalives.
    pub(crate) answers: bool,
    /// It opens and closes connections as it is told.
    pub(crate) flow_control: bool,
    crlf: bool,
    stun: bool,
}

impl Abilities {
    pub(crate) fn of(capability: &SipCapability) -> Self {
        Abilities {
            answers: capability.gap(Feature::KeepaliveAnswers).is_none(),
            flow_control: capability.gap(Feature::FlowControl).is_none(),
            crlf: capability.keepalives.contains(&Keepalive::Crlf),
            stun: capability.keepalives.contains(&Keepalive::Stun),
        }
    }

    /// How a flow is kept alive (RFC 5626 section 3.5), if it can be.
    pub(crate) fn keepalive(self, transport: Transport) -> Option<Keepalive> {
        match transport {
            Transport::Udp => self.stun.then_some(Keepalive::Stun),
            _ => self.crlf.then_some(Keepalive::Crlf),
        }
    }
}
