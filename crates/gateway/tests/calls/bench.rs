//! Two gateways over a SIP wire and a media network in memory, by tokio's paused clock.

use actix::prelude::*;
use siprtc_core::media::Codec;
use siprtc_core::sip::{EventSink, Headers, NameAddr, SipStack, SipUri, TimerConfig};
use siprtc_core::{CallId, Result};
use siprtc_gateway::{
    Account, Admitted, Answer, AnswerEarly, CallControl, CallEvent, CallEventKind, Dial, EarlyMedia, Ending,
    Gateway, GatewayConfig, GatewayEvent, Hangup, MediaPlan, Reliability, Router, Trickle,
};
use siprtc_nat_agent::{InterfaceFilter, NatConfig};
use siprtc_testkit::media::{FakeEngine, FakeNetwork, Impairment};
use siprtc_testkit::sip::{RecordingSink, Wire};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Hands events to the test.
struct Listener(mpsc::Sender<GatewayEvent>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<GatewayEvent> for Listener {
    type Result = ();

    fn handle(&mut self, event: GatewayEvent, _: &mut Context<Self>) {
        self.0.try_send(event).expect("the test reads fast enough");
    }
}

/// One telephone.
pub(crate) struct Phone {
    pub(crate) gateway: Addr<Gateway>,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) stack: Arc<dyn SipStack>,
    /// What the gateway is told when it asks how it is reached after its addresses changed; `None`: no route.
    pub(crate) contact: Arc<Mutex<Option<NameAddr>>>,
    events: mpsc::Receiver<GatewayEvent>,
}

/// What the two telephones are like.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) alice: Vec<Codec>,
    pub(crate) bob: Vec<Codec>,
    /// Alice's and Bob's.
    pub(crate) max_calls: [usize; 2],
    pub(crate) trickle: [Trickle; 2],
    pub(crate) reliability: [Reliability; 2],
    /// What each speaks to the wire through.
    pub(crate) stacks: [Through; 2],
}

/// A stack over another one.
pub(crate) type Through = Arc<dyn Fn(Arc<dyn SipStack>) -> Arc<dyn SipStack>>;

impl Default for Setup {
    fn default() -> Self {
        Setup {
            alice: Codec::ALL.to_vec(),
            bob: Codec::ALL.to_vec(),
            max_calls: [8, 8],
            trickle: [Trickle::Half; 2],
            reliability: [Reliability::default(); 2],
            stacks: [Arc::new(|stack| stack), Arc::new(|stack| stack)],
        }
    }
}

/// Runs a scenario between Alice and Bob with time that passes only when everybody waits.
pub(crate) fn between<F: Future>(scenario: impl FnOnce(Phone, Phone) -> F) -> F::Output {
    set_up(Setup::default(), scenario)
}

pub(crate) fn set_up<F: Future>(setup: Setup, scenario: impl FnOnce(Phone, Phone) -> F) -> F::Output {
    set_up_over(setup, |[a, b]| Wire::pair(a, b), scenario)
}

/// The same over another wire.
pub(crate) fn set_up_over<F: Future>(
    setup: Setup,
    wire: impl FnOnce([Arc<dyn EventSink>; 2]) -> (Arc<dyn SipStack>, Arc<dyn SipStack>),
    scenario: impl FnOnce(Phone, Phone) -> F,
) -> F::Output {
    System::new().block_on(async {
        tokio::time::pause();
        let routers = [Arc::new(Router::new()), Arc::new(Router::new())];
        let (alice, bob) = wire([routers[0].clone(), routers[1].clone()]);
        let [of_alice, of_bob] = &setup.stacks;
        let (alice, bob) = (of_alice(alice), of_bob(bob));
        let network = FakeNetwork::new(Impairment::default());
        let [of_alice, of_bob] = routers;
        let alice = Phone::new(
            "alice",
            alice,
            of_alice,
            &network,
            setup.alice,
            (
                setup.max_calls[0],
                setup.trickle[0],
                relying(setup.reliability[0]),
            ),
        );
        let of_setup = (
            setup.max_calls[1],
            setup.trickle[1],
            relying(setup.reliability[1]),
        );
        let bob = Phone::new("bob", bob, of_bob, &network, setup.bob, of_setup);
        // Both have begun: their routers know them.
        tokio::task::yield_now().await;
        scenario(alice, bob).await
    })
}

/// Alice against a stack that the test speaks itself.
pub(crate) fn alone<F: Future>(
    scenario: impl FnOnce(Phone, Arc<dyn SipStack>, Arc<RecordingSink>) -> F,
) -> F::Output {
    alone_hearing(EarlyMedia::default(), scenario)
}

/// The same with a policy for forks.
pub(crate) fn alone_hearing<F: Future>(
    early_media: EarlyMedia,
    scenario: impl FnOnce(Phone, Arc<dyn SipStack>, Arc<RecordingSink>) -> F,
) -> F::Output {
    System::new().block_on(async {
        tokio::time::pause();
        let (router, sink) = (Arc::new(Router::new()), RecordingSink::new());
        let (alice, bob) = Wire::pair(router.clone(), sink.clone());
        let network = FakeNetwork::new(Impairment::default());
        let alice = Phone::new(
            "alice",
            alice,
            router,
            &network,
            Codec::ALL.to_vec(),
            (
                8,
                Trickle::Half,
                CallControl {
                    early_media,
                    ..CallControl::default()
                },
            ),
        );
        tokio::task::yield_now().await;
        scenario(alice, bob, sink).await
    })
}

fn relying(reliability: Reliability) -> CallControl {
    let mut control = CallControl::default();
    control.dialogs.reliability = reliability;
    control.dialogs.referrals = Admitted::All;
    control
}

impl Phone {
    fn new(
        name: &str,
        stack: Arc<dyn SipStack>,
        router: Arc<Router>,
        network: &Arc<FakeNetwork>,
        codecs: Vec<Codec>,
        (max_calls, trickle, control): (usize, Trickle, CallControl),
    ) -> Self {
        let (sender, events) = mpsc::channel(4096);
        let engine = network.engine();
        let contact = Arc::new(Mutex::new(None));
        let config = GatewayConfig {
            account: account(name, &*stack),
            timers: TimerConfig::default(),
            max_calls,
            no_answer: Duration::from_secs(60),
            session_timer: None,
            engine: engine.clone(),
            classic: None,
            builtin_ice: false,
            runtime: tokio::runtime::Handle::current(),
            codecs,
            video_codecs: Vec::new(),
            ptime: 20,
            silence_detection: false,
            quiet: None,
            nat: NatConfig {
                interfaces: InterfaceFilter {
                    loopback: true,
                    ..InterfaceFilter::default()
                },
                ..NatConfig::default()
            },
            trickle,
            datagram: None,
            contact_now: Some(Arc::new({
                let contact = contact.clone();
                move || contact.lock().unwrap().clone()
            })),
            control,
        };
        let listener = Listener(sender).start().recipient();
        let gateway = Gateway::new(config, stack.clone(), router, listener).keep(|| ());
        Phone {
            gateway,
            engine,
            network: network.clone(),
            stack,
            contact,
            events,
        }
    }

    pub(crate) async fn tell<M>(&self, message: M) -> Result<()>
    where
        M: Message<Result = Result<()>> + Send + 'static,
        Gateway: Handler<M>,
    {
        self.gateway.send(message).await.expect("the gateway runs")
    }

    pub(crate) async fn dial(&self, whom: &Phone) -> CallId {
        self.dial_stack(&*whom.stack).await
    }

    pub(crate) async fn dial_stack(&self, whom: &dyn SipStack) -> CallId {
        let call = CallId::fresh();
        let target = SipUri::from_addr(whom.listeners()[0].bound)
            .with_user("bob")
            .into();
        self.tell(Dial {
            call,
            target,
            media: MediaPlan::default(),
            headers: Headers::new(),
        })
        .await
        .unwrap();
        call
    }

    pub(crate) async fn answer(&self, call: CallId) {
        self.tell(Answer {
            call,
            media: Some(MediaPlan::default()),
        })
        .await
        .unwrap();
    }

    pub(crate) async fn answer_early(&self, call: CallId) {
        let media = MediaPlan::default();
        self.tell(AnswerEarly { call, media }).await.unwrap();
    }

    pub(crate) async fn hang_up(&self, call: CallId) {
        self.tell(Hangup { call }).await.unwrap();
    }

    /// The next event of any kind.
    pub(crate) async fn next_of_all(&mut self) -> GatewayEvent {
        let event = tokio::time::timeout(Duration::from_secs(600), self.events.recv());
        event
            .await
            .expect("an event should have come")
            .expect("the listener runs")
    }

    /// The next event of any call.
    pub(crate) async fn next(&mut self) -> CallEvent {
        loop {
            match self.next_of_all().await {
                GatewayEvent::Call(event) => return event,
                other => drop(other),
            }
        }
    }

    /// Reads until an event that is `wanted`.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&CallEventKind) -> bool) -> CallEvent {
        loop {
            let event = self.next().await;
            if wanted(&event.kind) {
                return event;
            }
            assert!(!is_last(&event.kind), "the call ended first: {event:?}");
        }
    }

    pub(crate) async fn incoming(&mut self) -> CallId {
        self.until(|kind| matches!(kind, CallEventKind::Incoming { .. }))
            .await
            .call
    }

    pub(crate) async fn confirmed(&mut self) {
        self.until(|kind| matches!(kind, CallEventKind::Confirmed)).await;
    }

    /// Reads until a call is confirmed, and counts.
    pub(crate) async fn before_confirmed(&mut self, counted: impl Fn(&CallEventKind) -> bool) -> usize {
        let mut count = 0;
        loop {
            let event = self.next().await;
            match event.kind {
                CallEventKind::Confirmed => return count,
                kind if is_last(&kind) => panic!("the call ended first: {kind:?}"),
                kind => count += usize::from(counted(&kind)),
            }
        }
    }

    /// Reads until a call is over: `Ok` when it was answered.
    pub(crate) async fn over(&mut self) -> Result<Ending, Ending> {
        loop {
            match self.next().await.kind {
                CallEventKind::Ended(ending) => return Ok(ending),
                CallEventKind::Failed(ending) => return Err(ending),
                _ => {}
            }
        }
    }

    /// Reads until any call is over, and says which.
    pub(crate) async fn until_over(&mut self) -> CallId {
        loop {
            let event = self.next().await;
            if is_last(&event.kind) {
                return event.call;
            }
        }
    }

    /// Whatever was told so far: of no call anything after its end.
    pub(crate) async fn ends_at_most_once(&mut self) {
        let mut over = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let GatewayEvent::Call(event) = event {
                assert!(!over.contains(&event.call), "{event:?} after the end");
                over.extend(is_last(&event.kind).then_some(event.call));
            }
        }
        self.is_silent().await;
    }

    /// Nothing is said of any call while a minute passes.
    pub(crate) async fn is_silent(&mut self) {
        let minute = tokio::time::sleep(Duration::from_secs(60));
        tokio::pin!(minute);
        loop {
            tokio::select! {
                () = &mut minute => return,
                event = self.events.recv() => match event {
                    Some(GatewayEvent::Call(event)) => panic!("{event:?}"),
                    Some(_) => {}
                    None => return minute.await,
                },
            }
        }
    }
}

pub(crate) fn is_last(kind: &CallEventKind) -> bool {
    matches!(kind, CallEventKind::Ended(_) | CallEventKind::Failed(_))
}

/// Alice calls, Bob answers, both are confirmed.
pub(crate) async fn connect(alice: &mut Phone, bob: &mut Phone) -> (CallId, CallId) {
    let calling = alice.dial(bob).await;
    let called = bob.incoming().await;
    bob.answer(called).await;
    alice.confirmed().await;
    bob.confirmed().await;
    (calling, called)
}

fn account(name: &str, stack: &dyn SipStack) -> Account {
    let contact = SipUri::from_addr(stack.listeners()[0].advertised).with_user(name);
    let aor = format!("sip:{name}@example.com").parse().unwrap();
    Account::new(aor, NameAddr::new(contact))
}
