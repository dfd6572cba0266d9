//! The same codec on both sides: packets are renumbered and otherwise left alone.

use super::{BridgeStats, Kind, is_event, kind, noise_type};
use crate::codec;
use crate::dtmf::EventPacket;
use crate::stats::{Reception, Verdict};
use siprtc_core::media::{NegotiatedAudio, RtpPacket};
use siprtc_core::{Error, Fault, Result};

/// After the source changed, so many packets of the old one are taken for stragglers; then it may come back.
const STRAGGLERS: u32 = 50;
/// A timestamp that jumps back by more than this many seconds, with the sequence number going on, begins anew.
const MAX_BACK: i32 = 3;
/// Or ahead by more than this.
const MAX_AHEAD: i32 = 300;

/// Rewrites payload types, sequence numbers and timestamps, so that the outbound stream goes on without a jump when the
/// inbound source changes its SSRC or begins anew. Loss and reordering pass through as they are. Nothing is allocated
/// for a packet: the payload is shared.
///
/// ```
/// use siprtc_core::media::{Codec, NegotiatedAudio, RtpPacket};
/// use siprtc_media_session::PassThrough;
///
/// let to = NegotiatedAudio { payload_type: 96, ..NegotiatedAudio::of(Codec::Opus) };
/// let mut pass = PassThrough::starting_at(NegotiatedAudio::of(Codec::Opus), to, 500, 0)?;
/// let packet = |ssrc, sequence, timestamp| RtpPacket {
///     payload_type: 111, marker: false, sequence, timestamp, ssrc, payload: vec![0xf8, 1, 2].into(),
/// };
/// let first = pass.rewrite(&packet(1, 9, 44)).unwrap();
/// let other = pass.rewrite(&packet(2, 70, 7_000)).unwrap();
/// assert_eq!((first.sequence, other.sequence, other.timestamp, other.payload_type), (500, 501, 960, 96));
/// # Ok::<(), siprtc_core::Error>(())
/// ```
#[derive(Debug)]
pub struct PassThrough {
    from: NegotiatedAudio,
    to: NegotiatedAudio,
    reception: Reception,
    source: Option<Source>,
    /// The source before, and how many of its packets were dropped since.
    former: Option<(u32, u32)>,
    /// The next packet's, when the source changes.
    sequence: u16,
    timestamp: u32,
    /// A digit of ours sounds: what comes in is not sent.
    muted: bool,
    stats: BridgeStats,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    /// What is added to its numbers.
    sequence: u16,
    timestamp: u32,
    /// Its own highest sequence number and the timestamp with it.
    highest: u16,
    last: u32,
    /// The last of its packets that was left out: numbers up to it have been given to others.
    floor: Option<u16>,
}

impl PassThrough {
    /// From what was agreed with the side that sends to what was agreed with the side that hears it. Begins with a random
    /// sequence number and timestamp.
    ///
    /// Errors: [`Fault::ApiMisuse`] when the codecs or the clocks of telephone-event differ: a
    /// [`Transcoder`](crate::Transcoder) is needed.
    pub fn new(from: NegotiatedAudio, to: NegotiatedAudio) -> Result<Self> {
        Self::starting_at(from, to, rand::random::<u16>() & 0x7fff, rand::random())
    }

    /// The same, going on from packets that were sent before: `sequence` and `timestamp` are the next packet's.
    pub fn starting_at(
        from: NegotiatedAudio,
        to: NegotiatedAudio,
        sequence: u16,
        timestamp: u32,
    ) -> Result<Self> {
        let clocks = |audio: &NegotiatedAudio| audio.telephone_event.map(|(_, clock)| clock);
        let clocks_differ =
            matches!((clocks(&from), clocks(&to)), (Some(inbound), Some(outbound)) if inbound != outbound);
        if from.codec != to.codec || clocks_differ {
            let what = format!(
                "{} and {}, or their telephone-events, differ",
                from.codec, to.codec
            );
            return Err(Error::new(Fault::ApiMisuse, "pass packets through", what).advice("use a Transcoder"));
        }
        Ok(PassThrough {
            from,
            to,
            reception: Reception::default(),
            source: None,
            former: None,
            sequence,
            timestamp,
            muted: false,
            stats: BridgeStats::default(),
        })
    }

    /// The packet as it is sent on; `None` for one that is not.
    pub fn rewrite(&mut self, packet: &RtpPacket) -> Option<RtpPacket> {
        self.pass(packet.clone())
    }

    /// As [`PassThrough::rewrite`], without even a new reference to the payload.
    pub fn pass(&mut self, packet: RtpPacket) -> Option<RtpPacket> {
        self.stats.received += 1;
        if self.is_straggler(packet.ssrc) {
            self.stats.late += 1;
            return None;
        }
        let verdict = self.reception.packet(packet.ssrc, packet.sequence);
        match verdict {
            Verdict::Duplicate => {
                self.stats.duplicates += 1;
                return None;
            }
            Verdict::Stray => {
                self.stats.dropped += 1;
                return None;
            }
            Verdict::New | Verdict::Restarted => {}
        }
        let fresh = verdict == Verdict::Restarted || self.source.is_none();
        if fresh {
            self.begin(&packet);
        }
        let mut source = self.source?;
        let payload_type = self.payload_type(packet.payload_type).filter(|_| !self.muted);
        let ahead = packet.sequence.wrapping_sub(source.highest) as i16;
        let Some(payload_type) = payload_type else {
            self.leave_out(&packet, source);
            return None;
        };
        if source
            .floor
            .is_some_and(|floor| packet.sequence.wrapping_sub(floor) as i16 <= 0)
        {
            // Its number was given to another since.
            self.stats.late += 1;
            return None;
        }
        if ahead > 0 {
            self.follow_timestamp(packet.timestamp, &mut source);
            (source.highest, source.last) = (packet.sequence, packet.timestamp);
        }
        self.source = Some(source);
        let duration = self.duration(&packet);
        let sent = RtpPacket {
            payload_type,
            marker: packet.marker || fresh,
            sequence: packet.sequence.wrapping_add(source.sequence),
            timestamp: packet.timestamp.wrapping_add(source.timestamp),
            ssrc: 0,
            payload: packet.payload,
        };
        if ahead >= 0 {
            self.sequence = sent.sequence.wrapping_add(1);
            self.timestamp = sent.timestamp.wrapping_add(duration);
        }
        self.stats.sent += 1;
        Some(sent)
    }

    /// A packet of an event of our own, in the same stream: its number is the next one's, and later ones move up. Until the
    /// event's last packet what comes in is left out, as a source is not heard under a digit.
    pub(crate) fn insert(&mut self, payload_type: u8, event: EventPacket) -> RtpPacket {
        if let Some(source) = &mut self.source {
            source.sequence = source.sequence.wrapping_add(1);
            // What comes late belongs before this number, and its own is given away.
            source.floor = Some(source.highest);
        }
        self.muted = !event.last;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let end = event.timestamp.wrapping_add(event.covers);
        if end.wrapping_sub(self.timestamp) as i32 > 0 {
            self.timestamp = end;
        }
        self.stats.sent += 1;
        RtpPacket {
            payload_type,
            marker: event.marker,
            sequence,
            timestamp: event.timestamp,
            ssrc: 0,
            payload: event.payload,
        }
    }

    /// The RTP clock in Hz.
    pub(crate) fn clock(&self) -> u32 {
        self.to.codec.clock_rate()
    }

    /// Whether a payload type is that of events, inbound.
    pub(crate) fn is_event(&self, payload_type: u8) -> bool {
        is_event(payload_type, &self.from)
    }

    /// Whether a payload type is the inbound codec's.
    pub(crate) fn is_audio(&self, payload_type: u8) -> bool {
        kind(payload_type, &self.from) == Kind::Audio
    }

    /// The next packet's sequence number and timestamp, for whoever goes on with this stream.
    #[must_use]
    pub fn next(&self) -> (u16, u32) {
        (self.sequence, self.timestamp)
    }

    /// The numbers so far.
    #[must_use]
    pub fn stats(&self) -> BridgeStats {
        BridgeStats {
            lost: self.reception.lost(),
            ..self.stats
        }
    }

    fn is_straggler(&mut self, ssrc: u32) -> bool {
        match &mut self.former {
            Some((former, dropped)) if *former == ssrc && *dropped < STRAGGLERS => {
                *dropped += 1;
                true
            }
            _ => false,
        }
    }

    /// The source is new: its numbers go on where the old one's ended.
    fn begin(&mut self, packet: &RtpPacket) {
        self.former = self
            .source
            .map(|old| (old.ssrc, 0))
            .filter(|(ssrc, _)| *ssrc != packet.ssrc);
        self.source = Some(Source {
            ssrc: packet.ssrc,
            sequence: self.sequence.wrapping_sub(packet.sequence),
            timestamp: self.timestamp.wrapping_sub(packet.timestamp),
            highest: packet.sequence,
            last: packet.timestamp,
            floor: None,
        });
    }

    /// A packet that the other side has no payload type for: its number is the next one's, so that nothing seems lost.
    fn leave_out(&mut self, packet: &RtpPacket, mut source: Source) {
        self.stats.dropped += 1;
        let ahead = packet.sequence.wrapping_sub(source.highest) as i16;
        if ahead >= 0 {
            source.sequence = source.sequence.wrapping_sub(1);
            source.highest = packet.sequence;
            source.floor = Some(packet.sequence);
        }
        self.source = Some(source);
    }

    fn follow_timestamp(&mut self, timestamp: u32, source: &mut Source) {
        let clock = self.from.codec.clock_rate() as i32;
        let passed = timestamp.wrapping_sub(source.last) as i32;
        if passed < -MAX_BACK * clock || passed > MAX_AHEAD * clock {
            source.timestamp = self.timestamp.wrapping_sub(timestamp);
        }
    }

    fn payload_type(&self, payload_type: u8) -> Option<u8> {
        match kind(payload_type, &self.from) {
            Kind::Audio => Some(self.to.payload_type),
            Kind::Event => self.to.telephone_event.map(|(payload_type, _)| payload_type),
            Kind::Noise => noise_type(&self.to),
            Kind::Foreign => None,
        }
    }

    fn duration(&self, packet: &RtpPacket) -> u32 {
        let audio = kind(packet.payload_type, &self.from) == Kind::Audio;
        let units = codec::packet_units(self.from.codec, &packet.payload).filter(|_| audio);
        units.unwrap_or(self.from.codec.clock_rate() / 50)
    }
}
