//! How many allocations there are, in all and of each user: what the workers of one server share.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Why there is no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// The server's bound: 508.
    Server,
    /// The user's quota: 486.
    User,
}

/// Never larger than the allocations that live.
pub(crate) struct Ledger {
    most: usize,
    most_of_user: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    users: HashMap<Arc<str>, usize>,
}

impl Ledger {
    pub(crate) fn new(most: usize, most_of_user: usize) -> Self {
        Ledger {
            most,
            most_of_user,
            counts: Mutex::default(),
        }
    }

    /// Takes room for one allocation of `user`; [`Ledger::release`] gives it back.
    pub(crate) fn reserve(&self, user: &str) -> Result<Arc<str>, Full> {
        let mut counts = self.counts.lock();
        if counts.all >= self.most {
            return Err(Full::Server);
        }
        let user = match counts.users.get_key_value(user) {
            Some((_, count)) if *count >= self.most_of_user => return Err(Full::User),
            Some((name, _)) => name.clone(),
            None => user.into(),
        };
        counts.all += 1;
        *counts.users.entry(user.clone()).or_default() += 1;
        Ok(user)
    }

    pub(crate) fn release(&self, user: &str) {
        let mut counts = self.counts.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some(count) = counts.users.get_mut(user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.users.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_quota_the_server_a_bound_and_both_are_given_back() {
        let ledger = Ledger::new(3, 2);
        assert!(ledger.reserve("a").is_ok() && ledger.reserve("a").is_ok());
        assert_eq!(ledger.reserve("a"), Err(Full::User));
        assert!(ledger.reserve("b").is_ok());
        assert_eq!(ledger.reserve("b"), Err(Full::Server));
        ledger.release("a");
        assert!(ledger.reserve("c").is_ok());
        for user in ["a", "b", "c"] {
            ledger.release(user);
        }
        assert!(
            ledger.counts.lock().users.is_empty(),
            "a user who is gone leaves nothing"
        );
    }
}
