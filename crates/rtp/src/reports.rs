//! RTCP of one peer (RFC 3550 section 6), sans-IO: what we sent and received, the reports we owe, and what the peer
//! reports about us.
//!
//! The library has interceptors for this, which we do not use: they read report blocks only from receiver reports
//! while a peer that also sends puts them into its sender reports; they never compute a round trip; and a stream
//! whose SSRC changes in a call is not reported at all.

use crate::arrivals::Arrivals;
use crate::feedback;
use bytes::Bytes;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use siprtc_core::media::{Feedback, FeedbackKinds};
use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two reports of ours. RFC 3550 section 6.2 allows less than its 5 s where the bandwidth is known; a call's
/// quality display wants a new number each second.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Streams from the peer that we report on; when full, the one that has been silent longest goes.
const MAX_SOURCES: usize = 4;
/// RFC 3550 appendix A.1: a larger jump of the sequence number is a restarted stream.
const MAX_DROPOUT: u16 = 3000;
/// A longer round trip than this is a broken report.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(30);
/// Seconds from NTP's epoch, 1900, to Unix's.
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// What the peer says about the stream that we send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RemoteView {
    /// Of our packets since its last report, 0 to 1.
    pub loss: f64,
    /// As it sees it; `None` while the clock rate is unknown.
    pub jitter: Option<Duration>,
    /// From its echo of our reports.
    pub round_trip: Option<Duration>,
}

/// Packets and payload octets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Payload octets.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// The reports of one peer.
pub struct Reports {
    ssrc: u32,
    cname: Bytes,
    start: Instant,
    /// NTP time at `start`.
    ntp_start: u64,
    clock_rates: [u32; 128],
    sent: Count,
    sent_at_report: u64,
    /// Our last packet: its timestamp, when it went, and its clock rate.
    last_sent: Option<(u32, Instant, u32)>,
    received: Count,
    sources: Vec<Source>,
    remote: Option<RemoteView>,
    next_report: Option<Instant>,
    arrivals: Arrivals,
    /// Key frames that were asked for.
    requests: u8,
}

impl Reports {
    /// For our stream `ssrc`, from `now` on, which is `wall_clock`.
    pub fn new(now: Instant, wall_clock: SystemTime, ssrc: u32, cname: String) -> Self {
        let mut clock_rates = [8_000; 128];
        // RFC 3551 section 5: 72 to 76 would be RTCP, the dynamic ones are told by `set_clock_rates`.
        clock_rates[96..].fill(0);
        Reports {
            ssrc,
            cname: cname.into(),
            start: now,
            ntp_start: ntp(wall_clock.duration_since(UNIX_EPOCH).unwrap_or_default()),
            clock_rates,
            sent: Count::default(),
            sent_at_report: 0,
            last_sent: None,
            received: Count::default(),
            sources: Vec::new(),
            remote: None,
            next_report: None,
            arrivals: Arrivals::new(now),
            requests: 0,
        }
    }

    /// What the descriptions say of each payload type's clock rate in Hz; zero means "says nothing about time".
    pub fn set_clock_rates(&mut self, rates: impl IntoIterator<Item = (u8, u32)>) {
        for (payload_type, rate) in rates {
            if let Some(slot) = self.clock_rates.get_mut(usize::from(payload_type)) {
                *slot = rate;
            }
        }
    }

    /// Our canonical name (RFC 3550 section 6.5.1).
    pub fn cname(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.cname)
    }

    /// RTP of ours.
    pub fn sent(&self) -> Count {
        self.sent
    }

    /// RTP of the peer's.
    pub fn received(&self) -> Count {
        self.received
    }

    /// What its last report said of us.
    pub fn remote(&self) -> Option<RemoteView> {
        self.remote
    }

    /// A packet of ours goes out.
    pub fn rtp_sent(&mut self, now: Instant, payload_type: u8, timestamp: u32, bytes: usize) {
        self.arm(now);
        self.sent.add(bytes);
        let clock = self.clock(payload_type);
        if clock != 0 {
            self.last_sent = Some((timestamp, now, clock));
        }
    }

    /// A packet of the peer's came in.
    pub fn rtp_received(
        &mut self,
        now: Instant,
        ssrc: u32,
        payload_type: u8,
        (sequence, timestamp): (u16, u32),
        bytes: usize,
    ) {
        self.arm(now);
        self.received.add(bytes);
        let clock = self.clock(payload_type);
        let arrival = scaled(now.saturating_duration_since(self.start), clock);
        self.source(ssrc, sequence, now).packet(
            now,
            sequence,
            (clock != 0).then_some((clock, arrival, timestamp)),
        );
    }

    /// It had this number of its transport's: its sender is told when it came (`transport-cc`).
    pub fn arrived(&mut self, now: Instant, ssrc: u32, transport_sequence: u16) {
        self.arrivals.push(now, ssrc, transport_sequence);
    }

    /// RTCP of the peer's came in.
    pub fn rtcp_received(&mut self, now: Instant, packets: &[Box<dyn rtc_rtcp::Packet>]) {
        for packet in packets {
            let packet = packet.as_any();
            if let Some(report) = packet.downcast_ref::<SenderReport>() {
                if let Some(source) = self.sources.iter_mut().find(|source| source.ssrc == report.ssrc) {
                    source.last_sender_report = Some((middle(report.ntp_time), now));
                }
                self.blocks_received(now, &report.reports);
            } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                self.blocks_received(now, &report.reports);
            }
        }
    }

    /// When [`Reports::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let told = self.arrivals.poll_timeout();
        self.next_report.into_iter().chain(told).min()
    }

    /// The compound packet that is due, if one is (RFC 3550 section 6.1: a report, then the CNAME), with what its sender is told of the
    /// packets that came.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Vec<Box<dyn rtc_rtcp::Packet>>> {
        let report = self.report(now);
        let Some(told) = self.arrivals.handle_timeout(now, self.ssrc) else {
            return report;
        };
        let mut compound = report.unwrap_or_else(|| self.no_report());
        compound.push(Box::new(told));
        Some(compound)
    }

    fn report(&mut self, now: Instant) -> Option<Vec<Box<dyn rtc_rtcp::Packet>>> {
        if self.next_report.is_none_or(|due| now < due) {
            return None;
        }
        self.next_report = Some(now + REPORT_INTERVAL);
        let reports = self
            .sources
            .iter_mut()
            .filter_map(|source| source.block(now))
            .collect();
        let sending = self.sent.packets != self.sent_at_report;
        self.sent_at_report = self.sent.packets;
        let report: Box<dyn rtc_rtcp::Packet> = match self.last_sent.filter(|_| sending) {
            Some((timestamp, at, clock)) => Box::new(SenderReport {
                ssrc: self.ssrc,
                ntp_time: self.ntp_now(now),
                rtp_time: timestamp.wrapping_add(scaled(now.saturating_duration_since(at), clock)),
                packet_count: self.sent.packets as u32,
                octet_count: self.sent.bytes as u32,
                reports,
                profile_extensions: Bytes::new(),
            }),
            None => Box::new(ReceiverReport {
                ssrc: self.ssrc,
                reports,
                profile_extensions: Bytes::new(),
            }),
        };
        Some(vec![report, Box::new(self.description())])
    }

    /// The report before a BYE (RFC 3550 section 6.6), whenever the last one was.
    pub fn last(&mut self, now: Instant) -> Vec<Box<dyn rtc_rtcp::Packet>> {
        self.next_report = Some(now);
        self.handle_timeout(now).unwrap_or_default()
    }

    /// The compound packet that tells the peer what we miss of its stream (RFC 4585 section 3.1: a report, the CNAME, the message).
    /// `None` before its first packet, or if it does not understand this.
    pub fn feedback(
        &mut self,
        feedback: &Feedback,
        kinds: FeedbackKinds,
    ) -> Option<Vec<Box<dyn rtc_rtcp::Packet>>> {
        let theirs = self.sources.iter().max_by_key(|source| source.heard)?.ssrc;
        let told = feedback::packet(feedback, kinds, (self.ssrc, theirs), self.requests)?;
        if *feedback == Feedback::KeyFrame {
            self.requests = self.requests.wrapping_add(1);
        }
        let mut compound = self.no_report();
        compound.push(told);
        Some(compound)
    }

    /// What a compound packet begins with that is due for something else (RFC 4585 section 3.1).
    fn no_report(&self) -> Vec<Box<dyn rtc_rtcp::Packet>> {
        let report = ReceiverReport {
            ssrc: self.ssrc,
            reports: Vec::new(),
            profile_extensions: Bytes::new(),
        };
        vec![Box::new(report), Box::new(self.description())]
    }

    /// Our stream.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    fn description(&self) -> SourceDescription {
        let cname = SourceDescriptionItem {
            sdes_type: SdesType::SdesCname,
            text: self.cname.clone(),
        };
        SourceDescription {
            chunks: vec![SourceDescriptionChunk {
                source: self.ssrc,
                items: vec![cname],
            }],
        }
    }

    fn blocks_received(&mut self, now: Instant, blocks: &[ReceptionReport]) {
        for block in blocks.iter().filter(|block| block.ssrc == self.ssrc) {
            let clock = self.last_sent.map_or(0, |(_, _, clock)| clock);
            let jitter =
                (clock != 0).then(|| Duration::from_secs_f64(f64::from(block.jitter) / f64::from(clock)));
            let round_trip = self
                .round_trip(now, block)
                .or(self.remote.and_then(|view| view.round_trip));
            self.remote = Some(RemoteView {
                loss: f64::from(block.fraction_lost) / 256.0,
                jitter,
                round_trip,
            });
        }
    }

    /// RFC 3550 section 6.4.1: now, less our report's time as the peer echoes it, less how long the peer held it.
    fn round_trip(&self, now: Instant, block: &ReceptionReport) -> Option<Duration> {
        if block.last_sender_report == 0 {
            return None;
        }
        let units = middle(self.ntp_now(now))
            .wrapping_sub(block.last_sender_report)
            .wrapping_sub(block.delay) as i32;
        let round_trip = Duration::from_secs_f64(f64::from(units.max(0)) / 65_536.0);
        (round_trip <= MAX_ROUND_TRIP).then_some(round_trip)
    }

    fn source(&mut self, ssrc: u32, sequence: u16, now: Instant) -> &mut Source {
        if let Some(index) = self.sources.iter().position(|source| source.ssrc == ssrc) {
            return &mut self.sources[index];
        }
        if self.sources.len() == MAX_SOURCES {
            let silent = self
                .sources
                .iter()
                .enumerate()
                .min_by_key(|(_, source)| source.heard)
                .map(|(i, _)| i);
            self.sources.swap_remove(silent.unwrap_or_default());
        }
        self.sources.push(Source::new(ssrc, sequence, now));
        let last = self.sources.len() - 1;
        &mut self.sources[last]
    }

    fn arm(&mut self, now: Instant) {
        self.next_report.get_or_insert(now + REPORT_INTERVAL);
    }

    fn clock(&self, payload_type: u8) -> u32 {
        self.clock_rates
            .get(usize::from(payload_type))
            .copied()
            .unwrap_or(0)
    }

    fn ntp_now(&self, now: Instant) -> u64 {
        self.ntp_start
            .wrapping_add(fixed_point(now.saturating_duration_since(self.start)))
    }
}

/// Reception of one stream (RFC 3550 appendix A).
struct Source {
    ssrc: u32,
    heard: Instant,
    heard_since_report: bool,
    base: u32,
    /// The highest sequence number, extended by its cycles.
    highest: u32,
    received: u64,
    expected_at_report: u64,
    received_at_report: u64,
    /// Clock rate and transit time of the last packet, and the jitter, in clock units.
    transit: Option<(u32, u32)>,
    jitter: f64,
    /// The middle of the peer's NTP time, and when it came.
    last_sender_report: Option<(u32, Instant)>,
}

impl Source {
    fn new(ssrc: u32, sequence: u16, now: Instant) -> Self {
        Source {
            ssrc,
            heard: now,
            heard_since_report: false,
            base: u32::from(sequence),
            highest: u32::from(sequence),
            received: 0,
            expected_at_report: 0,
            received_at_report: 0,
            transit: None,
            jitter: 0.0,
            last_sender_report: None,
        }
    }

    fn packet(&mut self, now: Instant, sequence: u16, timing: Option<(u32, u32, u32)>) {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        let behind = (self.highest as u16).wrapping_sub(sequence);
        if ahead.min(behind) > MAX_DROPOUT {
            let kept = self.last_sender_report;
            *self = Source {
                last_sender_report: kept,
                ..Source::new(self.ssrc, sequence, now)
            };
        } else if ahead < behind {
            self.highest = self.highest.wrapping_add(u32::from(ahead));
        }
        self.heard = now;
        self.heard_since_report = true;
        self.received += 1;
        let Some((clock, arrival, timestamp)) = timing else {
            return;
        };
        let transit = arrival.wrapping_sub(timestamp);
        if let Some((_, last)) = self.transit.filter(|(last_clock, _)| *last_clock == clock) {
            let difference = f64::from((transit.wrapping_sub(last) as i32).unsigned_abs());
            self.jitter += (difference - self.jitter) / 16.0;
        }
        self.transit = Some((clock, transit));
    }

    /// The report block, when there was a packet since the last one (RFC 3550 section 6.4.1).
    fn block(&mut self, now: Instant) -> Option<ReceptionReport> {
        if !std::mem::take(&mut self.heard_since_report) {
            return None;
        }
        let expected = u64::from(self.highest.wrapping_sub(self.base)) + 1;
        let lost = expected.saturating_sub(self.received);
        let expected_interval = expected.saturating_sub(self.expected_at_report);
        let received_interval = self.received.saturating_sub(self.received_at_report);
        let lost_interval = expected_interval.saturating_sub(received_interval);
        self.expected_at_report = expected;
        self.received_at_report = self.received;
        let (last_sender_report, delay) = match self.last_sender_report {
            Some((time, came)) => (time, scaled(now.saturating_duration_since(came), 65_536)),
            None => (0, 0),
        };
        Some(ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: (lost_interval * 256)
                .checked_div(expected_interval)
                .unwrap_or(0)
                .min(255) as u8,
            // 24 bits on the wire.
            total_lost: lost.min(0x7f_ffff) as u32,
            last_sequence_number: self.highest,
            jitter: self.jitter as u32,
            last_sender_report,
            delay,
        })
    }
}

/// A duration in units of a clock, modulo 2^32.
fn scaled(duration: Duration, clock: u32) -> u32 {
    (duration.as_micros() * u128::from(clock) / 1_000_000) as u32
}

/// NTP time: seconds in the upper half, fractions in the lower.
fn ntp(since_unix_epoch: Duration) -> u64 {
    (NTP_UNIX_OFFSET << 32).wrapping_add(fixed_point(since_unix_epoch))
}

fn fixed_point(duration: Duration) -> u64 {
    ((duration.as_nanos() << 32) / 1_000_000_000) as u64
}

fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
mod tests;
