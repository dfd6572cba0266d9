//! The way out for requests outside a dialog: a registered flow (RFC 5626 section 4.3), the outbound proxy, or what the
//! request itself says.

use super::Scope;
use siprtc_core::sip::{Flow, FlowId, Route, SipRequest, SipUri, Transport, Uri};
use siprtc_core::{Error, Fault, Result};

/// The registered flows that are left, best first; `None` when requests do not have to go over one.
#[derive(Clone, Debug, Default)]
pub(super) struct Flows(Option<Vec<Flow>>);

impl Flows {
    pub(super) fn new(flows: Option<Vec<Flow>>) -> Self {
        Flows(flows)
    }

    /// It is gone: the next one is taken from now on.
    pub(super) fn forget(&mut self, id: FlowId) {
        if let Some(flows) = &mut self.0 {
            flows.retain(|flow| flow.id != id);
        }
    }

    /// The best WebSocket among them.
    pub(super) fn websocket(&self) -> Option<FlowId> {
        let is_websocket = |flow: &&Flow| matches!(flow.transport, Transport::Ws | Transport::Wss);
        self.0.iter().flatten().find(is_websocket).map(|flow| flow.id)
    }

    pub(super) fn are_used(&self) -> bool {
        self.0.is_some()
    }

    fn first_for(&self, request: &SipRequest) -> Option<Flow> {
        let flows = self.0.iter().flatten();
        flows
            .copied()
            .find(|flow| flow.transport.is_secure() || !request.is_secure())
    }
}

impl Scope {
    /// Where a request outside a dialog goes, and how a person calls that place.
    pub(super) fn way_out(&self, request: &SipRequest) -> Result<(Route, String)> {
        let outbound = self.config.account.outbound.clone();
        let place = outbound
            .as_ref()
            .map_or_else(|| request.uri.to_string(), ToString::to_string);
        if self.flows.are_used() {
            return match self.flows.first_for(request) {
                Some(flow) => Ok((Route::over(flow.id), place)),
                None => Err(no_flow(request, &place)),
            };
        }
        let route = outbound.map_or_else(Route::by_request, Route::via);
        route.refuse_downgrade(request)?;
        Ok((route, place))
    }
}

impl Scope {
    /// Whether a request outside a dialog goes over UDP, as far as its way says; where a name is still to be looked up, it
    /// may.
    pub(super) fn is_datagram(&self, request: &SipRequest) -> bool {
        if self.flows.are_used() {
            let flow = self.flows.first_for(request);
            return flow.is_some_and(|flow| flow.transport == Transport::Udp);
        }
        let over = |uri: &SipUri| uri.hop_transport() == Transport::Udp;
        match (&self.config.account.outbound, &request.uri) {
            (Some(outbound), _) => over(outbound),
            (None, Uri::Sip(uri)) => over(uri),
            (None, Uri::Other(_)) => false,
        }
    }
}

fn no_flow(request: &SipRequest, place: &str) -> Error {
    let what = match request.is_secure() {
        true => format!(
            "{} asks for TLS and no registered flow to {place} has it",
            request.uri
        ),
        false => format!("no flow to {place} is up"),
    };
    Error::new(Fault::Backend, "invite", what)
        .advice("wait until the account is registered again; the registration says what is wrong")
}
