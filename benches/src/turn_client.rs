//! A TURN client as small as a load generator may be: UDP, channels, no refresh.

use crate::children::failed;
use siprtc_core::Result;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use turn_types::attribute::{ChannelNumber, RequestedTransport, XorPeerAddress, XorRelayedAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND};
use turn_types::stun::attribute::{ErrorCode, Nonce, Realm, Username};
use turn_types::stun::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWrite,
    MessageWriteExt, MessageWriteVec, Method, TransactionId,
};
use turn_types::stun::prelude::AttributeWrite;

pub(crate) const NAME: &str = "bench";
/// The channel of every client.
pub(crate) const CHANNEL: u16 = 0x4000;
/// Longer than a server on loopback takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client with an allocation.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    realm: String,
    nonce: String,
    /// From the authenticated Allocate to its answer.
    pub(crate) took: Duration,
}

impl Client {
    pub(crate) async fn allocate(server: SocketAddr) -> Result<Self> {
        let broken = |error: std::io::Error| failed("make a TURN client", "no socket").caused_by(error);
        let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(broken)?;
        socket.connect(server).await.map_err(broken)?;
        let mut client = Client {
            socket,
            realm: String::new(),
            nonce: String::new(),
            took: Duration::ZERO,
        };
        let udp = RequestedTransport::new(RequestedTransport::UDP);
        let challenge = client
            .ask(&client.request(TransactionId::generate(), ALLOCATE, &[&udp]))
            .await?;
        let challenge = read(&challenge)?;
        let (Ok(realm), Ok(nonce)) = (challenge.attribute::<Realm>(), challenge.attribute::<Nonce>()) else {
            return Err(failed("allocate", "the server does not challenge"));
        };
        (client.realm, client.nonce) = (realm.realm().to_owned(), nonce.nonce().to_owned());
        let request = client.request(TransactionId::generate(), ALLOCATE, &[&udp]);
        let asked = Instant::now();
        let answer = client.ask(&request).await?;
        client.took = asked.elapsed();
        let answer = granted(&answer)?;
        match answer.attribute::<XorRelayedAddress>() {
            Ok(_) => Ok(client),
            Err(_) => Err(failed("allocate", "no relayed address")),
        }
    }

    /// Binds the channel to a peer.
    pub(crate) async fn bind(&self, peer: SocketAddr) -> Result<()> {
        let id = TransactionId::generate();
        let attributes: [&dyn AttributeWrite; 2] =
            [&ChannelNumber::new(CHANNEL), &XorPeerAddress::new(peer, id)];
        let answer = self.ask(&self.request(id, CHANNEL_BIND, &attributes)).await?;
        granted(&answer).map(drop)
    }

    fn request(&self, id: TransactionId, method: Method, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        let mut add = |attribute: &dyn AttributeWrite| {
            message
                .add_attribute(attribute)
                .expect("BUG: a request has room for its attributes");
        };
        attributes.iter().for_each(|attribute| add(*attribute));
        let names = (
            Username::new(NAME),
            Realm::new(&self.realm),
            Nonce::new(&self.nonce),
        );
        if let (false, (Ok(name), Ok(realm), Ok(nonce))) = (self.nonce.is_empty(), names) {
            add(&name);
            add(&realm);
            add(&nonce);
            let key = LongTermKeyCredentials::new(NAME.to_owned(), NAME.to_owned(), self.realm.clone())
                .make_key(IntegrityAlgorithm::Sha1);
            message
                .add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1)
                .expect("BUG: a request has room for its integrity");
        }
        message.finish()
    }

    async fn ask(&self, request: &[u8]) -> Result<Vec<u8>> {
        let lost = |error: std::io::Error| failed("ask a TURN server", "the socket fails").caused_by(error);
        self.socket.send(request).await.map_err(lost)?;
        let mut answer = vec![0; 2048];
        let length = timeout(PATIENCE, self.socket.recv(&mut answer))
            .await
            .map_err(|_| failed("ask a TURN server", "no answer"))?
            .map_err(lost)?;
        answer.truncate(length);
        Ok(answer)
    }
}

fn read(answer: &[u8]) -> Result<Message<'_>> {
    Message::from_bytes(answer).map_err(|error| failed("read a TURN answer", error.to_string()))
}

fn granted(answer: &[u8]) -> Result<Message<'_>> {
    let message = read(answer)?;
    match message.class() {
        MessageClass::Success => Ok(message),
        _ => {
            let code = message.attribute::<ErrorCode>().map_or(0, |error| error.code());
            Err(failed("ask a TURN server", format!("it answers {code}")))
        }
    }
}
