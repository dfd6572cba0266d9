//! Certificates of the kit's own authority, made when a process first asks.

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use siprtc_core::sip::{TlsConfig, TlsIdentity};
use std::sync::{Arc, LazyLock};

/// Names that a certificate for this host has.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

static OURS: LazyLock<Authority> = LazyLock::new(|| Authority::new("siprtc conformance"));
static GOOD: LazyLock<TlsIdentity> = LazyLock::new(|| OURS.identity(&LOOPBACK, false));

/// An authority that signs.
pub(super) struct Authority {
    /// Its certificate, PEM.
    pub(super) pem: Bytes,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one that nobody trusts yet.
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            pem: certificate.pem().into(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `names`, for servers and clients.
    pub(super) fn identity(&self, names: &[&str], expired: bool) -> TlsIdentity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "siprtc conformance peer");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        TlsIdentity {
            chain: certificate.pem().into(),
            key: key.serialize_pem().into(),
        }
    }
}

/// The authority that every stack of a scenario trusts.
pub(super) fn authority() -> &'static Authority {
    &OURS
}

/// Shows a certificate for this host's loopback names, and trusts the kit's authority.
pub(super) fn good() -> TlsConfig {
    TlsConfig {
        ca: Some(OURS.pem.clone()),
        identity: Some(GOOD.clone()),
        ..TlsConfig::default()
    }
}

/// What a peer of the kit's own connects with: trusts as `good` does, and has no certificate.
pub(super) fn client() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(first_certificate(&OURS.pem)).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Arc::new(
        builder
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

/// What a peer of the kit's own listens with; it asks for a certificate when `config` has a `client_ca`.
pub(super) fn server(config: &TlsConfig) -> Arc<ServerConfig> {
    let identity = config.identity.as_ref().unwrap();
    let chain = vec![first_certificate(&identity.chain)];
    let key = PrivateKeyDer::from_pem_slice(&identity.key).unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = match &config.client_ca {
        None => builder.unwrap().with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(first_certificate(ca)).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.unwrap().with_client_cert_verifier(verifier.unwrap())
        }
    };
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

fn first_certificate(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
