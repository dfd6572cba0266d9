//! What a program does beside negotiating its calls: recordings and numbers of theirs; subscriptions, its own and those to it; calls
//! that somebody is asked to make.

use super::{Deed, Fake, Inner};
use crate::endpoint::read_target;
use siprtc_core::sip::NameAddr;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_gateway::{
    AcceptReferral, AskedCall, Notify, Record, ReferralEvent, RefuseReferral, Snapshot, StopRecording,
    Subscribe, SubscriptionEvent, Unsubscribe,
};
use siprtc_media_session::SessionStats;
use std::any::Any;
use tokio::time::Instant;

/// What a command does, and its answer.
pub(super) type Taken = Result<(Deed, Box<dyn Any>)>;

/// What the program subscribed to, and what it was asked for.
#[derive(Default)]
pub(super) struct Beside {
    /// Its subscriptions, with their target and event package.
    subscriptions: Vec<(CallId, String, String)>,
    /// The call that it asked somebody for last.
    pub(super) asked: Option<CallId>,
    /// Calls that it was asked for, and has not answered.
    wanted: Vec<CallId>,
}

impl Fake {
    /// What the program's subscription to `package` of `target` tells it.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use siprtc::fake::{Deed, fake};
    /// use siprtc::gateway::{Notice, SubscriptionEvent};
    ///
    /// let (endpoint, fake) = fake("sip:desk@example.com").unwrap();
    /// let mut lamp = endpoint.subscribe("colleague", "dialog").await.unwrap();
    /// assert!(matches!(fake.deed().await, Deed::Subscribed { .. }));
    /// let busy = SubscriptionEvent::Notified(Notice {
    ///     event: "dialog".to_owned(),
    ///     content_type: "application/dialog-info+xml".to_owned(),
    ///     body: b"<dialog-info/>".to_vec(),
    /// });
    /// fake.notify("colleague", "dialog", busy.clone()).unwrap();
    /// assert_eq!(lamp.next().await, Some(busy));
    /// # });
    /// ```
    ///
    /// Errors: [`Fault::ApiMisuse`] when the program has no such subscription.
    pub fn notify(&self, target: &str, package: &str, event: SubscriptionEvent) -> Result<()> {
        let target = read_target(&self.state.aor, target)?.to_string();
        let mut inner = self.state.inner.lock();
        let its = (inner.beside.subscriptions.iter())
            .find(|(_, whose, what)| *whose == target && what == package)
            .map(|(id, ..)| *id);
        let Some(id) = its else {
            let what = format!("the program has not subscribed to {package} of {target}");
            return Err(misuse(what));
        };
        inner.subscription_event(id, event);
        Ok(())
    }

    /// Somebody wants the program to call `to` ([`Endpoint::referrals`](crate::Endpoint::referrals)).
    ///
    /// Errors: [`Fault::ApiMisuse`] when one of the two is no SIP URI and no user name.
    pub fn asks_for_call(&self, to: &str, referred_by: Option<&str>) -> Result<()> {
        let read = |text: &str| read_target(&self.state.aor, text);
        let asked = AskedCall {
            referral: CallId::fresh(),
            to: read(to)?,
            referred_by: referred_by.map(read).transpose()?.map(NameAddr::new),
            replaces: false,
        };
        let mut inner = self.state.inner.lock();
        inner.beside.wanted.push(asked.referral);
        inner.desk.iter().for_each(|desk| desk.asked(asked.clone()));
        Ok(())
    }

    /// What becomes of the call that the program asked somebody for last.
    pub fn report(&self, event: ReferralEvent) {
        let inner = &mut *self.state.inner.lock();
        if let (Some(id), Some(desk)) = (inner.beside.asked, &mut inner.desk) {
            inner.beside.asked = inner.beside.asked.filter(|_| !event.is_last());
            desk.referral_event(id, event);
        }
    }

    /// The call's numbers from here on, for [`Call::stats`](crate::Call::stats) and its ending.
    pub fn measure(&self, stats: SessionStats) {
        let mut inner = self.state.inner.lock();
        let last = inner.last;
        if let Some(line) = last.and_then(|id| inner.calls.get_mut(&id)) {
            line.stats = Some(stats);
        }
    }
}

impl Inner {
    /// `Err`: it is none of these commands.
    pub(super) fn take_beside(&mut self, message: Box<dyn Any>) -> Result<Taken, Box<dyn Any>> {
        let message = match message.downcast::<Snapshot>() {
            Ok(message) => return Ok(self.snapshot(message.call)),
            Err(message) => message,
        };
        let message = match message.downcast::<Record>() {
            Ok(message) => return Ok(self.record(*message)),
            Err(message) => message,
        };
        let message = match message.downcast::<StopRecording>() {
            Ok(message) => return Ok(self.stop_recording(message.call)),
            Err(message) => message,
        };
        let message = match message.downcast::<Subscribe>() {
            Ok(message) => return Ok(self.subscribe(*message)),
            Err(message) => message,
        };
        let message = match message.downcast::<Unsubscribe>() {
            Ok(message) => return Ok(self.end_news(message.subscription)),
            Err(message) => message,
        };
        let message = match message.downcast::<Notify>() {
            Ok(message) => {
                let Notify { event, body, .. } = *message;
                return Ok(done(Deed::Notified { event, body }));
            }
            Err(message) => message,
        };
        let message = match message.downcast::<AcceptReferral>() {
            Ok(message) => return Ok(self.accept_referral(*message)),
            Err(message) => message,
        };
        let RefuseReferral { referral, status } = *message.downcast::<RefuseReferral>()?;
        Ok(self
            .answers(referral)
            .and_then(|()| done(Deed::RefusedReferral(status))))
    }

    fn snapshot(&mut self, call: CallId) -> Taken {
        let stats = self.line(call)?.stats.clone().unwrap_or_default();
        Ok((Deed::ReadStats, Box::new(stats)))
    }

    fn record(&mut self, Record { call, path, sides }: Record) -> Taken {
        let line = self.line(call)?;
        if line.recording.is_some() {
            return Err(misuse("a recording of this call runs"));
        }
        line.recording = Some(Instant::now());
        done(Deed::Records { path, sides })
    }

    fn stop_recording(&mut self, call: CallId) -> Taken {
        let Some(since) = self.line(call)?.recording.take() else {
            return Err(misuse("no recording of this call runs"));
        };
        Ok((Deed::StoppedRecording, Box::new(since.elapsed())))
    }

    fn subscribe(&mut self, message: Subscribe) -> Taken {
        let Subscribe {
            subscription,
            target,
            event,
            headers,
            ..
        } = message;
        let target = target.to_string();
        (self.beside.subscriptions).push((subscription, target.clone(), event.clone()));
        done(Deed::Subscribed {
            target,
            event,
            headers,
        })
    }

    /// Of a subscription, or of a call that somebody was asked for.
    fn end_news(&mut self, id: CallId) -> Taken {
        if self.beside.subscriptions.iter().any(|(its, ..)| *its == id) {
            let ended = SubscriptionEvent::Ended {
                status: None,
                reason: None,
                retry_after: None,
                contacts: Vec::new(),
            };
            self.subscription_event(id, ended);
            return done(Deed::Unsubscribed);
        }
        let asked = self.beside.asked.take_if(|asked| *asked == id);
        let (Some(id), Some(desk)) = (asked, &mut self.desk) else {
            return Err(misuse("nothing is told under this id any more"));
        };
        let untold = ReferralEvent::Untold {
            sentence: "the program wants no more news".to_owned(),
            retry_after: None,
        };
        desk.referral_event(id, untold);
        done(Deed::EndedNews)
    }

    fn subscription_event(&mut self, id: CallId, event: SubscriptionEvent) {
        if matches!(event, SubscriptionEvent::Ended { .. }) {
            self.beside.subscriptions.retain(|(its, ..)| *its != id);
        }
        if let Some(desk) = &mut self.desk {
            desk.subscription_event(id, event);
        }
    }

    fn accept_referral(&mut self, message: AcceptReferral) -> Taken {
        let AcceptReferral { referral, new, media } = message;
        self.answers(referral)?;
        self.begin(new, true, media);
        done(Deed::AcceptedReferral)
    }

    fn answers(&mut self, referral: CallId) -> Result<()> {
        let before = self.beside.wanted.len();
        self.beside.wanted.retain(|wanted| *wanted != referral);
        match self.beside.wanted.len() < before {
            true => Ok(()),
            false => Err(misuse("nobody waits for it any more")),
        }
    }
}

fn done(deed: Deed) -> Taken {
    Ok((deed, Box::new(())))
}

fn misuse(what: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, "use the fake endpoint", what)
}
