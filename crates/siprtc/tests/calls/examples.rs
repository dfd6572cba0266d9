//! The examples, as `cargo run --example` runs them without arguments.

#[path = "../../examples/dialler.rs"]
mod dialler;
#[path = "../../examples/intercom.rs"]
mod intercom;
#[path = "../../examples/softphone.rs"]
mod softphone;
#[path = "../../examples/voice_bot.rs"]
mod voice_bot;

use siprtc::core::Cause;

#[tokio::test(flavor = "multi_thread")]
async fn the_dialler_joins_an_agent_and_a_customer_who_was_busy_at_first() {
    assert_eq!(dialler::run(&[]).await.unwrap(), Cause::Bye);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_intercom_opens_once() {
    assert_eq!(intercom::run(&[]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_softphone_has_one_call() {
    assert_eq!(softphone::run(&[]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_voice_bot_hears_and_is_heard() {
    assert!(voice_bot::run(&[]).await.unwrap());
}
