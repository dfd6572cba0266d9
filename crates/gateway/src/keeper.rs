//! Keeps actors alive. `actix::Supervisor` begins an actor again after a stop; a panic in a handler, a timer or a future of
//! an actor unwinds its task and takes the actor along. Here the task itself catches it: the actor, its mailbox and its
//! address stay, what it had under way in its context is dropped, and [`Supervised::restarting`] puts its state right.

use actix::dev::ContextFut;
use actix::prelude::*;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How often an actor begins anew within [`WINDOW`]. **Policy beyond**: it is let go, and whoever counts on it is told.
pub const MAX_RESTARTS: usize = 32;

/// See [`MAX_RESTARTS`].
pub const WINDOW: Duration = Duration::from_secs(60);

/// An actor's word that its next stop is meant.
#[derive(Clone, Debug, Default)]
pub struct Leave(Arc<AtomicBool>);

impl Leave {
    /// The next stop is meant.
    pub fn take(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

type Life<A> = ContextFut<A, Context<A>>;

struct Kept<A: Actor<Context = Context<A>>> {
    name: &'static str,
    life: Option<Life<A>>,
    /// `None`: it lives once.
    restart: Option<fn(&mut Life<A>) -> bool>,
    past: VecDeque<Instant>,
    leave: Leave,
    gone: Option<Box<dyn FnOnce()>>,
}

/// Starts an actor that begins again after a panic and after a stop, until nobody has its address any more or it takes
/// `leave`. `gone` is called when it breaks down too often.
pub fn keep<A>(name: &'static str, actor: A, leave: Leave, gone: impl FnOnce() + 'static) -> Addr<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    start(name, actor, Some(Life::<A>::restart), leave, gone)
}

/// Starts an actor that lives once. After a panic it is stopped in good order; `gone` is called in every case.
pub(crate) fn watch<A>(name: &'static str, actor: A, gone: impl FnOnce() + 'static) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    start(name, actor, None, Leave::default(), gone)
}

fn start<A>(
    name: &'static str,
    actor: A,
    restart: Option<fn(&mut Life<A>) -> bool>,
    leave: Leave,
    gone: impl FnOnce() + 'static,
) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    let context = Context::new();
    let address = context.address();
    actix::spawn(Kept {
        name,
        life: Some(context.into_future(actor)),
        restart,
        past: VecDeque::new(),
        leave,
        gone: Some(Box::new(gone)),
    });
    address
}

impl<A: Actor<Context = Context<A>>> Kept<A> {
    /// Its task is over, or broke down. Whether it lives on.
    fn ended(&mut self, panicked: bool) -> bool {
        let Some(life) = &mut self.life else { return false };
        let now = Instant::now();
        self.past
            .retain(|past| now.saturating_duration_since(*past) < WINDOW);
        let is_meant = self.leave.is_taken() && !panicked;
        let again = self
            .restart
            .filter(|_| !is_meant && self.past.len() < MAX_RESTARTS);
        match again {
            Some(restart) => {
                self.past.push_back(now);
                // `false`: nobody has its address any more.
                let restarted = catch_unwind(AssertUnwindSafe(|| restart(life)));
                if let Ok(false) = restarted {
                    return self.let_go(false);
                }
                tracing::error!(
                    actor = self.name,
                    panicked,
                    "an actor broke down and begins again: report this with the log above"
                );
                true
            }
            // Its own last words once: media peers are closed there.
            None if panicked && self.past.len() <= MAX_RESTARTS => {
                self.past.extend(std::iter::repeat_n(now, MAX_RESTARTS + 1));
                life.ctx().stop();
                true
            }
            None => self.let_go(!is_meant),
        }
    }

    fn let_go(&mut self, tell: bool) -> bool {
        // Dropping it polls it once more.
        let life = self.life.take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(life)));
        if dropped.is_err() {
            tracing::error!(actor = self.name, "an actor broke down while it ended");
        }
        if let (true, Some(gone)) = (tell, self.gone.take()) {
            gone();
        }
        false
    }
}

impl<A: Actor<Context = Context<A>>> Future for Kept<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        while let Some(life) = &mut this.life {
            let lived = catch_unwind(AssertUnwindSafe(|| Pin::new(life).poll(cx)));
            if let Ok(Poll::Pending) = lived {
                return Poll::Pending;
            }
            if !this.ended(lived.is_err()) {
                break;
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[derive(Message)]
    #[rtype(result = "u32")]
    enum Say {
        Count,
        Leave,
        Panic,
        PanicLater,
        Stop,
    }

    #[derive(Default)]
    struct Counter {
        count: u32,
        restarts: Rc<Cell<u32>>,
        leave: Leave,
    }

    impl Actor for Counter {
        type Context = Context<Self>;
    }

    impl Supervised for Counter {
        fn restarting(&mut self, _: &mut Context<Self>) {
            self.restarts.set(self.restarts.get() + 1);
        }
    }

    impl Handler<Say> for Counter {
        type Result = u32;

        fn handle(&mut self, message: Say, ctx: &mut Context<Self>) -> u32 {
            match message {
                Say::Count => self.count += 1,
                Say::Leave => {
                    self.leave.take();
                    ctx.stop();
                }
                Say::Panic => panic!("as the test wants"),
                Say::PanicLater => _ = ctx.run_later(Duration::ZERO, |_, _| panic!("as the test wants")),
                Say::Stop => ctx.stop(),
            }
            self.count
        }
    }

    fn with_counter<F: Future<Output = ()>>(
        test: impl FnOnce(Addr<Counter>, Rc<Cell<u32>>, Rc<Cell<bool>>) -> F,
    ) {
        System::new().block_on(async {
            tokio::time::pause();
            let (counter, gone) = (Counter::default(), Rc::new(Cell::new(false)));
            let (restarts, leave, told) = (counter.restarts.clone(), counter.leave.clone(), gone.clone());
            let address = keep("counter", counter, leave, move || told.set(true));
            test(address, restarts, gone).await;
        });
    }

    #[test]
    fn an_actor_keeps_its_state_and_its_address_over_panics_and_stops() {
        with_counter(|counter, restarts, gone| async move {
            for (index, blow) in [Say::Panic, Say::PanicLater, Say::Stop].into_iter().enumerate() {
                counter.try_send(blow).unwrap();
                assert_eq!(counter.send(Say::Count).await.unwrap() as usize, index + 1);
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!((restarts.get() as usize, gone.get()), (index + 1, false));
            }
        });
    }

    #[test]
    fn an_actor_that_breaks_down_too_often_is_let_go_and_somebody_is_told() {
        with_counter(|counter, restarts, gone| async move {
            for _ in 0..MAX_RESTARTS + 1 {
                assert!(!gone.get());
                counter.try_send(Say::Panic).unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!((restarts.get() as usize, gone.get()), (MAX_RESTARTS, true));
            assert!(!counter.connected());
        });
    }

    #[test]
    fn an_actor_that_takes_leave_is_gone_and_nobody_is_told() {
        with_counter(|counter, restarts, gone| async move {
            counter.try_send(Say::Leave).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(
                (restarts.get(), gone.get(), counter.connected()),
                (0, false, false)
            );
        });
    }
}
