//! Media peers of forks: each has the offer of the first, and an answer of its own.

use super::super::media::{Peer, Words, failure};
use super::{Event, Side, World};
use rand::Rng;
use siprtc_core::CallId;
use siprtc_gateway::machine::Input;
use siprtc_media_session::Fork;

impl<O: std::fmt::Debug> World<O> {
    /// The early answer of another dialog than the first.
    pub(super) fn begin_fork(&mut self, side: Side, id: CallId, fork: Fork, answer: String) {
        let Some(number) = self
            .life(side, id)
            .and_then(|life| Some(life.media.as_ref()?.number))
        else {
            return;
        };
        let wait = self.time_of_step();
        self.at(self.now + wait, Event::Forked(side, id, number, fork, answer));
    }

    pub(super) fn forked(&mut self, side: Side, id: CallId, number: u32, fork: Fork, answer: &str) {
        let fails = self.random.random_bool(self.weather.failures);
        let Some(life) = self.party(side).calls.get_mut(&id) else {
            return;
        };
        let Some(first) = life.media.as_ref().filter(|first| first.number == number) else {
            return;
        };
        let opened = match fails {
            true => Err(failure(false)),
            false => {
                let peer = first.fork(Words::read(answer));
                life.forks.insert(fork.0, peer);
                Ok(())
            }
        };
        self.tell(side, id, Input::Forked(fork, opened));
    }

    /// The fork that answered is the call's: its media peer stays, all others close.
    pub(super) fn take_fork(&mut self, side: Side, id: CallId, fork: Fork, answer: &str) {
        let Some(life) = self.party(side).calls.get_mut(&id) else {
            return;
        };
        let answer = Words::read(answer);
        let others = std::mem::take(&mut life.forks);
        let Some(first) = &mut life.media else { return };
        match fork {
            Fork::FIRST if first.has_answer() => {}
            Fork::FIRST => first.apply_answer(answer),
            Fork(number) => {
                let open: Option<Peer> = others
                    .into_iter()
                    .find(|(open, _)| *open == number)
                    .map(|(_, peer)| peer);
                *first = open.unwrap_or_else(|| first.fork(answer));
            }
        }
    }
}
