//! Connectivity checks as octets (RFC 8445 section 7, RFC 8489): what is sent for consent and answered at rest, with the keys
//! made once.

use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign, verify};
use rtc_stun::fingerprint::fingerprint_value;
use siprtc_core::ice::{IceParameters, IceRole};
use std::net::{IpAddr, SocketAddr};

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const USERNAME: u16 = 0x0006;
const INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const CONTROLLED: u16 = 0x8029;
const CONTROLLING: u16 = 0x802A;
/// Of a check on a selected pair: a peer-reflexive candidate's (RFC 8445 section 7.1.1).
const OUR_PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;
/// RFC 8445 section 7.3.1.1.
pub(super) const ROLE_CONFLICT: u16 = 487;

pub(super) type TransactionId = [u8; 12];

/// A message's class (RFC 8489 section 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    Error,
    Indication,
    Request,
    Success,
}

/// A Binding message.
pub(super) struct Message<'a> {
    pub(super) class: Class,
    pub(super) id: TransactionId,
    /// The role that the sender claims, with its tie-breaker.
    pub(super) role: Option<(IceRole, u64)>,
    pub(super) nominates: bool,
    pub(super) error: Option<u16>,
    pub(super) username: Option<&'a [u8]>,
    /// What MESSAGE-INTEGRITY covers, and its value.
    signed: Option<(&'a [u8], [u8; 20])>,
}

impl<'a> Message<'a> {
    /// `None`: it is no Binding message, or is damaged. What stands behind MESSAGE-INTEGRITY is not looked at (RFC 8489 section
    /// 14.5).
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let head: &[u8; HEADER] = data.first_chunk()?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[4..8] != COOKIE || length + HEADER != data.len() || kind & !0x0110 != REQUEST {
            return None;
        }
        let mut message = Message {
            class: match kind & 0x0110 {
                0 => Class::Request,
                0x0010 => Class::Indication,
                0x0100 => Class::Success,
                _ => Class::Error,
            },
            id: *head.last_chunk()?,
            role: None,
            nominates: false,
            error: None,
            username: None,
            signed: None,
        };
        let mut at = HEADER;
        while let Some(&[high, low, long, short]) = data.get(at..at + 4) {
            let length = usize::from(u16::from_be_bytes([long, short]));
            let value = data.get(at + 4..at + 4 + length)?;
            match u16::from_be_bytes([high, low]) {
                USERNAME => message.username = Some(value),
                ERROR_CODE => {
                    message.error = value
                        .get(2..4)
                        .map(|code| u16::from(code[0] & 7) * 100 + u16::from(code[1]))
                }
                USE_CANDIDATE => message.nominates = true,
                CONTROLLED => message.role = number(value).map(|tie| (IceRole::Controlled, tie)),
                CONTROLLING => message.role = number(value).map(|tie| (IceRole::Controlling, tie)),
                INTEGRITY => {
                    message.signed = Some((&data[..at], *value.first_chunk()?));
                    break;
                }
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        Some(message)
    }

    /// RFC 8489 section 14.5.
    pub(super) fn is_signed(&self, key: &Key) -> bool {
        let Some((covered, tag)) = &self.signed else {
            return false;
        };
        verify(key, &counted(covered, 24), tag).is_ok()
    }
}

fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*value.first_chunk()?))
}

/// `covered` with a length that is `more` octets longer.
fn counted(covered: &[u8], more: usize) -> Vec<u8> {
    let mut counted = covered.to_vec();
    let length = (covered.len() + more).saturating_sub(HEADER) as u16;
    if let Some(place) = counted.get_mut(2..4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    counted
}

/// The key of a password (RFC 8489 section 9.1.1).
pub(super) fn key(password: &str) -> Key {
    Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// The words of both sides of one generation.
pub(super) struct Keys {
    pub(super) ours: Key,
    pub(super) theirs: Key,
    username: Vec<u8>,
}

impl Keys {
    pub(super) fn new(ours: &IceParameters, theirs: &IceParameters) -> Self {
        Keys {
            ours: key(&ours.pwd),
            theirs: key(&theirs.pwd),
            username: format!("{}:{}", theirs.ufrag, ours.ufrag).into_bytes(),
        }
    }

    /// A check of ours.
    pub(super) fn request(&self, id: TransactionId, role: IceRole, tie_breaker: u64) -> Vec<u8> {
        let role = match role {
            IceRole::Controlled => CONTROLLED,
            IceRole::Controlling => CONTROLLING,
        };
        let mut data = begin(REQUEST, id);
        add(&mut data, USERNAME, &self.username);
        add(&mut data, PRIORITY, &OUR_PRIORITY.to_be_bytes());
        add(&mut data, role, &tie_breaker.to_be_bytes());
        finish(data, &self.theirs)
    }

    /// The answer to a check of the peer's that came from `from`.
    pub(super) fn success(&self, id: TransactionId, from: SocketAddr) -> Vec<u8> {
        let mut data = begin(SUCCESS, id);
        let port = from.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let mask = [&COOKIE[..], &id].concat();
        let (family, address) = match from.ip() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let mut value = vec![0, family];
        value.extend(port.to_be_bytes());
        value.extend(address.iter().zip(&mask).map(|(octet, mask)| octet ^ mask));
        add(&mut data, XOR_MAPPED_ADDRESS, &value);
        finish(data, &self.ours)
    }
}

/// The answer to a check whose sender claims a role that is ours.
pub(super) fn role_conflict(id: TransactionId, ours: &Key) -> Vec<u8> {
    let mut data = begin(ERROR, id);
    add(&mut data, ERROR_CODE, b"\0\0\x04\x57Role Conflict");
    finish(data, ours)
}

fn begin(kind: u16, id: TransactionId) -> Vec<u8> {
    let mut data = Vec::with_capacity(128);
    data.extend(kind.to_be_bytes());
    data.extend([0, 0]);
    data.extend(COOKIE);
    data.extend(id);
    data
}

fn add(data: &mut Vec<u8>, kind: u16, value: &[u8]) {
    data.extend(kind.to_be_bytes());
    data.extend((value.len() as u16).to_be_bytes());
    data.extend(value);
    data.resize(data.len().next_multiple_of(4), 0);
}

fn finish(data: Vec<u8>, key: &Key) -> Vec<u8> {
    let mut data = counted(&data, 24);
    let tag = sign(key, &data);
    add(&mut data, INTEGRITY, tag.as_ref());
    let mut data = counted(&data, 8);
    let print = fingerprint_value(&data);
    add(&mut data, FINGERPRINT, &print.to_be_bytes());
    data
}

#[cfg(test)]
mod tests;
