//! Handshakes between the two configurations, in memory, with certificates that are good and bad.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use siprtc_core::sip::{TlsConfig, TlsIdentity};
use siprtc_core::{Error, Fault};
use siprtc_sip_locate::tls::{client_config, explain, server_config, server_name};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn pem(authority: &Authority) -> Bytes {
    authority.pem().into()
}

fn for_names(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn for_uri(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params
}

fn issue(authority: &Authority, params: &CertificateParams) -> TlsIdentity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    TlsIdentity {
        chain: certificate.pem().into(),
        key: key.serialize_pem().into(),
    }
}

fn serving(identity: TlsIdentity) -> TlsConfig {
    TlsConfig {
        identity: Some(identity),
        ..TlsConfig::default()
    }
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig {
        ca: Some(pem(authority)),
        ..TlsConfig::default()
    }
}

/// What each side says of the handshake and of one octet each way after it (a TLS 1.3 server refuses a client's
/// certificate only then).
async fn shake(client: &TlsConfig, server: &TlsConfig, name: &str) -> (Result<(), Error>, Result<(), Error>) {
    let (near, far) = tokio::io::duplex(65_536);
    let connector = TlsConnector::from(client_config(client).unwrap());
    let acceptor = TlsAcceptor::from(server_config(server).unwrap().unwrap());
    let sni = server_name(name).unwrap();
    let connecting = async {
        let mut stream = connector.connect(sni, near).await?;
        stream.write_all(b"x").await?;
        stream.read_u8().await.map(|_| ())
    };
    let accepting = async {
        let mut stream = acceptor.accept(far).await?;
        stream.read_u8().await?;
        stream.write_all(b"y").await?;
        stream.flush().await
    };
    let (client, server) = tokio::join!(connecting, accepting);
    (
        client.map_err(|e| explain(&e, name)),
        server.map_err(|e| explain(&e, "192.0.2.7:4711")),
    )
}

async fn refused(client: &TlsConfig, server: &TlsConfig, name: &str) -> Error {
    shake(client, server, name).await.0.unwrap_err()
}

#[tokio::test]
async fn a_certificate_is_for_its_dns_names_addresses_and_sip_domains() {
    let ca = authority("house");
    for (params, name) in [
        (for_names(&["sip.example.com"]), "sip.example.com"),
        (for_names(&["sip.example.com"]), "SIP.example.com."),
        (for_names(&["*.example.com"]), "sip.example.com"),
        (for_names(&["192.0.2.1", "::1"]), "192.0.2.1"),
        (for_names(&["192.0.2.1", "::1"]), "[::1]"),
        (for_uri("sip:example.com"), "example.com"),
    ] {
        let (client, server) = shake(&trusting(&ca), &serving(issue(&ca, &params)), name).await;
        assert!(client.is_ok() && server.is_ok(), "{name}: {client:?} {server:?}");
    }
    for (params, name, told) in [
        (
            for_names(&["a.example.com"]),
            "b.example.com",
            "is for a.example.com",
        ),
        (for_names(&["192.0.2.1"]), "192.0.2.2", "is for 192.0.2.1"),
        (
            for_uri("sip:example.com"),
            "sip.example.com",
            "is for sip:example.com",
        ),
        (
            for_uri("sip:alice@example.com"),
            "example.com",
            "is for sip:alice@example.com",
        ),
        (CertificateParams::default(), "example.com", "is for no name"),
    ] {
        let error = refused(&trusting(&ca), &serving(issue(&ca, &params)), name).await;
        let text = error.to_string();
        assert_eq!(error.fault(), Fault::PeerMisbehaved, "{text}");
        assert!(
            text.contains(told) && text.contains(&format!("issued for {name}")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_certificate_out_of_its_time_or_from_a_stranger_is_named_as_that() {
    let (ca, stranger) = (authority("house"), authority("stranger"));
    let mut old = for_names(&["example.com"]);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut young = for_names(&["example.com"]);
    young.not_before = rcgen::date_time_ymd(4000, 1, 1);
    let mut itself = for_names(&["example.com"]);
    itself.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (by, params, fault, told) in [
        (
            &ca,
            &old,
            Fault::PeerMisbehaved,
            "the certificate of example.com expired ",
        ),
        (&ca, &young, Fault::PeerMisbehaved, "is not valid for another "),
        (
            &stranger,
            &for_names(&["example.com"]),
            Fault::ConfigInvalid,
            "put its certificate into sip.tls.ca",
        ),
        (&ca, &itself, Fault::PeerMisbehaved, "basicConstraints=CA:FALSE"),
    ] {
        let server = serving(issue(by, params));
        let error = refused(&trusting(&ca), &server, "example.com").await;
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(error.fault(), fault, "{error}");
        let unverified = TlsConfig {
            verify: false,
            ..TlsConfig::default()
        };
        assert!(
            shake(&unverified, &server, "example.com").await.0.is_ok(),
            "{told}"
        );
    }
    // The system's authorities, or that there are none: never this one.
    let server = serving(issue(&ca, &for_names(&["example.com"])));
    let error = refused(&TlsConfig::default(), &server, "example.com").await;
    assert!(error.to_string().contains("sip.tls.ca"), "{error}");
}

#[tokio::test]
async fn a_listener_with_a_client_ca_takes_only_clients_with_a_certificate_of_it() {
    let (ca, stranger) = (authority("house"), authority("stranger"));
    let server = TlsConfig {
        client_ca: Some(pem(&ca)),
        ..serving(issue(&ca, &for_names(&["example.com"])))
    };
    let client = |identity| TlsConfig {
        identity,
        ..trusting(&ca)
    };
    let good = client(Some(issue(&ca, &for_names(&["alice.example.com"]))));
    let (client_said, server_said) = shake(&good, &server, "example.com").await;
    assert!(client_said.is_ok() && server_said.is_ok());

    let (client_said, server_said) = shake(&client(None), &server, "example.com").await;
    let text = client_said.unwrap_err().to_string();
    assert!(text.contains("example.com wants a client certificate"), "{text}");
    assert!(text.contains("set sip.tls.certificate and sip.tls.key"), "{text}");
    let text = server_said.unwrap_err().to_string();
    assert!(text.contains("192.0.2.7:4711 shows no certificate"), "{text}");

    let bad = client(Some(issue(&stranger, &for_names(&["alice.example.com"]))));
    let (client_said, server_said) = shake(&bad, &server, "example.com").await;
    let text = client_said.unwrap_err().to_string();
    assert!(text.contains("example.com refuses our certificate"), "{text}");
    let text = server_said.unwrap_err().to_string();
    assert!(text.contains("not trusted here"), "{text}");
}

/// Answers a ClientHello with `answer`, or hangs up.
async fn answered_with(answer: &'static [u8]) -> Error {
    let (near, mut far): (DuplexStream, DuplexStream) = tokio::io::duplex(65_536);
    let peer = tokio::spawn(async move {
        let mut hello = [0; 1024];
        let _ = far.read(&mut hello).await;
        let _ = far.write_all(answer).await;
    });
    let connector = TlsConnector::from(client_config(&TlsConfig::default()).unwrap());
    let name = server_name("example.com").unwrap();
    let error = connector.connect(name, near).await.unwrap_err();
    peer.await.unwrap();
    explain(&error, "example.com")
}

#[tokio::test]
async fn a_peer_that_speaks_http_or_sip_or_hangs_up_is_said_to_speak_no_tls() {
    for answer in [
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".as_slice(),
        b"SIP/2.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0",
    ] {
        let error = answered_with(answer).await;
        assert_eq!(error.fault(), Fault::PeerIncompatible, "{error}");
        assert!(error.to_string().contains("answers, but not with TLS"), "{error}");
    }
    let error = answered_with(b"").await;
    assert!(
        error
            .to_string()
            .contains("closed the connection in the TLS handshake"),
        "{error}"
    );
    // A fatal alert: handshake_failure.
    let error = answered_with(&[21, 3, 3, 0, 2, 2, 40]).await;
    assert!(error.to_string().contains("refuses the TLS handshake"), "{error}");
}

#[test]
fn what_is_wrong_with_the_configuration_is_told_by_its_key() {
    let ca = authority("house");
    let good = issue(&ca, &for_names(&["example.com"]));
    let other = issue(&ca, &for_names(&["example.com"]));
    let text = |bytes: &'static str| Bytes::from_static(bytes.as_bytes());
    let bad_pem = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let bad_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let with = |chain: Bytes, key: Bytes| TlsConfig {
        identity: Some(TlsIdentity { chain, key }),
        ..TlsConfig::default()
    };
    let trusting = |ca| TlsConfig {
        ca: Some(ca),
        ..TlsConfig::default()
    };
    for (config, told) in [
        (trusting(text("")), "sip.tls.ca holds no certificate"),
        (trusting(text(bad_pem)), "sip.tls.ca cannot be read as PEM"),
        (
            trusting(text(bad_der)),
            "sip.tls.ca holds a certificate that cannot be read",
        ),
        (
            with(text("x"), good.key.clone()),
            "sip.tls.certificate holds no certificate",
        ),
        (
            with(text(bad_der), good.key.clone()),
            "sip.tls.certificate holds a certificate that cannot",
        ),
        (
            with(good.chain.clone(), text("x")),
            "sip.tls.key holds no private key",
        ),
        (
            with(good.chain.clone(), text(encrypted)),
            "sip.tls.key is encrypted",
        ),
        (
            with(good.chain.clone(), other.key),
            "sip.tls.key is not the key of sip.tls.certificate",
        ),
    ] {
        let error = client_config(&config).unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        assert!(error.to_string().contains(told), "{told}: {error}");
        if config.identity.is_some() {
            let error = server_config(&config).unwrap_err();
            assert!(error.to_string().contains(told), "{told}: {error}");
        }
    }
    let client_ca = |identity, ca| TlsConfig {
        identity,
        client_ca: Some(ca),
        ..TlsConfig::default()
    };
    let error = server_config(&client_ca(Some(good), text("x"))).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("sip.tls.client_ca holds no certificate"),
        "{error}"
    );
    let error = server_config(&client_ca(None, pem(&ca))).unwrap_err();
    assert!(error.to_string().contains("sip.tls.client_ca"), "{error}");
    assert!(server_config(&TlsConfig::default()).unwrap().is_none());
    for name in ["", "a b", "exa mple.com", "[::1"] {
        assert!(server_name(name).is_err(), "{name}");
    }
    let _: Arc<rustls::ClientConfig> = client_config(&TlsConfig::default()).unwrap();
}
