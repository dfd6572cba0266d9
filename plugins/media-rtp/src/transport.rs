//! What becomes of datagrams: decrypted, judged, counted, delivered. No sockets, no clock.

use crate::dtls::{Dtls, Identity};
use crate::formats::Formats;
use crate::latch::{Latch, Verdict};
use crate::machine::Keys as Agreed;
use crate::remote::Fingerprint;
use crate::srtp::{Keys, Protection};
use bytes::{Bytes, BytesMut};
use rtc_rtcp::goodbye::Goodbye;
use rtc_shared::error::{Error, Result};
use siprtc_core::media::{Discarded, Feedback, FeedbackKinds, RtpPacket};
use siprtc_rtp::{Header, Reports, feedback};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A handshake that takes longer has failed: RFC 6347 section 4.2.4 sends the first flight again after 1, 3 and 7 seconds.
const DTLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Inbound payloads are cut from blocks of this size: a packet costs no allocation of its own, and a block that nobody holds any more
/// is used again while it is in the processor's cache.
const BLOCK: usize = 4_096;
/// Packets of ours up to this many octets are written on the stack: all of audio, and nearly all of video.
const USUAL: usize = 1_536;
/// An RTP header without extension and contributing sources (RFC 3550 section 5.1).
const HEADER: usize = 12;
/// A receiver report about nobody, the shortest RTCP packet that may come first (RFC 3550 section 6.4.2).
const SHORTEST_RTCP: usize = 8;

/// The two ports of a peer that does not multiplex.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Port {
    Rtcp,
    Rtp,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    Connected,
    /// The peer says this of our stream.
    Feedback(Feedback),
    Failed(&'static str),
    /// Datagrams from this port go there from now on.
    Move(Port, SocketAddr),
    Send(Port, Vec<u8>),
}

/// How media is protected.
enum Security {
    /// Nothing is agreed yet.
    None,
    Plain,
    Srtp(Box<Protection>),
    /// The handshake is under way; with the keys of the association before it, if there was one.
    Dtls {
        dtls: Box<Dtls>,
        fails_at: Option<Instant>,
    },
}

/// See the module.
pub(crate) struct Transport {
    ssrc: u32,
    security: Security,
    /// The association whose keys are in use: it answers a repeated last flight.
    association: Option<Box<Dtls>>,
    rtp: Latch,
    rtcp: Latch,
    mux: bool,
    /// Where the peer's last description said.
    signalled: Option<(SocketAddr, Option<SocketAddr>)>,
    /// ICE has judged where packets come from.
    has_ice: bool,
    is_up: bool,
    is_connected: bool,
    pub(crate) reports: Reports,
    /// One bit for each payload type that may be sent or received.
    payload_types: u128,
    /// What can be told about the peer's stream, and is heard about ours.
    feedback: FeedbackKinds,
    /// The element of the peer's packets by which it is told when they came.
    transport_sequence: Option<u8>,
    block: BytesMut,
    pub(crate) discarded: Discarded,
    outputs: Vec<Output>,
}

impl Transport {
    pub(crate) fn new(ssrc: u32, reports: Reports, latching: bool) -> Self {
        Transport {
            ssrc,
            security: Security::None,
            association: None,
            rtp: Latch::new(latching),
            rtcp: Latch::new(latching),
            mux: true,
            signalled: None,
            has_ice: false,
            is_up: false,
            is_connected: false,
            reports,
            payload_types: 0,
            feedback: FeedbackKinds::default(),
            transport_sequence: None,
            block: BytesMut::new(),
            discarded: Discarded::default(),
            outputs: Vec::new(),
        }
    }

    /// What two descriptions agreed on. `where_to`: RTP, and RTCP if it has a port of its own; not said with ICE.
    pub(crate) fn agree(
        &mut self,
        now: Instant,
        keys: &Agreed,
        formats: &Formats,
        where_to: Option<(SocketAddr, Option<SocketAddr>)>,
        has_ice: bool,
        identity: Option<&Identity>,
    ) -> Result<()> {
        self.has_ice = has_ice;
        if has_ice {
            self.mux = true;
            self.signalled = None;
        }
        let numbers = formats.payload_types();
        self.payload_types = numbers.iter().fold(0, |bits, number| bits | 1 << (number & 0x7f));
        self.feedback = formats.feedback();
        self.transport_sequence = formats.transport_sequence();
        self.reports.set_clock_rates(formats.clock_rates());
        // A description that repeats itself, as when a call is held, moves nothing: a NAT may have been followed since.
        if let Some((rtp, rtcp)) = where_to
            && self.signalled != where_to
        {
            self.signalled = where_to;
            self.mux = rtcp.is_none();
            self.aim(rtp, rtcp);
        }
        self.key(now, keys, identity)?;
        if self.is_up {
            self.path_up(now);
        }
        Ok(())
    }

    /// Datagrams go there until others come from elsewhere.
    fn aim(&mut self, rtp: SocketAddr, rtcp: Option<SocketAddr>) {
        self.rtp.signalled(rtp);
        self.outputs.push(Output::Move(Port::Rtp, rtp));
        if let Some(rtcp) = rtcp {
            self.rtcp.signalled(rtcp);
            self.outputs.push(Output::Move(Port::Rtcp, rtcp));
        }
    }

    fn key(&mut self, now: Instant, keys: &Agreed, identity: Option<&Identity>) -> Result<()> {
        match keys {
            Agreed::None => self.security = Security::Plain,
            Agreed::Sdes { ours, theirs } => self.use_keys(Keys {
                profile_out: ours.profile,
                profile_in: theirs.profile,
                key_out: ours.key().to_vec(),
                salt_out: ours.salt().to_vec(),
                mki_in: theirs.mki,
                key_in: theirs.key().to_vec(),
                salt_in: theirs.salt().to_vec(),
            })?,
            Agreed::Dtls { is_client, peer } => {
                let Some(identity) = identity else {
                    return Err(Error::ErrNonCertificate);
                };
                // RFC 8842 section 5: the same fingerprints and roles are the same association.
                if !self.is_association_with(*is_client, peer) {
                    let dtls = Box::new(Dtls::new(identity, *is_client, peer.clone())?);
                    self.association = None;
                    self.is_connected = false;
                    self.security = Security::Dtls { dtls, fails_at: None };
                    if self.is_up {
                        self.begin(now);
                    }
                }
            }
        }
        Ok(())
    }

    fn is_association_with(&self, is_client: bool, peer: &[Fingerprint]) -> bool {
        let current = match &self.security {
            Security::Dtls { dtls, .. } => Some(dtls),
            _ => self.association.as_ref(),
        };
        current.is_some_and(|dtls| dtls.is_client() == is_client && dtls.peer == peer)
    }

    fn use_keys(&mut self, keys: Keys) -> Result<()> {
        let before = std::mem::replace(&mut self.security, Security::None);
        self.security = Security::Srtp(Box::new(match before {
            Security::Srtp(protection) if protection.is_keyed_with(&keys) => *protection,
            Security::Srtp(protection) => protection.with_theirs(keys)?,
            _ => Protection::new(keys)?,
        }));
        Ok(())
    }

    /// Datagrams reach the peer.
    pub(crate) fn path_up(&mut self, now: Instant) {
        self.is_up = true;
        match &self.security {
            Security::None => {}
            Security::Plain | Security::Srtp(_) => self.connected(),
            Security::Dtls { fails_at: None, .. } => self.begin(now),
            Security::Dtls { .. } => {}
        }
    }

    fn begin(&mut self, now: Instant) {
        let Security::Dtls { dtls, fails_at } = &mut self.security else {
            return;
        };
        *fails_at = Some(now + DTLS_TIMEOUT);
        if let Err(error) = dtls.start(now) {
            tracing::warn!(%error, "the DTLS handshake does not begin");
        }
        self.send_dtls();
    }

    fn connected(&mut self) {
        if !std::mem::replace(&mut self.is_connected, true) {
            self.outputs.push(Output::Connected);
        }
    }

    /// Our stream, in the words of `a=ssrc` (RFC 5576).
    pub(crate) fn source(&self) -> String {
        format!("{} cname:{}", self.ssrc, self.reports.cname())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub(crate) fn may_send(&self, payload_type: u8) -> bool {
        payload_type < 128 && self.payload_types >> payload_type & 1 == 1
    }

    /// A packet of ours as it goes out is given to `send`.
    pub(crate) fn protect(
        &mut self,
        now: Instant,
        packet: &RtpPacket,
        send: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let length = HEADER + packet.payload.len();
        let (mut small, mut large) = ([0; USUAL], Vec::new());
        let plain = match small.get_mut(..length) {
            Some(small) => small,
            None => {
                large.resize(length, 0);
                &mut large[..]
            }
        };
        plain[0] = 0x80;
        plain[1] = packet.payload_type & 0x7f | u8::from(packet.marker) << 7;
        plain[2..4].copy_from_slice(&packet.sequence.to_be_bytes());
        plain[4..8].copy_from_slice(&packet.timestamp.to_be_bytes());
        plain[8..HEADER].copy_from_slice(&self.ssrc.to_be_bytes());
        plain[HEADER..].copy_from_slice(&packet.payload);
        match &mut self.security {
            Security::Srtp(protection) => send(&protection.encrypt_rtp(plain)?),
            _ => send(plain),
        }
        self.reports
            .rtp_sent(now, packet.payload_type, packet.timestamp, packet.payload.len());
        Ok(())
    }

    /// Tells the peer what we miss of its stream.
    pub(crate) fn tell(&mut self, feedback: &Feedback) {
        if self.is_connected
            && let Some(packets) = self.reports.feedback(feedback, self.feedback)
        {
            self.send_rtcp(&packets);
        }
    }

    /// A datagram came; the packet to be heard, if it is one.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        port: Port,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<RtpPacket> {
        // RFC 7983: 20 to 63 is DTLS, 128 to 191 RTP and RTCP, of which RFC 5761 section 4 tells the packet types apart.
        match (datagram.first(), datagram.get(1)) {
            (Some(20..=63), _) if port == Port::Rtp => self.dtls(now, from, datagram),
            (Some(128..=191), Some(192..=223)) if port == Port::Rtcp || self.mux => {
                self.rtcp(now, port, from, datagram);
            }
            (Some(128..=191), Some(kind)) if port == Port::Rtp && !(192..=223).contains(kind) => {
                return self.rtp(now, from, datagram);
            }
            _ => self.discarded.unknown += 1,
        }
        None
    }

    fn dtls(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let dtls = match (&mut self.security, &mut self.association) {
            (Security::Dtls { dtls, .. }, _) => dtls,
            // The peer repeats its last flight: ours was lost.
            (_, Some(dtls)) => dtls,
            _ => {
                self.discarded.unknown += 1;
                return;
            }
        };
        let read = dtls.read(now, datagram);
        // Whoever answers a handshake is where its datagrams come from; who it is, the certificate says.
        if !self.has_ice && !self.is_connected && self.rtp.target() != Some(from) && read.is_ok() {
            self.aim(from, None);
        }
        self.send_dtls();
        match read {
            Ok(None) => {}
            Ok(Some(keys)) => {
                let before = std::mem::replace(&mut self.security, Security::None);
                if let Security::Dtls { dtls, .. } = before {
                    self.association = Some(dtls);
                }
                match Protection::new(keys) {
                    Ok(protection) => {
                        self.security = Security::Srtp(Box::new(protection));
                        self.connected();
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the keys of a DTLS handshake");
                        self.outputs.push(Output::Failed(HANDSHAKE_FAILED));
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%from, %error, "a DTLS datagram");
                self.discarded.malformed += 1;
            }
        }
    }

    fn send_dtls(&mut self) {
        let dtls = match (&mut self.security, &mut self.association) {
            (Security::Dtls { dtls, .. }, _) => dtls,
            (_, Some(dtls)) => dtls,
            _ => return,
        };
        while let Some(data) = dtls.poll_transmit() {
            self.outputs.push(Output::Send(Port::Rtp, data.to_vec()));
        }
    }

    fn rtp(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<RtpPacket> {
        let Some(header) = Header::read(datagram) else {
            self.discarded.malformed += 1;
            return None;
        };
        let plain = match &mut self.security {
            Security::Plain => self.keep(datagram),
            Security::Srtp(protection) => match protection.decrypt_rtp(datagram) {
                Ok(plain) => plain.freeze(),
                Err(error) => {
                    self.refuse(from, "SRTP", &error);
                    return None;
                }
            },
            // Early media before the answer: nothing says yet how it is encrypted.
            Security::None | Security::Dtls { .. } => {
                self.discarded.early += 1;
                return None;
            }
        };
        let Some(payload) = header.payload(&plain) else {
            self.discarded.malformed += 1;
            return None;
        };
        if !self.may_send(header.payload_type) {
            self.discarded.payload_type += 1;
            return None;
        }
        // Encrypted with the peer's key it is the peer's, whatever its number is.
        if header.ssrc == self.ssrc && matches!(self.security, Security::Plain) {
            self.discarded.looped += 1;
            return None;
        }
        let number = self.transport_sequence;
        let number = number.and_then(|number| header.element(&plain, number)?.first_chunk().copied());
        let payload = plain.slice(payload);
        if !self.has_ice {
            let authentic = matches!(self.security, Security::Srtp(_));
            let stream = (header.ssrc, header.sequence);
            match self.rtp.rtp(now, from, stream, authentic) {
                Verdict::Accept => {}
                Verdict::Drop => {
                    self.discarded.stranger += 1;
                    return None;
                }
                Verdict::Move => {
                    tracing::info!(%from, "the peer's RTP comes from another address than its SDP says; ours goes there");
                    self.outputs.push(Output::Move(Port::Rtp, from));
                }
            }
        }
        self.reports.rtp_received(
            now,
            header.ssrc,
            header.payload_type,
            (header.sequence, header.timestamp),
            payload.len(),
        );
        if let Some(number) = number {
            (self.reports).arrived(now, header.ssrc, u16::from_be_bytes(number));
        }
        Some(RtpPacket {
            payload_type: header.payload_type,
            marker: header.marker,
            sequence: header.sequence,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
            payload,
        })
    }

    /// The datagram as what is shared and lives on: a piece of the current block.
    fn keep(&mut self, datagram: &[u8]) -> Bytes {
        if !self.block.try_reclaim(datagram.len()) {
            self.block = BytesMut::with_capacity(BLOCK.max(datagram.len()));
        }
        self.block.extend_from_slice(datagram);
        self.block.split().freeze()
    }

    fn rtcp(&mut self, now: Instant, port: Port, from: SocketAddr, datagram: &[u8]) {
        if datagram.len() < SHORTEST_RTCP {
            self.discarded.malformed += 1;
            return;
        }
        let authentic = matches!(self.security, Security::Srtp(_));
        let plain = match &mut self.security {
            Security::Plain => Bytes::copy_from_slice(datagram),
            Security::Srtp(protection) => match protection.decrypt_rtcp(datagram) {
                Ok(plain) => plain.freeze(),
                Err(error) => return self.refuse(from, "SRTCP", &error),
            },
            Security::None | Security::Dtls { .. } => {
                self.discarded.early += 1;
                return;
            }
        };
        // Only whom RTP comes from, or who said that RTCP would come from there.
        let is_peer = self.has_ice
            || authentic
            || self.rtp.target().is_some_and(|target| target.ip() == from.ip())
            || self.rtcp.target() == Some(from);
        if !is_peer {
            self.discarded.stranger += 1;
            return;
        }
        let read = catch_unwind(AssertUnwindSafe(|| {
            rtc_rtcp::packet::unmarshal(&mut plain.clone())
        }));
        match read {
            Ok(Ok(packets)) => {
                self.reports.rtcp_received(now, &packets);
                if self.feedback != FeedbackKinds::default() {
                    let told = feedback::read(&packets, self.ssrc);
                    self.outputs.extend(told.into_iter().map(Output::Feedback));
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(%from, %error, "RTCP that cannot be read");
                self.discarded.malformed += 1;
                return;
            }
            Err(_) => {
                self.discarded.malformed += 1;
                tracing::warn!(%from, "the RTCP library panicked");
                return;
            }
        }
        // A NAT has mapped its second port somewhere, too.
        let is_moved = port == Port::Rtcp && !self.has_ice && self.rtcp.target() != Some(from);
        if is_moved && (authentic || self.rtp.target().is_some_and(|target| target.ip() == from.ip())) {
            self.rtcp.signalled(from);
            self.outputs.push(Output::Move(Port::Rtcp, from));
        }
    }

    /// SRTP and SRTCP that come to nothing.
    fn refuse(&mut self, from: SocketAddr, what: &'static str, error: &Error) {
        *match error {
            Error::SrtpSsrcDuplicated(..) | Error::SrtcpSsrcDuplicated(..) => &mut self.discarded.replayed,
            Error::ErrTooShortRtp | Error::ErrTooShortRtcp | Error::SrtcpTooSmall(..) => {
                &mut self.discarded.malformed
            }
            _ => &mut self.discarded.forged,
        } += 1;
        tracing::debug!(%from, %error, what, "a datagram is dropped");
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let report = self.reports.poll_timeout().filter(|_| self.is_connected);
        let handshake = match &self.security {
            Security::Dtls { dtls, fails_at } => dtls.poll_timeout().into_iter().chain(*fails_at).min(),
            _ => None,
        };
        report.into_iter().chain(handshake).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Security::Dtls { dtls, fails_at } = &mut self.security {
            if fails_at.is_some_and(|at| at <= now) {
                *fails_at = None;
                self.security = Security::None;
                self.outputs.push(Output::Failed(HANDSHAKE_FAILED));
            } else if let Err(error) = dtls.handle_timeout(now) {
                tracing::debug!(%error, "a DTLS flight is not repeated");
            }
            self.send_dtls();
        }
        if self.is_connected
            && let Some(report) = self.reports.handle_timeout(now)
        {
            self.send_rtcp(&report);
        }
    }

    /// Says goodbye: RTCP BYE with a report before it (RFC 3550 section 6.6), and DTLS's close.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.is_connected {
            let mut packets: Vec<Box<dyn rtc_rtcp::Packet>> = self.reports.last(now);
            packets.push(Box::new(Goodbye {
                sources: vec![self.ssrc],
                reason: Bytes::new(),
            }));
            self.send_rtcp(&packets);
        }
        if let Some(association) = &mut self.association {
            association.close(now);
        }
        self.send_dtls();
        self.is_connected = false;
    }

    fn send_rtcp(&mut self, packets: &[Box<dyn rtc_rtcp::Packet>]) {
        let Ok(plain) = rtc_rtcp::packet::marshal(packets) else {
            return;
        };
        let sealed = match &mut self.security {
            Security::Srtp(protection) => protection.encrypt_rtcp(&plain),
            Security::Plain => Ok(plain),
            Security::None | Security::Dtls { .. } => return,
        };
        let port = if self.mux { Port::Rtp } else { Port::Rtcp };
        if let Ok(sealed) = sealed {
            self.outputs.push(Output::Send(port, sealed.to_vec()));
        }
    }

    /// What is to be done, in order; the list is empty afterwards.
    pub(crate) fn drain(&mut self, into: &mut Vec<Output>) {
        into.append(&mut self.outputs);
    }
}

const HANDSHAKE_FAILED: &str = "the DTLS handshake failed: the peer's certificate does not match its a=fingerprint, or it speaks no DTLS";

#[cfg(test)]
mod tests;
