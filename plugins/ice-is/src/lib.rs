#![doc = include_str!("../README.md")]

mod agent;

use agent::Agent;
use siprtc_core::Result;
use siprtc_core::ice::{IceAgent, IceAgentFactory, IceCapability, IceParameters, IceRole};
use std::sync::Arc;
use std::time::Instant;

/// The word that selects it in the configuration.
pub const NAME: &str = "is";

/// Makes agents.
pub fn factory() -> Arc<dyn IceAgentFactory> {
    Arc::new(Factory)
}

struct Factory;

impl IceAgentFactory for Factory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capability(&self) -> IceCapability {
        IceCapability { gaps: &[] }
    }

    fn make(&self, now: Instant, role: IceRole, local: &IceParameters) -> Result<Box<dyn IceAgent>> {
        Ok(Box::new(Agent::new(now, role, local)))
    }
}
