//! What a stack has changed of a request.

use siprtc_core::sip::{Headers, SipRequest};

/// What differs between a request as sent and as heard, but for what a stack fills in: `received` and `rport` of the first Via (RFC 3261 section 18.2.1).
pub fn difference(sent: &SipRequest, heard: &SipRequest) -> Option<String> {
    if (&sent.method, &sent.uri) != (&heard.method, &heard.uri) {
        return Some(format!(
            "{} {} was delivered as {} {}",
            sent.method, sent.uri, heard.method, heard.uri
        ));
    }
    if sent.body != heard.body {
        return Some(format!(
            "{} octets of body became {}",
            sent.body.len(),
            heard.body.len()
        ));
    }
    let (sent, heard) = (lines(&sent.headers), lines(&heard.headers));
    let differs = |(one, other): (&String, &String)| {
        (one != other).then(|| format!("{one:?} was delivered as {other:?}"))
    };
    if sent.len() != heard.len() {
        return Some(format!(
            "{} header fields became {}: {sent:?}, {heard:?}",
            sent.len(),
            heard.len()
        ));
    }
    sent.iter().zip(&heard).find_map(differs)
}

/// Name and value of each field as written; the first Via by its meaning, without what a stack fills in.
fn lines(headers: &Headers) -> Vec<String> {
    let mut first = true;
    headers
        .iter()
        .map(|(name, value)| {
            if !name.is("Via") || !std::mem::replace(&mut first, false) {
                return format!("{name}: {value}");
            }
            let mut vias = Headers::new();
            vias.push("Via", value);
            let mut vias = vias.vias().unwrap_or_default();
            if let Some(via) = vias.first_mut() {
                via.params.remove("received");
                via.params.remove("rport");
            }
            format!("{name}: {vias:?}")
        })
        .collect()
}
