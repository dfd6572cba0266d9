//! The message flow of a call, drawn: a sequence diagram for a terminal or as an SVG.
//!
//! ```
//! use siprtc::ladder::{Ladder, Layer, Step};
//! use std::time::Duration;
//!
//! let mut ladder = Ladder::new("Alice calls Bob", vec!["Alice".to_owned(), "Bob".to_owned()]);
//! ladder.push(Step {
//!     at: Duration::from_millis(12),
//!     layer: Layer::Sip,
//!     from: 0,
//!     to: 1,
//!     label: "INVITE".to_owned(),
//!     detail: None,
//! });
//! assert!(ladder.to_text(80, false).contains("─ INVITE ─"));
//! ```

pub(crate) mod svg;
mod text;
mod words;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

/// A sequence diagram of one call.
///
/// **Policy when full**: the first half of [`Ladder::MAX_STEPS`] and the latest half are kept, what lies between is
/// counted, and the drawing says how many steps it leaves out: how a call began and how it ended explain it best.
///
/// Labels may come from the network: control characters and characters that turn the direction of writing are taken
/// out when a step is pushed.
#[derive(Clone, Debug)]
pub struct Ladder {
    title: String,
    participants: Vec<String>,
    first: Vec<Step>,
    latest: VecDeque<Step>,
    left_out: usize,
}

/// Which protocol a step belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Layer {
    /// Signalling.
    Sip,
    /// Connectivity checks.
    Ice,
    /// The handshake that keys SRTP.
    Dtls,
    /// Media.
    Rtp,
}

/// One message, or a note at one lifeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Since dialling. Steps are drawn in order of time, whatever the order in which they were pushed.
    pub at: Duration,
    /// Which protocol.
    pub layer: Layer,
    /// Index of the sender among the participants. One that does not exist is taken for the last.
    pub from: usize,
    /// Index of the receiver; the sender's own for a note at its lifeline.
    pub to: usize,
    /// What is written at the arrow; [`Ladder::MAX_LABEL`] characters of it are kept.
    pub label: String,
    /// What is written below it, in small. As long as a label at most; the drawing shows what fits.
    pub detail: Option<String>,
}

impl Ladder {
    /// Most characters of a label, a detail, a name and the title.
    pub const MAX_LABEL: usize = 200;
    /// Most participants; those after them are left out, and their steps go to the last.
    pub const MAX_PARTICIPANTS: usize = 8;
    /// Most steps, see [`Ladder`] for what happens beyond.
    pub const MAX_STEPS: usize = 400;

    /// A ladder without steps. Participants stand from left to right in the order given.
    pub fn new(title: &str, participants: Vec<String>) -> Self {
        let mut participants: Vec<String> = participants
            .iter()
            .take(Self::MAX_PARTICIPANTS)
            .map(|name| words::clean(name, Self::MAX_LABEL))
            .collect();
        if participants.is_empty() {
            participants.push("?".to_owned());
        }
        Ladder {
            title: words::clean(title, Self::MAX_LABEL),
            participants,
            first: Vec::new(),
            latest: VecDeque::new(),
            left_out: 0,
        }
    }

    /// Adds a step.
    pub fn push(&mut self, step: Step) {
        let last = self.participants.len() - 1;
        let step = Step {
            from: step.from.min(last),
            to: step.to.min(last),
            label: words::clean(&step.label, Self::MAX_LABEL),
            detail: step
                .detail
                .map(|detail| words::clean(&detail, Self::MAX_LABEL))
                .filter(|detail| !detail.trim().is_empty()),
            ..step
        };
        if self.first.len() < Self::MAX_STEPS / 2 {
            return self.first.push(step);
        }
        if self.latest.len() == Self::MAX_STEPS / 2 {
            self.latest.pop_front();
            self.left_out += 1;
        }
        self.latest.push_back(step);
    }

    /// How many steps there were, those left out among them.
    pub fn len(&self) -> usize {
        self.first.len() + self.latest.len() + self.left_out
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is drawn, from top to bottom.
    fn items(&self) -> Vec<Item<'_>> {
        let mut parts: Vec<Vec<&Step>> = vec![self.first.iter().collect(), self.latest.iter().collect()];
        if self.left_out == 0 {
            let rest = parts.pop().unwrap_or_default();
            parts[0].extend(rest);
        }
        let mut items = Vec::new();
        for (index, mut part) in parts.into_iter().enumerate() {
            if index > 0 {
                items.push(Item::LeftOut(self.left_out));
            }
            part.sort_by_key(|step| step.at);
            let mut before: Option<Duration> = None;
            for step in part {
                let pause = before.map_or(Duration::ZERO, |before| step.at.saturating_sub(before));
                if pause >= PAUSE {
                    items.push(Item::Pause(pause));
                }
                before = Some(step.at);
                items.push(Item::Step(step));
            }
        }
        items
    }
}

impl Layer {
    const ALL: [Layer; 4] = [Layer::Sip, Layer::Ice, Layer::Dtls, Layer::Rtp];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Sip => "SIP",
            Layer::Ice => "ICE",
            Layer::Dtls => "DTLS",
            Layer::Rtp => "RTP",
        }
    }
}

/// A line of the drawing.
enum Item<'a> {
    LeftOut(usize),
    Pause(Duration),
    Step(&'a Step),
}

impl Item<'_> {
    /// What stands across the drawing where time is cut out of it.
    fn cut(&self) -> Option<String> {
        match self {
            Item::LeftOut(1) => Some("1 step left out".to_owned()),
            Item::LeftOut(count) => Some(format!("{count} steps left out")),
            Item::Pause(time) => Some(format!("{} later", words::duration(*time))),
            Item::Step(_) => None,
        }
    }
}

/// Milliseconds with one digit after the point, as both drawings write them.
fn milliseconds(at: Duration) -> String {
    format!("{:.1}", at.as_secs_f64() * 1000.0)
}

/// From so long on, the time between two steps is written between them.
const PAUSE: Duration = Duration::from_secs(1);
