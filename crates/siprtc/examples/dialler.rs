//! Click-to-call: rings the agent, then the customer, and joins the two. Busy customers are called again.
//!
//! `cargo run --example dialler`, or with `sip:pbx@example.com password sip:proxy.example.com agent customer`.

mod house;

use house::House;
use siprtc::prelude::*;
use std::time::Duration;

/// How often a customer is called, and how long to wait in between if nothing else is said.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Calls somebody until it is answered, as long as that makes sense.
async fn reach(endpoint: &Endpoint, whom: &str) -> Result<Call> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut call = endpoint.dial(whom, MediaPlan::default()).await?;
        let Err(error) = call.confirmed().await else {
            return Ok(call);
        };
        let Some(ending) = call.report().map(|report| &report.ending) else {
            return Err(error);
        };
        println!("{whom}: {} ({:?})", ending.cause, ending.status);
        if tries == TRIES || !ending.is_worth_a_retry() {
            return Err(error);
        }
        tokio::time::sleep(ending.retry_after.unwrap_or(PAUSE)).await;
    }
}

/// Joins agent and customer until one of them hangs up.
pub(crate) async fn click(endpoint: &Endpoint, agent: &str, customer: &str) -> Result<CallReport> {
    let agent = reach(endpoint, agent).await?;
    let customer = match reach(endpoint, customer).await {
        Ok(customer) => customer,
        Err(error) => {
            agent.hangup().await?;
            return Err(error);
        }
    };
    let together = BridgeConfig {
        on_end: OnEnd::HangUp,
        ..BridgeConfig::default()
    };
    endpoint.bridge_with(&agent, &customer, together).await?;
    println!("agent and customer talk");
    agent.finished().await?;
    customer.finished().await
}

/// Somebody with a telephone: busy at first if `busy`, answers then, and hangs up after a while.
async fn person(endpoint: &mut Endpoint, busy: bool, talks: Duration) -> Result<()> {
    if busy && let Some(call) = endpoint.incoming().await {
        call.refuse(486).await?;
    }
    let Some(call) = endpoint.incoming().await else {
        return Ok(());
    };
    let mut call = call.answer(MediaPlan::default()).await?;
    call.confirmed().await?;
    let talk = async { while call.next().await.is_some() {} };
    if tokio::time::timeout(talks, talk).await.is_err() {
        call.hangup().await?;
    }
    call.finished().await.map(|_| ())
}

/// How the customer's call ended.
pub(crate) async fn run(arguments: &[String]) -> Result<Cause> {
    let house = House::open(arguments).await?;
    let pbx = house.endpoint("alice", arguments).await?;
    if let [_, _, _, agent, customer] = arguments {
        let report = click(&pbx, agent, customer).await;
        house.close(vec![pbx]).await;
        return report.map(|report| report.ending.cause);
    }
    let mut agent = house.endpoint("agent", arguments).await?;
    let mut customer = house.endpoint("customer", arguments).await?;
    let (report, agents, customers) = tokio::join!(
        click(&pbx, "agent", "customer"),
        person(&mut agent, false, Duration::from_secs(60)),
        person(&mut customer, true, Duration::from_secs(1)),
    );
    agents.and(customers)?;
    house.close(vec![pbx, agent, customer]).await;
    report.map(|report| report.ending.cause)
}

#[tokio::main]
#[allow(dead_code, reason = "a test calls run()")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("the customer's call: {}", run(&arguments).await?);
    Ok(())
}
