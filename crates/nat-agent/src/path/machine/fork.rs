//! Paths to several peers that answer the same offer of ours, and what tells them apart.

use super::{Base, Generation, Machine, Output, Setup, Standing};
use siprtc_core::{Error, Fault, Result};
use std::net::SocketAddr;
use std::time::Instant;

impl Machine {
    /// The user fragments that checks for this path name: ours, and with the peer's where forks have ours in common.
    pub(in crate::path) fn names(&self) -> Vec<String> {
        let generations = [Some(&self.current), self.next.as_ref()];
        let name = |generation: &Generation| {
            let ours = generation.ours.ufrag.clone();
            match (self.forked.as_ref() == Some(&ours), &generation.theirs) {
                (false, _) => Some(ours),
                (true, Some(theirs)) => Some(format!("{ours}:{}", theirs.ufrag)),
                // Whose check it is cannot be known before the answer; the peer repeats it.
                (true, None) => None,
            }
        };
        generations.into_iter().flatten().filter_map(name).collect()
    }

    pub(super) fn tell_names(&mut self) {
        self.outputs.push_back(Output::Named(self.names()));
    }

    /// A path to another peer with the words and the sockets of this one. Whoever has two machines gives each its own place at
    /// the sockets before the outputs are carried out.
    pub(in crate::path) fn fork(&mut self, now: Instant, mut setup: Setup) -> Result<Self> {
        if self.next.is_some() {
            return Err(
                Error::new(Fault::ApiMisuse, OPERATION, "its ICE is being restarted")
                    .advice("fork what the first offer was made with"),
            );
        }
        // An allocation is one client's: its datagrams would need to be told apart, too.
        if (self.relays.iter()).any(|relay| relay.standing != Standing::Gone) {
            return Err(Error::new(
                Fault::Unsupported,
                OPERATION,
                "it has a relay, which one peer can use",
            ));
        }
        let ours = self.current.ours.clone();
        let mut current = Generation::new(now, &*setup.factory, setup.role, ours.clone())?;
        for (kind, addr) in &self.gathered {
            current.add_local(now, *kind, *addr, false);
        }
        let tie_breaker = ((setup.random)() * u64::MAX as f64) as u64;
        self.forked = Some(ours.ufrag);
        self.tell_names();
        self.tell_known();
        let bases = self.bases.iter().map(|base| Base {
            addr: base.addr,
            is_alive: base.is_alive,
        });
        Ok(Machine {
            bases: bases.collect(),
            gathered: self.gathered.clone(),
            is_told: true,
            forked: self.forked.clone(),
            ..Machine::blank(setup, current, tie_breaker)
        })
    }

    /// Who was heard before the answer came may have been another fork.
    pub(super) fn part_from_guests(&mut self, theirs: &str) {
        for (pair, name) in std::mem::take(&mut self.guests) {
            if name == theirs.as_bytes() {
                continue;
            }
            self.known.retain(|known| *known != pair);
            let (local, addr) = pair;
            if let Some(base) = self.bases.iter().position(|base| base.addr == local) {
                self.outputs.push_back(Output::Left { base, addr });
            }
        }
    }

    /// Whom this path speaks with, told anew: a socket that was its own has just become a shared one.
    fn tell_known(&mut self) {
        let selected = self.selected.into_iter();
        let pairs: Vec<(SocketAddr, SocketAddr)> = selected.chain(self.known.iter().copied()).collect();
        for (local, addr) in pairs {
            if let Some(base) = self.bases.iter().position(|base| base.addr == local) {
                self.outputs.push_back(Output::Known { base, addr });
            }
        }
    }
}

const OPERATION: &str = "fork an ICE path";
