//! What a dialog manager reports.

use crate::machine::replaces;
use actix::prelude::*;
use siprtc_core::sip::{Headers, NameAddr, SipUri, Uri};
use siprtc_core::{CallId, Cause};
use std::fmt;
use std::time::Duration;

/// Something happened to a call.
#[derive(Clone, Debug, Message, PartialEq)]
#[rtype(result = "()")]
pub struct DialogEvent {
    /// Which call.
    pub call: CallId,
    /// What.
    pub kind: DialogEventKind,
}

/// What happened. The SDP of a message is given as it came; a body that is no `application/sdp` is none.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a few events a call: a plain `match` is worth more than the octets"
)]
pub enum DialogEventKind {
    /// Somebody wants us to call somebody, outside of any call, and was told 202; the event's `call` is the referral's id.
    /// [`ReportReferral`](crate::ReportReferral) tells how it goes, a final status above 300 that it is not made; after 30 s without a word
    /// it is 603 ([`ReferralLapsed`](Self::ReferralLapsed)).
    Asked(Referral),
    /// Caller: the first 2xx; its ACK is already sent. A 2xx of another fork is acknowledged and hung up without a word.
    Answered {
        /// The dialog that was confirmed; every other early dialog is gone.
        dialog: DialogTag,
        /// The answer.
        sdp: Option<String>,
    },
    /// Callee: the ACK of our 200 arrived.
    Confirmed {
        /// The answer, when our 200 carried the offer.
        sdp: Option<String>,
    },
    /// What became of a [`Deliver`](crate::Deliver) or [`SendMessage`](crate::SendMessage); the event's `call` is the errand's id.
    Delivered {
        /// The final answer; 408 when none came, 503 when it could not be sent, 481 when its call ended first.
        status: u16,
    },
    /// The peer pressed a key, and said so in an INFO; its 200 is already sent.
    Dtmf {
        /// 0 to 9, `*`, `#`, A to D.
        digit: char,
        /// How long.
        duration: Duration,
    },
    /// The call is over. Exactly once for every call, and its last event.
    Ended {
        /// Why, in one word.
        cause: Cause,
        /// Who ended it; timers and transport failures are `Local`.
        by: Side,
        /// The final answer that ended it, when one did.
        status: Option<u16>,
        /// Why, in a sentence: whose fault it is and what to do next.
        reason: Option<String>,
        /// Where the callee is (300 to 399), best first.
        contacts: Vec<Uri>,
        /// How long to wait before another try, when the answer says so (Retry-After).
        retry_after: Option<Duration>,
    },
    /// A peer calls. [`Ring`](crate::Ring), [`Accept`](crate::Accept), [`Reject`](crate::Reject) or
    /// [`Hangup`](crate::Hangup) answers.
    Incoming {
        /// The SIP Call-ID.
        sip_call_id: String,
        /// The caller, with its tag.
        from: NameAddr,
        /// Whom the caller asked for.
        to: NameAddr,
        /// The offer; `None` for an offerless INVITE: then [`Accept`](crate::Accept) carries the offer, or a reliable
        /// [`Ring`](crate::Ring).
        offer: Option<String>,
        /// The call of ours in whose place it comes (RFC 3891): whoever accepts it hangs that one up.
        replaces: Option<CallId>,
        /// What else the INVITE says.
        head: Box<Head>,
    },
    /// An INFO of the peer, of a package that we take; its 200 is already sent. Only with
    /// [`trickle_ice`](crate::DialogConfig::trickle_ice).
    Info {
        /// In which dialog: an early one, too.
        dialog: DialogTag,
        /// The Info Package (RFC 6086 section 7.2), in lower case: `trickle-ice`.
        package: String,
        /// The media type of the body: `application/trickle-ice-sdpfrag`.
        content_type: String,
        /// The body, as it came.
        body: String,
    },
    /// A [`SendInfo`](crate::SendInfo) came to nothing in one dialog; the call goes on.
    InfoRefused {
        /// In which dialog.
        dialog: DialogTag,
        /// Of which package.
        package: String,
        /// The final answer; 408 when none came within 64*T1, 503 when it could not be sent. After 405, 408, 415, 469, 481
        /// and 501 this dialog takes no more of this package, and those that waited are dropped: fall back to
        /// candidates in an offer. After another status the next one that waits goes out.
        status: u16,
    },
    /// A MESSAGE (RFC 3428) of the call's peer; or one that belongs to no call, whose id is nobody's. Its 200 is already sent.
    Message(Note),
    /// Something of what we have subscribed to, under the subscription's id; or waiting messages that a server tells of unasked, under
    /// an id that is nobody's.
    Notified {
        /// The event package, in lower case.
        event: String,
        /// The media type of the body.
        content_type: String,
        /// The body, as it came.
        body: Vec<u8>,
    },
    /// Our re-INVITE or UPDATE was accepted.
    OfferAnswered {
        /// The answer.
        sdp: Option<String>,
    },
    /// The peer's re-INVITE, that we accepted, is acknowledged (for an UPDATE or a PRACK: right after our 200).
    OfferConfirmed {
        /// The answer, when our 200 carried the offer.
        sdp: Option<String>,
    },
    /// An offer came to nothing and the session stays as it was: our re-INVITE was refused; or, while the peer's offer
    /// waited for our answer, the peer withdrew it (487) or our answer came too late (500). 491 means that both sides
    /// offered at once and the peer's offer goes first.
    OfferRejected {
        /// The final answer of that re-INVITE or UPDATE.
        status: u16,
    },
    /// A re-INVITE, or an offer in an UPDATE or a PRACK; the latter two also before the call is answered, once the first offer is
    /// answered in an 18x that is acknowledged. [`AcceptOffer`](crate::AcceptOffer) or [`RejectOffer`](crate::RejectOffer) answers.
    Offered {
        /// In which dialog: an early one, too.
        dialog: DialogTag,
        /// The offer; `None` asks us for one.
        sdp: Option<String>,
    },
    /// What the peer can, as far as it has said: once for each dialog, with the first message that makes it, and again when it
    /// changes. Callee: right after [`Incoming`](Self::Incoming). Caller: right before [`Ringing`](Self::Ringing) or
    /// [`Answered`](Self::Answered). Only with [`trickle_ice`](crate::DialogConfig::trickle_ice).
    PeerSupports {
        /// In which dialog.
        dialog: DialogTag,
        /// It understands trickle ICE: the option-tag `trickle-ice` is in its Supported or Require (RFC 8840 section
        /// 10.6).
        option_tag: bool,
        /// It takes [`SendInfo`](crate::SendInfo)s of the package `trickle-ice`: it says so in Recv-Info (RFC 6086), or,
        /// as long as it has sent none, by the option-tag.
        info: bool,
    },
    /// Callee: our 18x with a description is acknowledged (PRACK), and what it agrees on stands before the call is answered; the 200
    /// says no more of it.
    ProgressConfirmed {
        /// The answer, when our 18x carried the offer.
        sdp: Option<String>,
        /// The peer takes UPDATE: a [`Reinvite`](crate::Reinvite) may offer anew before we answer the call.
        takes_offers: bool,
    },
    /// Nobody answered [`Referred`](Self::Referred) or [`Asked`](Self::Asked) within 30 s, and the peer was told 603.
    ReferralLapsed,
    /// What becomes of a call that we asked somebody for outside of any call ([`SendRefer`](crate::SendRefer)), under the referral's id.
    ReferralNews(ReferralNews),
    /// What the peer of [`Refer`](crate::Refer) says of the call that it makes.
    ReferralProgress {
        /// 100, 180 ...
        status: u16,
    },
    /// The call that we asked for with [`Refer`](crate::Refer) came to nothing; our call goes on.
    ReferralRefused {
        /// The peer's answer to our REFER, or that of whom it called; 408 when nobody said how it went.
        status: u16,
    },
    /// The peer has reached whom we sent it to; or it takes the transfer and will not say how it goes (RFC 4488).
    ReferralSucceeded,
    /// The peer asks us to call somebody else (RFC 3515); it was told 202. [`ReportReferral`](crate::ReportReferral) answers, at
    /// once with 100 or a refusal: after 30 s it is told 603.
    Referred(Referral),
    /// The session has to be refreshed by a [`Reinvite`](crate::Reinvite), whose offer may be what it was (RFC 4028 section 7.4).
    /// Comes again as long as nobody does; any other re-INVITE does as well. Only with
    /// [`session_timer`](crate::DialogConfig::session_timer), and of a peer that takes no UPDATE.
    RefreshDue,
    /// Caller: a provisional answer above 100. One To-tag is one early dialog (RFC 3261 section 12.1).
    Ringing {
        /// Which early dialog; empty when the answer had no To-tag.
        dialog: DialogTag,
        /// 180, 183 ...
        status: u16,
        /// Early media, when the answer had SDP.
        sdp: Option<String>,
        /// Its answer is acknowledged, and the peer takes UPDATE: a [`Reinvite`](crate::Reinvite) may offer anew in this dialog.
        takes_offers: bool,
    },
    /// Caller: the INVITE is out.
    Started {
        /// The SIP Call-ID.
        sip_call_id: String,
    },
    /// A subscription stands.
    Subscribed {
        /// For this long; it is renewed before.
        expires: Duration,
    },
    /// A subscription is over: its last event.
    SubscriptionEnded {
        /// The answer that ended it, when one did; 408 when none came, 503 when it could not be sent.
        status: Option<u16>,
        /// What the notifier says (`noresource`, `rejected`, `deactivated` ...), or what went wrong.
        reason: Option<String>,
        /// Where to ask instead (300 to 399), best first.
        contacts: Vec<Uri>,
        /// How long to wait before another try, when somebody said so.
        retry_after: Option<Duration>,
    },
    /// Caller: 100, the next hop has the INVITE.
    Trying,
}

/// What an INVITE says beside its description.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// Its header fields, without a P-Asserted-Identity of somebody whom we do not trust.
    pub headers: Headers,
    /// Who calls, as a proxy that we trust has made sure of (RFC 3325).
    pub asserted: Option<NameAddr>,
    /// The call of ours that it wants to be joined to (RFC 3911), in a conference.
    pub joins: Option<CallId>,
    /// Its caller acknowledges a 183 with a description (RFC 3262): without an offer in the INVITE only such a one has early media.
    pub reliable: bool,
}

impl Head {
    /// Who had the call before, the last one first: Diversion (RFC 5806), else History-Info (RFC 7044).
    pub fn diverted_by(&self) -> Vec<NameAddr> {
        let read = |item: &str| item.parse::<NameAddr>().ok();
        let diversions = self.headers.items("Diversion");
        if !diversions.is_empty() {
            return diversions.into_iter().filter_map(read).collect();
        }
        let mut history: Vec<NameAddr> = self
            .headers
            .items("History-Info")
            .into_iter()
            .filter_map(read)
            .collect();
        // The last entry is whom it is for now.
        history.pop();
        history.reverse();
        history
    }
}

/// A dialog as one of its ends knows it. Written, it is the value of the Join or Replaces of an INVITE to that end (RFC 3911, RFC 3891).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DialogName {
    /// The SIP Call-ID.
    pub call_id: String,
    /// That end's own tag.
    pub local_tag: String,
    /// The tag of its peer.
    pub remote_tag: String,
}

impl DialogName {
    /// An address that takes whoever calls it into that dialog's place: with Replaces in its header part (RFC 3891, RFC 3261 section 19.1.1).
    pub fn within(&self, uri: SipUri) -> SipUri {
        replaces::within(&self.to_string(), uri)
    }
}

impl fmt::Display for DialogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DialogName {
            call_id,
            local_tag,
            remote_tag,
        } = self;
        write!(f, "{call_id};to-tag={local_tag};from-tag={remote_tag}")
    }
}

/// A MESSAGE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// Who sent it.
    pub from: NameAddr,
    /// To whom.
    pub to: NameAddr,
    /// `text/plain`.
    pub content_type: String,
    /// What it says.
    pub body: String,
}

/// What becomes of a call that we asked somebody for.
#[derive(Clone, Debug, PartialEq)]
pub enum ReferralNews {
    /// Whoever was asked takes it.
    Accepted {
        /// How it goes will be told. `false`: it will not (RFC 4488), and this is the last of it.
        tells: bool,
    },
    /// What they say of their call; a final status is the last of it.
    Answered {
        /// 100 to 699.
        status: u16,
    },
    /// They do not take it; the last of it.
    Refused {
        /// Their answer; 408 when none came, 503 when it could not be sent.
        status: u16,
        /// Whom to ask instead (300 to 399), best first.
        contacts: Vec<Uri>,
        /// How long to wait before another try, when they said so.
        retry_after: Option<Duration>,
    },
    /// They took it, and nobody will say any more how it goes; the last of it.
    Untold {
        /// What they say (`timeout`, `giveup` ...), or what went wrong.
        reason: String,
        /// How long to wait before another try, when they said so.
        retry_after: Option<Duration>,
    },
}

/// A call that a peer asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Referral {
    /// Whom to call.
    pub target: Uri,
    /// For the INVITE: Referred-By (RFC 3892), and Replaces (RFC 3891) when it is to take another call's place.
    pub headers: Headers,
    /// Who wants it, as the peer says.
    pub referred_by: Option<NameAddr>,
}

impl Referral {
    /// It takes another call's place: an attended transfer.
    pub fn replaces(&self) -> bool {
        self.headers.contains("Replaces")
    }
}

/// The To-tag that names one dialog among a call's forks.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DialogTag(pub String);

impl fmt::Display for DialogTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the two ends of a call.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// We.
    Local,
    /// The peer, or the network on its behalf.
    Remote,
}
