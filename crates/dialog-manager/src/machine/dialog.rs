//! A dialog's state (RFC 3261 section 12).

use super::replaces::Replaces;
use siprtc_core::Result;
use siprtc_core::sip::{CSeq, Headers, Method, NameAddr, SipRequest, SipResponse, SipUri, Uri};

/// The largest CSeq (RFC 3261 section 8.1.1.5).
const MAX_SEQUENCE: u32 = 0x7fff_ffff;

#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    call_id: String,
    local: NameAddr,
    remote: NameAddr,
    local_sequence: u32,
    remote_sequence: Option<u32>,
    target: Uri,
    routes: Vec<NameAddr>,
    /// It was begun for a `sips:` URI: nothing of it goes out in clear (RFC 3261 section 12.1).
    secure: bool,
}

impl Dialog {
    /// The caller's, from an answer to its INVITE (RFC 3261 section 12.1.2).
    pub(crate) fn of_caller(invite: &SipRequest, sequence: u32, response: &SipResponse) -> Result<Self> {
        let mut routes = response.headers.record_routes()?;
        routes.reverse();
        Ok(Dialog {
            call_id: invite.headers.call_id()?.to_owned(),
            local: invite.headers.from()?,
            remote: response.headers.to()?,
            local_sequence: sequence,
            remote_sequence: None,
            // A Contact is mandatory in a 2xx; old phones forget it in a 180.
            target: contact_of(&response.headers, invite.is_secure()).unwrap_or_else(|| invite.uri.clone()),
            routes,
            secure: invite.is_secure(),
        })
    }

    /// The callee's, from the INVITE (RFC 3261 section 12.1.1).
    pub(crate) fn of_callee(invite: &SipRequest, local_tag: &str) -> Result<Self> {
        Ok(Dialog {
            call_id: invite.headers.call_id()?.to_owned(),
            local: invite.headers.to()?.with_tag(local_tag),
            remote: invite.headers.from()?,
            local_sequence: 0,
            remote_sequence: Some(invite.headers.cseq()?.sequence),
            target: Uri::Sip(as_request_uri(&target_of(invite)?, invite.is_secure())),
            routes: invite.headers.record_routes()?,
            secure: invite.is_secure(),
        })
    }

    /// The peer's tag; empty for a peer of RFC 2543.
    pub(crate) fn remote_tag(&self) -> &str {
        self.remote.tag().unwrap_or_default()
    }

    /// What names it to the peer (RFC 3891 section 6.1): its own tag first.
    pub(crate) fn as_seen_by_peer(&self) -> Replaces {
        Replaces {
            call_id: self.call_id.clone(),
            to_tag: self.remote_tag().to_owned(),
            from_tag: self.local.tag().unwrap_or_default().to_owned(),
            early_only: false,
        }
    }

    /// How the peer is called by somebody else: its contact if that is good everywhere (RFC 5627), else its
    /// address-of-record. A plain contact may be behind a NAT or a proxy; a fork that has not got the dialog says 481.
    pub(crate) fn public_uri(&self) -> Option<SipUri> {
        let contact = self.target.as_sip().filter(|uri| uri.params.contains("gr"));
        let public = contact
            .cloned()
            .or_else(|| Some(self.remote.uri.as_sip()?.address_of_record()));
        public.map(|uri| SipUri { headers: None, ..uri })
    }

    /// Takes the CSeq numbers over from the early dialog that this one confirms.
    pub(crate) fn continue_from(&mut self, early: &Dialog) {
        self.local_sequence = self.local_sequence.max(early.local_sequence);
        self.remote_sequence = early.remote_sequence;
    }

    /// The next request's CSeq is higher than `sequence`.
    pub(crate) fn continue_after(&mut self, sequence: u32) {
        self.local_sequence = self.local_sequence.max(sequence);
    }

    /// Whether a request's CSeq is in order; if so it is the newest one (RFC 3261 section 12.2.2).
    pub(crate) fn take_sequence(&mut self, sequence: u32) -> bool {
        if self.remote_sequence.is_some_and(|last| sequence <= last) {
            return false;
        }
        self.remote_sequence = Some(sequence);
        true
    }

    /// The CSeq of the next request.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.local_sequence = (self.local_sequence + 1).min(MAX_SEQUENCE);
        self.local_sequence
    }

    /// A target refresh was accepted (RFC 3261 section 12.2).
    pub(crate) fn refresh_target(&mut self, headers: &Headers) {
        if let Some(target) = contact_of(headers, self.secure) {
            self.target = target;
        }
    }

    /// The next request, and its CSeq (RFC 3261 section 12.2.1.1).
    pub(crate) fn request(&mut self, method: Method) -> (SipRequest, u32) {
        let sequence = self.next_sequence();
        (self.build(method, sequence), sequence)
    }

    /// The ACK of a 2xx: the INVITE's CSeq and credentials (RFC 3261 section 13.2.2.4).
    pub(crate) fn ack(&self, invite: &SipRequest, sequence: u32) -> SipRequest {
        let mut ack = self.build(Method::Ack, sequence);
        ack.headers.copy_from(&invite.headers, "Authorization");
        ack.headers.copy_from(&invite.headers, "Proxy-Authorization");
        ack
    }

    fn build(&self, method: Method, sequence: u32) -> SipRequest {
        let (uri, routes) = self.path();
        let mut request = SipRequest::new(method.clone(), uri);
        for route in routes {
            request.headers.push("Route", route);
        }
        request.headers.push("From", &self.local);
        request.headers.push("To", &self.remote);
        request.headers.push("Call-ID", &self.call_id);
        request.headers.push("CSeq", CSeq { sequence, method });
        request
    }

    /// Request-URI and Route: a strict router (without `lr`) wants to be the Request-URI, and the remote target goes
    /// last (RFC 3261 section 12.2.1.1).
    fn path(&self) -> (Uri, Vec<NameAddr>) {
        let strict = self.routes.split_first().and_then(|(first, rest)| {
            let router = first.uri.as_sip().filter(|uri| !uri.is_loose_router())?;
            Some((router, rest))
        });
        match strict {
            Some((router, rest)) => {
                let last = NameAddr::new(self.target.clone());
                let routes = rest.iter().cloned().chain([last]).collect();
                (Uri::Sip(as_request_uri(router, self.secure)), routes)
            }
            None => (self.target.clone(), self.routes.clone()),
        }
    }
}

/// RFC 3261 section 12.1.1. RFC 2543 did not ask for a Contact: a peer of its time is reached where its From says.
fn target_of(invite: &SipRequest) -> Result<SipUri> {
    let branch = invite.headers.top_via()?.branch().map(str::to_owned);
    let modern = branch.is_some_and(|branch| branch.starts_with("z9hG4bK"));
    match invite.headers.from()?.uri {
        Uri::Sip(from) if !modern && !invite.headers.contains("Contact") => Ok(from),
        _ => invite.headers.contact_uri(),
    }
}

fn contact_of(headers: &Headers, secure: bool) -> Option<Uri> {
    headers
        .contact_uri()
        .ok()
        .map(|uri| Uri::Sip(as_request_uri(&uri, secure)))
}

/// Without what a Request-URI may not have (RFC 3261 table 1); `secure`: with the `sips:` that a peer may have forgotten
/// in its Contact (RFC 5630 section 4).
fn as_request_uri(uri: &SipUri, secure: bool) -> SipUri {
    let mut uri = SipUri {
        headers: None,
        secure: uri.secure || secure,
        ..uri.clone()
    };
    uri.params.remove("method");
    uri
}
