//! What a capture of the wire says of each call: the same eyes for every contestant.

use siprtc_core::{Error, Fault, Result};
use std::path::Path;

fn failed(operation: &'static str, what: &str) -> Error {
    Error::new(Fault::Backend, operation, what)
}

/// A UDP datagram's beginning.
pub struct Datagram {
    /// µs since 1970, the capturing kernel's.
    pub at: u64,
    pub from: (u32, u16),
    pub to: (u32, u16),
    payload: Vec<u8>,
}

impl Datagram {
    fn is_invite(&self) -> bool {
        self.payload.starts_with(b"INVITE sip:")
    }

    /// RTP and not RTCP, by its first octets (RFC 7983 section 7, RFC 5761 section 4).
    fn is_rtp(&self) -> bool {
        matches!(self.payload.as_slice(), [128..=191, second, ..] if !(192..=223).contains(second))
            && self.payload.len() >= 12
    }

    fn is_dtls(&self) -> bool {
        matches!(self.payload.first(), Some(20..=63))
    }
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

fn little(octets: &[u8], at: usize) -> Option<u32> {
    u32_at(octets, at).map(u32::swap_bytes)
}

/// Ethernet, IPv4, UDP; anything else is nothing.
fn datagram(at: u64, frame: &[u8]) -> Option<Datagram> {
    let packet = frame.get(14..).filter(|_| u16_at(frame, 12) == Some(0x0800))?;
    let header = usize::from(packet.first()? & 15) * 4;
    let udp = packet.get(header..).filter(|_| packet.get(9) == Some(&17))?;
    Some(Datagram {
        at,
        from: (u32_at(packet, 12)?, u16_at(udp, 0)?),
        to: (u32_at(packet, 16)?, u16_at(udp, 2)?),
        payload: udp.get(8..)?.to_vec(),
    })
}

/// Every UDP datagram of a capture file (libpcap's classic format, little-endian, µs).
pub fn read(path: &Path) -> Result<Vec<Datagram>> {
    let octets =
        std::fs::read(path).map_err(|error| failed("read the capture", "no file").caused_by(error))?;
    parse(&octets).ok_or_else(|| failed("read the capture", "no capture of Ethernet in libpcap's format"))
}

fn parse(octets: &[u8]) -> Option<Vec<Datagram>> {
    if little(octets, 0)? != 0xa1b2_c3d4 || little(octets, 20)? != 1 {
        return None;
    }
    let mut datagrams = Vec::new();
    let mut rest = octets.get(24..)?;
    while let (Some(seconds), Some(micros), Some(length)) =
        (little(rest, 0), little(rest, 4), little(rest, 8))
    {
        // The last record may be cut off.
        let Some(frame) = rest.get(16..16 + length as usize) else {
            break;
        };
        datagrams.extend(datagram(
            u64::from(seconds) * 1_000_000 + u64::from(micros),
            frame,
        ));
        rest = rest.get(16 + length as usize..)?;
    }
    Some(datagrams)
}

/// A call as seen on the wire, in µs since 1970.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub invite: u64,
    /// The first DTLS record.
    pub dtls: u64,
    /// When both ways had had an RTP packet.
    pub media: u64,
}

/// The call in a span of time; `None` when it has no INVITE, no DTLS, or no RTP in one of the ways.
pub fn seen(datagrams: &[Datagram], from: u64, until: u64) -> Option<Seen> {
    let in_time = || {
        datagrams
            .iter()
            .filter(|datagram| (from..until).contains(&datagram.at))
    };
    let invite = in_time().find(|datagram| datagram.is_invite())?.at;
    let dtls = in_time()
        .find(|datagram| datagram.at >= invite && datagram.is_dtls())?
        .at;
    // Encrypted: nothing before DTLS counts.
    let mut rtp = in_time().filter(|datagram| datagram.at >= dtls && datagram.is_rtp());
    let first = rtp.next()?;
    let other_way = rtp.find(|datagram| datagram.from == first.to && datagram.to == first.from)?;
    Some(Seen {
        invite,
        dtls,
        media: other_way.at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: u64, from: u16, to: u16, payload: &[u8]) -> Datagram {
        Datagram {
            at,
            from: (1, from),
            to: (1, to),
            payload: payload.to_vec(),
        }
    }

    fn rtp(kind: u8) -> [u8; 12] {
        let mut packet = [0; 12];
        (packet[0], packet[1]) = (128, kind);
        packet
    }

    #[test]
    fn media_is_there_when_both_ways_have_had_a_packet() {
        let mut wire = vec![
            at(5, 1, 2, b"INVITE sip:old SIP/2.0"),
            at(10, 5062, 5060, b"INVITE sip:bob@x SIP/2.0"),
            at(20, 7, 8, &[22, 254, 253]),
            at(30, 7, 8, &rtp(111)),
            at(35, 8, 7, &rtp(200)),
            at(40, 7, 8, &rtp(111)),
        ];
        assert_eq!(
            seen(&wire, 6, 100),
            None,
            "RTCP is no RTP, and one way is not both"
        );
        wire.push(at(50, 8, 7, &rtp(111)));
        assert_eq!(
            seen(&wire, 6, 100),
            Some(Seen {
                invite: 10,
                dtls: 20,
                media: 50
            })
        );
        assert_eq!(seen(&wire, 6, 50), None, "later packets are another call's");
    }

    #[test]
    fn a_capture_gives_its_udp_datagrams_and_a_cut_record_is_left_out() {
        let mut frame = vec![0; 12];
        frame.extend([
            8, 0, 0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 203, 0, 113, 1, 203, 0, 113, 2,
        ]);
        frame.extend([0x13, 0xc4, 0x13, 0xc5, 0, 13, 0, 0]);
        frame.extend(b"hello");
        let mut file: Vec<u8> = [0xa1b2_c3d4u32, 0, 0, 0, 128, 1]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        for length in [frame.len() as u32, 1000] {
            file.extend(
                [2u32, 7, length, length]
                    .iter()
                    .flat_map(|word| word.to_le_bytes()),
            );
            file.extend(&frame);
        }
        let datagrams = parse(&file).unwrap();
        assert_eq!(datagrams.len(), 1);
        let hello = &datagrams[0];
        assert_eq!(
            (hello.at, hello.from.1, hello.to.1, hello.payload.as_slice()),
            (2_000_007, 5060, 5061, &b"hello"[..])
        );
        assert!(parse(b"no capture").is_none());
    }
}
