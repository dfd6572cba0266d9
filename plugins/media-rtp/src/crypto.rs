//! SDES: keys in the SDP (RFC 4568, RFC 6188, RFC 7714).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use rtc_srtp::protection_profile::ProtectionProfile;
use std::fmt;

/// Lines of a description that are read; a telephone sends up to eight.
const MOST_LINES: usize = 16;

/// An SRTP crypto suite.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Suite {
    /// RFC 7714.
    AeadAes128Gcm,
    /// RFC 7714.
    AeadAes256Gcm,
    /// RFC 4568.
    AesCm128HmacSha1_32,
    /// RFC 4568: what every implementation has.
    AesCm128HmacSha1_80,
    /// RFC 6188.
    AesCm256HmacSha1_32,
    /// RFC 6188.
    AesCm256HmacSha1_80,
}

impl Suite {
    /// All of them, the strongest first.
    pub const ALL: [Suite; 6] = [
        Suite::AeadAes256Gcm,
        Suite::AeadAes128Gcm,
        Suite::AesCm256HmacSha1_80,
        Suite::AesCm128HmacSha1_80,
        Suite::AesCm256HmacSha1_32,
        Suite::AesCm128HmacSha1_32,
    ];

    /// What is offered unless the configuration says otherwise: one that is fast and authenticated well, and what every
    /// telephone has. A tag of 32 bits is accepted from nobody.
    pub const PREFERRED: [Suite; 4] = [
        Suite::AeadAes256Gcm,
        Suite::AeadAes128Gcm,
        Suite::AesCm256HmacSha1_80,
        Suite::AesCm128HmacSha1_80,
    ];

    /// As in `a=crypto`.
    pub fn as_str(self) -> &'static str {
        match self {
            Suite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Suite::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Suite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Suite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AesCm256HmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Suite::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
        }
    }

    /// From `a=crypto`, in any case. `AES_CM_256_...` is how libsrtp's users write RFC 6188's names.
    pub fn from_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let upper = upper.replace("AES_CM_256_", "AES_256_CM_");
        Suite::ALL.into_iter().find(|suite| suite.as_str() == upper)
    }

    /// As the library has it.
    pub(crate) fn profile(self) -> ProtectionProfile {
        match self {
            Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
            Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            Suite::AesCm256HmacSha1_32 => ProtectionProfile::Aes256CmHmacSha1_32,
            Suite::AesCm256HmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
        }
    }

    /// Octets of master key and salt together.
    fn material(self) -> usize {
        let profile = self.profile();
        profile.key_len() + profile.salt_len()
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One `a=crypto` line: a suite and the key of whoever wrote it.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Crypto {
    pub(crate) tag: u32,
    pub(crate) suite: Suite,
    /// Master key and salt.
    material: Vec<u8>,
}

/// Without the key: it would stand in a log.
impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crypto({} {})", self.tag, self.suite)
    }
}

impl Crypto {
    /// A new key.
    pub(crate) fn fresh(tag: u32, suite: Suite) -> Self {
        let mut material = vec![0; suite.material()];
        rand::Rng::fill(&mut rand::rng(), &mut material[..]);
        Crypto { tag, suite, material }
    }

    pub(crate) fn with_tag(&self, tag: u32) -> Self {
        Crypto { tag, ..self.clone() }
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.material.split_at(self.suite.profile().key_len()).0
    }

    pub(crate) fn salt(&self) -> &[u8] {
        self.material.split_at(self.suite.profile().key_len()).1
    }

    /// The value of an `a=crypto` line. `None` for what we cannot do: an unknown suite, several keys, a master key
    /// identifier, or a session parameter that changes what is encrypted. RFC 4568 section 6.1 has the answerer look at the
    /// next line then.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|tag| tag.len() <= 9)?.parse().ok()?;
        let suite = Suite::from_name(words.next()?)?;
        let params = words.next()?;
        if !words.all(is_harmless) || params.contains(';') {
            return None;
        }
        let (method, info) = params.split_once(':')?;
        if !method.eq_ignore_ascii_case("inline") {
            return None;
        }
        let mut parts = info.split('|');
        let key = parts.next()?;
        // The lifetime (`2^31`) bounds what we never reach; `1:4` would be a master key identifier.
        if parts.any(|part| part.contains(':')) {
            return None;
        }
        // Some write the padding, some do not.
        let material = STANDARD
            .decode(key)
            .or_else(|_| STANDARD_NO_PAD.decode(key.trim_end_matches('=')))
            .ok()?;
        (material.len() == suite.material()).then_some(Crypto { tag, suite, material })
    }

    /// Those lines that we can do, in their order.
    pub(crate) fn parse_all<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Self> {
        values.take(MOST_LINES).filter_map(Crypto::parse).collect()
    }
}

impl fmt::Display for Crypto {
    /// The line's value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode(&self.material);
        write!(f, "{} {} inline:{key}", self.tag, self.suite)
    }
}

/// Whether we may pass over a session parameter (RFC 4568 section 6.3): a hint of a window, one that may be ignored (`-`),
/// and the default said aloud.
fn is_harmless(parameter: &str) -> bool {
    parameter.starts_with('-') || parameter.starts_with("WSH=") || parameter == "KDR=0"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4568 section 9.1.
    const RFC: &str = "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 FEC_ORDER=FEC_SRTP";

    #[test]
    fn a_line_that_is_printed_is_read_again() {
        for suite in Suite::ALL {
            let crypto = Crypto::fresh(7, suite);
            assert_eq!(Crypto::parse(&crypto.to_string()), Some(crypto.clone()));
            assert_eq!(crypto.key().len() + crypto.salt().len(), suite.material());
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
        ] {
            assert!(Crypto::parse(&line).is_some(), "{line}");
        }
        // 46 octets have no whole groups of three: Cisco writes the padding, older Polycoms leave it out.
        let long = STANDARD.encode([7; 46]);
        let bare = long.trim_end_matches('=');
        assert_ne!(long, bare);
        for key in [long.as_str(), bare] {
            let line = format!("2 AES_CM_256_HMAC_SHA1_80 inline:{key}");
            assert_eq!(Crypto::parse(&line).unwrap().suite, Suite::AesCm256HmacSha1_80);
        }
    }

    #[test]
    fn what_would_be_encrypted_otherwise_is_left_out() {
        let key = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
        for line in [
            RFC.to_owned(),
            String::new(),
            "1".to_owned(),
            "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
            format!("1 F8_128_HMAC_SHA1_80 inline:{key}"),
            format!("one AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20|1:4"),
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
