//! What comes from the network before the library sees it: what it would take and should not stays out, and what it keeps for itself
//! is counted.
//!
//! * rtc-srtp gives an SRTCP packet back unchecked whose flag says that it is not encrypted (AES-CM): whoever leaves the flag out would be
//!   believed.
//! * rtc-srtp keeps a state for each SSRC that it is shown, genuine or not, for ever: strange ones are let through one a second.
//! * The library says of no packet that it dropped it.
//!
//! What the library's own TURN client unwraps does not come by here.

use parking_lot::Mutex;
use siprtc_core::media::Discarded;
use siprtc_rtp::Header;
use std::time::{Duration, Instant};

/// Streams of the peer's that are known to be genuine; the oldest goes for one more.
const MOST_STREAMS: usize = 8;
/// Strange streams that are let through at once, and how often one more is.
const STRANGE: u32 = 32;
const ONE_MORE: Duration = Duration::from_secs(1);
/// The index with the flag (RFC 3711 section 3.4), and the tag of AES-CM behind it, also of the suite with short tags (RFC 5764 section
/// 4.1.2). AES-GCM has its tag before the index (RFC 7714 section 9.2).
const INDEX: usize = 4;
const CM_TAG: usize = 10;

/// How SRTCP is protected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cipher {
    Cm,
    Gcm,
}

impl Cipher {
    /// From the profile's name (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
    pub(crate) fn of(profile: &str) -> Self {
        match profile.contains("GCM") {
            true => Cipher::Gcm,
            false => Cipher::Cm,
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    cipher: Option<Cipher>,
    discarded: Discarded,
    /// Shown to the library, and those of them that it has surely looked at.
    shown: u64,
    settled: u64,
    /// Given back by it.
    taken: u64,
    genuine: Vec<u32>,
    /// How many strange streams may still come, and since when.
    strange: Option<(u32, Instant)>,
}

impl Gate {
    /// DTLS is up, with this.
    pub(crate) fn set_cipher(&self, cipher: Cipher) {
        self.0.lock().cipher = Some(cipher);
    }

    /// The library wants another datagram: it is done with those before.
    pub(crate) fn next(&self) {
        let mut state = self.0.lock();
        state.settled = state.shown;
    }

    /// Whether the library may see it.
    pub(crate) fn admits(&self, now: Instant, datagram: &[u8]) -> bool {
        let mut state = self.0.lock();
        // RFC 7983; RFC 5761 section 4 tells RTP and RTCP apart.
        match (datagram.first(), datagram.get(1)) {
            (Some(0..=3 | 20..=79), _) => true,
            (Some(128..=191), Some(192..=223)) => state.admits_rtcp(now, datagram),
            (Some(128..=191), _) => state.admits_rtp(now, datagram),
            _ => {
                state.discarded.unknown += 1;
                false
            }
        }
    }

    /// The library gave a packet of this stream back: it is genuine.
    pub(crate) fn taken(&self, ssrc: Option<u32>) {
        let mut state = self.0.lock();
        state.taken += 1;
        if let Some(ssrc) = ssrc
            && !state.genuine.contains(&ssrc)
        {
            if state.genuine.len() == MOST_STREAMS {
                state.genuine.remove(0);
            }
            state.genuine.push(ssrc);
        }
    }

    pub(crate) fn discarded(&self) -> Discarded {
        let state = self.0.lock();
        Discarded {
            refused: state.discarded.refused + state.settled.saturating_sub(state.taken),
            ..state.discarded
        }
    }
}

impl State {
    fn admits_rtp(&mut self, now: Instant, datagram: &[u8]) -> bool {
        match Header::read(datagram) {
            Some(header) => self.admits_stream(now, header.ssrc),
            None => {
                self.discarded.malformed += 1;
                false
            }
        }
    }

    fn admits_rtcp(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let Some(cipher) = self.cipher else {
            self.discarded.early += 1;
            return false;
        };
        let tail = match cipher {
            Cipher::Cm => INDEX + CM_TAG,
            Cipher::Gcm => INDEX,
        };
        let flag = datagram.len().checked_sub(tail).and_then(|at| datagram.get(at));
        let Some((flag, ssrc)) = flag.zip(datagram.get(4..).and_then(|rest| rest.first_chunk())) else {
            self.discarded.malformed += 1;
            return false;
        };
        if flag & 0x80 == 0 {
            self.discarded.forged += 1;
            return false;
        }
        self.admits_stream(now, u32::from_be_bytes(*ssrc))
    }

    fn admits_stream(&mut self, now: Instant, ssrc: u32) -> bool {
        if !self.genuine.contains(&ssrc) && !self.admits_stranger(now) {
            self.discarded.refused += 1;
            return false;
        }
        self.shown += 1;
        true
    }

    fn admits_stranger(&mut self, now: Instant) -> bool {
        let (left, since) = self.strange.get_or_insert((STRANGE, now));
        while *left < STRANGE && now.saturating_duration_since(*since) >= ONE_MORE {
            *left += 1;
            *since += ONE_MORE;
        }
        if *left == STRANGE {
            *since = now;
        }
        let is_admitted = *left > 0;
        *left = left.saturating_sub(1);
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 111, 0, 1, 0, 0, 0, 0];
        packet.extend(ssrc.to_be_bytes());
        packet.extend([7; 40]);
        packet
    }

    /// A report with its flag where this cipher has it.
    fn rtcp(cipher: Cipher, flag: u8) -> Vec<u8> {
        let mut packet = vec![0x81, 201, 0, 7, 0, 0, 0, 1];
        packet.extend([0; 40]);
        let tag = if cipher == Cipher::Cm { CM_TAG } else { 0 };
        packet.extend([flag, 0, 0, 1]);
        packet.extend(vec![0; tag]);
        packet
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn reports_without_the_flag_of_encryption_stay_out() {
        for cipher in [Cipher::Cm, Cipher::Gcm] {
            let gate = Gate::default();
            assert!(
                !gate.admits(now(), &rtcp(cipher, 0x80)),
                "nobody knows yet where it is"
            );
            gate.set_cipher(cipher);
            assert!(gate.admits(now(), &rtcp(cipher, 0x80)));
            assert!(!gate.admits(now(), &rtcp(cipher, 0)));
            for length in 2..8 {
                assert!(!gate.admits(now(), &rtcp(cipher, 0x80)[..length]));
            }
            let expected = Discarded {
                early: 1,
                forged: 1,
                malformed: 6,
                ..Discarded::default()
            };
            assert_eq!(gate.discarded(), expected);
        }
    }

    #[test]
    fn strange_streams_are_few_and_genuine_ones_go_on() {
        let (gate, now) = (Gate::default(), now());
        assert!(gate.admits(now, &rtp(1)));
        gate.taken(Some(1));
        let admitted = (2..1_000).filter(|ssrc| gate.admits(now, &rtp(*ssrc))).count();
        assert_eq!(admitted, STRANGE as usize - 1);
        assert!(gate.admits(now, &rtp(1)));
        gate.taken(Some(1));
        let later = now + ONE_MORE * 3;
        let admitted = (1_000..2_000)
            .filter(|ssrc| gate.admits(later, &rtp(*ssrc)))
            .count();
        assert_eq!(admitted, 3);
        gate.next();
        assert_eq!(
            gate.discarded().refused,
            998 + 1_000,
            "shown or not, none came back"
        );
    }

    #[test]
    fn what_the_library_has_in_hand_is_not_refused_yet() {
        let gate = Gate::default();
        assert!(gate.admits(now(), &rtp(1)));
        assert_eq!(gate.discarded().refused, 0);
        gate.taken(Some(1));
        gate.next();
        assert!(gate.admits(now(), &rtp(1)));
        gate.next();
        assert_eq!(gate.discarded().refused, 1);
    }

    #[test]
    fn every_first_octet_is_the_librarys_or_counted() {
        let gate = Gate::default();
        let admitted =
            (0..=255).filter(|first| gate.admits(now(), &[&[*first, 0xff][..], &[9; 40]].concat()));
        let admitted = admitted.count() as u64;
        let discarded = gate.discarded();
        assert_eq!(discarded.unknown, 16 + 48 + 64);
        assert_eq!(admitted + discarded.total(), 256);
        assert!(!gate.admits(now(), &[]));
    }
}
