//! `a=crypto` (RFC 4568): suites, keys and parameters, read, checked and printed.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Serialize, Serializer};
use siprtc_core::{Error, Fault, Result};
use std::fmt;
use std::str::FromStr;

/// The most master keys of one `a=crypto`; more is an error. One is what endpoints send, two or three who rotate keys.
pub const MAX_KEYS: usize = 16;

/// A master key may protect 2^48 packets of SRTP at most (RFC 3711 section 9.2).
const MAX_LIFETIME: u64 = 1 << 48;

/// Endpoints are seen that leave the padding out where the key needs it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A crypto suite.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Suite {
    /// RFC 7714.
    AeadAes128Gcm,
    /// RFC 7714.
    AeadAes256Gcm,
    /// RFC 4568 section 6.2.2.
    AesCm128HmacSha1_32,
    /// RFC 4568 section 6.2.1.
    AesCm128HmacSha1_80,
    /// RFC 6188.
    AesCm256HmacSha1_32,
    /// RFC 6188.
    AesCm256HmacSha1_80,
}

impl Suite {
    /// Every suite, the strongest first.
    pub const ALL: [Suite; 6] = [
        Suite::AeadAes256Gcm,
        Suite::AeadAes128Gcm,
        Suite::AesCm256HmacSha1_80,
        Suite::AesCm128HmacSha1_80,
        Suite::AesCm256HmacSha1_32,
        Suite::AesCm128HmacSha1_32,
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

    /// From `a=crypto`; names are compared without case, as ABNF has it. `AES_CM_256_...` is how libsrtp's users write RFC
    /// 6188's names.
    pub fn from_name(name: &str) -> Option<Self> {
        let known = |name: &str| {
            Suite::ALL
                .into_iter()
                .find(|suite| suite.as_str().eq_ignore_ascii_case(name))
        };
        known(name).or_else(|| {
            let upper = name.get(..40).unwrap_or(name).to_ascii_uppercase();
            known(&upper.replace("AES_CM_256_", "AES_256_CM_"))
        })
    }

    /// Octets of the master key.
    pub fn key_len(self) -> usize {
        match self {
            Suite::AeadAes128Gcm | Suite::AesCm128HmacSha1_32 | Suite::AesCm128HmacSha1_80 => 16,
            Suite::AeadAes256Gcm | Suite::AesCm256HmacSha1_32 | Suite::AesCm256HmacSha1_80 => 32,
        }
    }

    /// Octets of the master salt, which stands behind the key.
    pub fn salt_len(self) -> usize {
        match self {
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => 12,
            _ => 14,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Suite {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The value of one `a=crypto`.
///
/// ```
/// use siprtc_sdp_words::{Crypto, Suite};
///
/// let crypto: Crypto = "1 AES_CM_128_HMAC_SHA1_80 inline:WnD7c1ksDGs+dIefCEo8omPg4uO8DYIinNGL5yxQ|2^20|1:4".parse()?;
/// assert_eq!((crypto.tag, crypto.suite), (1, Suite::AesCm128HmacSha1_80));
/// assert_eq!(crypto.keys[0].lifetime, Some(1 << 20));
/// # Ok::<(), siprtc_core::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Crypto {
    /// Which of the offered ones an answer has taken.
    pub tag: u32,
    /// The suite.
    pub suite: Suite,
    /// One at least, [`MAX_KEYS`] at most; with several each has its own [`Mki`].
    pub keys: Vec<MasterKey>,
    /// Session parameters.
    pub session: Vec<SessionParameter>,
}

/// `inline:` with a master key and salt. Its `Debug` does not show them.
#[derive(Clone, Eq, PartialEq)]
pub struct MasterKey {
    /// The master key and behind it the master salt, in the lengths of the suite.
    pub key_and_salt: Vec<u8>,
    /// For how many packets.
    pub lifetime: Option<u64>,
    /// The master key identifier in each packet.
    pub mki: Option<Mki>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey")
            .field("octets", &self.key_and_salt.len())
            .field("lifetime", &self.lifetime)
            .field("mki", &self.mki)
            .finish_non_exhaustive()
    }
}

/// A master key identifier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mki {
    /// The identifier.
    pub value: u128,
    /// Its octets in each packet: 1 to 128.
    pub length: u8,
}

/// A session parameter (RFC 4568 section 6.3).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SessionParameter {
    /// `FEC_KEY`: keys of the stream of forward error correction.
    FecKey(String),
    /// `FEC_ORDER`: `FEC_SRTP` or `SRTP_FEC`.
    FecOrder(String),
    /// `KDR`: the key derivation rate is two to the power of this.
    Kdr(u8),
    /// One that may be passed over: it begins with `-` (section 6.3.7).
    Optional(String),
    /// SRTP without authentication.
    UnauthenticatedSrtp,
    /// SRTCP without encryption.
    UnencryptedSrtcp,
    /// SRTP without encryption.
    UnencryptedSrtp,
    /// `WSH`: the window of the replay list, 64 at least.
    Wsh(u32),
}

impl FromStr for Crypto {
    type Err = Error;

    /// # Errors
    /// `PeerIncompatible` for a suite, a key method or a session parameter that is not known (a suite may stand in an offer
    /// all the same: it is passed over); `PeerMisbehaved` for what cannot be read. No error shows a key.
    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_ascii_whitespace();
        let tag = words.next().and_then(tag);
        let tag = tag.ok_or_else(|| misbehaved("its tag is no number of one to nine digits".to_owned()))?;
        let name = words.next().unwrap_or_default();
        let suite = Suite::from_name(name)
            .ok_or_else(|| incompatible(format!("the suite {:?} is not known", short(name))))?;
        let params = words
            .next()
            .ok_or_else(|| misbehaved("it has no key".to_owned()))?;
        let mut keys = Vec::new();
        for param in params.split(';') {
            if keys.len() == MAX_KEYS {
                return Err(misbehaved(format!("it has more than {MAX_KEYS} keys")));
            }
            keys.push(master_key(param, suite)?);
        }
        check_mkis(&keys)?;
        let session = words.map(session_parameter).collect::<Result<_>>()?;
        Ok(Crypto {
            tag,
            suite,
            keys,
            session,
        })
    }
}

fn tag(word: &str) -> Option<u32> {
    let is_number = (1..=9).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| is_number)
}

fn master_key(param: &str, suite: Suite) -> Result<MasterKey> {
    let (method, info) = param.split_once(':').unwrap_or((param, ""));
    if !method.eq_ignore_ascii_case("inline") {
        return Err(incompatible(format!(
            "the key method {:?} is not known",
            short(method)
        )));
    }
    let mut parts = info.split('|');
    let key_and_salt = BASE64
        .decode(parts.next().unwrap_or_default())
        .map_err(|_| misbehaved("its key is not base64".to_owned()))?;
    let wanted = suite.key_len() + suite.salt_len();
    if key_and_salt.len() != wanted {
        let (is, name) = (key_and_salt.len(), suite.as_str());
        return Err(misbehaved(format!(
            "its key and salt have {is} octets, and {name} takes {wanted}"
        )));
    }
    let mut key = MasterKey {
        key_and_salt,
        lifetime: None,
        mki: None,
    };
    for part in parts {
        match part.split_once(':') {
            Some((value, length)) if key.mki.is_none() => key.mki = Some(mki(value, length)?),
            None if key.mki.is_none() && key.lifetime.is_none() => key.lifetime = Some(lifetime(part)?),
            _ => {
                return Err(misbehaved(
                    "its key has more than a lifetime and an MKI".to_owned(),
                ));
            }
        }
    }
    Ok(key)
}

fn lifetime(text: &str) -> Result<u64> {
    let number = match text.strip_prefix("2^") {
        Some(exponent) => exponent.parse().ok().and_then(|bits| 1_u64.checked_shl(bits)),
        None => text.parse().ok(),
    };
    number
        .filter(|packets| (1..=MAX_LIFETIME).contains(packets))
        .ok_or_else(|| misbehaved("its lifetime is no number of packets up to 2^48".to_owned()))
}

fn mki(value: &str, length: &str) -> Result<Mki> {
    let length = length.parse().ok().filter(|octets| (1..=128).contains(octets));
    let value = value.parse().ok();
    let mki = value.zip(length).map(|(value, length)| Mki { value, length });
    mki.filter(|mki| mki.length >= 16 || mki.value >> (u32::from(mki.length) * 8) == 0)
        .ok_or_else(|| misbehaved("its MKI is no number that fits into its 1 to 128 octets".to_owned()))
}

fn check_mkis(keys: &[MasterKey]) -> Result<()> {
    for (at, key) in keys.iter().enumerate().filter(|_| keys.len() > 1) {
        let is_same = |other: &MasterKey| {
            other.mki.map(|mki| mki.value) == key.mki.map(|mki| mki.value)
                || other.mki.map(|mki| mki.length) != key.mki.map(|mki| mki.length)
        };
        if key.mki.is_none() || keys.iter().skip(at + 1).any(is_same) {
            return Err(misbehaved(
                "several keys need an MKI each, different and of one length".to_owned(),
            ));
        }
    }
    Ok(())
}

fn session_parameter(word: &str) -> Result<SessionParameter> {
    if word.starts_with('-') {
        return Ok(SessionParameter::Optional(word.to_owned()));
    }
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let known = match name.to_ascii_uppercase().as_str() {
        "FEC_KEY" => Some(SessionParameter::FecKey(value.to_owned())),
        "FEC_ORDER" => Some(SessionParameter::FecOrder(value.to_owned())),
        "KDR" => value
            .parse()
            .ok()
            .filter(|rate| *rate <= 24)
            .map(SessionParameter::Kdr),
        "UNAUTHENTICATED_SRTP" => Some(SessionParameter::UnauthenticatedSrtp),
        "UNENCRYPTED_SRTCP" => Some(SessionParameter::UnencryptedSrtcp),
        "UNENCRYPTED_SRTP" => Some(SessionParameter::UnencryptedSrtp),
        "WSH" => value
            .parse()
            .ok()
            .filter(|window| *window >= 64)
            .map(SessionParameter::Wsh),
        _ => None,
    };
    known.ok_or_else(|| {
        // RFC 4568 section 6.3.7: who does not know a mandatory parameter must not take the line.
        incompatible(format!("the session parameter {:?} is not known", short(name)))
    })
}

impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.tag, self.suite)?;
        for (at, key) in self.keys.iter().enumerate() {
            let between = if at == 0 { "" } else { ";" };
            write!(f, "{between}inline:{}", BASE64.encode(&key.key_and_salt))?;
            match key.lifetime {
                Some(packets) if packets.is_power_of_two() => write!(f, "|2^{}", packets.trailing_zeros())?,
                Some(packets) => write!(f, "|{packets}")?,
                None => {}
            }
            if let Some(mki) = key.mki {
                write!(f, "|{}:{}", mki.value, mki.length)?;
            }
        }
        self.session.iter().try_for_each(|param| write!(f, " {param}"))
    }
}

impl fmt::Display for SessionParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionParameter::FecKey(key) => write!(f, "FEC_KEY={key}"),
            SessionParameter::FecOrder(order) => write!(f, "FEC_ORDER={order}"),
            SessionParameter::Kdr(rate) => write!(f, "KDR={rate}"),
            SessionParameter::Optional(word) => f.write_str(word),
            SessionParameter::UnauthenticatedSrtp => f.write_str("UNAUTHENTICATED_SRTP"),
            SessionParameter::UnencryptedSrtcp => f.write_str("UNENCRYPTED_SRTCP"),
            SessionParameter::UnencryptedSrtp => f.write_str("UNENCRYPTED_SRTP"),
            SessionParameter::Wsh(window) => write!(f, "WSH={window}"),
        }
    }
}

/// An error repeats what the peer wrote, but not without end.
fn short(word: &str) -> String {
    word.chars().take(40).collect()
}

fn misbehaved(what: String) -> Error {
    Error::new(Fault::PeerMisbehaved, "read a=crypto", what)
        .advice("RFC 4568 section 9.1 says what a=crypto looks like")
}

fn incompatible(what: String) -> Error {
    let names: Vec<&str> = Suite::ALL.iter().map(|suite| suite.as_str()).collect();
    Error::new(Fault::PeerIncompatible, "read a=crypto", what).advice(format!(
        "let the peer offer one of {} with an inline key",
        names.join(", ")
    ))
}
