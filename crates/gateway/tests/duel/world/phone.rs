//! A telephone that calls without an offer, and asks for offers in its calls (RFC 3261 section 13.2.1, RFC 3262 section 5): nothing of ours
//! does, so this is written by hand. It answers what the peer offers, at once.

use super::super::media::{Agreed, Peer, Words};
use super::{Side, Wire};
use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use siprtc_core::sip::*;
use siprtc_sip_transactions::{Output, Transactions, TransactionsConfig};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often a 200 comes again until its ACK, and how often at most.
const REPEAT: Duration = Duration::from_secs(2);
const REPEATS: u32 = 16;

/// One call.
struct Line {
    callee: Side,
    id: String,
    invite: TxId,
    reinvite: Option<TxId>,
    sequence: u32,
    /// The peer's tag and target, once it has said them.
    dialog: Option<(String, Uri)>,
    /// The number of the last acknowledged 18x.
    heard: Option<u32>,
    media: Peer,
    /// Our ACKs, by the number of their INVITE: each 2xx that comes again is acknowledged again.
    acks: BTreeMap<u32, SipRequest>,
    /// Our 200 to the peer's re-INVITE, which has no ACK yet: its transaction, number and how often it went out.
    accepted: Option<(TxId, SipResponse, u32, u32)>,
    /// The peer's INVITEs up to this number are known.
    theirs: u32,
    is_confirmed: bool,
    /// It is hung up, or given up.
    is_over: bool,
}

/// What the phone says to the wire, and when it wants to be asked again.
pub(super) enum Said {
    Ack(Bytes),
    /// A 200 of this line has to go out again.
    Repeat(usize),
    /// A re-INVITE of this line shall be tried again.
    Retry(usize),
}

pub(super) struct Phone {
    pub(super) stack: Transactions<Wire>,
    ids: TxIds,
    lines: Vec<Line>,
    branches: u64,
}

impl Phone {
    pub(super) fn new() -> Self {
        Phone {
            stack: Transactions::new(TransactionsConfig {
                timers: TimerConfig::default(),
                max_transactions: 100_000,
            }),
            ids: TxIds::new(TxOwner::user(3)),
            lines: Vec::new(),
            branches: 0,
        }
    }

    /// How many calls stand, by what was agreed in them.
    pub(super) fn standing(&self) -> impl Iterator<Item = (usize, &Agreed)> {
        let lines = self.lines.iter().enumerate();
        lines.filter_map(|(index, line)| {
            let stands = line.is_confirmed && !line.is_over;
            stands.then(|| {
                (
                    index,
                    line.media.agreed.as_ref().expect("a call that stands has agreed"),
                )
            })
        })
    }

    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lines.iter().all(|line| line.is_over)
    }

    fn via(&mut self) -> String {
        self.branches += 1;
        format!("SIP/2.0/UDP dave.example.com;branch=z9hG4bKdave{}", self.branches)
    }

    /// Calls without an offer.
    pub(super) fn dial(&mut self, now: Instant, callee: Side, media: Peer, random: &mut StdRng) -> usize {
        let (index, invite) = (self.lines.len(), self.ids.mint());
        let line = Line {
            callee,
            id: format!("dave-{index}@example.com"),
            invite,
            reinvite: None,
            sequence: 1,
            dialog: None,
            heard: None,
            media,
            acks: BTreeMap::new(),
            accepted: None,
            theirs: 0,
            is_confirmed: false,
            is_over: false,
        };
        self.lines.push(line);
        let mut request = self.request(index, Method::Invite, 1);
        match random.random_range(0..3) {
            0 => {}
            1 => request.headers.push("Supported", "100rel"),
            _ => request.headers.push("Require", "100rel"),
        }
        self.stack
            .send_request(now, invite, request, Wire)
            .expect("it is whole");
        index
    }

    fn request(&mut self, index: usize, method: Method, sequence: u32) -> SipRequest {
        let via = self.via();
        let line = &self.lines[index];
        let (to, uri) = match &line.dialog {
            Some((tag, target)) => (format!("<{}>;tag={tag}", line.callee.uri()), target.clone()),
            None => (format!("<{}>", line.callee.uri()), line.callee.uri()),
        };
        let mut request = SipRequest::new(method.clone(), uri);
        request.headers.push("Via", via);
        request.headers.push("Max-Forwards", 70);
        request
            .headers
            .push("From", format!("<sip:dave@example.com>;tag=dave{index}"));
        request.headers.push("To", to);
        request.headers.push("Call-ID", &line.id);
        request.headers.push("CSeq", CSeq { sequence, method });
        request.headers.push("Contact", "<sip:dave@192.0.2.1:5060>");
        request
            .headers
            .push("Allow", "INVITE, ACK, BYE, CANCEL, PRACK, UPDATE");
        request
    }

    fn next(&mut self, index: usize, method: Method) -> SipRequest {
        self.lines[index].sequence += 1;
        self.request(index, method, self.lines[index].sequence)
    }

    fn send(&mut self, now: Instant, request: SipRequest) -> TxId {
        let tx = self.ids.mint();
        self.stack
            .send_request(now, tx, request, Wire)
            .expect("it is whole");
        tx
    }

    /// Asks for an offer in a call that stands.
    pub(super) fn ask(&mut self, now: Instant, index: usize) {
        let line = &self.lines[index];
        let is_busy = line.reinvite.is_some() || line.accepted.is_some();
        if line.is_confirmed && !line.is_over && !is_busy {
            let request = self.next(index, Method::Invite);
            self.lines[index].reinvite = Some(self.send(now, request));
        }
    }

    /// Gives up, or hangs up.
    pub(super) fn end(&mut self, now: Instant, index: usize) {
        if std::mem::replace(&mut self.lines[index].is_over, true) {
            return;
        }
        if self.lines[index].is_confirmed {
            let bye = self.next(index, Method::Bye);
            self.send(now, bye);
        } else {
            // Without a provisional answer it cannot be cancelled, and a late 200 gets its BYE.
            drop(self.stack.cancel(self.lines[index].invite, now, &Headers::new()));
        }
    }

    /// Our 200 goes out again, or the caller has given the call up.
    pub(super) fn repeat(&mut self, now: Instant, index: usize) -> Vec<Said> {
        let line = &mut self.lines[index];
        let Some((tx, response, _, count)) = &mut line.accepted else {
            return Vec::new();
        };
        *count += 1;
        if line.is_over || *count > REPEATS {
            line.accepted = None;
            self.end(now, index);
            return Vec::new();
        }
        drop(self.stack.respond(now, *tx, response.clone()));
        vec![Said::Repeat(index)]
    }

    /// What its transactions say, but for messages for the wire; `number` is for a description that is made.
    pub(super) fn hear(&mut self, now: Instant, output: Output<Wire>, number: u32) -> Vec<Said> {
        match output {
            Output::Request { tx, request, .. } => return self.requested(now, tx, &request, number),
            Output::Response { tx, response, .. } => return self.answered(now, tx, &response, number),
            Output::Ack { request, .. } => self.acknowledged(&request),
            Output::Ended { tx, end } => self.lost(now, tx, &end),
            Output::Cancelled { .. } | Output::Send { .. } => {}
        }
        Vec::new()
    }

    fn line_of(&self, headers: &Headers) -> Option<usize> {
        let id = headers.call_id().ok()?;
        self.lines.iter().position(|line| line.id == id)
    }

    fn answered(&mut self, now: Instant, tx: TxId, response: &SipResponse, number: u32) -> Vec<Said> {
        let is_its = |line: &Line| line.invite == tx || line.reinvite == Some(tx);
        let Some(index) = self.lines.iter().position(is_its) else {
            return Vec::new();
        };
        let sequence = response.headers.cseq().expect("it has one").sequence;
        let is_first = self.lines[index].invite == tx;
        match response.status {
            100 => {}
            101..200 if is_first => self.progresses(now, index, response, number),
            101..200 => {}
            200..300 => {
                let ack = self.accepted(now, index, response, (sequence, number));
                return vec![Said::Ack(ack.to_bytes())];
            }
            491 if !is_first => {
                self.lines[index].reinvite = None;
                return vec![Said::Retry(index)];
            }
            408 | 481 if !is_first => {
                self.lines[index].reinvite = None;
                self.end(now, index);
            }
            _ => {
                let line = &mut self.lines[index];
                line.reinvite = None;
                line.is_over |= is_first;
            }
        }
        Vec::new()
    }

    fn enter(&mut self, index: usize, response: &SipResponse) {
        let to = response.headers.to().expect("it has one");
        let target = response.headers.contact_uri();
        if let (Some(tag), Ok(target)) = (to.tag(), target) {
            self.lines[index].dialog = Some((tag.to_owned(), target.into()));
        }
    }

    /// A reliable 18x has the offer, or says no more than that it rings.
    fn progresses(&mut self, now: Instant, index: usize, response: &SipResponse, number: u32) {
        let Some(rseq) = response
            .headers
            .value("RSeq")
            .and_then(|value| value.parse().ok())
        else {
            assert!(
                response.body.is_empty(),
                "an offer in an 18x that nobody acknowledges"
            );
            return;
        };
        let line = &mut self.lines[index];
        if line.heard.is_some_and(|heard| rseq != heard + 1) {
            return;
        }
        line.heard = Some(rseq);
        self.enter(index, response);
        let mut prack = self.next(index, Method::Prack);
        prack.headers.push("RAck", format!("{rseq} 1 INVITE"));
        let offer = offer_in(&response.body);
        let prack = match offer {
            Some(offer) => prack.with_body("application/sdp", self.answer(index, offer, number)),
            None => prack,
        };
        self.send(now, prack);
    }

    fn answer(&mut self, index: usize, offer: Words, number: u32) -> String {
        self.lines[index].media.make_answer(number, offer).sdp()
    }

    /// The ACK of a 2xx, which has the answer where the 2xx has the offer.
    fn accepted(
        &mut self,
        now: Instant,
        index: usize,
        response: &SipResponse,
        (sequence, number): (u32, u32),
    ) -> SipRequest {
        if let Some(ack) = self.lines[index].acks.get(&sequence) {
            return ack.clone();
        }
        self.enter(index, response);
        let mut ack = self.request(index, Method::Ack, sequence);
        match offer_in(&response.body) {
            Some(offer) => {
                let has_agreed = self.lines[index].media.agreed.is_some();
                assert!(
                    sequence > 1 || !has_agreed,
                    "the 200 offers what the 18x has offered"
                );
                ack = ack.with_body("application/sdp", self.answer(index, offer, number));
            }
            None => assert!(
                sequence == 1 && self.lines[index].media.agreed.is_some(),
                "a 200 without the offer that it owes"
            ),
        }
        let line = &mut self.lines[index];
        line.acks.insert(sequence, ack.clone());
        line.reinvite = None;
        // Given up meanwhile: confirmed for a moment.
        let late = !line.is_confirmed && line.is_over;
        line.is_confirmed = true;
        if late {
            line.is_over = false;
            self.end(now, index);
        }
        ack
    }

    fn requested(&mut self, now: Instant, tx: TxId, request: &SipRequest, number: u32) -> Vec<Said> {
        let index = self.line_of(&request.headers);
        let Some(index) = index.filter(|index| !self.lines[*index].is_over) else {
            drop(self.stack.respond(now, tx, request.response(481)));
            return Vec::new();
        };
        let sequence = request.headers.cseq().expect("it has one").sequence;
        let (mut said, mut response) = (Vec::new(), request.response(200));
        match request.method {
            Method::Bye => {
                self.lines[index].is_over = true;
            }
            Method::Invite | Method::Update => {
                let line = &mut self.lines[index];
                let offer = offer_in(&request.body);
                if sequence <= line.theirs {
                    response = request.response(500);
                } else if line.reinvite.is_some() || line.media.agreed.is_none() {
                    response = request.response(491);
                } else if line.accepted.is_some() {
                    response = request.response(500);
                    response.headers.push("Retry-After", 3);
                } else if let Some(offer) = offer {
                    line.theirs = sequence;
                    response = response.with_body("application/sdp", self.answer(index, offer, number));
                    response.headers.push("Contact", "<sip:dave@192.0.2.1:5060>");
                    if request.method == Method::Invite {
                        self.lines[index].accepted = Some((tx, response.clone(), sequence, 0));
                        said.push(Said::Repeat(index));
                    }
                } else {
                    response.headers.push("Contact", "<sip:dave@192.0.2.1:5060>");
                }
            }
            Method::Info | Method::Options => {}
            _ => response = request.response(405),
        }
        drop(self.stack.respond(now, tx, response));
        said
    }

    fn acknowledged(&mut self, ack: &SipRequest) {
        let Some(index) = self.line_of(&ack.headers) else {
            return;
        };
        let sequence = ack.headers.cseq().expect("it has one").sequence;
        self.lines[index]
            .accepted
            .take_if(|accepted| accepted.2 == sequence);
    }

    /// Whoever says nothing to a re-INVITE for so long is hung up (section 12.2.1.2).
    fn lost(&mut self, now: Instant, tx: TxId, end: &TxEnd) {
        if *end == TxEnd::Done {
            return;
        }
        for index in 0..self.lines.len() {
            let line = &mut self.lines[index];
            line.is_over |= line.invite == tx && !line.is_confirmed;
            if line.reinvite.take_if(|reinvite| *reinvite == tx).is_some() {
                self.end(now, index);
            }
        }
    }
}

/// How long after it a 200 goes out again.
pub(super) const fn repeat_after() -> Duration {
    REPEAT
}

fn offer_in(body: &[u8]) -> Option<Words> {
    (!body.is_empty()).then(|| Words::read(std::str::from_utf8(body).expect("it is SDP")))
}
