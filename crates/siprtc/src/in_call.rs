//! What an application changes of a call while it lasts.

use crate::endpoint::{Call, ask};
use siprtc_core::Result;
use siprtc_core::media::{Codec, Direction};
use siprtc_gateway::{ChangeMedia, Mute, SetAudio};
use siprtc_media_session::{Sink, Source, VideoPlan};

impl Call {
    /// Sends silence in the place of the source (`true`), or the source again. The peer is not told, and packets go on. What a
    /// bridge or a conference brings is not muted.
    ///
    /// # Errors
    /// [`Fault::ApiMisuse`](siprtc_core::Fault) when the call has no media yet, or no more.
    pub async fn set_muted(&self, muted: bool) -> Result<()> {
        let call = self.id();
        ask(self.gateway(), Mute { call, muted }).await
    }

    /// Has another source sent and another sink written to from now on: an announcement, then a microphone. What is the same as before goes
    /// on, so a file does not begin anew; a recording to a file that is not meant any more is complete. The peer is not told.
    ///
    /// # Errors
    /// [`Fault::ApiMisuse`](siprtc_core::Fault) when the call has no media yet, or no more;
    /// [`Fault::ConfigInvalid`](siprtc_core::Fault) when a file cannot be read, or made. Then nothing changes.
    pub async fn set_audio(&self, source: Source, sink: Sink) -> Result<()> {
        let call = self.id();
        ask(self.gateway(), SetAudio { call, source, sink }).await
    }

    /// Offers the peer another direction of audio, from our side, with a re-INVITE or an UPDATE; a hold is on top of it. `MediaChanged`
    /// follows, or `MediaRefused`.
    ///
    /// # Errors
    /// [`Fault::ApiMisuse`](siprtc_core::Fault) before the call is confirmed; before it is answered, too, where the peer takes no UPDATE.
    pub async fn set_direction(&self, direction: Direction) -> Result<()> {
        let change = ChangeMedia {
            call: self.id(),
            codecs: None,
            direction: Some(direction),
            video: None,
        };
        ask(self.gateway(), change).await
    }

    /// Offers the peer video, or other video in the place of what there is, or none, with a re-INVITE or an UPDATE.
    /// [`CallEventKind::NegotiatedVideo`](siprtc_gateway::CallEventKind) says what came of it, for a peer may decline it and keep the
    /// call; then `MediaChanged` follows, or `MediaRefused` where the whole offer came to nothing.
    ///
    /// # Errors
    /// [`Fault::ApiMisuse`](siprtc_core::Fault) before the call is confirmed; [`Fault::ConfigInvalid`](siprtc_core::Fault) when a
    /// file of the plan cannot be read, or made. Then nothing is offered.
    pub async fn set_video(&self, plan: Option<VideoPlan>) -> Result<()> {
        let change = ChangeMedia {
            call: self.id(),
            codecs: None,
            direction: None,
            video: Some(plan),
        };
        ask(self.gateway(), change).await
    }

    /// Offers the peer these codecs alone, best first, with a re-INVITE or an UPDATE, and accepts no others from now on. `Negotiated` says which is
    /// in use; then `MediaChanged` follows, or `MediaRefused`.
    ///
    /// # Errors
    /// [`Fault::ApiMisuse`](siprtc_core::Fault) before the call is confirmed, and without a codec.
    pub async fn set_codecs(&self, codecs: &[Codec]) -> Result<()> {
        let change = ChangeMedia {
            call: self.id(),
            codecs: Some(codecs.to_vec()),
            direction: None,
            video: None,
        };
        ask(self.gateway(), change).await
    }
}
