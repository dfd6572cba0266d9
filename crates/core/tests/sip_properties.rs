//! What holds for every input: nothing panics, and what was printed is read back as it was meant.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use siprtc_core::sip::{
    CSeq, Challenge, Credentials, Headers, Host, Limits, Method, NameAddr, Params, SessionExpires,
    SipMessage, SipRequest, SipUri, Uri, Via,
};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;

/// Every SIP message of the corpus.
static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus"));
    let folders = [
        "rfc3327", "rfc3515", "rfc3665", "rfc4475", "rfc4916", "rfc5118", "rfc5626", "sip",
    ];
    let messages: Vec<Vec<u8>> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(corpus.join(folder)).expect("the corpus is missing"))
        .map(|entry| fs::read(entry.expect("a file").path()).expect("a readable file"))
        .collect();
    assert!(messages.len() > 300, "the corpus is incomplete");
    messages
});

/// Calls everything that reads a message.
fn read_everything(octets: Vec<u8>) {
    let Ok(message) = SipMessage::parse(&octets.into(), &Limits::default()) else {
        return;
    };
    let _ = message.validate();
    read_fields(message.headers());
    if let SipMessage::Request(request) = &message {
        read_fields(&request.response(180).headers);
    }
    // Whatever was parsed comes back from its own octets.
    let again = SipMessage::parse(
        &message.to_bytes(),
        &Limits {
            message: usize::MAX,
            ..Limits::default()
        },
    )
    .expect("what was printed can be read");
    assert_eq!(again, with_content_length(message));
}

fn read_fields(headers: &Headers) {
    let _ = (
        headers.call_id(),
        headers.from(),
        headers.to(),
        headers.cseq(),
        headers.vias(),
        headers.top_via(),
    );
    let _ = (
        headers.contacts(),
        headers.contact_uri(),
        headers.routes(),
        headers.record_routes(),
    );
    let _ = (
        headers.content_length(),
        headers.content_type(),
        headers.expires(),
        headers.min_expires(),
    );
    let _ = (
        headers.max_forwards(),
        headers.retry_after(),
        headers.session_expires(),
        headers.min_se(),
    );
    let _ = (headers.www_challenges(), headers.proxy_challenges());
    let _ = (headers.authorizations(), headers.proxy_authorizations());
    for (name, _) in headers.iter() {
        let _ = headers.items(name.as_str());
    }
}

fn with_content_length(mut message: SipMessage) -> SipMessage {
    match &mut message {
        SipMessage::Request(request) => request.headers.set("Content-Length", request.body.len()),
        SipMessage::Response(response) => response.headers.set("Content-Length", response.body.len()),
    }
    message
}

/// Text in which SIP's own characters are frequent.
fn sip_text() -> impl Strategy<Value = String> {
    let pieces = [
        "sip:",
        "sips:",
        "tel:",
        "SIP/2.0/UDP ",
        "Digest ",
        "realm=",
        "\"",
        "\\",
        "<",
        ">",
        ";",
        "=",
        ",",
        ":",
        "@",
        "?",
        "&",
        "%41",
        "%",
        "[",
        "]",
        "::1",
        "192.0.2.1",
        " ",
        "\t",
        "\r\n",
        "\r",
        "\n",
        "\0",
        "*",
        "/",
        "tag",
        "lr",
        "é",
        "1",
        "4294967296",
        "INVITE",
        "alice",
        "example.com",
        "(",
        ")",
        "+",
        "-",
    ];
    let piece = prop_oneof![8 => select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,12}"
}

fn host() -> impl Strategy<Value = Host> {
    let name = "[a-z][a-z0-9-]{0,8}(\\.[a-z][a-z0-9]{0,6}){0,2}".prop_map(Host::Name);
    prop_oneof![name, any::<IpAddr>().prop_map(Host::Ip)]
}

fn params(value: impl Strategy<Value = String>) -> impl Strategy<Value = Params> {
    vec((token(), option::of(value)), 0..4).prop_map(|pairs| {
        let mut params = Params::new();
        for (name, value) in pairs {
            match value {
                Some(value) => params.set(&name, value),
                None => params.set_flag(&name),
            }
        }
        params
    })
}

fn sip_uri() -> impl Strategy<Value = SipUri> {
    let user = option::of(any::<String>().prop_filter("no empty user", |user| !user.is_empty()));
    let headers = option::of("[a-z]{1,5}=[A-Za-z0-9%&=]{0,10}");
    (
        any::<bool>(),
        user,
        option::of("[a-z0-9=+$,&]{0,5}"),
        host(),
        any::<Option<u16>>(),
        params(token()),
        headers,
    )
        .prop_map(|(secure, user, password, host, port, params, headers)| {
            let uri = SipUri {
                secure,
                port,
                params,
                headers,
                ..SipUri::new(host)
            };
            match user {
                Some(user) => SipUri {
                    password,
                    ..uri.with_user(&user)
                },
                None => uri,
            }
        })
}

/// Any text that may stand in a quoted-string: all but line ends.
fn quotable() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace(['\r', '\n'], ""))
}

fn name_addr() -> impl Strategy<Value = NameAddr> {
    let uri = prop_oneof![
        sip_uri().prop_map(Uri::Sip),
        "(tel|urn|http):[A-Za-z0-9+;?=/:,-]{1,20}".prop_map(Uri::Other)
    ];
    (option::of(quotable()), uri, params(quotable())).prop_map(|(display, uri, params)| NameAddr {
        display,
        params,
        ..NameAddr::new(uri)
    })
}

proptest! {
    #[test]
    fn no_octets_make_the_parser_panic(octets in vec(any::<u8>(), 0..600)) {
        read_everything(octets);
    }

    #[test]
    fn no_header_values_make_an_accessor_panic(
        uri in sip_text(),
        values in vec((select(FIELDS.to_vec()), sip_text()), 0..12),
    ) {
        let mut text = String::new();
        let mut headers = Headers::new();
        for (name, value) in &values {
            text.push_str(&format!("{name}: {value}\r\n"));
            headers.push(*name, value);
        }
        read_fields(&headers);
        read_everything(format!("INVITE {uri} SIP/2.0\r\n{text}\r\n").into_bytes());
        read_everything(format!("SIP/2.0 200 {uri}\r\n{text}\r\n").into_bytes());
    }

    #[test]
    fn no_damage_to_a_real_message_makes_the_parser_panic(
        which in any::<Index>(),
        flips in vec((any::<Index>(), any::<u8>()), 0..8),
        cut in option::of(any::<Index>()),
        insert in option::of((any::<Index>(), sip_text())),
    ) {
        let mut octets = which.get(&CORPUS).clone();
        for (at, octet) in flips {
            *at.get_mut(&mut octets) = octet;
        }
        if let Some((at, text)) = insert {
            let at = at.index(octets.len());
            octets.splice(at..at, text.into_bytes());
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(octets.len()));
        }
        read_everything(octets);
    }

    #[test]
    fn no_text_makes_a_value_panic(text in prop_oneof![sip_text(), any::<String>()]) {
        let _ = text.parse::<CSeq>();
        let _ = text.parse::<Challenge>();
        let _ = text.parse::<Credentials>();
        let _ = text.parse::<Host>();
        let _ = text.parse::<Method>();
        let _ = text.parse::<SessionExpires>();
        let _ = Params::parse(&text);
        if let Ok(via) = text.parse::<Via>() {
            prop_assert_eq!(via.to_string().parse::<Via>().unwrap(), via);
        }
        if let Ok(uri) = text.parse::<Uri>() {
            prop_assert_eq!(uri.to_string().parse::<Uri>().unwrap(), uri);
        }
        if let Ok(address) = text.parse::<NameAddr>() {
            prop_assert_eq!(address.to_string().parse::<NameAddr>().unwrap(), address);
        }
    }

    #[test]
    fn a_sip_uri_is_read_as_it_was_printed(uri in sip_uri()) {
        let again: SipUri = uri.to_string().parse().unwrap();
        prop_assert!(again.is_equivalent(&uri));
        prop_assert_eq!(again, uri);
    }

    #[test]
    fn a_user_is_read_as_it_was_put_in(user in any::<String>()) {
        let uri = SipUri::new(Host::Name("h".to_owned())).with_user(&user);
        prop_assert_eq!(uri.decoded_user(), Some(user));
    }

    #[test]
    fn an_address_is_read_as_it_was_printed(address in name_addr()) {
        prop_assert_eq!(address.to_string().parse::<NameAddr>().unwrap(), address);
    }

    #[test]
    fn a_list_of_addresses_comes_apart_at_its_own_commas(addresses in vec(name_addr(), 1..5)) {
        let printed: Vec<String> = addresses.iter().map(NameAddr::to_string).collect();
        let mut headers = Headers::new();
        headers.push("Route", printed.join(", "));
        prop_assert_eq!(headers.routes().unwrap(), addresses);
    }

    #[test]
    fn a_via_is_read_as_it_was_printed(
        transport in token(),
        host in host(),
        port in any::<Option<u16>>(),
        params in params(quotable()),
    ) {
        let via = Via { transport, host, port, params };
        prop_assert_eq!(via.to_string().parse::<Via>().unwrap(), via);
    }

    #[test]
    fn nothing_put_into_a_message_adds_a_header_field(
        method in any::<String>(),
        fields in vec((sip_text(), sip_text()), 0..6),
        uri in sip_uri(),
        body in vec(any::<u8>(), 0..50),
    ) {
        let mut request = SipRequest::new(Method::Other(method + "X"), uri);
        for (name, value) in &fields {
            request.headers.push(format!("X-{name}"), value);
        }
        request.body = Bytes::from(body.clone());
        let octets = request.to_bytes();
        let SipMessage::Request(again) = SipMessage::parse(&octets, &Limits::default()).unwrap() else {
            panic!("no request")
        };
        prop_assert_eq!(again.headers.len(), fields.len() + 1);
        prop_assert_eq!(again.body, body);
    }
}

/// Header fields that some accessor reads.
const FIELDS: [&str; 22] = [
    "Authorization",
    "CSeq",
    "Call-ID",
    "Contact",
    "Content-Length",
    "Content-Type",
    "Date",
    "Expires",
    "From",
    "Max-Forwards",
    "Min-Expires",
    "Min-SE",
    "Proxy-Authenticate",
    "Record-Route",
    "Retry-After",
    "Route",
    "Session-Expires",
    "Supported",
    "To",
    "Via",
    "WWW-Authenticate",
    "Warning",
];
