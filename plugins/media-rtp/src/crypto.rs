//! SDES: keys in the SDP (RFC 4568, RFC 6188, RFC 7714), as far as this engine can use them.

use rtc_srtp::protection_profile::ProtectionProfile;
pub use siprtc_sdp_words::Suite;
use siprtc_sdp_words::{Crypto as Line, MasterKey, Mki, SessionParameter};
use std::fmt;

/// Lines of a description that are read; a telephone sends up to eight.
const MOST_LINES: usize = 16;

/// What is offered unless the configuration says otherwise: one that is fast and authenticated well, and what every
/// telephone has. A tag of 32 bits is accepted from nobody.
pub(crate) const PREFERRED: [Suite; 4] = [
    Suite::AeadAes256Gcm,
    Suite::AeadAes128Gcm,
    Suite::AesCm256HmacSha1_80,
    Suite::AesCm128HmacSha1_80,
];

/// A suite as the library has it; `None` for one that it has not.
fn profile_of(suite: Suite) -> Option<ProtectionProfile> {
    Some(match suite {
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm256HmacSha1_32 => ProtectionProfile::Aes256CmHmacSha1_32,
        Suite::AesCm256HmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
        _ => return None,
    })
}

/// One `a=crypto` line that can be used: a suite and the key of whoever wrote it.
#[derive(Clone)]
pub(crate) struct Crypto {
    pub(crate) tag: u32,
    pub(crate) suite: Suite,
    pub(crate) profile: ProtectionProfile,
    /// What whoever wrote it puts into each packet beside the tag (RFC 3711 section 3.1); ours has none.
    pub(crate) mki: Option<Mki>,
    /// Master key and salt.
    material: Vec<u8>,
}

/// The library's profiles cannot be compared; the suite says which it is.
impl PartialEq for Crypto {
    fn eq(&self, other: &Self) -> bool {
        (self.tag, self.suite, self.mki, &self.material)
            == (other.tag, other.suite, other.mki, &other.material)
    }
}

impl Eq for Crypto {}

/// Without the key: it would stand in a log.
impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crypto({} {})", self.tag, self.suite)
    }
}

impl Crypto {
    /// A new key; `None` for a suite that the library has not.
    pub(crate) fn fresh(tag: u32, suite: Suite) -> Option<Self> {
        let mut material = vec![0; suite.key_len() + suite.salt_len()];
        rand::Rng::fill(&mut rand::rng(), &mut material[..]);
        Some(Crypto {
            tag,
            suite,
            profile: profile_of(suite)?,
            mki: None,
            material,
        })
    }

    pub(crate) fn with_tag(&self, tag: u32) -> Self {
        Crypto { tag, ..self.clone() }
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.material.split_at(self.suite.key_len()).0
    }

    pub(crate) fn salt(&self) -> &[u8] {
        self.material.split_at(self.suite.key_len()).1
    }

    /// The value of an `a=crypto` line. `None` for what we cannot do: an unknown suite, several keys, or a session parameter that changes what is encrypted. RFC 4568 section 6.1 has the answerer look at the
    /// next line then. The lifetime bounds what we never reach.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let line: Line = value.parse().ok()?;
        let mut keys = line.keys.into_iter();
        let (
            Some(MasterKey {
                key_and_salt, mki, ..
            }),
            None,
        ) = (keys.next(), keys.next())
        else {
            return None;
        };
        line.session.iter().all(is_harmless).then_some(Crypto {
            tag: line.tag,
            suite: line.suite,
            profile: profile_of(line.suite)?,
            mki,
            material: key_and_salt,
        })
    }

    /// Those lines that we can do, in their order.
    pub(crate) fn parse_all<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Self> {
        values.take(MOST_LINES).filter_map(Crypto::parse).collect()
    }
}

impl fmt::Display for Crypto {
    /// The line's value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = Line {
            tag: self.tag,
            suite: self.suite,
            keys: vec![MasterKey {
                key_and_salt: self.material.clone(),
                lifetime: None,
                mki: None,
            }],
            session: Vec::new(),
        };
        line.fmt(f)
    }
}

/// Whether we may pass over a session parameter (RFC 4568 section 6.3): a hint of a window, one that may be ignored (`-`),
/// and the default said aloud.
/// The order of FEC and SRTP is nothing where there is no FEC.
fn is_harmless(parameter: &SessionParameter) -> bool {
    use SessionParameter::{FecOrder, Kdr, Optional, Wsh};
    matches!(parameter, Optional(_) | Wsh(_) | Kdr(0) | FecOrder(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4568 section 9.1.
    const RFC: &str = "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 FEC_ORDER=FEC_SRTP";

    #[test]
    fn a_line_that_is_printed_is_read_again() {
        for suite in Suite::ALL {
            let crypto = Crypto::fresh(7, suite).unwrap();
            assert_eq!(Crypto::parse(&crypto.to_string()), Some(crypto.clone()));
            let lengths = (crypto.profile.key_len(), crypto.profile.salt_len());
            assert_eq!((crypto.key().len(), crypto.salt().len()), lengths);
            assert!(!format!("{crypto:?}").contains("inline"));
        }
    }

    #[test]
    fn two_keys_are_never_the_same() {
        let suite = Suite::AesCm128HmacSha1_80;
        assert_ne!(Crypto::fresh(1, suite), Crypto::fresh(1, suite));
    }

    #[test]
    fn what_telephones_write_is_read() {
        let key = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
        for line in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^31"),
            format!("1 aes_cm_128_hmac_sha1_32 INLINE:{key}|1048576 WSH=64"),
            format!("11 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20 -SOMETHING"),
            format!("2 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^31|1:1"),
            RFC.to_owned(),
        ] {
            assert!(Crypto::parse(&line).is_some(), "{line}");
        }
        // 46 octets have no whole groups of three: Cisco writes the padding, older Polycoms leave it out.
        let bare = format!("{}Bw", "BwcH".repeat(15));
        let long = format!("{bare}==");
        for key in [long.as_str(), bare.as_str()] {
            let line = format!("2 AES_CM_256_HMAC_SHA1_80 inline:{key}");
            assert_eq!(Crypto::parse(&line).unwrap().suite, Suite::AesCm256HmacSha1_80);
        }
    }

    #[test]
    fn what_would_be_encrypted_otherwise_is_left_out() {
        let key = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
        for line in [
            String::new(),
            "1".to_owned(),
            "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
            format!("1 F8_128_HMAC_SHA1_80 inline:{key}"),
            format!("one AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key};inline:{key}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key} UNENCRYPTED_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key} KDR=1"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", &key[..36]),
            format!("1 AEAD_AES_256_GCM inline:{key}"),
            "1 AES_CM_128_HMAC_SHA1_80 inline:====".to_owned(),
            "1 AES_CM_128_HMAC_SHA1_80 inline:\u{0}\u{7f}".to_owned(),
        ] {
            assert_eq!(Crypto::parse(&line), None, "{line}");
        }
    }
}
