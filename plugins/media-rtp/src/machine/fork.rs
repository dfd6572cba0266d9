//! One offer, several answers: each has a machine of its own.

use super::Machine;
use crate::remote::MediaLine;

impl Machine {
    /// An offer with these m-lines is out.
    pub(super) fn is_out(&mut self, lines: Vec<MediaLine>) {
        self.forkable = self.manner.is_none().then(|| lines.clone());
        self.offered = Some(lines);
    }

    /// Whether others may answer our offer, too.
    pub(crate) fn may_fork(&self) -> bool {
        self.forkable.is_some()
    }

    /// What another answer to our first offer is for: all that the offer says, and nothing that an answer said. `None` once there
    /// was another description of ours.
    pub(crate) fn fork(&self) -> Option<Machine> {
        let offered = self.forkable.clone()?;
        Some(Machine {
            config: self.config.clone(),
            wanted: self.wanted,
            ours: self.ours.clone(),
            is_changed: false,
            current: self.ours.none(),
            session: self.session,
            version: self.version,
            cryptos: self.cryptos.clone(),
            manner: None,
            offer: None,
            forkable: Some(offered.clone()),
            offered: Some(offered),
            lines: Vec::new(),
            at: 0,
        })
    }
}
