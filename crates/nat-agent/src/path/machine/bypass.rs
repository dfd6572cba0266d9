//! A peer without ICE: one pair, which nobody checks.

use super::{Machine, Output, Rest, Route};
use siprtc_core::ice::{CandidateKind, CandidatePair, IceState, LocalCandidate, PairEnd, PathEvent};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::time::Instant;

impl Machine {
    /// From now on datagrams go from where the candidate `local` is to `remote`.
    pub(in crate::path) fn bypass(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<()> {
        let told = self.gathered.iter().find(|(_, addr)| *addr == local);
        let (kind, base) = match told {
            Some((LocalCandidate::Host, addr)) => (CandidateKind::Host, *addr),
            Some((LocalCandidate::ServerReflexive { base }, _)) => (CandidateKind::ServerReflexive, *base),
            Some((LocalCandidate::Relayed { .. }, addr)) => (CandidateKind::Relayed, *addr),
            None => return Err(unknown(local)),
        };
        let direct = self.bases.iter().position(|other| other.addr == base);
        let route = match (direct, self.relay_at(base)) {
            (Some(base), _) => Route::Direct { base, to: remote },
            (None, Some(relay)) => Route::Relayed { relay, to: remote },
            (None, None) => return Err(unknown(local)),
        };
        let is_news = self.route != Some(route) || !self.is_bypassed;
        self.is_bypassed = true;
        self.next = None;
        self.consent = None;
        self.fails_at = None;
        self.rest = Rest::default();
        self.selected = Some((base, remote));
        self.route = Some(route);
        if let Route::Direct { base, to: addr } = route {
            self.outputs.push_back(Output::Known { base, addr });
        }
        if let Route::Relayed { relay, to } = route {
            self.relays[relay].permit(now, to.ip());
            self.relays[relay].bind(now, to);
        }
        if is_news {
            let pair = CandidatePair {
                local: PairEnd { kind, addr: local },
                remote: PairEnd {
                    kind: CandidateKind::Host,
                    addr: remote,
                },
            };
            self.stats.pair = Some(pair);
            self.outputs.push_back(Output::Event(PathEvent::Selected(pair)));
        }
        self.become_state(IceState::Connected);
        for data in std::mem::take(&mut self.held) {
            self.send_from(now, base, remote, data);
        }
        self.tick(now);
        Ok(())
    }
}

fn unknown(local: SocketAddr) -> Error {
    Error::new(
        Fault::ApiMisuse,
        "do without ICE",
        format!("{local} is no candidate of this path's"),
    )
    .advice("choose one of those that gather() gave")
}
