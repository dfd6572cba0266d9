//! `[call]`: policies of call control.

use super::{CallConfig, invalid};
use siprtc_core::Result;
use siprtc_gateway::{Admitted, CallControl, Control, DtmfWay, EarlyMedia, Reliability, Reoffer, Transfers};

impl CallConfig {
    pub(crate) fn control(&self) -> Result<CallControl> {
        let transfers = match self.transfer.as_str() {
            "accept" => Transfers::Accept,
            "ask" => Transfers::Ask,
            "refuse" => Transfers::Refuse,
            other => {
                return Err(invalid(format!("call.transfer = {other:?} is no policy"))
                    .advice("choose ask, accept or refuse"));
            }
        };
        let dtmf = match self.dtmf.as_str() {
            "auto" => DtmfWay::Auto,
            "info" => DtmfWay::Info,
            "rfc4733" => DtmfWay::Rfc4733,
            other => {
                return Err(invalid(format!("call.dtmf = {other:?} is no way for digits"))
                    .advice("choose auto, rfc4733 or info"));
            }
        };
        let follow_redirects = match self.redirects.as_str() {
            "follow" => true,
            "tell" => false,
            other => {
                return Err(invalid(format!("call.redirects = {other:?} is no policy"))
                    .advice("choose tell or follow"));
            }
        };
        let early_media = match self.early_media.as_str() {
            "first" => EarlyMedia::First,
            "latest" => EarlyMedia::Latest,
            "none" => EarlyMedia::None,
            other => {
                return Err(invalid(format!("call.early_media = {other:?} is no policy"))
                    .advice("choose first, latest or none"));
            }
        };
        let reliability = match self.reliable_provisionals.as_str() {
            "off" => Reliability::Off,
            "required" => Reliability::Required,
            "supported" => Reliability::Supported,
            other => {
                return Err(
                    invalid(format!("call.reliable_provisionals = {other:?} is no policy"))
                        .advice("choose off, supported or required"),
                );
            }
        };
        let reoffer = match self.reoffer.as_str() {
            "invite" => Reoffer::Invite,
            "update" => Reoffer::Update,
            other => {
                return Err(invalid(format!("call.reoffer = {other:?} is no method"))
                    .advice("choose invite or update"));
            }
        };
        let trusted = self.trusted.iter().map(|address| {
            address.parse().map_err(|_| {
                invalid(format!("call.trusted: {address:?} is no address"))
                    .advice("list IP addresses of proxies")
            })
        });
        let dialogs = Control {
            follow_redirects,
            reliability,
            reoffer,
            trusted: trusted.collect::<Result<_>>()?,
            take_messages: self.messages,
            notifies: self.packages()?,
            watchers: admitted("watchers", &self.watchers)?,
            referrals: admitted("referrals", &self.referrals)?,
            take_unasked_summaries: self.unasked_summaries,
            ..Control::default()
        };
        Ok(CallControl {
            dialogs,
            dtmf,
            early_media,
            transfers,
        })
    }

    /// The event packages that are told of.
    fn packages(&self) -> Result<Vec<String>> {
        let known = |package: &&String| matches!(package.as_str(), "dialog" | "message-summary" | "presence");
        match self.notifies.iter().find(|package| !known(package)) {
            None => Ok(self.notifies.clone()),
            Some(other) => Err(invalid(format!("call.notifies: nobody can be told of {other:?}"))
                .advice("list some of dialog, presence and message-summary")),
        }
    }
}

fn admitted(key: &str, value: &str) -> Result<Admitted> {
    match value {
        "all" => Ok(Admitted::All),
        "nobody" => Ok(Admitted::Nobody),
        "trusted" => Ok(Admitted::Trusted),
        other => Err(
            invalid(format!("call.{key} = {other:?} says of nobody whether they may"))
                .advice("choose all, trusted (over the proxies of call.trusted) or nobody"),
        ),
    }
}
