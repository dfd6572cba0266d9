//! STUN challenges with few nonces.
//!
//! The `turn` crate remembers one nonce for every request that it challenges, for ever: anybody could fill its memory
//! with unauthenticated requests. So all clients of ten minutes share one nonce: the library is asked for it once, and
//! every other request that would be challenged is answered here, without the library seeing it.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long one nonce is given out.
const GIVEN_FOR: Duration = Duration::from_secs(600);
/// How long a nonce given out is good for; the library's own limit is an hour.
const GOOD_FOR: Duration = Duration::from_secs(3000);
/// Most nonces that are good at once. The oldest goes.
const MAX_NONCES: usize = 8;

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const METHOD_BINDING: u16 = 0x0001;
const CLASS_MASK: u16 = 0x0110;
const CLASS_ERROR: u16 = 0x0110;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;

/// What to do with a datagram.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Send this back; the library need not see the request.
    Answer(Vec<u8>),
    /// The library's.
    Pass,
}

#[derive(Debug)]
pub(crate) struct Challenger {
    realm: Vec<u8>,
    /// Oldest first.
    nonces: VecDeque<(Vec<u8>, Instant)>,
}

impl Challenger {
    pub(crate) fn new(realm: &str) -> Self {
        Challenger {
            realm: realm.as_bytes().to_vec(),
            nonces: VecDeque::new(),
        }
    }

    /// Looks at a datagram from a client.
    pub(crate) fn inspect(&mut self, now: Instant, datagram: &[u8]) -> Verdict {
        self.nonces
            .retain(|(_, since)| now.duration_since(*since) < GOOD_FOR);
        let Some(stun) = Stun::read(datagram) else {
            return Verdict::Pass;
        };
        if stun.typ & CLASS_MASK != 0 || stun.typ == METHOD_BINDING {
            return Verdict::Pass;
        }
        let Some((current, since)) = self.nonces.back() else {
            return Verdict::Pass;
        };
        if now.duration_since(*since) >= GIVEN_FOR {
            return Verdict::Pass;
        }
        let known = |nonce: &[u8]| self.nonces.iter().any(|(good, _)| good == nonce);
        match (stun.attribute(MESSAGE_INTEGRITY), stun.attribute(NONCE)) {
            (None, _) => Verdict::Answer(stun.challenge([4, 1], &self.realm, current)),
            (Some(_), Some(nonce)) if !known(nonce) => {
                Verdict::Answer(stun.challenge([4, 38], &self.realm, current))
            }
            (Some(_), _) => Verdict::Pass,
        }
    }

    /// Looks at what the library sends, for its nonces.
    pub(crate) fn learn(&mut self, now: Instant, datagram: &[u8]) {
        let Some(stun) = Stun::read(datagram) else { return };
        let Some(nonce) = stun
            .attribute(NONCE)
            .filter(|_| stun.typ & CLASS_MASK == CLASS_ERROR)
        else {
            return;
        };
        if self.nonces.len() >= MAX_NONCES {
            self.nonces.pop_front();
        }
        self.nonces.push_back((nonce.to_vec(), now));
    }
}

/// A STUN message (RFC 8489 section 5), as far as it matters here.
struct Stun<'a> {
    typ: u16,
    transaction: &'a [u8],
    attributes: &'a [u8],
}

impl<'a> Stun<'a> {
    fn read(datagram: &'a [u8]) -> Option<Self> {
        let header = datagram.get(..HEADER)?;
        if header[0] & 0xc0 != 0 || header[4..8] != MAGIC_COOKIE {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        Some(Stun {
            typ: u16::from_be_bytes([header[0], header[1]]),
            transaction: &header[8..HEADER],
            attributes: datagram.get(HEADER..HEADER + length)?,
        })
    }

    fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        let mut rest = self.attributes;
        while let Some((head, tail)) = rest.split_at_checked(4) {
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = tail.get(..length)?;
            if u16::from_be_bytes([head[0], head[1]]) == wanted {
                return Some(value);
            }
            rest = tail.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        None
    }

    /// 401 (Unauthenticated) or 438 (Stale Nonce) to this request (RFC 8489 section 9.2.4).
    fn challenge(&self, [class, number]: [u8; 2], realm: &[u8], nonce: &[u8]) -> Vec<u8> {
        let mut attributes = Vec::new();
        push(&mut attributes, ERROR_CODE, &[0, 0, class, number]);
        push(&mut attributes, NONCE, nonce);
        push(&mut attributes, REALM, realm);
        let mut message = (self.typ | CLASS_ERROR).to_be_bytes().to_vec();
        message.extend((attributes.len() as u16).to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend(self.transaction);
        message.extend(attributes);
        message
    }
}

fn push(attributes: &mut Vec<u8>, typ: u16, value: &[u8]) {
    attributes.extend(typ.to_be_bytes());
    attributes.extend((value.len() as u16).to_be_bytes());
    attributes.extend(value);
    attributes.resize(attributes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOCATE: u16 = 0x0003;

    fn request(typ: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        attributes
            .iter()
            .for_each(|(typ, value)| push(&mut body, *typ, value));
        let mut message = typ.to_be_bytes().to_vec();
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend([7; 12]);
        message.extend(body);
        message
    }

    fn taught(now: Instant) -> Challenger {
        let mut challenger = Challenger::new("home.example");
        challenger.learn(now, &request(ALLOCATE | CLASS_ERROR, &[(NONCE, b"abc")]));
        challenger
    }

    #[test]
    fn the_first_request_goes_to_the_library_and_the_next_ten_minutes_share_its_nonce() {
        let now = Instant::now();
        let naked = request(ALLOCATE, &[]);
        assert_eq!(
            Challenger::new("home.example").inspect(now, &naked),
            Verdict::Pass
        );
        let mut challenger = taught(now);
        let Verdict::Answer(answer) = challenger.inspect(now, &naked) else {
            panic!("not answered")
        };
        let answer = Stun::read(&answer).expect("a STUN message");
        assert_eq!(answer.typ, 0x0113);
        assert_eq!(answer.transaction, [7; 12]);
        assert_eq!(answer.attribute(ERROR_CODE), Some(&[0, 0, 4, 1][..]));
        assert_eq!(answer.attribute(NONCE), Some(&b"abc"[..]));
        assert_eq!(answer.attribute(REALM), Some(&b"home.example"[..]));
        assert_eq!(challenger.inspect(now + GIVEN_FOR, &naked), Verdict::Pass);
    }

    #[test]
    fn an_unknown_nonce_is_stale_and_a_known_one_is_the_librarys_business() {
        let now = Instant::now();
        let signed =
            |nonce: &'static [u8]| request(ALLOCATE, &[(NONCE, nonce), (MESSAGE_INTEGRITY, &[0; 20])]);
        let mut challenger = taught(now);
        assert_eq!(challenger.inspect(now, &signed(b"abc")), Verdict::Pass);
        let Verdict::Answer(answer) = challenger.inspect(now, &signed(b"forged")) else {
            panic!("not answered")
        };
        let answer = Stun::read(&answer).expect("a STUN message");
        assert_eq!(answer.attribute(ERROR_CODE), Some(&[0, 0, 4, 38][..]));
    }

    #[test]
    fn binding_requests_indications_and_channel_data_pass() {
        let now = Instant::now();
        let mut challenger = taught(now);
        for datagram in [
            request(METHOD_BINDING, &[]),
            request(0x0016, &[]),
            vec![0x40, 0, 0, 4, 1, 2, 3, 4],
        ] {
            assert_eq!(challenger.inspect(now, &datagram), Verdict::Pass);
        }
    }

    #[test]
    fn cut_and_lying_messages_pass_without_a_panic() {
        let now = Instant::now();
        let mut challenger = taught(now);
        let whole = request(ALLOCATE, &[(NONCE, b"abc"), (MESSAGE_INTEGRITY, &[0; 20])]);
        for end in 0..whole.len() {
            challenger.inspect(now, &whole[..end]);
        }
        let mut lying = whole.clone();
        lying[HEADER + 2..HEADER + 4].copy_from_slice(&[0xff, 0xff]);
        challenger.inspect(now, &lying);
        lying[2..4].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(challenger.inspect(now, &lying), Verdict::Pass);
    }
}
