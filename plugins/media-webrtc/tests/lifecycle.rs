//! What a peer leaves behind, and where it lives. One test at a time: they count what the process has.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use siprtc_core::Fault;
use siprtc_core::media::MediaEvent;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test on its own runtime while no other runs.
fn run(test: impl Future<Output = ()>) {
    let _alone = alone();
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until no more files and tasks are there than before; `Err` says what is left.
async fn settled(files: usize, tasks: usize) -> Result<(), String> {
    for _ in 0..200 {
        let now = (open_files(), Handle::current().metrics().num_alive_tasks());
        if now.0 <= files && now.1 <= tasks {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let tasks_now = Handle::current().metrics().num_alive_tasks();
    Err(format!(
        "{} files of {files}, {tasks_now} tasks of {tasks}",
        open_files()
    ))
}

#[test]
fn fifty_calls_that_are_closed_leave_no_socket_and_no_task() {
    run(async {
        drop(connect(Setup::default(), Setup::default()).await);
        settled(usize::MAX, 0).await.unwrap();
        let (files, tasks, threads_before) = (
            open_files(),
            Handle::current().metrics().num_alive_tasks(),
            threads(),
        );
        for _ in 0..5 {
            let mut calls = Vec::new();
            for _ in 0..10 {
                calls.push(connect(Setup::default(), Setup::default()).await);
            }
            assert_eq!(open_files(), files + 20, "one socket for each peer");
            assert_eq!(threads(), threads_before, "no thread for a peer");
            for (mut a, b) in calls {
                a.peer.close().await;
                a.peer.close().await;
                b.peer.close().await;
                a.event(|event| matches!(event, MediaEvent::Closed).then_some(()))
                    .await;
            }
        }
        settled(files, tasks).await.unwrap();
    });
}

#[test]
fn a_peer_that_is_dropped_is_closed() {
    run(async {
        let (files, tasks) = (open_files(), Handle::current().metrics().num_alive_tasks());
        for _ in 0..10 {
            let (a, mut b) = connect(Setup::default(), Setup::default()).await;
            let End { peer, mut events, .. } = a;
            drop(peer);
            let closed = async { while !matches!(events.recv().await, Some(MediaEvent::Closed)) {} };
            tokio::time::timeout(PATIENCE, closed)
                .await
                .expect("dropping did not close");
            let packet = b.packet(0);
            b.peer.send(packet).await.unwrap();
            // One that never got further than its birth, and one with an offer.
            drop(End::new(Setup::default()).await);
            let offerer = End::new(Setup::default()).await;
            offerer.offer().await;
        }
        settled(files, tasks).await.unwrap();
    });
}

#[test]
fn nothing_is_sent_after_close() {
    run(async {
        let (mut a, _b) = connect(Setup::default(), Setup::default()).await;
        a.peer.close().await;
        let packet = a.packet(0);
        assert_eq!(a.peer.send(packet).await.unwrap_err().fault(), Fault::ApiMisuse);
        assert_eq!(a.peer.selected_pair().await, None);
        a.peer.stats().await;
    });
}

/// Runs `work` on a runtime of its own, as an actor's arbiter is one, and ends that runtime.
fn on_an_arbiter<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    std::thread::spawn(|| {
        Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    })
    .join()
    .unwrap()
}

#[test]
fn a_peer_lives_on_its_own_runtime_whoever_calls_it() {
    let _alone = alone();
    let media: Runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let a = media.block_on(End::new(Setup::default()));
    let (a, offer) = on_an_arbiter(async move {
        let offer = a.offer().await;
        (a, offer)
    });
    let b = media.block_on(End::new(Setup {
        offer: Some(offer.clone()),
        ..Setup::default()
    }));
    let (b, answer) = on_an_arbiter(async move {
        let answer = b.answer(&offer).await;
        (b, answer)
    });
    let (mut a, mut b) = on_an_arbiter(async move {
        a.accept(&answer).await;
        (a, b)
    });
    let (a, b) = media.block_on(async move {
        a.connected().await;
        b.connected().await;
        a.reaches(&mut b, 0).await;
        (a, b)
    });
    let (mut a, mut b) = on_an_arbiter(async move {
        renegotiate(&b, &a).await;
        (a, b)
    });
    on_an_arbiter(async move {
        a.reaches(&mut b, 0).await;
        b.reaches(&mut a, 0).await;
        a.peer.close().await;
        drop(b);
    });
    media.shutdown_timeout(Duration::from_secs(1));
}
