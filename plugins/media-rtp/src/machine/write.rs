//! Writes our descriptions.

use super::{Local, Machine, Part};
use crate::crypto::Crypto;
use crate::formats::Formats;
use crate::remote::Remote;
use siprtc_core::media::Direction;
use siprtc_rtp::sdp::Setup;
use std::fmt::Write as _;
use std::net::SocketAddr;

impl Machine {
    pub(super) fn section(
        &self,
        local: &Local,
        formats: &Formats,
        direction: Direction,
        mux: bool,
        crypto: &[Crypto],
        setup: Setup,
    ) -> String {
        let mut out = formats.lines();
        for crypto in crypto {
            let _ = write!(out, "a=crypto:{crypto}\r\n");
        }
        if let Some(fingerprint) = &local.fingerprint {
            let _ = write!(
                out,
                "a=setup:{}\r\na=fingerprint:{fingerprint}\r\n",
                setup.as_str()
            );
        }
        if let Some((parameters, candidates)) = &local.ice {
            let _ = write!(
                out,
                "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
                parameters.ufrag, parameters.pwd
            );
            for candidate in candidates {
                let _ = write!(out, "a=candidate:{candidate}\r\n");
            }
            // RFC 5576 section 4.1. Who speaks WebRTC may know streams by nothing else: Janus drops those that were not announced.
            if let Some(source) = &local.source {
                let _ = write!(out, "a=ssrc:{source}\r\n");
            }
        }
        if mux {
            out.push_str("a=rtcp-mux\r\n");
        }
        if let (Some(rtp), Some(rtcp)) = (local.rtp, local.rtcp) {
            let family = family(rtcp);
            // With multiplexing the offer's line is for who does not know it (RFC 5761 section 5.1.3).
            let _ = match rtcp.ip() == rtp.ip() {
                true => write!(out, "a=rtcp:{}\r\n", rtcp.port()),
                false => write!(out, "a=rtcp:{} IN {family} {}\r\n", rtcp.port(), rtcp.ip()),
            };
        }
        let _ = write!(out, "a={direction}\r\n");
        out
    }

    /// The whole: every m-line of the call, ours alive.
    pub(super) fn assemble(
        &self,
        local: &Local,
        own: &Part,
        offer: Option<&Remote>,
        beside: Option<&Part>,
    ) -> String {
        let lines = offer.map_or(&self.lines, |remote| &remote.lines);
        let addr = local.rtp.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 9)));
        let family = family(addr);
        let mut out = format!(
            "v=0\r\no=- {} {} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n",
            self.session,
            self.version + 1,
            ip = addr.ip(),
        );
        let alive = |at: usize| {
            [Some(own), beside]
                .into_iter()
                .flatten()
                .find(|part| part.at == at)
        };
        // What was never negotiated stands behind what was.
        let fresh = lines.len()..lines.len() + 2;
        for (index, other) in lines.iter().enumerate() {
            let mid = other
                .mid
                .as_ref()
                .map(|mid| format!("a=mid:{mid}\r\n"))
                .unwrap_or_default();
            let _ = match alive(index) {
                Some(part) => write!(out, "{}\r\n{mid}{}", part.head, part.section),
                None => write!(
                    out,
                    "m={} 0 {} {}\r\n{mid}",
                    other.media, other.proto, other.formats
                ),
            };
        }
        for part in fresh.filter_map(alive) {
            // RFC 9429 section 5.2.1: a browser names its m-lines.
            let mid = match self.config.mux_only {
                true => format!("a=mid:{}\r\n", part.at),
                false => String::new(),
            };
            let _ = write!(out, "{}\r\n{mid}{}", part.head, part.section);
        }
        out
    }
}

pub(super) fn family(addr: SocketAddr) -> &'static str {
    if addr.is_ipv4() { "IP4" } else { "IP6" }
}
