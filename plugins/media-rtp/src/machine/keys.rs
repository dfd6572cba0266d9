//! Where the keys of a call come from.

use super::{Keys, Machine, incompatible};
use crate::crypto::Crypto;
use crate::remote::Remote;
use siprtc_core::Result;
use siprtc_rtp::sdp::Setup;

impl Machine {
    /// How an offer can be answered: a handshake before a key in the SDP, any encryption before none.
    pub(super) fn keying_of(&self, operation: &'static str, remote: &Remote) -> Result<Keys> {
        if !remote.fingerprints.is_empty()
            && (remote.profile.dtls || !remote.profile.secure || remote.cryptos.is_empty())
        {
            let settled = self.manner.as_ref().and_then(|manner| manner.role);
            let is_client = match (remote.setup, settled) {
                (Some(Setup::Active), _) => false,
                (Some(Setup::Passive), _) => true,
                // RFC 8842 section 5.3: the role that was settled, else active, so that the handshake begins at once.
                (_, settled) => settled != Some(Setup::Passive),
            };
            return Ok(Keys::Dtls {
                is_client,
                peer: remote.fingerprints.clone(),
            });
        }
        if remote.profile.dtls {
            return Err(
                incompatible(operation, "the peer's SDP has no a=fingerprint that can be read")
                    .advice("it says UDP/TLS and does not say whose certificate (RFC 5763 section 5)"),
            );
        }
        // RFC 4568 section 5.1.2: the offerer's order.
        let ours = |theirs: &Crypto| self.cryptos.iter().find(|ours| ours.suite == theirs.suite);
        let chosen = (remote.cryptos.iter()).find_map(|theirs| ours(theirs).map(|ours| (ours, theirs)));
        match chosen {
            Some((ours, theirs)) => Ok(Keys::Sdes {
                ours: ours.with_tag(theirs.tag),
                theirs: theirs.clone(),
            }),
            None if remote.profile.secure => {
                let known: Vec<&str> = self.config.suites.iter().map(|suite| suite.as_str()).collect();
                Err(incompatible(
                    operation,
                    format!("no a=crypto of the peer's is one of {}", known.join(", ")),
                )
                .advice("name one of the peer's suites in rtp.suites"))
            }
            None if self.config.require_encryption => {
                Err(incompatible(operation, "the peer offers RTP without encryption")
                    .advice("have the peer offer SRTP, or set rtp.require_encryption = false"))
            }
            None => Ok(Keys::None),
        }
    }

    /// What an answer made of our offer's keys.
    pub(super) fn keys_of_answer(&self, operation: &'static str, remote: &Remote) -> Result<Keys> {
        if self.wants_dtls() {
            if remote.fingerprints.is_empty() {
                return Err(incompatible(operation, "the peer's answer has no a=fingerprint")
                    .advice("it says UDP/TLS and does not say whose certificate (RFC 5763 section 5)"));
            }
            // RFC 5763 section 5: who answers is the client, unless it says that it is not.
            let is_client = remote.setup == Some(Setup::Passive);
            return Ok(Keys::Dtls {
                is_client,
                peer: remote.fingerprints.clone(),
            });
        }
        let theirs = remote.cryptos.first();
        let ours = theirs.and_then(|theirs| {
            (self.cryptos.iter()).find(|ours| ours.suite == theirs.suite && ours.tag == theirs.tag)
        });
        let is_offered = self.profile().secure || self.is_opportunistic();
        match (theirs, ours) {
            (Some(theirs), Some(ours)) if is_offered => Ok(Keys::Sdes {
                ours: ours.clone(),
                theirs: theirs.clone(),
            }),
            (Some(_), _) if is_offered => Err(incompatible(
                operation,
                "the peer's answer has an a=crypto that is none of our offer's",
            )
            .advice("RFC 4568 section 5.1.2: an answer repeats tag and suite of the one that it takes")),
            _ if self.profile().secure => Err(incompatible(
                operation,
                "the peer's answer says SAVP and has no a=crypto",
            )
            .advice("RFC 4568 section 5.1.2: an answer has one a=crypto")),
            _ if self.config.require_encryption => {
                Err(incompatible(operation, "the peer answered without encryption")
                    .advice("set rtp.require_encryption = false if that is good enough"))
            }
            _ => Ok(Keys::None),
        }
    }
}
