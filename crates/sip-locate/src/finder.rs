//! From a URI to targets: the machine, the name servers and what is remembered, put together.

use crate::cache::{Cache, Dead, Outcome};
use crate::config::LocateConfig;
use crate::dns::{self, Dns};
use crate::machine::{Answer, Failure, Found, Locator, Step, Target, Usable};
use futures_util::future::join_all;
use parking_lot::Mutex;
use siprtc_core::sip::{Host, SipUri};
use siprtc_core::{Fault, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Most lookups under way at once; another waits, and fails when its time is over.
const MAX_LOOKUPS: usize = 32;

/// What of a URI decides where it leads.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    secure: bool,
    host: String,
    port: Option<u16>,
    transport: Option<String>,
}

impl Key {
    fn new(uri: &SipUri) -> Self {
        let host = match uri.params.value("maddr") {
            Some(maddr) => maddr.to_ascii_lowercase(),
            None => uri.host.to_string(),
        };
        Key {
            secure: uri.secure,
            host,
            port: uri.port,
            transport: uri.params.value("transport").map(str::to_ascii_lowercase),
        }
    }
}

pub(crate) struct Finder {
    config: LocateConfig,
    usable: Arc<Usable>,
    runtime: Handle,
    cache: Mutex<Cache<Key>>,
    dead: Mutex<Dead>,
    lookups: Arc<Semaphore>,
    dns: Mutex<Option<Arc<Dns>>>,
}

impl Finder {
    /// To be made on the runtime that shall ask.
    pub(crate) fn new(config: LocateConfig, usable: Usable) -> Self {
        Finder {
            config,
            usable: Arc::new(usable),
            runtime: Handle::current(),
            cache: Mutex::new(Cache::new()),
            dead: Mutex::new(Dead::default()),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            dns: Mutex::new(None),
        }
    }

    pub(crate) fn config(&self) -> &LocateConfig {
        &self.config
    }

    pub(crate) fn usable(&self) -> &Usable {
        &self.usable
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Where `uri` leads, at least one target, best first.
    pub(crate) async fn targets(&self, uri: &SipUri, operation: &'static str) -> Result<Vec<Target>> {
        let locator = |fixed| Locator::new(uri, self.usable.clone(), fixed, rand::random());
        // An address, or a mistake: no name server can help.
        if let Step::Done(found) = locator(false).poll() {
            let found = found.map_err(|why| why.error(operation))?;
            return Ok(found.targets);
        }
        let slot = self.cache.lock().slot(Instant::now(), &Key::new(uri));
        let outcome = slot
            .get_or_init(async || {
                let found = match self.dns() {
                    Ok(dns) => {
                        let fixed = is_fixed(&dns, uri);
                        self.look_up(dns, locator(fixed)).await
                    }
                    Err(why) => Err(why),
                };
                Outcome::new(Instant::now(), found)
            })
            .await;
        match &outcome.found {
            Ok(found) => Ok(found.targets.clone()),
            Err(why) => Err(why.error(operation)),
        }
    }

    /// Puts the targets that failed of late behind the others.
    pub(crate) fn put_dead_last(&self, targets: &mut [Target]) {
        self.dead.lock().put_last(Instant::now(), targets);
    }

    pub(crate) fn is_dead(&self, target: Target, time: Duration) {
        tracing::debug!(transport = %target.transport, addr = %target.addr, ?time, "a SIP target fails");
        self.dead.lock().insert(Instant::now(), target, time);
    }

    pub(crate) fn forget_dead(&self) {
        *self.dead.lock() = Dead::default();
    }

    pub(crate) fn is_alive(&self, target: Target) {
        self.dead.lock().remove(target);
    }

    fn dns(&self) -> Result<Arc<Dns>, Failure> {
        let mut place = self.dns.lock();
        if let Some(dns) = &*place {
            return Ok(dns.clone());
        }
        let dns = dns::shared(&self.config, &self.runtime)?;
        *place = Some(dns.clone());
        Ok(dns)
    }

    /// On our own runtime: the resolver's tasks must outlive whoever asks first.
    async fn look_up(&self, dns: Arc<Dns>, locator: Locator) -> Result<Found, Failure> {
        let (lookups, timeout) = (self.lookups.clone(), self.config.timeout);
        let task = self.runtime.spawn(async move {
            let deadline = Instant::now() + timeout;
            let permit = tokio::time::timeout_at(deadline, lookups.acquire_owned()).await;
            let Ok(Ok(_permit)) = permit else {
                return Err(Failure::new(
                    Fault::TimedOut,
                    "too many names are being looked up at once",
                    "check the name server, or name another in sip.dns",
                ));
            };
            run(&dns, locator, timeout, deadline).await
        });
        task.await.unwrap_or_else(|_| {
            Err(Failure::new(
                Fault::Backend,
                "the lookup was cut short",
                "the runtime of the stack has ended: start it again",
            ))
        })
    }
}

async fn run(
    dns: &Dns,
    mut locator: Locator,
    timeout: Duration,
    deadline: Instant,
) -> Result<Found, Failure> {
    loop {
        let questions = match locator.poll() {
            Step::Ask(questions) => questions,
            Step::Done(found) => return found,
        };
        let until = deadline.min(Instant::now() + timeout / dns::STAGES);
        let asking = questions.iter().map(async |question| {
            let asked = tokio::time::timeout_at(until, dns.ask(question)).await;
            let answer = asked.unwrap_or_else(|_| Answer::Failed(dns.silent()));
            tracing::trace!(?question, ?answer, "DNS");
            answer
        });
        let answers = join_all(asking).await;
        locator.handle(answers);
    }
}

fn is_fixed(dns: &Dns, uri: &SipUri) -> bool {
    match (uri.params.value("maddr"), &uri.host) {
        (Some(maddr), _) => dns.is_fixed(maddr),
        (None, Host::Name(name)) => dns.is_fixed(name),
        (None, Host::Ip(_)) => false,
    }
}
