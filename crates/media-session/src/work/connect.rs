//! Bridges, conferences and recordings of a session.

use super::Work;
use crate::join::Outlook;
use crate::recording::Recording;
use crate::video::Relays;
use crate::{BridgeEnd, Seat, SessionEventKind, Sides};
use siprtc_core::{Error, Fault, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const JOIN: &str = "join a bridge";
const CONFER: &str = "take a seat in a conference";
const RECORD: &str = "record audio";

impl Work {
    pub(crate) fn join(&mut self, end: BridgeEnd) -> Result<()> {
        if self.is_joined() {
            return Err(misuse(JOIN, "it is joined to another call").advice("part that bridge first"));
        }
        if self.seat.is_some() {
            return Err(misuse(JOIN, "it sits in a conference").advice("leave that first"));
        }
        if end.bond().is_over() {
            return Err(misuse(JOIN, "the bridge has parted").advice("make another one"));
        }
        self.joined = Some((end, false));
        self.connect();
        Ok(())
    }

    pub(crate) fn part(&mut self) -> Result<()> {
        let is_joined = self.is_joined();
        // Of one that the other side parted nothing is left but the end.
        let joined = self.joined.take().filter(|_| is_joined);
        let (end, _) = joined.ok_or_else(|| misuse("part a bridge", "the call is not joined to another"))?;
        end.part();
        self.unlink();
        Ok(())
    }

    /// Packets go to this session's own sink again, and come from its own source.
    pub(super) fn unlink(&self) {
        self.queue.set_way(None);
        self.video_queue.relay(Relays::default());
        if let Some(pumps) = &self.pumps {
            pumps.connect(|settings| settings.bond = None);
        }
    }

    pub(crate) fn confer(&mut self, seat: Option<Arc<Seat>>) -> Result<()> {
        if seat.is_some() && self.is_joined() {
            return Err(misuse(CONFER, "it is joined to another call").advice("part that bridge first"));
        }
        if seat.is_some() && self.seat.is_some() {
            return Err(misuse(CONFER, "it has one").advice("leave that first"));
        }
        if let Some(seat) = &seat {
            seat.sit(self.events.call);
        }
        if let Some(old) = std::mem::replace(&mut self.seat, seat) {
            old.leave();
        }
        self.connect();
        Ok(())
    }

    pub(crate) async fn record(&mut self, path: PathBuf, sides: Sides) -> Result<()> {
        if self.recording.is_some() {
            return Err(misuse(RECORD, "it is recorded already").advice("end that recording first"));
        }
        let Some(audio) = self.audio.filter(|_| self.pumps.is_some()) else {
            return Err(misuse(RECORD, "audio has not begun").advice("wait for the call's Negotiated event"));
        };
        let events = Arc::clone(&self.events);
        self.recording = Some(Recording::begin(path, sides, audio.codec.sample_rate(), events).await?);
        self.connect();
        Ok(())
    }

    pub(crate) async fn stop_recording(&mut self) -> Result<Duration> {
        let recording = self.recording.take();
        let recording = recording.ok_or_else(|| misuse("end a recording", "nothing is recorded"))?;
        self.connect();
        Ok(recording.finish().await)
    }

    /// Tells the pumps, once they run, of everything that is connected.
    pub(super) fn connect(&mut self) {
        let (Some(pumps), Some(audio)) = (&self.pumps, self.audio) else {
            return;
        };
        let recording = self.recording.as_ref();
        let (said, heard) = (
            recording.and_then(Recording::said),
            recording.and_then(Recording::heard),
        );
        let mut bond = None;
        if let Some((end, has_entered)) = &mut self.joined {
            let own = end.bond();
            if *has_entered {
                own.agree(audio);
            } else if let Err(error) = own.enter(audio, Arc::clone(&self.events)) {
                // The other side has left since; it was told.
                tracing::debug!(call_id = %self.events.call, session = %self.events.session, %error, "not joined");
            } else {
                *has_entered = true;
            }
            if !own.is_over() {
                own.record(said.clone());
                self.queue.set_way(Some(own.way()));
                let (onward, inward) = own.video_ways();
                self.video_queue.relay(Relays {
                    onward: Some(onward),
                    inward: Some(inward),
                });
                let outlook = self.peer.clone().zip(self.video).map(|(peer, video)| Outlook {
                    peer,
                    video,
                    numbers: Arc::clone(&self.video_numbers),
                    queue: Arc::clone(&self.video_queue),
                    events: Arc::clone(&self.events),
                });
                own.show(outlook);
                bond = Some(own.clone());
            }
        }
        let seat = self.seat.clone();
        pumps.connect(|settings| {
            settings.is_muted = self.is_muted;
            settings.seat = seat;
            settings.said = said;
            settings.heard = heard;
            let is_same = match (&settings.bond, &bond) {
                (Some(old), Some(new)) => old.is(new),
                (old, new) => old.is_none() && new.is_none(),
            };
            if !is_same {
                settings.bond = bond;
            }
        });
    }

    /// The session closes: the other leg of a bridge hears of it, the seat is free, the recording is complete.
    pub(super) async fn disconnect(&mut self) {
        self.queue.set_way(None);
        self.video_queue.relay(Relays::default());
        self.joined = None;
        if let Some(seat) = self.seat.take() {
            seat.leave();
        }
        if let Some(mut recorder) = self.inherited.get_mut().take()
            && let Err(error) = recorder.finish().await
        {
            let error = Arc::new(error);
            self.events.emit(SessionEventKind::SinkFailed { error });
        }
        if let Some(recorder) = self.inherited_video.take() {
            recorder.finish().await;
        }
        if let Some(recording) = self.recording.take() {
            let recorded = recording.finish().await;
            tracing::debug!(call_id = %self.events.call, session = %self.events.session, ?recorded, "recorded");
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined.as_ref().is_some_and(|(end, _)| !end.bond().is_over())
    }
}

fn misuse(operation: &'static str, what: &str) -> Error {
    Error::new(Fault::ApiMisuse, operation, what)
}
