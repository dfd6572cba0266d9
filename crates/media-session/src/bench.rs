//! The bare codecs, for who measures what is built on them.

use crate::codec;
use siprtc_core::media::Codec;

/// A codec's encoder.
pub struct Encoder {
    inner: Box<dyn codec::Encode>,
    payload: Vec<u8>,
}

impl Encoder {
    /// A new one.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Encoder {
            inner: codec::encoder(codec),
            payload: Vec::new(),
        }
    }

    /// The payload of a frame of 10, 20, 30, 40, 50 or 60 ms at the codec's sampling rate; empty when it cannot be encoded.
    pub fn encode(&mut self, samples: &[i16]) -> &[u8] {
        self.inner.encode(samples, &mut self.payload);
        &self.payload
    }
}

/// A codec's decoder.
pub struct Decoder {
    inner: Box<dyn codec::Decode>,
    samples: Vec<i16>,
}

impl Decoder {
    /// A new one.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Decoder {
            inner: codec::decoder(codec),
            samples: Vec::new(),
        }
    }

    /// The samples of a payload at the codec's sampling rate; none when it cannot be read.
    pub fn decode(&mut self, payload: &[u8]) -> &[i16] {
        self.samples.clear();
        self.inner.decode(payload, &mut self.samples);
        &self.samples
    }
}
