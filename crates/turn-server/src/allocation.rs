//! One allocation: its permissions and channels (RFC 8656 sections 3.3, 9 and 12), each with its end.

use crate::machine::Flow;
use crate::wire::Family;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use turn_types::stun::message::{IntegrityKey, TransactionId};

/// RFC 8656 section 9: a permission lives five minutes.
pub(crate) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 section 12: a channel binding lives ten minutes.
pub(crate) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// What a client holds.
pub(crate) struct Allocation {
    pub(crate) flow: Flow,
    /// Whom the quota counts.
    pub(crate) user: Arc<str>,
    pub(crate) username: Box<str>,
    pub(crate) key: IntegrityKey,
    pub(crate) family: Family,
    /// The relayed address that the client was told; `None` until its port is open.
    pub(crate) relayed: Option<SocketAddr>,
    pub(crate) expires: Instant,
    /// Of the Allocate request: its retransmissions get the same answer (RFC 8656 section 7.2).
    pub(crate) transaction: TransactionId,
    /// Seconds that were granted.
    pub(crate) lifetime: u32,
    /// A second family was asked for, which this server does not give (RFC 8656 section 7.2).
    pub(crate) additional_refused: bool,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
}

struct Permission {
    ip: IpAddr,
    until: Instant,
}

struct Channel {
    number: u16,
    peer: SocketAddr,
    until: Instant,
    /// The end of the permission for the same peer, which a packet needs as well.
    permitted: Instant,
}

/// Why a channel cannot be bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotBound {
    /// The number has another peer, or the peer another number: 400.
    Conflict,
    /// The bound: 508.
    Full,
}

/// Whom a new allocation is for.
pub(crate) struct Owner {
    pub(crate) flow: Flow,
    pub(crate) user: Arc<str>,
    pub(crate) username: Box<str>,
    pub(crate) key: IntegrityKey,
}

impl Allocation {
    pub(crate) fn new(
        owner: Owner,
        family: Family,
        now: Instant,
        lifetime: u32,
        transaction: TransactionId,
    ) -> Self {
        Allocation {
            flow: owner.flow,
            user: owner.user,
            username: owner.username,
            key: owner.key,
            family,
            relayed: None,
            expires: now + Duration::from_secs(lifetime.into()),
            transaction,
            lifetime,
            additional_refused: false,
            permissions: Vec::new(),
            channels: Vec::new(),
        }
    }

    /// Installs or refreshes permissions, all or none: false when there would be more than `most`.
    pub(crate) fn permit(
        &mut self,
        now: Instant,
        peers: impl Iterator<Item = IpAddr> + Clone,
        most: usize,
    ) -> bool {
        self.permissions.retain(|permission| now < permission.until);
        let fresh = peers
            .clone()
            .filter(|ip| !self.permissions.iter().any(|permission| permission.ip == *ip));
        // One that stands twice in a request is counted twice, which errs on the safe side.
        if self.permissions.len() + fresh.count() > most {
            return false;
        }
        let until = now + PERMISSION_LIFETIME;
        for ip in peers {
            match self.permissions.iter_mut().find(|permission| permission.ip == ip) {
                Some(permission) => permission.until = until,
                None => self.permissions.push(Permission { ip, until }),
            }
            for channel in self.channels.iter_mut().filter(|channel| channel.peer.ip() == ip) {
                channel.permitted = until;
            }
        }
        true
    }

    /// Binds or refreshes a channel, and installs the permission that goes with it (RFC 8656 section 12.2).
    pub(crate) fn bind(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
        most: usize,
    ) -> Result<(), NotBound> {
        self.channels.retain(|channel| now < channel.until);
        let clash = |channel: &Channel| (channel.number == number) != (channel.peer == peer);
        if self.channels.iter().any(clash) {
            return Err(NotBound::Conflict);
        }
        let bound = self.channels.iter().position(|channel| channel.number == number);
        if bound.is_none() && self.channels.len() >= most {
            return Err(NotBound::Full);
        }
        if !self.permit(now, std::iter::once(peer.ip()), most) {
            return Err(NotBound::Full);
        }
        let until = now + CHANNEL_LIFETIME;
        match bound.and_then(|index| self.channels.get_mut(index)) {
            Some(channel) => channel.until = until,
            None => self.channels.push(Channel {
                number,
                peer,
                until,
                permitted: now + PERMISSION_LIFETIME,
            }),
        }
        Ok(())
    }

    pub(crate) fn permits(&self, now: Instant, ip: IpAddr) -> bool {
        self.permissions
            .iter()
            .any(|permission| permission.ip == ip && now < permission.until)
    }

    /// The peer of a channel; `Some(None)` when its permission is over.
    pub(crate) fn peer_of(&self, now: Instant, number: u16) -> Option<Option<SocketAddr>> {
        let live = |channel: &&Channel| channel.number == number && now < channel.until;
        let channel = self.channels.iter().find(live)?;
        Some((now < channel.permitted).then_some(channel.peer))
    }

    pub(crate) fn channel_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let live = |channel: &&Channel| channel.peer == peer && now < channel.until;
        self.channels.iter().find(live).map(|channel| channel.number)
    }
}
