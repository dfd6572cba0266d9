//! `sips:` goes over TLS or not at all (RFC 3261 section 26.2.2, RFC 5630).

use super::{Route, SipRequest, SipUri, Uri};
use crate::{Error, Fault, Result};

impl SipRequest {
    /// Whether it asks for TLS on its way: its Request-URI is `sips:`.
    pub fn is_secure(&self) -> bool {
        self.uri.as_sip().is_some_and(|uri| uri.secure)
    }
}

impl Route {
    /// Refuses to let a request for a `sips:` URI go out in clear. A flow is not looked at: whoever names one knows its
    /// transport.
    ///
    /// # Errors
    /// [`Fault::PeerIncompatible`], naming the hop.
    pub fn refuse_downgrade(&self, request: &SipRequest) -> Result<()> {
        if !request.is_secure() || self.flow.is_some() {
            return Ok(());
        }
        let top = || request.headers.routes().ok()?.into_iter().next();
        let hop: Option<SipUri> = match (&self.next_hop, top()) {
            (Some(hop), _) => Some(hop.clone()),
            (None, Some(top)) => top.uri.as_sip().cloned(),
            (None, None) => request.uri.as_sip().cloned(),
        };
        if hop.as_ref().is_some_and(|hop| hop.hop_transport().is_secure()) {
            return Ok(());
        }
        let named = hop.map_or_else(|| "its next hop".to_owned(), |hop| hop.to_string());
        let uri: &Uri = &request.uri;
        Err(Error::new(
            Fault::PeerIncompatible,
            "send request",
            format!("{uri} asks for TLS and {named} is reached without it"),
        )
        .advice("use a next hop with transport=tls or wss, or a sip: address: sips: is never downgraded"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Method, Transport};

    fn request(uri: &str) -> SipRequest {
        SipRequest::new(Method::Invite, uri.parse::<Uri>().unwrap())
    }

    fn via(hop: &str) -> Route {
        Route::via(hop.parse().unwrap())
    }

    #[test]
    fn a_sips_request_goes_over_tls_and_wss_only() {
        let secure = request("sips:bob@example.com");
        for hop in [
            "sips:p.example.com",
            "sip:p.example.com;transport=tls",
            "sip:p;transport=wss",
            "sips:p;transport=ws",
        ] {
            assert!(via(hop).refuse_downgrade(&secure).is_ok(), "{hop}");
        }
        for hop in [
            "sip:p.example.com",
            "sip:p;transport=tcp",
            "sip:p;transport=ws",
            "sips:p;transport=udp",
        ] {
            let error = via(hop).refuse_downgrade(&secure).unwrap_err();
            assert!(error.to_string().contains(hop), "{error}");
            assert!(
                via(hop).refuse_downgrade(&request("sip:bob@example.com")).is_ok(),
                "{hop}"
            );
        }
    }

    #[test]
    fn the_topmost_route_counts_before_the_request_uri() {
        let mut secure = request("sips:bob@example.com");
        assert!(Route::by_request().refuse_downgrade(&secure).is_ok());
        secure.headers.push("Route", "<sip:p.example.com;lr>");
        assert!(Route::by_request().refuse_downgrade(&secure).is_err());
        secure.headers.set("Route", "<sips:p.example.com;lr>");
        assert!(Route::by_request().refuse_downgrade(&secure).is_ok());
    }

    #[test]
    fn a_uri_says_its_transport() {
        for (uri, transport) in [
            ("sip:a", Transport::Udp),
            ("sips:a", Transport::Tls),
            ("sip:a;transport=tcp", Transport::Tcp),
            ("sips:a;transport=tcp", Transport::Tls),
            ("sip:a;transport=ws", Transport::Ws),
            ("sips:a;transport=ws", Transport::Wss),
            ("sip:a;transport=wss", Transport::Wss),
        ] {
            assert_eq!(uri.parse::<SipUri>().unwrap().hop_transport(), transport, "{uri}");
        }
    }
}
