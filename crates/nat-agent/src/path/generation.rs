//! One ICE generation: an agent with its credentials. A restart is a second one beside the first (RFC 8445 section 9).

use super::shared::username;
use crate::stun::{is_signed_request, is_signed_success};
use siprtc_core::Result;
use siprtc_core::ice::{Candidate, IceAgent, IceAgentFactory, IceParameters, IceRole, LocalCandidate};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Remote candidates that are taken: RFC 8445 section 6.1.2.5 wants the number of checks bounded. A peer lists its best
/// first.
const MOST_REMOTE: usize = 32;

/// The agent of one pair of user fragments.
pub(super) struct Generation {
    pub(super) agent: Box<dyn IceAgent>,
    pub(super) ours: IceParameters,
    pub(super) theirs: Option<IceParameters>,
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
            ours,
            theirs: None,
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

    /// Whether a check is for this generation: its USERNAME begins with our user fragment (RFC 8445 section 7.2.2).
    pub(super) fn is_checked_by(&self, data: &[u8]) -> bool {
        username(data).is_some_and(|name| {
            name.strip_prefix(self.ours.ufrag.as_bytes())
                .is_some_and(|rest| rest.first() == Some(&b':'))
        })
    }

    /// Whether a request or an answer is signed by who knows the passwords (RFC 8445 section 7.1.3): an agent takes a packet
    /// without saying whether it was.
    pub(super) fn is_signed(&self, data: &[u8]) -> bool {
        let theirs = self.theirs.as_ref();
        is_signed_request(data, &self.ours.pwd)
            || theirs.is_some_and(|theirs| is_signed_success(data, &theirs.pwd))
    }
}
