//! A machine with a clock of its own and a script instead of a network.

use siprtc_core::sip::*;
use siprtc_core::{CallId, Cause, Error};
use siprtc_dialog_manager::machine::{Entropy, Input, Machine, Output};
use siprtc_dialog_manager::*;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
pub const ANSWER: &str = "v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n";
pub const T1: Duration = Duration::from_millis(500);
pub const PATIENCE: Duration = Duration::from_secs(32);

pub struct Bench {
    pub machine: Machine,
    pub now: Instant,
    pub outputs: VecDeque<Output>,
    ids: TxIds,
}

/// The same "random" bits in every run.
pub struct Counter(pub u64);

impl Entropy for Counter {
    fn next_u64(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }
}

pub fn config() -> DialogConfig {
    let contact = "<sip:alice@127.0.0.1:5070>".parse().unwrap();
    let mut account = Account::new("sip:alice@example.com".parse().unwrap(), contact);
    account.display_name = Some("Alice".to_owned());
    account.secret = Some(DigestSecret {
        username: "alice".to_owned(),
        password: "secret".to_owned(),
    });
    DialogConfig::new(account)
}

impl Bench {
    pub fn new() -> Self {
        Bench::with(config())
    }

    pub fn with(config: DialogConfig) -> Self {
        Bench::over(config, Counter(7))
    }

    /// Over other random bits.
    pub fn over(config: DialogConfig, entropy: impl Entropy + 'static) -> Self {
        let now = tokio::time::Instant::now().into_std();
        Bench {
            machine: Machine::new(config, TxOwner::user(1), Box::new(entropy), now),
            now,
            outputs: VecDeque::new(),
            ids: TxIds::new(TxOwner::STACK),
        }
    }

    pub fn give(&mut self, input: Input) -> Result<(), Error> {
        let done = self.machine.handle(self.now, input);
        self.outputs.extend(std::iter::from_fn(|| self.machine.poll()));
        done
    }

    pub fn stack(&mut self, event: StackEvent) {
        self.give(Input::Stack(event)).expect("the stack cannot be wrong");
    }

    /// Lets time pass, from timeout to timeout.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.give(Input::Timeout).expect("a timeout cannot be wrong");
        }
        self.now = end;
    }

    #[track_caller]
    fn next(&mut self) -> Output {
        self.outputs
            .pop_front()
            .expect("the machine should have said something")
    }

    #[track_caller]
    pub fn event(&mut self) -> DialogEventKind {
        match self.next() {
            Output::Event(event) => event.kind,
            other => panic!("expected an event, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn sent(&mut self, method: Method) -> (TxId, SipRequest) {
        match self.next() {
            Output::SendRequest { tx, request, .. } if request.method == method => (tx, request),
            other => panic!("expected a {method}, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn acked(&mut self) -> SipRequest {
        match self.next() {
            Output::SendAck { request, .. } => request,
            other => panic!("expected an ACK, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn responded(&mut self, status: u16) -> (TxId, SipResponse) {
        match self.next() {
            Output::Respond { tx, response, .. } if response.status == status => (tx, response),
            other => panic!("expected a {status}, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn cancelled(&mut self) -> (TxId, Headers) {
        match self.next() {
            Output::Cancel { tx, headers, .. } => (tx, headers),
            other => panic!("expected a CANCEL, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn ended(&mut self) -> (Cause, Side, Option<u16>, String) {
        match self.event() {
            DialogEventKind::Ended {
                cause,
                by,
                status,
                reason,
                ..
            } => (cause, by, status, reason.unwrap_or_default()),
            other => panic!("expected Ended, got {other:?}"),
        }
    }

    /// What the peer of `tag` can: its option-tag, and whether it takes INFOs.
    #[track_caller]
    pub fn supports(&mut self, tag: &str) -> (bool, bool) {
        match self.event() {
            DialogEventKind::PeerSupports {
                dialog,
                option_tag,
                info,
            } if dialog.0 == tag => (option_tag, info),
            other => panic!("expected PeerSupports of {tag}, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn silent(&mut self) {
        assert!(
            self.outputs.is_empty(),
            "expected silence, got {:?}",
            self.outputs
        );
    }

    /// A call of ours: the INVITE is out.
    #[track_caller]
    pub fn call(&mut self) -> (CallId, TxId, SipRequest) {
        let call = CallId::fresh();
        let target = "sip:bob@example.com".parse().unwrap();
        self.give(Input::Invite(Invite {
            call,
            target,
            offer: OFFER.to_owned(),
            headers: Headers::new(),
        }))
        .unwrap();
        let (tx, invite) = self.sent(Method::Invite);
        assert!(matches!(self.event(), DialogEventKind::Started { .. }));
        (call, tx, invite)
    }

    pub fn answer(&mut self, tx: TxId, response: SipResponse) {
        self.stack(StackEvent::Response {
            tx,
            response,
            flow: None,
        });
    }

    pub fn tx_ended(&mut self, tx: TxId, end: TxEnd) {
        self.stack(StackEvent::TxEnded { tx, end });
    }

    /// A call of ours, answered by `bob`.
    #[track_caller]
    pub fn established(&mut self) -> (CallId, SipRequest) {
        let (call, tx, invite) = self.call();
        self.answer(
            tx,
            response(&invite, 200, "bob").with_body("application/sdp", ANSWER),
        );
        self.acked();
        assert!(matches!(self.event(), DialogEventKind::Answered { .. }));
        self.tx_ended(tx, TxEnd::Done);
        (call, invite)
    }

    pub fn request(&mut self, request: SipRequest) -> TxId {
        let tx = self.ids.mint();
        self.stack(StackEvent::Request {
            tx,
            request,
            flow: flow(),
        });
        tx
    }

    pub fn ack(&mut self, request: SipRequest) {
        self.stack(StackEvent::Ack {
            request,
            flow: flow(),
        });
    }

    /// A call from Bob that rings here.
    #[track_caller]
    pub fn incoming(&mut self) -> (CallId, TxId, SipRequest) {
        let invite = peer_invite();
        let tx = self.request(invite.clone());
        self.responded(100);
        let call = match self.next() {
            Output::Event(DialogEvent {
                call,
                kind: DialogEventKind::Incoming { .. },
            }) => call,
            other => panic!("expected Incoming, got {other:?}"),
        };
        (call, tx, invite)
    }

    /// A call from Bob, answered and acknowledged. Returns our 200.
    #[track_caller]
    pub fn accepted(&mut self) -> (CallId, SipRequest, SipResponse) {
        let (call, _, invite) = self.incoming();
        self.give(Input::Accept(Accept {
            call,
            sdp: ANSWER.to_owned(),
        }))
        .unwrap();
        let (_, ok) = self.responded(200);
        self.ack(peer_request(&invite, &ok, Method::Ack, 1));
        assert_eq!(self.event(), DialogEventKind::Confirmed { sdp: None });
        (call, invite, ok)
    }
}

pub fn flow() -> Flow {
    let addr = "127.0.0.1:5060".parse().unwrap();
    Flow {
        id: FlowId(1),
        transport: Transport::Udp,
        local: addr,
        remote: addr,
    }
}

/// An answer of the callee with the tag `tag`.
pub fn response(request: &SipRequest, status: u16, tag: &str) -> SipResponse {
    let mut response = request.response(status);
    if status > 100 {
        let to = response.headers.to().unwrap().with_tag(tag);
        response.headers.set("To", to);
        response
            .headers
            .push("Contact", format!("<sip:{tag}@192.0.2.7:5080>"));
    }
    response
}

pub fn message(text: &str) -> SipRequest {
    match SipMessage::parse(&text.to_owned().into(), &Limits::default()).unwrap() {
        SipMessage::Request(request) => request,
        SipMessage::Response(_) => panic!("a request was wanted"),
    }
}

/// Bob's INVITE.
pub fn peer_invite() -> SipRequest {
    message(
        "INVITE sip:alice@127.0.0.1:5070 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
         Record-Route: <sip:p2.example.com;lr>\r\n\
         Record-Route: <sip:p1.example.com;lr>\r\n\
         From: Bob <sip:bob@example.com>;tag=b\r\n\
         To: <sip:alice@example.com>\r\n\
         Call-ID: bobs-call\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:bob@192.0.2.7:5080;transport=tcp>\r\n\r\n",
    )
    .with_body("application/sdp", OFFER)
}

/// A request of the caller Bob within the dialog that our `ok` made.
pub fn peer_request(invite: &SipRequest, ok: &SipResponse, method: Method, sequence: u32) -> SipRequest {
    within(
        method,
        sequence,
        &invite.headers.from().unwrap(),
        &ok.headers.to().unwrap(),
        invite.headers.call_id().unwrap(),
    )
}

/// A request of the callee `tag` within the dialog that our `invite` made.
pub fn callee_request(invite: &SipRequest, tag: &str, method: Method, sequence: u32) -> SipRequest {
    let from = invite.headers.to().unwrap().with_tag(tag);
    within(
        method,
        sequence,
        &from,
        &invite.headers.from().unwrap(),
        invite.headers.call_id().unwrap(),
    )
}

fn within(method: Method, sequence: u32, from: &NameAddr, to: &NameAddr, call_id: &str) -> SipRequest {
    let mut request = SipRequest::new(
        method.clone(),
        "sip:alice@127.0.0.1:5070".parse::<SipUri>().unwrap(),
    );
    request
        .headers
        .push("Via", format!("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKd{sequence}"));
    request.headers.push("From", from);
    request.headers.push("To", to);
    request.headers.push("Call-ID", call_id);
    request.headers.push("CSeq", CSeq { sequence, method });
    request
        .headers
        .push("Contact", "<sip:bob@192.0.2.7:5080;transport=tcp>");
    request
}

/// Header fields of an application's own.
pub fn fields(fields: &[(&'static str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.push(*name, value);
    }
    headers
}
