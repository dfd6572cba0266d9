//! A call's diary while it lives, and its report when it is over: times, path, numbers, ladder.

use crate::ladder::{Ladder, Layer, Step};
use crate::telemetry::INSTRUMENTS;
use crate::wiretap::Passed;
use siprtc_core::CallId;
use siprtc_core::ice::CandidatePair;
use siprtc_core::media::NegotiatedAudio;
use siprtc_gateway::{CallEvent, CallEventKind, Ending};
use std::time::Duration;
use tokio::time::Instant;

/// Most notes of one diary; later ones are dropped, times are still kept.
const MAX_NOTES: usize = 128;

/// Which side of a call this endpoint is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It was called.
    Callee,
    /// It called.
    Caller,
}

impl Role {
    /// `caller` or `callee`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Callee => "callee",
            Role::Caller => "caller",
        }
    }
}

/// When things happened, since the call began (dialled, or its INVITE arrived).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// First 180 or 183.
    pub ringing: Option<Duration>,
    /// The 2xx.
    pub accepted: Option<Duration>,
    /// ICE connected.
    pub ice: Option<Duration>,
    /// DTLS connected.
    pub dtls: Option<Duration>,
    /// First packet sent.
    pub first_sent: Option<Duration>,
    /// First packet received.
    pub first_received: Option<Duration>,
    /// The end.
    pub ended: Option<Duration>,
}

/// What is written down of a call while it lives.
#[derive(Clone, Debug)]
pub(crate) struct Diary {
    call: CallId,
    role: Role,
    began: Instant,
    sip_call_id: Option<String>,
    timings: Timings,
    audio: Option<NegotiatedAudio>,
    pair: Option<CandidatePair>,
    notes: Vec<(Instant, Layer, String, Option<String>)>,
    inbound_first: Option<Instant>,
    outbound_first: Option<Instant>,
}

impl Diary {
    pub(crate) fn new(call: CallId, role: Role) -> Self {
        Diary {
            call,
            role,
            began: Instant::now(),
            sip_call_id: None,
            timings: Timings::default(),
            audio: None,
            pair: None,
            notes: Vec::new(),
            inbound_first: None,
            outbound_first: None,
        }
    }

    pub(crate) fn becomes(&mut self, role: Role) {
        self.role = role;
    }

    pub(crate) fn note(&mut self, event: &CallEvent) {
        let since = event.at.saturating_duration_since(self.began);
        let first = |slot: &mut Option<Duration>| {
            slot.get_or_insert(since);
        };
        match &event.kind {
            CallEventKind::Accepted => {
                first(&mut self.timings.accepted);
                if self.role == Role::Caller {
                    INSTRUMENTS.setup(since);
                }
            }
            CallEventKind::Connected => {
                first(&mut self.timings.dtls);
                self.write(event.at, Layer::Dtls, "DTLS connected".to_owned(), None);
            }
            CallEventKind::Ended(_) | CallEventKind::Failed(_) => first(&mut self.timings.ended),
            CallEventKind::FirstPacket { inbound: true } => {
                first(&mut self.timings.first_received);
                self.inbound_first.get_or_insert(event.at);
                if self.role == Role::Caller {
                    INSTRUMENTS.dial_to_media(since);
                }
            }
            CallEventKind::FirstPacket { inbound: false } => {
                first(&mut self.timings.first_sent);
                self.outbound_first.get_or_insert(event.at);
            }
            CallEventKind::Ice(state) => {
                if *state == siprtc_core::ice::IceState::Connected {
                    first(&mut self.timings.ice);
                }
                self.write(event.at, Layer::Ice, format!("ICE {state}"), None);
            }
            CallEventKind::Negotiated(audio) => self.audio = Some(*audio),
            CallEventKind::Progress { .. } => first(&mut self.timings.ringing),
            CallEventKind::Selected(pair) => {
                self.pair = Some(*pair);
                let kinds = format!("{} – {}", pair.local.kind, pair.remote.kind);
                let addresses = format!("{} – {}", pair.local.addr, pair.remote.addr);
                self.write(event.at, Layer::Ice, kinds, Some(addresses));
            }
            CallEventKind::Signalling { sip_call_id } => self.sip_call_id = Some(sip_call_id.clone()),
            _ => {}
        }
    }

    pub(crate) fn measure(&self, ending: &Ending) {
        INSTRUMENTS.call_over(self.role.as_str(), ending);
    }

    fn write(&mut self, at: Instant, layer: Layer, text: String, detail: Option<String>) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push((at, layer, text, detail));
        }
    }

    pub(crate) fn sip_call_id(&self) -> Option<&str> {
        self.sip_call_id.as_deref()
    }

    pub(crate) fn finish(self, ending: Ending, passed: Vec<Passed>) -> CallReport {
        CallReport {
            call: self.call,
            role: self.role,
            sip_call_id: self.sip_call_id.clone(),
            timings: self.timings,
            audio: self.audio,
            pair: ending
                .stats
                .as_ref()
                .and_then(|stats| stats.selected_pair)
                .or(self.pair),
            ending,
            passed,
            diary: self,
        }
    }
}

/// A call that is over.
#[derive(Clone, Debug)]
pub struct CallReport {
    /// Its id within this process.
    pub call: CallId,
    /// Which side we were.
    pub role: Role,
    /// Its SIP Call-ID.
    pub sip_call_id: Option<String>,
    /// When things happened.
    pub timings: Timings,
    /// What both sides agreed on.
    pub audio: Option<NegotiatedAudio>,
    /// The pair that carried media.
    pub pair: Option<CandidatePair>,
    /// How it ended, with the media's numbers.
    pub ending: Ending,
    passed: Vec<Passed>,
    diary: Diary,
}

impl CallReport {
    /// This side's ladder: us, the next SIP hop, the peer.
    pub fn ladder(&self, us: &str, server: &str, peer: &str) -> Ladder {
        let title = self.sip_call_id.as_deref().unwrap_or("call");
        let mut draft = Draft::new(self.diary.began);
        draft.side(self, 0, 1);
        draft.packets(self, 0, 2);
        draft.draw(title, vec![us.to_owned(), server.to_owned(), peer.to_owned()])
    }

    /// Both sides' ladder of one call, when both were endpoints of this process: caller, server, callee.
    pub fn joint_ladder(&self, callee: &CallReport, names: [&str; 3]) -> Ladder {
        let title = self.sip_call_id.as_deref().unwrap_or("call");
        let mut draft = Draft::new(self.diary.began);
        draft.side(self, 0, 1);
        draft.side(callee, 2, 1);
        draft.arrivals(self, callee);
        draft.draw(title, names.map(str::to_owned).to_vec())
    }
}

/// Steps of a ladder before they are sorted by time.
struct Draft {
    began: Instant,
    steps: Vec<Step>,
}

impl Draft {
    fn new(began: Instant) -> Self {
        Draft {
            began,
            steps: Vec::new(),
        }
    }

    fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.began)
    }

    /// SIP between `me` and `server`, and what ICE and DTLS said at `me`.
    fn side(&mut self, report: &CallReport, me: usize, server: usize) {
        for passed in &report.passed {
            let (from, to) = if passed.outbound {
                (me, server)
            } else {
                (server, me)
            };
            self.steps.push(Step {
                at: self.at(passed.at),
                layer: Layer::Sip,
                from,
                to,
                label: passed.label.clone(),
                detail: Some(passed.detail.clone()),
            });
        }
        for (at, layer, text, detail) in &report.diary.notes {
            let at = self.at(*at);
            self.steps.push(Step {
                at,
                layer: *layer,
                from: me,
                to: me,
                label: text.clone(),
                detail: detail.clone(),
            });
        }
    }

    fn packet(&mut self, at: Option<Instant>, report: &CallReport, from: usize, to: usize) {
        let codec = report
            .audio
            .map_or_else(String::new, |audio| format!(" {}", audio.codec));
        if let Some(at) = at {
            let label = format!("first RTP{codec}");
            self.steps.push(Step {
                at: self.at(at),
                layer: Layer::Rtp,
                from,
                to,
                label,
                detail: None,
            });
        }
    }

    fn packets(&mut self, report: &CallReport, me: usize, peer: usize) {
        self.packet(report.diary.outbound_first, report, me, peer);
        self.packet(report.diary.inbound_first, report, peer, me);
    }

    fn arrivals(&mut self, caller: &CallReport, callee: &CallReport) {
        self.packet(callee.diary.inbound_first, callee, 0, 2);
        self.packet(caller.diary.inbound_first, caller, 2, 0);
    }

    fn draw(mut self, title: &str, participants: Vec<String>) -> Ladder {
        self.steps.sort_by_key(|step| step.at);
        let mut ladder = Ladder::new(title, participants);
        self.steps.into_iter().for_each(|step| ladder.push(step));
        ladder
    }
}
