//! The wire, and what is said over it of offers and answers.

use super::super::media::Words;
use super::{ALL_OTHERS, Event, Node, Side, Wire, World, phone};
use bytes::Bytes;
use rand::Rng;
use siprtc_core::sip::*;
use siprtc_sip_transactions::{Output as StackOutput, Transactions};
use std::collections::BTreeMap;
use std::time::Duration;

impl Node {
    pub(super) fn index(self) -> usize {
        match self {
            Node::Party(side) => side as usize,
            Node::Phone => 3,
            Node::Proxy => 4,
        }
    }

    fn named(name: &str) -> Option<Node> {
        let side = Side::ALL.into_iter().find(|side| side.name() == name);
        match name {
            "dave" => Some(Node::Phone),
            "proxy" | ALL_OTHERS => Some(Node::Proxy),
            _ => side.map(Node::Party),
        }
    }

    /// Whom a message is for: a request whom it names, a response who is on top of its Vias.
    fn of(message: &SipMessage) -> Option<Node> {
        match message {
            SipMessage::Request(request) => Node::named(request.uri.as_sip()?.user.as_deref()?),
            SipMessage::Response(response) => {
                let via = response.headers.value("Via")?.strip_prefix("SIP/2.0/UDP ")?;
                Node::named(via.split('.').next()?)
            }
        }
    }
}

/// What was said in the answers to the last INVITEs of each dialog: Call-ID and To-tag, number of the INVITE, then the description, and
/// whether that is in an 18x that is to be acknowledged.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<(String, String), BTreeMap<u32, (u32, bool)>>);

/// Answers to an INVITE before so many later ones come no more.
const LAST: usize = 8;

/// Dialogs in which somebody said BYE, by Call-ID and whose tag said so, and whether it ever arrived.
#[derive(Debug, Default)]
pub(super) struct Farewells(BTreeMap<(String, String), bool>);

impl Farewells {
    fn hear(&mut self, request: &SipRequest, is_lost: bool) {
        if request.method != Method::Bye {
            return;
        }
        if let (Ok(id), Ok(tag)) = (request.headers.call_id(), request.headers.from_tag()) {
            *self.0.entry((id.to_owned(), tag)).or_default() |= !is_lost;
        }
    }
}

impl Said {
    /// What is said of the session in the answers to an INVITE is said once (RFC 3261 section 13.2.1), and after an 18x that is
    /// acknowledged not even again.
    fn hear(&mut self, response: &SipResponse) {
        let headers = &response.headers;
        let (Ok(cseq), Ok(tag), Ok(id)) = (headers.cseq(), headers.to_tag(), headers.call_id()) else {
            return;
        };
        if cseq.method != Method::Invite || response.body.is_empty() || response.status >= 300 {
            return;
        }
        let words = Words::read(std::str::from_utf8(&response.body).expect("it is SDP"));
        let dialog = (id.to_owned(), tag);
        let is_reliable = headers.contains("RSeq");
        let its = self.0.entry(dialog).or_default();
        let (said, was_reliable) = *its.entry(cseq.sequence).or_insert((words.id, is_reliable));
        if its.len() > LAST {
            its.pop_first();
        }
        assert_eq!(said, words.id, "two descriptions in the answers to one INVITE");
        assert!(
            !was_reliable || is_reliable,
            "a {} says again what was acknowledged",
            response.status
        );
    }
}

impl<O: std::fmt::Debug> World<O> {
    pub(super) fn stack(&mut self, node: Node) -> &mut Transactions<Wire> {
        match node {
            Node::Party(side) => &mut self.party(side).stack,
            Node::Phone => &mut self.phone.stack,
            Node::Proxy => &mut self.proxy.stack,
        }
    }

    /// Until nobody there has anything to do any more.
    pub(super) fn settle_node(&mut self, node: Node) {
        if let Node::Party(side) = node {
            return self.settle(side);
        }
        let now = self.now;
        while let Some(output) = self.stack(node).poll() {
            match output {
                StackOutput::Send { bytes, .. } => self.carry(bytes),
                output if node == Node::Proxy => self.proxy.hear(now, output, &mut self.random),
                output => {
                    self.descriptions += 1;
                    let said = self.phone.hear(now, output, self.descriptions);
                    self.phone_says(said);
                }
            }
        }
        self.set_stack_timer(node);
    }

    pub(super) fn phone_says(&mut self, said: Vec<phone::Said>) {
        for said in said {
            match said {
                phone::Said::Ack(ack) => self.carry(ack),
                phone::Said::Repeat(line) => {
                    self.at(self.now + phone::repeat_after(), Event::PhoneRepeats(line));
                }
                phone::Said::Retry(line) => {
                    let wait = Duration::from_millis(self.random.random_range(0..=2_000));
                    self.at(self.now + wait, Event::PhoneRetries(line));
                }
            }
        }
    }

    /// The phone calls without an offer.
    pub(crate) fn phone_dials(&mut self, callee: Side) -> usize {
        let media = self.new_peer(false);
        let line = self.phone.dial(self.now, callee, media, &mut self.random);
        self.settle_node(Node::Phone);
        line
    }

    /// It asks for an offer in a call that stands.
    pub(crate) fn phone_asks(&mut self, line: usize) {
        self.phone.ask(self.now, line);
        self.settle_node(Node::Phone);
    }

    pub(crate) fn phone_ends(&mut self, line: usize) {
        self.phone.end(self.now, line);
        self.settle_node(Node::Phone);
    }

    /// What was agreed in the phone's calls that stand, by line.
    pub(crate) fn phone_stands(&self) -> Vec<(usize, (u32, u32))> {
        let standing = self.phone.standing();
        standing.map(|(line, agreed)| (line, agreed.numbers())).collect()
    }

    pub(crate) fn phone_lines(&self) -> usize {
        self.phone.count()
    }

    /// Somebody hung up, and not one of its BYEs arrived: without a session timer the other end will never know.
    pub(crate) fn has_unheard_farewell(&self) -> bool {
        self.farewells.0.values().any(|arrived| !arrived)
    }

    /// Over the wire, to whom the message is for.
    pub(super) fn carry(&mut self, bytes: Bytes) {
        let message = SipMessage::parse(&bytes, &Limits::default()).expect("we write what we can read");
        if let SipMessage::Response(response) = &message {
            self.said.hear(response);
        }
        let to = Node::of(&message).expect("it is for somebody");
        let weather = self.weather;
        let copies = 1 + usize::from(self.random.random_bool(weather.copies));
        for _ in 0..copies {
            let lost = self.random.random_bool(weather.loss);
            if let SipMessage::Request(request) = &message {
                self.farewells.hear(request, lost);
            }
            self.say(|| {
                let text = String::from_utf8_lossy(&bytes);
                let line = |name: &str| {
                    text.lines()
                        .find(|line| line.starts_with(name))
                        .unwrap_or_default()
                };
                let first = text.lines().next().unwrap_or_default();
                format!(
                    "to {to:?}: {first} | {} | {} | {}{}",
                    line("CSeq"),
                    line("Call-ID"),
                    line("s="),
                    if lost { " LOST" } else { "" }
                )
            });
            if !lost {
                let delay = Duration::from_millis(self.random.random_range(1..=weather.delay));
                self.at(self.now + delay, Event::Arrives(to, bytes.clone()));
            }
        }
    }
}
