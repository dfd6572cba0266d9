//! Where an RTP packet's payload is (RFC 3550 section 5.1), without an allocation. An extension is passed over by its length, whatever
//! its profile; whoever knows an element's number may look for it.

use std::ops::Range;

/// Of the header before its lists (RFC 3550 section 5.1), in octets.
const FIXED: usize = 12;
/// Elements whose lengths are in half an octet (RFC 8285 section 4.2), and in a whole one (section 4.3).
const SHORT: [u8; 2] = [0xbe, 0xde];
const LONG: u8 = 0x10;

/// The header of one packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// First packet of a talk spurt or event, last one of a frame of video.
    pub marker: bool,
    /// The payload's type.
    pub payload_type: u8,
    /// Goes up by one.
    pub sequence: u16,
    /// In the clock of the payload type.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: u32,
    /// How many contributing sources (CSRC) it names, 0 to 15.
    pub sources: u8,
    /// The extension's content, without its profile and length; `None`: there is none.
    pub extension: Option<Range<usize>>,
    /// Octets before the payload.
    pub length: usize,
    is_padded: bool,
}

impl Header {
    /// Of this packet; `None` if it is not of version 2, or its lists are longer than it is.
    pub fn read(packet: &[u8]) -> Option<Header> {
        let fixed: &[u8; FIXED] = packet.first_chunk()?;
        let [first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *fixed;
        if first >> 6 != 2 {
            return None;
        }
        let sources = first & 0x0f;
        let mut length = FIXED + 4 * usize::from(sources);
        let mut extension = None;
        if first & 0x10 != 0 {
            let &[_, _, high, low] = packet.get(length..length + 4)? else {
                return None;
            };
            let begin = length + 4;
            length = begin + 4 * usize::from(u16::from_be_bytes([high, low]));
            extension = Some(begin..length);
        }
        (length <= packet.len()).then_some(Header {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            sources,
            extension,
            length,
            is_padded: first & 0x20 != 0,
        })
    }

    /// Where the payload is in the packet, once it is not encrypted any more. `None` if it says that it is padded, and is not: the
    /// last octet counts the padding with itself, so that it is neither 0 nor more than there is.
    pub fn payload(&self, packet: &[u8]) -> Option<Range<usize>> {
        let payload = packet.get(self.length..)?;
        if !self.is_padded {
            return Some(self.length..packet.len());
        }
        let padding = usize::from(*payload.last()?);
        (1..=payload.len())
            .contains(&padding)
            .then(|| self.length..packet.len() - padding)
    }
}

impl Header {
    /// The element of this number in the packet's extension (RFC 8285). The extension is never encrypted.
    pub fn element<'p>(&self, packet: &'p [u8], number: u8) -> Option<&'p [u8]> {
        let range = self.extension.clone()?;
        let profile = packet.get(range.start.checked_sub(4)?..)?.first_chunk()?;
        let mut rest = packet.get(range)?;
        loop {
            let (own, length);
            (own, length, rest) = match (*profile, rest) {
                // Padding.
                (_, [0, after @ ..]) => {
                    rest = after;
                    continue;
                }
                (SHORT, [head, after @ ..]) if head >> 4 != 15 => {
                    (head >> 4, usize::from(head & 15) + 1, after)
                }
                ([LONG, _], [own, length, after @ ..]) => (*own, usize::from(*length), after),
                _ => return None,
            };
            let (element, after) = rest.split_at_checked(length)?;
            if own == number {
                return Some(element);
            }
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet with these first octets and what follows the fixed header.
    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, 0x80 | 9, 1, 2, 0, 0, 0, 7, 0, 0, 0, 5];
        packet.extend(rest);
        packet
    }

    fn payload(packet: &[u8]) -> Option<&[u8]> {
        packet.get(Header::read(packet)?.payload(packet)?)
    }

    #[test]
    fn the_payload_stands_behind_sources_and_any_extension_and_before_the_padding() {
        let header = Header::read(&packet(0x80, b"sound")).unwrap();
        assert_eq!(
            (
                header.marker,
                header.payload_type,
                header.sequence,
                header.timestamp,
                header.ssrc
            ),
            (true, 9, 0x102, 7, 5)
        );
        assert_eq!(payload(&packet(0x80, b"sound")), Some(&b"sound"[..]));
        assert_eq!(payload(&packet(0x80, b"")), Some(&b""[..]));
        assert_eq!(payload(&packet(0x82, b"csrccsrcsound")), Some(&b"sound"[..]));
        let all_sources = [&[1; 60], &b"sound"[..]].concat();
        assert_eq!(payload(&packet(0x8f, &all_sources)), Some(&b"sound"[..]));
        // RFC 8285: one octet, two octets, one that ends with id 15, elements longer than it is; and a profile that nobody knows.
        for profile in [[0xbe, 0xde], [0x10, 0x00], [0x12, 0x34]] {
            for content in [
                [0x10, 1, 0, 0],
                [0xf0, 1, 2, 3],
                [0x1f, 1, 2, 3],
                [0, 0, 0, 0],
                [1, 200, 0, 0],
            ] {
                let rest = [&profile[..], &[0, 1], &content, b"sound"].concat();
                assert_eq!(payload(&packet(0x90, &rest)), Some(&b"sound"[..]), "{rest:?}");
            }
        }
        assert_eq!(payload(&packet(0xa0, b"sound\0\0\x03")), Some(&b"sound"[..]));
        assert_eq!(payload(&packet(0xa0, b"\0\0\x03")), Some(&b""[..]));
    }

    #[test]
    fn what_is_longer_than_the_packet_is_none() {
        for version in [0x00, 0x40, 0xc0] {
            assert_eq!(Header::read(&packet(version, b"sound")), None);
        }
        assert_eq!(Header::read(&packet(0x80, b"")[..11]), None);
        assert_eq!(Header::read(&packet(0x8f, &[0; 59])), None);
        assert_eq!(Header::read(&packet(0x90, &[0xbe, 0xde, 0])), None);
        assert_eq!(Header::read(&packet(0x90, &[0xbe, 0xde, 0, 1, 0, 0, 0])), None);
        assert_eq!(
            Header::read(&packet(0x90, &[0xbe, 0xde, 0xff, 0xff, 0, 0, 0, 0])),
            None
        );
        for padding in [&b"sound\0"[..], b"sound\x07", b""] {
            assert_eq!(payload(&packet(0xa0, padding)), None, "{padding:?}");
        }
    }

    #[test]
    fn an_element_is_found_by_its_number() {
        let element = |profile: [u8; 2], content: &[u8], number: u8| {
            let words = u8::try_from(content.len() / 4).unwrap();
            let packet = packet(0x90, &[&profile[..], &[0, words], content, b"sound"].concat());
            Header::read(&packet)?
                .element(&packet, number)
                .map(<[u8]>::to_vec)
        };
        let short = [0x10, 0xaa, 0, 0x31, 1, 2, 0, 0];
        assert_eq!(element(SHORT, &short, 1), Some(vec![0xaa]));
        assert_eq!(element(SHORT, &short, 3), Some(vec![1, 2]));
        assert_eq!(element(SHORT, &short, 2), None);
        let long = [3, 2, 1, 2, 0, 9, 0, 0];
        assert_eq!(element([0x10, 0x07], &long, 3), Some(vec![1, 2]));
        assert_eq!(element([0x10, 0x07], &long, 9), Some(vec![]));
        // A profile that nobody knows, an end, one that is longer than there is.
        assert_eq!(element([0x12, 0x34], &short, 1), None);
        assert_eq!(element(SHORT, &[0xf0, 1, 0x10, 2], 1), None);
        assert_eq!(element(SHORT, &[0x17, 1, 2, 3], 1), None);
        let plain = packet(0x80, b"sound");
        assert_eq!(Header::read(&plain).unwrap().element(&plain, 1), None);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic_and_the_payload_is_within(octets in proptest::collection::vec(any::<u8>(), 0..120)) {
            for first in [octets.first().copied().unwrap_or_default(), 0x9f, 0xbf, 0xb1] {
                let mut octets = octets.clone();
                if let Some(octet) = octets.first_mut() {
                    *octet = first;
                }
                if let Some(header) = Header::read(&octets) {
                    prop_assert!(header.length <= octets.len());
                    for number in 0..=255 {
                        prop_assert!(header.element(&octets, number).is_none_or(|element| element.len() < octets.len()));
                    }
                    prop_assert!(header.payload(&octets).is_none_or(|payload| octets.get(payload).is_some()));
                }
            }
        }
    }
}
