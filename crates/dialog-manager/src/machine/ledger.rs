//! Which call a transaction belongs to, and back.

use siprtc_core::CallId;
use siprtc_core::sip::TxId;
use std::collections::HashMap;

/// The calls' transactions, of both kinds; gone with the transaction or with the call. No question takes longer with
/// more calls.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    owners: HashMap<TxId, CallId>,
    owned: HashMap<CallId, Vec<TxId>>,
}

impl Ledger {
    pub(crate) fn insert(&mut self, tx: TxId, call: CallId) {
        self.owners.insert(tx, call);
        self.owned.entry(call).or_default().push(tx);
    }

    pub(crate) fn owner(&self, tx: TxId) -> Option<CallId> {
        self.owners.get(&tx).copied()
    }

    pub(crate) fn remove(&mut self, tx: TxId) -> Option<CallId> {
        let call = self.owners.remove(&tx)?;
        if let Some(owned) = self.owned.get_mut(&call) {
            owned.retain(|other| *other != tx);
            if owned.is_empty() {
                self.owned.remove(&call);
            }
        }
        Some(call)
    }

    /// The call is gone, and with it every transaction of its.
    pub(crate) fn forget(&mut self, call: CallId) {
        for tx in self.owned.remove(&call).unwrap_or_default() {
            self.owners.remove(&tx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{TxIds, TxOwner};

    #[test]
    fn a_call_takes_its_transactions_with_it_and_no_others() {
        let ids = TxIds::new(TxOwner::user(1));
        let (ours, other, theirs) = (ids.mint(), ids.mint(), ids.mint());
        let (call, another) = (CallId::fresh(), CallId::fresh());
        let mut ledger = Ledger::default();
        ledger.insert(ours, call);
        ledger.insert(other, call);
        ledger.insert(theirs, another);
        assert_eq!(ledger.remove(other), Some(call));
        assert_eq!(ledger.remove(other), None);
        ledger.forget(call);
        assert_eq!((ledger.owner(ours), ledger.owner(theirs)), (None, Some(another)));
        ledger.remove(theirs);
        assert!(ledger.owners.is_empty() && ledger.owned.is_empty());
    }
}
