//! An [`Endpoint`] for the tests of programs that use one: the same types, and the test is the other side.
//!
//! Nothing is sent, no thread is started, and nothing happens by itself: the fake has no timers, so the only time is the
//! program's own, which `tokio::time::pause` stops. What the program does is read as [`Deed`]s.
//!
//! ```
//! use siprtc::fake::{Deed, fake};
//! use siprtc::prelude::*;
//!
//! /// The program: lets in whoever knows the digit.
//! async fn intercom(mut endpoint: Endpoint) -> Result<()> {
//!     while let Some(visitor) = endpoint.incoming().await {
//!         let mut call = visitor.answer(MediaPlan::default()).await?;
//!         while let Some(event) = call.next().await {
//!             match event {
//!                 CallEventKind::Dtmf { digit: '7', .. } => call.send_dtmf("9").await?, // Opens the door.
//!                 CallEventKind::Dtmf { .. } => call.hangup().await?,
//!                 _ => {}
//!             }
//!         }
//!     }
//!     Ok(())
//! }
//!
//! # tokio_test();
//! # fn tokio_test() {
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! // Its test:
//! let (endpoint, fake) = fake("sip:door@example.com").unwrap();
//! let program = tokio::spawn(intercom(endpoint));
//! fake.ring("sip:visitor@example.com").unwrap();
//! assert_eq!(fake.deed().await, Deed::Answered);
//! fake.digit('7');
//! assert_eq!(fake.deed().await, Deed::Digits("9".to_owned()));
//! fake.hang_up();
//! fake.ring("sip:stranger@example.com").unwrap();
//! assert_eq!(fake.deed().await, Deed::Answered);
//! fake.digit('1');
//! assert_eq!(fake.deed().await, Deed::HungUp);
//! fake.close();
//! program.await.unwrap().unwrap();
//! # });
//! # }
//! ```

mod beside;
mod deed;

use self::beside::Beside;
use crate::desk::{Desk, MESSAGES, RINGING, Registration};
use crate::endpoint::{Endpoint, read_target};
use crate::hub::Hub;
use parking_lot::Mutex;
use siprtc_core::sip::{NameAddr, SipUri};
use siprtc_core::{CallId, Cause, Error, Fault, Result};
use siprtc_gateway::{
    AcceptTransfer, Account, Answer, AnswerEarly, AskForCall, Attach, CallEvent, CallEventKind, ChangeMedia,
    Dial, Ending, Hangup, Head, Hold, MediaPlan, MessageTo, Mute, Note, Redirect, Refuse, RefuseTransfer,
    SendDtmf, SendMessage, SetAudio, Side, Transfer, TransferTo,
};
use siprtc_media_session::{SessionStats, Sink, Source};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

pub use deed::Deed;

/// Most deeds that wait to be read. **Policy when full**: the oldest is forgotten.
const MAX_DEEDS: usize = 1024;

/// Most samples of a frame: 20 ms at 48 kHz.
const FRAME: usize = 960;

/// An endpoint of `aor`, registered, and the other side of its calls. To be made within a tokio runtime.
///
/// Errors: [`Fault::ApiMisuse`] when `aor` is no SIP URI.
pub fn fake(aor: &str) -> Result<(Endpoint, Fake)> {
    let aor: SipUri = aor.parse()?;
    let (arrivals_in, arrivals) = mpsc::channel(RINGING);
    let (messages_in, messages) = mpsc::channel(MESSAGES);
    let (asked_in, asked) = mpsc::channel(MESSAGES);
    let (unasked_in, unasked) = mpsc::channel(MESSAGES);
    let registered = Registration::Registered {
        registrar: aor.host.to_string(),
    };
    let (registration_in, registration) = watch::channel(registered);
    let account = Account::new(aor.clone(), NameAddr::new(aor.clone()));
    let desk = Desk::new(arrivals_in, messages_in, asked_in, unasked_in, registration_in);
    let state = Arc::new(State {
        aor,
        inner: Mutex::new(Inner {
            desk: Some(desk),
            calls: BTreeMap::new(),
            last: None,
            beside: Beside::default(),
            deeds: VecDeque::new(),
        }),
        news: Notify::new(),
    });
    let hub = Hub::Fake(Arc::clone(&state));
    let endpoint = Endpoint::over(
        hub,
        account,
        (arrivals, messages, asked, unasked, registration),
        Duration::ZERO,
    );
    Ok((endpoint, Fake { state }))
}

/// The other side of a fake endpoint's calls, and what its program did. What is said of a call is said of the one that began
/// last; [`Fake::of`] chooses another.
#[derive(Clone)]
pub struct Fake {
    state: Arc<State>,
}

pub(crate) struct State {
    aor: SipUri,
    inner: Mutex<Inner>,
    news: Notify,
}

struct Inner {
    /// `None`: shut down.
    desk: Option<Desk>,
    calls: BTreeMap<CallId, Line>,
    last: Option<CallId>,
    beside: Beside,
    deeds: VecDeque<Deed>,
}

struct Line {
    /// The program called.
    outgoing: bool,
    answered: bool,
    /// Its media began before it was answered.
    early: bool,
    media: MediaPlan,
    stats: Option<SessionStats>,
    /// A recording runs since then.
    recording: Option<Instant>,
}

impl Fake {
    /// Somebody calls; the call's id, for [`Fake::of`].
    pub fn ring(&self, from: &str) -> Result<CallId> {
        self.ring_with(from, Head::default())
    }

    /// Somebody calls, with more in the INVITE.
    pub fn ring_with(&self, from: &str, head: Head) -> Result<CallId> {
        let from = NameAddr::new(read_target(&self.state.aor, from)?);
        let (id, to) = (CallId::fresh(), NameAddr::new(self.state.aor.clone()));
        let mut inner = self.state.inner.lock();
        inner.begin(id, false, MediaPlan::default());
        let head = Box::new(head);
        inner.tell(
            id,
            CallEventKind::Incoming {
                from,
                to,
                replaces: None,
                head,
            },
        );
        Ok(id)
    }

    /// From here on `call` is meant.
    pub fn of(&self, call: CallId) -> &Self {
        self.state.inner.lock().last = Some(call);
        self
    }

    /// The next thing that the program does, in its order. Waits for it.
    pub async fn deed(&self) -> Deed {
        loop {
            let news = self.state.news.notified();
            if let Some(deed) = self.state.inner.lock().deeds.pop_front() {
                return deed;
            }
            news.await;
        }
    }

    /// What the program did that was not read yet.
    pub fn deeds(&self) -> Vec<Deed> {
        self.state.inner.lock().deeds.drain(..).collect()
    }

    /// How many calls are not over.
    pub fn calls(&self) -> usize {
        self.state.inner.lock().calls.len()
    }

    /// It rings at the one whom the program calls.
    pub fn rings(&self) {
        self.tell(CallEventKind::Progress {
            status: 180,
            early_media: false,
        });
    }

    /// The one whom the program calls answers.
    pub fn answer(&self) {
        let mut inner = self.state.inner.lock();
        if let Some(id) = inner.last {
            inner.answered(id);
        }
    }

    /// The one whom the program calls, or a server on the way, refuses.
    pub fn refuse(&self, status: u16) {
        self.end(Cause::from_status(status), Side::Remote, Some(status));
    }

    /// The peer hangs up, or gives up ringing.
    pub fn hang_up(&self) {
        self.end(Cause::Bye, Side::Remote, None);
    }

    /// The media path is lost: the program's side hangs up.
    pub fn lose_media(&self) {
        self.end(Cause::MediaFailed, Side::Local, None);
    }

    /// Media flows, both ways.
    pub fn connect(&self) {
        self.tell(CallEventKind::Connected);
        self.tell(CallEventKind::FirstPacket { inbound: false });
        self.tell(CallEventKind::FirstPacket { inbound: true });
    }

    /// The peer sends a digit.
    pub fn digit(&self, digit: char) {
        let duration = Duration::from_millis(100);
        self.tell(CallEventKind::Dtmf { digit, duration });
    }

    /// The peer sends a text, within the call.
    pub fn message(&self, text: &str) {
        let own = NameAddr::new(self.state.aor.clone());
        self.tell(CallEventKind::Message(Note {
            from: own.clone(),
            to: own,
            content_type: "text/plain".to_owned(),
            body: text.to_owned(),
        }));
    }

    /// Anything else that happens to a call. `Ended` and `Failed` are its last.
    pub fn tell(&self, kind: CallEventKind) {
        let mut inner = self.state.inner.lock();
        if let Some(id) = inner.last {
            inner.tell(id, kind);
        }
    }

    /// The peer says these samples (mono, at `rate` Hz): the program's [`Sink::Samples`] has them in frames of 20 ms at once.
    pub fn say(&self, rate: u32, samples: &[i16]) {
        if let Some(Sink::Samples(sink)) = self.plan().map(|plan| plan.sink) {
            let frame = usize::try_from(rate / 50).unwrap_or(FRAME).max(1);
            samples.chunks(frame).for_each(|frame| sink.write(rate, frame));
        }
    }

    /// What the program's [`Source::Samples`] says in the next 20 ms, at `rate` Hz; empty without one.
    pub fn hear(&self, rate: u32) -> Vec<i16> {
        let Some(Source::Samples(source)) = self.plan().map(|plan| plan.source) else {
            return Vec::new();
        };
        let mut frame = vec![0; usize::try_from(rate / 50).unwrap_or(FRAME).min(FRAME)];
        let heard = source.read(rate, &mut frame);
        frame.truncate(heard);
        frame
    }

    /// The media that the program gave the call.
    pub fn plan(&self) -> Option<MediaPlan> {
        let inner = self.state.inner.lock();
        let line = inner.calls.get(&inner.last?)?;
        Some(line.media.clone())
    }

    /// How the account stands with its registrar from here on.
    pub fn register(&self, state: Registration) {
        if let Some(desk) = &self.state.inner.lock().desk {
            desk.set_registration(state);
        }
    }

    /// The endpoint is gone: every call ends, and nobody calls any more.
    pub fn close(&self) {
        self.state.inner.lock().close();
    }

    fn end(&self, cause: Cause, by: Side, status: Option<u16>) {
        let mut inner = self.state.inner.lock();
        if let Some(id) = inner.last {
            inner.end(id, cause, by, status);
        }
    }
}

impl Inner {
    fn begin(&mut self, id: CallId, outgoing: bool, media: MediaPlan) {
        self.last = Some(id);
        let line = Line {
            outgoing,
            answered: false,
            early: false,
            media,
            stats: None,
            recording: None,
        };
        self.calls.insert(id, line);
    }

    fn tell(&mut self, call: CallId, kind: CallEventKind) {
        let over = matches!(kind, CallEventKind::Ended(_) | CallEventKind::Failed(_));
        if !self.calls.contains_key(&call) {
            return;
        }
        if over {
            self.calls.remove(&call);
        }
        let at = tokio::time::Instant::now();
        if let Some(desk) = &mut self.desk {
            desk.call_event(CallEvent { call, at, kind });
        }
    }

    fn answered(&mut self, id: CallId) {
        if let Some(line) = self.calls.get_mut(&id) {
            line.answered = true;
            self.tell(id, CallEventKind::Accepted);
            self.tell(id, CallEventKind::Confirmed);
        }
    }

    fn end(&mut self, id: CallId, cause: Cause, by: Side, status: Option<u16>) {
        let Some(line) = self.calls.get(&id) else { return };
        let established = line.answered;
        let cause = match (cause, established, by, line.outgoing) {
            (Cause::Bye, false, Side::Local, false) => Cause::Declined,
            (Cause::Bye, false, ..) => Cause::Cancelled,
            (cause, ..) => cause,
        };
        let ending = Ending {
            cause,
            by,
            status,
            sentence: status.map(|status| format!("refused with {status}")),
            contacts: Vec::new(),
            retry_after: None,
            established,
            stats: line.stats.clone().map(Box::new),
        };
        let kind = match established {
            true => CallEventKind::Ended(ending),
            false => CallEventKind::Failed(ending),
        };
        self.tell(id, kind);
    }

    fn close(&mut self) {
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            self.end(id, Cause::Bye, Side::Local, None);
        }
        self.desk = None;
    }

    /// A command for a call: an error when it is over.
    fn line(&mut self, id: CallId) -> Result<&mut Line> {
        self.calls.get_mut(&id).ok_or_else(|| {
            Error::new(Fault::ApiMisuse, "use a call", format!("{id} is unknown or over"))
                .advice("a call is over after its Ended or Failed event")
        })
    }

    fn ringing(&mut self, id: CallId) -> Result<&mut Line> {
        match self.line(id)? {
            line if line.outgoing || line.answered => Err(not_ringing(id)),
            line => Ok(line),
        }
    }

    /// What a command does, and its answer.
    fn take(&mut self, message: Box<dyn Any>) -> Result<(Option<Deed>, Box<dyn Any>)> {
        macro_rules! on {
            ($($kind:ty => |$message:pat_param| $do:expr;)*) => {{
                $(let message = match message.downcast::<$kind>() {
                    Ok(message) => {
                        let $message = *message;
                        return $do.map(|deed| (Some(deed), Box::new(()) as Box<dyn Any>));
                    }
                    Err(other) => other,
                };)*
                message
            }};
        }
        let message = on! {
            AcceptTransfer => |AcceptTransfer { call, new, media }| self.line(call).map(|_| ()).map(|()| {
                self.begin(new, true, media);
                Deed::AcceptedTransfer
            });
            Answer => |Answer { call, media }| self.ringing(call).map(|line| {
                line.media = media.unwrap_or_else(|| line.media.clone());
            }).map(|()| {
                self.answered(call);
                Deed::Answered
            });
            AnswerEarly => |AnswerEarly { call, media }| self.ringing(call).and_then(|line| {
                if std::mem::replace(&mut line.early, true) {
                    return Err(not_ringing(call));
                }
                line.media = media;
                Ok(Deed::AnsweredEarly)
            });
            AskForCall => |AskForCall { referral, target, to, headers, .. }| {
                self.beside.asked = Some(referral);
                let to = match to {
                    TransferTo::Uri(uri) => Ok(Some(uri.to_string())),
                    TransferTo::Call(call) => self.line(call).map(|_| None),
                };
                to.map(|to| Deed::AskedForCall { target: target.to_string(), to, headers })
            };
            ChangeMedia => |ChangeMedia { call, codecs, direction, video }| self.line(call).map(|_| ()).map(|()| {
                self.tell(call, CallEventKind::MediaChanged);
                match (codecs, direction) {
                    (Some(codecs), _) => Deed::ChangedCodecs(codecs),
                    (None, Some(direction)) => Deed::ChangedDirection(direction),
                    (None, None) => Deed::ChangedVideo(video.flatten().is_some()),
                }
            });
            SetAudio => |SetAudio { call, source, sink }| self.line(call).map(|line| {
                (line.media.source, line.media.sink) = (source, sink);
                Deed::ChangedAudio
            });
            Dial => |Dial { call, target, media, headers }| {
                self.begin(call, true, media);
                Ok::<_, Error>(Deed::Dialled { target: target.to_string(), headers })
            };
            Hangup => |Hangup { call }| self.line(call).map(|_| ()).map(|()| {
                self.end(call, Cause::Bye, Side::Local, None);
                Deed::HungUp
            });
            Hold => |Hold { call, held, .. }| self.line(call).map(|_| ()).map(|()| {
                let by = Side::Local;
                self.tell(call, if held { CallEventKind::Held { by } } else { CallEventKind::Resumed { by } });
                if held { Deed::Held } else { Deed::Resumed }
            });
            Mute => |Mute { call, muted }| self.line(call).map(|_| Deed::Muted(muted));
            Redirect => |Redirect { call, contacts }| self.ringing(call).map(|_| ()).map(|()| {
                self.end(call, Cause::Redirected, Side::Local, Some(302));
                Deed::Forwarded(contacts.iter().map(|contact| contact.uri.to_string()).collect())
            });
            Refuse => |Refuse { call, status }| self.ringing(call).map(|_| ()).map(|()| {
                self.end(call, Cause::from_status(status), Side::Local, Some(status));
                Deed::Refused(status)
            });
            RefuseTransfer => |RefuseTransfer { call, status }| {
                self.line(call).map(|_| Deed::RefusedTransfer(status))
            };
            SendDtmf => |SendDtmf { call, digits, .. }| self.line(call).map(|_| Deed::Digits(digits));
            Transfer => |Transfer { call, to }| self.line(call).map(|_| Deed::Transferred(match to {
                TransferTo::Uri(uri) => Some(uri.to_string()),
                TransferTo::Call(_) => None,
            }));
        };
        // Its header fields belong to what follows.
        let message = match message.downcast::<Attach>() {
            Ok(attach) => {
                return self
                    .line(attach.call)
                    .map(|_| (None, Box::new(()) as Box<dyn Any>));
            }
            Err(message) => message,
        };
        match message.downcast::<SendMessage>() {
            Ok(message) => {
                let SendMessage { to, body: text, .. } = *message;
                let to = match to {
                    MessageTo::Uri(uri) => Some(uri.to_string()),
                    MessageTo::Call(call) => self.line(call).map(|_| None)?,
                };
                Ok((Some(Deed::Message { to, text }), Box::new(200_u16)))
            }
            Err(message) => match self.take_beside(message) {
                Ok(taken) => taken.map(|(deed, answer)| (Some(deed), answer)),
                Err(_) => Err(Error::new(
                    Fault::Unsupported,
                    "use the fake endpoint",
                    "it has neither bridges nor conferences, and its calls no names",
                )
                .advice("test that against a real endpoint and the home server")),
            },
        }
    }
}

fn not_ringing(id: CallId) -> Error {
    Error::new(Fault::ApiMisuse, "use a call", format!("{id} does not ring here"))
}

impl State {
    pub(crate) fn desk<T: Default>(&self, act: impl FnOnce(&mut Desk) -> T) -> T {
        self.inner.lock().desk.as_mut().map(act).unwrap_or_default()
    }

    pub(crate) fn take(&self, message: Box<dyn Any>) -> Result<Box<dyn Any>> {
        let mut inner = self.inner.lock();
        if inner.desk.is_none() {
            return Err(Error::new(
                Fault::ApiMisuse,
                "use the endpoint",
                "it is shut down",
            ));
        }
        let (deed, answer) = inner.take(message)?;
        drop(inner);
        deed.into_iter().for_each(|deed| self.note(deed));
        Ok(answer)
    }

    pub(crate) fn abandon(&self, call: CallId) {
        if self.take(Box::new(Hangup { call })).is_err() {
            self.desk(|desk| desk.forget(call));
        }
    }

    pub(crate) fn shut_down(&self) {
        self.inner.lock().close();
        self.note(Deed::ShutDown);
    }

    fn note(&self, deed: Deed) {
        let mut inner = self.inner.lock();
        if inner.deeds.len() >= MAX_DEEDS {
            inner.deeds.pop_front();
        }
        inner.deeds.push_back(deed);
        drop(inner);
        self.news.notify_one();
    }
}
