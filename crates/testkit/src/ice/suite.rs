//! What every agent must do, each with itself.

use super::end::End;
use super::run::{Behind, PathKind, Stage, Trial, run};
use crate::net::Link;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use siprtc_core::ice::{IceAgentFactory, IceFeature, IceRole};
use std::sync::Arc;
use std::time::Duration;

/// One thing that an agent must do.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// A sentence with underscores.
    pub name: &'static str,
    /// Who asks for it.
    pub section: &'static str,
    /// What it cannot pass without; it is run all the same, and must fail then.
    pub needs: &'static [IceFeature],
    run: fn(&dyn IceAgentFactory) -> Result<(), String>,
}

/// Every check of the suite over one agent, a test each: `siprtc_testkit::ice_conformance!(mine::factory());`
#[macro_export]
macro_rules! ice_conformance {
    ($factory:expr) => {
        #[test]
        fn every_check_comes_out_as_declared() {
            let factory = $factory;
            let wrong: Vec<String> = $crate::ice::checks()
                .iter()
                .filter_map(|check| {
                    let why = $crate::ice::check(&factory, check).err()?;
                    Some(format!("{} ({}): {why}", check.name, check.section))
                })
                .collect();
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
    };
}

/// The checks.
pub fn checks() -> &'static [Check] {
    const fn check(
        name: &'static str,
        section: &'static str,
        needs: &'static [IceFeature],
        run: fn(&dyn IceAgentFactory) -> Result<(), String>,
    ) -> Check {
        Check {
            name,
            section,
            needs,
            run,
        }
    }
    const ALL: &[Check] = &[
        check("two_in_the_open_connect", "RFC 8445 6", &[], in_the_open),
        check(
            "two_behind_usual_nats_connect",
            "RFC 8445 5.1.1.2",
            &[],
            behind_nats,
        ),
        check(
            "a_relay_is_used_where_nothing_else_works",
            "RFC 8445 5.1.1.2",
            &[IceFeature::Relay],
            by_relay,
        ),
        check(
            "loss_and_copies_and_jitter_do_not_stop_it",
            "RFC 8445 14.3",
            &[],
            lossy,
        ),
        check(
            "candidates_that_come_later_are_checked",
            "RFC 8838 11",
            &[],
            trickled,
        ),
        check(
            "two_that_both_control_agree",
            "RFC 8445 7.3.1.1",
            &[IceFeature::RoleConflict],
            role_conflict,
        ),
        check(
            "two_that_are_both_controlled_agree",
            "RFC 8445 7.3.1.1",
            &[IceFeature::RoleConflict],
            both_controlled,
        ),
        check(
            "a_wrong_password_connects_nothing",
            "RFC 8445 7.3",
            &[],
            wrong_password,
        ),
        check(
            "candidates_of_no_use_are_passed_over",
            "RFC 8839 5.1",
            &[],
            of_no_use,
        ),
        check("damaged_packets_harm_nobody", "RFC 8489 6.3", &[], damaged),
        check(
            "a_thousand_candidates_are_bounded",
            "RFC 8445 6.1.2.5",
            &[],
            a_thousand,
        ),
        check("what_is_connected_comes_to_rest", "RFC 8445 11", &[], at_rest),
    ];
    ALL
}

/// Runs one, and judges it by what the agent declares.
///
/// # Errors
/// What went wrong; or that it went well although the agent declares that it cannot.
pub fn check(factory: &Arc<dyn IceAgentFactory>, check: &Check) -> Result<(), String> {
    let lacks = check
        .needs
        .iter()
        .find(|feature| factory.capability().gap(**feature).is_some());
    match ((check.run)(factory.as_ref()), lacks) {
        (Ok(()), Some(feature)) => Err(format!("it passes, so this declaration is stale: {feature}")),
        (Err(_), Some(_)) | (Ok(()), None) => Ok(()),
        (Err(why), None) => Err(why),
    }
}

const OPEN: Trial = Trial {
    alice: Behind::Nothing,
    bob: Behind::Nothing,
    relays: false,
    link: Link {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        lost: 0,
        twice: 0,
        mtu: 1472,
        blackhole: false,
    },
    seed: 1,
};

fn expect(factory: &dyn IceAgentFactory, trial: &Trial, path: PathKind) -> Result<(), String> {
    let outcome = run(factory, factory, trial).map_err(|error| error.to_string())?;
    match outcome.path == Some(path) {
        true => Ok(()),
        false => Err(format!("{path:?} was expected, and came {outcome:?}")),
    }
}

fn stage(factory: &dyn IceAgentFactory, trial: &Trial) -> Result<Stage, String> {
    Stage::set(
        factory,
        factory,
        trial,
        [IceRole::Controlling, IceRole::Controlled],
    )
    .map_err(|error| error.to_string())
}

fn unless(fault: bool, what: impl Into<String>) -> Result<(), String> {
    match fault {
        true => Err(what.into()),
        false => Ok(()),
    }
}

fn in_the_open(factory: &dyn IceAgentFactory) -> Result<(), String> {
    expect(factory, &OPEN, PathKind::Direct)
}

fn behind_nats(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let home = Behind::PortRestricted;
    expect(
        factory,
        &Trial {
            alice: home,
            bob: home,
            ..OPEN
        },
        PathKind::Direct,
    )
}

fn by_relay(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let office = Behind::Symmetric;
    expect(
        factory,
        &Trial {
            alice: office,
            bob: office,
            relays: true,
            ..OPEN
        },
        PathKind::Relayed,
    )
}

fn lossy(factory: &dyn IceAgentFactory) -> Result<(), String> {
    (1..=10).try_for_each(|seed| {
        let link = Link {
            jitter: Duration::from_millis(40),
            lost: 15,
            twice: 10,
            ..OPEN.link
        };
        expect(factory, &Trial { link, seed, ..OPEN }, PathKind::Direct)
            .map_err(|why| format!("seed {seed}: {why}"))
    })
}

fn trickled(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let mut stage = stage(factory, &OPEN)?;
    let (alices, bobs) = (
        std::mem::take(&mut stage.alice.candidates),
        std::mem::take(&mut stage.bob.candidates),
    );
    let wrong = |error: siprtc_core::Error| error.to_string();
    stage.describe().map_err(wrong)?;
    stage.run_for(Duration::from_millis(500));
    unless(stage.both_selected(), "a pair was selected without candidates")?;
    for (end, candidates) in [(&mut stage.bob, alices), (&mut stage.alice, bobs)] {
        for candidate in candidates {
            end.agent.add_remote(stage.net.now(), &candidate).map_err(wrong)?;
        }
    }
    stage.run_for(Duration::from_secs(3));
    unless(stage.path().is_none(), "what came later was not checked")
}

fn role_conflict(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let wrong = |error: siprtc_core::Error| error.to_string();
    let roles = [IceRole::Controlling; 2];
    agree(Stage::set(factory, factory, &OPEN, roles).map_err(wrong)?)
}

fn both_controlled(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let wrong = |error: siprtc_core::Error| error.to_string();
    let roles = [IceRole::Controlled; 2];
    agree(Stage::set(factory, factory, &OPEN, roles).map_err(wrong)?)
}

fn agree(mut stage: Stage) -> Result<(), String> {
    let wrong = |error: siprtc_core::Error| error.to_string();
    stage.describe().map_err(wrong)?;
    stage.run_for(Duration::from_secs(5));
    unless(stage.path().is_none(), "two of one role do not connect")?;
    let told = stage.alice.roles.len() + stage.bob.roles.len();
    unless(told == 0, "nobody said that its role has changed")
}

fn wrong_password(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let mut stage = stage(factory, &OPEN)?;
    stage.bob.parameters.pwd = "not-the-password-that-bob-uses".to_owned();
    stage.describe().map_err(|error| error.to_string())?;
    stage.run_for(Duration::from_secs(5));
    unless(
        stage.alice.selected.is_some(),
        "Alice has selected a pair whose answers are signed by somebody else",
    )
}

fn of_no_use(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let mut stage = stage(factory, &OPEN)?;
    for text in [
        "1 1 tcp 2105458943 203.0.113.77 9 typ host tcptype active",
        "2 2 udp 2105458942 203.0.113.77 5001 typ host",
        "3 1 udp 2105458941 0f6d3fb2.local 5002 typ host",
        "4 1 udp 2105458940 2001:db8::1 5003 typ host",
    ] {
        let candidate = text.parse().map_err(|error| format!("{text}: {error}"))?;
        stage
            .alice
            .agent
            .add_remote(stage.net.now(), &candidate)
            .map_err(|error| format!("{text} is refused: {error}"))?;
    }
    stage.describe().map_err(|error| error.to_string())?;
    stage.run_for(Duration::from_secs(3));
    unless(
        stage.path().is_none(),
        "the candidates that were of use were not used",
    )
}

/// Of all that Alice sends Bob hears only damaged copies, and nonsense with them.
fn damaged(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let wrong = |error: siprtc_core::Error| error.to_string();
    let Stage {
        net,
        mut alice,
        mut bob,
        ..
    } = stage(factory, &OPEN)?;
    let now = net.now();
    let learn = |end: &mut End, peer: &End| -> Result<(), String> {
        end.agent.set_remote(now, &peer.parameters).map_err(wrong)?;
        let mut candidates = peer.candidates.iter();
        candidates.try_for_each(|candidate| end.agent.add_remote(now, candidate).map_err(wrong))
    };
    learn(&mut alice, &bob)?;
    learn(&mut bob, &alice)?;
    let mut random = StdRng::seed_from_u64(8489);
    for round in 0..40 {
        let now = now + Duration::from_millis(50) * round;
        alice.agent.handle_timeout(now);
        let mut sent: Vec<Vec<u8>> =
            std::iter::from_fn(|| alice.agent.poll_transmit().map(|datagram| datagram.data)).collect();
        sent.push(
            (0..random.random_range(1..100))
                .map(|_| random.random())
                .collect(),
        );
        for data in sent {
            for _ in 0..100 {
                let mut data = data.clone();
                let at = random.random_range(0..data.len());
                data[at] ^= 1 << random.random_range(0..8);
                if random.random() {
                    data.truncate(random.random_range(0..data.len()));
                }
                bob.agent.handle_packet(now, bob.socket, alice.socket, &data);
            }
        }
        bob.agent.handle_timeout(now);
        while bob.agent.poll_transmit().is_some() {}
        while let Some(event) = bob.agent.poll_event() {
            if let siprtc_core::ice::IceEvent::Selected { .. } = event {
                return Err("Bob has selected a pair on damaged packets alone".to_owned());
            }
        }
    }
    Ok(())
}

fn a_thousand(factory: &dyn IceAgentFactory) -> Result<(), String> {
    const SECONDS: u64 = 5;
    let mut stage = stage(factory, &OPEN)?;
    stage.describe().map_err(|error| error.to_string())?;
    for number in 0..1000_u32 {
        let text = format!(
            "{number} 1 udp {} 198.51.100.{} {} typ host",
            1_000_000 + number,
            number % 250 + 1,
            1024 + number
        );
        let candidate = text.parse().map_err(|error| format!("{text}: {error}"))?;
        // A refusal is one way to be bounded.
        let _ = stage.alice.agent.add_remote(stage.net.now(), &candidate);
    }
    let before = stage.alice.checks;
    stage.run_for(Duration::from_secs(SECONDS));
    let sent = stage.alice.checks - before;
    // Some send more than the one new check each 50 ms of RFC 8445 section 14.2, and each goes out several times.
    unless(sent > SECONDS * 300, format!("{sent} datagrams in {SECONDS} s"))?;
    unless(stage.path().is_none(), "the one that works was lost among them")
}

fn at_rest(factory: &dyn IceAgentFactory) -> Result<(), String> {
    let mut stage = stage(factory, &OPEN)?;
    stage.describe().map_err(|error| error.to_string())?;
    stage.run_for(Duration::from_secs(5));
    let before = stage.alice.checks + stage.bob.checks;
    stage.run_for(Duration::from_secs(20));
    let sent = stage.alice.checks + stage.bob.checks - before;
    unless(sent > 200, format!("{sent} datagrams in 20 s of a connection"))?;
    unless(stage.path().is_none(), "the connection is gone after 20 s")
}
