//! STUN on the SIP port (RFC 5626 section 4.4.2): the keepalive and its answer.

use parking_lot::Mutex;
use rtc_stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, TransactionId, is_stun_message,
};
use rtc_stun::xoraddr::XorMappedAddress;
use siprtc_core::sip::FlowId;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Most keepalives of one socket that wait for an answer; beyond it another is an error.
const MAX_ASKED: usize = 1024;

/// An answer is waited for as long as a STUN transaction lasts (RFC 8489 section 6.2.1: 39.5 s).
const PATIENCE: Duration = Duration::from_millis(39_500);

struct Asked {
    id: TransactionId,
    flow: FlowId,
    to: SocketAddr,
    at: Instant,
}

/// The keepalives of one socket.
#[derive(Default)]
pub(crate) struct Stun(Mutex<VecDeque<Asked>>);

pub(crate) enum Heard {
    Answer { flow: FlowId, mapped: SocketAddr },
    Request { answer: Vec<u8> },
}

/// STUN's first two bits are 0, those of a letter are not (RFC 8489 section 5).
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|octet| octet & 0xc0 == 0) && is_stun_message(datagram)
}

impl Stun {
    /// A Binding request over `flow`, unless too many are unanswered.
    pub(crate) fn request(&self, at: Instant, flow: FlowId, to: SocketAddr) -> Option<Vec<u8>> {
        let mut asked = self.0.lock();
        while asked.front().is_some_and(|oldest| at > oldest.at + PATIENCE) {
            asked.pop_front();
        }
        if asked.len() >= MAX_ASKED {
            return None;
        }
        let id = TransactionId::new();
        asked.push_back(Asked { id, flow, to, at });
        Some(message(BINDING_REQUEST, id).raw)
    }

    pub(crate) fn hear(&self, datagram: &[u8], source: SocketAddr) -> Option<Heard> {
        let mut heard = Message::new();
        heard.unmarshal_binary(datagram).ok()?;
        if heard.typ == BINDING_REQUEST {
            let mut answer = message(BINDING_SUCCESS, heard.transaction_id);
            let mapped = XorMappedAddress {
                ip: source.ip(),
                port: source.port(),
            };
            mapped.add_to(&mut answer).ok()?;
            return Some(Heard::Request { answer: answer.raw });
        }
        let mut asked = self.0.lock();
        let place = asked
            .iter()
            .position(|asked| asked.id == heard.transaction_id && asked.to == source)?;
        let flow = asked.remove(place)?.flow;
        drop(asked);
        let mut mapped = XorMappedAddress::default();
        if heard.typ != BINDING_SUCCESS || mapped.get_from(&heard).is_err() {
            return None;
        }
        Some(Heard::Answer {
            flow,
            mapped: SocketAddr::new(mapped.ip, mapped.port),
        })
    }
}

fn message(typ: rtc_stun::message::MessageType, id: TransactionId) -> Message {
    let mut message = Message::new();
    message.transaction_id = id;
    message.write_header();
    message.set_type(typ);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_and_from_who_was_asked() {
        let (stun, server) = (Stun::default(), Stun::default());
        let (peer, other) = (
            SocketAddr::from(([192, 0, 2, 1], 5060)),
            SocketAddr::from(([192, 0, 2, 2], 4000)),
        );
        let request = stun.request(Instant::now(), FlowId(7), peer).unwrap();
        assert!(is_stun(&request));
        let Some(Heard::Request { answer }) = server.hear(&request, other) else {
            panic!("no answer")
        };
        assert!(stun.hear(&answer, other).is_none(), "somebody else answers");
        let Some(Heard::Answer { flow, mapped }) = stun.hear(&answer, peer) else {
            panic!("the answer was not heard")
        };
        assert_eq!((flow, mapped), (FlowId(7), other));
        assert!(stun.hear(&answer, peer).is_none(), "a copy of the answer");
    }

    #[test]
    fn unanswered_keepalives_are_bounded_and_forgotten() {
        let (stun, now) = (Stun::default(), Instant::now());
        let peer = SocketAddr::from(([192, 0, 2, 1], 5060));
        for _ in 0..MAX_ASKED {
            assert!(stun.request(now, FlowId(1), peer).is_some());
        }
        assert!(stun.request(now, FlowId(1), peer).is_none());
        assert!(stun.request(now + PATIENCE * 2, FlowId(1), peer).is_some());
    }
}
