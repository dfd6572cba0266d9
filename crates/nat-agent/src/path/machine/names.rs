//! Candidates of the peer's that are names.

use super::{MOST_NAMES, Machine, Output};
use crate::path::mdns::is_name;
use siprtc_core::ice::{Candidate, IcePolicy};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

impl Machine {
    /// Has the address found out, if that may be; nothing waits for it.
    pub(super) fn ask_for(&mut self, candidate: &Candidate) {
        // Over a relay nobody is reached who hides in a network.
        let may = self.setup.resolves && self.setup.policy == IcePolicy::All && is_name(&candidate.host);
        let newest = self.next.as_ref().filter(|next| next.theirs.is_some());
        let of = newest
            .unwrap_or(&self.current)
            .theirs
            .as_ref()
            .map(|theirs| theirs.ufrag.clone());
        let is_asked = self.names.contains(&candidate.host);
        match of {
            Some(of) if may && !is_asked && self.names.len() < MOST_NAMES => {
                self.names.push(candidate.host.clone());
                let candidate = candidate.clone();
                self.outputs.push_back(Output::Resolve { of, candidate });
            }
            _ if is_asked => {}
            _ => self.stats.unresolved += 1,
        }
    }

    /// What became of a name; `of` says whose it was, for a restart flushes the candidates of the time before it.
    pub(in crate::path) fn resolved(
        &mut self,
        now: Instant,
        of: &str,
        candidate: &Candidate,
        found: Option<IpAddr>,
    ) {
        let Some(ip) = found else {
            self.stats.unresolved += 1;
            return;
        };
        let newest = self.next.as_ref().filter(|next| next.theirs.is_some());
        let theirs = newest.unwrap_or(&self.current).theirs.as_ref();
        if theirs.is_some_and(|theirs| theirs.ufrag == of) {
            let host = ip.to_string();
            let candidate = candidate.clone();
            self.add_remote(now, &Candidate { host, ..candidate });
        }
    }

    /// Where our sockets are.
    pub(in crate::path) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.bases
            .iter()
            .filter(|base| base.is_alive)
            .map(|base| base.addr)
    }
}
