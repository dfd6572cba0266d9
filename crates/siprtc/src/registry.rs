//! Every plugin that this build has: the one visible list.

use siprtc_core::ice::IceAgentFactory;
use siprtc_core::media::{IceMode, MediaEngine};
use siprtc_core::sip::{SipCapability, SipStackFactory, Transport};
use siprtc_core::{Error, Fault, Result};
use siprtc_media_rtp::RtpConfig;
use siprtc_media_webrtc::WebrtcConfig;
use std::sync::Arc;

type StackMaker = fn() -> Arc<dyn SipStackFactory>;
type AgentMaker = fn() -> Arc<dyn IceAgentFactory>;
type EngineMaker = fn(&EngineConfig) -> Arc<dyn MediaEngine>;

/// What the engines of this build are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineConfig {
    pub(crate) rtp: RtpConfig,
    pub(crate) webrtc: WebrtcConfig,
}

/// SIP stacks, by the word that selects them.
const SIP_STACKS: &[(&str, StackMaker)] = &[
    (siprtc_sip_ezk::NAME, siprtc_sip_ezk::factory),
    (siprtc_sip_native::NAME, siprtc_sip_native::factory),
    (siprtc_sip_rsip::NAME, siprtc_sip_rsip::factory),
    (siprtc_sip_rsipstack::NAME, siprtc_sip_rsipstack::factory),
    #[cfg(feature = "sofia")]
    (siprtc_sip_sofia::NAME, siprtc_sip_sofia::factory),
];

/// What the configuration selects by default.
pub const DEFAULT_SIP_STACK: &str = "native";

/// Media engines, by the word that selects them.
const MEDIA_ENGINES: &[(&str, EngineMaker)] = &[
    (siprtc_media_rtp::NAME, |config| {
        siprtc_media_rtp::engine(config.rtp.clone())
    }),
    (siprtc_media_rtp::WEB_NAME, |config| {
        siprtc_media_rtp::web_engine(config.rtp.clone())
    }),
    (siprtc_media_webrtc::NAME, |config| {
        siprtc_media_webrtc::engine_with(config.webrtc)
    }),
];

/// ICE agents that an engine with [`IceMode::External`] can be given. The engine's own is `builtin`.
const ICE_AGENTS: &[(&str, AgentMaker)] = &[
    (siprtc_ice_ezk::NAME, siprtc_ice_ezk::factory),
    (siprtc_ice_is::NAME, siprtc_ice_is::factory),
    (siprtc_ice_rtc::NAME, siprtc_ice_rtc::factory),
];

/// The agent for what an engine that does ICE itself leaves to others.
pub(crate) const DEFAULT_ICE_AGENT: &str = siprtc_ice_is::NAME;

/// The engine's own agent.
pub(crate) const BUILT_IN: &str = "builtin";

/// The stack called `name`.
pub fn sip_stack(name: &str) -> Result<Arc<dyn SipStackFactory>> {
    find("sip.stack", name, SIP_STACKS).map(|make| make())
}

/// Every stack of this build.
pub fn sip_stacks() -> Vec<Arc<dyn SipStackFactory>> {
    SIP_STACKS.iter().map(|(_, make)| make()).collect()
}

/// Refuses a transport that `key` asks for and the stack called `name` does not have, and says which stacks have it.
pub(crate) fn check_transport(
    key: &str,
    transport: Transport,
    name: &str,
    capability: &SipCapability,
) -> Result<()> {
    if capability.speaks(transport) {
        return Ok(());
    }
    let others = sip_stacks();
    let others: Vec<&str> = others
        .iter()
        .filter(|stack| stack.capability().is_some_and(|other| other.speaks(transport)))
        .map(|stack| stack.name())
        .collect();
    let advice = match others.is_empty() {
        true => "no stack of this build has it: choose another transport".to_owned(),
        false => format!("choose one of these for sip.stack: {}", others.join(", ")),
    };
    Err(Error::new(
        Fault::ConfigInvalid,
        "wire the endpoint",
        format!("{key} asks for {transport}, which sip.stack = {name:?} does not have"),
    )
    .advice(advice))
}

/// The engine called `name`, as it is by default.
pub fn media_engine(name: &str) -> Result<Arc<dyn MediaEngine>> {
    media_engine_as("media.engine", name, &EngineConfig::default())
}

/// The engine that `key` calls `name`.
pub(crate) fn media_engine_as(
    key: &'static str,
    name: &str,
    config: &EngineConfig,
) -> Result<Arc<dyn MediaEngine>> {
    find(key, name, MEDIA_ENGINES).map(|make| make(config))
}

/// Every ICE agent of this build but the engines' own.
pub fn ice_agents() -> Vec<Arc<dyn IceAgentFactory>> {
    ICE_AGENTS.iter().map(|(_, make)| make()).collect()
}

/// The agent called `name`; `None`: the engine's own.
pub(crate) fn ice_agent(name: &str) -> Option<Arc<dyn IceAgentFactory>> {
    let (_, make) = ICE_AGENTS.iter().find(|(known, _)| *known == name)?;
    Some(make())
}

fn ice_names() -> Vec<&'static str> {
    let agents = ICE_AGENTS.iter().map(|(name, _)| *name);
    std::iter::once(BUILT_IN).chain(agents).collect()
}

/// Refuses an ICE agent that is unknown, or that the engine has no use for.
pub(crate) fn check_ice(agent: &str, engine: &dyn MediaEngine) -> Result<()> {
    let known = ice_names();
    if !known.contains(&agent) {
        return Err(unknown("ice.agent", agent, &known));
    }
    match (agent, engine.ice()) {
        (BUILT_IN, IceMode::BuiltIn | IceMode::Any) => Ok(()),
        (agent, IceMode::External | IceMode::Any) if agent != BUILT_IN => Ok(()),
        (agent, mode) => {
            let engine = engine.name();
            Err(Error::new(
                Fault::ConfigInvalid,
                "wire the endpoint",
                format!(
                    "ice.agent = {agent:?} does not go with media.engine = {engine:?}, whose ICE is {mode:?}"
                ),
            )
            .advice("choose another of the two"))
        }
    }
}

/// The names of every stack, engine and ICE agent, for `--help` and errors.
pub fn names() -> [(&'static str, Vec<&'static str>); 3] {
    [
        ("sip.stack", SIP_STACKS.iter().map(|(name, _)| *name).collect()),
        (
            "media.engine",
            MEDIA_ENGINES.iter().map(|(name, _)| *name).collect(),
        ),
        ("ice.agent", ice_names()),
    ]
}

fn find<T: Copy>(key: &'static str, name: &str, list: &[(&'static str, T)]) -> Result<T> {
    list.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, made)| *made)
        .ok_or_else(|| {
            let known: Vec<&str> = list.iter().map(|(known, _)| *known).collect();
            unknown(key, name, &known)
        })
}

fn unknown(key: &'static str, name: &str, known: &[&str]) -> Error {
    Error::new(
        Fault::ConfigInvalid,
        "wire the endpoint",
        format!("{key} = {name:?} is not known"),
    )
    .advice(format!("choose one of: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_what_exists() {
        let error = sip_stack("foo").err().unwrap().to_string();
        assert!(
            error.contains("sip.stack = \"foo\"") && error.contains("choose one of: ezk"),
            "{error}"
        );
    }

    #[test]
    fn a_transport_that_a_stack_lacks_is_refused_with_the_stacks_that_have_it() {
        let only = |transports: &'static [Transport]| SipCapability {
            transports,
            keepalives: &[],
            gaps: &[],
        };
        assert!(check_transport("sip.listen", Transport::Udp, "x", &only(&[Transport::Udp])).is_ok());
        let error = check_transport("sip.listen", Transport::Tcp, "x", &only(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sip.listen asks for TCP") && error.contains("ezk"),
            "{error}"
        );
        for transport in [Transport::Ws, Transport::Wss] {
            let error = check_transport("account.outbound", transport, "x", &only(&[]))
                .unwrap_err()
                .to_string();
            let has_it = transport == Transport::Tls;
            assert_eq!(error.contains("ezk"), has_it, "{transport}: {error}");
        }
    }

    #[test]
    fn every_stack_says_before_it_runs_what_it_can_do() {
        for stack in sip_stacks() {
            assert!(stack.capability().is_some(), "{}", stack.name());
        }
    }

    #[test]
    fn every_plugin_is_found_by_its_own_name() {
        for (_, names) in &names()[..1] {
            names
                .iter()
                .for_each(|name| assert_eq!(sip_stack(name).unwrap().name(), *name));
        }
        for (_, names) in &names()[1..2] {
            names
                .iter()
                .for_each(|name| assert_eq!(media_engine(name).unwrap().name(), *name));
        }
    }
}
