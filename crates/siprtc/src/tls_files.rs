//! Reads the certificates that the configuration names.

use crate::config::TlsSettings;
use bytes::Bytes;
use siprtc_core::sip::{TlsConfig, TlsIdentity};
use siprtc_core::{Error, Fault, Result};

/// Larger than any bundle of authorities; a file that is longer is not one.
const MAX_FILE: u64 = 4 << 20;

/// The files' contents. Whether they are certificates is for whoever uses them to say.
pub(crate) fn read(settings: &TlsSettings) -> Result<TlsConfig> {
    Ok(TlsConfig {
        ca: file("sip.tls.ca", &settings.ca)?,
        identity: identity("sip.tls", &settings.certificate, &settings.key)?,
        client_ca: file("sip.tls.client_ca", &settings.client_ca)?,
        verify: settings.verify,
    })
}

/// Whom a client trusts that shows no certificate of its own. `section`: where in the configuration `ca` is.
pub(crate) fn authorities(section: &str, ca: &str, verify: bool) -> Result<TlsConfig> {
    Ok(TlsConfig {
        ca: file(&format!("{section}.ca"), ca)?,
        verify,
        ..TlsConfig::default()
    })
}

/// The certificate and the key of `section`, both or neither.
pub(crate) fn identity(section: &str, certificate: &str, key: &str) -> Result<Option<TlsIdentity>> {
    let alone = |given: &str, missing: &str| {
        Err(broken(format!(
            "{section}.{given} is given and {section}.{missing} is not"
        ))
        .advice("give both, or neither"))
    };
    let chain = file(&format!("{section}.certificate"), certificate)?;
    match (chain, file(&format!("{section}.key"), key)?) {
        (Some(chain), Some(key)) => Ok(Some(TlsIdentity { chain, key })),
        (None, None) => Ok(None),
        (Some(_), None) => alone("certificate", "key"),
        (None, Some(_)) => alone("key", "certificate"),
    }
}

fn file(key: &str, path: &str) -> Result<Option<Bytes>> {
    if path.is_empty() {
        return Ok(None);
    }
    let unreadable = |error: std::io::Error| {
        broken(format!("{key}: {path} cannot be read"))
            .caused_by(error)
            .advice("check the path, which is relative to the working directory, and the file's permissions")
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE {
        return Err(
            broken(format!("{key}: {path} is longer than {MAX_FILE} octets")).advice("give a PEM file")
        );
    }
    let content = std::fs::read(path).map_err(unreadable)?;
    if !content.windows(PEM.len()).any(|window| window == PEM) {
        return Err(broken(format!("{key}: {path} is no PEM file"))
            .advice("convert it (openssl x509 -inform der ...): it begins with -----BEGIN"));
    }
    Ok(Some(content.into()))
}

const PEM: &[u8] = b"-----BEGIN ";

fn broken(message: String) -> Error {
    Error::new(Fault::ConfigInvalid, "read certificates", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> TlsSettings {
        TlsSettings {
            ca: String::new(),
            certificate: String::new(),
            key: String::new(),
            client_ca: String::new(),
            verify: true,
        }
    }

    #[test]
    fn without_files_the_systems_authorities_are_trusted_and_peers_verified() {
        let tls = read(&settings()).unwrap();
        assert!(tls.verify && tls.ca.is_none() && tls.identity.is_none() && tls.client_ca.is_none());
    }

    #[test]
    fn an_error_names_the_key_and_the_file() {
        let error = read(&TlsSettings {
            ca: "/no/such/ca.pem".to_owned(),
            ..settings()
        })
        .unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        let text = error.to_string();
        assert!(
            text.contains("sip.tls.ca") && text.contains("/no/such/ca.pem"),
            "{text}"
        );

        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned();
        let error = read(&TlsSettings {
            client_ca: manifest,
            ..settings()
        })
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sip.tls.client_ca") && text.contains("no PEM"),
            "{text}"
        );
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let path = std::env::temp_dir().join(format!("siprtc-tls-{}.pem", std::process::id()));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let name = path.to_string_lossy().into_owned();
        let alone = read(&TlsSettings {
            certificate: name.clone(),
            ..settings()
        })
        .unwrap_err();
        let both = read(&TlsSettings {
            certificate: name.clone(),
            key: name,
            ..settings()
        });
        std::fs::remove_file(&path).unwrap();
        assert!(alone.to_string().contains("sip.tls.key is not"), "{alone}");
        assert!(both.unwrap().identity.is_some());
    }
}
