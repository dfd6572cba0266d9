//! TLS: who is trusted, and what is said to a user whose peer is not.

use super::certificates::{self, Authority, good};
use super::line::{Line, Port};
use super::{Network, Setting, config, hears, listener, respond, start_one, why_not};
use crate::sip::{RecordingSink, answer, request};
use siprtc_core::sip::{
    Method, Route, SipStack, SipUri, StackConfig, TlsConfig, TlsIdentity, Transport, TxIds, TxOwner,
};
use std::sync::Arc;
use std::time::Duration;

/// TLS: who is trusted, and what is said to a user whose peer is not.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_tls {
    ($then:ident $given:tt) => {
        $crate::$then! { $given tls
            a_certificate_of_an_unknown_authority_is_refused
                Alone [Tls Wss] []
                "RFC 5922 7.2" "Without its authority a server is not trusted, and the user reads why.";
            an_expired_certificate_is_refused
                Alone [Tls Wss] []
                "RFC 5922 7.2" "A server whose certificate has expired is not trusted, and the user reads why.";
            a_certificate_for_another_name_is_refused
                Alone [Tls Wss] []
                "RFC 5922 7.3" "A server whose certificate is for somebody else is not trusted, and the user reads why.";
            the_server_name_is_what_the_certificate_must_be_for
                Alone [Tls Wss] []
                "RFC 5922 7.1" "A next hop that was resolved to an address is verified by the name that it was resolved from.";
            verification_can_be_switched_off
                Alone [Tls Wss] []
                "RFC 5922 7.2" "With verify = false any certificate will do.";
            a_client_certificate_is_shown_when_asked_for
                Alone [Tls Wss] []
                "RFC 5922 7.4" "A server that wants a certificate gets the stack's.";
            a_client_without_a_certificate_is_refused_where_one_is_asked_for
                Alone [Tls Wss] []
                "RFC 5922 7.5" "A listener with a client authority serves nobody without a certificate of it.";
            a_sips_uri_goes_over_tls
                Alone [Tls] []
                "RFC 3261 26.2.2" "A request to a sips URI goes over TLS, without a transport parameter.";
            a_sips_uri_never_goes_in_the_clear
                Alone [Tls] []
                "RFC 3261 26.2.2" "A sips URI whose port speaks plain TCP, or asks for it, is an error, and nothing readable is sent.";
            plain_text_at_the_tls_port_harms_nobody
                Alone [Tls Wss] []
                "RFC 3261 18.3" "A request in the clear at a TLS port is not heard, and others are served.";
        }
    };
}

/// A stack that trusts as `tls` says.
async fn stack(on: &Setting, tls: TlsConfig) -> (Arc<dyn SipStack>, Arc<RecordingSink>) {
    let hears = hears();
    let config = StackConfig {
        tls,
        ..config(on.network)
    };
    (start_one(&on.alice, config, hears.clone()).await, hears)
}

/// What the user reads when the server shows `identity`; nothing may be heard there.
async fn refused(on: &Setting, identity: TlsIdentity) -> String {
    let (stack, hears) = stack(on, good()).await;
    let shown = TlsConfig {
        identity: Some(identity),
        ..good()
    };
    let mut port = Port::open_with(on.network, certificates::server(&shown)).await;
    let asked = request(Method::Options, port.uri());
    let why = why_not(&*stack, &hears, asked, Route::by_request()).await;
    port.expect_no_message().await;
    stack.shutdown(Duration::ZERO).await;
    why
}

fn about_certificates(why: &str) {
    assert!(
        why.to_lowercase().contains("certificate"),
        "the user reads only: {why}"
    );
}

pub(super) async fn a_certificate_of_an_unknown_authority_is_refused(on: Setting) {
    let stranger = Authority::new("somebody else's authority").identity(&["127.0.0.1", "localhost"], false);
    about_certificates(&refused(&on, stranger).await);
}

pub(super) async fn an_expired_certificate_is_refused(on: Setting) {
    let expired = certificates::authority().identity(&["127.0.0.1", "localhost"], true);
    let why = refused(&on, expired).await;
    about_certificates(&why);
    assert!(why.contains("expired"), "the user reads only: {why}");
}

pub(super) async fn a_certificate_for_another_name_is_refused(on: Setting) {
    let other = certificates::authority().identity(&["sip.example.com", "192.0.2.1"], false);
    about_certificates(&refused(&on, other).await);
}

/// A request to `port` by `route` arrives and is answered.
async fn passes(stack: &dyn SipStack, hears: &RecordingSink, port: &mut Port, to: SipUri, route: Route) {
    let tx = TxIds::new(TxOwner::user(1)).mint();
    let sent = stack.send_request(tx, request(Method::Options, to), route).await;
    sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
    let mut line = port.accept().await;
    let asked = line.expect(Method::Options).await;
    line.send(&answer(&asked, 200, "far").to_bytes()).await;
    hears.expect_response(200).await;
}

pub(super) async fn the_server_name_is_what_the_certificate_must_be_for(on: Setting) {
    let (stack, hears) = stack(&on, good()).await;
    let named = certificates::authority().identity(&["sip.example.com"], false);
    let shown = TlsConfig {
        identity: Some(named),
        ..good()
    };
    let mut port = Port::open_with(on.network, certificates::server(&shown)).await;
    let route = Route {
        server_name: Some("sip.example.com".to_owned()),
        ..Route::via(port.uri())
    };
    let to: SipUri = "sip:bob@sip.example.com".parse().unwrap();
    passes(&*stack, &hears, &mut port, to.clone(), route).await;
    let mut other = Port::open_with(on.network, certificates::server(&shown)).await;
    let route = Route {
        server_name: Some("sip.example.net".to_owned()),
        ..Route::via(other.uri())
    };
    let asked = request(Method::Options, to);
    about_certificates(&why_not(&*stack, &hears, asked, route).await);
    other.expect_no_message().await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn verification_can_be_switched_off(on: Setting) {
    let careless = TlsConfig {
        verify: false,
        ..good()
    };
    let (stack, hears) = stack(&on, careless).await;
    let stranger = Authority::new("somebody else's authority").identity(&["192.0.2.1"], true);
    let shown = TlsConfig {
        identity: Some(stranger),
        ..good()
    };
    let mut port = Port::open_with(on.network, certificates::server(&shown)).await;
    let to = port.uri();
    passes(&*stack, &hears, &mut port, to, Route::by_request()).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_client_certificate_is_shown_when_asked_for(on: Setting) {
    let (stack, hears) = stack(&on, good()).await;
    let asking = TlsConfig {
        client_ca: good().ca,
        ..good()
    };
    let mut port = Port::open_with(on.network, certificates::server(&asking)).await;
    let to = port.uri();
    passes(&*stack, &hears, &mut port, to, Route::by_request()).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_client_without_a_certificate_is_refused_where_one_is_asked_for(on: Setting) {
    let asking = TlsConfig {
        client_ca: good().ca,
        ..good()
    };
    let (bob, bob_hears) = stack(&on, asking.clone()).await;
    let to = SipUri::from_addr(bob.listeners()[0].bound).with_transport(on.network.transport());
    // With a certificate of the authority.
    let (alice, alice_hears) = stack(&on, good()).await;
    ask_and_serve((&*alice, &alice_hears), (&*bob, &bob_hears), to.clone()).await;
    // Without one, and with a stranger's.
    let stranger = Authority::new("somebody else's authority").identity(&["localhost"], false);
    for identity in [None, Some(stranger)] {
        let config = StackConfig {
            listeners: vec![listener(Network::Udp)],
            tls: TlsConfig { identity, ..good() },
            ..config(on.network)
        };
        let carol_hears = hears();
        let carol = start_one(&on.alice, config, carol_hears.clone()).await;
        let asked = request(Method::Options, to.clone());
        why_not(&*carol, &carol_hears, asked, Route::by_request()).await;
        carol.shutdown(Duration::ZERO).await;
    }
    bob_hears.expect_silence(Duration::ZERO).await;
    ask_and_serve((&*alice, &alice_hears), (&*bob, &bob_hears), to).await;
    alice.shutdown(Duration::ZERO).await;
    bob.shutdown(Duration::ZERO).await;
}

async fn ask_and_serve(
    alice: (&dyn SipStack, &RecordingSink),
    bob: (&dyn SipStack, &RecordingSink),
    to: SipUri,
) {
    let tx = TxIds::new(TxOwner::user(3)).mint();
    let sent = alice
        .0
        .send_request(tx, request(Method::Options, to), Route::by_request())
        .await;
    sent.unwrap_or_else(|error| panic!("the request was not sent: {error}"));
    let (served, heard, _) = bob.1.expect_request(Method::Options).await;
    respond(bob.0, served, &heard, 200).await;
    alice.1.expect_response(200).await;
    alice.1.expect_ended(tx).await;
}

pub(super) async fn a_sips_uri_goes_over_tls(on: Setting) {
    let (stack, hears) = stack(&on, good()).await;
    let mut port = Port::open(on.network).await;
    let to: SipUri = format!("sips:bob@{}", port.address()).parse().unwrap();
    passes(&*stack, &hears, &mut port, to, Route::by_request()).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_sips_uri_never_goes_in_the_clear(on: Setting) {
    let hears = hears();
    let both = StackConfig {
        listeners: [Network::Udp, Network::Tcp, on.network].map(listener).to_vec(),
        ..config(on.network)
    };
    let stack = start_one(&on.alice, both, hears.clone()).await;
    let mut plain = Port::open(Network::Tcp).await;
    let to: SipUri = format!("sips:bob@{}", plain.address()).parse().unwrap();
    let eavesdrop = async {
        loop {
            let heard = plain.accept().await.octets().await.unwrap_or_default();
            let words = String::from_utf8_lossy(&heard).into_owned();
            assert!(!words.contains("SIP/2.0"), "in the clear: {words}");
        }
    };
    let asked = request(Method::Options, to.clone());
    tokio::select! {
        _ = why_not(&*stack, &hears, asked, Route::by_request()) => (),
        () = eavesdrop => unreachable!("BUG: it never ends"),
    }
    // UDP has no TLS: RFC 3261 section 26.2.2 leaves no way for this one.
    let asked = request(Method::Options, to.with_transport(Transport::Udp));
    why_not(&*stack, &hears, asked, Route::by_request()).await;
    stack.shutdown(Duration::ZERO).await;
}

pub(super) async fn plain_text_at_the_tls_port_harms_nobody(on: Setting) {
    let (stack, hears) = stack(&on, good()).await;
    let to = stack.listeners()[0].bound;
    let mut plain = Line::to(Network::Tcp, to).await;
    let in_the_clear = plain.request(Method::Message, to, "clear").to_bytes();
    // The stack may close at any moment.
    let _ = plain.try_send(&in_the_clear).await;
    let mut line = Line::to(on.network, to).await;
    let options = line.request(Method::Options, to, "cipher");
    line.send(&options.to_bytes()).await;
    let (served, heard, _) = hears.expect_request(Method::Options).await;
    respond(&*stack, served, &heard, 200).await;
    line.expect_status(200).await;
    hears.expect_silence(Duration::from_millis(20)).await;
    stack.shutdown(Duration::ZERO).await;
}
