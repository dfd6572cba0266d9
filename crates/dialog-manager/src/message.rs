//! What a dialog manager is told.
//!
//! Every message but [`FromStack`] is answered by `Err` with [`Fault::ApiMisuse`](siprtc_core::Fault::ApiMisuse) when
//! its call is unknown (it may have ended just now) or in a state in which the message makes no sense.

use actix::prelude::*;
use siprtc_core::sip::{Flow, Headers, NameAddr, SipUri, StackEvent, Uri};
use siprtc_core::{CallId, Error};

/// Starts a call: [`Started`](crate::DialogEventKind::Started) and then the course of the call.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Invite {
    /// A fresh id.
    pub call: CallId,
    /// Whom to call: the Request-URI and the To.
    pub target: Uri,
    /// The offer.
    pub offer: String,
    /// More header fields for the INVITE. Those that the manager writes itself (From, CSeq, Contact ...) are refused. `Privacy: id`
    /// makes the From anonymous, and says who we are in P-Preferred-Identity (RFC 3323, RFC 3325).
    pub headers: Headers,
}

/// Asks the peer of a confirmed call to call somebody else (REFER, RFC 3515); `Referral...` events tell how it goes, and the call
/// goes on until somebody hangs up. One at a time.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Refer {
    /// Whose peer is asked.
    pub call: CallId,
    /// Whom it shall call.
    pub to: ReferTo,
}

/// Whom a peer is to call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReferTo {
    /// The peer of another call of this manager, in the place of that call (RFC 3891): an attended transfer.
    Call(CallId),
    /// That address: a blind transfer.
    Uri(SipUri),
}

/// Says how the call goes that the peer asked for with [`Referred`](crate::DialogEventKind::Referred): 100 as soon as it is
/// wanted, 180 and the like, and one final status, which is the last word. The peer is notified (RFC 3515 section 2.4.4).
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ReportReferral {
    /// The call in which the peer asked.
    pub call: CallId,
    /// 100 to 699; 603 when it is not wanted.
    pub status: u16,
}

/// Offers anew within an established call, by a re-INVITE or, as [`Reoffer`](crate::Reoffer) says, an UPDATE; or before it is
/// answered, by an UPDATE (RFC 3311), where [`Ringing`](crate::DialogEventKind::Ringing) `takes_offers`, or, as callee, our answer in a
/// 183 is acknowledged ([`ProgressConfirmed`](crate::DialogEventKind::ProgressConfirmed)). [`OfferAnswered`](crate::DialogEventKind::OfferAnswered) or
/// [`OfferRejected`](crate::DialogEventKind::OfferRejected) follows. After a 491 it is sent again by itself (RFC 3261 section 14.1).
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Reinvite {
    /// Which call.
    pub call: CallId,
    /// The offer.
    pub offer: String,
    /// The early dialog that it is for, of a call of ours that nobody has answered.
    pub early: Option<crate::DialogTag>,
}

/// Tells the caller that we are ringing: 180, or 183 with an early answer (RFC 3261 section 13.3.1.1). May be repeated, with the same
/// answer. The 183 is acknowledged where the caller can (RFC 3262): then
/// [`ProgressConfirmed`](crate::DialogEventKind::ProgressConfirmed) follows.
///
/// Errors: [`Fault::PeerIncompatible`](siprtc_core::Fault) for an early offer to a caller that acknowledges nothing.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Ring {
    /// Which call.
    pub call: CallId,
    /// Early media: the answer, or the offer if the INVITE had none.
    pub answer: Option<String>,
}

/// Answers the call with 200: [`Confirmed`](crate::DialogEventKind::Confirmed) when the caller has acknowledged it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Accept {
    /// Which call.
    pub call: CallId,
    /// The answer, or the offer if the INVITE had none. Not read once a [`Ring`] had it: the 200 repeats that, or, where it was
    /// acknowledged, says nothing of the session.
    pub sdp: String,
}

/// Accepts the peer's re-INVITE, UPDATE or PRACK with 200:
/// [`OfferConfirmed`](crate::DialogEventKind::OfferConfirmed) follows.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct AcceptOffer {
    /// Which call.
    pub call: CallId,
    /// The answer, or the offer if the re-INVITE had none.
    pub sdp: String,
}

/// Refuses the peer's re-INVITE or UPDATE, or the offer in its PRACK (always with 488); the call goes on as it was.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct RejectOffer {
    /// Which call.
    pub call: CallId,
    /// 300 to 699, usually 488.
    pub status: u16,
}

/// Header fields of the application's own for what we send later in a call. A later one takes the place of an earlier one. Those
/// that the manager writes itself are refused.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Attach {
    /// Which call.
    pub call: CallId,
    /// To what.
    pub to: Occasion,
    /// The header fields.
    pub headers: Headers,
}

/// What carries header fields of the application's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Occasion {
    /// Our answers to the INVITE that began the call, above 100.
    Answers,
    /// Our BYE.
    Bye,
    /// Every other request of ours within the call from now on: re-INVITE, UPDATE, INFO, MESSAGE, REFER, NOTIFY, PRACK. What such a
    /// request has already stays.
    Requests,
}

/// Sends the caller elsewhere: 302 with these addresses (RFC 3261 section 21.3); [`Ended`](crate::DialogEventKind::Ended) follows.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Redirect {
    /// Which call, that we have not answered yet.
    pub call: CallId,
    /// Where to, best first; one at least.
    pub contacts: Vec<NameAddr>,
}

/// Refuses a call that we have not answered yet; [`Ended`](crate::DialogEventKind::Ended) follows.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Reject {
    /// Which call.
    pub call: CallId,
    /// 300 to 699: 486 (busy), 603 (declined) ...
    pub status: u16,
}

/// Ends a call in whatever way its state asks for: CANCEL, BYE, or 603 to a call that rings here.
///
/// [`Ended`](crate::DialogEventKind::Ended) comes with the peer's answer, at the latest after 4*T1 (2 s): the session
/// itself is over at once (RFC 3261 section 15.1.1), so media may be stopped with the message. What is still owed to
/// the peer (a late 200 wants ACK and BYE) is paid after that without a word.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Hangup {
    /// Which call.
    pub call: CallId,
    /// The value of a Reason header field (RFC 3326): `SIP;cause=488;text="Not Acceptable Here"`.
    pub reason: Option<String>,
}

/// Sends an INFO of an Info Package (RFC 6086) within the dialog; or, as long as the call has only early ones, within each
/// whose peer takes the package. [`InfoRefused`](crate::DialogEventKind::InfoRefused) says when it came to nothing.
///
/// INFOs of one dialog go out one after the other, each after the last one's final answer (RFC 8840 section 10.9), and a
/// callee's not before the caller has shown that it knows of the dialog. At most 16 wait. One of `trickle-ice` takes the
/// place of one that waits: each repeats all candidates (section 4.4). It is an error as long as no dialog's peer has said
/// that it takes the package: see [`PeerSupports`](crate::DialogEventKind::PeerSupports).
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct SendInfo {
    /// Which call.
    pub call: CallId,
    /// The Info Package: `trickle-ice`.
    pub package: String,
    /// The media type of the body: `application/trickle-ice-sdpfrag`.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// Carries something to the peer of a call: [`Delivered`](crate::DialogEventKind::Delivered) tells, under the errand's own id. One
/// of a call is on its way at a time; at most 64 wait.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Deliver {
    /// Which call.
    pub call: CallId,
    /// A fresh id, for its answer.
    pub errand: CallId,
    /// By which method.
    pub carrier: Carrier,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// What carries something within a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// An INFO without a package (RFC 2976): a digit.
    Info,
    /// A MESSAGE (RFC 3428).
    Message,
}

/// Sends a MESSAGE outside of any call (RFC 3428), of at most 1,300 octets: [`Delivered`](crate::DialogEventKind::Delivered) tells
/// what became of it. At most 64 wait for their answers.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct SendMessage {
    /// A fresh id, for its answer.
    pub errand: CallId,
    /// To whom.
    pub target: Uri,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: String,
    /// More header fields; those that the manager writes itself are refused.
    pub headers: Headers,
}

/// Asks somebody, outside of any call, to call somebody (REFER, RFC 3515): click-to-dial.
/// [`ReferralNews`](crate::DialogEventKind::ReferralNews) tell under its id whether they do, and how the call goes; the subscription to
/// them is renewed until the last one. [`Unsubscribe`] ends it before; the call is made all the same.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct SendRefer {
    /// A fresh id.
    pub referral: CallId,
    /// Who is asked.
    pub target: Uri,
    /// Whom they shall call: an address, whose header part may name a dialog that the call is to replace (RFC 3891); or the peer of a
    /// call of this manager, in the place of that call.
    pub to: ReferTo,
    /// `false`: we would rather not hear how it goes (`Refer-Sub: false`, RFC 4488). Who knows nothing of that tells all the same.
    pub news: bool,
    /// More header fields; those that the manager writes itself are refused. A Referred-By takes the place of ours.
    pub headers: Headers,
}

/// Subscribes to an event package of somebody's (RFC 6665): [`Subscribed`](crate::DialogEventKind::Subscribed), then what there is
/// to tell as [`Notified`](crate::DialogEventKind::Notified), and last
/// [`SubscriptionEnded`](crate::DialogEventKind::SubscriptionEnded), all under its id. It is renewed until then.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Subscribe {
    /// A fresh id.
    pub subscription: CallId,
    /// Whose.
    pub target: Uri,
    /// The event package: `message-summary`, `dialog`, `presence` ...
    pub event: String,
    /// The media types that are understood: `application/simple-message-summary` ...
    pub accept: String,
    /// Seconds that are asked for at a time: 10 to 86,400.
    pub expires: u32,
    /// More header fields for each SUBSCRIBE; those that the manager writes itself are refused.
    pub headers: Headers,
}

/// Ends a subscription; [`SubscriptionEnded`](crate::DialogEventKind::SubscriptionEnded) follows, after 64*T1 at the latest.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Unsubscribe {
    /// Which; one that a [`SendRefer`] made, too.
    pub subscription: CallId,
}

/// Says what there is to tell of an event package (RFC 6665) to those who have subscribed to it, and to those who will: the whole state,
/// which takes the place of the one before.
///
/// Errors: [`Fault::ApiMisuse`](siprtc_core::Fault::ApiMisuse) for a package that nobody may subscribe to, and for `dialog`.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Notify {
    /// `presence` or `message-summary`.
    pub event: String,
    /// The media type of the body: `application/pidf+xml` (RFC 3863), `application/simple-message-summary` (RFC 3842).
    pub content_type: String,
    /// The body, at most 65,536 octets.
    pub body: Vec<u8>,
}

/// What names a call's confirmed dialog to others, as we know it; `None` before, and after.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<crate::DialogName>")]
pub struct NameDialog {
    /// Which call.
    pub call: CallId,
}

/// How long the description in an INVITE may be for the INVITE to fit into a datagram. `None`: it goes over a connection, or
/// as its URI says and that says so.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Option<usize>")]
pub struct MeasureInvite {
    /// As in [`Invite`].
    pub target: Uri,
    /// As in [`Invite`].
    pub headers: Headers,
    /// How long a datagram may be, in octets.
    pub datagram: usize,
}

/// Hangs up everything and refuses every call from now on: the program ends.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Terminate;

/// How we are reached and where requests outside a dialog go, from now on: as the registration stands. A dialog that
/// exists takes the contact with its next re-INVITE.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Reach {
    /// Where peers reach us within a dialog: a GRUU (RFC 5627), or a contact with `ob` (RFC 5626 section 4.3) ...
    pub contact: NameAddr,
    /// Requests outside a dialog go over the first of these that is up, and over nothing else: an INVITE without one is
    /// an error. `None`: they go to the outbound proxy, or where they say.
    pub flows: Option<Vec<Flow>>,
}

/// What the SIP stack has to say: the events of this manager's own transactions, and all those of
/// [`TxOwner::STACK`](siprtc_core::sip::TxOwner::STACK). Events of other owners do no harm.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct FromStack(pub StackEvent);
