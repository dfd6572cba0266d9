//! Two ends of one role.

use super::bench::{End, agents, loopback, nat};
use siprtc_core::ice::IceRole;

siprtc_testkit::ice_conformance!(siprtc_nat_agent::complete(siprtc_ice_ezk::factory()));

#[tokio::test]
async fn two_of_one_role_agree_whatever_their_agents() {
    for role in [IceRole::Controlling, IceRole::Controlled] {
        for caller in agents() {
            for callee in agents() {
                let a = End::with(&nat(&caller), role, &loopback()).await;
                let b = End::with(&nat(&callee), role, &loopback()).await;
                End::introduce(&a, &b).await;
                a.exchange(&b, 3).await;
                b.exchange(&a, 3).await;
            }
        }
    }
}
