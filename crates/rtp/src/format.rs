//! Payload formats of SDP: what we offer, and what is common with the peer (RFC 3264 section 6.1).

use siprtc_core::media::Codec;

const TELEPHONE_EVENT: &str = "telephone-event";
const COMFORT_NOISE: &str = "CN";
/// RFC 3389 section 4: comfort noise at 8 kHz has a static payload type.
const COMFORT_NOISE_TYPE: u8 = 13;
const COMFORT_NOISE_CLOCK: u32 = 8_000;
/// telephone-event at the clock rates of the audio beside it (RFC 4733 section 2.2).
const TELEPHONE_EVENTS: [(u8, u32); 2] = [(101, 8_000), (110, 48_000)];
/// RFC 7587 section 6.1.
const OPUS_FMTP: &str = "minptime=10;useinbandfec=1";

/// A payload format as SDP knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Format {
    /// Its number, which the one who receives it chooses.
    pub payload_type: u8,
    /// Name, clock rate in Hz, and channels if there are two: `opus/48000/2`.
    pub encoding: String,
    /// `a=fmtp`, or nothing.
    pub fmtp: String,
}

impl Format {
    /// The format of a number without `a=rtpmap`.
    pub(crate) fn numbered(payload_type: u8) -> Self {
        let unknown = || Format {
            payload_type,
            encoding: String::new(),
            fmtp: String::new(),
        };
        of_static_payload_type(payload_type).unwrap_or_else(unknown)
    }

    /// `a=rtpmap`, and `a=fmtp` if there is one, with CRLF.
    pub fn lines(&self) -> String {
        let mut lines = format!("a=rtpmap:{} {}\r\n", self.payload_type, self.encoding);
        if !self.fmtp.is_empty() {
            lines.push_str(&format!("a=fmtp:{} {}\r\n", self.payload_type, self.fmtp));
        }
        lines
    }

    /// As in `a=rtpmap`; nothing for a number that was never explained.
    pub fn name(&self) -> &str {
        self.encoding.split('/').next().unwrap_or_default()
    }

    /// In Hz; 0 if it is not said.
    pub fn clock_rate(&self) -> u32 {
        self.encoding
            .split('/')
            .nth(1)
            .and_then(|clock| clock.parse().ok())
            .unwrap_or_default()
    }

    /// Whether it is something to hear, and neither events nor comfort noise.
    fn is_audio(&self) -> bool {
        ![TELEPHONE_EVENT, COMFORT_NOISE]
            .iter()
            .any(|other| other.eq_ignore_ascii_case(self.name()))
    }

    /// Whether both name the same codec, whatever the number and the parameters.
    pub fn is_same(&self, other: &Format) -> bool {
        self.name().eq_ignore_ascii_case(other.name()) && self.clock_rate() == other.clock_rate()
    }
}

/// Our formats in the order of an offer: `codecs`, then telephone-event at each clock rate that they use.
pub fn formats(codecs: &[Codec]) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for codec in codecs {
        if !formats
            .iter()
            .any(|other| other.payload_type == codec.payload_type())
        {
            formats.push(of(*codec));
        }
    }
    for (payload_type, clock_rate) in TELEPHONE_EVENTS {
        if codecs.iter().any(|codec| codec.clock_rate() == clock_rate) {
            let encoding = format!("{TELEPHONE_EVENT}/{clock_rate}");
            formats.push(Format {
                payload_type,
                encoding,
                fmtp: "0-16".to_owned(),
            });
        }
    }
    formats
}

/// The same with comfort noise (RFC 3389) behind the codecs, if one of them has its clock: Opus has means of its own.
pub fn formats_with_comfort_noise(codecs: &[Codec]) -> Vec<Format> {
    let mut formats = formats(codecs);
    if codecs
        .iter()
        .any(|codec| codec.clock_rate() == COMFORT_NOISE_CLOCK)
    {
        let behind = formats.iter().take_while(|format| format.is_audio()).count();
        formats.insert(behind, comfort_noise());
    }
    formats
}

/// Those of `theirs` that are among `ours`, under their numbers and in their order (RFC 3264 section 6.1), with our
/// parameters: those of Opus and of telephone-event speak of the receiver. `None` when there is no audio among them.
pub fn common(ours: &[Format], theirs: &[Format]) -> Option<Vec<Format>> {
    let common: Vec<Format> = theirs
        .iter()
        .filter_map(|theirs| {
            let ours = ours.iter().find(|ours| ours.is_same(theirs))?;
            Some(Format {
                payload_type: theirs.payload_type,
                ..ours.clone()
            })
        })
        .collect();
    common.iter().any(Format::is_audio).then_some(common)
}

/// What to offer when `current` is in use: that first and under its numbers, then the rest of ours, for RFC 3264
/// section 8.3.2 lets formats be added, and after a transfer the far end is another that may need them. What is not among `ours`
/// any more is not offered.
pub fn offer(ours: &[Format], current: &[Format]) -> Vec<Format> {
    let is_ours = |format: &&Format| ours.iter().any(|ours| ours.is_same(format));
    let mut offer: Vec<Format> = current.iter().filter(is_ours).cloned().collect();
    for format in ours {
        if offer.iter().any(|offered| offered.is_same(format)) {
            continue;
        }
        let taken = |payload_type: u8| offer.iter().any(|offered| offered.payload_type == payload_type);
        let own = Some(format.payload_type).filter(|own| !taken(*own));
        if let Some(payload_type) = own.or_else(|| (96..128).rev().find(|free| !taken(*free))) {
            offer.push(Format {
                payload_type,
                ..format.clone()
            });
        }
    }
    offer
}

/// The same in the order of `ours`: another codec than the one in use is wanted.
pub fn offer_anew(ours: &[Format], current: &[Format]) -> Vec<Format> {
    let mut offer = offer(ours, current);
    offer.sort_by_key(|format| ours.iter().position(|ours| ours.is_same(format)));
    offer
}

/// The clock rate in Hz by which jitter can be told, zero for telephone-event, whose packets repeat a timestamp.
pub fn clock_rates(formats: &[Format]) -> impl Iterator<Item = (u8, u32)> {
    formats.iter().map(|format| {
        let clock = if format.name() == TELEPHONE_EVENT {
            0
        } else {
            format.clock_rate()
        };
        (format.payload_type, clock)
    })
}

/// RFC 3551's static payload types that need no `a=rtpmap`.
fn of_static_payload_type(payload_type: u8) -> Option<Format> {
    [Codec::G722, Codec::Pcma, Codec::Pcmu]
        .into_iter()
        .find(|codec| codec.payload_type() == payload_type)
        .map(of)
        .or_else(|| (payload_type == COMFORT_NOISE_TYPE).then(comfort_noise))
}

fn comfort_noise() -> Format {
    Format {
        payload_type: COMFORT_NOISE_TYPE,
        encoding: format!("{COMFORT_NOISE}/{COMFORT_NOISE_CLOCK}"),
        fmtp: String::new(),
    }
}

/// A codec as we offer it.
pub fn of(codec: Codec) -> Format {
    // RFC 7587 section 7: Opus is always announced as 48000/2. A single channel is left out (RFC 8866 section 6.6).
    let (channels, fmtp) = if codec == Codec::Opus {
        ("/2", OPUS_FMTP)
    } else {
        ("", "")
    };
    Format {
        payload_type: codec.payload_type(),
        encoding: format!("{codec}/{}{channels}", codec.clock_rate()),
        fmtp: fmtp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload_types(formats: &[Format]) -> Vec<u8> {
        formats.iter().map(|format| format.payload_type).collect()
    }

    fn theirs(payload_type: u8, encoding: &str) -> Format {
        Format {
            payload_type,
            encoding: encoding.to_owned(),
            fmtp: "theirs=1".to_owned(),
        }
    }

    #[test]
    fn telephone_event_comes_last_at_every_clock_rate_in_use() {
        assert_eq!(
            payload_types(&formats(&[Codec::Pcma, Codec::Opus])),
            [8, 111, 101, 110]
        );
        assert_eq!(payload_types(&formats(&[Codec::Opus])), [111, 110]);
        assert_eq!(payload_types(&formats(&[Codec::G722, Codec::Pcmu])), [9, 0, 101]);
    }

    #[test]
    fn a_codec_named_twice_is_offered_once() {
        assert_eq!(payload_types(&formats(&[Codec::Pcmu, Codec::Pcmu])), [0, 101]);
    }

    #[test]
    fn what_is_common_has_their_order_and_numbers_and_our_parameters() {
        let ours = formats(&Codec::ALL);
        let common = common(
            &ours,
            &[
                theirs(3, "GSM/8000"),
                theirs(0, "pcmu/8000"),
                theirs(96, "OPUS/48000/2"),
                theirs(97, "telephone-event/48000"),
            ],
        )
        .unwrap();
        assert_eq!(payload_types(&common), [0, 96, 97]);
        assert_eq!(common[1].fmtp, OPUS_FMTP);
    }

    #[test]
    fn a_codec_at_another_clock_rate_is_another_codec() {
        let ours = formats(&Codec::ALL);
        assert!(common(&ours, &[theirs(98, "PCMU/16000")]).is_none());
    }

    #[test]
    fn telephone_event_alone_is_no_audio() {
        assert!(common(&formats(&Codec::ALL), &[theirs(101, "telephone-event/8000")]).is_none());
    }

    #[test]
    fn comfort_noise_stands_between_codecs_of_its_clock_and_events_and_is_no_audio() {
        let with = |codecs: &[Codec]| payload_types(&formats_with_comfort_noise(codecs));
        assert_eq!(
            with(&[Codec::Opus, Codec::G722, Codec::Pcmu]),
            [111, 9, 0, 13, 101, 110]
        );
        assert_eq!(with(&[Codec::Opus]), [111, 110]);
        let ours = formats_with_comfort_noise(&Codec::ALL);
        assert!(common(&ours, &[theirs(13, "CN/8000")]).is_none());
        // Without an a=rtpmap its number says what it is (RFC 3551 table 4).
        let both = common(&ours, &[Format::numbered(8), Format::numbered(13)]).unwrap();
        assert_eq!(payload_types(&both), [8, 13]);
        assert!(
            common(
                &formats(&Codec::ALL),
                &[Format::numbered(8), theirs(13, "CN/8000")]
            )
            .is_some_and(|both| both.len() == 1)
        );
    }

    #[test]
    fn an_offer_in_a_call_begins_with_what_is_in_use_and_gives_no_number_twice() {
        let current = [theirs(111, "PCMA/8000"), theirs(126, "telephone-event/8000")];
        let offer = offer(&formats(&[Codec::Opus, Codec::Pcma]), &current);
        assert_eq!(payload_types(&offer), [111, 126, 127, 110]);
        assert_eq!(offer[2].encoding, "opus/48000/2");
    }
}
