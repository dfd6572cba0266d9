//! One ICE generation: an agent with its credentials. A restart is a second one beside the first (RFC 8445 section 9).

use super::check::{self, Class, Keys, Message};
use super::shared::username;
use ring::hmac::Key;
use siprtc_core::Result;
use siprtc_core::ice::{Candidate, IceAgent, IceAgentFactory, IceParameters, IceRole, LocalCandidate};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// Remote candidates that are taken: RFC 8445 section 6.1.2.5 wants the number of checks bounded. A peer lists its best
/// first.
const MOST_REMOTE: usize = 32;

/// The agent of one pair of user fragments.
pub(super) struct Generation {
    pub(super) agent: Box<dyn IceAgent>,
    pub(super) ours: IceParameters,
    key: Key,
    pub(super) theirs: Option<IceParameters>,
    /// Both sides' keys, once the peer's are known.
    pub(super) keys: Option<Arc<Keys>>,
    /// Our candidates, as the peer is told.
    pub(super) told: Vec<Candidate>,
    pub(super) remote: Vec<Candidate>,
    /// Candidates beyond [`MOST_REMOTE`].
    pub(super) refused: u64,
    /// When the agent wants to be called. Asked once after each call: an agent may answer with no time that is past.
    pub(super) due: Option<Instant>,
}

impl Generation {
    pub(super) fn new(
        now: Instant,
        factory: &dyn IceAgentFactory,
        role: IceRole,
        ours: IceParameters,
    ) -> Result<Self> {
        Ok(Generation {
            agent: factory.make(now, role, &ours)?,
            key: check::key(&ours.pwd),
            ours,
            theirs: None,
            keys: None,
            told: Vec::new(),
            remote: Vec::new(),
            refused: 0,
            due: None,
        })
    }

    /// A gathered candidate; what the peer is told of it, if anything. `hides`: nothing of what is below a relayed one.
    pub(super) fn add_local(
        &mut self,
        now: Instant,
        kind: LocalCandidate,
        addr: SocketAddr,
        hides: bool,
    ) -> Option<Candidate> {
        match self.agent.add_local(now, kind, addr) {
            Ok(Some(mut candidate)) => {
                if hides && candidate.related.is_some() {
                    let nowhere: IpAddr = match addr {
                        SocketAddr::V4(_) => [0; 4].into(),
                        SocketAddr::V6(_) => [0_u16; 8].into(),
                    };
                    candidate.related = Some((nowhere.to_string(), 9));
                }
                self.told.push(candidate.clone());
                Some(candidate)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::info!(%error, %addr, "a candidate is left out");
                None
            }
        }
    }

    pub(super) fn set_remote(&mut self, now: Instant, theirs: &IceParameters) -> Result<()> {
        self.theirs = Some(theirs.clone());
        self.keys = Some(Arc::new(Keys::new(&self.ours, theirs)));
        self.agent.set_remote(now, theirs)
    }

    /// `false`: it is known, or one too many.
    pub(super) fn add_remote(&mut self, now: Instant, candidate: &Candidate) -> bool {
        let known = |other: &Candidate| (&other.host, other.port) == (&candidate.host, candidate.port);
        if self.remote.iter().any(known) {
            return false;
        }
        if self.remote.len() == MOST_REMOTE {
            self.refused += 1;
            return false;
        }
        if let Err(error) = self.agent.add_remote(now, candidate) {
            tracing::info!(%error, %candidate, "a candidate of the peer's is left out");
            return false;
        }
        self.remote.push(candidate.clone());
        true
    }

    /// Whether a check is for this generation: its USERNAME is our user fragment, a colon and, once it is known, the peer's
    /// (RFC 8445 section 7.2.2). That of another fork of the same offer is not.
    pub(super) fn is_checked_by(&self, data: &[u8]) -> bool {
        let name = username(data).and_then(|name| name.strip_prefix(self.ours.ufrag.as_bytes()));
        let theirs = name.and_then(|rest| rest.strip_prefix(b":"));
        match &self.theirs {
            Some(known) => theirs == Some(known.ufrag.as_bytes()),
            None => theirs.is_some(),
        }
    }

    /// Whether a request or an answer is signed by who knows the passwords (RFC 8445 section 7.1.3): an agent takes a packet
    /// without saying whether it was.
    pub(super) fn is_signed(&self, message: &Message<'_>) -> bool {
        match message.class {
            Class::Request => message.is_signed(&self.key),
            Class::Success => (self.keys.as_ref()).is_some_and(|keys| message.is_signed(&keys.theirs)),
            Class::Error | Class::Indication => false,
        }
    }

    /// Another agent in this one's place, with the same words and these candidates of ours: an agent that has slept takes the
    /// time that has passed for silence of the peer's.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        factory: &dyn IceAgentFactory,
        role: IceRole,
        locals: impl Iterator<Item = (LocalCandidate, SocketAddr)>,
    ) -> Result<()> {
        let mut agent = factory.make(now, role, &self.ours)?;
        for (kind, addr) in locals {
            agent.add_local(now, kind, addr)?;
        }
        if let Some(theirs) = &self.theirs {
            agent.set_remote(now, theirs)?;
        }
        for candidate in &self.remote {
            agent.add_remote(now, candidate)?;
        }
        self.agent = agent;
        self.due = Some(now);
        Ok(())
    }
}
