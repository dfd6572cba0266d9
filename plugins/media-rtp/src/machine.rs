//! Decides what our descriptions say and what two descriptions agree on (RFC 3264). No sockets, no clock.

mod fork;
mod keys;
mod write;

use crate::config::{Keying, RtpConfig};
use crate::crypto::Crypto;
use crate::formats::Formats;
use crate::remote::{Fingerprint, MediaLine, Profile, Remote, incompatible};
use siprtc_core::ice::{Candidate, IceParameters};
use siprtc_core::media::{Codec, Direction};
use siprtc_core::{Error, Fault, Result};
use siprtc_rtp::sdp::Setup;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// What we are reached by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Local {
    pub(crate) rtp: Option<SocketAddr>,
    pub(crate) rtcp: Option<SocketAddr>,
    /// Of the path for RTP, where ICE is offered.
    pub(crate) ice: Option<(IceParameters, Vec<Candidate>)>,
    /// `a=fingerprint`, where DTLS may be.
    pub(crate) fingerprint: Option<String>,
    /// Our stream, as `a=ssrc` tells it where ICE is.
    pub(crate) source: Option<String>,
}

/// Where the keys come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Keys {
    Dtls { is_client: bool, peer: Vec<Fingerprint> },
    None,
    Sdes { ours: Crypto, theirs: Crypto },
}

/// What two descriptions agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Agreement {
    /// `None`: nowhere, as long as it is held the old way.
    pub(crate) rtp: Option<SocketAddr>,
    /// `None`: with RTP.
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) ice: Option<(IceParameters, Vec<Candidate>)>,
    pub(crate) keys: Keys,
    /// Under the peer's numbers.
    pub(crate) formats: Formats,
}

/// How our side of the line is spoken: settled with the first agreement, and kept (a change of it within a call is what
/// telephones fail at).
#[derive(Clone, Debug)]
struct Manner {
    profile: Profile,
    mux: bool,
    ice: bool,
    /// Our DTLS role.
    role: Option<Setup>,
}

/// One m-line of ours, from its head on.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Which it is.
    pub(crate) at: usize,
    /// The `m=` line, and what has to stand right behind it.
    pub(crate) head: String,
    pub(crate) section: String,
}

/// See the module. One for each medium; the audio's writes the description as a whole.
pub(crate) struct Machine {
    config: RtpConfig,
    pub(crate) wanted: Direction,
    pub(crate) ours: Formats,
    is_changed: bool,
    current: Formats,
    session: u64,
    version: u64,
    /// Ours, one for each suite; they stay for the call, so that a re-offer starts no stream anew.
    cryptos: Vec<Crypto>,
    manner: Option<Manner>,
    /// The remote offer that waits for our answer.
    offer: Option<Remote>,
    /// Our offer is out: which m-lines it had.
    offered: Option<Vec<MediaLine>>,
    /// Those of the first offer, as long as there was no other description of ours: others may answer it, too.
    forkable: Option<Vec<MediaLine>>,
    /// The m-lines of the call and which is the audio.
    lines: Vec<MediaLine>,
    at: usize,
}

impl Machine {
    pub(crate) fn new(config: RtpConfig, ours: impl Into<Formats>, session: u64) -> Self {
        let ours = ours.into();
        let cryptos = (1..)
            .zip(&config.suites)
            .filter_map(|(tag, suite)| Crypto::fresh(tag, *suite))
            .collect();
        Machine {
            config,
            wanted: Direction::SendRecv,
            current: ours.none(),
            ours,
            is_changed: false,
            // RFC 8866 section 5.2 wants digits; RFC 9429 section 5.2.1 63 bits.
            session: session >> 1,
            version: 0,
            cryptos,
            manner: None,
            offer: None,
            offered: None,
            forkable: None,
            lines: Vec::new(),
            at: 0,
        }
    }

    /// What the peer answered to another's offer: ours is keyed as it is. One that says nothing of use changes nothing.
    pub(crate) fn hear(&mut self, sdp: &str) {
        let Ok(remote) = Remote::parse("hear", sdp, &self.ours) else {
            return;
        };
        self.config.keying = match remote {
            Remote { fingerprints, .. } if !fingerprints.is_empty() => Keying::Dtls,
            Remote { cryptos, profile, .. } if !cryptos.is_empty() && profile.secure => Keying::Sdes,
            _ => self.config.keying,
        };
    }

    /// Whether our next description has a fingerprint.
    pub(crate) fn wants_dtls(&self) -> bool {
        match (&self.offer, &self.manner) {
            (Some(offer), _) => !offer.fingerprints.is_empty(),
            (None, Some(manner)) => manner.role.is_some(),
            (None, None) => self.config.keying == Keying::Dtls,
        }
    }

    /// Whether ICE stands in our next description.
    pub(crate) fn wants_ice(&self) -> bool {
        match (&self.offer, &self.manner) {
            (Some(offer), _) => offer.ice.is_some() && offer.mux,
            (None, Some(manner)) => manner.ice,
            (None, None) => self.config.ice,
        }
    }

    /// Whether our offer has no second port for RTCP: the first one, for what was agreed on stays.
    pub(crate) fn has_one_port(&self) -> bool {
        self.config.mux_only && self.manner.is_none()
    }

    /// The peer's offer.
    pub(crate) fn set_remote_offer(&mut self, operation: &'static str, sdp: &str) -> Result<()> {
        let remote = Remote::parse(operation, sdp, &self.ours)?;
        self.keying_of(operation, &remote)?;
        self.offer = Some(remote);
        Ok(())
    }

    pub(crate) fn has_remote_offer(&self) -> bool {
        self.offer.is_some()
    }

    /// Takes back whatever offer is pending.
    pub(crate) fn rollback(&mut self) -> bool {
        let (theirs, ours) = (self.offer.take(), self.offered.take());
        self.forkable = None;
        theirs.is_some() || ours.is_some()
    }

    /// The peer's answer to our offer.
    pub(crate) fn set_remote_answer(
        &mut self,
        operation: &'static str,
        sdp: &str,
        is_final: bool,
    ) -> Result<Agreement> {
        let Some(offered) = &self.offered else {
            return Err(misuse(operation, "no offer of ours is pending").advice("set an offer of ours first"));
        };
        let mut remote = Remote::parse(operation, sdp, &self.ours)?;
        remote.formats = self
            .ours
            .offer(&self.current, self.is_changed)
            .answered(&remote.formats);
        if remote.lines.len() != offered.len() {
            let message = format!(
                "our offer has {} m-lines, its answer {}",
                offered.len(),
                remote.lines.len()
            );
            return Err(Error::new(Fault::PeerMisbehaved, operation, message)
                .backend(crate::NAME)
                .advice("RFC 3264 section 6: an answer has the offer's m-lines, one by one"));
        }
        let profile = self.profile();
        if remote.profile.secure != profile.secure || remote.profile.dtls != profile.dtls {
            let message = format!("our offer says {profile}, its answer {}", remote.profile);
            return Err(
                incompatible(operation, message).advice("offer what the peer has: rtp.keying, rtp.feedback")
            );
        }
        if self.has_one_port() && !remote.mux {
            let message = "our offer has one port for RTP and RTCP, its answer two (a=rtcp-mux is missing)";
            return Err(
                incompatible(operation, message).advice("offer what the peer has: engine rtp, rtp.rtcp_mux")
            );
        }
        let keys = self.keys_of_answer(operation, &remote)?;
        let formats = self.common(operation, &remote)?;
        let ice = remote.ice.clone().filter(|_| self.wants_ice() && remote.mux);
        let mux = remote.mux && (self.config.rtcp_mux || ice.is_some());
        self.current.clone_from(&formats);
        self.is_changed = false;
        self.lines.clone_from(&remote.lines);
        self.at = remote.at;
        let role = match &keys {
            Keys::Dtls { is_client: true, .. } => Some(Setup::Active),
            Keys::Dtls { .. } => Some(Setup::Passive),
            _ => None,
        };
        self.manner = Some(Manner {
            profile,
            mux,
            ice: ice.is_some(),
            role,
        });
        if is_final {
            self.offered = None;
        }
        Ok(Agreement {
            rtp: remote.rtp,
            rtcp: remote.rtcp.filter(|_| !mux),
            ice,
            keys,
            formats,
        })
    }

    /// The machine of another medium of the same call, which keys its m-line in the same way.
    pub(crate) fn beside(&self, ours: impl Into<Formats>) -> Self {
        Machine::new(self.config.clone(), ours, 0)
    }

    pub(crate) fn set_codecs(&mut self, codecs: &[Codec]) {
        (self.ours, self.is_changed) = (self.config.formats(codecs).into(), true);
    }

    /// The pending remote offer, as it was read.
    pub(crate) fn remote_offer(&self) -> Option<&Remote> {
        self.offer.as_ref()
    }

    /// Which m-line of the call another medium has, or would have.
    pub(crate) fn place_of(&self, medium: &str) -> usize {
        let known = self.lines.iter().position(|line| line.media == medium);
        known.unwrap_or(self.lines.len().max(1))
    }

    /// Our offer, complete.
    pub(crate) fn offer(&self, local: &Local, beside: Option<&Part>) -> String {
        let part = self.offer_part(local, self.at);
        self.assemble(local, &part, None, beside)
    }

    /// Our m-line of an offer.
    pub(crate) fn offer_part(&self, local: &Local, at: usize) -> Part {
        let formats = self.ours.offer(&self.current, self.is_changed);
        let profile = self.profile();
        let manner = self.manner.as_ref();
        let mux = manner.map_or(self.config.rtcp_mux || self.wants_ice(), |manner| manner.mux);
        let has_crypto = match manner {
            Some(manner) => manner.role.is_none() && (manner.profile.secure || self.is_opportunistic()),
            None => matches!(self.config.keying, Keying::Opportunistic | Keying::Sdes),
        };
        let crypto: &[Crypto] = if has_crypto { &self.cryptos } else { &[] };
        // RFC 8842 section 5.2: an offer leaves the role open, or repeats what was settled: who changes it has a new association.
        let setup = manner.and_then(|manner| manner.role).unwrap_or(Setup::Actpass);
        let mut section = self.section(local, &formats, self.wanted, mux, crypto, setup);
        if profile.feedback {
            // RFC 4585 section 4.2: the shorter intervals. Of an offer alone: an answer adds nothing to what was offered.
            section.push_str("a=rtcp-fb:* trr-int 1000\r\n");
        }
        Part {
            at,
            head: self.head(local, &profile.to_string(), &formats),
            section,
        }
    }

    /// The beginning of our m-line. The session's `c=` is the audio's.
    fn head(&self, local: &Local, proto: &str, formats: &Formats) -> String {
        let mut head = format!(
            "m={} {} {proto}{}",
            self.ours.medium(),
            port(local),
            formats.numbers()
        );
        if let (Formats::Video(_), Some(addr)) = (&self.ours, local.rtp) {
            let _ = write!(head, "\r\nc=IN {} {}", write::family(addr), addr.ip());
        }
        head
    }

    fn is_opportunistic(&self) -> bool {
        self.config.keying == Keying::Opportunistic
    }

    /// Our offer is out; with the other medium in this place.
    pub(crate) fn offered(&mut self, beside: Option<(usize, &mut Machine)>) {
        self.version += 1;
        let line = |media: &str| MediaLine {
            media: media.to_owned(),
            proto: String::new(),
            formats: String::new(),
            mid: None,
        };
        let mut lines = self.lines.clone();
        if lines.is_empty() {
            lines.push(line(self.ours.medium()));
        }
        if let Some((at, other)) = beside {
            if at >= lines.len() {
                lines.push(line(other.ours.medium()));
            }
            other.is_out(lines.clone());
        }
        self.is_out(lines);
    }

    /// Our answer to the pending offer, complete, and what it agrees on.
    pub(crate) fn answer(
        &self,
        operation: &'static str,
        local: &Local,
        beside: Option<&Part>,
    ) -> Result<(String, Agreement)> {
        let (part, agreement) = self.answer_part(operation, local)?;
        Ok((
            self.assemble(local, &part, self.offer.as_ref(), beside),
            agreement,
        ))
    }

    /// Our m-line of the answer to the pending offer, and what it agrees on.
    pub(crate) fn answer_part(&self, operation: &'static str, local: &Local) -> Result<(Part, Agreement)> {
        let remote = self.offer.as_ref().ok_or_else(|| {
            misuse(operation, "there is no remote offer").advice("set the remote offer first")
        })?;
        let formats = self.common(operation, remote)?;
        let keys = self.keying_of(operation, remote)?;
        let ice = remote.ice.clone().filter(|_| self.wants_ice());
        let mux = remote.mux && (self.config.rtcp_mux || ice.is_some());
        let direction = remote.direction.answer(self.wanted);
        let (crypto, setup) = match &keys {
            Keys::Dtls { is_client, .. } => (None, if *is_client { Setup::Active } else { Setup::Passive }),
            Keys::None => (None, Setup::Actpass),
            Keys::Sdes { ours, .. } => (Some(ours.clone()), Setup::Actpass),
        };
        let is_dtls = matches!(keys, Keys::Dtls { .. });
        let told = Local {
            fingerprint: local.fingerprint.clone().filter(|_| is_dtls),
            ice: local.ice.clone().filter(|_| ice.is_some()),
            rtcp: local.rtcp.filter(|_| !mux),
            rtp: local.rtp,
            source: local.source.clone(),
        };
        let section = self.section(&told, &formats, direction, mux, crypto.as_slice(), setup);
        // As it was written: an answer repeats the offer's profile (RFC 3264 section 6).
        let proto = remote
            .lines
            .get(remote.at)
            .map(|line| line.proto.as_str())
            .unwrap_or_default();
        let part = Part {
            at: remote.at,
            head: self.head(local, proto, &formats),
            section,
        };
        let agreement = Agreement {
            rtp: remote.rtp,
            rtcp: remote.rtcp.filter(|_| !mux),
            ice,
            keys,
            formats,
        };
        Ok((part, agreement))
    }

    /// Our answer is out.
    pub(crate) fn answered(&mut self, agreement: &Agreement) {
        self.version += 1;
        self.forkable = None;
        let Some(remote) = self.offer.take() else { return };
        self.current.clone_from(&agreement.formats);
        self.is_changed = false;
        self.manner = Some(Manner {
            profile: remote.profile,
            mux: agreement.rtcp.is_none() && remote.mux,
            ice: agreement.ice.is_some(),
            role: match &agreement.keys {
                Keys::Dtls { is_client: true, .. } => Some(Setup::Active),
                Keys::Dtls { .. } => Some(Setup::Passive),
                _ => None,
            },
        });
        self.lines = remote.lines;
        self.at = remote.at;
    }

    fn common(&self, operation: &'static str, remote: &Remote) -> Result<Formats> {
        (self.ours.common(&remote.formats)).ok_or_else(|| incompatible(operation, "no codec is common"))
    }

    fn profile(&self) -> Profile {
        let keying = self.config.keying;
        self.manner.as_ref().map_or(
            Profile {
                dtls: keying == Keying::Dtls,
                secure: matches!(keying, Keying::Dtls | Keying::Sdes),
                feedback: self.config.feedback,
            },
            |manner| manner.profile,
        )
    }
}

fn port(local: &Local) -> u16 {
    local.rtp.map_or(9, |addr| addr.port())
}

pub(crate) fn misuse(operation: &'static str, message: impl Into<String>) -> Error {
    Error::new(Fault::ApiMisuse, operation, message).backend(crate::NAME)
}

#[cfg(test)]
mod tests;
