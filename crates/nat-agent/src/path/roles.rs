//! Role conflicts (RFC 8445 section 7.3.1.1) for agents that do not settle them: seen from outside, and settled by another
//! agent in the other role.

use super::check::{self, Class, Message, ROLE_CONFLICT, TransactionId};
use ring::hmac::Key;
use siprtc_core::Result;
use siprtc_core::ice::{
    Candidate, Datagram, IceAgent, IceAgentFactory, IceCapability, IceEvent, IceFeature, IceGap,
    IceParameters, IceRole, LocalCandidate,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Requests whose refusal is awaited; the oldest is forgotten for one more.
const MOST_ASKED: usize = 64;
/// Changes of role; whoever makes us change more often is not listened to.
const MOST_CHANGES: u32 = 8;
/// Candidates that a new agent is told again: more than a path takes.
const MOST_CANDIDATES: usize = 64;

/// `factory`, without the gap [`IceFeature::RoleConflict`] if it has that. What paths use; here for the agents' conformance
/// suite.
pub fn complete(factory: Arc<dyn IceAgentFactory>) -> Arc<dyn IceAgentFactory> {
    let is_roles = |gap: &IceGap| gap.feature == IceFeature::RoleConflict;
    let gaps = match factory.capability().gaps {
        [rest @ .., gap] if is_roles(gap) => rest,
        [gap, rest @ ..] if is_roles(gap) => rest,
        // It settles them itself; or the gap stands among others, and stays declared.
        _ => return factory,
    };
    Arc::new(Complete { factory, gaps })
}

struct Complete {
    factory: Arc<dyn IceAgentFactory>,
    gaps: &'static [IceGap],
}

impl IceAgentFactory for Complete {
    fn name(&self) -> &'static str {
        self.factory.name()
    }

    fn capability(&self) -> IceCapability {
        IceCapability { gaps: self.gaps }
    }

    fn make(&self, now: Instant, role: IceRole, local: &IceParameters) -> Result<Box<dyn IceAgent>> {
        Ok(Box::new(Agent {
            agent: self.factory.make(now, role, local)?,
            factory: self.factory.clone(),
            role,
            key: check::key(&local.pwd),
            ours: local.clone(),
            theirs: None,
            locals: Vec::new(),
            remotes: Vec::new(),
            tie_breaker: rand::random(),
            asked: VecDeque::new(),
            changes: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }))
    }
}

struct Agent {
    agent: Box<dyn IceAgent>,
    factory: Arc<dyn IceAgentFactory>,
    role: IceRole,
    key: Key,
    ours: IceParameters,
    theirs: Option<(IceParameters, Key)>,
    locals: Vec<(LocalCandidate, SocketAddr)>,
    remotes: Vec<Candidate>,
    /// The agent's own, once it has sent one.
    tie_breaker: u64,
    /// Which role each request claimed.
    asked: VecDeque<(TransactionId, IceRole)>,
    changes: u32,
    transmits: VecDeque<Datagram>,
    events: VecDeque<IceEvent>,
}

impl Agent {
    /// From now on in the other role. The library cannot be told, so a new agent takes the old one's place and checks anew.
    fn change(&mut self, now: Instant) -> Result<()> {
        if self.changes == MOST_CHANGES {
            return Ok(());
        }
        self.changes += 1;
        let role = match self.role {
            IceRole::Controlled => IceRole::Controlling,
            IceRole::Controlling => IceRole::Controlled,
        };
        let mut agent = self.factory.make(now, role, &self.ours)?;
        for (kind, addr) in &self.locals {
            agent.add_local(now, *kind, *addr)?;
        }
        if let Some((theirs, _)) = &self.theirs {
            agent.set_remote(now, theirs)?;
        }
        for candidate in &self.remotes {
            agent.add_remote(now, candidate)?;
        }
        self.agent = agent;
        self.role = role;
        self.asked.clear();
        self.events.push_back(IceEvent::RoleChanged(role));
        Ok(())
    }

    /// Looks at a packet before the agent does; `false`: it is dealt with.
    fn screen(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, message: &Message<'_>) -> bool {
        let changes = match (message.class, message.role) {
            (Class::Request, Some((role, tie_breaker)))
                if role == self.role && message.is_signed(&self.key) =>
            {
                let is_theirs_larger = tie_breaker > self.tie_breaker;
                if is_theirs_larger == (role == IceRole::Controlled) {
                    self.transmits.push_back(Datagram {
                        local,
                        remote,
                        data: check::role_conflict(message.id, &self.key),
                    });
                    return false;
                }
                true
            }
            (Class::Error, _) if message.error == Some(ROLE_CONFLICT) => {
                let asked = self.asked.iter().find(|(id, _)| *id == message.id);
                let claimed = asked.map(|(_, role)| *role);
                let theirs = self.theirs.as_ref();
                let is_signed = theirs.is_some_and(|(_, key)| message.is_signed(key));
                if claimed != Some(self.role) || !is_signed {
                    return false;
                }
                true
            }
            _ => return true,
        };
        if changes && let Err(error) = self.change(now) {
            tracing::info!(%error, "a role conflict stays");
        }
        message.class == Class::Request
    }
}

impl IceAgent for Agent {
    fn add_local(
        &mut self,
        now: Instant,
        kind: LocalCandidate,
        addr: SocketAddr,
    ) -> Result<Option<Candidate>> {
        let told = self.agent.add_local(now, kind, addr)?;
        if self.locals.len() < MOST_CANDIDATES {
            self.locals.push((kind, addr));
        }
        Ok(told)
    }

    fn set_remote(&mut self, now: Instant, parameters: &IceParameters) -> Result<()> {
        self.theirs = Some((parameters.clone(), check::key(&parameters.pwd)));
        self.agent.set_remote(now, parameters)
    }

    fn add_remote(&mut self, now: Instant, candidate: &Candidate) -> Result<()> {
        if self.remotes.len() < MOST_CANDIDATES {
            self.remotes.push(candidate.clone());
        }
        self.agent.add_remote(now, candidate)
    }

    fn handle_packet(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, data: &[u8]) -> bool {
        match Message::read(data) {
            Some(message) if !self.screen(now, local, remote, &message) => true,
            _ => self.agent.handle_packet(now, local, remote, data),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
    }

    fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.agent.poll_timeout(now)
    }

    fn poll_transmit(&mut self) -> Option<Datagram> {
        if let Some(datagram) = self.transmits.pop_front() {
            return Some(datagram);
        }
        let datagram = self.agent.poll_transmit()?;
        if let Some(message) = Message::read(&datagram.data)
            && let (Class::Request, Some((role, tie_breaker))) = (message.class, message.role)
        {
            self.tie_breaker = tie_breaker;
            if self.asked.len() == MOST_ASKED {
                self.asked.pop_front();
            }
            self.asked.push_back((message.id, role));
        }
        Some(datagram)
    }

    fn poll_event(&mut self) -> Option<IceEvent> {
        self.events.pop_front().or_else(|| self.agent.poll_event())
    }
}
