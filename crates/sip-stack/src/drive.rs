//! The one task of a connection: reads, writes, answers pings, and closes what is idle, stuck or in the way.

use crate::connection::{Connection, Failure, PONG};
use crate::engine::Engine;
use crate::framing::Broken;
use bytes::Bytes;
use siprtc_core::sip::{Flow, StackEvent};
use siprtc_core::{Error, Fault};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// How long a message may take from its first octet to its last: who sends slower holds a connection for nothing.
pub(crate) const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// How long a connection on which nothing is sent or received is kept.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(3600);

/// How long the end of a connection may take: what is queued, the goodbye of TLS and WebSocket, and the peer's.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// Messages that are read from one connection before the others have their turn.
const READ_BATCH: usize = 64;

/// A transport below SIP that keeps messages apart.
pub(crate) trait Wire: Send + Unpin {
    /// What has arrived. After [`Incoming::Broken`] and [`Incoming::End`] it is not asked again.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Incoming>;

    /// Sends what is queued, as far as possible; ready when all of it has left.
    fn poll_send(&mut self, cx: &mut Context<'_>, queue: &mut VecDeque<Bytes>) -> Poll<Result<(), String>>;

    /// Says goodbye and waits for the peer's; ready when the connection may be dropped.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// A ping of ours was sent.
    fn expect_pong(&mut self);

    /// Whether a message has begun and is not whole.
    fn is_partial(&self) -> bool;
}

pub(crate) enum Incoming {
    Broken(Broken),
    /// The connection is over, and why.
    End(String),
    Message(Bytes),
    Ping,
    Pong,
}

/// Runs the connection until it is over.
pub(crate) async fn run<W: Wire>(
    engine: Arc<Engine>,
    connection: Arc<Connection>,
    local: SocketAddr,
    mut wire: W,
) {
    let flow = match connection.opened(local) {
        Ok(flow) => flow,
        Err(why) => return abandon(&engine, &connection, failure(why)),
    };
    // It may have come behind the back of whoever closes all of them.
    if engine.stop.is_requested() {
        return abandon(
            &engine,
            &connection,
            failure("the stack was shut down".to_owned()),
        );
    }
    engine.emit(StackEvent::FlowUp(flow));
    let why = {
        let timer = sleep_until(Instant::now() + IDLE_TIME);
        tokio::pin!(timer);
        let mut driver = Driver {
            engine: &engine,
            connection: &connection,
            flow,
            wire: &mut wire,
            queue: VecDeque::new(),
            active: Instant::now(),
            partial_since: None,
        };
        poll_fn(|cx| driver.poll(cx, timer.as_mut())).await
    };
    abandon(&engine, &connection, failure(why.clone()));
    let is_it =
        |path: &crate::path::Path| matches!(path, crate::path::Path::Connection(c) if c.id() == flow.id);
    engine.input(|machine, _| machine.path_down(&is_it, &why));
    engine.emit(StackEvent::FlowDown {
        id: flow.id,
        reason: why,
    });
    // Best effort: a peer that takes longer is cut off.
    let _ = timeout(CLOSE_TIME, poll_fn(|cx| wire.poll_close(cx))).await;
}

/// Nobody finds the connection any more, and whoever waits for it hears why.
pub(crate) fn abandon(engine: &Engine, connection: &Connection, why: Failure) {
    engine.connections.remove(connection);
    connection.closed(why);
}

fn failure(why: String) -> Failure {
    Error::new(Fault::Backend, "send", format!("the connection is gone: {why}"))
        .advice("send again, which opens a new one")
        .into()
}

struct Driver<'a, W> {
    engine: &'a Arc<Engine>,
    connection: &'a Arc<Connection>,
    flow: Flow,
    wire: &'a mut W,
    queue: VecDeque<Bytes>,
    /// When something was last sent or received.
    active: Instant,
    partial_since: Option<Instant>,
}

impl<W: Wire> Driver<'_, W> {
    /// Ready with the reason when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<String> {
        let mut turns = READ_BATCH;
        loop {
            if let Some(why) = self.obey(cx) {
                return Poll::Ready(why);
            }
            if turns == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            turns -= 1;
            match self.wire.poll_receive(cx) {
                Poll::Ready(Incoming::End(why)) => return Poll::Ready(why),
                Poll::Ready(incoming) => self.heard(incoming),
                Poll::Pending => break,
            }
        }
        if self.wire.is_partial() {
            self.partial_since.get_or_insert_with(Instant::now);
        } else {
            self.partial_since = None;
        }
        self.poll_late(cx, timer.as_mut())
    }

    /// Sends what is queued. `Some`: it is over.
    fn obey(&mut self, cx: &mut Context<'_>) -> Option<String> {
        loop {
            let all = self.queue.is_empty();
            let orders = self.connection.orders(cx.waker(), &mut self.queue);
            (0..orders.pings).for_each(|_| self.wire.expect_pong());
            if !self.queue.is_empty() {
                self.active = Instant::now();
            }
            match self.wire.poll_send(cx, &mut self.queue) {
                Poll::Ready(Err(why)) => return Some(why),
                // More has been queued while the wire was full: nobody will wake us for it again.
                Poll::Ready(Ok(())) if !all => (),
                // What does not leave at once was queued before an order to close, and has waited long enough.
                _ => return orders.close,
            }
        }
    }

    fn heard(&mut self, incoming: Incoming) {
        self.active = Instant::now();
        self.partial_since = None;
        match incoming {
            Incoming::Message(raw) => self.engine.message(self.connection, self.flow, raw),
            // One answer is enough for any number of pings.
            Incoming::Ping if self.queue.back() != Some(&PONG) => self.queue.push_back(PONG),
            Incoming::Ping => (),
            Incoming::Pong => self.engine.emit(StackEvent::KeepaliveAnswered {
                flow: self.flow.id,
                mapped: None,
            }),
            Incoming::Broken(broken) => {
                self.engine.broken(self.connection, self.flow, &broken);
                self.connection.close(&broken.kind.to_string());
            }
            Incoming::End(_) => (),
        }
    }

    /// Ready when the connection is idle, or a message takes too long.
    fn poll_late(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<String> {
        loop {
            let (limit, why) = match self.partial_since {
                Some(since) => (since + MESSAGE_TIME, "a message did not become whole"),
                None => (self.active + IDLE_TIME, "nothing was sent or received"),
            };
            // Only an earlier time is set at once: a later one is seen when the timer fires.
            if limit < timer.deadline() {
                timer.as_mut().reset(limit);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= limit {
                let time = if self.partial_since.is_some() {
                    MESSAGE_TIME
                } else {
                    IDLE_TIME
                };
                return Poll::Ready(format!("{why} for {} s", time.as_secs()));
            }
            timer.as_mut().reset(limit);
        }
    }
}
