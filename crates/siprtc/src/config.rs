//! The configuration: defaults, then files, then the environment, then what the caller sets.
//!
//! Every key is documented in `config/default.toml`, which is also the source of every default: there is no second
//! list to keep true.

mod control;
mod ice;
mod rtp;

use crate::registry::EngineConfig;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use siprtc_core::media::{Codec, VideoCodec};
use siprtc_core::sip::{ListenerConfig, SipUri, Transport};
use siprtc_core::{Error, Fault, Result};
use siprtc_media_rtp::RtpConfig;
use siprtc_media_session::QuietConfig;
use siprtc_media_webrtc::WebrtcConfig;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use ice::{IceServerConfig, IceSettings, IceTlsSettings};
pub use rtp::RtpSettings;

/// Every key with its default and its meaning.
pub const DEFAULTS: &str = include_str!("../../../config/default.toml");

/// The prefix of environment variables: `SIPRTC__ACCOUNT__PASSWORD` sets `account.password`.
pub const ENVIRONMENT_PREFIX: &str = "SIPRTC";

/// One endpoint's configuration. The fields are `config/default.toml`'s keys, which documents them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    missing_docs,
    reason = "config/default.toml documents every key; a second text would only drift"
)]
pub struct Config {
    pub account: AccountConfig,
    pub call: CallConfig,
    pub home: HomeConfig,
    pub ice: IceSettings,
    pub log: LogConfig,
    pub media: MediaConfig,
    pub sip: SipConfig,
    pub telemetry: TelemetryConfig,
    pub turn: TurnSettings,
}

/// `[account]`: whose telephone this is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct AccountConfig {
    pub uri: String,
    pub display_name: String,
    pub auth_user: String,
    pub password: String,
    #[serde(deserialize_with = "one_or_many")]
    pub outbound: Vec<String>,
    pub registrars: Vec<String>,
    pub register: bool,
    pub expires_s: u32,
    pub instance: String,
    pub flows: usize,
    pub keepalive_s: u64,
    pub gruu: bool,
    pub weakest_digest: String,
    pub backoff_first_ms: u64,
    pub backoff_most_s: u64,
    pub recovery_first_s: u64,
    pub recovery_most_s: u64,
}

/// `[call]`: limits of calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct CallConfig {
    pub max_calls: usize,
    pub no_answer_s: u64,
    pub session_timer_s: u64,
    pub session_timer_least_s: u64,
    pub shutdown_grace_ms: u64,
    pub transfer: String,
    pub dtmf: String,
    pub messages: bool,
    pub redirects: String,
    pub reliable_provisionals: String,
    pub reoffer: String,
    /// `first`, `latest` or `none`.
    pub early_media: String,
    pub unasked_summaries: bool,
    #[serde(deserialize_with = "one_or_many")]
    pub notifies: Vec<String>,
    /// `all`, `trusted` or `nobody`.
    pub watchers: String,
    /// `all`, `trusted` or `nobody`.
    pub referrals: String,
    #[serde(deserialize_with = "one_or_many")]
    pub trusted: Vec<String>,
}

/// `[home]`: the embedded server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct HomeConfig {
    pub realm: String,
    pub listen: Vec<String>,
    pub users: Vec<UserConfig>,
    pub turn: String,
    pub min_expires_s: u32,
    pub max_expires_s: u32,
}

/// `[[home.users]]`, `[[turn.users]]`: who may register at the embedded server, and who may relay.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct UserConfig {
    pub name: String,
    pub password: String,
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct LogConfig {
    pub filter: String,
    pub format: String,
}

/// `[media]`: the engine and its codecs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct MediaConfig {
    pub engine: String,
    pub classic: String,
    pub codecs: Vec<String>,
    pub video_codecs: Vec<String>,
    pub ptime_ms: u32,
    pub comfort_noise: bool,
    pub quiet_dbov: f32,
    pub quiet_after_ms: u64,
    pub rtp: RtpSettings,
}

/// `[sip]`: the stack and its listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct SipConfig {
    pub stack: String,
    pub listen: Vec<String>,
    pub user_agent: String,
    pub t1_ms: u64,
    pub t2_ms: u64,
    pub t4_ms: u64,
    pub max_transactions: usize,
    pub max_connections: usize,
    pub dns: Vec<String>,
    pub dns_timeout_ms: u64,
    pub dns_ipv6: String,
    pub udp_limit: usize,
    pub invite_diet: bool,
    pub websocket_path: String,
    pub tls: TlsSettings,
}

/// `[sip.tls]`: certificates, as PEM files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct TlsSettings {
    pub ca: String,
    pub certificate: String,
    pub key: String,
    pub client_ca: String,
    pub verify: bool,
}

/// `[telemetry]`: OpenTelemetry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct TelemetryConfig {
    pub otlp_endpoint: String,
    pub service_name: String,
    pub interval_s: u64,
}

/// `[turn]`: STUN and TURN for others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml documents every key")]
pub struct TurnSettings {
    pub listen: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub relay: Vec<String>,
    pub min_port: u16,
    pub max_port: u16,
    pub realm: String,
    pub users: Vec<UserConfig>,
    #[serde(deserialize_with = "one_or_many")]
    pub secrets: Vec<String>,
    pub certificate: String,
    pub key: String,
    #[serde(deserialize_with = "one_or_many")]
    pub allow_peers: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub deny_peers: Vec<String>,
    pub max_allocations: usize,
    pub max_allocations_per_user: usize,
    pub max_permissions: usize,
    pub max_connections: usize,
    pub max_challenges_per_s: u32,
    pub max_lifetime_s: u64,
    pub nonce_s: u64,
    pub workers: usize,
}

impl Config {
    /// The defaults alone.
    pub fn defaults() -> Result<Self> {
        Layers::new().load()
    }
}

/// The layers of a configuration, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    files: Vec<std::path::PathBuf>,
    texts: Vec<String>,
    environment: bool,
    settings: Vec<(String, String)>,
}

impl Layers {
    /// The defaults only.
    pub fn new() -> Self {
        Layers::default()
    }

    /// Adds a TOML file; a later one wins.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.files.push(path.as_ref().to_owned());
        self
    }

    /// Adds TOML text; a later one wins.
    #[must_use]
    pub fn text(mut self, toml: impl Into<String>) -> Self {
        self.texts.push(toml.into());
        self
    }

    /// Reads `SIPRTC__SECTION__KEY` from the environment, over the files.
    #[must_use]
    pub fn environment(mut self) -> Self {
        self.environment = true;
        self
    }

    /// Sets one key (`ice.policy`) over everything else. The value is TOML; a bare word is taken as a string.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// Puts the layers on top of each other and reads the result.
    ///
    /// Errors: [`Fault::ConfigInvalid`], naming the file or key and what would be right.
    pub fn load(self) -> Result<Config> {
        use config::{Environment, File, FileFormat};
        let mut builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        for path in &self.files {
            if !path.is_file() {
                return Err(
                    invalid(format!("there is no configuration file {}", path.display()))
                        .advice("check the path given with --config"),
                );
            }
            builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
        }
        for text in &self.texts {
            builder = builder.add_source(File::from_str(text, FileFormat::Toml));
        }
        if self.environment {
            let source = Environment::with_prefix(ENVIRONMENT_PREFIX)
                .prefix_separator("__")
                .separator("__")
                .try_parsing(true);
            builder = builder.add_source(source);
        }
        for (key, value) in &self.settings {
            builder = builder.add_source(File::from_str(&setting(key, value)?, FileFormat::Toml));
        }
        builder
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| {
                invalid(error.to_string())
                    .advice("config/default.toml lists every key; the environment's are SIPRTC__SECTION__KEY")
            })
    }
}

/// One `key = value` as TOML.
fn setting(key: &str, value: &str) -> Result<String> {
    let fits = |text: &str| {
        config::Config::builder()
            .add_source(config::File::from_str(text, config::FileFormat::Toml))
            .build()
            .is_ok()
    };
    let dotted = key.split('.').all(|part| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    });
    if !dotted || !key.contains('.') {
        return Err(
            invalid(format!("{key:?} is no key")).advice("write section.key=value, such as ice.policy=relay")
        );
    }
    let as_toml = format!("{key} = {value}");
    let as_string = format!("{key} = {}", serde_json::Value::String(value.to_owned()));
    if fits(&as_toml) {
        Ok(as_toml)
    } else if fits(&as_string) {
        Ok(as_string)
    } else {
        Err(invalid(format!("{value:?} is no value for {key}")).advice("write a TOML value"))
    }
}

/// A list, or one text that stands for a list of one; an empty text is an empty list.
fn one_or_many<'de, D: Deserializer<'de>>(source: D) -> std::result::Result<Vec<String>, D::Error> {
    struct Texts;

    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
            Ok(Some(text)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .into_iter()
                .collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }

    source.deserialize_any(Texts)
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Fault::ConfigInvalid, "load configuration", message)
}

/// A SIP URI of the configuration; `key` names it in the error.
pub(crate) fn sip_uri(key: &str, text: &str) -> Result<SipUri> {
    text.parse().map_err(|error: Error| {
        invalid(format!("{key} = {text:?} is no SIP URI: {}", error.message()))
            .advice("write it as sip:user@host or sip:host:port;transport=tcp")
    })
}

/// `udp:127.0.0.1:5060`, or `udp:192.0.2.1:5060=198.51.100.7:5060` with the address that others are told.
pub fn listener(key: &str, text: &str) -> Result<ListenerConfig> {
    let bad = |what: &str| {
        invalid(format!("{key}: {text:?} is no listener: {what}"))
            .advice("write transport:address:port, such as udp:0.0.0.0:5060 or tls:[::1]:0; the transports are udp, tcp, tls, ws and wss")
    };
    let (transport, rest) = text.split_once(':').ok_or_else(|| bad("no transport"))?;
    let transport = Transport::from_name(transport).ok_or_else(|| bad("unknown transport"))?;
    let (bind, advertise) = match rest.split_once('=') {
        None => (rest, None),
        Some((bind, advertise)) => (
            bind,
            Some(
                advertise
                    .parse::<SocketAddr>()
                    .map_err(|_| bad("unreadable advertised address"))?,
            ),
        ),
    };
    Ok(ListenerConfig {
        transport,
        bind: bind.parse().map_err(|_| bad("unreadable address"))?,
        advertise,
    })
}

impl MediaConfig {
    pub(crate) fn codecs(&self) -> Result<Vec<Codec>> {
        let known = || Codec::ALL.map(Codec::as_str).join(", ");
        let codecs: Result<Vec<Codec>> = self
            .codecs
            .iter()
            .map(|name| {
                Codec::from_name(name).ok_or_else(|| {
                    invalid(format!("media.codecs: {name:?} is not known"))
                        .advice(format!("choose from: {}", known()))
                })
            })
            .collect();
        let codecs = codecs?;
        if codecs.is_empty() {
            return Err(invalid("media.codecs is empty").advice(format!("choose from: {}", known())));
        }
        if !(10..=60).contains(&self.ptime_ms) || !self.ptime_ms.is_multiple_of(10) {
            return Err(
                invalid(format!("media.ptime_ms = {} does not fit", self.ptime_ms))
                    .advice("choose 10, 20, 40 or 60"),
            );
        }
        Ok(codecs)
    }

    pub(crate) fn video_codecs(&self) -> Result<Vec<VideoCodec>> {
        let known = || VideoCodec::ALL.map(VideoCodec::as_str).join(", ");
        let codec = |name: &String| {
            VideoCodec::from_name(name).ok_or_else(|| {
                invalid(format!("media.video_codecs: {name:?} is not known"))
                    .advice(format!("choose from: {}", known()))
            })
        };
        self.video_codecs.iter().map(codec).collect()
    }

    /// What the engines are told.
    pub(crate) fn engines(&self) -> Result<EngineConfig> {
        Ok(EngineConfig {
            rtp: RtpConfig {
                comfort_noise: self.comfort_noise,
                ..self.rtp.parse()?
            },
            webrtc: WebrtcConfig {
                comfort_noise: self.comfort_noise,
            },
        })
    }

    /// When a side that falls quiet is told.
    pub(crate) fn quiet(&self) -> Result<Option<QuietConfig>> {
        if !(-127.0..=0.0).contains(&self.quiet_dbov) {
            return Err(
                invalid(format!("media.quiet_dbov = {} is no level", self.quiet_dbov))
                    .advice("choose -127 to 0 dBov; a room is about -60, a voice about -30"),
            );
        }
        Ok((self.quiet_after_ms > 0).then(|| QuietConfig {
            dbov: self.quiet_dbov,
            after: Duration::from_millis(self.quiet_after_ms),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_load() {
        let config = Config::defaults().unwrap();
        assert_eq!(config.sip.stack, crate::registry::DEFAULT_SIP_STACK);
        assert_eq!(config.media.codecs().unwrap()[0], Codec::Opus);
        assert_eq!(config.media.video_codecs().unwrap()[0], VideoCodec::Vp8);
    }

    #[test]
    fn a_later_layer_wins_and_a_bare_word_is_a_string() {
        let config = Layers::new()
            .text("[ice]\npolicy = \"all\"")
            .set("ice.policy", "relay")
            .load()
            .unwrap();
        assert_eq!(config.ice.policy().unwrap(), siprtc_core::ice::IcePolicy::Relay);
    }

    #[test]
    fn an_unknown_key_is_named_with_the_known_ones() {
        let error = Layers::new().set("sip.stak", "ezk").load().unwrap_err();
        assert_eq!(error.fault(), Fault::ConfigInvalid);
        assert!(
            error.to_string().contains("stak") && error.to_string().contains("stack"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = Layers::new().set("call.max_calls", "many").load().unwrap_err();
        assert!(error.to_string().contains("max_calls"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Layers::new().file("no/such.toml").load().unwrap_err();
        assert!(error.to_string().contains("no/such.toml"), "{error}");
    }

    #[test]
    fn one_proxy_or_several_may_be_given() {
        let read = |text: &str| {
            Layers::new()
                .text(text)
                .load()
                .map(|config| config.account.outbound)
        };
        assert!(Config::defaults().unwrap().account.outbound.is_empty());
        assert!(read("[account]\noutbound = \"\"").unwrap().is_empty());
        assert_eq!(read("[account]\noutbound = \"sip:a\"").unwrap(), ["sip:a"]);
        assert_eq!(
            read("[account]\noutbound = [\"sip:a\", \"sip:b\"]").unwrap(),
            ["sip:a", "sip:b"]
        );
        let set = Layers::new()
            .set("account.outbound", "sip:p.example.com;transport=tcp")
            .load();
        assert_eq!(set.unwrap().account.outbound, ["sip:p.example.com;transport=tcp"]);
        assert!(read("[account]\noutbound = 5").is_err());
    }

    #[test]
    fn listeners_are_read_with_and_without_an_advertised_address() {
        let plain = listener("sip.listen", "tcp:[::1]:0").unwrap();
        assert_eq!((plain.transport, plain.advertise), (Transport::Tcp, None));
        let told = listener("sip.listen", "udp:10.0.0.1:5060=198.51.100.7:5060").unwrap();
        assert_eq!(told.advertise, Some("198.51.100.7:5060".parse().unwrap()));
        assert!(listener("sip.listen", "quic:1.2.3.4:5").is_err());
    }
}
