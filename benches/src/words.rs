//! What is parsed and printed: our words and a peer's, over the same octets.

use bytes::Bytes;
use ezk_sip_types::header::typed::ContentLength;
use ezk_sip_types::msg::{Line, MessageLine, PullParser};
use ezk_sip_types::parse::Parse;
use rtc_sdp::SessionDescription;
use siprtc_core::ice::{IceConfig, IcePolicy};
use siprtc_core::media::{Codec, MediaEvent, PacketSink, PeerConfig, RtpPacket, SdpKind};
use siprtc_core::sip::{Headers, Limits, Method, SipMessage, SipRequest, SipUri};
use siprtc_core::{Error, Fault, Result};
use siprtc_sdp_translator::{ClassicTransport, Target, to_classic};
use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct Nowhere;

impl PacketSink for Nowhere {
    fn push(&self, _: RtpPacket) {}
}

/// A complete offer of the media engine, with a host candidate on loopback.
///
/// # Errors
/// What the engine says.
pub async fn engine_offer() -> Result<String> {
    let peer = siprtc_media_webrtc::engine()
        .create_peer(PeerConfig {
            ice: IceConfig {
                bind: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
                servers: Vec::new(),
                policy: IcePolicy::All,
                gather_budget: Duration::from_secs(1),
                paths: None,
            },
            codecs: Codec::ALL.to_vec(),
            remote_offer: None,
            heard: None,
            video: None,
            packets: Arc::new(Nowhere),
            events: Arc::new(|_: MediaEvent| {}),
        })
        .await?;
    let offer = peer.create_offer().await?;
    let complete = peer.set_local(SdpKind::Offer, &offer).await;
    peer.close().await;
    complete
}

/// An offer of audio and video of a browser's size: 220 lines.
pub const BROWSER: &str = include_str!("../../crates/sdp-translator/examples/browser.sdp");

/// An offer through the translator to what a telephone with two plain RTP ports takes.
///
/// # Errors
/// What the translator says.
pub fn to_telephone(offer: &str) -> Result<String> {
    let own = |port| Some(ClassicTransport::plain(([192, 0, 2, 9], port).into()));
    let target = Target::plain(vec![own(4_000), own(4_002)]);
    to_classic(offer, &target).map(|classic| classic.sdp)
}

/// An INVITE of about 2 kB as a proxy sees it: two Vias, a Record-Route, credentials, and `sdp` as its body.
///
/// # Errors
/// None for a body of this program's own.
pub fn invite(sdp: &str) -> Result<SipRequest> {
    let target: SipUri = "sip:bob@203.0.113.9:49152;transport=tcp".parse()?;
    let mut request = SipRequest::new(Method::Invite, target);
    let mut headers = Headers::new();
    for (name, value) in [
        (
            "Via",
            "SIP/2.0/TCP 203.0.113.1:5060;branch=z9hG4bK1f2e3d4c5b6a79880c1d2e3f",
        ),
        (
            "Via",
            "SIP/2.0/UDP 198.51.100.7:40123;rport=40123;received=198.51.100.7;branch=z9hG4bK0a1b2c3d4e5f",
        ),
        ("Record-Route", "<sip:203.0.113.1:5060;transport=tcp;lr>"),
        ("Max-Forwards", "69"),
        (
            "From",
            "\"Alice\" <sip:alice@siprtc.example>;tag=5d1f9c2a7b3e4f60",
        ),
        ("To", "<sip:bob@siprtc.example>"),
        ("Call-ID", "8f14e45fceea167a5a36dedd4bea2543"),
        ("CSeq", "2 INVITE"),
        ("Contact", "<sip:alice@198.51.100.7:40123>"),
        (
            "Proxy-Authorization",
            "Digest username=\"alice\", realm=\"siprtc.example\", nonce=\"Y2VjaSBuJ2VzdCBwYXM=\", uri=\"sip:bob@siprtc.example\", response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"0a4f113b\"",
        ),
        ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO"),
        ("Supported", "timer, outbound, replaces"),
        ("Session-Expires", "1800;refresher=uac"),
        ("Min-SE", "90"),
        ("User-Agent", "siprtc/0.1.0"),
    ] {
        headers.push(name, value);
    }
    request.headers = headers;
    let mut request = request.with_body("application/sdp", sdp.to_owned());
    request.headers.set("Content-Length", request.body.len());
    Ok(request)
}

/// The INVITEs of real implementations beside the workspace, by file name; empty when they are not there.
pub fn corpus_invites() -> Vec<(String, Bytes)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus/sip"));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(String, Bytes)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let octets = Bytes::from(std::fs::read(&path).ok()?);
            let both_read_it =
                octets.starts_with(b"INVITE ") && parse(&octets).is_ok() && peer_parse(&octets).is_ok();
            both_read_it.then(|| {
                (
                    path.file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                    octets,
                )
            })
        })
        .collect();
    found.sort();
    found
}

/// A datagram into our types.
///
/// # Errors
/// What the parser says.
pub fn parse(datagram: &Bytes) -> Result<SipMessage> {
    SipMessage::parse(datagram, &Limits::default())
}

/// A datagram into the peer's types (`ezk-sip-types`), as its transports do it: a copy, the request line, every header
/// line, the body by Content-Length. Gives the number of headers and the body.
///
/// # Errors
/// When the peer cannot read it.
pub fn peer_parse(datagram: &[u8]) -> Result<(ezk_sip_types::Headers, Bytes)> {
    let bad = |what: &str| Error::new(Fault::PeerMisbehaved, "parse with ezk-sip-types", what.to_owned());
    let buffer = Bytes::copy_from_slice(datagram);
    let mut parser = PullParser::new(&buffer, 0);
    let mut first = None;
    let mut headers = ezk_sip_types::Headers::new();
    for line in &mut parser {
        let line = line.map_err(|_| bad("incomplete"))?;
        let line = std::str::from_utf8(line).map_err(|_| bad("no UTF-8"))?;
        if first.is_none() {
            first = Some(
                MessageLine::parse(&buffer)(line)
                    .map_err(|_| bad("request line"))?
                    .1,
            );
        } else {
            let (_, line) = Line::parse(&buffer, line).map_err(|_| bad("header line"))?;
            headers.insert(line.name, line.value);
        }
    }
    let head = parser.head_end();
    let length = headers
        .get_named::<ContentLength>()
        .map_or(buffer.len().saturating_sub(head), |length| length.0);
    if buffer.len() < head + length || first.is_none() {
        return Err(bad("incomplete body"));
    }
    Ok((headers, buffer.slice(head..head + length)))
}

/// A description through the peer (`rtc-sdp`): parsed and printed.
///
/// # Errors
/// When the peer cannot read it.
pub fn peer_sdp(sdp: &str) -> Result<String> {
    let read = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()))
        .map_err(|error| Error::new(Fault::PeerMisbehaved, "parse with rtc-sdp", error.to_string()))?;
    Ok(read.marshal())
}
