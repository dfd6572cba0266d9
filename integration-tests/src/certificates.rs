//! A throw-away authority and what it has signed.

use crate::folder::Folder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::net::Ipv4Addr;

/// The authority's certificate, in a lab's folder.
pub const CA: &str = "ca.pem";
/// The server's certificate.
pub const CHAIN: &str = "server.pem";
/// The server's key.
pub const KEY: &str = "server.key";

/// Writes an authority, and a certificate for a server at this address.
pub fn write(folder: &Folder, server: Ipv4Addr) {
    let mut authority =
        CertificateParams::new(Vec::new()).unwrap_or_else(|error| panic!("no authority: {error}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, key())
        .unwrap_or_else(|error| panic!("no authority: {error}"));
    let key = key();
    let chain = CertificateParams::new(vec![server.to_string(), "localhost".to_owned()])
        .and_then(|params| params.signed_by(&key, &issuer))
        .unwrap_or_else(|error| panic!("no certificate: {error}"));
    folder.write(CA, issuer.pem());
    folder.write(CHAIN, chain.pem());
    folder.write(KEY, key.serialize_pem());
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"))
}
