//! STUN Binding on a SIP socket (RFC 5626 sections 3.5.2 and 4.4.2, RFC 5389): keepalives of ours, and answers to those of
//! others.

use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, TransactionId};
use rtc_stun::xoraddr::XorMappedAddress;
use siprtc_core::sip::FlowId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most keepalives that are unanswered at once; beyond it another is refused.
pub(crate) const MAX_PROBES: usize = 1024;

/// RFC 5389 section 7.2.1: sent after 0, 0.5, 1.5, 3.5 and 7.5 s, which fits into the 10 s that RFC 5626 gives a pong.
const RTO: Duration = Duration::from_millis(500);
const SENDINGS: u32 = 5;

/// Whether a datagram is STUN and no SIP (RFC 5626 section 8.1.1): the first two bits are zero, and the cookie is there.
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4) && rtc_stun::message::is_stun_message(datagram)
}

/// What a STUN message wants.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Heard {
    /// Sent back to where the request came from.
    Answer(Vec<u8>),
    /// A keepalive of ours was answered.
    Mapped(TransactionId, Option<SocketAddr>),
}

/// Reads a STUN message from `source`; `None`: neither a Binding request nor an answer to one, or broken.
pub(crate) fn read(datagram: &[u8], source: SocketAddr) -> Option<Heard> {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).ok()?;
    if message.typ == BINDING_SUCCESS {
        let mut mapped = XorMappedAddress::default();
        let mapped = mapped
            .get_from(&message)
            .ok()
            .map(|()| SocketAddr::new(mapped.ip, mapped.port));
        return Some(Heard::Mapped(message.transaction_id, mapped));
    }
    if message.typ != BINDING_REQUEST {
        return None;
    }
    let mapped = XorMappedAddress {
        ip: source.ip(),
        port: source.port(),
    };
    binding(BINDING_SUCCESS, message.transaction_id, &[&mapped]).map(Heard::Answer)
}

fn binding(
    typ: rtc_stun::message::MessageType,
    transaction_id: TransactionId,
    attributes: &[&dyn Setter],
) -> Option<Vec<u8>> {
    let mut message = Message::new();
    message.set_type(typ);
    message.transaction_id = transaction_id;
    message.write_header();
    for attribute in attributes {
        attribute.add_to(&mut message).ok()?;
    }
    Some(message.raw)
}

struct Probe {
    flow: FlowId,
    sendings: u32,
    next: Instant,
}

/// Keepalives that are unanswered.
#[derive(Default)]
pub(crate) struct Probes(HashMap<TransactionId, Probe>);

/// There are [`MAX_PROBES`].
#[derive(Debug)]
pub(crate) struct TooMany;

impl Probes {
    /// The request to send on `flow`.
    pub(crate) fn begin(&mut self, now: Instant, flow: FlowId) -> Result<Vec<u8>, TooMany> {
        if self.0.len() >= MAX_PROBES {
            return Err(TooMany);
        }
        let id = TransactionId(rand::random());
        let probe = Probe {
            flow,
            sendings: 1,
            next: now + RTO,
        };
        self.0.insert(id, probe);
        Ok(request(id))
    }

    /// The flow whose keepalive was answered.
    pub(crate) fn answered(&mut self, id: TransactionId) -> Option<FlowId> {
        let flow = self.0.remove(&id)?.flow;
        if self.0.is_empty() {
            self.0 = HashMap::new();
        }
        Some(flow)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().map(|probe| probe.next).min()
    }

    /// What is to be sent again, and where.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<(FlowId, Vec<u8>)> {
        let mut again = Vec::new();
        self.0.retain(|id, probe| {
            if probe.next > now {
                return true;
            }
            if probe.sendings == SENDINGS {
                return false;
            }
            probe.next = now + RTO * (1 << probe.sendings);
            probe.sendings += 1;
            again.push((probe.flow, request(*id)));
            true
        });
        again
    }
}

fn request(id: TransactionId) -> Vec<u8> {
    // Without attributes it is the header alone.
    binding(BINDING_REQUEST, id, &[]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_request_is_answered_with_the_address_that_it_came_from() {
        for source in ["192.0.2.1:4321", "[2001:db8::1]:4321"] {
            let source = source.parse().unwrap();
            let mut probes = Probes::default();
            let asked = probes.begin(crate::engine::now(), FlowId(7)).unwrap();
            assert!(is_stun(&asked) && !is_stun(b"OPTIONS sip:example.com SIP/2.0"));
            let Some(Heard::Answer(answer)) = read(&asked, source) else {
                panic!("no answer")
            };
            let elsewhere = "203.0.113.1:1".parse().unwrap();
            let Some(Heard::Mapped(id, mapped)) = read(&answer, elsewhere) else {
                panic!("no mapping")
            };
            assert_eq!((probes.answered(id), mapped), (Some(FlowId(7)), Some(source)));
            assert_eq!(probes.answered(id), None, "once");
            assert!(probes.0.is_empty());
        }
    }

    #[test]
    fn a_keepalive_is_sent_five_times_in_less_than_ten_seconds() {
        let mut probes = Probes::default();
        let begun = crate::engine::now();
        probes.begin(begun, FlowId(1)).unwrap();
        let mut sendings = 1;
        let mut last = begun;
        while let Some(next) = probes.poll_timeout() {
            last = next;
            sendings += probes.handle_timeout(next).len();
        }
        assert_eq!(sendings, 5);
        assert!(
            last - begun > Duration::from_secs(10),
            "an answer after 10 s comes too late for anybody"
        );
        for _ in 0..MAX_PROBES {
            probes.begin(begun, FlowId(1)).unwrap();
        }
        assert!(probes.begin(begun, FlowId(1)).is_err());
    }

    #[test]
    fn what_is_no_binding_is_ignored() {
        let source = "192.0.2.1:1".parse().unwrap();
        let mut probes = Probes::default();
        let good = probes.begin(crate::engine::now(), FlowId(1)).unwrap();
        for cut in 0..good.len() {
            assert_eq!(read(&good[..cut], source), None);
        }
        for class in [0x0011_u16, 0x0111, 0x0003] {
            let mut other = good.clone();
            other[..2].copy_from_slice(&class.to_be_bytes());
            assert_eq!(read(&other, source), None, "{class:04x}");
        }
    }
}
