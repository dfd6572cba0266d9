//! Policies of call control: what is taken from peers beside calls.

use std::net::IpAddr;

/// What a manager does beside calls, and what it takes from peers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Control {
    /// A peer may ask us to call somebody else (REFER, RFC 3515): [`Referred`](crate::DialogEventKind::Referred). Else 603.
    pub take_referrals: bool,
    /// MESSAGEs are taken (RFC 3428): [`Message`](crate::DialogEventKind::Message). Else 405.
    pub take_messages: bool,
    /// Digits in INFOs without a package are taken: [`Dtmf`](crate::DialogEventKind::Dtmf). Else they mean nothing.
    pub take_digits: bool,
    /// A call that is sent elsewhere (300 to 399) follows, to five places at most and to none twice. Else it ends.
    pub follow_redirects: bool,
    /// Reliable provisional answers.
    pub reliability: Reliability,
    /// What carries an offer of ours within a call.
    pub reoffer: Reoffer,
    /// A NOTIFY of waiting messages (RFC 3842) that nobody has asked for is taken: [`Notified`](crate::DialogEventKind::Notified).
    /// Else 481.
    pub take_unasked_summaries: bool,
    /// Whose P-Asserted-Identity is believed (RFC 3325 section 5): requests from these addresses. Nobody's by default.
    pub trusted: Vec<IpAddr>,
}

impl Default for Control {
    /// Transfers, messages and digits are taken; no redirection is followed, nobody's assertion believed.
    fn default() -> Self {
        Control {
            take_referrals: true,
            take_messages: true,
            take_digits: true,
            follow_redirects: false,
            reliability: Reliability::default(),
            reoffer: Reoffer::default(),
            take_unasked_summaries: false,
            trusted: Vec::new(),
        }
    }
}

/// What carries an offer of ours within a call that is answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reoffer {
    /// A re-INVITE, which a peer may ask a person about.
    #[default]
    Invite,
    /// An UPDATE (RFC 3311), if the peer's Allow names it: quicker, and without an ACK. A re-INVITE follows where it is answered 405,
    /// 501 or 504.
    Update,
}

/// Whether provisional answers are acknowledged (RFC 3262).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reliability {
    /// Never: who requires it is refused with 420.
    Off,
    /// Always: our INVITEs require it, and a caller that cannot is refused with 421.
    Required,
    /// As the peer wants it: our INVITEs say that we can, and our answers are reliable for a caller that requires it.
    #[default]
    Supported,
}
