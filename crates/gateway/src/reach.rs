//! From how the registration stands to how calls go out and come in: over which flows, and with which contact
//! (RFC 5626 section 4.3, RFC 5627 section 4.4).

use siprtc_core::sip::{Flow, NameAddr, SipUri, Uri};
use siprtc_dialog_manager as dialog;
use siprtc_registrar_client::RegistrationEvent;

/// What the registration has made of the account's contact and flows.
#[derive(Debug)]
pub(crate) struct Reach {
    /// As configured.
    contact: NameAddr,
    /// Nobody can open a connection to us: the registered flows are the only way in, and the best way out.
    connected_only: bool,
    /// What the registrar has said.
    public_gruu: Option<SipUri>,
    outbound: bool,
    now: dialog::Reach,
}

impl Reach {
    pub(crate) fn new(contact: NameAddr, connected_only: bool) -> Self {
        let now = dialog::Reach {
            contact: contact.clone(),
            flows: None,
        };
        Reach {
            contact,
            connected_only,
            public_gruu: None,
            outbound: false,
            now,
        }
    }

    /// This host's addresses changed: what the dialog manager has to be told.
    pub(crate) fn moved(&mut self, contact: NameAddr) -> dialog::Reach {
        self.contact = contact;
        self.now.contact = self.current();
        self.now.clone()
    }

    fn current(&self) -> NameAddr {
        match &self.public_gruu {
            Some(gruu) => NameAddr::new(gruu.clone()),
            None if self.outbound => with_ob(&self.contact),
            None => self.contact.clone(),
        }
    }

    /// What the dialog manager has to be told, if something.
    pub(crate) fn hear(&mut self, event: &RegistrationEvent) -> Option<dialog::Reach> {
        match event {
            RegistrationEvent::Registered {
                flows,
                outbound,
                public_gruu,
                ..
            } => {
                let over_flows = !flows.is_empty() && (*outbound || self.connected_only);
                self.public_gruu.clone_from(public_gruu);
                self.outbound = *outbound;
                self.now = dialog::Reach {
                    contact: self.current(),
                    flows: over_flows.then(|| flows.clone()),
                };
            }
            RegistrationEvent::FlowsChanged { flows } => self.flows(flows)?,
            RegistrationEvent::Unregistered => {
                *self = Reach::new(self.contact.clone(), self.connected_only);
            }
            // A refusal says nothing of the flows: they are there until they are said to be gone.
            RegistrationEvent::Failed { .. }
            | RegistrationEvent::FlowFailed { .. }
            | RegistrationEvent::Refreshed { .. } => return None,
        }
        Some(self.now.clone())
    }

    fn flows(&mut self, flows: &[Flow]) -> Option<()> {
        let known = self.now.flows.as_mut()?;
        known.clear();
        known.extend_from_slice(flows);
        Some(())
    }
}

/// RFC 5626 section 4.3: requests within the dialog shall come over the flow of its first one.
fn with_ob(contact: &NameAddr) -> NameAddr {
    let mut contact = contact.clone();
    if let Uri::Sip(uri) = &mut contact.uri {
        uri.params.set_flag("ob");
    }
    contact
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{FlowId, Transport};
    use siprtc_registrar_client::RegistrationFailure;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn flow(id: u64) -> Flow {
        let addr = SocketAddr::from(([192, 0, 2, 1], 5060));
        Flow {
            id: FlowId(id),
            transport: Transport::Tcp,
            local: addr,
            remote: addr,
        }
    }

    fn registered(flows: &[Flow], outbound: bool, gruu: Option<&str>) -> RegistrationEvent {
        RegistrationEvent::Registered {
            registrar: "sip:p".to_owned(),
            expires: Duration::from_secs(60),
            contacts: 1,
            flows: flows.to_vec(),
            outbound,
            public_gruu: gruu.map(|gruu| gruu.parse().unwrap()),
            temporary_gruu: None,
        }
    }

    fn reach(connected_only: bool) -> Reach {
        Reach::new("<sip:alice@192.0.2.7:5060>".parse().unwrap(), connected_only)
    }

    fn heard(reach: &mut Reach, event: &RegistrationEvent) -> (String, Option<Vec<u64>>) {
        let now = reach.hear(event).unwrap();
        let ids = |flows: Vec<Flow>| flows.iter().map(|flow| flow.id.0).collect();
        (now.contact.to_string(), now.flows.map(ids))
    }

    #[test]
    fn a_plain_registration_changes_nothing() {
        let mut reach = reach(false);
        let told = heard(&mut reach, &registered(&[flow(1)], false, None));
        assert_eq!(told, ("<sip:alice@192.0.2.7:5060>".to_owned(), None));
        assert!(
            reach
                .hear(&RegistrationEvent::FlowsChanged { flows: vec![] })
                .is_none()
        );
    }

    #[test]
    fn with_outbound_calls_go_over_the_flows_and_dialogs_come_back_by_them() {
        let mut reach = reach(false);
        let told = heard(&mut reach, &registered(&[flow(1), flow(2)], true, None));
        assert_eq!(
            told,
            ("<sip:alice@192.0.2.7:5060;ob>".to_owned(), Some(vec![1, 2]))
        );
        let failed = RegistrationEvent::Failed {
            cause: RegistrationFailure::ServerError(500),
            sentence: String::new(),
            retry_in: None,
        };
        assert!(reach.hear(&failed).is_none());
        let told = heard(
            &mut reach,
            &RegistrationEvent::FlowsChanged { flows: vec![flow(2)] },
        );
        assert_eq!(told.1, Some(vec![2]));
        let told = heard(&mut reach, &RegistrationEvent::FlowsChanged { flows: vec![] });
        assert_eq!(
            told.1,
            Some(vec![]),
            "none is left, which is not the same as needing none"
        );
        let told = heard(&mut reach, &RegistrationEvent::Unregistered);
        assert_eq!(told, ("<sip:alice@192.0.2.7:5060>".to_owned(), None));
    }

    #[test]
    fn without_a_listener_calls_go_over_the_flow_whatever_the_registrar_knows() {
        let mut reach = reach(true);
        let told = heard(&mut reach, &registered(&[flow(1)], false, None));
        assert_eq!(told, ("<sip:alice@192.0.2.7:5060>".to_owned(), Some(vec![1])));
    }

    #[test]
    fn another_address_is_another_contact_unless_a_gruu_stands_for_both() {
        let moved = |reach: &mut Reach| reach.moved("<sip:alice@192.0.2.8:5060>".parse().unwrap());
        let mut plain = reach(false);
        assert_eq!(
            moved(&mut plain).contact.to_string(),
            "<sip:alice@192.0.2.8:5060>"
        );
        let mut outbound = reach(false);
        heard(&mut outbound, &registered(&[flow(1)], true, None));
        let told = moved(&mut outbound);
        assert_eq!(told.contact.to_string(), "<sip:alice@192.0.2.8:5060;ob>");
        assert_eq!(
            told.flows.map(|flows| flows.len()),
            Some(1),
            "they say themselves that they are gone"
        );
        let told = heard(&mut outbound, &registered(&[flow(2)], true, None));
        assert_eq!(told.0, "<sip:alice@192.0.2.8:5060;ob>", "and it stays so");
        let gruu = "sip:alice@example.com;gr=urn:uuid:1";
        heard(&mut outbound, &registered(&[flow(2)], true, Some(gruu)));
        assert_eq!(moved(&mut outbound).contact.to_string(), format!("<{gruu}>"));
    }

    #[test]
    fn a_public_gruu_is_the_contact() {
        let mut reach = reach(false);
        let gruu = "sip:alice@example.com;gr=urn:uuid:1";
        let told = heard(&mut reach, &registered(&[flow(1)], true, Some(gruu)));
        assert_eq!(told, (format!("<{gruu}>"), Some(vec![1])));
    }
}
