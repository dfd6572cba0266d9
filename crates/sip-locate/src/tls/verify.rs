//! Whether a server's certificate is to be trusted, and is for whom we meant (RFC 5922 section 7).

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What the handshake fails with when the system has no authorities. [`super::explain()`] knows it.
pub(super) const NO_SYSTEM_ROOTS: &str = "this system has no certificates of authorities";

/// webpki's verification of the chain; then the name, as webpki or as RFC 5922 matches it.
pub(super) struct SipVerifier {
    provider: Arc<CryptoProvider>,
    /// `None`: the system's.
    roots: Option<RootCertStore>,
}

impl SipVerifier {
    pub(super) fn with_roots(provider: Arc<CryptoProvider>, roots: RootCertStore) -> Self {
        SipVerifier {
            provider,
            roots: Some(roots),
        }
    }

    pub(super) fn with_system_roots(provider: Arc<CryptoProvider>) -> Self {
        SipVerifier {
            provider,
            roots: None,
        }
    }

    fn roots(&self) -> Result<&RootCertStore, Error> {
        match &self.roots {
            Some(roots) => Ok(roots),
            None => system_roots(),
        }
    }
}

impl ServerCertVerifier for SipVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            self.roots()?,
            intermediates,
            now,
            algorithms,
        )?;
        let verified = verify_server_name(&certificate, server_name);
        match verified {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if is_sip_domain(end_entity, server_name) => Ok(ServerCertVerified::assertion()),
            verified => verified.map(|()| ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for SipVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipVerifier").finish_non_exhaustive()
    }
}

/// Whether a `sip:` URI of the certificate names this domain.
fn is_sip_domain(end_entity: &CertificateDer<'_>, wanted: &ServerName<'_>) -> bool {
    let (Ok(certificate), ServerName::DnsName(wanted)) =
        (webpki::EndEntityCert::try_from(end_entity), wanted)
    else {
        return false;
    };
    certificate
        .valid_uri_names()
        .filter_map(sip_domain)
        .any(|domain| domain.eq_ignore_ascii_case(wanted.as_ref()))
}

/// The domain of `sip:domain`. RFC 5922 section 7.1: no other scheme, and no user part, which would name a person;
/// section 7.2: port and parameters do not count, and there are no wildcards.
fn sip_domain(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") || rest.contains('@') {
        return None;
    }
    let domain = rest.split([':', ';', '?']).next()?;
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    (!domain.is_empty() && !domain.contains('*')).then_some(domain)
}

/// Read once per process; a failure is not remembered, so that it can be mended without a restart.
fn system_roots() -> Result<&'static RootCertStore, Error> {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (read, unreadable) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(read, unreadable, "the system's authorities are read");
    if roots.is_empty() {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(Error::General(format!("{NO_SYSTEM_ROOTS} ({})", why.join(", "))));
    }
    Ok(ROOTS.get_or_init(|| roots))
}

/// Takes any certificate. The peer must still hold its key.
pub(super) struct Unverified(Arc<CryptoProvider>);

impl Unverified {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Unverified(provider)
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sip_domain_is_a_sip_uri_without_user_port_parameters_and_wildcards() {
        for (uri, domain) in [
            ("sip:example.com", Some("example.com")),
            ("SIP:example.com:5061;transport=tls", Some("example.com")),
            ("sip:example.com.", Some("example.com")),
            ("sip:alice@example.com", None),
            ("sips:example.com", None),
            ("https://example.com", None),
            ("sip:*.example.com", None),
            ("sip:", None),
            ("example.com", None),
        ] {
            assert_eq!(sip_domain(uri), domain, "{uri}");
        }
    }
}
