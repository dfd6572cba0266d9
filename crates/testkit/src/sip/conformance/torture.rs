//! The messages of RFC 4475 and RFC 5118, and those of real telephones, as a stranger sends them.

use super::runner::capability;
use super::{Network, Setting};
use crate::corpus::{SIP_FOLDERS, corpus_files, sip_messages, tolerable};
use crate::sip::torture::{Fate, Torture};
use crate::sip::{Heard, Hearing, difference, needs};
use bytes::Bytes;
use siprtc_core::sip::{
    Feature, Limits, Method, SipCapability, SipMessage, SipRequest, SipStackFactory, Transport,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The messages of RFC 4475 and RFC 5118, and those of real telephones.
#[doc(hidden)]
#[macro_export]
macro_rules! sip_torture {
    ($then:ident $given:tt) => {
        $crate::$then! { $given torture
            torture_messages_of_rfc_4475_meet_their_fate
                Alone [Udp] []
                "RFC 4475" "Valid messages are delivered as they are, the others refused or dropped.";
            torture_messages_of_rfc_5118_meet_their_fate
                Alone [Udp] []
                "RFC 5118" "The same with IPv6 addresses in the messages.";
            requests_of_real_telephones_are_delivered_untouched
                Alone [Udp Tcp] []
                "RFC 3261 7" "Every valid request of the corpus is delivered with its header fields unchanged and in order.";
        }
    };
}

pub(super) async fn torture_messages_of_rfc_4475_meet_their_fate(on: Setting) {
    torture(&on.alice, "rfc4475", |_| true).await;
}

pub(super) async fn torture_messages_of_rfc_5118_meet_their_fate(on: Setting) {
    // Few messages, and about one thing.
    torture(&on.alice, "rfc5118", |gap| gap == Feature::Ipv6).await;
}

pub(super) async fn requests_of_real_telephones_are_delivered_untouched(on: Setting) {
    let mut hearing = Hearing::over(&on.alice, on.network.transport()).await;
    let mut verdicts = Verdicts::of(&on.alice);
    let tolerable = tolerable();
    for (name, octets) in sip_messages() {
        let torture = name.starts_with("rfc4475/") || name.starts_with("rfc5118/");
        let Some(request) = valid_request(&octets).filter(|_| !torture) else {
            continue;
        };
        // A CANCEL without its INVITE is the stack's own affair; on a connection a length is needed.
        let framed = on.network != Network::Tcp || request.headers.contains("Content-Length");
        if request.method == Method::Cancel || !framed {
            continue;
        }
        match hearing.hear(&octets).await {
            Heard::Answered(400) | Heard::Malformed | Heard::Nothing if tolerable.contains(&name) => {}
            heard => verdicts.delivered(&name, &octets, &request, heard),
        }
    }
    hearing.stop().await;
    assert!(
        verdicts.count > 150,
        "only {} requests in {SIP_FOLDERS:?}",
        verdicts.count
    );
    verdicts.finish();
}

/// `about`: the features whose declared absence must show in the folder's messages.
async fn torture(factory: &Arc<dyn SipStackFactory>, folder: &str, about: fn(Feature) -> bool) {
    let mut verdicts = Verdicts::of(factory);
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut hearing = Hearing::over(factory, transport).await;
        for (name, octets) in corpus_files(folder) {
            let (name, octets) = (format!("{folder}/{name}"), Bytes::from(octets));
            let torture = Torture::of(&name);
            if torture.transport() != transport {
                continue;
            }
            let heard = hearing.hear(&octets).await;
            match torture.fate {
                Fate::Delivered => {
                    let request = valid_request(&octets).expect("BUG: the list says that it is valid");
                    verdicts.delivered(&name, &octets, &request, heard);
                }
                Fate::Dropped => verdicts.dropped(&name, heard),
                Fate::Tolerated if matches!(heard, Heard::Request(_)) => {}
                Fate::Refused | Fate::Tolerated => verdicts.refused(torture, heard),
            }
        }
        hearing.stop().await;
    }
    verdicts.finish_with_gaps(about);
}

fn valid_request(octets: &Bytes) -> Option<SipRequest> {
    match SipMessage::parse(octets, &Limits::default()) {
        Ok(SipMessage::Request(request)) if request.validate().is_ok() => Some(request),
        _ => None,
    }
}

/// What went wrong, all of it, and which declared gaps were seen.
struct Verdicts {
    capability: SipCapability,
    count: usize,
    wrong: Vec<String>,
    /// Gaps that a message needed.
    met: BTreeSet<Feature>,
    /// Of these, those that were in the way of one.
    seen: BTreeSet<Feature>,
}

impl Verdicts {
    fn of(factory: &Arc<dyn SipStackFactory>) -> Self {
        Verdicts {
            capability: capability(factory),
            count: 0,
            wrong: Vec::new(),
            met: BTreeSet::new(),
            seen: BTreeSet::new(),
        }
    }

    /// It must have arrived as it is, unless it needs what the stack says that it cannot.
    fn delivered(&mut self, name: &str, octets: &Bytes, sent: &SipRequest, heard: Heard) {
        self.count += 1;
        let gaps: Vec<Feature> = needs(octets, sent)
            .into_iter()
            .filter(|feature| self.capability.gap(*feature).is_some())
            .collect();
        self.met.extend(&gaps);
        match (&heard, gaps.is_empty()) {
            (Heard::Request(request) | Heard::Ack(request), _) => {
                if let Some(difference) = difference(sent, request) {
                    self.wrong.push(format!("{name}: {difference}"));
                }
            }
            (Heard::Answered(400..=599) | Heard::Malformed | Heard::Nothing, false) => self.seen.extend(gaps),
            _ => self.wrong.push(format!("{name} was not delivered: {heard:?}")),
        }
    }

    fn dropped(&mut self, name: &str, heard: Heard) {
        if !matches!(heard, Heard::Malformed | Heard::Nothing) {
            self.wrong.push(format!("{name} is no request, but: {heard:?}"));
        }
    }

    fn refused(&mut self, torture: &Torture, heard: Heard) {
        let Torture {
            file,
            section,
            statuses,
            ..
        } = torture;
        let quiet = self.capability.gap(Feature::AnswersMalformed).is_some();
        match heard {
            Heard::Answered(status) if statuses.contains(&status) => {}
            Heard::Malformed | Heard::Nothing if quiet => {
                self.met.insert(Feature::AnswersMalformed);
                self.seen.insert(Feature::AnswersMalformed);
            }
            heard => self
                .wrong
                .push(format!("{file} wants {statuses:?} ({section}), but: {heard:?}")),
        }
    }

    /// A gap that stands in no torture message's way is none.
    fn finish_with_gaps(mut self, about: fn(Feature) -> bool) {
        for gap in self.met.difference(&self.seen).filter(|gap| about(**gap)) {
            self.wrong.push(format!(
                "{gap} is declared a gap, but every message that needs it came through"
            ));
        }
        self.finish();
    }

    fn finish(self) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}
