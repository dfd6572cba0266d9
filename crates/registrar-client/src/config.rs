//! What to register, where, and how patiently.

use siprtc_core::sip::{DigestAlgorithm, DigestSecret, NameAddr, SipUri};
use siprtc_core::{Error, Fault, Result};
use std::ops::Range;
use std::time::Duration;

/// One address-of-record and where it is registered.
#[derive(Clone, Debug)]
pub struct RegistrarConfig {
    /// The address-of-record: To and From of every REGISTER. The Request-URI is `sip:` and its domain (with its port
    /// and `transport`, when written).
    pub aor: SipUri,
    /// Where we can be reached, a SIP URI. An `expires` parameter in it is replaced.
    pub contact: NameAddr,
    /// Where REGISTER is sent, tried in order; at most [`RegistrarConfig::MAX_REGISTRARS`]. When empty, the
    /// Request-URI itself says where.
    pub registrars: Vec<SipUri>,
    /// The account's user name and password, when the registrar asks for them.
    pub secret: Option<DigestSecret>,
    /// For how many seconds to ask; the registrar decides. 1 to [`RegistrarConfig::MAX_EXPIRES`].
    pub expires: u32,
    /// How long to wait after every registrar has failed.
    pub backoff: Backoff,
    /// Our instance id (RFC 5626 section 4.1), such as `urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6`, without angle
    /// brackets. It goes into the Contact as `+sip.instance`.
    pub instance: Option<String>,
    /// How many flows to keep registered at once (RFC 5626), at most [`RegistrarConfig::MAX_FLOWS`]: each has its
    /// `reg-id` and, while there are enough of them, its own part of `registrars`; else a connection of its own. 0: the
    /// registration is bound to no flow. More than 0 needs `instance`. The others open only when the registrar has said
    /// that it supports them, or when the first one fails.
    pub flows: usize,
    /// How long to wait after every registrar has failed and the registrar was one that keeps flows: `first` is RFC 5626
    /// section 4.5's base time while no flow is up, three times that while another one is.
    pub recovery: Backoff,
    /// How often to send a keepalive at least, whatever the registrar says; it is 80 to 100 % of that. `None`: only as
    /// the registrar wants it.
    pub keepalive: Option<Duration>,
    /// Ask for a GRUU (RFC 5627). Needs `instance`.
    pub gruu: bool,
    /// The weakest digest that is sent; a challenge that offers only weaker ones is refused.
    pub weakest_digest: DigestAlgorithm,
}

impl RegistrarConfig {
    /// Longest time to be registered for, in seconds: a week. Longer is neither asked for nor believed.
    pub const MAX_EXPIRES: u32 = 7 * 24 * 3600;
    /// Most flows; RFC 5626 section 4.2 wants two at least.
    pub const MAX_FLOWS: usize = 4;
    /// Most registrars in one list.
    pub const MAX_REGISTRARS: usize = 8;

    /// `aor` reachable at `contact`: an hour, no credentials, no other registrar than the domain itself.
    pub fn new(aor: SipUri, contact: NameAddr) -> Self {
        RegistrarConfig {
            aor,
            contact,
            registrars: Vec::new(),
            secret: None,
            expires: 3600,
            backoff: Backoff::default(),
            instance: None,
            flows: 0,
            recovery: Backoff::recovery(),
            keepalive: None,
            gruu: false,
            weakest_digest: DigestAlgorithm::Md5,
        }
    }

    /// Whether it can work; [`Fault::ConfigInvalid`] when not.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String, advice: &str| {
            Err(Error::new(Fault::ConfigInvalid, "register", message).advice(advice))
        };
        if self.aor.user.is_none() {
            return wrong(
                format!("the address-of-record {} has no user part", self.aor),
                "write it as sip:user@domain",
            );
        }
        if self.contact.uri.as_sip().is_none() {
            return wrong(
                format!("the contact {} is no SIP URI", self.contact),
                "write it as sip:user@host",
            );
        }
        if self.registrars.len() > Self::MAX_REGISTRARS {
            return wrong(
                format!(
                    "{} registrars, more than {}",
                    self.registrars.len(),
                    Self::MAX_REGISTRARS
                ),
                "keep those that matter",
            );
        }
        if !(1..=Self::MAX_EXPIRES).contains(&self.expires) {
            return wrong(
                format!("expires = {} seconds", self.expires),
                "choose 1 to 604800; an hour (3600) suits most registrars",
            );
        }
        if self.flows > Self::MAX_FLOWS {
            return wrong(
                format!("{} flows, more than {}", self.flows, Self::MAX_FLOWS),
                "two are enough to survive the loss of one",
            );
        }
        if self.flows > 0 && self.instance.is_none() {
            return wrong(
                "flows without an instance id".to_owned(),
                "give the device an instance, such as urn:uuid:...",
            );
        }
        if self.keepalive.is_some_and(|every| every < Duration::from_secs(1)) {
            return wrong(
                format!("a keepalive every {:?}", self.keepalive.unwrap_or_default()),
                "choose a second or more",
            );
        }
        self.recovery.validate()?;
        self.backoff.validate()
    }
}

/// Exponential back-off with jitter (RFC 5626 section 4.5): after the n-th round of failures in a row it waits
/// `first * 2^(n-1)`, at most `most`, times a random factor out of `jitter`.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// After the first round; 1 s by default, at least [`Backoff::SHORTEST`].
    pub first: Duration,
    /// The longest wait; 5 minutes by default.
    pub most: Duration,
    /// The range of the random factor: 0.5 to 1.0 by default, within 0 to 1.
    pub jitter: Range<f64>,
}

impl Backoff {
    /// The shortest allowed `first`.
    pub const SHORTEST: Duration = Duration::from_millis(10);
    /// The longest allowed `most`: a day.
    pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

    /// RFC 5626 section 4.5: 30 s, doubling up to half an hour.
    pub fn recovery() -> Self {
        Backoff {
            first: Duration::from_secs(30),
            most: Duration::from_secs(1800),
            jitter: 0.5..1.0,
        }
    }

    /// RFC 5626 section 4.5's wait after `failures` in a row: the base time is `first`, or three times that while
    /// another flow is up.
    pub(crate) fn recovery_delay(&self, failures: u32, others_up: bool, unit: f64) -> Duration {
        let first = self.first.saturating_mul(if others_up { 3 } else { 1 });
        Backoff {
            first,
            ..self.clone()
        }
        .delay(failures.saturating_add(1), unit)
    }

    /// The wait after `failures` rounds in a row (1 is the first), `unit` being random from 0 to 1.
    pub(crate) fn delay(&self, failures: u32, unit: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let wait = self.first.saturating_mul(1 << doublings).min(self.most);
        let factor = self.jitter.start + (self.jitter.end - self.jitter.start) * unit;
        wait.mul_f64(factor.clamp(0.0, 1.0))
    }

    fn validate(&self) -> Result<()> {
        let jitter = &self.jitter;
        if self.first >= Self::SHORTEST
            && (self.first..=Self::LONGEST).contains(&self.most)
            && jitter.start >= 0.0
            && jitter.end <= 1.0
            && jitter.start <= jitter.end
        {
            return Ok(());
        }
        Err(Error::new(
            Fault::ConfigInvalid,
            "register",
            format!("{self:?} is no back-off"),
        )
        .advice("choose 10 ms <= first <= most <= 1 day and a jitter within 0.0..1.0, such as 0.5..1.0"))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_secs(1),
            most: Duration::from_secs(300),
            jitter: 0.5..1.0,
        }
    }
}
