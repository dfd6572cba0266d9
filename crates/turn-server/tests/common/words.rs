//! A client's words: requests it would send, and what it reads in the answers.

#![allow(dead_code, reason = "each test uses its part")]

use std::net::SocketAddr;
use turn_types::attribute::{
    ChannelNumber, Data, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};
use turn_types::stun::attribute::{ErrorCode, Nonce, Realm, Username, XorMappedAddress};
use turn_types::stun::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageType,
    MessageWrite, MessageWriteExt, MessageWriteVec, Method, TransactionId,
};
use turn_types::stun::prelude::AttributeWrite;

/// What a client knows.
#[derive(Clone)]
pub(crate) struct Words {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) realm: String,
    pub(crate) nonce: String,
}

impl Words {
    /// Of a client that has not been challenged.
    pub(crate) fn new(name: &str, password: &str) -> Self {
        Words {
            name: name.to_owned(),
            password: password.to_owned(),
            realm: String::new(),
            nonce: String::new(),
        }
    }

    pub(crate) fn key(&self) -> IntegrityKey {
        LongTermKeyCredentials::new(self.name.clone(), self.password.clone(), self.realm.clone())
            .make_key(IntegrityAlgorithm::Sha1)
    }

    /// A request, signed once there was a challenge.
    pub(crate) fn request(&self, method: Method, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        self.request_as(TransactionId::generate(), method, attributes)
    }

    pub(crate) fn request_as(
        &self,
        id: TransactionId,
        method: Method,
        attributes: &[&dyn AttributeWrite],
    ) -> Vec<u8> {
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        for attribute in attributes {
            message.add_attribute(*attribute).unwrap();
        }
        if !self.nonce.is_empty() {
            message
                .add_attribute(&Username::new(&self.name).unwrap())
                .unwrap();
            message.add_attribute(&Realm::new(&self.realm).unwrap()).unwrap();
            message.add_attribute(&Nonce::new(&self.nonce).unwrap()).unwrap();
            message
                .add_message_integrity_with_key(&self.key(), IntegrityAlgorithm::Sha1)
                .unwrap();
        }
        message.finish()
    }

    pub(crate) fn allocate(&self) -> Vec<u8> {
        self.request(ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)])
    }

    pub(crate) fn refresh(&self, seconds: u32) -> Vec<u8> {
        self.request(REFRESH, &[&Lifetime::new(seconds)])
    }

    pub(crate) fn permit(&self, peers: &[SocketAddr]) -> Vec<u8> {
        let id = TransactionId::generate();
        let peers: Vec<XorPeerAddress> = peers.iter().map(|peer| XorPeerAddress::new(*peer, id)).collect();
        let peers: Vec<&dyn AttributeWrite> = peers.iter().map(|peer| peer as &dyn AttributeWrite).collect();
        self.request_as(id, CREATE_PERMISSION, &peers)
    }

    pub(crate) fn bind(&self, number: u16, peer: SocketAddr) -> Vec<u8> {
        let id = TransactionId::generate();
        self.request_as(
            id,
            CHANNEL_BIND,
            &[&ChannelNumber::new(number), &XorPeerAddress::new(peer, id)],
        )
    }

    /// Takes realm and nonce of a challenge.
    pub(crate) fn learn(&mut self, challenge: &[u8]) {
        let message = Message::from_bytes(challenge).unwrap();
        self.realm = message.attribute::<Realm>().unwrap().realm().to_owned();
        self.nonce = message.attribute::<Nonce>().unwrap().nonce().to_owned();
    }
}

/// A Send indication.
pub(crate) fn send(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Indication, SEND);
    let id = TransactionId::generate();
    let mut message = Message::builder(kind, id, MessageWriteVec::new());
    message.add_attribute(&XorPeerAddress::new(peer, id)).unwrap();
    message.add_attribute(&Data::new(data)).unwrap();
    message.finish()
}

/// ChannelData, padded.
pub(crate) fn channel(number: u16, data: &[u8]) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

/// The error code of a response; 0 for success.
pub(crate) fn code(response: &[u8]) -> u16 {
    let message = Message::from_bytes(response).unwrap();
    match message.class() {
        MessageClass::Success => 0,
        _ => message.attribute::<ErrorCode>().unwrap().code(),
    }
}

pub(crate) fn is_signed(response: &[u8], key: &IntegrityKey) -> bool {
    Message::from_bytes(response)
        .unwrap()
        .validate_integrity_with_key(key)
        .is_ok()
}

pub(crate) fn relayed(response: &[u8]) -> SocketAddr {
    let message = Message::from_bytes(response).unwrap();
    message
        .attribute::<XorRelayedAddress>()
        .unwrap()
        .addr(message.transaction_id())
}

pub(crate) fn mapped(response: &[u8]) -> SocketAddr {
    let message = Message::from_bytes(response).unwrap();
    message
        .attribute::<XorMappedAddress>()
        .unwrap()
        .addr(message.transaction_id())
}

pub(crate) fn lifetime(response: &[u8]) -> u32 {
    Message::from_bytes(response)
        .unwrap()
        .attribute::<Lifetime>()
        .unwrap()
        .seconds()
}

/// Peer and data of a Data indication.
pub(crate) fn data(indication: &[u8]) -> (SocketAddr, Vec<u8>) {
    let message = Message::from_bytes(indication).unwrap();
    let peer = message
        .attribute::<XorPeerAddress>()
        .unwrap()
        .addr(message.transaction_id());
    (peer, message.attribute::<Data<'_>>().unwrap().data().to_vec())
}
