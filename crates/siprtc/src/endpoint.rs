//! A running endpoint, and its calls: the API for everybody who does not want to see an actor.

use crate::config::Config;
use crate::desk::{Arrival, CALL_EVENTS, CallFeed, Desk, GatewayGone, Registration, Serve};
use crate::hub::{Guard, Hub, tell};
use crate::incoming::IncomingCall;
use crate::plan::Plan;
use crate::registry;
use crate::report::CallReport;
use crate::stage;
use crate::wiretap::Wiretap;
use actix::prelude::*;
use siprtc_core::media::MediaEngine;
use siprtc_core::sip::{Headers, Listener, NameAddr, SipStack, SipStackFactory, SipUri, Uri};
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_gateway::keeper::{self, Leave};
use siprtc_gateway::{
    Account, AskedCall, CallEvent, CallEventKind, Dial, Gateway, GatewayConfig, Hangup, Hold, MediaPlan,
    Note, Notice, Router, SendDtmf, Shutdown, Snapshot, StartRegistration,
};
use siprtc_media_session::SessionStats;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

pub(crate) use crate::hub::ask;

/// A running endpoint: one account, one SIP stack, many calls.
pub struct Endpoint {
    hub: Hub,
    /// `None`: a fake's.
    stack: Option<Arc<dyn SipStack>>,
    tap: Wiretap,
    arrivals: mpsc::Receiver<Box<Arrival>>,
    messages: Option<mpsc::Receiver<Note>>,
    pub(crate) asked: Option<mpsc::Receiver<AskedCall>>,
    unasked: Option<mpsc::Receiver<Notice>>,
    registration: watch::Receiver<Registration>,
    account: Account,
    runtime: tokio::runtime::Handle,
    grace: Duration,
}

/// Parts that a configuration's words select; a test or a researcher may bring their own.
pub struct Parts {
    /// The SIP stack.
    pub stack: Arc<dyn SipStackFactory>,
    /// The media engine.
    pub engine: Arc<dyn MediaEngine>,
    /// The engine for peers that the first one cannot serve.
    pub classic: Option<Arc<dyn MediaEngine>>,
}

impl Parts {
    /// The parts that `config` names.
    pub fn from_config(config: &Config) -> Result<Self> {
        let (media, engines) = (&config.media, config.media.engines()?);
        let engine = registry::media_engine_as("media.engine", &media.engine, &engines)?;
        registry::check_ice(&config.ice.agent, engine.as_ref())?;
        let classic = match media.classic.as_str() {
            "" => None,
            name => Some(registry::media_engine_as("media.classic", name, &engines)?),
        };
        Ok(Parts {
            stack: registry::sip_stack(&config.sip.stack)?,
            classic: classic.filter(|classic| classic.name() != engine.name()),
            engine,
        })
    }
}

/// What an endpoint reads: calls, messages, calls that others ask for, waiting messages, its registration.
type Feeds = (
    mpsc::Receiver<Box<Arrival>>,
    mpsc::Receiver<Note>,
    mpsc::Receiver<AskedCall>,
    mpsc::Receiver<Notice>,
    watch::Receiver<Registration>,
);

impl Endpoint {
    /// Without a stack.
    pub(crate) fn over(hub: Hub, account: Account, feeds: Feeds, grace: Duration) -> Self {
        let (arrivals, messages, asked, unasked, registration) = feeds;
        Endpoint {
            hub,
            stack: None,
            tap: Wiretap::new(),
            arrivals,
            messages: Some(messages),
            asked: Some(asked),
            unasked: Some(unasked),
            registration,
            account,
            runtime: tokio::runtime::Handle::current(),
            grace,
        }
    }

    /// Starts what `config` describes, on the current multi-thread tokio runtime. Registers if the account says so;
    /// [`Endpoint::registered`] waits for it.
    ///
    /// Errors: [`Fault::ConfigInvalid`] with the key's name; [`Fault::Backend`] when a listener cannot be bound.
    pub async fn start(config: &Config) -> Result<Self> {
        let parts = Parts::from_config(config)?;
        Endpoint::start_with(config, parts).await
    }

    /// As [`Endpoint::start`], over parts of the caller's own.
    pub async fn start_with(config: &Config, parts: Parts) -> Result<Self> {
        let mut plan = Plan::read(config)?;
        if let Some(capability) = parts.stack.capability() {
            plan.check(parts.stack.name(), &capability)?;
        }
        plan.settle(parts.stack.capability().as_ref());
        let name = parts.stack.name();
        let tap = Wiretap::new();
        let router = Arc::new(Router::new());
        let stack = tap
            .over(siprtc_sip_locate::located(parts.stack, plan.locate.clone()))
            .start(plan.stack.clone(), router.clone())
            .await?;
        let account = plan
            .check(name, &stack.capability())
            .and_then(|()| plan.account(config, &stack.listeners()));
        let account = match account {
            Ok(account) => account,
            Err(error) => {
                stack.shutdown(Duration::ZERO).await;
                return Err(error);
            }
        };
        let gateway_config = GatewayConfig {
            account: account.clone(),
            timers: plan.stack.timers,
            max_calls: config.call.max_calls,
            no_answer: Duration::from_secs(config.call.no_answer_s),
            session_timer: crate::plan::session_timer(&config.call)?,
            engine: parts.engine,
            classic: parts.classic,
            builtin_ice: config.ice.agent == registry::BUILT_IN,
            runtime: tokio::runtime::Handle::current(),
            codecs: config.media.codecs()?,
            video_codecs: config.media.video_codecs()?,
            ptime: config.media.ptime_ms,
            silence_detection: config.media.comfort_noise,
            quiet: config.media.quiet()?,
            contact_now: plan.contact_now(&stack.listeners()),
            control: config.call.control()?,
            nat: plan.nat,
            trickle: config.ice.trickle()?,
            datagram: config.sip.invite_diet.then_some(config.sip.udp_limit),
        };
        let (arrivals_in, arrivals) = mpsc::channel(crate::desk::RINGING);
        let (messages_in, messages) = mpsc::channel(crate::desk::MESSAGES);
        let (asked_in, asked) = mpsc::channel(crate::desk::MESSAGES);
        let (unasked_in, unasked) = mpsc::channel(crate::desk::MESSAGES);
        let (registration_in, registration) = watch::channel(Registration::None);
        let port = stack.clone();
        let (desk, gateway) = stage::on_arbiter(move || {
            let desk = Desk::new(arrivals_in, messages_in, asked_in, unasked_in, registration_in);
            let desk = keeper::keep("desk", desk, Leave::default(), || ());
            let (events, told) = (desk.clone().recipient(), desk.clone());
            let gateway = Gateway::new(gateway_config, port, router, events);
            (
                desk,
                gateway.keep(move || drop(actix::spawn(async move { told.send(GatewayGone).await }))),
            )
        })
        .await?;
        tell(&desk, Serve(gateway.clone())).await?;
        let endpoint = Endpoint {
            hub: Hub::Actors { gateway, desk },
            stack: Some(stack),
            tap,
            arrivals,
            messages: Some(messages),
            asked: Some(asked),
            unasked: Some(unasked),
            registration,
            account,
            runtime: tokio::runtime::Handle::current(),
            grace: Duration::from_millis(config.call.shutdown_grace_ms),
        };
        if config.account.register && !config.account.uri.is_empty() {
            ask(&endpoint.hub, StartRegistration).await?;
        }
        Ok(endpoint)
    }

    /// Calls `target`: a SIP URI, or a bare user name of the account's own domain.
    pub async fn dial(&self, target: &str, media: MediaPlan) -> Result<Call> {
        self.house().dial(target, media, Headers::new()).await
    }

    /// The next call that rings. `None` once the endpoint is shut down. Given up and asked again it misses none.
    pub async fn incoming(&mut self) -> Option<IncomingCall> {
        loop {
            let arrival = self.arrivals.recv().await?;
            // The caller may have given up while it waited here.
            if arrival.feed.is_closed() {
                continue;
            }
            let call = self.house().open(arrival.call, arrival.feed);
            return Some(IncomingCall::new(call, arrival.from, arrival.to, arrival.head));
        }
    }

    /// The messages that come outside of calls (MESSAGE, RFC 3428), once: 64 wait, more are lost with a warning, those that come
    /// before anybody asks among them.
    pub fn messages(&mut self) -> Option<mpsc::Receiver<Note>> {
        self.messages.take()
    }

    /// The waiting messages that a server tells of without a subscription (`call.unasked_summaries`), once; as with
    /// [`Endpoint::messages`], 64 wait.
    pub fn unasked(&mut self) -> Option<mpsc::Receiver<Notice>> {
        self.unasked.take()
    }

    /// Waits until the account is registered, or will not be.
    ///
    /// Errors: [`Fault::TimedOut`] after `wait`, else the failure's own sentence.
    pub async fn registered(&self, wait: Duration) -> Result<String> {
        let mut registration = self.registration.clone();
        let settled = registration.wait_for(|state| match state {
            Registration::Registered { .. } => true,
            Registration::Failed { retries, .. } => !retries,
            Registration::None => false,
        });
        let state = match tokio::time::timeout(wait, settled).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) => Registration::None,
            Err(_) => self.registration.borrow().clone(),
        };
        match state {
            Registration::Registered { registrar } => Ok(registrar),
            Registration::Failed {
                sentence, retries, ..
            } => {
                let fault = if retries {
                    Fault::TimedOut
                } else {
                    Fault::ConfigInvalid
                };
                Err(Error::new(fault, "register", sentence))
            }
            Registration::None => {
                Err(
                    Error::new(Fault::TimedOut, "register", format!("no answer within {wait:?}"))
                        .advice("is the registrar up, and account.outbound right?"),
                )
            }
        }
    }

    /// How the registration stands, and every change of it.
    pub fn registration(&self) -> watch::Receiver<Registration> {
        self.registration.clone()
    }

    /// What the SIP stack is bound to: `0.0.0.0` where it hears every address.
    pub fn listeners(&self) -> Vec<Listener> {
        self.stack
            .as_ref()
            .map(|stack| stack.listeners())
            .unwrap_or_default()
    }

    /// What peers reach this endpoint by, as long as this host's addresses stay.
    pub fn contact(&self) -> &NameAddr {
        &self.account.contact
    }

    /// Hangs up, unregisters, closes everything. Peers and registrar get `call.shutdown_grace_ms` each to answer.
    pub async fn shutdown(self) {
        let grace = self.grace;
        self.leave(grace).await;
    }

    /// As [`Endpoint::shutdown`], and over after `deadline` whoever does not answer.
    ///
    /// Errors: [`Fault::TimedOut`] when something had to be left undone: a peer or the registrar has not heard of it then.
    pub async fn shutdown_within(self, deadline: Duration) -> Result<()> {
        // The calls' part, the registrar's, the stack's.
        let (grace, stack) = (deadline / 3, self.stack.clone());
        let left = tokio::time::timeout(deadline, self.leave(grace)).await;
        if left.is_err() {
            if let Some(stack) = stack {
                stack.shutdown(Duration::ZERO).await;
            }
            let what = format!("not everybody answered within {deadline:?}");
            return Err(Error::new(Fault::TimedOut, "shut down", what)
                .advice("the peers end the calls by their own timers, and the binding expires"));
        }
        Ok(())
    }

    async fn leave(self, grace: Duration) {
        match &self.hub {
            // The first may find the gateway about to begin again: what was in hand is lost then.
            Hub::Actors { gateway, .. } => {
                for _ in 0..2 {
                    if tell(gateway, Shutdown { grace }).await.is_ok() {
                        break;
                    }
                    tracing::warn!("the gateway broke down over the shutdown, or was gone before");
                }
            }
            Hub::Fake(state) => state.shut_down(),
        }
        if let Some(stack) = &self.stack {
            stack.shutdown(grace.min(Duration::from_millis(500))).await;
        }
    }

    /// How many calls this endpoint knows of: those that ring, those that are talked over, and those whose end is not complete.
    pub async fn open_calls(&self) -> usize {
        self.hub.open_calls().await
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    pub(crate) fn house(&self) -> House {
        House {
            hub: self.hub.clone(),
            tap: self.tap.clone(),
            aor: Arc::new(self.account.aor.clone()),
        }
    }
}

/// What a call's handle needs of its endpoint.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) hub: Hub,
    tap: Wiretap,
    pub(crate) aor: Arc<SipUri>,
}

impl House {
    pub(crate) async fn dial(&self, target: &str, media: MediaPlan, headers: Headers) -> Result<Call> {
        let target = read_target(&self.aor, target)?;
        self.begin(|call| Dial {
            call,
            target,
            media,
            headers,
        })
        .await
    }

    /// A call of ours, which `command` begins. Nothing is left of one that is refused, and one that nobody waits for any more is
    /// hung up.
    pub(crate) async fn begin<M>(&self, command: impl FnOnce(CallId) -> M) -> Result<Call>
    where
        M: Message<Result = Result<()>> + Send + 'static,
        Gateway: Handler<M>,
    {
        let id = CallId::fresh();
        let guard = Guard::new(&self.hub, id);
        let feed = self.hub.expect(id).await?;
        let call = self.call(id, feed)?;
        ask(&self.hub, command(id)).await?;
        guard.disarm();
        Ok(call)
    }

    pub(crate) fn call(&self, id: CallId, feed: Option<CallFeed>) -> Result<Call> {
        let feed = feed
            .ok_or_else(|| Error::new(Fault::ApiMisuse, "take a call", format!("{id} is over or taken")))?;
        Ok(self.open(id, feed))
    }

    fn open(&self, id: CallId, feed: CallFeed) -> Call {
        Call {
            id,
            house: self.clone(),
            feed,
            kept: VecDeque::new(),
            report: None,
        }
    }
}

/// A SIP URI, or a bare user name of the account's own domain.
pub(crate) fn read_target(aor: &SipUri, text: &str) -> Result<Uri> {
    let has_scheme = text
        .split_once(':')
        .is_some_and(|(scheme, _)| matches!(scheme, "sip" | "sips" | "tel" | "urn"));
    let whole = match (has_scheme, text.contains('@')) {
        (true, _) => text.to_owned(),
        (false, true) => format!("sip:{text}"),
        (false, false) => {
            let port = aor.port.map_or_else(String::new, |port| format!(":{port}"));
            format!("sip:{text}@{}{port}", aor.host)
        }
    };
    whole.parse().map_err(|error: Error| {
        Error::new(
            Fault::ApiMisuse,
            "dial",
            format!("{text:?} cannot be called: {}", error.message()),
        )
        .advice("write a SIP URI such as sip:bob@example.com")
    })
}

/// A call of this endpoint. Dropping it does not hang up; [`Call::hangup`] does.
pub struct Call {
    id: CallId,
    house: House,
    feed: CallFeed,
    /// Events that were read while nobody asked for them.
    kept: VecDeque<CallEventKind>,
    report: Option<Box<CallReport>>,
}

impl Call {
    /// Its id within this process.
    pub fn id(&self) -> CallId {
        self.id
    }

    pub(crate) fn gateway(&self) -> &Hub {
        &self.house.hub
    }

    pub(crate) fn house(&self) -> &House {
        &self.house
    }

    /// The next thing that happens. `None` after the last one, `Ended` or `Failed`.
    pub async fn next(&mut self) -> Option<CallEventKind> {
        match self.kept.pop_front() {
            Some(event) => Some(event),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Option<CallEventKind> {
        let (event, diary): (CallEvent, _) = self.feed.recv().await?;
        if let (CallEventKind::Ended(ending) | CallEventKind::Failed(ending), Some(diary)) =
            (&event.kind, diary)
        {
            let passed = diary
                .sip_call_id()
                .map(|id| self.house.tap.passed(id))
                .unwrap_or_default();
            if let Some(sip_call_id) = diary.sip_call_id() {
                self.house.tap.forget(sip_call_id);
            }
            self.report = Some(Box::new(diary.finish(ending.clone(), passed)));
        }
        Some(event.kind)
    }

    /// Reads on to the end, and keeps what comes before it for [`Call::next`].
    pub(crate) async fn over(&mut self) {
        while let Some(event) = self.read().await {
            // No more than the feed itself would keep.
            if self.kept.len() < CALL_EVENTS {
                self.kept.push_back(event);
            }
        }
    }

    /// Waits until the dialog is confirmed and the session description settled.
    ///
    /// Errors: the sentence of the failure, when the call ended first.
    pub async fn confirmed(&mut self) -> Result<()> {
        while let Some(event) = self.next().await {
            match event {
                CallEventKind::Confirmed => return Ok(()),
                CallEventKind::Ended(ending) | CallEventKind::Failed(ending) => {
                    let sentence = ending
                        .sentence
                        .unwrap_or_else(|| format!("the call ended: {}", ending.cause));
                    return Err(Error::new(Fault::PeerIncompatible, "call", sentence));
                }
                _ => {}
            }
        }
        Err(Error::new(Fault::ApiMisuse, "call", "the call is over already"))
    }

    /// Reads on to the end, and says how it went.
    pub async fn finished(mut self) -> Result<CallReport> {
        while self.report.is_none() && self.next().await.is_some() {}
        self.report.map(|report| *report).ok_or_else(|| {
            Error::new(Fault::Backend, "finish a call", "its last event was lost")
                .advice("read the call's events: only 256 are kept")
        })
    }

    /// The report, once the last event was read.
    pub fn report(&self) -> Option<&CallReport> {
        self.report.as_deref()
    }

    /// Ends the call in any state; [`Call::finished`] waits for it.
    pub async fn hangup(&self) -> Result<()> {
        ask(self.gateway(), Hangup { call: self.id }).await
    }

    /// Holds the call: the peer is not heard any more and hears nothing. [`CallEventKind::Held`] follows, or `HoldRefused`.
    pub async fn hold(&self) -> Result<()> {
        self.set_hold(true, false).await
    }

    /// Holds the call, and goes on sending its source: music for who waits.
    pub async fn hold_playing(&self) -> Result<()> {
        self.set_hold(true, true).await
    }

    /// Takes a held call up again. [`CallEventKind::Resumed`] follows, or `HoldRefused`.
    pub async fn resume(&self) -> Result<()> {
        self.set_hold(false, false).await
    }

    async fn set_hold(&self, held: bool, plays_on: bool) -> Result<()> {
        let call = self.id;
        ask(self.gateway(), Hold { call, held, plays_on }).await
    }

    /// Sends DTMF digits, 100 ms each: as telephone-event (RFC 4733), or in INFOs, as `call.dtmf` says. INFOs are waited for.
    pub async fn send_dtmf(&self, digits: &str) -> Result<()> {
        let duration = Duration::from_millis(100);
        ask(
            self.gateway(),
            SendDtmf {
                call: self.id,
                digits: digits.to_owned(),
                duration,
            },
        )
        .await
    }

    /// The media's numbers so far.
    pub async fn stats(&self) -> Result<SessionStats> {
        ask(self.gateway(), Snapshot { call: self.id }).await
    }
}
