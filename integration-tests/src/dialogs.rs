//! One SIP stack with a dialog manager above it and nothing else: what answers and calls SIPp, whose calls have plain RTP.

use actix::prelude::*;
use siprtc::registry;
use siprtc_core::CallId;
use siprtc_core::sip::{
    EventSink, Headers, ListenerConfig, NameAddr, SinkFull, SipStack, SipUri, StackConfig, StackEvent,
    Transport, TxOwner, Uri,
};
use siprtc_dialog_manager::{
    Accept, AcceptOffer, Account, DialogConfig, DialogEvent, DialogEventKind, DialogManager, DialogTag,
    FromStack, Hangup, Invite, Reinvite, Ring,
};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

const SDP: &str = "v=0\r\no=siprtc 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

/// What is done with calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// One of ours that is answered is hung up after this long,
    pub hold: Duration,
    /// and offered anew before.
    pub reoffers: bool,
    /// One of ours is offered anew as soon as that may be, before it is answered.
    pub reoffers_early: bool,
    /// One that comes is answered in a 183, and with a 200 after this long.
    pub rings: Option<Duration>,
}

/// Takes every call, hangs up every call of its own once it is answered, and tells how each ended.
pub struct Dialogs {
    /// What the calls came to.
    pub ended: mpsc::UnboundedReceiver<DialogEventKind>,
    stack: Arc<dyn SipStack>,
    manager: Addr<DialogManager>,
}

impl Dialogs {
    /// Hangs up `hold` after the answer. Must run inside an actix system.
    pub async fn start(stack: &str, transport: Transport, hold: Duration) -> Self {
        Dialogs::with(
            stack,
            transport,
            Manners {
                hold,
                ..Manners::default()
            },
            |config| config,
        )
        .await
    }

    /// With other manners, and calls handled otherwise.
    pub async fn with(
        stack: &str,
        transport: Transport,
        manners: Manners,
        adjust: impl FnOnce(DialogConfig) -> DialogConfig,
    ) -> Self {
        let late = Arc::new(OnceLock::new());
        let config = StackConfig {
            listeners: vec![ListenerConfig {
                transport,
                bind: SocketAddr::from(([127, 0, 0, 1], 0)),
                advertise: None,
            }],
            ..StackConfig::default()
        };
        let factory = registry::sip_stack(stack).unwrap_or_else(|error| panic!("{error}"));
        let started = factory.start(config, Arc::new(Late(late.clone()))).await;
        let stack = started.unwrap_or_else(|error| panic!("{error}"));
        let contact = SipUri::from_addr(stack.listeners()[0].advertised).with_transport(transport);
        let account = Account::new(contact.clone().with_user("siprtc"), NameAddr::new(contact));
        let dialogs = adjust(DialogConfig {
            max_calls: 1000,
            ..DialogConfig::new(account)
        });
        let (sender, ended) = mpsc::unbounded_channel();
        let (port, started) = (stack.clone(), late.clone());
        let user = User::create(|ctx| {
            let manager =
                DialogManager::new(dialogs, port, TxOwner::user(1), ctx.address().recipient()).start();
            drop(started.set(manager.clone()));
            User {
                manager,
                ended: sender,
                manners,
            }
        });
        drop(user);
        let manager = late
            .get()
            .cloned()
            .unwrap_or_else(|| panic!("the manager has not started"));
        Dialogs {
            ended,
            stack,
            manager,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.stack.listeners()[0].bound
    }

    /// Calls `target`.
    pub async fn call(&self, target: SipUri) {
        let invite = Invite {
            call: CallId::fresh(),
            target: Uri::Sip(target),
            offer: SDP.to_owned(),
            headers: Headers::new(),
        };
        let told = self.manager.send(invite).await;
        told.unwrap_or_else(|error| panic!("{error}"))
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The stack is there before the manager.
struct Late(Arc<OnceLock<Addr<DialogManager>>>);

impl EventSink for Late {
    fn try_emit(&self, event: StackEvent) -> Result<(), SinkFull> {
        let manager = self.0.get().ok_or(SinkFull)?;
        manager.try_send(FromStack(event)).map_err(|_| SinkFull)
    }
}

struct User {
    manager: Addr<DialogManager>,
    ended: mpsc::UnboundedSender<DialogEventKind>,
    manners: Manners,
}

impl User {
    /// Answers an INVITE, or speaks first.
    fn incoming(&self, ctx: &mut Context<Self>, call: CallId) -> bool {
        let accept = Accept {
            call,
            sdp: SDP.to_owned(),
        };
        let Some(rings) = self.manners.rings else {
            return self.manager.try_send(accept).is_ok();
        };
        ctx.run_later(rings, move |user, _| {
            // It may be over already.
            drop(user.manager.try_send(accept));
        });
        let answer = Some(SDP.to_owned());
        self.manager.try_send(Ring { call, answer }).is_ok()
    }

    fn offers(&self, call: CallId, early: Option<DialogTag>) -> bool {
        let offer = SDP.to_owned();
        self.manager.try_send(Reinvite { call, offer, early }).is_ok()
    }

    fn hang_up_later(&self, ctx: &mut Context<Self>, call: CallId) {
        ctx.run_later(self.manners.hold, move |user, _| {
            // It may be over already.
            drop(user.manager.try_send(Hangup { call, reason: None }));
        });
    }
}

impl Actor for User {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(4096);
    }
}

impl Handler<DialogEvent> for User {
    type Result = ();

    fn handle(&mut self, event: DialogEvent, ctx: &mut Self::Context) {
        let call = event.call;
        let taken = match event.kind {
            DialogEventKind::Incoming { .. } => self.incoming(ctx, call),
            DialogEventKind::Offered { .. } => {
                let sdp = SDP.to_owned();
                self.manager.try_send(AcceptOffer { call, sdp }).is_ok()
            }
            DialogEventKind::Ringing {
                dialog,
                takes_offers: true,
                ..
            } if self.manners.reoffers_early => self.offers(call, Some(dialog)),
            DialogEventKind::Answered { .. } if self.manners.reoffers => self.offers(call, None),
            DialogEventKind::Answered { .. }
            | DialogEventKind::OfferAnswered { .. }
            | DialogEventKind::OfferRejected { .. } => {
                self.hang_up_later(ctx, call);
                true
            }
            DialogEventKind::Ended { .. } => self.ended.send(event.kind).is_ok(),
            _ => true,
        };
        assert!(taken, "the manager's mailbox is full");
    }
}
