//! Whose calls a manager handles, and how.

use crate::control::Control;
use siprtc_core::sip::{DigestAlgorithm, DigestSecret, NameAddr, SipUri, TimerConfig};
use std::time::Duration;

/// How a [`DialogManager`](crate::DialogManager) behaves; one account per manager.
#[derive(Clone, Debug)]
pub struct DialogConfig {
    /// Whose calls these are.
    pub account: Account,
    /// RFC 3261 table 4; the same as the stack's.
    pub timers: TimerConfig,
    /// Most calls alive at once. Beyond it an INVITE in is answered 486 with Retry-After, and [`Invite`](crate::Invite)
    /// is an error.
    pub max_calls: usize,
    /// Answer an OPTIONS outside a dialog with 200 and what we can do (RFC 3261 section 11.2); else with 405.
    pub answer_options: bool,
    /// How long a call may ring. Caller: from the first provisional answer until CANCEL. Callee: from the INVITE until
    /// 480.
    pub no_answer: Duration,
    /// Say that we trickle (RFC 8840 section 10): the option-tag and the Info Package `trickle-ice`. Then
    /// [`PeerSupports`](crate::DialogEventKind::PeerSupports) tells whether the peer does, and
    /// [`Info`](crate::DialogEventKind::Info) brings its candidates. The user's descriptions must say it too
    /// (`a=ice-options:trickle`), and as a caller it owes the peer an INFO after the first 18x of each dialog
    /// (section 4.3.2).
    pub trickle_ice: bool,
    /// Sessions are refreshed, and end when they are not (RFC 4028). `None`: the timer is neither asked for nor known.
    pub session_timer: Option<SessionTimer>,
    /// What is taken from peers beside calls.
    pub control: Control,
}

/// How long a session stands without a refresh (RFC 4028); both are at least 90 s and at most a day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionTimer {
    /// What we ask for: Session-Expires.
    pub interval: Duration,
    /// The least that we take: Min-SE. Less is answered 422.
    pub least: Duration,
}

impl Default for SessionTimer {
    /// 1,800 s, which the RFC recommends, and 90 s, the least that it allows.
    fn default() -> Self {
        SessionTimer {
            interval: Duration::from_secs(1_800),
            least: Duration::from_secs(90),
        }
    }
}

impl DialogConfig {
    /// RFC timers, 32 calls, OPTIONS answered, 180 s of ringing, no trickle, no session timer; [`Control::default`].
    pub fn new(account: Account) -> Self {
        DialogConfig {
            account,
            timers: TimerConfig::default(),
            max_calls: 32,
            answer_options: true,
            no_answer: Duration::from_secs(180),
            trickle_ice: false,
            session_timer: None,
            control: Control::default(),
        }
    }
}

/// Who we are, and how peers and servers reach us.
#[derive(Clone, Debug)]
pub struct Account {
    /// The address-of-record: the From of our calls.
    pub aor: SipUri,
    /// The display name of our From.
    pub display_name: Option<String>,
    /// Where peers reach us within a dialog.
    pub contact: NameAddr,
    /// Answers to digest challenges; without it a 401 or 407 ends the call.
    pub secret: Option<DigestSecret>,
    /// The weakest digest that is sent: a challenge that offers only weaker ones ends the call.
    pub weakest_digest: DigestAlgorithm,
    /// The outbound proxy: where requests outside a dialog go. Within a dialog the route set decides.
    pub outbound: Option<SipUri>,
}

impl Account {
    /// An account without display name, secret and outbound proxy.
    pub fn new(aor: SipUri, contact: NameAddr) -> Self {
        Account {
            aor,
            display_name: None,
            contact,
            secret: None,
            weakest_digest: DigestAlgorithm::Md5,
            outbound: None,
        }
    }
}
