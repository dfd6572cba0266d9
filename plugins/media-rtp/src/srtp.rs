//! SRTP and SRTCP (RFC 3711, RFC 7714) over rtc-srtp.
//!
//! A context of rtc-srtp 0.21 keeps a state for each SSRC that it is shown, before it knows whether the packet is genuine, and
//! never forgets one: whoever guesses our port could fill the memory. So each stream of the peer's has a context of its own,
//! a stream that is new is tried with a context that is thrown away if its packet is forged, and there are at most
//! [`MOST_STREAMS`].

use bytes::{Bytes, BytesMut};
use rtc_shared::error::{Error, Result};
use rtc_srtp::context::Context;
use rtc_srtp::crypto::default_provider;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;
use siprtc_rtp::Header;
use siprtc_sdp_words::Mki;
use std::borrow::Cow;

/// Streams of the peer's; the one that was silent longest goes for one more.
const MOST_STREAMS: usize = 8;
/// RFC 3711 section 3.3.2: at least 64.
const REPLAY_WINDOW: usize = 128;

/// Both directions' master keys and salts.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) profile_out: ProtectionProfile,
    pub(crate) profile_in: ProtectionProfile,
    /// The identifier that stands in each packet of theirs.
    pub(crate) mki_in: Option<Mki>,
    pub(crate) key_out: Vec<u8>,
    pub(crate) salt_out: Vec<u8>,
    pub(crate) key_in: Vec<u8>,
    pub(crate) salt_in: Vec<u8>,
}

/// Encrypts ours and decrypts theirs.
pub(crate) struct Protection {
    keys: Keys,
    outbound: Context,
    /// The stream that was heard last is the last.
    inbound: Vec<(u32, Context)>,
}

impl Protection {
    pub(crate) fn new(keys: Keys) -> Result<Self> {
        let provider = default_provider().map_err(|error| Error::Crypto(error.to_string()))?;
        let outbound = Context::new(
            &keys.key_out,
            &keys.salt_out,
            keys.profile_out,
            None,
            None,
            provider.crypto(),
        )?;
        Ok(Protection {
            keys,
            outbound,
            inbound: Vec::new(),
        })
    }

    /// The peer's keys change and ours stay: what was sent is not encrypted a second time under the same numbers.
    pub(crate) fn with_theirs(mut self, keys: Keys) -> Result<Self> {
        let same = (
            self.keys.profile_out as u8,
            &self.keys.key_out,
            &self.keys.salt_out,
        ) == (keys.profile_out as u8, &keys.key_out, &keys.salt_out);
        if !same {
            return Protection::new(keys);
        }
        self.keys = keys;
        self.inbound.clear();
        Ok(self)
    }

    /// Whether these are the keys in use.
    pub(crate) fn is_keyed_with(&self, keys: &Keys) -> bool {
        let words = |keys: &Keys| {
            let profiles = (keys.profile_out as u8, keys.profile_in as u8, keys.mki_in);
            (
                profiles,
                keys.key_out.clone(),
                keys.salt_out.clone(),
                keys.key_in.clone(),
                keys.salt_in.clone(),
            )
        };
        words(&self.keys) == words(keys)
    }

    pub(crate) fn encrypt_rtp(&mut self, packet: &[u8]) -> Result<BytesMut> {
        self.outbound.encrypt_rtp(packet)
    }

    pub(crate) fn encrypt_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut> {
        self.outbound.encrypt_rtcp(packet)
    }

    pub(crate) fn decrypt_rtp(&mut self, packet: &[u8]) -> Result<BytesMut> {
        let packet = self
            .without_mki(packet, self.keys.profile_in.rtp_auth_tag_len())
            .ok_or(Error::RtpFailedToVerifyAuthTag)?;
        let header = Header::read(&packet).ok_or(Error::ErrTooShortRtp)?;
        let shown = shown(&header, &packet);
        self.decrypt(header.ssrc, |context| {
            context.decrypt_rtp_with_header(&packet, &shown)
        })
    }

    /// The packet as it would be without the identifier of the master key, which stands before the tag and is not authenticated (RFC
    /// 3711 sections 3.1 and 3.4; with GCM at the end, RFC 7714 section 8.2). `None`: it is another key's, or too short.
    fn without_mki<'p>(&self, packet: &'p [u8], tag: usize) -> Option<Cow<'p, [u8]>> {
        let Some(mki) = self.keys.mki_in else {
            return Some(Cow::Borrowed(packet));
        };
        let end = packet.len().checked_sub(tag)?;
        let start = end.checked_sub(usize::from(mki.length))?;
        let octets = packet.get(start..end)?;
        let value = octets
            .iter()
            .fold(0, |value: u128, octet| value << 8 | u128::from(*octet));
        let rest = [packet.get(..start)?, packet.get(end..)?];
        (value == mki.value).then(|| Cow::Owned(rest.concat()))
    }

    pub(crate) fn decrypt_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut> {
        let packet = self
            .without_mki(packet, self.keys.profile_in.rtcp_auth_tag_len())
            .ok_or(Error::RtcpFailedToVerifyAuthTag)?;
        // RFC 3711 section 3.4: the flag before the index. With AES-CM the library gives a packet back that says it is not
        // encrypted, and does not look at its tag: whoever leaves the flag out would be believed.
        let tail = 4 + self.keys.profile_in.rtcp_auth_tag_len();
        let flag = packet.len().checked_sub(tail).and_then(|at| packet.get(at));
        if flag.is_none_or(|flag| flag & 0x80 == 0) {
            return Err(Error::RtcpFailedToVerifyAuthTag);
        }
        let ssrc = word(&packet, 4).ok_or(Error::ErrTooShortRtcp)?;
        self.decrypt(ssrc, |context| context.decrypt_rtcp(&packet))
    }

    fn decrypt(
        &mut self,
        ssrc: u32,
        work: impl FnOnce(&mut Context) -> Result<BytesMut>,
    ) -> Result<BytesMut> {
        if let Some(at) = self.inbound.iter().position(|(known, _)| *known == ssrc) {
            let plain = work(&mut self.inbound[at].1)?;
            if at + 1 < self.inbound.len() {
                let stream = self.inbound.remove(at);
                self.inbound.push(stream);
            }
            return Ok(plain);
        }
        let mut context = self.inbound_context()?;
        let plain = work(&mut context)?;
        if self.inbound.len() == MOST_STREAMS {
            self.inbound.remove(0);
        }
        self.inbound.push((ssrc, context));
        Ok(plain)
    }

    fn inbound_context(&self) -> Result<Context> {
        let provider = default_provider().map_err(|error| Error::Crypto(error.to_string()))?;
        Context::new(
            &self.keys.key_in,
            &self.keys.salt_in,
            self.keys.profile_in,
            Some(srtp_replay_protection(REPLAY_WINDOW)),
            Some(srtcp_replay_protection(REPLAY_WINDOW)),
            provider.crypto(),
        )
    }
}

/// A header as the library takes it, which finds the payload by its size: its own reader makes another size of an extension that ends
/// with id 15 (RFC 8285 section 4.2), or whose last element is longer than the extension.
fn shown(header: &Header, packet: &[u8]) -> rtc_rtp::Header {
    let content = header.extension.clone().and_then(|content| packet.get(content));
    rtc_rtp::Header {
        version: 2,
        csrc: vec![0; header.sources.into()],
        sequence_number: header.sequence,
        ssrc: header.ssrc,
        extension: content.is_some(),
        extensions: content
            .map(|content| rtc_rtp::header::Extension {
                id: 0,
                payload: Bytes::copy_from_slice(content),
            })
            .into_iter()
            .collect(),
        ..rtc_rtp::Header::default()
    }
}

fn word(packet: &[u8], at: usize) -> Option<u32> {
    let octets = packet.get(at..at + 4)?;
    Some(u32::from_be_bytes(octets.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Crypto, Suite};

    fn keys(suite: Suite) -> (Keys, Keys) {
        let (ours, theirs) = (Crypto::fresh(1, suite).unwrap(), Crypto::fresh(1, suite).unwrap());
        let keys = |ours: &Crypto, theirs: &Crypto| Keys {
            profile_out: ours.profile,
            profile_in: theirs.profile,
            mki_in: None,
            key_out: ours.key().to_vec(),
            salt_out: ours.salt().to_vec(),
            key_in: theirs.key().to_vec(),
            salt_in: theirs.salt().to_vec(),
        };
        (keys(&ours, &theirs), keys(&theirs, &ours))
    }

    fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        packet.extend(ssrc.to_be_bytes());
        packet.extend([7; 160]);
        packet
    }

    #[test]
    fn every_suite_carries_a_packet_and_hides_it() {
        for suite in Suite::ALL {
            let (ours, theirs) = keys(suite);
            let (mut us, mut them) = (Protection::new(ours).unwrap(), Protection::new(theirs).unwrap());
            for sequence in 65_530..65_550_u32 {
                let plain = rtp(1, sequence as u16);
                let sent = us.encrypt_rtp(&plain).unwrap();
                assert_ne!(sent[12..20], plain[12..20], "{suite}");
                assert_eq!(
                    them.decrypt_rtp(&sent).unwrap()[..],
                    plain[..],
                    "{suite} {sequence}"
                );
            }
        }
    }

    #[test]
    fn a_peer_that_names_its_master_key_in_each_packet_is_understood() {
        for suite in Suite::ALL {
            let (mut ours, theirs) = keys(suite);
            ours.mki_in = Some(Mki {
                value: 0x0102,
                length: 4,
            });
            let tags = (
                ours.profile_in.rtp_auth_tag_len(),
                ours.profile_in.rtcp_auth_tag_len(),
            );
            let (mut us, mut them) = (Protection::new(ours).unwrap(), Protection::new(theirs).unwrap());
            let named = |packet: &[u8], tag: usize, name: [u8; 4]| {
                let (front, tag) = packet.split_at(packet.len() - tag);
                [front, &name, tag].concat()
            };
            let plain = rtp(1, 7);
            let sent = them.encrypt_rtp(&plain).unwrap();
            assert!(us.decrypt_rtp(&sent).is_err(), "{suite}: it has no name");
            assert!(
                us.decrypt_rtp(&named(&sent, tags.0, [0, 0, 1, 3])).is_err(),
                "{suite}: another key"
            );
            let came = us.decrypt_rtp(&named(&sent, tags.0, [0, 0, 1, 2])).unwrap();
            assert_eq!(came[..], plain[..], "{suite}");
            // A receiver report without blocks.
            let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
            let sent = them.encrypt_rtcp(&report).unwrap();
            let came = us.decrypt_rtcp(&named(&sent, tags.1, [0, 0, 1, 2])).unwrap();
            assert_eq!(came[..], report[..], "{suite}");
            for length in 0..40 {
                assert!(
                    us.decrypt_rtp(&vec![0x80; length]).is_err()
                        && us.decrypt_rtcp(&vec![0x80; length]).is_err()
                );
            }
        }
    }

    #[test]
    fn what_is_forged_or_repeated_is_refused_and_leaves_nothing_behind() {
        for suite in Suite::ALL {
            let (ours, theirs) = keys(suite);
            let (mut us, mut them) = (Protection::new(ours).unwrap(), Protection::new(theirs).unwrap());
            let sent = us.encrypt_rtp(&rtp(1, 1)).unwrap();
            assert!(them.decrypt_rtp(&sent).is_ok());
            assert!(them.decrypt_rtp(&sent).is_err(), "{suite}: a replay");
            for ssrc in 0..1_000 {
                let mut forged = us.encrypt_rtp(&rtp(ssrc, 2)).unwrap();
                let last = forged.len() - 1;
                forged[last] ^= 1;
                assert!(them.decrypt_rtp(&forged).is_err(), "{suite}");
            }
            assert_eq!(them.inbound.len(), 1, "{suite}");
            for short in 0..30 {
                assert!(them.decrypt_rtp(&sent[..short]).is_err());
                assert!(them.decrypt_rtcp(&sent[..short]).is_err());
            }
        }
    }

    #[test]
    fn reports_that_say_they_are_not_encrypted_are_refused() {
        for suite in Suite::ALL {
            let (ours, theirs) = keys(suite);
            let tag = ours.profile_out.rtcp_auth_tag_len();
            let (mut us, mut them) = (Protection::new(ours).unwrap(), Protection::new(theirs).unwrap());
            let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
            let sent = us.encrypt_rtcp(&report).unwrap();
            assert_eq!(them.decrypt_rtcp(&sent).unwrap()[..], report, "{suite}");
            let mut bare = us.encrypt_rtcp(&report).unwrap();
            let flag = bare.len() - 4 - tag;
            bare[flag] &= 0x7f;
            assert!(them.decrypt_rtcp(&bare).is_err(), "{suite}");
        }
    }

    #[test]
    fn streams_are_bounded_and_the_one_in_use_stays() {
        let (ours, theirs) = keys(Suite::AesCm128HmacSha1_80);
        let (mut us, mut them) = (Protection::new(ours).unwrap(), Protection::new(theirs).unwrap());
        for ssrc in 2..100 {
            for (ssrc, sequence) in [(1, ssrc as u16), (ssrc, 1)] {
                let sent = us.encrypt_rtp(&rtp(ssrc, sequence)).unwrap();
                assert!(them.decrypt_rtp(&sent).is_ok());
            }
            assert!(them.inbound.len() <= MOST_STREAMS);
            assert!(them.inbound.iter().any(|(known, _)| *known == 1));
        }
    }

    #[test]
    fn new_keys_of_the_peers_do_not_start_ours_anew() {
        let (ours, theirs) = keys(Suite::AesCm128HmacSha1_80);
        let (mut us, mut them) = (
            Protection::new(ours.clone()).unwrap(),
            Protection::new(theirs).unwrap(),
        );
        let first = us.encrypt_rtp(&rtp(1, 65_535)).unwrap();
        them.decrypt_rtp(&first).unwrap();
        let (other, _) = keys(Suite::AesCm128HmacSha1_80);
        let changed = Keys {
            key_in: other.key_in,
            ..ours
        };
        let mut us = us.with_theirs(changed).unwrap();
        // The rollover counter went on: a new context would begin at zero and not be understood.
        let second = us.encrypt_rtp(&rtp(1, 0)).unwrap();
        assert_eq!(them.decrypt_rtp(&second).unwrap()[..], rtp(1, 0)[..]);
    }
}
