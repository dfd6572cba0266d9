//! The front desk: takes the gateway's events on the actors' side, keeps each call's diary, and hands the events to
//! whoever waits on tokio's side.

use crate::report::{Diary, Role};
use crate::telemetry::INSTRUMENTS;
use actix::prelude::*;
use siprtc_core::sip::NameAddr;
use siprtc_core::{CallId, Cause};
use siprtc_gateway::{
    AskedCall, CallEvent, CallEventKind, Ending, Gateway, GatewayEvent, Hangup, Head, Note, Notice,
    ReferralEvent, Refuse, Side, SubscriptionEvent,
};
use siprtc_nat_agent::NatEvent;
use siprtc_registrar_client::RegistrationEvent;
use std::collections::HashMap;
use tokio::sync::{mpsc, watch};

/// Events that wait for a call's owner; beyond it the call's own events are lost, the call goes on.
pub(crate) const CALL_EVENTS: usize = 256;
/// Calls that ring and wait to be taken; beyond it a caller hears 486.
pub(crate) const RINGING: usize = 32;

/// Messages that wait to be read; beyond it they are lost, with a warning.
pub(crate) const MESSAGES: usize = 64;

/// Somebody calls. Boxed on its way: a channel has room for 32 from the start, and most endpoints are idle.
pub(crate) struct Arrival {
    pub(crate) call: CallId,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) head: Box<Head>,
    /// Closed once the call is over.
    pub(crate) feed: CallFeed,
}

/// How the account stands with its registrar.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Registration {
    /// The last attempt failed; the sentence says whose fault and what next. `retries`: another attempt will come.
    Failed {
        /// For people.
        sentence: String,
        /// Why.
        cause: siprtc_registrar_client::RegistrationFailure,
        /// Another attempt will come by itself.
        retries: bool,
    },
    /// Nothing was asked, or no answer came yet.
    #[default]
    None,
    /// Registered.
    Registered {
        /// Where.
        registrar: String,
    },
}

struct Open {
    diary: Diary,
    events: mpsc::Sender<(CallEvent, Option<Box<Diary>>)>,
    unclaimed: Option<CallFeed>,
}

/// A call's events; the last one brings its diary along.
pub(crate) type CallFeed = mpsc::Receiver<(CallEvent, Option<Box<Diary>>)>;

pub(crate) struct Desk {
    calls: HashMap<CallId, Open>,
    arrivals: mpsc::Sender<Box<Arrival>>,
    messages: mpsc::Sender<Note>,
    asked: mpsc::Sender<AskedCall>,
    subscriptions: Followers<SubscriptionEvent>,
    referrals: Followers<ReferralEvent>,
    /// What servers tell unasked.
    unasked: mpsc::Sender<Notice>,
    registration: watch::Sender<Registration>,
    gateway: Option<Addr<Gateway>>,
}

impl Desk {
    const MAILBOX: usize = 4096;

    pub(crate) fn new(
        arrivals: mpsc::Sender<Box<Arrival>>,
        messages: mpsc::Sender<Note>,
        asked: mpsc::Sender<AskedCall>,
        unasked: mpsc::Sender<Notice>,
        registration: watch::Sender<Registration>,
    ) -> Self {
        Desk {
            calls: HashMap::new(),
            arrivals,
            messages,
            asked,
            subscriptions: Followers::default(),
            referrals: Followers::default(),
            unasked,
            registration,
            gateway: None,
        }
    }

    fn open(&mut self, call: CallId, role: Role) -> &mut Open {
        self.calls.entry(call).or_insert_with(|| {
            let (events, feed) = mpsc::channel(CALL_EVENTS);
            Open {
                diary: Diary::new(call, role),
                events,
                unclaimed: Some(feed),
            }
        })
    }

    pub(crate) fn claim(&mut self, call: CallId) -> Option<CallFeed> {
        self.calls.get_mut(&call)?.unclaimed.take()
    }

    pub(crate) fn expect(&mut self, call: CallId) -> Option<CallFeed> {
        self.open(call, Role::Caller).unclaimed.take()
    }

    pub(crate) fn follow(&mut self, subscription: CallId) -> Notices {
        self.subscriptions.follow(subscription)
    }

    pub(crate) fn follow_referral(&mut self, referral: CallId) -> News {
        self.referrals.follow(referral)
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn forget(&mut self, call: CallId) {
        self.calls.remove(&call);
    }

    pub(crate) fn set_registration(&self, state: Registration) {
        self.registration.send_replace(state);
    }

    pub(crate) fn call_event(&mut self, event: CallEvent) {
        let id = event.call;
        if let CallEventKind::Incoming {
            replaces: Some(_), ..
        } = &event.kind
        {
            // Nobody is asked: whoever has the call that it replaces is told, and takes it.
            self.open(id, Role::Callee).diary.becomes(Role::Callee);
        } else if let CallEventKind::Incoming { from, to, head, .. } = &event.kind {
            let open = self.open(id, Role::Callee);
            open.diary.becomes(Role::Callee);
            let feed = open.unclaimed.take();
            let arrival = feed.map(|feed| {
                Box::new(Arrival {
                    call: id,
                    from: from.clone(),
                    to: to.clone(),
                    head: head.clone(),
                    feed,
                })
            });
            if arrival.is_some_and(|arrival| self.arrivals.try_send(arrival).is_err()) {
                tracing::warn!(call_id = %id, "nobody takes the calls that ring: 486");
                if let Some(gateway) = &self.gateway {
                    // Policy: a full gateway mailbox lets the call ring on until its own timer.
                    drop(gateway.try_send(Refuse {
                        call: id,
                        status: 486,
                    }));
                }
            }
        }
        let open = self.open(id, Role::Caller);
        open.diary.note(&event);
        let over = matches!(event.kind, CallEventKind::Ended(_) | CallEventKind::Failed(_));
        if let CallEventKind::Ended(ending) | CallEventKind::Failed(ending) = &event.kind {
            open.diary.measure(ending);
        }
        let diary = over.then(|| Box::new(open.diary.clone()));
        if open.events.try_send((event, diary)).is_err() {
            tracing::debug!(call_id = %id, "nobody reads this call's events");
        }
        // An unclaimed call that is over has nobody who will ever ask: a call handle claims at once.
        if over {
            self.calls
                .remove(&id)
                .and_then(|open| open.unclaimed)
                .inspect(|_| {
                    tracing::debug!(call_id = %id, "over before anybody took it");
                });
        }
    }

    /// The gateway is gone for good, and told nobody.
    fn give_up(&mut self) {
        self.gateway = None;
        self.subscriptions = Followers::default();
        self.referrals = Followers::default();
        for call in self.calls.keys().copied().collect::<Vec<_>>() {
            let kind = CallEventKind::Failed(Ending {
                cause: Cause::Internal,
                by: Side::Local,
                status: None,
                sentence: Some(
                    "the endpoint broke down too often: report it with the log, and start it anew".to_owned(),
                ),
                contacts: Vec::new(),
                retry_after: None,
                established: false,
                stats: None,
            });
            let at = tokio::time::Instant::now();
            self.call_event(CallEvent { call, at, kind });
        }
    }

    fn message(&self, note: Note) {
        if self.messages.try_send(note).is_err() {
            tracing::warn!("nobody reads the messages that come: one is lost");
        }
    }

    pub(crate) fn asked(&self, call: AskedCall) {
        if self.asked.try_send(call).is_err() {
            tracing::warn!("nobody reads who asks for calls: it is declined after 30 s");
        }
    }

    pub(crate) fn subscription_event(&mut self, id: CallId, event: SubscriptionEvent) {
        let is_last = matches!(event, SubscriptionEvent::Ended { .. });
        let nobodys = self.subscriptions.tell(id, event, is_last);
        if let Some(SubscriptionEvent::Notified(notice)) = nobodys
            && self.unasked.try_send(notice).is_err()
        {
            tracing::warn!("nobody reads what a server tells unasked: some of it is lost");
        }
    }

    pub(crate) fn referral_event(&mut self, id: CallId, event: ReferralEvent) {
        let is_last = event.is_last();
        self.referrals.tell(id, event, is_last);
    }

    fn registration(&mut self, event: RegistrationEvent) {
        let (state, word) = match event {
            RegistrationEvent::Registered {
                registrar, expires, ..
            } => {
                tracing::info!(%registrar, ?expires, "registered");
                (Registration::Registered { registrar }, "registered")
            }
            RegistrationEvent::Refreshed { expires } => {
                tracing::debug!(?expires, "registration refreshed");
                INSTRUMENTS.registration("refreshed");
                return;
            }
            RegistrationEvent::FlowFailed { .. } => {
                // The registrar client has said it, and the account is still registered.
                INSTRUMENTS.registration("flow_failed");
                return;
            }
            RegistrationEvent::FlowsChanged { .. } => return,
            RegistrationEvent::Failed {
                cause,
                sentence,
                retry_in,
            } => {
                // The registrar client has said it already.
                tracing::debug!(%cause, %sentence, ?retry_in, "registration failed");
                (
                    Registration::Failed {
                        sentence,
                        cause,
                        retries: retry_in.is_some(),
                    },
                    "failed",
                )
            }
            RegistrationEvent::Unregistered => (Registration::None, "unregistered"),
        };
        INSTRUMENTS.registration(word);
        self.registration.send_replace(state);
    }
}

/// Those who read what comes under an id: of a subscription, or of a call that somebody was asked for.
struct Followers<E>(HashMap<CallId, mpsc::Sender<E>>);

impl<E> Default for Followers<E> {
    fn default() -> Self {
        Followers(HashMap::new())
    }
}

impl<E> Followers<E> {
    fn follow(&mut self, id: CallId) -> mpsc::Receiver<E> {
        // Those that could not begin, and whose owner is gone.
        self.0.retain(|_, follower| !follower.is_closed());
        let (follower, told) = mpsc::channel(MESSAGES);
        self.0.insert(id, follower);
        told
    }

    /// What belongs to nobody comes back.
    fn tell(&mut self, id: CallId, event: E, is_last: bool) -> Option<E> {
        let Some(follower) = self.0.get(&id) else {
            return Some(event);
        };
        if follower.try_send(event).is_err() {
            tracing::warn!("nobody reads what a subscription tells: some of it is lost");
        }
        if is_last {
            self.0.remove(&id);
        }
        None
    }
}

/// What it knows stays; calls and their events go on.
impl Supervised for Desk {}

impl Actor for Desk {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(Desk::MAILBOX);
    }
}

/// Where the desk refuses calls that nobody takes.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Serve(pub(crate) Addr<Gateway>);

impl Handler<Serve> for Desk {
    type Result = ();

    fn handle(&mut self, message: Serve, _: &mut Context<Self>) {
        self.gateway = Some(message.0);
    }
}

/// The gateway broke down too often.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GatewayGone;

impl Handler<GatewayGone> for Desk {
    type Result = ();

    fn handle(&mut self, _: GatewayGone, _: &mut Context<Self>) {
        self.give_up();
    }
}

/// Nobody will have this call's handle: it is hung up, or, if it never began, forgotten.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Abandon {
    pub(crate) call: CallId,
}

impl Handler<Abandon> for Desk {
    type Result = ();

    fn handle(&mut self, Abandon { call }: Abandon, ctx: &mut Context<Self>) {
        let hung_up = self.gateway.as_ref().map(|gateway| gateway.send(Hangup { call }));
        let desk = ctx.address();
        actix::spawn(async move {
            let begun = match hung_up {
                Some(hung_up) => matches!(hung_up.await, Ok(Ok(()))),
                None => false,
            };
            // One that has begun is forgotten with its last event.
            if !begun {
                let _ = desk.send(Forget { call }).await;
            }
        });
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Forget {
    call: CallId,
}

impl Handler<Forget> for Desk {
    type Result = ();

    fn handle(&mut self, Forget { call }: Forget, _: &mut Context<Self>) {
        self.forget(call);
    }
}

/// How many calls are open: for tests of what is left of them.
#[derive(Message)]
#[rtype(result = "usize")]
pub(crate) struct Count;

impl Handler<Count> for Desk {
    type Result = usize;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> usize {
        self.count()
    }
}

/// Takes a call's events; `None` when somebody has them already or the call is over.
#[derive(Message)]
#[rtype(result = "Option<CallFeed>")]
pub(crate) struct Claim {
    pub(crate) call: CallId,
}

impl Handler<Claim> for Desk {
    type Result = Option<CallFeed>;

    fn handle(&mut self, message: Claim, _: &mut Context<Self>) -> Option<CallFeed> {
        self.claim(message.call)
    }
}

/// What a subscription tells.
pub(crate) type Notices = mpsc::Receiver<SubscriptionEvent>;

/// Opens a subscription before its first event.
#[derive(Message)]
#[rtype(result = "Notices")]
pub(crate) struct Follow {
    pub(crate) subscription: CallId,
}

impl Handler<Follow> for Desk {
    type Result = MessageResult<Follow>;

    fn handle(&mut self, message: Follow, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.follow(message.subscription))
    }
}

/// What becomes of a call that somebody was asked for.
pub(crate) type News = mpsc::Receiver<ReferralEvent>;

/// Opens a referral of ours before its first event.
#[derive(Message)]
#[rtype(result = "News")]
pub(crate) struct FollowReferral {
    pub(crate) referral: CallId,
}

impl Handler<FollowReferral> for Desk {
    type Result = MessageResult<FollowReferral>;

    fn handle(&mut self, message: FollowReferral, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.follow_referral(message.referral))
    }
}

/// Opens a call before its first event, so that the claim cannot come too late.
#[derive(Message)]
#[rtype(result = "Option<CallFeed>")]
pub(crate) struct Expect {
    pub(crate) call: CallId,
}

impl Handler<Expect> for Desk {
    type Result = Option<CallFeed>;

    fn handle(&mut self, message: Expect, _: &mut Context<Self>) -> Option<CallFeed> {
        self.expect(message.call)
    }
}

impl Handler<GatewayEvent> for Desk {
    type Result = ();

    fn handle(&mut self, event: GatewayEvent, _: &mut Context<Self>) {
        match event {
            GatewayEvent::Asked(call) => self.asked(call),
            GatewayEvent::Call(event) => self.call_event(event),
            GatewayEvent::Subscription(id, event) => self.subscription_event(id, event),
            GatewayEvent::Referral(id, event) => self.referral_event(id, event),
            GatewayEvent::Message(note) => self.message(note),
            GatewayEvent::Nat(NatEvent::AddressesChanged(addresses)) => {
                tracing::info!("this machine's addresses are {addresses:?} from here on");
            }
            GatewayEvent::Nat(NatEvent::ServerDown(report)) => tracing::warn!("{report}"),
            GatewayEvent::Nat(NatEvent::ServerUp(report)) => tracing::info!("{report}"),
            GatewayEvent::Registration(event) => self.registration(event),
            _ => {}
        }
    }
}
