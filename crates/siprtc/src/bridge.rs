//! Calls joined to one another: two by a bridge, many by a conference; and their recordings.

use crate::endpoint::{Call, Endpoint, ask};
use parking_lot::Mutex;
use siprtc_core::{Error, Fault, Result};
use siprtc_gateway as gateway;
use siprtc_media_session::{
    self as media, BridgeConfig, Carriage, ConferenceConfig, LegStats, Seat, Sides, WayStats,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

impl Endpoint {
    /// Joins the audio of two answered calls, of this endpoint or of another in this process: each is sent what the other's peer says.
    /// Packets go as they are where both calls agreed on the same codec, and are transcoded otherwise. Their own
    /// sources wait meanwhile, and go on when the bridge parts or the other call ends. Both calls tell
    /// [`CallEventKind::Bridged`](siprtc_gateway::CallEventKind).
    ///
    /// ```no_run
    /// # async fn example(mut endpoint: siprtc::Endpoint) -> siprtc::core::Result<()> {
    /// use siprtc::prelude::*;
    ///
    /// let caller = endpoint.incoming().await.expect("the endpoint runs");
    /// let mut caller = caller.answer(MediaPlan::default()).await?;
    /// caller.confirmed().await?;
    /// let mut agent = endpoint.dial("sip:agent@example.com", MediaPlan::default()).await?;
    /// agent.confirmed().await?;
    /// let bridge = endpoint.bridge(&caller, &agent).await?;
    /// agent.next().await;
    /// println!("{:?} {:?}", bridge.carriage(), bridge.stats());
    /// bridge.part().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Errors: [`Fault::ApiMisuse`] when one of the calls has no media yet, is bridged or confers already.
    pub async fn bridge(&self, first: &Call, second: &Call) -> Result<Bridge> {
        self.bridge_with(first, second, BridgeConfig::default()).await
    }

    /// The same, with a word on what becomes of a call whose other ends, and on transcoding.
    pub async fn bridge_with(&self, first: &Call, second: &Call, config: BridgeConfig) -> Result<Bridge> {
        let calls = [first.id(), second.id()];
        if calls[0] == calls[1] {
            return Err(Error::new(
                Fault::ApiMisuse,
                "bridge",
                "a call cannot be bridged to itself",
            ));
        }
        let (bridge, [one, other]) = media::Bridge::between(calls, config);
        let join = |call: &Call, end| {
            let (gateway, call) = (call.gateway().clone(), call.id());
            async move { ask(&gateway, gateway::Bridge { call, end }).await }
        };
        // An end that is not taken parts the whole.
        join(first, one).await?;
        if let Err(error) = join(second, other).await {
            // What the dropped end has parted need not be parted, which is all that can be wrong here.
            let call = first.id();
            drop(ask(first.gateway(), gateway::Unbridge { call }).await);
            return Err(error);
        }
        Ok(Bridge { bridge })
    }

    /// Opens a conference: calls that join hear each other and not themselves.
    ///
    /// ```no_run
    /// # async fn example(endpoint: siprtc::Endpoint, calls: [siprtc::Call; 3]) -> siprtc::core::Result<()> {
    /// use siprtc::prelude::*;
    ///
    /// let conference = endpoint.conference(ConferenceConfig::default())?;
    /// for call in &calls {
    ///     conference.join(call).await?;
    /// }
    /// conference.set_gain(&calls[0], -6.0)?;
    /// conference.set_muted(&calls[1], true)?;
    /// conference.leave(&calls[2]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Errors: [`Fault::ApiMisuse`] for a rate or a frame that no codec has.
    pub fn conference(&self, config: ConferenceConfig) -> Result<Conference> {
        Ok(Conference {
            conference: media::Conference::open(config, self.runtime())?,
            seats: Mutex::default(),
        })
    }
}

impl Call {
    /// Records from now on, to a WAV file: one side, or both in stereo (we on the left). In a bridge "we" are the other call's peer.
    /// Ends with [`Call::stop_recording`], or with the call.
    ///
    /// Errors: [`Fault::ApiMisuse`] before audio was negotiated or while a recording runs; [`Fault::ConfigInvalid`] when
    /// the file cannot be made.
    pub async fn record(&self, path: impl Into<PathBuf>, sides: Sides) -> Result<()> {
        let (call, path) = (self.id(), path.into());
        ask(self.gateway(), gateway::Record { call, path, sides }).await
    }

    /// Ends the recording; says how much was recorded.
    pub async fn stop_recording(&self) -> Result<Duration> {
        ask(self.gateway(), gateway::StopRecording { call: self.id() }).await
    }
}

/// Two calls joined by [`Endpoint::bridge`]. Dropping it changes nothing.
#[derive(Debug)]
pub struct Bridge {
    bridge: media::Bridge,
}

impl Bridge {
    /// How packets go from the first call to the second, and back; `None` before and after.
    pub fn carriage(&self) -> Option<[Carriage; 2]> {
        self.bridge.carriage()
    }

    /// The numbers from the first call to the second, and back.
    pub fn stats(&self) -> [WayStats; 2] {
        self.bridge.stats()
    }

    /// Parts the two calls, or those that have taken their places; they go on with their own sources.
    ///
    /// Errors: [`Fault::ApiMisuse`] when they have parted already.
    pub async fn part(self) -> Result<()> {
        self.bridge.part()
    }
}

/// A conference opened by [`Endpoint::conference`]. Once it is dropped nobody can join; who is there confers on.
#[derive(Debug)]
pub struct Conference {
    conference: media::Conference,
    seats: Mutex<Vec<Arc<Seat>>>,
}

impl Conference {
    /// A call takes part, of any endpoint in this process. It is sent the others instead of its source; its sink goes on hearing its peer.
    ///
    /// Errors: [`Fault::ApiMisuse`] when all seats are taken, the call has none of media yet, is bridged or confers already.
    pub async fn join(&self, call: &Call) -> Result<()> {
        let seat = self.conference.seat()?;
        let confer = gateway::Confer {
            call: call.id(),
            seat: Some(Arc::clone(&seat)),
        };
        ask(call.gateway(), confer).await?;
        let mut seats = self.seats.lock();
        // A call that ended has left by itself.
        seats.retain(|seat| seat.is_taken());
        seats.push(seat);
        Ok(())
    }

    /// Whether a call takes part.
    pub fn seats(&self, call: &Call) -> bool {
        self.seat(call).is_ok()
    }

    /// A call goes on alone, with its own source.
    pub async fn leave(&self, call: &Call) -> Result<()> {
        let left = self.seat(call)?;
        self.seats.lock().retain(|seat| !Arc::ptr_eq(seat, &left));
        let confer = gateway::Confer {
            call: call.id(),
            seat: None,
        };
        ask(call.gateway(), confer).await
    }

    /// How loud a call is for the others, in dB: -60 to 30.
    pub fn set_gain(&self, call: &Call, db: f32) -> Result<()> {
        self.seat(call).map(|seat| seat.set_gain(db))
    }

    /// The others do not hear a call, or hear it again.
    pub fn set_muted(&self, call: &Call, muted: bool) -> Result<()> {
        self.seat(call).map(|seat| seat.set_muted(muted))
    }

    /// A call's numbers, once its audio has begun.
    pub fn stats(&self, call: &Call) -> Result<Option<LegStats>> {
        self.seat(call).map(|seat| seat.stats())
    }

    /// How many take part.
    pub fn legs(&self) -> usize {
        self.conference.legs()
    }

    fn seat(&self, call: &Call) -> Result<Arc<Seat>> {
        let is_its = |seat: &&Arc<Seat>| seat.is_taken() && seat.holder() == Some(call.id());
        let seat = self.seats.lock().iter().find(is_its).cloned();
        seat.ok_or_else(|| {
            Error::new(
                Fault::ApiMisuse,
                "use a conference",
                format!("{} does not take part", call.id()),
            )
            .advice("have it join first")
        })
    }
}
