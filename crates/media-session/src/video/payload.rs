//! Frames to RTP payloads and back: VP8 (RFC 7741), VP9 (RFC 9628), H.264 (RFC 6184).
//!
//! Both directions are pure. A frame is assembled from all of its payloads at once, so that nothing of a frame that never ends
//! is kept here. (The `rtc-rtp` crate's readers are not used: one indexes past the end of a STAP-A that is cut short, and keeps
//! fragments without bound.)

use bytes::{BufMut, Bytes, BytesMut};
use siprtc_core::media::VideoCodec;

/// The longest payload: with every header it fits into a datagram that the Internet carries whole.
pub(crate) const LONGEST: usize = 1_180;
/// What begins a NAL unit in a byte stream (H.264 annex B).
pub(crate) const START_CODE: [u8; 4] = [0, 0, 0, 1];

const IDR: u8 = 5;
const AUD: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Why a frame cannot be sent or read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unfit {
    /// A payload breaks its format's RFC.
    Broken,
    /// The frame's first payload is missing.
    NoStart,
    /// A NAL unit is too long for a packet, and the peer takes no fragments.
    TooLong,
    /// There is no reader and no writer for this codec: it is passed through only.
    Unknown,
}

/// Frames to payloads.
#[derive(Debug)]
pub(crate) struct Payloader {
    codec: VideoCodec,
    fragments: bool,
    /// VP8's and VP9's picture id, of 15 bits.
    picture: u16,
}

impl Payloader {
    pub(crate) fn new(codec: VideoCodec, fragments: bool, picture: u16) -> Self {
        Payloader {
            codec,
            fragments,
            picture: picture & 0x7fff,
        }
    }

    /// The payloads of one frame; the last one's packet carries the marker.
    pub(crate) fn payloads(&mut self, frame: &Bytes) -> Result<Vec<Bytes>, Unfit> {
        if frame.is_empty() {
            return Ok(Vec::new());
        }
        self.picture = (self.picture + 1) & 0x7fff;
        match self.codec {
            VideoCodec::H264 => self.h264(frame),
            VideoCodec::Vp8 => Ok(self.vp8(frame)),
            VideoCodec::Vp9 => Ok(self.vp9(frame)),
            _ => Err(Unfit::Unknown),
        }
    }

    /// RFC 7741 section 4.2: X and I, a picture id of two octets; S on the first.
    fn vp8(&self, frame: &Bytes) -> Vec<Bytes> {
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        cut(frame, |first, _| {
            vec![0x80 | u8::from(first) << 4, 0x80, high, low]
        })
    }

    /// RFC 9628 section 4.2, non-flexible mode: I, P unless it is a key frame, B on the first, E on the last.
    fn vp9(&self, frame: &Bytes) -> Vec<Bytes> {
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        let depends = u8::from(!is_key(VideoCodec::Vp9, frame)) << 6;
        cut(frame, |first, last| {
            vec![
                0x80 | depends | u8::from(first) << 3 | u8::from(last) << 2,
                high,
                low,
            ]
        })
    }

    fn h264(&self, frame: &Bytes) -> Result<Vec<Bytes>, Unfit> {
        let mut payloads = Vec::new();
        // RFC 6184 section 5.3: a delimiter says nothing that the marker and the timestamp do not.
        for unit in units(frame).filter(|unit| kind(unit) != Some(AUD)) {
            let unit = frame.slice_ref(unit);
            if unit.len() <= LONGEST {
                payloads.push(unit);
                continue;
            }
            if !self.fragments {
                return Err(Unfit::TooLong);
            }
            let Some((head, rest)) = unit.split_first() else {
                continue;
            };
            let (indicator, unit_kind) = (head & 0xe0 | FU_A, head & 0x1f);
            payloads.extend(cut(&unit.slice_ref(rest), |first, last| {
                vec![indicator, u8::from(first) << 7 | u8::from(last) << 6 | unit_kind]
            }));
        }
        Ok(payloads)
    }
}

/// Pieces of `data`, each behind its header, which is told whether it is the first and whether it is the last.
fn cut(data: &Bytes, head: impl Fn(bool, bool) -> Vec<u8>) -> Vec<Bytes> {
    let room = LONGEST - 4;
    let pieces = data.len().div_ceil(room);
    // Of one size, so that none is needlessly small.
    let size = data.len().div_ceil(pieces.max(1)).max(1);
    let pieces = data.chunks(size).enumerate();
    pieces
        .map(|(index, piece)| {
            let head = head(index == 0, (index + 1) * size >= data.len());
            let mut out = BytesMut::with_capacity(head.len() + piece.len());
            out.put_slice(&head);
            out.put_slice(piece);
            out.freeze()
        })
        .collect()
}

/// One frame of all its payloads, in order.
pub(crate) fn assemble(codec: VideoCodec, payloads: &[Bytes]) -> Result<Bytes, Unfit> {
    let mut frame = BytesMut::with_capacity(payloads.iter().map(Bytes::len).sum::<usize>() + 64);
    match codec {
        VideoCodec::H264 => h264_frame(payloads, &mut frame)?,
        VideoCodec::Vp8 | VideoCodec::Vp9 => {
            for (index, payload) in payloads.iter().enumerate() {
                let descriptor = match codec {
                    VideoCodec::Vp8 => vp8_descriptor(payload),
                    _ => vp9_descriptor(payload),
                };
                let (length, starts) = descriptor.ok_or(Unfit::Broken)?;
                if index == 0 && !starts {
                    return Err(Unfit::NoStart);
                }
                frame.put_slice(payload.get(length..).ok_or(Unfit::Broken)?);
            }
        }
        _ => return Err(Unfit::Unknown),
    }
    match frame.is_empty() {
        true => Err(Unfit::Broken),
        false => Ok(frame.freeze()),
    }
}

/// The length of a VP8 payload descriptor (RFC 7741 section 4.2), and whether a frame begins here.
fn vp8_descriptor(payload: &[u8]) -> Option<(usize, bool)> {
    let first = *payload.first()?;
    let mut length = 1;
    if first & 0x80 != 0 {
        let extension = *payload.get(1)?;
        length += 1;
        if extension & 0x80 != 0 {
            length += if payload.get(length)? & 0x80 != 0 { 2 } else { 1 };
        }
        length += usize::from(extension & 0x40 != 0);
        length += usize::from(extension & 0x30 != 0);
    }
    Some((length, first & 0x10 != 0 && first & 0x07 == 0))
}

/// The same of VP9 (RFC 9628 section 4.2).
fn vp9_descriptor(payload: &[u8]) -> Option<(usize, bool)> {
    let first = *payload.first()?;
    let has = |bit: u8| first & bit != 0;
    let (flexible, mut length) = (has(0x10), 1);
    if has(0x80) {
        length += if payload.get(length)? & 0x80 != 0 { 2 } else { 1 };
    }
    if has(0x20) {
        length += if flexible { 1 } else { 2 };
    }
    if flexible && has(0x40) {
        // At most three references, each says whether another follows.
        for _ in 0..3 {
            length += 1;
            if payload.get(length - 1)? & 1 == 0 {
                break;
            }
        }
    }
    if has(0x02) {
        let structure = *payload.get(length)?;
        length += 1;
        if structure & 0x10 != 0 {
            length += 4 * (usize::from(structure >> 5) + 1);
        }
        if structure & 0x08 != 0 {
            let pictures = *payload.get(length)?;
            length += 1;
            for _ in 0..pictures {
                length += 1 + usize::from(payload.get(length)? >> 2 & 3);
            }
        }
    }
    Some((length, has(0x08)))
}

fn h264_frame(payloads: &[Bytes], frame: &mut BytesMut) -> Result<(), Unfit> {
    let mut in_fragments = false;
    for (index, payload) in payloads.iter().enumerate() {
        let head = *payload.first().ok_or(Unfit::Broken)?;
        match head & 0x1f {
            1..=23 => {
                frame.put_slice(&START_CODE);
                frame.put_slice(payload);
            }
            STAP_A => {
                let mut rest = payload.get(1..).unwrap_or_default();
                while let Some((length, behind)) = rest.split_at_checked(2) {
                    let length = usize::from(length[0]) << 8 | usize::from(length[1]);
                    let (unit, behind) = behind.split_at_checked(length).ok_or(Unfit::Broken)?;
                    frame.put_slice(&START_CODE);
                    frame.put_slice(unit);
                    rest = behind;
                }
                if !rest.is_empty() {
                    return Err(Unfit::Broken);
                }
            }
            FU_A => {
                let piece = payload.get(2..).ok_or(Unfit::Broken)?;
                let about = payload[1];
                if about & 0x80 != 0 {
                    frame.put_slice(&START_CODE);
                    frame.put_u8(head & 0xe0 | about & 0x1f);
                } else if !in_fragments {
                    return Err(if index == 0 { Unfit::NoStart } else { Unfit::Broken });
                }
                in_fragments = about & 0x40 == 0;
                frame.put_slice(piece);
            }
            _ => return Err(Unfit::Broken),
        }
    }
    Ok(())
}

/// Whether a decoder can begin with this frame.
pub(crate) fn is_key(codec: VideoCodec, frame: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 => units(frame).any(|unit| kind(unit) == Some(IDR)),
        // RFC 6386 section 9.1.
        VideoCodec::Vp8 => frame.first().is_some_and(|first| first & 1 == 0),
        // Uncompressed header: marker, profile (one bit more for 3), show_existing_frame, frame_type.
        VideoCodec::Vp9 => frame.first().is_some_and(|first| {
            let at = if first & 0x30 == 0x30 { 1 } else { 2 };
            first >> 6 == 2 && first >> (at + 1) & 1 == 0 && first >> at & 1 == 0
        }),
        _ => true,
    }
}

/// Width and height as a key frame says them.
pub(crate) fn size(codec: VideoCodec, frame: &[u8]) -> Option<(u16, u16)> {
    match codec {
        // RFC 6386 section 9.1: behind the start code, 14 bits each.
        VideoCodec::Vp8 => match frame.get(3..10)? {
            [0x9d, 0x01, 0x2a, a, b, c, d] => {
                let number = |low: u8, high: u8| u16::from(low) | u16::from(high & 0x3f) << 8;
                Some((number(*a, *b), number(*c, *d)))
            }
            _ => None,
        },
        // Profile 0: behind the sync code, colour space (3 bits) and range (1), 16 bits each.
        VideoCodec::Vp9 => match frame.get(..9)? {
            [first, 0x49, 0x83, 0x42, rest @ ..] if first & 0x30 == 0 => {
                let bits = rest
                    .iter()
                    .fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
                let field = |from: u32| (bits >> (40 - from - 16)) as u16;
                Some((field(4).wrapping_add(1), field(20).wrapping_add(1)))
            }
            _ => None,
        },
        _ => None,
    }
}

fn kind(unit: &[u8]) -> Option<u8> {
    unit.first().map(|head| head & 0x1f)
}

/// The NAL units of a byte stream (H.264 annex B).
pub(crate) fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(after_start_code(stream).unwrap_or_default());
    std::iter::from_fn(move || {
        loop {
            let stream = rest.take()?;
            let end = start_code(stream);
            rest = end.and_then(|end| after_start_code(stream.get(end..)?));
            let unit = stream.get(..end.unwrap_or(stream.len())).unwrap_or_default();
            // Zeros before the next start code belong to it.
            let length = unit
                .iter()
                .rposition(|octet| *octet != 0)
                .map_or(0, |last| last + 1);
            if length > 0 {
                return unit.get(..length);
            }
            rest.as_ref()?;
        }
    })
}

fn start_code(stream: &[u8]) -> Option<usize> {
    stream.windows(3).position(|window| window == [0, 0, 1])
}

fn after_start_code(stream: &[u8]) -> Option<&[u8]> {
    stream.get(start_code(stream)? + 3..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(codec: VideoCodec, frame: &Bytes) -> Vec<Bytes> {
        let payloads = Payloader::new(codec, true, 0x7fff).payloads(frame).unwrap();
        assert!(payloads.iter().all(|payload| payload.len() <= LONGEST));
        assert_eq!(assemble(codec, &payloads).as_ref(), Ok(frame), "{codec}");
        payloads
    }

    fn stream(units: &[Vec<u8>]) -> Bytes {
        units
            .iter()
            .flat_map(|unit| [&START_CODE[..], unit].concat())
            .collect()
    }

    fn unit(head: u8, length: usize) -> Vec<u8> {
        let mut unit = vec![0xa5; length];
        unit[0] = head;
        unit
    }

    #[test]
    fn frames_of_every_length_come_out_as_they_went_in() {
        for length in [
            1,
            2,
            3,
            100,
            LONGEST - 4,
            LONGEST - 3,
            LONGEST,
            LONGEST + 1,
            50_000,
        ] {
            let mut data = vec![0x5a; length];
            for (codec, key) in [(VideoCodec::Vp8, 0x10), (VideoCodec::Vp9, 0x82)] {
                data[0] = key;
                there_and_back(codec, &data.clone().into());
            }
            there_and_back(
                VideoCodec::H264,
                &stream(&[unit(0x67, 9), unit(0x68, 4), unit(0x65, length)]),
            );
        }
    }

    #[test]
    fn the_mark_of_a_frames_beginning_is_on_its_first_payload_alone() {
        let frame: Bytes = vec![0x10; 5_000].into();
        for (codec, bit) in [(VideoCodec::Vp8, 0x10), (VideoCodec::Vp9, 0x08)] {
            let payloads = there_and_back(codec, &frame);
            let marked: Vec<bool> = payloads.iter().map(|payload| payload[0] & bit != 0).collect();
            assert_eq!(marked, [true, false, false, false, false]);
            assert_eq!(assemble(codec, &payloads[1..]), Err(Unfit::NoStart));
        }
        let payloads = there_and_back(VideoCodec::H264, &stream(&[unit(0x65, 5_000)]));
        assert_eq!(assemble(VideoCodec::H264, &payloads[1..]), Err(Unfit::NoStart));
    }

    #[test]
    fn without_fragments_a_long_unit_is_not_sent() {
        let mut payloader = Payloader::new(VideoCodec::H264, false, 0);
        assert_eq!(
            payloader.payloads(&stream(&[unit(0x65, 5_000)])),
            Err(Unfit::TooLong)
        );
        let short = stream(&[unit(0x67, 9), unit(0x65, 1_000)]);
        assert_eq!(payloader.payloads(&short).unwrap().len(), 2);
    }

    #[test]
    fn aggregated_units_are_taken_apart() {
        let aggregate: Bytes = [&[STAP_A][..], &[0, 2, 0x67, 1], &[0, 3, 0x68, 2, 3]]
            .concat()
            .into();
        let expected = stream(&[vec![0x67, 1], vec![0x68, 2, 3]]);
        assert_eq!(
            assemble(VideoCodec::H264, std::slice::from_ref(&aggregate)),
            Ok(expected)
        );
        for length in 1..aggregate.len() {
            let _ = assemble(VideoCodec::H264, &[aggregate.slice(..length)]);
        }
        let cut = aggregate.slice(..aggregate.len() - 4);
        assert_eq!(assemble(VideoCodec::H264, &[cut]), Err(Unfit::Broken));
    }

    #[test]
    fn key_frames_and_their_sizes_are_known() {
        let vp8 = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 1];
        assert!(is_key(VideoCodec::Vp8, &vp8) && !is_key(VideoCodec::Vp8, &[0x11]));
        assert_eq!(size(VideoCodec::Vp8, &vp8), Some((320, 240)));
        // 1010 0000 0 ... of profile 0: colour space 0, range 0, 319, 239.
        let vp9 = [0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0e, 0xf0, 0];
        assert!(is_key(VideoCodec::Vp9, &vp9) && !is_key(VideoCodec::Vp9, &[0x86]));
        assert_eq!(size(VideoCodec::Vp9, &vp9), Some((320, 240)));
        assert!(is_key(VideoCodec::H264, &stream(&[unit(0x67, 3), unit(0x65, 3)])));
        assert!(!is_key(VideoCodec::H264, &stream(&[unit(0x41, 3)])));
    }

    #[test]
    fn units_are_found_behind_long_and_short_start_codes_and_zeros() {
        let stream = [
            &[0, 0, 0, 1, 0x67, 1][..],
            &[0, 0, 0, 0, 1, 0x68],
            &[0, 0, 1],
            &[0, 0, 1, 0x65, 0, 2],
        ]
        .concat();
        let found: Vec<&[u8]> = units(&stream).collect();
        assert_eq!(found, [&[0x67, 1][..], &[0x68], &[0x65, 0, 2]]);
        assert_eq!(units(b"no start code").count(), 0);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)
        ) {
            let payloads: Vec<Bytes> = payloads.into_iter().map(Bytes::from).collect();
            for codec in VideoCodec::ALL {
                let _ = assemble(codec, &payloads);
                for payload in &payloads {
                    let _ = (is_key(codec, payload), size(codec, payload));
                    let _ = Payloader::new(codec, true, 1).payloads(payload);
                }
            }
        }
    }
}
