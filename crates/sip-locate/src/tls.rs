//! [`TlsConfig`] in rustls' words, and rustls' errors in ours. *ring* does the cryptography; no process-wide provider
//! is needed or set.

mod explain;
mod verify;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use siprtc_core::sip::{TlsConfig, TlsIdentity};
use siprtc_core::{Error, Fault, Result};
use std::sync::{Arc, OnceLock};

pub use explain::explain;

const OPERATION: &str = "configure TLS";

/// The keys of the configuration, as a user writes them.
const CA: &str = "sip.tls.ca";
const CERTIFICATE: &str = "sip.tls.certificate";
const KEY: &str = "sip.tls.key";
const CLIENT_CA: &str = "sip.tls.client_ca";

/// For connections, TLS and WSS.
///
/// A server's certificate must chain to `config.ca` and be for the [`server_name`] of the connection, as a DNS name, an
/// address or a SIP domain (a `sip:` URI, RFC 5922 section 7.1). Without `config.ca` the system's authorities are
/// used; they are read when the first certificate is verified, once per process, so this call is cheap and cannot fail
/// for the want of them. Keep what it returns: it also remembers TLS sessions.
///
/// # Errors
/// [`Fault::ConfigInvalid`], naming the key of the configuration that is wrong.
pub fn client_config(config: &TlsConfig) -> Result<Arc<ClientConfig>> {
    let verifier: Arc<dyn ServerCertVerifier> = match (config.verify, &config.ca) {
        (true, None) => Arc::new(verify::SipVerifier::with_system_roots(provider())),
        (true, Some(ca)) => Arc::new(verify::SipVerifier::with_roots(provider(), roots(ca, CA)?)),
        (false, ca) => {
            // A wrong file stays wrong, whether it is used or not.
            ca.as_ref().map(|ca| roots(ca, CA)).transpose()?;
            tracing::warn!(
                "sip.tls.verify = false: certificates of SIP servers are NOT verified, so anybody on the path can \
                 read and change calls; name the authority in {CA} instead"
            );
            Arc::new(verify::Unverified::new(provider()))
        }
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(no_versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let client = match &config.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = read_identity(identity)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(unfit_identity)?
        }
    };
    Ok(Arc::new(client))
}

/// For listeners, TLS and WSS; `None` without an identity. With `config.client_ca` a client must show a certificate
/// that chains to it (mutual TLS).
///
/// # Errors
/// [`Fault::ConfigInvalid`], naming the key of the configuration that is wrong.
pub fn server_config(config: &TlsConfig) -> Result<Option<Arc<ServerConfig>>> {
    let Some(identity) = &config.identity else {
        return match config.client_ca {
            None => Ok(None),
            Some(_) => Err(
                wrong(CLIENT_CA, "is there, but no certificate to show to clients")
                    .advice(format!("set {CERTIFICATE} and {KEY} too")),
            ),
        };
    };
    let (chain, key) = read_identity(identity)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(no_versions)?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca, CLIENT_CA)?), provider())
                    .build()
                    .map_err(|e| wrong(CLIENT_CA, "is of no use").caused_by(e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let server = builder.with_single_cert(chain, key).map_err(unfit_identity)?;
    Ok(Some(Arc::new(server)))
}

/// The error of a TLS or WSS listener without a certificate.
pub fn no_identity() -> Error {
    wrong(
        CERTIFICATE,
        "is missing, and a TLS or WSS listener must show a certificate",
    )
    .advice(format!("set {CERTIFICATE} and {KEY}"))
}

/// The name that a server's certificate must be for: a host name or an address, IPv6 with or without brackets.
///
/// # Errors
/// [`Fault::ApiMisuse`] when it is neither.
pub fn server_name(name: &str) -> Result<ServerName<'static>> {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    // RFC 6066 section 3: without the dot of an absolute name.
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    ServerName::try_from(bare.to_owned()).map_err(|e| {
        Error::new(
            Fault::ApiMisuse,
            "connect with TLS",
            format!("\"{name}\" is no name that a certificate can be for"),
        )
        .caused_by(e)
        .advice("give a host name or an address")
    })
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(ring::default_provider()))
        .clone()
}

fn roots(pem: &[u8], key: &'static str) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, key)? {
        store
            .add(certificate)
            .map_err(|e| wrong(key, "holds a certificate that cannot be read").caused_by(e))?;
    }
    Ok(store)
}

fn read_identity(identity: &TlsIdentity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(&identity.chain, CERTIFICATE)?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|e| {
        let encrypted = identity.key.windows(9).any(|word| word == b"ENCRYPTED");
        match encrypted {
            true => {
                wrong(KEY, "is encrypted").advice("take its password off: openssl pkey -in KEY -out PLAIN")
            }
            false => wrong(KEY, "holds no private key").caused_by(e).advice(
                "give a PEM file with BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC PRIVATE KEY",
            ),
        }
    })?;
    Ok((chain, key))
}

fn certificates(pem: &[u8], key: &'static str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| {
            wrong(key, "cannot be read as PEM")
                .caused_by(e)
                .advice("copy the file again")
        })?;
    if certificates.is_empty() {
        return Err(
            wrong(key, "holds no certificate").advice("give a PEM file, which has BEGIN CERTIFICATE in it")
        );
    }
    Ok(certificates)
}

fn unfit_identity(error: rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => wrong(KEY, format!("is not the key of {CERTIFICATE}"))
            .advice("the certificate of the server itself stands first in its file, before its authorities'"),
        rustls::Error::InvalidCertificate(_) => {
            wrong(CERTIFICATE, "holds a certificate that cannot be read").caused_by(error)
        }
        _ => wrong(KEY, "holds a private key that cannot be used")
            .caused_by(error)
            .advice("use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits"),
    }
}

fn no_versions(error: rustls::Error) -> Error {
    Error::new(Fault::Backend, OPERATION, "TLS 1.2 and 1.3 are not to be had").caused_by(error)
}

fn wrong(key: &'static str, what: impl std::fmt::Display) -> Error {
    Error::new(Fault::ConfigInvalid, OPERATION, format!("{key} {what}"))
}
