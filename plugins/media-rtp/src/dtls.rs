//! A DTLS association for its keys (RFC 5764) over rtc-dtls, without I/O and clock.

use crate::remote::Fingerprint;
use crate::srtp::Keys;
use bytes::BytesMut;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::{RTCCryptoProvider, default_provider};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::{Error, Result};
use rtc_srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc_srtp::protection_profile::ProtectionProfile;
use sha2::Digest;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// The library keeps associations by address; this one is the peer's, wherever it is (RFC 5737).
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// Ours, for one peer.
pub(crate) struct Identity {
    certificate: Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
}

impl Identity {
    pub(crate) fn fresh() -> Result<Self> {
        let provider = default_provider().map_err(|error| Error::Crypto(error.to_string()))?;
        let certificate = Certificate::generate_self_signed(vec!["siprtc".to_owned()], provider.crypto())?;
        Ok(Identity {
            certificate,
            provider,
        })
    }

    /// `sha-256 AB:CD:...`.
    pub(crate) fn fingerprint(&self) -> String {
        let der = self
            .certificate
            .certificate
            .first()
            .map(AsRef::as_ref)
            .unwrap_or_default();
        let hash: &[u8] = der;
        let words: Vec<String> = sha2::Sha256::digest(hash)
            .iter()
            .map(|octet| format!("{octet:02X}"))
            .collect();
        format!("sha-256 {}", words.join(":"))
    }
}

/// One association.
pub(crate) struct Dtls {
    endpoint: Endpoint,
    config: Arc<HandshakeConfig>,
    is_client: bool,
    pub(crate) peer: Vec<Fingerprint>,
}

impl Dtls {
    pub(crate) fn new(identity: &Identity, is_client: bool, peer: Vec<Fingerprint>) -> Result<Self> {
        let expected = peer.clone();
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.provider.clone())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // The certificate is nobody's but the one whose fingerprint stands in the SDP (RFC 5763 section 5).
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |chain: &[Vec<u8>], _: &[_]| {
                let certificate = chain.first().ok_or(Error::ErrNonCertificate)?;
                if expected.iter().any(|fingerprint| is_of(fingerprint, certificate)) {
                    return Ok(());
                }
                Err(Error::ErrNoMatchingCertificateFingerprint)
            })))
            .with_extended_master_secret(ExtendedMasterSecretType::Request)
            .build(is_client, None)?;
        let config = Arc::new(config);
        let server = (!is_client).then(|| config.clone());
        Ok(Dtls {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, server),
            config,
            is_client,
            peer,
        })
    }

    pub(crate) fn is_client(&self) -> bool {
        self.is_client
    }

    /// The way to the peer is there: a client begins.
    pub(crate) fn start(&mut self, now: Instant) -> Result<()> {
        match self.is_client {
            true => self.endpoint.connect(now, PEER, self.config.clone(), None),
            false => Ok(()),
        }
    }

    /// A datagram came: the keys, once the handshake is complete.
    pub(crate) fn read(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<Keys>> {
        let data = BytesMut::from(datagram);
        // It reads what comes from the network before anybody is authenticated: a panic must not take the call's task along.
        let events = catch_unwind(AssertUnwindSafe(|| self.endpoint.read(now, PEER, None, data)))
            .map_err(|_| Error::Other("the DTLS library panicked".to_owned()))??;
        match events
            .iter()
            .any(|event| matches!(event, EndpointEvent::HandshakeComplete))
        {
            true => self.keys().map(Some),
            false => Ok(None),
        }
    }

    fn keys(&self) -> Result<Keys> {
        let state = self
            .endpoint
            .get_connection_state(PEER)
            .ok_or(Error::HandshakeInProgress)?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => ProtectionProfile::AeadAes256Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
            _ => {
                return Err(Error::Other(
                    "no SRTP protection profile was agreed on".to_owned(),
                ));
            }
        };
        let mut config = Config {
            profile,
            ..Config::default()
        };
        let length = config.keying_material_len();
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], length)?;
        config.set_session_keys_from_keying_material(material.as_ref(), state.is_client())?;
        Ok(Keys {
            profile_out: profile,
            profile_in: profile,
            key_out: config.keys.local_master_key,
            salt_out: config.keys.local_master_salt,
            mki_in: None,
            key_in: config.keys.remote_master_key,
            salt_in: config.keys.remote_master_salt,
        })
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&PEER)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<()> {
        match self.endpoint.get_connection_state(PEER) {
            Some(_) => self.endpoint.handle_timeout(PEER, now),
            None => Ok(()),
        }
    }

    /// Says goodbye (`close_notify`).
    pub(crate) fn close(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
    }
}

/// RFC 8122 section 5: the hash is the writer's choice; SHA-1 is what old servers write.
fn is_of(fingerprint: &Fingerprint, certificate: &[u8]) -> bool {
    let hash = match fingerprint.hash.as_str() {
        "sha-1" => sha1::Sha1::digest(certificate).to_vec(),
        "sha-224" => sha2::Sha224::digest(certificate).to_vec(),
        "sha-256" => sha2::Sha256::digest(certificate).to_vec(),
        "sha-384" => sha2::Sha384::digest(certificate).to_vec(),
        "sha-512" => sha2::Sha512::digest(certificate).to_vec(),
        _ => return false,
    };
    hash == fingerprint.octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn fingerprint(identity: &Identity) -> Fingerprint {
        let text = identity.fingerprint();
        let (hash, octets) = text.split_once(' ').unwrap();
        Fingerprint {
            hash: hash.to_owned(),
            octets: octets
                .split(':')
                .map(|pair| u8::from_str_radix(pair, 16).unwrap())
                .collect(),
        }
    }

    /// Carries datagrams until both have keys, or nothing more happens; `lose` says which of them are lost.
    fn shake(
        client: &mut Dtls,
        server: &mut Dtls,
        mut lose: impl FnMut(usize) -> bool,
    ) -> (Option<Keys>, Option<Keys>) {
        let mut now = Instant::from(tokio::time::Instant::now());
        client.start(now).unwrap();
        let (mut ours, mut theirs, mut sent) = (None, None, 0);
        for _ in 0..200 {
            while let Some(data) = client.poll_transmit() {
                sent += 1;
                if !lose(sent) {
                    theirs = theirs.or(server.read(now, &data).unwrap_or(None));
                }
            }
            while let Some(data) = server.poll_transmit() {
                sent += 1;
                if !lose(sent) {
                    ours = ours.or(client.read(now, &data).unwrap_or(None));
                }
            }
            now += Duration::from_millis(100);
            let _ = client.handle_timeout(now);
            let _ = server.handle_timeout(now);
        }
        (ours, theirs)
    }

    #[test]
    fn both_ends_have_the_same_keys_also_when_datagrams_are_lost() {
        for lossy in [false, true] {
            let (a, b) = (Identity::fresh().unwrap(), Identity::fresh().unwrap());
            let mut client = Dtls::new(&a, true, vec![fingerprint(&b)]).unwrap();
            let mut server = Dtls::new(&b, false, vec![fingerprint(&a)]).unwrap();
            let (ours, theirs) = shake(&mut client, &mut server, |number| {
                lossy && [1, 3, 6].contains(&number)
            });
            let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
            assert_eq!((ours.key_out, ours.salt_in), (theirs.key_in, theirs.salt_out));
        }
    }

    #[test]
    fn another_certificate_than_the_one_that_was_told_has_no_keys() {
        let (a, b, c) = (
            Identity::fresh().unwrap(),
            Identity::fresh().unwrap(),
            Identity::fresh().unwrap(),
        );
        let mut client = Dtls::new(&a, true, vec![fingerprint(&c)]).unwrap();
        let mut server = Dtls::new(&b, false, vec![fingerprint(&a)]).unwrap();
        let (ours, theirs) = shake(&mut client, &mut server, |_| false);
        assert!(ours.is_none() && theirs.is_none());
    }

    #[test]
    fn fingerprints_of_every_hash_function_are_checked() {
        let certificate = b"certificate";
        for (hash, octets) in [
            ("sha-1", sha1::Sha1::digest(certificate).to_vec()),
            ("sha-384", sha2::Sha384::digest(certificate).to_vec()),
            ("sha-512", sha2::Sha512::digest(certificate).to_vec()),
        ] {
            let hash = hash.to_owned();
            assert!(is_of(
                &Fingerprint {
                    hash: hash.clone(),
                    octets: octets.clone()
                },
                certificate
            ));
            assert!(!is_of(
                &Fingerprint {
                    hash,
                    octets: octets[1..].to_vec()
                },
                certificate
            ));
            assert!(!is_of(
                &Fingerprint {
                    hash: "md5".to_owned(),
                    octets
                },
                certificate
            ));
        }
    }

    #[test]
    fn rubbish_makes_nothing_panic() {
        let identity = Identity::fresh().unwrap();
        let mut server = Dtls::new(&identity, false, Vec::new()).unwrap();
        let now = Instant::from(tokio::time::Instant::now());
        for length in 0..200_usize {
            let data: Vec<u8> = (0..length).map(|at| (at * 37 + length) as u8).collect();
            let _ = server.read(now, &data);
            let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, length as u8];
            record.extend(data);
            let _ = server.read(now, &record);
        }
    }
}
