//! What makes two messages one transaction's (RFC 3261 sections 17.1.3 and 17.2.3).

use siprtc_core::Result;
use siprtc_core::sip::{Headers, Method, Via};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// RFC 3261 section 8.1.1.7: a branch that begins so is unique.
const MAGIC_COOKIE: &str = "z9hG4bK";

/// 128 bits of a keyed hash. Quarters, because a map's entries are then 20 octets and not 24.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Key([u32; 4]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) << 32 | u64::from(self.0[1]));
    }
}

/// A map by key. The key is a keyed hash already: nobody outside can choose where it goes.
pub(crate) type KeyMap<V> = HashMap<Key, V, BuildHasherDefault<AsItIs>>;

/// Hands a key's own bits on.
#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(*octet);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Makes keys; its own secret is the process's, from the system's randomness.
#[derive(Default)]
pub(crate) struct Keys {
    left: RandomState,
    right: RandomState,
}

impl Keys {
    /// Of a request of ours with `via` on top, and of the answers to it, whose CSeq names `method`.
    pub(crate) fn client(&self, via: &Via, method: &Method) -> Key {
        let branch = via.branch().unwrap_or_default();
        self.key(&("client", branch, &via.host, via.port, method.as_str()))
    }

    /// Of a request from outside, as if its method were `method`: ACK and CANCEL are looked up as their INVITE.
    /// Works with the header fields of their answers, too.
    pub(crate) fn server(&self, headers: &Headers, via: &Via, method: &Method) -> Result<Key> {
        let (branch, method) = (via.branch().unwrap_or_default(), method.as_str());
        if has_cookie(branch) {
            return Ok(self.key(&("server", branch, &via.host, via.port, method)));
        }
        // RFC 2543's way. To stays out, for the ACK's has a tag that the INVITE's has not; so does the Request-URI,
        // which an answer has not.
        let dialog = (headers.call_id()?, headers.from_tag()?, headers.cseq()?.sequence);
        Ok(self.key(&("old", branch, &via.host, via.port, method, dialog)))
    }

    /// A word that nobody outside can guess.
    pub(crate) fn secret(&self) -> String {
        format!("{:016x}", self.left.hash_one("secret"))
    }

    fn key(&self, what: &impl Hash) -> Key {
        let (left, right) = (self.left.hash_one(what), self.right.hash_one(what));
        Key([
            (left >> 32) as u32,
            left as u32,
            (right >> 32) as u32,
            right as u32,
        ])
    }
}

/// Case is ignored, for it got lost in some senders.
pub(crate) fn has_cookie(branch: &str) -> bool {
    branch
        .get(..MAGIC_COOKIE.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
}

/// Gives memory back after a burst. Called when something has been removed.
pub(crate) fn shrink<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    /// Not worth the work below this many.
    const SMALL: usize = 1024;
    if map.capacity() > SMALL && map.len() < map.capacity() / 4 {
        map.shrink_to((map.len() * 2).max(SMALL / 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(via: &str, cseq: &str) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in [
            ("Via", via),
            ("From", "<sip:a@b>;tag=1"),
            ("To", "<sip:c@d>"),
            ("Call-ID", "x"),
            ("CSeq", cseq),
        ] {
            headers.push(name, value);
        }
        headers
    }

    fn same(left: &Headers, right: &Headers) -> bool {
        let keys = Keys::default();
        let key = |headers: &Headers| {
            let via = headers.top_via().unwrap();
            keys.server(headers, &via, &Method::Invite).unwrap()
        };
        key(left) == key(right)
    }

    #[test]
    fn a_branch_with_the_cookie_and_the_sent_by_are_enough() {
        let one = headers("SIP/2.0/UDP h:5;branch=z9hG4bKa", "1 INVITE");
        assert!(same(
            &one,
            &headers("SIP/2.0/TCP H:5;rport=7;branch=z9hG4bKa", "2 INVITE")
        ));
        for via in [
            "SIP/2.0/UDP h:6;branch=z9hG4bKa",
            "SIP/2.0/UDP h;branch=z9hG4bKa",
            "SIP/2.0/UDP g:5;branch=z9hG4bKa",
            "SIP/2.0/UDP h:5;branch=z9hG4bKA",
        ] {
            assert!(!same(&one, &headers(via, "1 INVITE")), "{via}");
        }
    }

    #[test]
    fn without_the_cookie_the_dialog_counts_too() {
        let one = headers("SIP/2.0/UDP h", "1 INVITE");
        let mut ack = headers("SIP/2.0/UDP h;received=192.0.2.1", "1 ACK");
        ack.set("To", "<sip:c@d>;tag=2");
        assert!(same(&one, &ack));
        for (via, cseq) in [
            ("SIP/2.0/UDP h", "2 INVITE"),
            ("SIP/2.0/UDP g", "1 INVITE"),
            ("SIP/2.0/UDP h;branch=1", "1 INVITE"),
        ] {
            assert!(!same(&one, &headers(via, cseq)), "{via} {cseq}");
        }
        let mut other = one.clone();
        other.set("From", "<sip:a@b>;tag=9");
        assert!(!same(&one, &other));
        other = one.clone();
        other.set("Call-ID", "y");
        assert!(!same(&one, &other));
    }

    #[test]
    fn the_two_sides_of_a_transaction_with_oneself_are_two() {
        let keys = Keys::default();
        let headers = headers("SIP/2.0/UDP h;branch=z9hG4bKa", "1 INVITE");
        let via = headers.top_via().unwrap();
        assert_ne!(
            keys.client(&via, &Method::Invite),
            keys.server(&headers, &via, &Method::Invite).unwrap()
        );
        assert_ne!(
            keys.client(&via, &Method::Invite),
            keys.client(&via, &Method::Cancel)
        );
    }

    #[test]
    fn a_map_gives_its_memory_back() {
        let keys = Keys::default();
        let mut map = KeyMap::default();
        for number in 0..10_000 {
            map.insert(keys.key(&number), ());
        }
        let full = map.capacity();
        for number in 0..10_000 {
            map.remove(&keys.key(&number));
            shrink(&mut map);
        }
        assert!(map.capacity() * 8 < full, "{} of {full}", map.capacity());
    }
}
