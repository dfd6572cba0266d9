//! What may be chosen.

use crate::crypto::{PREFERRED, Suite};
use siprtc_core::media::Codec;
use siprtc_rtp::{Format, format};

/// What our offers say of encryption. What a peer offers is answered whatever this says, unless
/// [`RtpConfig::require_encryption`] does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Keying {
    /// `UDP/TLS/RTP/SAVP`: the keys come from a DTLS handshake (RFC 5763, RFC 5764).
    Dtls,
    /// `RTP/AVP`, nothing.
    None,
    /// `RTP/AVP` with `a=crypto` (RFC 8643): encrypted with who can, plain with who cannot.
    #[default]
    Opportunistic,
    /// `RTP/SAVP` with `a=crypto` (RFC 4568). The keys are as secret as the signalling is: use SIP over TLS.
    Sdes,
}

impl Keying {
    /// All of them.
    pub const ALL: [Keying; 4] = [Keying::Dtls, Keying::None, Keying::Opportunistic, Keying::Sdes];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Keying::Dtls => "dtls",
            Keying::None => "none",
            Keying::Opportunistic => "opportunistic",
            Keying::Sdes => "sdes",
        }
    }
}

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct RtpConfig {
    /// Of our offers.
    pub keying: Keying,
    /// Refuse whatever would go unencrypted.
    pub require_encryption: bool,
    /// What SDES offers and accepts, best first.
    pub suites: Vec<Suite>,
    /// Offer RTP and RTCP on one port (RFC 5761); a peer that does not want it gets two.
    pub rtcp_mux: bool,
    /// Offer no second port for RTCP (RFC 8858), so that with ICE all addresses are offered: an answer that wants two is refused.
    pub mux_only: bool,
    /// Offer the extended profiles `AVPF` and `SAVPF` (RFC 4585, RFC 5124); many telephones refuse them.
    pub feedback: bool,
    /// Offer ICE (RFC 8445); a peer that has none is met without. With it one port serves RTP and RTCP, or there is no ICE.
    pub ice: bool,
    /// Send to where the peer's packets come from (RFC 4961), not only to where its description says: what is behind a NAT
    /// does not know its own address.
    pub latching: bool,
    /// Offer and answer comfort noise (RFC 3389) beside the codecs of 8 kHz.
    pub comfort_noise: bool,
}

impl RtpConfig {
    /// Whose offers are a WebRTC endpoint's.
    pub(crate) fn for_browsers(self) -> Self {
        RtpConfig {
            keying: Keying::Dtls,
            rtcp_mux: true,
            mux_only: true,
            feedback: true,
            ice: true,
            ..self
        }
    }

    /// Our formats, in the order of an offer.
    pub(crate) fn formats(&self, codecs: &[Codec]) -> Vec<Format> {
        match self.comfort_noise {
            true => format::formats_with_comfort_noise(codecs),
            false => format::formats(codecs),
        }
    }
}

impl Default for RtpConfig {
    fn default() -> Self {
        RtpConfig {
            keying: Keying::default(),
            require_encryption: false,
            suites: PREFERRED.to_vec(),
            rtcp_mux: true,
            mux_only: false,
            feedback: false,
            ice: false,
            latching: true,
            comfort_noise: false,
        }
    }
}
