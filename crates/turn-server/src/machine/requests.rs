//! The requests that need credentials: who asks, and what is granted.

use super::{DEFAULT_LIFETIME, Flow, Machine, Now, Output, granted};
use crate::allocation::{Allocation, NotBound, Owner};
use crate::ledger::Full;
use crate::meter::Dropped;
use crate::wire::{self, Family, Response, Stun};
use std::net::IpAddr;
use std::time::Duration;
use turn_types::attribute::Lifetime;
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};
use turn_types::stun::attribute::ErrorCode;
use turn_types::stun::message::IntegrityKey;

/// REQUESTED-TRANSPORT's number for UDP.
const UDP: u8 = 17;
/// What may be bound. RFC 8656 section 12 ends it at 0x4fff; clients of RFC 5766, coturn's among them, use the rest too.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

impl Machine {
    /// A request that needs credentials.
    pub(super) fn request(&mut self, now: Now, flow: Flow, stun: &Stun<'_>) -> Result<(), Dropped> {
        let (username, key) = match self.authenticate(now, &flow, stun) {
            Ok(known) => known,
            Err(code) => return self.challenge(now, flow, stun, code),
        };
        let known = self
            .allocation(&flow)
            .map(|(_, allocation)| *allocation.username == *username);
        let method = stun.message.method();
        let done = match known {
            // RFC 8656 section 5: nobody else's credentials are good for an allocation.
            Some(false) if method != ALLOCATE => Err(ErrorCode::WRONG_CREDENTIALS),
            _ if !stun.unknown.is_empty() => Err(ErrorCode::UNKNOWN_ATTRIBUTE),
            _ if stun.broken => Err(ErrorCode::BAD_REQUEST),
            _ => match method {
                ALLOCATE => self.allocate(now, flow, stun, username, &key),
                CHANNEL_BIND => self.channel_bind(now, &flow, stun),
                CREATE_PERMISSION => self.create_permission(now, &flow, stun),
                _ => self.refresh(now, &flow, stun),
            },
        };
        match done {
            Ok(Some(response)) => self.reply(Some(flow), response.signed(&key)),
            Ok(None) => {}
            Err(code) => self.refuse(flow, stun, code, &key),
        }
        Ok(())
    }

    fn refuse(&mut self, flow: Flow, stun: &Stun<'_>, code: u16, key: &IntegrityKey) {
        self.counters.refused(code);
        tracing::debug!(client = %flow.client, method = %stun.message.method(), code, "refused");
        let mut response = Response::error(&stun.message, code);
        if code == ErrorCode::UNKNOWN_ATTRIBUTE {
            response = response.unknown(&stun.unknown);
        }
        self.reply(Some(flow), response.signed(key));
    }

    /// RFC 8489 section 9.2.4, in its order: who it is, or the error that he is due.
    fn authenticate(&self, now: Now, flow: &Flow, stun: &Stun<'_>) -> Result<(String, IntegrityKey), u16> {
        if !stun.has_integrity {
            return Err(ErrorCode::UNAUTHORIZED);
        }
        let (Some(username), true, Some(nonce)) = (&stun.username, stun.has_realm, &stun.nonce) else {
            return Err(ErrorCode::BAD_REQUEST);
        };
        if !self.rules.nonces.is_good(now.instant, flow, nonce.nonce()) {
            return Err(ErrorCode::STALE_NONCE);
        }
        let username = username.username();
        // Who holds the allocation stays known by the key that made it, also when its name expires meanwhile: a long
        // call must not end with the credentials' lifetime.
        if let Some((_, allocation)) = self.allocation(flow)
            && *allocation.username == *username
            && stun.message.method() != ALLOCATE
        {
            return match stun.is_signed_with(&allocation.key) {
                true => Ok((username.to_owned(), allocation.key.clone())),
                false => Err(ErrorCode::UNAUTHORIZED),
            };
        }
        let passwords = self.rules.credentials.passwords(username, now.unix);
        let mut keys = passwords.map(|password| wire::key(username, &password, &self.rules.realm));
        let key = keys.find(|key| stun.is_signed_with(key));
        key.map(|key| (username.to_owned(), key))
            .ok_or(ErrorCode::UNAUTHORIZED)
    }

    /// 400, 401 or 438, which nobody's key signs and of which one source gets no more than it may.
    fn challenge(&mut self, now: Now, flow: Flow, stun: &Stun<'_>, code: u16) -> Result<(), Dropped> {
        let second = now.instant.saturating_duration_since(self.rules.epoch).as_secs();
        if !self.flood.admits(second, flow.client.ip()) {
            return Err(Dropped::Flooding);
        }
        self.counters.refused(code);
        let mut response = Response::error(&stun.message, code);
        if code != ErrorCode::BAD_REQUEST {
            response = response.challenging(&self.rules.realm, &self.rules.nonces.make(now.instant, &flow));
        }
        self.reply(Some(flow), response.unsigned());
        Ok(())
    }

    /// RFC 8656 section 7.2. The answer waits for the port.
    fn allocate(
        &mut self,
        now: Now,
        flow: Flow,
        stun: &Stun<'_>,
        username: String,
        key: &IntegrityKey,
    ) -> Result<Option<Response>, u16> {
        let transaction = stun.message.transaction_id();
        if let Some((_, allocation)) = self.allocation(&flow) {
            if allocation.transaction != transaction || *allocation.username != *username {
                return Err(ErrorCode::ALLOCATION_MISMATCH);
            }
            if allocation.relayed.is_some() {
                let message = granted(allocation);
                self.reply(Some(flow), message);
            }
            return Ok(None);
        }
        let family = self.wanted(stun)?;
        let user = self.rules.credentials.quota_name(&username);
        let user = self.rules.ledger.reserve(user).map_err(|full| match full {
            Full::Server => ErrorCode::INSUFFICIENT_CAPACITY,
            Full::User => ErrorCode::ALLOCATION_QUOTA_REACHED,
        })?;
        let owner = Owner {
            flow,
            user,
            username: username.into_boxed_str(),
            key: key.clone(),
        };
        let lifetime = self.lifetime(stun.lifetime);
        let mut allocation = Allocation::new(owner, family, now.instant, lifetime, transaction);
        allocation.additional_refused = stun.additional_family.is_some();
        let expires = allocation.expires;
        let relay = self.allocations.insert(allocation);
        self.flows.insert(flow, relay);
        self.ends.insert((expires, relay));
        let even = stun.even_port.is_some();
        self.outputs.push_back(Output::Open { relay, family, even });
        Ok(None)
    }

    /// The family that an Allocate asks for, or why it cannot be had.
    fn wanted(&self, stun: &Stun<'_>) -> Result<Family, u16> {
        match stun.transport {
            None => return Err(ErrorCode::BAD_REQUEST),
            Some(UDP) => {}
            Some(_) => return Err(ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL),
        }
        let families = usize::from(stun.family.is_some()) + usize::from(stun.additional_family.is_some());
        let exclusive = stun.has_reservation || stun.even_port.is_some();
        if families == 2
            // Only IPv6 can be additional.
            || stun.additional_family.is_some_and(|family| family != Some(Family::V6))
            || (stun.has_reservation && (stun.even_port.is_some() || families > 0))
            || (exclusive && stun.additional_family.is_some())
        {
            return Err(ErrorCode::BAD_REQUEST);
        }
        // No port is ever held in reserve, so no token is valid, and no next higher port can be promised.
        if stun.has_reservation || stun.even_port == Some(true) {
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        let family = stun.family.unwrap_or(Some(Family::V4));
        family
            .filter(|family| self.rules.families.contains(family))
            .ok_or(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED)
    }

    /// Seconds that are granted: at least the default, at most the bound (RFC 8656 section 7.2).
    fn lifetime(&self, asked: Option<u32>) -> u32 {
        let longest = u32::try_from(self.rules.lifetime.as_secs()).unwrap_or(u32::MAX);
        let shortest = DEFAULT_LIFETIME.as_secs() as u32;
        asked.unwrap_or(shortest).clamp(shortest, longest.max(shortest))
    }

    /// RFC 8656 section 8.2.
    fn refresh(&mut self, now: Now, flow: &Flow, stun: &Stun<'_>) -> Result<Option<Response>, u16> {
        let granted = self.lifetime(stun.lifetime);
        let relay = *self.flows.get(flow).ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        let allocation = self
            .allocations
            .get_mut(relay)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        if stun
            .family
            .is_some_and(|family| family != Some(allocation.family))
        {
            return Err(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        let lifetime = match stun.lifetime {
            Some(0) => {
                self.free(relay);
                0
            }
            _ => {
                self.ends.remove(&(allocation.expires, relay));
                allocation.expires = now.instant + Duration::from_secs(granted.into());
                self.ends.insert((allocation.expires, relay));
                granted
            }
        };
        let response = Response::success(REFRESH, stun.message.transaction_id());
        Ok(Some(response.with(&Lifetime::new(lifetime))))
    }

    /// RFC 8656 section 10.2.
    fn create_permission(&mut self, now: Now, flow: &Flow, stun: &Stun<'_>) -> Result<Option<Response>, u16> {
        let most = self.rules.permissions;
        let allocation = self.of(flow).ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        let family = allocation.family;
        if stun.peer.is_none() {
            return Err(ErrorCode::BAD_REQUEST);
        }
        for peer in stun.peers() {
            self.may_reach(peer.ip(), family)?;
        }
        let ips = stun.peers().map(|peer| peer.ip()).collect::<Vec<IpAddr>>();
        let allocation = self.of(flow).ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        match allocation.permit(now.instant, ips.into_iter(), most) {
            true => Ok(Some(Response::success(
                CREATE_PERMISSION,
                stun.message.transaction_id(),
            ))),
            false => Err(ErrorCode::INSUFFICIENT_CAPACITY),
        }
    }

    /// RFC 8656 section 12.2.
    fn channel_bind(&mut self, now: Now, flow: &Flow, stun: &Stun<'_>) -> Result<Option<Response>, u16> {
        let most = self.rules.permissions;
        let family = self.of(flow).ok_or(ErrorCode::ALLOCATION_MISMATCH)?.family;
        let (Some(number), Some(peer)) = (stun.channel, stun.peer) else {
            return Err(ErrorCode::BAD_REQUEST);
        };
        if !CHANNELS.contains(&number) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        self.may_reach(peer.ip(), family)?;
        let allocation = self.of(flow).ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        match allocation.bind(now.instant, number, peer, most) {
            Ok(()) => Ok(Some(Response::success(
                CHANNEL_BIND,
                stun.message.transaction_id(),
            ))),
            Err(NotBound::Conflict) => Err(ErrorCode::BAD_REQUEST),
            Err(NotBound::Full) => Err(ErrorCode::INSUFFICIENT_CAPACITY),
        }
    }

    fn of(&mut self, flow: &Flow) -> Option<&mut Allocation> {
        self.allocations.get_mut(*self.flows.get(flow)?)
    }

    fn may_reach(&self, ip: IpAddr, family: Family) -> Result<(), u16> {
        if Family::of(ip) != family {
            return Err(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        match self.rules.peers.permits(ip) {
            true => Ok(()),
            false => Err(ErrorCode::FORBIDDEN),
        }
    }
}
