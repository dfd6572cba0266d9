//! The one codec that the library knows of.
//!
//! The library cannot be left to negotiate codecs over SIP. It compares them by name and `a=fmtp` alone, so that
//! telephone-event at 8 and at 48 kHz are one to it, and Opus with other parameters than ours is left out; and it
//! adopts nothing new after the first negotiation, while a re-INVITE may well change the codec. So it is shown one
//! codec, ever the same, and formats are negotiated here.

use rtc::peer_connection::configuration::media_engine::MediaEngine as CodecRegistry;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use siprtc_core::media::Codec;
use siprtc_rtp::{Format, format};

/// The codec that the library sees in every description.
pub(crate) fn shown() -> Format {
    format::of(Codec::Pcmu)
}

/// The same as the library has it.
pub(crate) fn shown_to_library() -> RTCRtpCodecParameters {
    let codec = Codec::Pcmu;
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: format!("audio/{codec}"),
            clock_rate: codec.clock_rate(),
            ..Default::default()
        },
        payload_type: codec.payload_type(),
    }
}

/// A registry that knows this codec and no header extension.
pub(crate) fn registry() -> rtc::shared::error::Result<CodecRegistry> {
    let mut registry = CodecRegistry::default();
    registry.register_codec(shown_to_library(), RtpCodecKind::Audio)?;
    Ok(registry)
}
