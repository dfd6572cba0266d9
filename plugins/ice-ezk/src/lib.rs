#![doc = include_str!("../README.md")]

mod agent;

use agent::Agent;
use siprtc_core::Result;
use siprtc_core::ice::{
    IceAgent, IceAgentFactory, IceCapability, IceFeature, IceGap, IceParameters, IceRole,
};
use std::sync::Arc;
use std::time::Instant;

/// The word that selects it in the configuration.
pub const NAME: &str = "ezk";

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
        IceCapability {
            gaps: &[
                IceGap {
                    feature: IceFeature::Relay,
                    why: "ezk-ice knows no relayed candidates of its own: its source says TODO; those of the peer it checks",
                },
                IceGap {
                    feature: IceFeature::RoleConflict,
                    why: "bare agents of one role select no pair: ezk-ice signs its 487 with the wrong password and takes its new role from it, RFC 8445 from the request that was sent; over paths nat-agent settles it",
                },
            ],
        }
    }

    fn make(&self, _: Instant, role: IceRole, local: &IceParameters) -> Result<Box<dyn IceAgent>> {
        Ok(Box::new(Agent::new(role, local)))
    }
}
