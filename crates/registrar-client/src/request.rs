//! Writes the REGISTERs of one user agent (RFC 3261 section 10.2).

use crate::RegistrarConfig;
use crate::digest::Keyring;
use siprtc_core::sip::{CSeq, Method, NameAddr, SipRequest, SipUri, Uri};
use std::collections::VecDeque;

/// What stays the same from one REGISTER to the next, and the CSeq that does not.
#[derive(Debug)]
pub(crate) struct Author {
    aor: NameAddr,
    call_id: String,
    contact: NameAddr,
    from_tag: String,
    gruu: bool,
    instance: Option<String>,
    /// Former contacts that the registrar may still hold, the oldest first; at most [`MAX_FORMER`].
    former: VecDeque<Former>,
    reg_id: Option<usize>,
    request_uri: Uri,
    sequence: u32,
    written: NameAddr,
}

/// A contact that is to be removed.
#[derive(Debug)]
struct Former {
    contact: NameAddr,
    /// The last REGISTER does so.
    asked: bool,
}

impl Author {
    /// One Call-ID for the life of the client and CSeq up by one for each REGISTER: that is how a registrar tells old
    /// from new (section 10.2). `call_id` and `from_tag` are fresh random tokens; `reg_id` names the flow among those of
    /// this instance (RFC 5626 section 4.2).
    pub(crate) fn new(
        config: &RegistrarConfig,
        reg_id: Option<usize>,
        call_id: String,
        from_tag: String,
    ) -> Self {
        let contact = full_contact(&config.contact, config.instance.as_deref(), reg_id);
        Author {
            aor: NameAddr::new(config.aor.address_of_record()),
            call_id,
            written: contact.clone(),
            contact,
            from_tag,
            gruu: config.gruu && config.instance.is_some(),
            instance: config.instance.clone(),
            former: VecDeque::new(),
            reg_id,
            request_uri: request_uri(&config.aor).into(),
            sequence: 0,
        }
    }

    /// We are reached at `contact` from now on. `replaces`: the registrar tells our bindings by instance and reg-id, so
    /// that the new one takes the old one's place (RFC 5626 section 6); else the old one is to be removed.
    pub(crate) fn moved(&mut self, contact: &NameAddr, replaces: bool) {
        let now = full_contact(contact, self.instance.as_deref(), self.reg_id);
        let before = std::mem::replace(&mut self.contact, now);
        // Whoever comes back to an address must not remove it.
        self.former
            .retain(|former| former.contact.uri != self.contact.uri);
        if before.uri == self.contact.uri || replaces || self.sequence == 0 {
            return;
        }
        // Policy when there are too many: the oldest is left to expire.
        if self.former.len() >= MAX_FORMER {
            self.former.pop_front();
        }
        self.former.push_back(Former {
            // By its URI: instance and reg-id name the binding that stays, too.
            contact: NameAddr::new(before.uri),
            asked: false,
        });
    }

    /// The last REGISTER was accepted.
    pub(crate) fn accepted(&mut self) {
        self.former.retain(|former| !former.asked);
    }

    /// A REGISTER of our contact for `expires` seconds, 0 to remove it, with credentials where challenges are known.
    /// `outbound`: with our reg-id, if we have one.
    pub(crate) fn write(
        &mut self,
        expires: u32,
        outbound: bool,
        keys: &mut Keyring,
        cnonce: &str,
    ) -> SipRequest {
        self.sequence = self.sequence % MAX_SEQUENCE + 1;
        let mut request = SipRequest::new(Method::Register, self.request_uri.clone());
        let headers = &mut request.headers;
        headers.push("From", self.aor.clone().with_tag(self.from_tag.as_str()));
        headers.push("To", &self.aor);
        headers.push("Call-ID", &self.call_id);
        headers.push(
            "CSeq",
            CSeq {
                sequence: self.sequence,
                method: Method::Register,
            },
        );
        self.written.clone_from(&self.contact);
        let mut contact = self.contact.clone();
        contact.params.set("expires", expires.to_string());
        let outbound = outbound && self.reg_id.is_some();
        if !outbound {
            contact.params.remove("reg-id");
        }
        headers.push("Contact", contact);
        for former in &mut self.former {
            former.asked = true;
            let mut contact = former.contact.clone();
            contact.params.set("expires", "0");
            headers.push("Contact", contact);
        }
        headers.push("Expires", expires);
        // RFC 3327 section 5.1: a proxy on the way may add Path only when we say that we understand it.
        let mut supported = "path".to_owned();
        if outbound {
            supported.push_str(", outbound");
        }
        if self.gruu {
            supported.push_str(", gruu");
        }
        headers.push("Supported", supported);
        keys.authorize(&mut request, cnonce);
        request
    }

    /// The contact of the last REGISTER, without `expires`.
    pub(crate) fn written(&self) -> &NameAddr {
        &self.written
    }

    /// Whether an answer carrying this Call-ID and CSeq number answers our last REGISTER.
    pub(crate) fn is_last(&self, call_id: Option<&str>, sequence: Option<u32>) -> bool {
        call_id.is_none_or(|id| id == self.call_id) && sequence.is_none_or(|number| number == self.sequence)
    }

    /// The domain of the location service, and where REGISTER goes when no registrar is configured.
    pub(crate) fn request_uri(&self) -> &Uri {
        &self.request_uri
    }

    /// The address-of-record.
    pub(crate) fn aor(&self) -> &Uri {
        &self.aor.uri
    }
}

fn full_contact(contact: &NameAddr, instance: Option<&str>, reg_id: Option<usize>) -> NameAddr {
    let mut contact = contact.clone();
    contact.params.remove("expires");
    if let Some(instance) = instance {
        contact.params.set("+sip.instance", format!("<{instance}>"));
    }
    if let Some(reg_id) = reg_id {
        contact.params.set("reg-id", reg_id.to_string());
    }
    contact
}

/// The domain of the location service: no user part (section 10.2).
fn request_uri(aor: &SipUri) -> SipUri {
    let uri = SipUri {
        secure: aor.secure,
        port: aor.port,
        ..SipUri::new(aor.host.clone())
    };
    match aor.transport() {
        Some(transport) => uri.with_transport(transport),
        None => uri,
    }
}

/// Most former contacts that one REGISTER removes: one for each change of address that came before the last was answered.
const MAX_FORMER: usize = 4;

/// Section 8.1.1.5: less than 2^31.
const MAX_SEQUENCE: u32 = (1 << 31) - 1;
