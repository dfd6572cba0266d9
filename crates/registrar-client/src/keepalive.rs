//! Keeps one flow alive and notices when it is dead (RFC 5626 section 4.4).

use crate::scope::{Abilities, Scope};
use siprtc_core::sip::{Flow, Keepalive, Transport};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The keepalives of one flow.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    flow: Flow,
    kind: Keepalive,
    every: Duration,
    /// When to send the next one, or the next copy of it.
    next: Instant,
    /// An answer is expected: when the flow is given up, and how many copies went out.
    pong: Option<(Instant, usize)>,
    /// No answer means no flow. Not before the other side has promised answers (RFC 5626 section 4.4) or given one.
    strict: bool,
    /// Our address as the other side sees it.
    mapped: Option<SocketAddr>,
}

/// What the clock asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Beat {
    /// The flow is dead.
    Dead,
    /// Nothing yet.
    Nothing,
    /// Send one.
    Send(Keepalive),
}

impl Watch {
    /// How often, when the registrar does not say: RFC 5626 section 4.4.1 wants 95 to 120 s on a connection, section
    /// 4.4.2 24 to 29 s on UDP; what stands here is the upper end of a random interval.
    const CONNECTION: Duration = Duration::from_secs(120);
    const UDP: Duration = Duration::from_secs(29);
    /// The shortest Flow-Timer that is believed.
    const SHORTEST: Duration = Duration::from_secs(2);
    /// RFC 5626 section 4.4.1: the time for a pong.
    pub(crate) const PONG: Duration = Duration::from_secs(10);
    /// A datagram may be lost: a STUN request goes out again after these (RFC 8489 section 6.2.1, within the time for a
    /// pong).
    const COPIES: [Duration; 4] = [
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(4),
    ];

    /// Watches `flow`, if there is a reason to and a way: `outbound` says that the registrar keeps the flow and answers
    /// keepalives, `flow_timer` how long it waits for one, `configured` how often we want to send one anyway.
    pub(crate) fn begin(
        scope: &mut Scope,
        flow: Flow,
        outbound: bool,
        flow_timer: Option<Duration>,
        configured: Option<Duration>,
    ) -> Option<Self> {
        let kind = scope.abilities.keepalive(flow.transport)?;
        let usual = match flow.transport {
            Transport::Udp => Watch::UDP,
            _ => Watch::CONNECTION,
        };
        let asked = outbound.then(|| flow_timer.unwrap_or(configured.unwrap_or(usual)));
        let every = [asked, configured]
            .into_iter()
            .flatten()
            .min()?
            .max(Watch::SHORTEST);
        Some(Watch {
            flow,
            kind,
            every,
            next: scope.now + pause(every, scope.entropy.unit()),
            pong: None,
            strict: outbound && scope.abilities.answers,
            mapped: None,
        })
    }

    /// The binding was refreshed over the same flow: what is known of it stays, the interval may have changed.
    pub(crate) fn carry_on(self, before: Option<Watch>) -> Self {
        match before {
            Some(before) if before.flow.id == self.flow.id => Watch {
                every: self.every,
                next: before.next.min(self.next),
                strict: before.strict || self.strict,
                ..before
            },
            _ => self,
        }
    }

    pub(crate) fn due(&self) -> Instant {
        match self.pong {
            Some((until, _)) => until.min(self.next),
            None => self.next,
        }
    }

    pub(crate) fn timeout(&mut self, now: Instant, unit: f64) -> Beat {
        if self.pong.is_some_and(|(until, _)| until <= now) {
            return Beat::Dead;
        }
        if self.next > now {
            return Beat::Nothing;
        }
        let copies = match self.pong {
            Some((_, copies)) => copies,
            None => {
                self.pong = self.strict.then_some((now + Watch::PONG, 0));
                0
            }
        };
        self.next = now + pause(self.every, unit);
        if let Some((until, sent)) = &mut self.pong {
            *sent = copies + 1;
            // Nothing more is to be sent before the answer, or its absence, is there.
            self.next = match Watch::COPIES.get(copies) {
                Some(wait) if self.kind == Keepalive::Stun => now + *wait,
                _ => *until,
            };
        }
        Beat::Send(self.kind)
    }

    /// The other side has answered on `flow`. `true`: our address as it sees it is not what it was (RFC 5626 section
    /// 4.4.2), so that what the registrar keeps leads nowhere.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        unit: f64,
        abilities: Abilities,
        mapped: Option<SocketAddr>,
    ) -> bool {
        self.strict |= abilities.answers;
        if self.pong.take().is_some() {
            self.next = now + pause(self.every, unit);
        }
        let before = self.mapped;
        self.mapped = mapped.or(before);
        before.is_some() && before != self.mapped
    }

    pub(crate) fn flow(&self) -> Flow {
        self.flow
    }
}

/// RFC 5626 section 4.4: 80 to 100 % of the interval, `unit` being random from 0 to 1.
fn pause(every: Duration, unit: f64) -> Duration {
    every.mul_f64(0.8 + 0.2 * unit.clamp(0.0, 1.0))
}
