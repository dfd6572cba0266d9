//! STUN messages (RFC 8489 section 5) as far as a TURN server reads and writes them, by the crate `turn-types`.

use crate::machine::Flow;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use turn_types::AddressFamily;
use turn_types::attribute as turn;
use turn_types::stun::attribute::{
    AttributeType, ErrorCode, Fingerprint, MessageIntegrity, MessageIntegritySha256, Nonce, Realm,
    UnknownAttributes, Username, XorMappedAddress,
};
use turn_types::stun::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageType,
    MessageWrite, MessageWriteExt, MessageWriteVec, Method, TransactionId,
};
use turn_types::stun::prelude::{Attribute, AttributeFromRaw, AttributeStaticType, AttributeWrite};

pub(crate) const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// What stands before the data of a Data indication: the message's header, XOR-PEER-ADDRESS of an IPv6 address, and the
/// header of DATA. ChannelData's header is shorter.
pub(crate) const HEADROOM: usize = HEADER + 24 + 4;
/// Padding behind it.
pub(crate) const TAILROOM: usize = 3;
/// Octets of ChannelData's header (RFC 8656 section 12.4).
pub(crate) const CHANNEL_HEADER: usize = 4;

/// What the first octets of a message say it is (RFC 8656 section 12).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// ChannelData of this channel, with so much data.
    Channel(u16, usize),
    /// STUN, so long with its header.
    Stun(usize),
}

impl Kind {
    /// Of a message that begins with these four octets; `None` when it is neither.
    pub(crate) fn of(first: &[u8]) -> Option<Kind> {
        let [a, b, c, d, ..] = *first else { return None };
        let (word, length) = (
            u16::from_be_bytes([a, b]),
            usize::from(u16::from_be_bytes([c, d])),
        );
        match word >> 14 {
            0 if length % 4 == 0 => Some(Kind::Stun(HEADER + length)),
            1 => Some(Kind::Channel(word, length)),
            _ => None,
        }
    }

    /// Octets that the message takes on a connection, where ChannelData is padded (RFC 8656 section 12.5).
    pub(crate) fn framed(self) -> usize {
        match self {
            Kind::Channel(_, length) => CHANNEL_HEADER + length.next_multiple_of(4),
            Kind::Stun(length) => length,
        }
    }
}

/// A STUN message with the attributes that TURN knows. Of an attribute that stands twice the first counts (RFC 8489
/// section 14).
pub(crate) struct Stun<'a> {
    pub(crate) message: Message<'a>,
    pub(crate) username: Option<Username>,
    pub(crate) has_realm: bool,
    pub(crate) nonce: Option<Nonce>,
    pub(crate) has_integrity: bool,
    pub(crate) has_fingerprint: bool,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) more_peers: Vec<SocketAddr>,
    pub(crate) channel: Option<u16>,
    pub(crate) lifetime: Option<u32>,
    pub(crate) transport: Option<u8>,
    /// REQUESTED-ADDRESS-FAMILY; `Some(None)` for one that does not exist.
    pub(crate) family: Option<Option<Family>>,
    pub(crate) additional_family: Option<Option<Family>>,
    /// EVEN-PORT, with its R bit.
    pub(crate) even_port: Option<bool>,
    pub(crate) has_reservation: bool,
    /// Where DATA is.
    pub(crate) data: Option<Range<usize>>,
    /// Attributes that must be understood and are not.
    pub(crate) unknown: Vec<AttributeType>,
    /// An attribute that is known and cannot be read.
    pub(crate) broken: bool,
}

/// Of a relayed address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl From<AddressFamily> for Family {
    fn from(family: AddressFamily) -> Self {
        match family {
            AddressFamily::IPV4 => Family::V4,
            AddressFamily::IPV6 => Family::V6,
        }
    }
}

impl<'a> Stun<'a> {
    /// Reads a message of exactly this length. A wrong FINGERPRINT makes it no message.
    pub(crate) fn read(octets: &'a [u8]) -> Option<Self> {
        if octets.get(4..8)? != COOKIE {
            return None;
        }
        let message = Message::from_bytes(octets).ok()?;
        let mut stun = Stun {
            message,
            username: None,
            has_realm: false,
            nonce: None,
            has_integrity: false,
            has_fingerprint: false,
            peer: None,
            more_peers: Vec::new(),
            channel: None,
            lifetime: None,
            transport: None,
            family: None,
            additional_family: None,
            even_port: None,
            has_reservation: false,
            data: None,
            unknown: Vec::new(),
            broken: false,
        };
        stun.attributes();
        Some(stun)
    }

    fn attributes(&mut self) {
        let transaction = self.message.transaction_id();
        let message = self.message;
        for (offset, raw) in message.iter_attributes() {
            let broken = &mut self.broken;
            match raw.get_type() {
                MessageIntegrity::TYPE => self.has_integrity = true,
                Fingerprint::TYPE => self.has_fingerprint = true,
                Username::TYPE => put(&mut self.username, Username::from_raw(raw).ok(), broken),
                Realm::TYPE => self.has_realm = true,
                Nonce::TYPE => put(&mut self.nonce, Nonce::from_raw(raw).ok(), broken),
                turn::XorPeerAddress::TYPE => match turn::XorPeerAddress::from_raw(raw) {
                    Ok(peer) if self.peer.is_none() => self.peer = Some(peer.addr(transaction)),
                    Ok(peer) => self.more_peers.push(peer.addr(transaction)),
                    Err(_) => *broken = true,
                },
                turn::ChannelNumber::TYPE => {
                    let number = turn::ChannelNumber::from_raw(raw).ok();
                    put(&mut self.channel, number.map(|number| number.channel()), broken);
                }
                turn::Lifetime::TYPE => {
                    let lifetime = turn::Lifetime::from_raw(raw).ok();
                    put(
                        &mut self.lifetime,
                        lifetime.map(|lifetime| lifetime.seconds()),
                        broken,
                    );
                }
                turn::RequestedTransport::TYPE => {
                    let transport = turn::RequestedTransport::from_raw(raw).ok();
                    put(
                        &mut self.transport,
                        transport.map(|transport| transport.protocol()),
                        broken,
                    );
                }
                turn::RequestedAddressFamily::TYPE => {
                    let family = turn::RequestedAddressFamily::from_raw(raw).ok();
                    self.family
                        .get_or_insert(family.map(|family| family.family().into()));
                }
                turn::AdditionalAddressFamily::TYPE => {
                    let family = turn::AdditionalAddressFamily::from_raw(raw).ok();
                    self.additional_family
                        .get_or_insert(family.map(|family| family.family().into()));
                }
                turn::EvenPort::TYPE => {
                    let even = turn::EvenPort::from_raw(raw).ok();
                    put(&mut self.even_port, even.map(|even| even.requested()), broken);
                }
                turn::ReservationToken::TYPE => self.has_reservation = true,
                turn::Data::TYPE => {
                    let start = offset + 4;
                    self.data.get_or_insert(start..start + raw.value.len());
                }
                // Only where PASSWORD-ALGORITHMS were offered, which this server does not.
                MessageIntegritySha256::TYPE => {}
                other if other.comprehension_required() => self.unknown.push(other),
                _ => {}
            }
        }
    }

    /// Whether MESSAGE-INTEGRITY was made with this key.
    pub(crate) fn is_signed_with(&self, key: &IntegrityKey) -> bool {
        self.has_integrity && self.message.validate_integrity_with_key(key).is_ok()
    }

    /// The peers of a CreatePermission.
    pub(crate) fn peers(&self) -> impl Iterator<Item = SocketAddr> {
        self.peer.iter().chain(&self.more_peers).copied()
    }
}

fn put<T>(place: &mut Option<T>, value: Option<T>, broken: &mut bool) {
    match value {
        None => *broken = true,
        Some(value) => {
            place.get_or_insert(value);
        }
    }
}

/// The key of the long-term mechanism (RFC 8489 section 9.2.2).
pub(crate) fn key(username: &str, password: &str, realm: &str) -> IntegrityKey {
    LongTermKeyCredentials::new(username.to_owned(), password.to_owned(), realm.to_owned())
        .make_key(IntegrityAlgorithm::Sha1)
}

/// A response under construction.
pub(crate) struct Response(MessageWriteVec);

impl Response {
    pub(crate) fn success(method: Method, transaction: TransactionId) -> Self {
        Response::new(MessageClass::Success, method, transaction)
    }

    pub(crate) fn error(request: &Message<'_>, code: u16) -> Self {
        Response::error_to(request.method(), request.transaction_id(), code)
    }

    pub(crate) fn error_to(method: Method, transaction: TransactionId, code: u16) -> Self {
        let response = Response::new(MessageClass::Error, method, transaction);
        match ErrorCode::builder(code).build() {
            Ok(code) => response.with(&code),
            Err(_) => response,
        }
    }

    fn new(class: MessageClass, method: Method, transaction: TransactionId) -> Self {
        let kind = MessageType::from_class_method(class, method);
        Response(Message::builder(
            kind,
            transaction,
            MessageWriteVec::with_capacity(160),
        ))
    }

    pub(crate) fn with(mut self, attribute: &dyn AttributeWrite) -> Self {
        // It fails where a message would pass 65,535 octets, which a server's response does not.
        if let Err(error) = self.0.add_attribute(attribute) {
            tracing::error!(%error, "an attribute does not fit");
        }
        self
    }

    /// REALM and NONCE: try again with credentials.
    pub(crate) fn challenging(self, realm: &str, nonce: &str) -> Self {
        match (Realm::new(realm), Nonce::new(nonce)) {
            (Ok(realm), Ok(nonce)) => self.with(&realm).with(&nonce),
            _ => self,
        }
    }

    pub(crate) fn mapped(self, flow: &Flow, transaction: TransactionId) -> Self {
        self.with(&XorMappedAddress::new(flow.client, transaction))
    }

    pub(crate) fn unknown(self, attributes: &[AttributeType]) -> Self {
        self.with(&UnknownAttributes::new(attributes))
    }

    pub(crate) fn fingerprinted(mut self) -> Vec<u8> {
        if let Err(error) = self.0.add_fingerprint() {
            tracing::error!(%error, "no fingerprint");
        }
        self.0.finish()
    }

    pub(crate) fn signed(mut self, key: &IntegrityKey) -> Vec<u8> {
        if let Err(error) = self
            .0
            .add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1)
        {
            tracing::error!(%error, "no integrity");
        }
        self.0.finish()
    }

    pub(crate) fn unsigned(self) -> Vec<u8> {
        self.0.finish()
    }
}

/// Puts ChannelData's header before data that begins at [`HEADROOM`] of `buffer`; where the message is. On a connection it
/// is padded.
pub(crate) fn wrap_channel(
    buffer: &mut [u8],
    length: usize,
    channel: u16,
    padded: bool,
) -> Option<Range<usize>> {
    let start = HEADROOM - CHANNEL_HEADER;
    let header = buffer.get_mut(start..HEADROOM)?;
    header[..2].copy_from_slice(&channel.to_be_bytes());
    header[2..].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    let padding = if padded {
        length.next_multiple_of(4) - length
    } else {
        0
    };
    buffer
        .get_mut(HEADROOM + length..HEADROOM + length + padding)?
        .fill(0);
    Some(start..HEADROOM + length + padding)
}

/// Makes a Data indication (RFC 8656 section 11.4) around data that begins at [`HEADROOM`] of `buffer`; where it is.
/// Written by hand, so that no packet is copied.
pub(crate) fn wrap_data(
    buffer: &mut [u8],
    length: usize,
    peer: SocketAddr,
    transaction: [u8; 12],
) -> Option<Range<usize>> {
    const DATA_INDICATION: u16 = 0x0017;
    const XOR_PEER_ADDRESS: u16 = 0x0012;
    const DATA: u16 = 0x0013;
    let address = if peer.is_ipv4() { 8 } else { 20 };
    let start = HEADROOM - HEADER - 4 - address - 4;
    let end = HEADROOM + length.next_multiple_of(4);
    let attributes = u16::try_from(end - start - HEADER).ok()?;
    buffer.get_mut(HEADROOM + length..end)?.fill(0);
    let head = buffer.get_mut(start..HEADROOM)?;
    let mut at = 0;
    let mut write = |octets: &[u8]| {
        head[at..at + octets.len()].copy_from_slice(octets);
        at += octets.len();
    };
    write(&DATA_INDICATION.to_be_bytes());
    write(&attributes.to_be_bytes());
    write(&COOKIE);
    write(&transaction);
    write(&XOR_PEER_ADDRESS.to_be_bytes());
    write(&(address as u16).to_be_bytes());
    let port = (peer.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]])).to_be_bytes();
    match peer.ip() {
        IpAddr::V4(ip) => {
            write(&[0, 1, port[0], port[1]]);
            write(&(ip.to_bits() ^ u32::from_be_bytes(COOKIE)).to_be_bytes());
        }
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&COOKIE);
            mask[4..].copy_from_slice(&transaction);
            write(&[0, 2, port[0], port[1]]);
            write(&(ip.to_bits() ^ u128::from_be_bytes(mask)).to_be_bytes());
        }
    }
    write(&DATA.to_be_bytes());
    write(&u16::try_from(length).ok()?.to_be_bytes());
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_indication_written_by_hand_is_read_by_the_library() {
        for peer in ["192.0.2.9:4000", "[2001:db8::9]:4000"] {
            for length in 0..9 {
                let mut buffer = vec![0xaa; HEADROOM + 16];
                let range = wrap_data(&mut buffer, length, peer.parse().unwrap(), [7; 12]).unwrap();
                let stun = Stun::read(&buffer[range.clone()]).unwrap();
                assert_eq!(stun.message.method(), turn_types::message::DATA);
                assert_eq!(stun.peer, Some(peer.parse().unwrap()));
                assert_eq!(buffer[range][stun.data.unwrap()], vec![0xaa; length]);
                assert!(!stun.broken && stun.unknown.is_empty());
            }
        }
        assert!(
            wrap_data(&mut [0; HEADROOM + 2], 2, ([1, 2, 3, 4], 5).into(), [0; 12]).is_none(),
            "no tailroom"
        );
        assert!(
            wrap_data(&mut vec![0; 70_000], 65_530, ([1, 2, 3, 4], 5).into(), [0; 12]).is_none(),
            "too long"
        );
    }

    #[test]
    fn channel_data_is_padded_on_connections_only() {
        let mut buffer = vec![0xaa; HEADROOM + 8];
        let range = wrap_channel(&mut buffer, 5, 0x4001, false).unwrap();
        assert_eq!(buffer[range], [0x40, 1, 0, 5, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa]);
        let range = wrap_channel(&mut buffer, 5, 0x4001, true).unwrap();
        assert_eq!(range.len(), 12);
        assert_eq!(buffer[range][9..], [0, 0, 0]);
    }

    #[test]
    fn the_first_octets_say_what_a_message_is() {
        assert_eq!(Kind::of(&[0x40, 0, 0, 5]), Some(Kind::Channel(0x4000, 5)));
        assert_eq!(Kind::Channel(0x4000, 5).framed(), 12);
        assert_eq!(Kind::of(&[0, 1, 0, 8, 9, 9]), Some(Kind::Stun(28)));
        for other in [&[0u8, 1, 0, 7][..], &[0x80, 0, 0, 4], &[0xff; 9], &[0, 1, 0]] {
            assert_eq!(Kind::of(other), None, "{other:?}");
        }
    }
}
