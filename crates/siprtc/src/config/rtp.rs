//! `[media.rtp]`: how the engine `rtp` behaves.

use super::invalid;
use serde::Deserialize;
use siprtc_core::Result;
use siprtc_media_rtp::{Keying, RtpConfig, Suite};

/// `[media.rtp]`: how the engine `rtp` behaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct RtpSettings {
    pub keying: String,
    pub require_encryption: bool,
    pub suites: Vec<String>,
    pub rtcp_mux: bool,
    pub feedback: bool,
    pub ice: bool,
    pub latching: bool,
}

impl RtpSettings {
    pub(crate) fn parse(&self) -> Result<RtpConfig> {
        let keying = Keying::ALL
            .into_iter()
            .find(|keying| keying.as_str() == self.keying);
        let keying = keying.ok_or_else(|| {
            invalid(format!("media.rtp.keying = {:?} is not known", self.keying)).advice(format!(
                "choose one of: {}",
                Keying::ALL.map(Keying::as_str).join(", ")
            ))
        })?;
        let suites: Result<Vec<Suite>> = (self.suites.iter())
            .map(|name| {
                Suite::from_name(name).ok_or_else(|| {
                    invalid(format!("media.rtp.suites: {name:?} is not known")).advice(format!(
                        "choose from: {}",
                        Suite::ALL.map(Suite::as_str).join(", ")
                    ))
                })
            })
            .collect();
        let suites = suites?;
        if suites.is_empty() {
            return Err(invalid("media.rtp.suites is empty")
                .advice("name one: AES_CM_128_HMAC_SHA1_80 is everywhere"));
        }
        if self.require_encryption && keying == Keying::None {
            return Err(
                invalid("media.rtp.require_encryption is true, and media.rtp.keying = \"none\"")
                    .advice("choose another keying: dtls, opportunistic, sdes"),
            );
        }
        Ok(RtpConfig {
            keying,
            require_encryption: self.require_encryption,
            suites,
            rtcp_mux: self.rtcp_mux,
            feedback: self.feedback,
            ice: self.ice,
            latching: self.latching,
            ..RtpConfig::default()
        })
    }
}
