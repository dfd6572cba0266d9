//! `siprtc sdp`: the translator by hand.

use crate::args::{Reader, SdpAnswerArgs, SdpCommand, SdpExplainArgs, SdpLintArgs};
use crate::exit::Exit;
use crate::output::Output;
use serde_json::json;
use siprtc::sdp::{
    Crypto, Explanation, LocalMedia, LocalSession, LocalTransport, MasterKey, Needs, PeerProfile, Severity,
    SipForm, Suite, Way, answer, explain, lint, lint_answer, needs,
};
use siprtc_core::{Error, Fault, Result};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Nobody's description is longer; the translator's own bound is below it.
const MAX_FILE: u64 = 1 << 20;

pub(crate) fn run(command: &SdpCommand, output: &Output) -> Exit {
    let done = match command {
        SdpCommand::Answer(args) => answers(args, output),
        SdpCommand::Explain(args) => explains(args, output),
        SdpCommand::Lint(args) => lints(args, output),
    };
    done.unwrap_or_else(|error| output.error(&error))
}

fn explains(args: &SdpExplainArgs, output: &Output) -> Result<Exit> {
    let sdp = read(&args.file)?;
    let offer = args.offer.as_deref().map(read).transpose()?;
    let peer = args.peer.find()?;
    let form = SipForm::default();
    let way = match (args.to, &offer) {
        (Reader::Sip, None) => Way::ToSip { form },
        (Reader::Sip, Some(offer)) => Way::AnswerToSip { offer, form },
        (Reader::Webrtc, None) => Way::ToWebrtc,
        (Reader::Webrtc, Some(offer)) => Way::AnswerToWebrtc { offer },
    };
    let told: Explanation = explain(&sdp, way, peer.as_ref());
    let exit = match told.refusal {
        Some(_) => Exit::Incompatible,
        None => Exit::Ok,
    };
    output.say(told.to_string().trim_end());
    let needs = told_needs(&sdp, output);
    output.emit(json!({ "event": "explanation", "explanation": told, "needs": needs }));
    Ok(exit)
}

fn lints(args: &SdpLintArgs, output: &Output) -> Result<Exit> {
    let sdp = read(&args.file)?;
    let peer = args.peer.find()?;
    let found = match &args.offer {
        Some(offer) => lint_answer(&read(offer)?, &sdp, peer.as_ref()),
        None => lint(&sdp, peer.as_ref()),
    };
    for finding in &found {
        output.say(&format!("{finding}\n"));
    }
    let refused = found.iter().any(|finding| finding.severity == Severity::Refuses);
    if found.is_empty() {
        output.say("nothing to say of it");
    }
    let needs = told_needs(&sdp, output);
    output.emit(json!({ "event": "lint", "refused": refused, "findings": found, "needs": needs }));
    Ok(if refused { Exit::Incompatible } else { Exit::Ok })
}

fn answers(args: &SdpAnswerArgs, output: &Output) -> Result<Exit> {
    let offer = read(&args.file)?;
    let address = args.address.unwrap_or_else(|| documentation(&offer));
    let family = if address.is_ipv6() { "IP6" } else { "IP4" };
    let media = |medium: &str, port: u16, codecs: &[String]| LocalMedia {
        medium: medium.to_owned(),
        port,
        codecs: codecs.to_vec(),
        direction: Default::default(),
    };
    let video = (!args.video.is_empty()).then(|| media("video", args.port.saturating_add(2), &args.video));
    let local = LocalSession {
        origin: format!("- 1 1 IN {family} {address}"),
        connection: format!("IN {family} {address}"),
        media: std::iter::once(media("audio", args.port, &args.codecs))
            .chain(video)
            .collect(),
        transport: Some(transport(args, address)),
        // For audio and for video.
        keys: Suite::ALL.into_iter().chain(Suite::ALL).map(fresh_key).collect(),
    };
    let sdp = answer(&offer, &local)?;
    output.say(sdp.trim_end());
    let is_made_up = ["a=crypto:", "a=ice-pwd:", "a=fingerprint:"]
        .iter()
        .any(|line| sdp.contains(line));
    if is_made_up {
        output.say("\nits keys, ICE credentials and fingerprint are made up where none was given: nobody can use them");
    }
    let needs = told_needs(&offer, output);
    output.emit(json!({ "event": "answer", "sdp": sdp, "made_up": is_made_up, "needs": needs }));
    Ok(Exit::Ok)
}

/// RFC 5737 and RFC 3849, by the family of the address that the offer's first m-line has.
fn documentation(offer: &str) -> IpAddr {
    let mut session = None;
    let mut own = None;
    let mut m_lines = 0;
    for line in offer.lines() {
        m_lines += usize::from(line.starts_with("m="));
        match (m_lines, line.strip_prefix("c=")) {
            (0, Some(connection)) => session = session.or(Some(connection)),
            (1, Some(connection)) => own = own.or(Some(connection)),
            _ => {}
        }
    }
    let is_ip6 = |connection: &str| connection.trim_start().to_ascii_uppercase().starts_with("IN IP6");
    match own.or(session).is_some_and(is_ip6) {
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).into(),
        false => Ipv4Addr::new(192, 0, 2, 2).into(),
    }
}

/// One whose words are right and whose secrets are nobody's.
fn transport(args: &SdpAnswerArgs, address: IpAddr) -> LocalTransport {
    let made_up = || {
        let hash = rand::random::<[u8; 32]>().map(|octet| format!("{octet:02X}"));
        format!("sha-256 {}", hash.join(":"))
    };
    LocalTransport {
        fingerprint: args.fingerprint.clone().unwrap_or_else(made_up),
        ice_ufrag: format!("{:08x}", rand::random::<u32>()),
        ice_pwd: format!("{:032x}", rand::random::<u128>()),
        candidates: vec![format!("1 1 udp 2130706431 {address} {} typ host", args.port)],
    }
}

fn fresh_key(suite: Suite) -> Crypto {
    let octets = (0..suite.key_len() + suite.salt_len()).map(|_| rand::random());
    Crypto {
        tag: 1,
        suite,
        keys: vec![MasterKey {
            key_and_salt: octets.collect(),
            lifetime: None,
            mki: None,
        }],
        session: Vec::new(),
    }
}

/// What the one who gets the description needs to carry it; nothing, where it is none.
fn told_needs(sdp: &str, output: &Output) -> Option<Needs> {
    let needs = needs(sdp).ok()?;
    output.say(&format!("\n{needs}"));
    Some(needs)
}

impl crate::args::PeerArgs {
    fn find(&self) -> Result<Option<PeerProfile>> {
        let find = |name: &String| PeerProfile::find(name, self.peers.as_deref());
        self.peer.as_ref().map(find).transpose()
    }
}

/// A file's text, or standard input's for `-`.
fn read(path: &Path) -> Result<String> {
    let mut octets = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().take(MAX_FILE).read_to_end(&mut octets),
        false => std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut octets)),
    };
    read.map_err(|error| {
        Error::new(
            Fault::ConfigInvalid,
            "read a description",
            format!("{}: {error}", path.display()),
        )
        .advice("name a file with a session description, or - for standard input")
    })?;
    Ok(text(octets))
}

/// UTF-8, without the mark that editors put before it; what is none is ISO 8859-1, the only other character set that is seen in
/// descriptions (`a=charset`, RFC 8866 section 6.10), and none of its octets is lost.
fn text(octets: Vec<u8>) -> String {
    match String::from_utf8(octets) {
        Ok(text) => text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text),
        Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_in_latin_1_or_behind_a_byte_order_mark_is_read() {
        assert_eq!(text(b"s=Gespr\xe4ch\r\n".to_vec()), "s=Gespr\u{e4}ch\r\n");
        assert_eq!(
            text("\u{feff}v=0\r\ns=\u{96fb}\r\n".into()),
            "v=0\r\ns=\u{96fb}\r\n"
        );
    }

    #[test]
    fn the_address_of_an_answer_is_of_the_first_m_lines_family() {
        let session = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n";
        assert!(documentation(session).is_ipv4());
        assert!(documentation(&format!("{session}c=IN IP6 2001:db8::1\r\n")).is_ipv6());
        let second = format!("{session}m=video 4002 RTP/AVP 31\r\nc=IN IP6 2001:db8::1\r\n");
        assert!(documentation(&second).is_ipv4());
    }
}
