//! What a peer remembers between the steps of offer and answer (RFC 9429 section 4.1), and how the library's errors
//! become ours.

use crate::sdp as shown;
use crate::shim::Shim;
use crate::video::Video;
use rtc::shared::error::Error as LibraryError;
use siprtc_core::media::{Codec, Direction, SdpKind};
use siprtc_core::{Error, Fault, Result};
use siprtc_rtp::sdp::{self, Setup};
use siprtc_rtp::{Format, format};

/// Between the steps of offer and answer.
pub(crate) struct Negotiation {
    /// What the user asked for last.
    pub(crate) wanted: Direction,
    /// The direction in the remote offer that waits for our answer.
    pub(crate) remote_offer: Option<Direction>,
    /// Our own DTLS role, from the first negotiation on: RFC 8842 section 5.5 ties it to the association.
    pub(crate) role: Option<Setup>,
    /// The role that the connection was built to answer with.
    pub(crate) answers_as: Option<Setup>,
    /// Ours, in our order.
    ours: Vec<Format>,
    /// Since the last agreement.
    is_changed: bool,
    /// Comfort noise is among them.
    comfort_noise: bool,
    /// Common with the remote offer that waits for our answer.
    answer: Vec<Format>,
    /// In use, under the peer's numbers.
    current: Vec<Format>,
    /// Of the remote offer that waits for our answer.
    offered_fingerprints: Vec<String>,
    /// Of the association, from the first negotiation on.
    remote_fingerprints: Vec<String>,
    /// The description made last: as the library knows it, and as we gave it out.
    pub(crate) created: Option<Created>,
    /// In every description of ours: 63 bits (RFC 9429 section 5.2.1).
    session: u64,
    /// Of our description that was set last (RFC 3264 section 8: one more for each).
    pub(crate) version: u64,
    /// That was our first offer, which others may answer, too.
    is_first_offer: bool,
    /// The ICE generation for which gathering was waited for.
    pub(crate) gathered: Option<String>,
    pub(crate) video: Video,
}

/// As our descriptions have them.
pub(crate) fn formats(codecs: &[Codec], comfort_noise: bool) -> Vec<Format> {
    match comfort_noise {
        true => format::formats_with_comfort_noise(codecs),
        false => format::formats(codecs),
    }
}

/// One description in two versions.
pub(crate) struct Created {
    pub(crate) original: String,
    pub(crate) given: String,
}

impl Negotiation {
    pub(crate) fn new(
        codecs: &[Codec],
        comfort_noise: bool,
        answers_as: Option<Setup>,
        video: Video,
    ) -> Self {
        Negotiation {
            wanted: Direction::SendRecv,
            remote_offer: None,
            role: None,
            answers_as,
            ours: formats(codecs, comfort_noise),
            is_changed: false,
            comfort_noise,
            answer: Vec::new(),
            current: Vec::new(),
            offered_fingerprints: Vec::new(),
            remote_fingerprints: Vec::new(),
            created: None,
            session: rand::random::<u64>() >> 1,
            version: 0,
            is_first_offer: false,
            gathered: None,
            video,
        }
    }

    /// What another answer to our first offer is for: all that the offer says, and nothing that an answer said. `None` once there was
    /// another description of ours.
    pub(crate) fn fork(&self) -> Option<Self> {
        self.is_first_offer.then(|| Negotiation {
            wanted: self.wanted,
            remote_offer: None,
            role: None,
            answers_as: None,
            ours: self.ours.clone(),
            is_changed: false,
            comfort_noise: self.comfort_noise,
            answer: Vec::new(),
            current: Vec::new(),
            offered_fingerprints: Vec::new(),
            remote_fingerprints: Vec::new(),
            created: None,
            session: self.session,
            version: self.version,
            is_first_offer: true,
            gathered: self.gathered.clone(),
            video: self.video.fork(),
        })
    }

    /// A description of ours is set.
    pub(crate) fn is_out(&mut self, kind: SdpKind) {
        self.version += 1;
        self.is_first_offer = kind == SdpKind::Offer && self.version == 1;
    }

    /// Ours from the next offer or answer on.
    pub(crate) fn set_codecs(&mut self, codecs: &[Codec]) {
        self.ours = formats(codecs, self.comfort_noise);
        self.is_changed = true;
    }

    fn offering(&self) -> Vec<Format> {
        match self.is_changed {
            true => format::offer_anew(&self.ours, &self.current),
            false => format::offer(&self.ours, &self.current),
        }
    }

    /// Remembers a description that the library made; returns what the user gets to see.
    pub(crate) fn created(&mut self, original: String, is_answer: bool, shim: Option<&Shim>) -> String {
        let given = self.given(&original, self.version + 1, is_answer);
        let given = shim.map_or(given.clone(), |shim| shim.ours(&given, None));
        let given = self.with_video(&given, is_answer);
        self.created = Some(Created {
            original,
            given: given.clone(),
        });
        given
    }

    /// Our description as the user gets to see it. An answer says the DTLS role that was settled first: the library
    /// would become the client each time it answers, and the peer would take that for a new association. The
    /// version is ours, for the library's is random each time.
    pub(crate) fn given(&self, original: &str, version: u64, is_answer: bool) -> String {
        if !is_answer {
            let formats = self.offering();
            return sdp::with_origin(&shown::from_library(original, &formats), self.session, version);
        }
        let given = sdp::with_origin(
            &shown::from_library(original, &self.answer),
            self.session,
            version,
        );
        self.role
            .map_or(given.clone(), |role| sdp::with_setup(&given, role))
    }

    /// The same with its video, which repeats the audio's transport.
    pub(crate) fn with_video(&mut self, given: &str, is_answer: bool) -> String {
        if is_answer {
            return self.video.answer(given);
        }
        let audio = self.offering();
        let taken: Vec<u8> = audio.iter().map(|format| format.payload_type).collect();
        self.video.offer(given, &taken)
    }

    /// How many m-lines the library's own last description has.
    pub(crate) fn lines(&self) -> usize {
        let original = self.created.as_ref().map(|created| created.original.as_str());
        original
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with("m="))
            .count()
    }

    /// The library's own version of a description that we gave out.
    pub(crate) fn original(&self, given: &str) -> String {
        match &self.created {
            Some(created) if created.given == given => created.original.clone(),
            _ => given.to_owned(),
        }
    }

    /// What is common with the peer's formats. Refuses what the library cannot do with a remote description, before
    /// it is touched.
    pub(crate) fn check_remote(
        &self,
        operation: &'static str,
        sdp: &str,
        is_offer: bool,
    ) -> Result<Vec<Format>> {
        let fingerprints = sdp::fingerprints(sdp);
        if fingerprints.is_empty() {
            return Err(incompatible(
                operation,
                "the peer's SDP has no a=fingerprint, so it speaks no DTLS-SRTP",
            )
            .advice("carry this call with the media engine \"rtp\""));
        }
        // RFC 8842 section 5.1: a new fingerprint is a new DTLS association. The library has one for its lifetime.
        if !self.remote_fingerprints.is_empty() && self.remote_fingerprints != fingerprints {
            return Err(
                incompatible(operation, "the peer's a=fingerprint changed within the call")
                    .advice("make a new media peer for this description"),
            );
        }
        let common = format::common(&self.ours, &sdp::formats(sdp))
            .filter(|_| sdp::has_audio(sdp))
            .ok_or_else(|| {
                incompatible(
                    operation,
                    "the peer's SDP has no audio, or no audio codec that we have",
                )
                .advice("add one of the peer's codecs to media.codecs; known are opus, G722, PCMU and PCMA")
            })?;
        let unanswerable = self.answers_as.is_none_or(|role| role == Setup::Active);
        if is_offer && self.role.is_none() && sdp::setup(sdp) == Some(Setup::Active) && unanswerable {
            return Err(Error::new(
                Fault::ApiMisuse,
                operation,
                "the offer says a=setup:active, and the peer was not made for it",
            )
            .backend(crate::NAME)
            .advice("give the offer to create_peer as PeerConfig::remote_offer"));
        }
        Ok(common)
    }

    /// The remote offer is set: it waits for an answer.
    pub(crate) fn offered(&mut self, sdp: &str, common: Vec<Format>) {
        self.remote_offer = Some(sdp::direction(sdp));
        self.offered_fingerprints = sdp::fingerprints(sdp);
        self.answer = common;
    }

    /// An answer of ours is set.
    pub(crate) fn answered(&mut self, setup: Option<Setup>, kind: SdpKind) {
        self.role.get_or_insert(setup.unwrap_or(Setup::Active));
        self.current.clone_from(&self.answer);
        self.is_changed = false;
        self.remote_fingerprints.clone_from(&self.offered_fingerprints);
        self.remote_offer = self.remote_offer.filter(|_| kind == SdpKind::Pranswer);
    }

    /// An answer of the peer's is set. RFC 8842 section 5.3: one that does not say its role is active.
    pub(crate) fn was_answered(&mut self, sdp: &str, common: Vec<Format>) {
        self.role
            .get_or_insert(sdp::setup(sdp).unwrap_or(Setup::Active).reversed());
        self.remote_fingerprints = sdp::fingerprints(sdp);
        self.current = common;
        self.is_changed = false;
        self.video.was_answered(sdp);
    }

    /// In use, under the peer's numbers.
    pub(crate) fn current(&self) -> &[Format] {
        &self.current
    }
}

fn incompatible(operation: &'static str, message: &str) -> Error {
    Error::new(Fault::PeerIncompatible, operation, message).backend(crate::NAME)
}

/// The library's error as ours: `fault` unless the library says that it was asked at the wrong time.
pub(crate) fn failed(fault: Fault, operation: &'static str, error: LibraryError) -> Error {
    use LibraryError::*;
    let (fault, advice) = match &error {
        ErrConnectionClosed => (Fault::ApiMisuse, "the media peer is closed: make a new one"),
        ErrIncorrectSignalingState
        | ErrNoRemoteDescription
        | ErrSDPDoesNotMatchAnswer
        | ErrSDPDoesNotMatchOffer => (
            Fault::ApiMisuse,
            "set the descriptions in the order of RFC 9429 section 4.1 and unchanged",
        ),
        ErrPeerConnStateChangeInvalid
        | ErrPeerConnStateChangeUnhandled
        | ErrSignalingStateCannotRollback
        | ErrSignalingStateProposedTransitionInvalid(_) => (
            Fault::ApiMisuse,
            "answer or roll back the offer that is pending first",
        ),
        ErrICETransportNotInNew => (
            Fault::Unsupported,
            "a first offer cannot be taken back and replaced: make a new media peer for this one",
        ),
        _ if fault == Fault::PeerMisbehaved => (
            fault,
            "the peer's SDP breaks RFC 8866 or RFC 9429; its text is in the log",
        ),
        _ => (fault, "the log of the webrtc crate says more"),
    };
    Error::new(fault, operation, "the webrtc crate refused")
        .backend(crate::NAME)
        .caused_by(error)
        .advice(advice)
}

/// A panic of the library's while it read what the peer sent.
pub(crate) fn panicked(operation: &'static str) -> Error {
    Error::new(
        Fault::PeerMisbehaved,
        operation,
        "the webrtc crate panicked on the peer's SDP",
    )
    .backend(crate::NAME)
    .advice("close this media peer, and report the SDP to its maintainers")
}
