//! Replaces and Join: a dialog's name in a header field (RFC 3891, RFC 3911), and in a URI (RFC 3261 section 19.1.1).

use super::words::is_one_line;
use siprtc_core::sip::{Headers, SipUri};
use std::fmt;

/// The dialog that an INVITE names, as its recipient knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Replaces {
    pub(crate) call_id: String,
    /// The recipient's tag.
    pub(crate) to_tag: String,
    /// The other's.
    pub(crate) from_tag: String,
    /// Only as long as nobody has answered.
    pub(crate) early_only: bool,
}

impl Replaces {
    /// The one in `headers`, whose name is Replaces or Join; 400 for several, or one that cannot be read.
    pub(crate) fn of(headers: &Headers, name: &str) -> Result<Option<Self>, u16> {
        let mut values = headers.values(name);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        match values.next() {
            Some(_) => Err(400),
            None => Replaces::parse(value).map(Some).ok_or(400),
        }
    }

    pub(crate) fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let call_id = parts.next().filter(|id| !id.is_empty() && is_one_line(id))?;
        let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "to-tag" => to_tag = Some(value.trim()),
                "from-tag" => from_tag = Some(value.trim()),
                "early-only" => early_only = true,
                _ => {}
            }
        }
        Some(Replaces {
            call_id: call_id.to_owned(),
            to_tag: to_tag.filter(|tag| !tag.is_empty())?.to_owned(),
            from_tag: from_tag.filter(|tag| !tag.is_empty())?.to_owned(),
            early_only,
        })
    }

    /// `uri` with this in the header part of it.
    pub(crate) fn within(&self, uri: SipUri) -> SipUri {
        within(&self.to_string(), uri)
    }

    /// What the header part of a URI says; `Err` when it has a Replaces that cannot be read. Whatever else a Refer-To wants to
    /// have in our INVITE is left out.
    pub(crate) fn of_uri(uri: &SipUri) -> Result<Option<Self>, u16> {
        let fields = uri.headers.as_deref().unwrap_or_default().split('&');
        let named = |field: &str| {
            let (name, value) = field.split_once('=')?;
            name.eq_ignore_ascii_case("Replaces").then(|| value.to_owned())
        };
        match fields.filter_map(named).next() {
            None => Ok(None),
            Some(value) => unescape(&value)
                .and_then(|value| Replaces::parse(&value))
                .map(Some)
                .ok_or(400),
        }
    }
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replaces {
            call_id,
            to_tag,
            from_tag,
            early_only,
        } = self;
        write!(f, "{call_id};to-tag={to_tag};from-tag={from_tag}")?;
        f.write_str(if *early_only { ";early-only" } else { "" })
    }
}

/// `uri` with a Replaces of this value in its header part.
pub(crate) fn within(name: &str, uri: SipUri) -> SipUri {
    SipUri {
        headers: Some(format!("Replaces={}", escape(name))),
        ..uri
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => escaped.push(byte as char),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        plain.push(u8::try_from(high * 16 + low).ok()?);
    }
    let plain = String::from_utf8(plain).ok()?;
    is_one_line(&plain).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogs_name_goes_into_a_uri_and_comes_out_of_it() {
        let name =
            Replaces::parse("98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff;early-only").unwrap();
        assert_eq!(
            (name.to_tag.as_str(), name.from_tag.as_str()),
            ("ff87ff", "r33th4x0r")
        );
        assert!(name.early_only);
        let uri = name.within("sip:bob@example.com;transport=tcp".parse().unwrap());
        let written: SipUri = uri.to_string().parse().unwrap();
        assert_eq!(Replaces::of_uri(&written), Ok(Some(name)));
    }

    #[test]
    fn what_names_no_dialog_is_refused() {
        for value in [
            "",
            "id",
            "id;to-tag=1",
            "id;from-tag=1",
            "id;to-tag=;from-tag=2",
            ";to-tag=1;from-tag=2",
        ] {
            assert_eq!(Replaces::parse(value), None, "{value}");
        }
        for headers in [
            "Replaces=%0D%0Aid%3Bto-tag%3D1%3Bfrom-tag%3D2",
            "Replaces=%4",
            "replaces=id",
        ] {
            let uri = SipUri {
                headers: Some(headers.to_owned()),
                ..SipUri::from_addr("192.0.2.1:5060".parse().unwrap())
            };
            assert_eq!(Replaces::of_uri(&uri), Err(400), "{headers}");
        }
        let mut headers = Headers::new();
        headers.push("Replaces", "id;to-tag=1;from-tag=2");
        headers.push("Replaces", "id;to-tag=1;from-tag=2");
        assert_eq!(Replaces::of(&headers, "Replaces"), Err(400));
    }
}
