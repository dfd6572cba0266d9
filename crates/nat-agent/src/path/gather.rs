//! Server-reflexive candidates: a Binding request from each socket to each server (RFC 8445 section 5.1.1.2).

use crate::stun::{Answer, Ask, Outcome, Request, request};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between the first two sendings of a request; each pause after it is twice as long. Shorter than RFC 8489's 500 ms: these
/// servers have just answered a probe, and a call waits.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// After so many sendings the server is given up for this socket.
const MOST_SENDINGS: u32 = 6;

struct Asking {
    base: usize,
    server: SocketAddr,
    request: Request,
    sendings: u32,
    next: Instant,
}

/// The requests under way.
#[derive(Default)]
pub(super) struct Reflexive {
    asking: Vec<Asking>,
}

impl Reflexive {
    /// Asks `server` how it sees the socket `base`.
    pub(super) fn ask(&mut self, now: Instant, base: usize, server: SocketAddr) {
        let twice = (self.asking.iter()).any(|asking| asking.base == base && asking.server == server);
        if let Some(request) = request(Ask::Binding, None).filter(|_| !twice) {
            self.asking.push(Asking {
                base,
                server,
                request,
                sendings: 0,
                next: now,
            });
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.asking.is_empty()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.asking.iter().map(|asking| asking.next).min()
    }

    /// What is to be sent: socket, server, octets.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<(usize, SocketAddr, Vec<u8>)> {
        self.asking
            .retain(|asking| asking.sendings < MOST_SENDINGS || asking.next > now);
        let mut sendings = Vec::new();
        for asking in self.asking.iter_mut().filter(|asking| asking.next <= now) {
            asking.next = now + FIRST_PAUSE * 2_u32.pow(asking.sendings);
            asking.sendings += 1;
            sendings.push((asking.base, asking.server, asking.request.data.clone()));
        }
        sendings
    }

    /// An answer's mapped address; `None`: `data` answers nothing that was asked.
    pub(super) fn take(&mut self, base: usize, from: SocketAddr, data: &[u8]) -> Option<Option<SocketAddr>> {
        let answer = Answer::read(data)?;
        let at = self.asking.iter().position(|asking| {
            asking.base == base && asking.server == from && asking.request.id == answer.id
        })?;
        if !answer.answers(Ask::Binding) {
            return Some(None);
        }
        self.asking.swap_remove(at);
        Some(match answer.outcome() {
            Outcome::Success { mapped } => mapped,
            Outcome::Error { code, reason, .. } => {
                tracing::debug!(%from, code, reason, "no server-reflexive candidate");
                None
            }
        })
    }
}
