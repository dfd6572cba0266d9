//! Feedback about video as RTCP (RFC 4585, RFC 5104, REMB).

use rtc_rtcp::Packet;
use rtc_rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use siprtc_core::media::{Feedback, FeedbackKinds};

/// Sequence numbers of one compound packet that are read, or written.
pub(crate) const MOST_LOST: usize = 256;

/// What the peer says of our stream `ours`. A media source of 0 is ours, too: some telephones do not fill it in.
pub fn read(packets: &[Box<dyn Packet>], ours: u32) -> Vec<Feedback> {
    let is_ours = |ssrc: u32| ssrc == ours || ssrc == 0;
    let mut told = Vec::new();
    let mut lost: Vec<u16> = Vec::new();
    let mut wants_key_frame = false;
    for packet in packets {
        let packet = packet.as_any();
        if let Some(pli) = packet.downcast_ref::<PictureLossIndication>() {
            wants_key_frame |= is_ours(pli.media_ssrc);
        } else if let Some(fir) = packet.downcast_ref::<FullIntraRequest>() {
            wants_key_frame |= fir.fir.iter().any(|entry| is_ours(entry.ssrc));
        } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            if is_ours(nack.media_ssrc) {
                lost.extend(nack.nacks.iter().flat_map(|pair| pair.packet_list()));
                lost.truncate(MOST_LOST);
            }
        } else if let Some(remb) = packet.downcast_ref::<ReceiverEstimatedMaximumBitrate>()
            && remb.ssrcs.iter().any(|ssrc| is_ours(*ssrc))
            && remb.bitrate.is_finite()
        {
            told.push(Feedback::Bitrate(remb.bitrate.max(0.0) as u64));
        }
    }
    if !lost.is_empty() {
        told.push(Feedback::Lost(lost));
    }
    if wants_key_frame {
        told.push(Feedback::KeyFrame);
    }
    told
}

/// The RTCP packet that says it, if the peer understands one. `request` counts key frames that were asked for (RFC 5104
/// section 4.3.1.2).
pub(crate) fn packet(
    feedback: &Feedback,
    kinds: FeedbackKinds,
    (ours, theirs): (u32, u32),
    request: u8,
) -> Option<Box<dyn Packet>> {
    Some(match feedback {
        Feedback::KeyFrame if kinds.pli => Box::new(PictureLossIndication {
            sender_ssrc: ours,
            media_ssrc: theirs,
        }),
        Feedback::KeyFrame if kinds.fir => Box::new(FullIntraRequest {
            sender_ssrc: ours,
            media_ssrc: 0,
            fir: vec![FirEntry {
                ssrc: theirs,
                sequence_number: request,
            }],
        }),
        Feedback::Lost(lost) if kinds.nack && !lost.is_empty() => Box::new(TransportLayerNack {
            sender_ssrc: ours,
            media_ssrc: theirs,
            nacks: nack_pairs_from_sequence_numbers(lost.get(..MOST_LOST).unwrap_or(lost)),
        }),
        Feedback::Bitrate(rate) if kinds.remb => Box::new(ReceiverEstimatedMaximumBitrate {
            sender_ssrc: ours,
            bitrate: *rate as f32,
            ssrcs: vec![theirs],
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_rtcp::packet::{marshal, unmarshal};

    fn over_the_wire(feedback: Feedback, kinds: FeedbackKinds, to: u32) -> Vec<Feedback> {
        let Some(packet) = packet(&feedback, kinds, (1, 2), 7) else {
            return Vec::new();
        };
        let mut wire = marshal(&[packet]).unwrap().freeze();
        read(&unmarshal(&mut wire).unwrap(), to)
    }

    #[test]
    fn what_is_told_is_heard_by_whom_it_is_about() {
        let fir = FeedbackKinds {
            fir: true,
            ..FeedbackKinds::default()
        };
        for (feedback, kinds) in [
            (Feedback::KeyFrame, FeedbackKinds::OURS),
            (Feedback::KeyFrame, fir),
            (Feedback::Lost(vec![65_535, 0, 3, 40]), FeedbackKinds::OURS),
            (Feedback::Bitrate(1_000_000), FeedbackKinds::OURS),
        ] {
            assert_eq!(over_the_wire(feedback.clone(), kinds, 2), vec![feedback.clone()]);
            assert_eq!(over_the_wire(feedback, kinds, 3), vec![]);
        }
    }

    #[test]
    fn what_the_peer_does_not_understand_is_not_told() {
        for feedback in [Feedback::KeyFrame, Feedback::Lost(vec![1]), Feedback::Bitrate(1)] {
            assert_eq!(over_the_wire(feedback, FeedbackKinds::default(), 2), vec![]);
        }
        assert_eq!(
            over_the_wire(Feedback::Lost(Vec::new()), FeedbackKinds::OURS, 2),
            vec![]
        );
    }

    #[test]
    fn a_flood_of_losses_is_cut() {
        let all: Vec<u16> = (0..1_000).collect();
        let heard = over_the_wire(Feedback::Lost(all), FeedbackKinds::OURS, 2);
        assert!(matches!(heard.as_slice(), [Feedback::Lost(lost)] if lost.len() == MOST_LOST));
    }
}
