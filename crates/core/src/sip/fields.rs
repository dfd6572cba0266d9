//! What header fields mean: the typed accessors of [`Headers`].

use super::auth::{challenges, credentials};
use super::name_addr::tag_of;
use super::scan::{digits, excerpt, malformed, trim};
use super::{CSeq, Challenge, Contacts, Credentials, Headers, NameAddr, SessionExpires, SipUri, Uri, Via};
use crate::{Error, Result};
use std::str::FromStr;

impl Headers {
    /// `Call-ID`.
    pub fn call_id(&self) -> Result<&str> {
        let value = self.required("Call-ID")?;
        if value.is_empty() || value.contains([' ', '\t']) {
            let message = format!("Call-ID: \"{}\" is empty or has blanks in it", excerpt(value));
            return Err(malformed(message, "RFC 3261 section 20.8"));
        }
        Ok(value)
    }

    /// `From`.
    pub fn from(&self) -> Result<NameAddr> {
        parse_field("From", self.required("From")?)
    }

    /// `To`.
    pub fn to(&self) -> Result<NameAddr> {
        parse_field("To", self.required("To")?)
    }

    /// The `tag` of From; empty for a peer of RFC 2543, which has none. Cheaper than [`Headers::from`], for the address is not read.
    pub fn from_tag(&self) -> Result<String> {
        tag_of(self.required("From")?).map_err(|error| in_field("From", error))
    }

    /// The `tag` of To; empty outside of a dialog. Cheaper than [`Headers::to`], for the address is not read.
    pub fn to_tag(&self) -> Result<String> {
        tag_of(self.required("To")?).map_err(|error| in_field("To", error))
    }

    /// `CSeq`.
    pub fn cseq(&self) -> Result<CSeq> {
        parse_field("CSeq", self.required("CSeq")?)
    }

    /// All Via values, topmost first.
    pub fn vias(&self) -> Result<Vec<Via>> {
        self.list("Via")
    }

    /// The topmost Via.
    pub fn top_via(&self) -> Result<Via> {
        match self.split_items("Via").next() {
            Some(top) => parse_field("Via", top),
            None => Err(missing("Via")),
        }
    }

    /// The Contact header fields together.
    pub fn contacts(&self) -> Result<Contacts> {
        let mut items = self.split_items("Contact");
        if !items.any(|item| item == "*") {
            return self.list("Contact").map(Contacts::List);
        }
        if self.split_items("Contact").count() > 1 {
            // RFC 3261 section 10.2.2.
            return Err(malformed(
                "Contact: * stands beside other contacts",
                "RFC 3261 section 20.10",
            ));
        }
        Ok(Contacts::All)
    }

    /// The first contact's SIP URI: the remote target of a dialog (RFC 3261 section 12.1).
    pub fn contact_uri(&self) -> Result<SipUri> {
        let item = self
            .split_items("Contact")
            .next()
            .ok_or_else(|| missing("Contact"))?;
        match parse_field::<NameAddr>("Contact", item)?.uri {
            Uri::Sip(uri) => Ok(uri),
            Uri::Other(uri) => {
                let message = format!("Contact: {} is no SIP URI", excerpt(&uri));
                Err(malformed(message, "RFC 3261 section 12.1.1"))
            }
        }
    }

    /// Route values in order.
    pub fn routes(&self) -> Result<Vec<NameAddr>> {
        self.list("Route")
    }

    /// Record-Route values in order.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>> {
        self.list("Record-Route")
    }

    /// `Content-Length`, `None` when absent.
    pub fn content_length(&self) -> Result<Option<usize>> {
        self.number("Content-Length", "octets", "RFC 3261 section 20.14")
    }

    /// `Content-Type` without parameters, in lower case; `None` when absent.
    pub fn content_type(&self) -> Option<String> {
        let value = self.value("Content-Type")?;
        let media = value.split_once(';').map_or(value, |(media, _)| media);
        Some(trim(media).to_ascii_lowercase())
    }

    /// `Expires` in seconds, `None` when absent.
    pub fn expires(&self) -> Result<Option<u32>> {
        self.number("Expires", "seconds below 2^32", "RFC 3261 section 20.19")
    }

    /// `Min-Expires` in seconds, `None` when absent.
    pub fn min_expires(&self) -> Result<Option<u32>> {
        self.number("Min-Expires", "seconds below 2^32", "RFC 3261 section 20.23")
    }

    /// `Max-Forwards`, `None` when absent.
    pub fn max_forwards(&self) -> Result<Option<u8>> {
        self.number("Max-Forwards", "hops up to 255", "RFC 3261 section 20.22")
    }

    /// `Retry-After` in seconds (comment and parameters ignored), `None` when absent.
    pub fn retry_after(&self) -> Result<Option<u32>> {
        let Some(value) = self.value("Retry-After") else {
            return Ok(None);
        };
        let seconds = value.split([' ', '\t', ';', '(']).next().unwrap_or_default();
        read_number(
            "Retry-After",
            seconds,
            "seconds below 2^32",
            "RFC 3261 section 20.33",
        )
        .map(Some)
    }

    /// `Session-Expires` (RFC 4028), `None` when absent.
    pub fn session_expires(&self) -> Result<Option<SessionExpires>> {
        self.value("Session-Expires")
            .map(|value| parse_field("Session-Expires", value))
            .transpose()
    }

    /// `Min-SE` in seconds (RFC 4028), `None` when absent.
    pub fn min_se(&self) -> Result<Option<u32>> {
        // Parameters may follow (RFC 4028 section 5).
        let Some(value) = self.value("Min-SE") else {
            return Ok(None);
        };
        let seconds = value.split(';').next().unwrap_or_default();
        read_number(
            "Min-SE",
            trim(seconds),
            "seconds below 2^32",
            "RFC 4028 section 5",
        )
        .map(Some)
    }

    /// `WWW-Authenticate` values that are Digest challenges; other schemes are skipped.
    pub fn www_challenges(&self) -> Result<Vec<Challenge>> {
        self.digests("WWW-Authenticate", challenges)
    }

    /// `Proxy-Authenticate` values that are Digest challenges; other schemes are skipped.
    pub fn proxy_challenges(&self) -> Result<Vec<Challenge>> {
        self.digests("Proxy-Authenticate", challenges)
    }

    /// `Authorization` values that are Digest credentials; other schemes are skipped.
    pub fn authorizations(&self) -> Result<Vec<Credentials>> {
        self.digests("Authorization", credentials)
    }

    /// `Proxy-Authorization` values that are Digest credentials; other schemes are skipped.
    pub fn proxy_authorizations(&self) -> Result<Vec<Credentials>> {
        self.digests("Proxy-Authorization", credentials)
    }

    fn required(&self, name: &'static str) -> Result<&str> {
        self.value(name).ok_or_else(|| missing(name))
    }

    fn list<T: FromStr<Err = Error>>(&self, name: &'static str) -> Result<Vec<T>> {
        self.split_items(name)
            .map(|item| parse_field(name, item))
            .collect()
    }

    fn number<T: FromStr>(&self, name: &'static str, unit: &str, rule: &'static str) -> Result<Option<T>> {
        self.value(name)
            .map(|value| read_number(name, value, unit, rule))
            .transpose()
    }

    fn digests<T>(&self, name: &'static str, parse: fn(&str) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let mut found = Vec::new();
        for line in self.values(name) {
            found.append(&mut parse(line).map_err(|error| in_field(name, error))?);
        }
        Ok(found)
    }
}

fn parse_field<T: FromStr<Err = Error>>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|error| in_field(name, error))
}

fn read_number<T: FromStr>(name: &str, value: &str, unit: &str, rule: &'static str) -> Result<T> {
    digits(value).ok_or_else(|| {
        malformed(
            format!("{name}: \"{}\" is no number of {unit}", excerpt(value)),
            rule,
        )
    })
}

fn missing(name: &str) -> Error {
    malformed(
        format!("the header field {name} is missing"),
        "RFC 3261 section 20, table 2",
    )
}

/// The same error, with the header field in which it is.
fn in_field(name: &str, error: Error) -> Error {
    let named = Error::new(
        error.fault(),
        error.operation(),
        format!("{name}: {}", error.message()),
    );
    match error.next_step() {
        Some(advice) => named.advice(advice),
        None => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        lines.iter().for_each(|(name, value)| headers.push(*name, value));
        headers
    }

    #[test]
    fn lists_are_read_across_lines_and_commas() {
        let headers = headers(&[
            ("Via", "SIP/2.0/UDP a;branch=1 , SIP/2.0/TCP b"),
            ("v", "SIP/2.0/WS c"),
            ("Record-Route", "<sip:p1;lr>,<sip:p2;lr;x=a,b>"),
            ("Contact", r#""a, b" <sip:x@h>;q=1, <sip:y@h>"#),
        ]);
        let transports: Vec<_> = headers
            .vias()
            .unwrap()
            .into_iter()
            .map(|via| via.transport)
            .collect();
        assert_eq!(transports, ["UDP", "TCP", "WS"]);
        assert_eq!(headers.top_via().unwrap().branch(), Some("1"));
        assert_eq!(headers.record_routes().unwrap().len(), 2);
        assert!(headers.routes().unwrap().is_empty());
        assert_eq!(headers.contact_uri().unwrap().to_string(), "sip:x@h");
        let Contacts::List(contacts) = headers.contacts().unwrap() else {
            panic!("no list")
        };
        assert_eq!(contacts.len(), 2);
    }

    #[test]
    fn a_star_contact_stands_alone() {
        assert_eq!(headers(&[("Contact", "*")]).contacts().unwrap(), Contacts::All);
        assert_eq!(headers(&[]).contacts().unwrap(), Contacts::List(Vec::new()));
        assert!(
            headers(&[("Contact", "*"), ("m", "<sip:a@b>")])
                .contacts()
                .is_err()
        );
        assert!(headers(&[("Contact", "*")]).contact_uri().is_err());
        assert!(headers(&[("Contact", "<tel:+1>")]).contact_uri().is_err());
    }

    #[test]
    fn numbers_are_read_and_their_absence_is_none() {
        let headers = headers(&[
            ("MaX-fOrWaRdS", "0068"),
            ("Expires", "4294967295"),
            ("Retry-After", "18000;duration=3600 (in a meeting)"),
            ("x", "1800;refresher=uas"),
            ("Min-SE", "90;test;y=0"),
            ("l", "0"),
            ("c", "Application/SDP ; level=1"),
        ]);
        assert_eq!(headers.max_forwards().unwrap(), Some(68));
        assert_eq!(headers.expires().unwrap(), Some(u32::MAX));
        assert_eq!(headers.min_expires().unwrap(), None);
        assert_eq!(headers.retry_after().unwrap(), Some(18000));
        assert_eq!(headers.session_expires().unwrap().unwrap().interval, 1800);
        assert_eq!(headers.min_se().unwrap(), Some(90));
        assert_eq!(headers.content_length().unwrap(), Some(0));
        assert_eq!(headers.content_type().as_deref(), Some("application/sdp"));
    }

    #[test]
    fn an_error_names_its_header_field() {
        let headers = headers(&[
            ("CSeq", "one INVITE"),
            ("From", "<sip:a@b"),
            ("Max-Forwards", "300"),
            ("Expires", "never"),
            ("Call-ID", "a b"),
            ("WWW-Authenticate", "Digest realm=\"x"),
        ]);
        let errors = [
            ("CSeq", headers.cseq().unwrap_err()),
            ("From", headers.from().unwrap_err()),
            ("To", headers.to().unwrap_err()),
            ("Via", headers.top_via().unwrap_err()),
            ("Max-Forwards", headers.max_forwards().unwrap_err()),
            ("Expires", headers.expires().unwrap_err()),
            ("Call-ID", headers.call_id().unwrap_err()),
            ("WWW-Authenticate", headers.www_challenges().unwrap_err()),
        ];
        for (name, error) in errors {
            assert!(error.to_string().contains(name), "{name}: {error}");
            assert!(error.next_step().is_some(), "{name}: {error}");
        }
    }

    #[test]
    fn digest_is_found_among_other_schemes() {
        let headers = headers(&[
            ("Authorization", "NoOneKnowsThisScheme opaque-data=here"),
            (
                "Authorization",
                r#"Digest username="a", realm="r", nonce="n", uri="u", response="0""#,
            ),
        ]);
        assert_eq!(headers.authorizations().unwrap().len(), 1);
        assert!(headers.proxy_authorizations().unwrap().is_empty());
    }
}
