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
    /// The event packages that others may subscribe to, in lower case: `dialog`, which tells of our calls, and `presence` and
    /// `message-summary`, of which [`Notify`](crate::Notify) tells. None: SUBSCRIBE is answered 405.
    pub notifies: Vec<String>,
    /// Who may.
    pub watchers: Admitted,
    /// Who may have us call somebody, outside of any call (REFER): [`Asked`](crate::DialogEventKind::Asked). Others hear 403.
    pub referrals: Admitted,
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
            notifies: Vec::new(),
            watchers: Admitted::Trusted,
            referrals: Admitted::default(),
            take_unasked_summaries: false,
            trusted: Vec::new(),
        }
    }
}

/// Whom something is granted that is asked for outside of any call. Whoever is not is answered 403.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Admitted {
    /// Everybody who reaches us.
    All,
    /// Nobody.
    #[default]
    Nobody,
    /// Whoever comes over an address of [`Control::trusted`]: a proxy that looks who it is.
    Trusted,
}

impl Control {
    /// Whether it is granted to who comes from that address.
    pub(crate) fn admits(&self, admitted: Admitted, from: IpAddr) -> bool {
        match admitted {
            Admitted::All => true,
            Admitted::Nobody => false,
            Admitted::Trusted => self.trusted.contains(&from),
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
