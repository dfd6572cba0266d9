//! Call control: transfers, from every end (RFC 3515, RFC 3891, RFC 5589), and its policies.

use crate::actor::Gateway;
use crate::calls::Entry;
use crate::errands::DtmfWay;
use crate::machine::{Command, Input, Told};
use crate::messages::{CallEventKind, MediaPlan};
use actix::prelude::*;
use siprtc_core::sip::SipUri;
use siprtc_core::{CallId, Error, Fault, Result};
use siprtc_dialog_manager::{self as dialog, ReferTo, Referral};
use siprtc_media_session::{self as media, Sink, VideoSink};

/// What the gateway does beside calls, and what it takes from peers.
#[derive(Clone, Debug, Default)]
pub struct CallControl {
    /// What the dialog manager takes from peers; `take_referrals` and `take_digits` are this structure's to say.
    pub dialogs: dialog::Control,
    /// How digits travel.
    pub dtmf: DtmfWay,
    /// Which early answer is heard.
    pub early_media: EarlyMedia,
    /// What becomes of a peer's wish that we call somebody else.
    pub transfers: Transfers,
}

/// Which fork of a call of ours is heard before somebody answers. Each has a media peer of its own, and that of the 2xx stays; with an
/// engine or a path that has one peer for an offer ([`MediaEngine::forks`](siprtc_core::media::MediaEngine::forks)) only the first
/// is heard, and another one that answers is offered anew.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EarlyMedia {
    /// That whose early answer (183) comes first.
    #[default]
    First,
    /// That whose early answer comes last: each new one takes the place of the one before, in what is heard and in what is sent.
    Latest,
    /// None: the 2xx decides, at once and without a second offer. Ringing is the application's own.
    None,
}

/// What becomes of a peer's wish to transfer a call of ours (REFER).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transfers {
    /// The new call is made at once, with the media of the one that is transferred; nothing of it is recorded to a file.
    Accept,
    /// The application is asked ([`CallEventKind::TransferWanted`]), and has 30 s to answer.
    #[default]
    Ask,
    /// 603.
    Refuse,
}

/// Asks a call's peer to call somebody else: a blind transfer. [`CallEventKind::TransferProgress`] tells how it goes, and
/// `Transferred`, with which our call is hung up, or `TransferRefused`, after which it goes on.
///
/// Errors: [`Fault::ApiMisuse`] before the call is confirmed, and while it is being transferred.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Transfer {
    /// Which.
    pub call: CallId,
    /// To whom.
    pub to: TransferTo,
}

/// To whom a call is transferred, or whom somebody is to call.
#[derive(Clone, Debug)]
pub enum TransferTo {
    /// To the peer of another call of this gateway, in whose place it comes: an attended transfer. That call ends by the peer's
    /// BYE.
    Call(CallId),
    /// To that address.
    Uri(SipUri),
}

impl From<TransferTo> for ReferTo {
    fn from(to: TransferTo) -> Self {
        match to {
            TransferTo::Call(other) => ReferTo::Call(other),
            TransferTo::Uri(uri) => ReferTo::Uri(uri),
        }
    }
}

/// Makes the call that a peer asked for ([`CallEventKind::TransferWanted`]). [`CallEventKind::TransferTaken`] names it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct AcceptTransfer {
    /// The call that is transferred.
    pub call: CallId,
    /// The new one's id, [`CallId::fresh`].
    pub new: CallId,
    /// With what media.
    pub media: MediaPlan,
}

/// Refuses the call that a peer asked for.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct RefuseTransfer {
    /// The call that would be transferred; it goes on.
    pub call: CallId,
    /// What the peer is told: 400 to 699, usually 603.
    pub status: u16,
}

impl Handler<Transfer> for Gateway {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, message: Transfer, ctx: &mut Context<Self>) -> Self::Result {
        let Transfer { call, to } = message;
        let to = to.into();
        let house = self.house(ctx);
        Box::pin(async move { crate::calls::ask(&house?.dialogs, dialog::Refer { call, to }).await })
    }
}

impl Handler<AcceptTransfer> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: AcceptTransfer, ctx: &mut Context<Self>) -> Result<()> {
        const OPERATION: &str = "accept a transfer";
        let AcceptTransfer { call, new, media } = message;
        self.has_room(OPERATION, new)?;
        if let Some(entry) = self.calls.get_mut(&call) {
            entry.successor = Some((new, media));
        }
        let taken = self.command_input(ctx, OPERATION, call, Input::AcceptTransfer);
        // A wish that comes later is not answered with this.
        if let (Err(_), Some(entry)) = (&taken, self.calls.get_mut(&call)) {
            entry.successor = None;
        }
        taken
    }
}

impl Handler<RefuseTransfer> for Gateway {
    type Result = Result<()>;

    fn handle(&mut self, message: RefuseTransfer, ctx: &mut Context<Self>) -> Result<()> {
        const OPERATION: &str = "refuse a transfer";
        let RefuseTransfer { call, status } = message;
        if !(400..700).contains(&status) {
            return Err(
                Error::new(Fault::ApiMisuse, OPERATION, format!("{status} refuses nothing"))
                    .advice("choose a status from 400 to 699, such as 603 (decline)"),
            );
        }
        self.command_input(ctx, OPERATION, call, Input::RefuseTransfer { status })
    }
}

impl Gateway {
    /// Makes the call that `id`'s peer asked for, and reports of it from now on.
    pub(crate) fn take_referral(&mut self, ctx: &mut Context<Self>, id: CallId, referral: Referral) {
        let Some(entry) = self.calls.get_mut(&id) else {
            return;
        };
        let (new, media) = entry
            .successor
            .take()
            .unwrap_or_else(|| (CallId::fresh(), entry.media_for_another()));
        if let Err(error) = self.has_room("take a transfer", new) {
            tracing::warn!(call_id = %id, %error, "the peer's transfer finds no room");
            return self.report_referral(ctx, id, 486);
        }
        self.report_referral(ctx, id, 100);
        let mut entry = Entry::new(new, "caller", media);
        entry.headers = referral.headers;
        entry.reports_to = Some(id);
        self.tell(id, CallEventKind::TransferTaken { call: new });
        self.begin(ctx, entry, new, referral.target);
    }

    pub(crate) fn report_referral(&mut self, ctx: &mut Context<Self>, call: CallId, status: u16) {
        let message = dialog::ReportReferral { call, status };
        self.command(ctx, call, Command::ReportReferral, message);
    }

    /// What a call's news mean to another one: the one whose peer asked for it, or whose place it takes.
    pub(crate) fn concerns_another(&mut self, ctx: &mut Context<Self>, id: CallId, told: &Told) {
        let Some(entry) = self.calls.get(&id) else { return };
        let (asked, replaced) = (entry.reports_to, entry.replaces);
        match told {
            Told::Accepted => asked
                .or(replaced)
                .into_iter()
                .for_each(|from| self.hand_over(ctx, from, id)),
            Told::Confirmed => self.inherit(id),
            _ => {}
        }
        // News of a transfer outlive the call that was transferred, and others ask outside of any call.
        if let Some(asked) = asked {
            let status = match told {
                Told::Accepted => Some(200),
                Told::Ended(ending) if !ending.established => Some(ending.status.unwrap_or(503)),
                Told::Progress { status, .. } => Some(*status),
                _ => None,
            };
            if let Some(status) = status {
                self.report_referral(ctx, asked, status);
            }
        }
        if let (Some(replaced), Told::Accepted) = (replaced, told) {
            self.tell(replaced, CallEventKind::Replaced { by: id });
            self.input(ctx, replaced, Input::Replaced);
        }
    }

    /// What is joined to a call, or recorded of it, goes on in the one that takes its place: taken now, for that call is about to
    /// end, and given when the new one has its media peer for good.
    fn hand_over(&mut self, ctx: &mut Context<Self>, from: CallId, to: CallId) {
        const OPERATION: &str = "take a call's place";
        let Some(plan) = self.calls.get(&to).map(|entry| &entry.media) else {
            return;
        };
        let wanted = media::HandOver {
            with_sink: matches!(plan.sink, Sink::Null),
            with_video_sink: (plan.video.as_ref()).is_some_and(|video| matches!(video.sink, VideoSink::Null)),
        };
        let Ok(session) = self.session(OPERATION, from) else {
            return;
        };
        // `send` takes its place in the mailbox here and now: before the session is closed.
        let taken = session.send(wanted);
        let estate = async move {
            taken.await.unwrap_or_else(|error| {
                Err(Error::new(Fault::Backend, OPERATION, "its media is gone").caused_by(error))
            })
        };
        self.detach(ctx, to, estate, move |estate, act, _| match estate {
            Ok(estate) => {
                if let Some(entry) = act.calls.get_mut(&to) {
                    entry.estate = Some(estate);
                }
                act.inherit(to);
            }
            Err(error) => tracing::warn!(call_id = %to, %error, "nothing goes over from the other call"),
        });
    }

    fn inherit(&mut self, id: CallId) {
        let session = self.session("inherit", id).ok();
        let entry = self.calls.get_mut(&id).filter(|entry| entry.call.is_confirmed());
        let (Some(entry), Some(session)) = (entry, session) else {
            return;
        };
        let Some(estate) = entry.estate.take() else { return };
        let inherited = session.send(media::Inherit { estate });
        actix::spawn(async move {
            if let Ok(Err(error)) = inherited.await {
                tracing::warn!(call_id = %id, %error, "what the other call had does not go on");
            }
        });
    }

    /// An INVITE that takes the place of a call of ours is answered as that one was; nothing rings.
    pub(crate) fn take_place(&mut self, ctx: &mut Context<Self>, id: CallId) {
        let replaced = self.calls.get(&id).and_then(|entry| entry.replaces);
        let Some(replaced) = replaced else { return };
        let media = self.calls.get(&replaced).map(Entry::media_for_another);
        let (Some(media), Some(entry)) = (media, self.calls.get_mut(&id)) else {
            // RFC 3891 section 3: the call is over already.
            self.input(ctx, id, Input::Refuse { status: 603 });
            return;
        };
        entry.media = media;
        self.input(ctx, id, Input::Answer);
    }
}
