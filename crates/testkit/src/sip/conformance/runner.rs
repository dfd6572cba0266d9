//! Runs one scenario and judges what came of it.

use super::{Kind, Network, Scenario, Setting, config, hears, panics, scenario, start_one};
use parking_lot::Mutex;
use serde::Serialize;
use siprtc_core::sip::{Feature, SipCapability, SipStackFactory};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Longest time that a scenario may take.
const LIMIT: Duration = Duration::from_secs(45);

/// How long a scenario's runtime may take to end what was left running.
const AFTERMATH: Duration = Duration::from_secs(2);

/// What came of a scenario.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "outcome", content = "what", rename_all = "kebab-case")]
pub enum Outcome {
    /// It passed although the stack declares that it cannot: the declaration is stale.
    BetterThanDeclared(Vec<String>),
    /// It failed, as a stack in it declares: `ezk: IPv6`.
    Declared(Vec<String>),
    /// It failed, and no stack in it declares why.
    Failed(String),
    /// It did what it should.
    Passed,
}

impl Outcome {
    /// Whether there is nothing to mend: neither a stack nor what it declares.
    pub fn is_as_it_should_be(&self) -> bool {
        matches!(self, Outcome::Passed | Outcome::Declared(_))
    }
}

/// Runs `scenario` and judges it. One that needs what a stack does not have is run as well: it must fail.
pub fn attempt(scenario: &Scenario, on: &Setting) -> Outcome {
    let stacks = match scenario.kind {
        Kind::Pair => vec![&on.alice, &on.bob],
        Kind::Alone | Kind::Undisturbed => vec![&on.alice],
    };
    let gaps: Vec<Gaps> = stacks
        .iter()
        .map(|stack| Gaps::of(scenario, on.network, stack))
        .collect();
    // Between two kinds of stacks a gap may not show: the other may not use what is missing, or forgive it.
    let must_fail = gaps.iter().all(|gaps| !gaps.scenario.is_empty())
        && stacks.iter().all(|stack| stack.name() == on.alice.name());
    let silent = gaps.iter().any(|gaps| !gaps.transport.is_empty());
    let mut gaps = gaps.into_iter().map(Gaps::all).collect::<Vec<_>>().concat();
    gaps.sort();
    gaps.dedup();
    match play(scenario, on.clone()) {
        // Nothing was heard over a transport that is not there, whatever that looked like.
        Ok(()) if silent => Outcome::Declared(gaps),
        Ok(()) if must_fail => Outcome::BetterThanDeclared(gaps),
        Ok(()) => Outcome::Passed,
        Err(_) if !gaps.is_empty() => Outcome::Declared(gaps),
        Err(why) => Outcome::Failed(why),
    }
}

/// Panics unless the scenario called `name` comes out as it should, `factory` taking every part.
pub fn check(factory: Arc<dyn SipStackFactory>, name: &str, network: Network) {
    let found = scenario(name).unwrap_or_else(|| panic!("there is no scenario {name}"));
    let on = Setting {
        alice: factory.clone(),
        bob: factory,
        network,
    };
    match attempt(found, &on) {
        Outcome::Passed => (),
        Outcome::Declared(gaps) => println!("failed, as declared: {}", gaps.join(", ")),
        Outcome::Failed(why) => {
            panic!("{why}\n\nThe scenario: {} ({})", found.about, found.section)
        }
        Outcome::BetterThanDeclared(gaps) => {
            panic!("it passes, so this declaration is stale: {}", gaps.join(", "))
        }
    }
}

/// Runs it on a runtime of its own, which ends with it. A panic of a stack's task is a failure too.
fn play(scenario: &Scenario, on: Setting) -> Result<(), String> {
    let heap = panics::Heap::default();
    let runtime = runtime(&heap);
    let run = runtime.spawn(panics::caught((scenario.run)(on)));
    let result = runtime.block_on(async {
        match tokio::time::timeout(LIMIT, run).await {
            Ok(Ok(result)) => result,
            Ok(Err(gone)) => Err(format!("it was cancelled: {gone}")),
            Err(_) => Err(format!("it took longer than {LIMIT:?}")),
        }
    });
    runtime.shutdown_timeout(AFTERMATH);
    let others = std::mem::take(&mut *heap.lock());
    match (result, others.is_empty()) {
        (result, true) => result,
        (Ok(()), false) => Err(format!("a task panicked: {}", others.join("; "))),
        (Err(why), false) => Err(format!("{why}; a task panicked: {}", others.join("; "))),
    }
}

/// What a scenario needs and a stack declares that it does not have.
struct Gaps {
    /// The network's transport.
    transport: Vec<String>,
    /// What the network needs beside that: not every scenario uses it.
    network: Vec<String>,
    /// What the scenario itself needs: without it it must fail.
    scenario: Vec<String>,
}

impl Gaps {
    fn of(scenario: &Scenario, network: Network, stack: &Arc<dyn SipStackFactory>) -> Self {
        let capability = capability(stack);
        let missing = |needs: &[Feature]| {
            let missing = needs.iter().filter(|feature| capability.gap(**feature).is_some());
            missing
                .map(|feature| format!("{}: {feature}", stack.name()))
                .collect()
        };
        let unspoken = !capability.speaks(network.transport());
        Gaps {
            transport: unspoken
                .then(|| format!("{}: {}", stack.name(), network.transport()))
                .into_iter()
                .collect(),
            network: missing(network.needs()),
            scenario: missing(scenario.needs),
        }
    }

    fn all(self) -> Vec<String> {
        [self.transport, self.network, self.scenario].concat()
    }
}

/// What stacks of `factory` can do. Where only a running one can tell, one is started and asked, once.
pub(super) fn capability(factory: &Arc<dyn SipStackFactory>) -> SipCapability {
    static ASKED: LazyLock<Mutex<HashMap<&str, SipCapability>>> = LazyLock::new(Mutex::default);
    if let Some(capability) = factory.capability() {
        return capability;
    }
    *ASKED.lock().entry(factory.name()).or_insert_with(|| {
        let runtime = runtime(&panics::Heap::default());
        let capability = runtime.block_on(async {
            let stack = start_one(factory, config(Network::Udp), hears()).await;
            let capability = stack.capability();
            stack.shutdown(Duration::ZERO).await;
            capability
        });
        runtime.shutdown_timeout(AFTERMATH);
        capability
    })
}

fn runtime(heap: &panics::Heap) -> Runtime {
    panics::watch();
    let heap = heap.clone();
    let built = Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || panics::collect_on_this_thread(&heap))
        .enable_all()
        .build();
    built.expect("BUG: no runtime for a scenario")
}
