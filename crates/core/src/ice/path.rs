//! The port below a media engine that has no ICE of its own, or lets another do it: a path of datagrams that ICE finds
//! and keeps.
//!
//! The NAT agent makes [`IcePaths`] from an [`IceAgentFactory`](super::IceAgentFactory) and owns the sockets; an engine
//! opens one [`IcePath`] for each media peer and sends its DTLS, SRTP and SRTCP over it. Nothing of ICE stays with the
//! engine but the lines of its SDP.

use super::{Candidate, CandidatePair, IceConfig, IceParameters, IceRole, IceState};
use crate::{Error, Result};
use async_trait::async_trait;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a path has to say.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PathEvent {
    /// Gathered after [`IcePath::gather`] had returned: to be told to the peer if it takes trickled candidates (RFC 8838).
    Candidate(Candidate),
    /// Gathering is complete, after [`IcePath::gather`] had returned without waiting for it (RFC 8838 section 13).
    Gathered,
    /// This pair carries the datagrams from now on. May come again: the last one counts.
    Selected(CandidatePair),
    /// Connectivity changed.
    State(IceState),
}

/// Where a path's events go. Called with the path's lock held: it must not block, wait, or call the path.
pub trait PathEventSink: Send + Sync + 'static {
    /// Takes an event.
    fn emit(&self, event: PathEvent);
}

impl<F: Fn(PathEvent) + Send + Sync + 'static> PathEventSink for F {
    fn emit(&self, event: PathEvent) {
        self(event);
    }
}

/// How a path has fared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathStats {
    /// The pair in use.
    pub pair: Option<CandidatePair>,
    /// The last consent check's round trip (RFC 7675).
    pub round_trip: Option<Duration>,
    /// Datagrams that came from an address with which no check has succeeded, and STUN messages that nobody asked for or
    /// that are forged: each dropped.
    pub strangers: u64,
    /// Datagrams that are neither STUN, ChannelData, DTLS, RTP nor RTCP by their first octet (RFC 7983), or are empty: each dropped.
    pub unknown: u64,
    /// Datagrams that could not be sent: no pair was selected and too many waited, or the socket was full.
    pub unsent: u64,
    /// Candidates of the peer's that are names and have no address: an mDNS name that nobody here answers to, or one that is
    /// not asked for.
    pub unresolved: u64,
}

/// Opens paths.
#[async_trait]
pub trait IcePaths: fmt::Debug + Send + Sync + 'static {
    /// The ICE agent's word in the configuration.
    fn agent(&self) -> &'static str;

    /// Binds the sockets of `config` and begins to gather. Called on the runtime on which the path shall live.
    ///
    /// Errors: none of the addresses can be bound.
    async fn open(
        &self,
        config: &IceConfig,
        role: IceRole,
        events: Arc<dyn PathEventSink>,
    ) -> Result<Arc<dyn IcePath>>;

    /// Two paths for a peer that may have no ICE: one for RTP at an even port of the first address of `config.bind`, one
    /// for RTCP at the next port (RFC 3550 section 11). Neither port is shared with another call. `events` are the
    /// first one's; the second has none to tell.
    ///
    /// Errors: no such two ports are free.
    async fn open_pair(
        &self,
        config: &IceConfig,
        role: IceRole,
        events: Arc<dyn PathEventSink>,
    ) -> Result<(Arc<dyn IcePath>, Arc<dyn IcePath>)>;
}

/// One ICE session and its sockets (RFC 8445), for one component: RTP and RTCP share it (RFC 5761).
///
/// **Whoever owns it polls [`IcePath::poll_receive`] all the time: checks, consent and timers go on in there**, and no
/// task or thread of the path's own stands between a datagram and its reader.
#[async_trait]
pub trait IcePath: Send + Sync + 'static {
    /// Our credentials: those of the restart under way, if there is one.
    fn parameters(&self) -> IceParameters;

    /// Waits until gathering is complete, at most for what is left of its budget; what to tell the peer.
    async fn gather(&self) -> Vec<Candidate>;

    /// Whether every server has answered or been given up: no [`PathEvent::Candidate`] follows.
    fn is_gathered(&self) -> bool;

    /// The peer's credentials and candidates: checks begin. Credentials that differ from the last ones are a restart of
    /// the peer's (RFC 8445 section 9): unless [`IcePath::restart`] came before it, our own credentials change too.
    ///
    /// Errors: credentials that RFC 8839 section 5.4 does not allow.
    fn set_remote(&self, parameters: &IceParameters, candidates: &[Candidate]) -> Result<()>;

    /// One more candidate of the peer's (RFC 8838).
    fn add_remote(&self, candidate: &Candidate);

    /// New credentials and a new agent from the next description on; the selected pair stays in use until another takes
    /// its place. Gathers anew.
    fn restart(&self) -> Result<()>;

    /// The restart under way comes to nothing: its offer was refused.
    fn rollback(&self);

    /// The peer has no ICE: from now on datagrams go to `remote` from where `local` is, one of the candidates that were told,
    /// and whatever comes is the engine's to judge. May be called again: the last call counts.
    ///
    /// Errors: `local` is none of the path's.
    fn bypass(&self, local: SocketAddr, remote: SocketAddr) -> Result<()>;

    /// A path to another peer over the same sockets, with the same credentials and candidates of ours: for another answer to
    /// the offer that told them. What comes is told apart by both user fragments of a check (RFC 8445 section 7.2.2), and by
    /// where it comes from: an address with which a check has succeeded, or that a path without ICE was aimed at. Once the other
    /// paths are closed everything is for the last one.
    ///
    /// Errors: [`Fault::Unsupported`](crate::Fault) where the path cannot; [`Fault::ApiMisuse`](crate::Fault) while a restart is
    /// under way or after the end.
    fn fork(&self, events: Arc<dyn PathEventSink>) -> Result<Arc<dyn IcePath>> {
        let _ = events;
        Err(Error::new(
            crate::Fault::Unsupported,
            "fork an ICE path",
            "this path has room for one peer",
        ))
    }

    /// Sends a datagram that is no STUN over the selected pair. Before there is one, a few wait for it; what cannot be
    /// sent is dropped and counted, as a network would.
    fn send(&self, datagram: &[u8]);

    /// The next datagram that is no STUN, into `buffer`; its length, and where it came from. What is longer than the buffer is
    /// cut.
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<(usize, SocketAddr)>;

    /// The numbers so far.
    fn stats(&self) -> PathStats;

    /// Gives relayed addresses back and closes the sockets; nothing follows.
    fn close(&self);
}
