//! What a peer takes and refuses, as data: each fact with its source.

use serde::{Deserialize, Serialize};
use siprtc_core::{Error, Fault, Result};
use std::path::Path;

/// The longest profile, in octets. A longer file is an error: the longest that is shipped has some 4 kB.
pub const MAX_PROFILE: usize = 65_536;

/// The profiles that come with the crate.
const SHIPPED: &[(&str, &str)] = &[
    ("asterisk", include_str!("../config/peers/asterisk.toml")),
    (
        "asterisk-webrtc",
        include_str!("../config/peers/asterisk-webrtc.toml"),
    ),
    ("baresip", include_str!("../config/peers/baresip.toml")),
    ("baresip-ice", include_str!("../config/peers/baresip-ice.toml")),
    ("chrome", include_str!("../config/peers/chrome.toml")),
    ("cisco", include_str!("../config/peers/cisco.toml")),
    ("firefox", include_str!("../config/peers/firefox.toml")),
    ("freeswitch", include_str!("../config/peers/freeswitch.toml")),
    ("janus", include_str!("../config/peers/janus.toml")),
    ("kamailio", include_str!("../config/peers/kamailio.toml")),
    ("livekit", include_str!("../config/peers/livekit.toml")),
    ("opensips", include_str!("../config/peers/opensips.toml")),
    ("safari", include_str!("../config/peers/safari.toml")),
    ("siprtc", include_str!("../config/peers/siprtc.toml")),
    ("teams", include_str!("../config/peers/teams.toml")),
    ("twilio", include_str!("../config/peers/twilio.toml")),
    (
        "twilio-secure",
        include_str!("../config/peers/twilio-secure.toml"),
    ),
    ("yealink", include_str!("../config/peers/yealink.toml")),
];

/// What is known, and from where.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fact<T> {
    /// What is known.
    pub is: T,
    /// From where, in a sentence: an RFC, a manual, a recorded description, a run against the peer.
    pub source: String,
}

/// How a peer deals with something that a description may offer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// It does without, but takes it.
    Accepted,
    /// It fails without.
    Required,
    /// It passes over it.
    Unknown,
}

/// Where the keys of a medium come from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keying {
    /// A DTLS handshake, with `a=fingerprint` (RFC 5763).
    DtlsSrtp,
    /// No keys: plain RTP.
    None,
    /// The description itself, with `a=crypto` (RFC 4568).
    Sdes,
}

impl Keying {
    /// As in a profile: `dtls-srtp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Keying::DtlsSrtp => "dtls-srtp",
            Keying::None => "none",
            Keying::Sdes => "sdes",
        }
    }
}

/// Which kind of ICE agent a peer is (RFC 8445).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IceSupport {
    /// A full one, and it does without.
    Full,
    /// It answers checks and sends none.
    Lite,
    /// None: media goes to the address of the m= and c= lines.
    None,
    /// A full one, and it fails without.
    Required,
}

/// What a peer makes of a candidate with an mDNS name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MdnsSupport {
    /// It passes over it.
    Ignored,
    /// It fails on the description.
    Refused,
    /// It asks for the address.
    Resolved,
}

/// How a peer understands that a medium is put on hold (RFC 3264 section 8.4).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// `a=sendonly`, `a=recvonly` and `a=inactive`.
    Direction,
    /// `c=IN IP4 0.0.0.0`, as RFC 2543 had it.
    ZeroAddress,
}

/// How a peer compares the hash function's name of a fingerprint.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashNames {
    /// Without case (RFC 8122 section 5).
    AnyCase,
    /// Only the name in lower case is the same name.
    LowerCase,
}

/// What a peer takes and refuses. What is not said is not known, and [`lint`](crate::lint()) says nothing of it.
///
/// ```
/// use siprtc_sdp_translator::PeerProfile;
///
/// let chrome = PeerProfile::named("chrome")?;
/// assert!(chrome.rtcp_mux.is_some_and(|fact| fact.source.contains("RFC 8834")));
///
/// let error = PeerProfile::parse("name = 'ours'\nabout = 'a phone'\nbundel = 1").unwrap_err();
/// assert!(error.to_string().contains("unknown field `bundel`"));
/// # Ok::<(), siprtc_core::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PeerProfile {
    /// The short name: `asterisk`.
    pub name: String,
    /// Which peer, in which version and configuration.
    pub about: String,
    /// The profiles of RTP that it takes, as in the m= line: `RTP/AVP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Fact<Vec<String>>>,
    /// Where keys may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keying: Option<Fact<Vec<Keying>>>,
    /// ICE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice: Option<Fact<IceSupport>>,
    /// Trickle ICE in its offers and answers (RFC 8838).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trickle: Option<Fact<Support>>,
    /// Candidates with mDNS names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mdns: Option<Fact<MdnsSupport>>,
    /// RTP and RTCP on one port (RFC 5761).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtcp_mux: Option<Fact<Support>>,
    /// Several m-lines on one transport (RFC 9143).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Fact<Support>>,
    /// Encodings of audio, as in `a=rtpmap`, without case: `PCMU/8000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codecs: Option<Fact<Vec<String>>>,
    /// Clock rates of `telephone-event` (RFC 4733) that it takes; none if it takes no events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telephone_event: Option<Fact<Vec<u32>>>,
    /// The words for hold that it understands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Fact<Vec<Hold>>>,
    /// Media other than which it rejects: `audio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Fact<Vec<String>>>,
    /// The most m-lines that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_media: Option<Fact<usize>>,
    /// Whether static payload types need an `a=rtpmap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtpmap_static: Option<Fact<Support>>,
    /// Attributes without which it fails on an m-line; `direction` stands for any of the four.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Fact<Vec<String>>>,
    /// How names of hash functions are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_names: Option<Fact<HashNames>>,
}

impl PeerProfile {
    /// The names of the profiles that come with the crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A profile that comes with the crate.
    ///
    /// # Errors
    /// `ConfigInvalid`, with the names that there are.
    pub fn named(name: &str) -> Result<Self> {
        match SHIPPED.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => PeerProfile::parse(text),
            None => Err(invalid(format!("no profile is named {name:?}")).advice(format!(
                "choose one of {}, or give the path of a file",
                PeerProfile::names().collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// A profile by what a user says: the path of a file (it ends in `.toml`), a file `NAME.toml` in `folder`, or the name
    /// of one that comes with the crate, in this order.
    ///
    /// # Errors
    /// `ConfigInvalid` when there is none, or when it cannot be read.
    pub fn find(name_or_path: &str, folder: Option<&Path>) -> Result<Self> {
        if name_or_path.ends_with(".toml") {
            return PeerProfile::read(Path::new(name_or_path));
        }
        let is_name = name_or_path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let own = folder
            .filter(|_| is_name)
            .map(|folder| folder.join(format!("{name_or_path}.toml")));
        match own.filter(|path| path.is_file()) {
            Some(path) => PeerProfile::read(&path),
            None => PeerProfile::named(name_or_path),
        }
    }

    /// A profile from a file.
    ///
    /// # Errors
    /// `ConfigInvalid` when it cannot be read, is too long, or says what no profile says.
    pub fn read(path: &Path) -> Result<Self> {
        let told = |what: String| invalid(format!("{}: {what}", path.display()));
        let size = std::fs::metadata(path)
            .map_err(|error| told(error.to_string()))?
            .len();
        if size > MAX_PROFILE as u64 {
            return Err(told(format!("it has {size} octets, more than {MAX_PROFILE}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
        PeerProfile::parse(&text).map_err(|error| told(error.message().to_owned()).advice(advice()))
    }

    /// A profile from TOML.
    ///
    /// # Errors
    /// `ConfigInvalid`, with the line and the keys that there are, for what is no TOML, for unknown keys and words, and for
    /// a fact without a source.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_PROFILE {
            return Err(invalid(format!(
                "it has {} octets, more than {MAX_PROFILE}",
                text.len()
            )));
        }
        let profile: PeerProfile = toml::from_str(text)
            .map_err(|error| invalid(error.to_string().trim_end().to_owned()).advice(advice()))?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<()> {
        if self.name.is_empty() || self.about.is_empty() {
            return Err(invalid("name and about must say something".to_owned()));
        }
        if let Some((key, _)) = self
            .sources()
            .into_iter()
            .find(|(_, source)| source.trim().is_empty())
        {
            return Err(invalid(format!("{key} has no source")).advice(
                "say in a sentence from where it is known: an RFC, a manual, a run against the peer",
            ));
        }
        let codecs = self.codecs.iter().flat_map(|fact| &fact.is);
        for codec in codecs {
            let clock = codec
                .split('/')
                .nth(1)
                .and_then(|clock| clock.parse::<u32>().ok());
            if clock.is_none() {
                return Err(invalid(format!("codecs has {codec:?}"))
                    .advice("write encodings as in a=rtpmap: \"PCMU/8000\", \"opus/48000/2\""));
            }
        }
        Ok(())
    }

    /// Each fact that there is, with its source.
    pub fn sources(&self) -> Vec<(&'static str, &str)> {
        fn of<'p, T>(key: &'static str, fact: &'p Option<Fact<T>>) -> Option<(&'static str, &'p str)> {
            fact.as_ref().map(|fact| (key, fact.source.as_str()))
        }
        [
            of("profiles", &self.profiles),
            of("keying", &self.keying),
            of("ice", &self.ice),
            of("trickle", &self.trickle),
            of("mdns", &self.mdns),
            of("rtcp_mux", &self.rtcp_mux),
            of("bundle", &self.bundle),
            of("codecs", &self.codecs),
            of("telephone_event", &self.telephone_event),
            of("hold", &self.hold),
            of("media", &self.media),
            of("max_media", &self.max_media),
            of("rtpmap_static", &self.rtpmap_static),
            of("attributes", &self.attributes),
            of("hash_names", &self.hash_names),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn advice() -> &'static str {
    "every fact is a table with the keys is and source; the shipped profiles in config/peers are examples"
}

fn invalid(what: String) -> Error {
    Error::new(Fault::ConfigInvalid, "read peer profile", what)
}
