//! The place in the library's packet chain where we take inbound RTP and do RTCP.
//!
//! Every decrypted packet passes here before the library looks for the track that owns its SSRC. The library drops
//! a stream that was neither declared in the SDP nor the first of the call, and so a call would fall silent when a
//! SIP peer is transferred or changes its source. Here an SSRC does not matter.

use crate::gate::Gate;
use parking_lot::Mutex;
use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp::header::Header;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;
use siprtc_core::media::{PacketSink, RtpPacket, VideoPort};
use siprtc_rtp::{PayloadTypes, Reports, feedback};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// Video's part of the packets, which share their transport with audio's.
pub(crate) struct VideoTap {
    pub(crate) port: Arc<dyn VideoPort>,
    pub(crate) reports: Mutex<Reports>,
    /// Of our stream.
    pub(crate) ssrc: u32,
    pub(crate) payload_types: PayloadTypes,
    /// The element of the peer's packets by which it is told when they came; 0: there is none.
    pub(crate) transport_sequence: AtomicU8,
}

impl VideoTap {
    /// A packet's number of its transport's.
    fn number_of(&self, header: &Header) -> Option<u16> {
        let element = header.get_extension(self.transport_sequence.load(Ordering::Acquire))?;
        element.first_chunk().copied().map(u16::from_be_bytes)
    }
}

/// Takes inbound RTP and RTCP, watches outbound RTP, and writes our reports.
pub(crate) struct Tap {
    packets: Arc<dyn PacketSink>,
    reports: Arc<Mutex<Reports>>,
    video: Option<Arc<VideoTap>>,
    gate: Arc<Gate>,
    /// Emptied by the chain after each call, so that it holds a packet or two.
    writes: VecDeque<TaggedPacket>,
}

impl Tap {
    pub(crate) fn new(
        packets: Arc<dyn PacketSink>,
        reports: Arc<Mutex<Reports>>,
        video: Option<Arc<VideoTap>>,
    ) -> Self {
        Tap {
            packets,
            reports,
            video,
            gate: Arc::default(),
            writes: VecDeque::new(),
        }
    }

    /// What comes here has come by this one.
    pub(crate) fn behind(mut self, gate: Arc<Gate>) -> Self {
        self.gate = gate;
        self
    }

    /// RFC 9143 section 9.2: in one transport, the payload type tells the section.
    fn video_of(&self, payload_type: u8) -> Option<&VideoTap> {
        self.video
            .as_deref()
            .filter(|video| video.payload_types.has(payload_type))
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        match message.message.packet {
            Packet::Rtp(packet) => {
                let header = packet.header;
                self.gate.taken(Some(header.ssrc));
                let video = self.video_of(header.payload_type);
                let reports = video.map_or(&*self.reports, |video| &video.reports);
                reports.lock().rtp_received(
                    message.now,
                    header.ssrc,
                    header.payload_type,
                    (header.sequence_number, header.timestamp),
                    packet.payload.len(),
                );
                if let Some((video, number)) =
                    video.and_then(|video| Some((video, video.number_of(&header)?)))
                {
                    (video.reports.lock()).arrived(message.now, header.ssrc, number);
                }
                let packet = RtpPacket {
                    payload_type: header.payload_type,
                    marker: header.marker,
                    sequence: header.sequence_number,
                    timestamp: header.timestamp,
                    ssrc: header.ssrc,
                    payload: packet.payload,
                };
                match video {
                    Some(video) => video.port.push(packet),
                    None => self.packets.push(packet),
                }
            }
            Packet::Rtcp(packets) => {
                self.gate.taken(sender(&packets));
                self.reports.lock().rtcp_received(message.now, &packets);
                if let Some(video) = &self.video {
                    video.reports.lock().rtcp_received(message.now, &packets);
                    for told in feedback::read(&packets, video.ssrc) {
                        video.port.feedback(told);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        None
    }

    fn handle_write(&mut self, mut message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &mut message.message.packet {
            let header = &mut packet.header;
            if let Some(payload_type) = header.csrc.pop() {
                header.payload_type = (payload_type & 0x7f) as u8;
            }
            let video = self.video_of(header.payload_type);
            if let Some(video) = video {
                header.ssrc = video.ssrc;
            }
            let reports = video.map_or(&*self.reports, |video| &video.reports);
            reports.lock().rtp_sent(
                message.now,
                header.payload_type,
                header.timestamp,
                packet.payload.len(),
            );
        }
        self.writes.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        let audio = self.reports.lock().handle_timeout(now);
        let video = self
            .video
            .as_ref()
            .and_then(|video| video.reports.lock().handle_timeout(now));
        for report in audio.into_iter().chain(video) {
            self.writes.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(report)),
            });
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let audio = self.reports.lock().poll_timeout();
        let video = self
            .video
            .as_ref()
            .and_then(|video| video.reports.lock().poll_timeout());
        audio.into_iter().chain(video).min()
    }
}

/// Whose report it is.
fn sender(packets: &[Box<dyn rtcp::Packet>]) -> Option<u32> {
    let first = packets.first()?.as_any();
    let of_sender = first.downcast_ref::<SenderReport>().map(|report| report.ssrc);
    of_sender.or_else(|| first.downcast_ref::<ReceiverReport>().map(|report| report.ssrc))
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
    use rtc::rtp;
    use siprtc_core::media::Feedback;
    use std::time::Duration;
    use std::time::UNIX_EPOCH;

    #[derive(Default)]
    struct Seen(Mutex<Vec<RtpPacket>>);

    impl PacketSink for Seen {
        fn push(&self, packet: RtpPacket) {
            self.0.lock().push(packet);
        }
    }

    fn tap() -> (Tap, Arc<Seen>, Instant) {
        let now = tokio::time::Instant::now().into_std();
        let seen = Arc::new(Seen::default());
        let reports = Arc::new(Mutex::new(Reports::new(now, UNIX_EPOCH, 7, "us".to_owned())));
        (Tap::new(seen.clone(), reports, None), seen, now)
    }

    fn rtp(now: Instant, ssrc: u32, payload_type: u8, csrc: Vec<u32>) -> TaggedPacket {
        let header = rtp::header::Header {
            version: 2,
            ssrc,
            payload_type,
            csrc,
            ..Default::default()
        };
        let packet = rtp::Packet {
            header,
            payload: Bytes::from_static(b"sound"),
        };
        let message = AttributedPacket::new(Packet::Rtp(packet));
        TaggedPacket {
            now,
            transport: TransportContext::default(),
            message,
        }
    }

    #[test]
    fn videos_sender_is_told_when_its_numbered_packets_came() {
        struct Nobody;
        impl VideoPort for Nobody {
            fn push(&self, _: RtpPacket) {}
            fn feedback(&self, _: Feedback) {}
        }
        let (tap, _, now) = tap();
        let video = VideoTap {
            port: Arc::new(Nobody),
            reports: Mutex::new(Reports::new(now, UNIX_EPOCH, 8, "us".to_owned())),
            ssrc: 8,
            payload_types: PayloadTypes::default(),
            transport_sequence: AtomicU8::new(5),
        };
        video.payload_types.set([96].into_iter());
        let mut tap = Tap {
            video: Some(Arc::new(video)),
            ..tap
        };
        let numbered = |payload_type: u8, number: u8| {
            let mut packet = rtp(now, 9, payload_type, Vec::new());
            if let Packet::Rtp(packet) = &mut packet.message.packet {
                packet
                    .header
                    .set_extension(5, Bytes::from(vec![0, number]))
                    .unwrap();
            }
            packet
        };
        // The audio's element of that number is another one.
        for (payload_type, number) in [(0, 3), (96, 4), (96, 6)] {
            tap.handle_read(numbered(payload_type, number)).unwrap();
        }
        tap.handle_timeout(now + Duration::from_millis(100)).unwrap();
        let Some(Packet::Rtcp(packets)) = tap.poll_write().map(|written| written.message.packet) else {
            panic!("nothing was told");
        };
        let told = packets
            .iter()
            .find_map(|packet| packet.as_any().downcast_ref::<TransportLayerCc>());
        let told = told.expect("when they came");
        assert_eq!(
            (
                told.media_ssrc,
                told.base_sequence_number,
                told.packet_status_count
            ),
            (9, 4, 3)
        );
    }

    #[test]
    fn every_stream_and_payload_type_arrives_even_when_the_source_changes_in_the_call() {
        let (mut tap, seen, now) = tap();
        for (ssrc, payload_type) in [(1, 0), (2, 0), (1, 101), (3, 77)] {
            tap.handle_read(rtp(now, ssrc, payload_type, Vec::new())).unwrap();
        }
        let seen: Vec<(u32, u8)> = seen
            .0
            .lock()
            .iter()
            .map(|packet| (packet.ssrc, packet.payload_type))
            .collect();
        assert_eq!(seen, [(1, 0), (2, 0), (1, 101), (3, 77)]);
        assert!(tap.poll_read().is_none(), "the library gets none of it");
    }

    #[test]
    fn an_outbound_packet_gets_its_payload_type_and_loses_the_mark_that_told_it() {
        let (mut tap, _, now) = tap();
        tap.handle_write(rtp(now, 7, 0, vec![111])).unwrap();
        let Some(Packet::Rtp(packet)) = tap.poll_write().map(|written| written.message.packet) else {
            panic!("nothing was written");
        };
        assert_eq!(
            (packet.header.payload_type, packet.header.csrc),
            (111, Vec::new())
        );
    }

    #[test]
    fn a_report_is_written_a_second_after_the_first_packet() {
        let (mut tap, _, now) = tap();
        tap.handle_write(rtp(now, 7, 0, vec![0])).unwrap();
        tap.poll_write().unwrap();
        let due = tap.poll_timeout().unwrap();
        tap.handle_timeout(due).unwrap();
        assert!(
            matches!(tap.poll_write().unwrap().message.packet, Packet::Rtcp(report) if report.len() == 2)
        );
        assert!(tap.poll_write().is_none());
    }
}
