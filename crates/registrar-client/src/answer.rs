//! Reads what a registrar's 200 says about our contact (RFC 3261 section 10.2.4, RFC 5626 section 6, RFC 5627 section
//! 5.3).

use crate::RegistrarConfig;
use siprtc_core::sip::{Contacts, NameAddr, SipResponse, SipUri};
use std::time::Duration;

/// Our binding as the registrar sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Binding {
    /// Seconds, 1 to [`RegistrarConfig::MAX_EXPIRES`].
    pub(crate) expires: u32,
    /// How many contacts the address-of-record has.
    pub(crate) contacts: usize,
    /// The registrar keeps the flow and answers keepalives: the `outbound` of its Require.
    pub(crate) outbound: bool,
    /// How long the registrar waits for a keepalive.
    pub(crate) flow_timer: Option<Duration>,
    pub(crate) public_gruu: Option<SipUri>,
    pub(crate) temporary_gruu: Option<SipUri>,
}

impl Binding {
    /// Our binding in a 2xx, for which `asked` seconds were asked. An error says how the 2xx is wrong.
    ///
    /// How long it lasts is the contact's own `expires`, else the Expires header field, else what was asked
    /// (sections 10.2.1.1 and 10.3 step 8).
    pub(crate) fn read(response: &SipResponse, ours: &NameAddr, asked: u32) -> Result<Self, String> {
        let contacts = match response.headers.contacts() {
            Ok(Contacts::List(contacts)) => contacts,
            Ok(Contacts::All) => return Err("its 200 lists the contact *".to_owned()),
            Err(error) => {
                return Err(format!(
                    "the Contact of its 200 is unreadable: {}",
                    error.message()
                ));
            }
        };
        let Some(contact) = find(&contacts, ours) else {
            return Err(format!(
                "its 200 lists {} contacts and none of them is ours",
                contacts.len()
            ));
        };
        let header = response.headers.expires().ok().flatten();
        let expires = match contact.expires().or(header).unwrap_or(asked) {
            0 => return Err("its 200 says that our contact has expired already".to_owned()),
            expires => expires.min(RegistrarConfig::MAX_EXPIRES),
        };
        let gruu = |name| contact.params.value(name)?.parse().ok();
        let flow_timer = response.headers.value("Flow-Timer");
        let flow_timer = flow_timer.and_then(|value| value.trim().parse::<u32>().ok());
        Ok(Binding {
            expires,
            contacts: contacts.len(),
            outbound: response.headers.has_token("Require", "outbound"),
            flow_timer: flow_timer.map(|seconds| Duration::from_secs(seconds.into())),
            public_gruu: gruu("pub-gruu"),
            temporary_gruu: gruu("temp-gruu"),
        })
    }
}

/// Ours by instance and reg-id, else by instance, else by URI, else by user part: a registrar that sees us behind a NAT
/// may have put the address it saw in place of the one that we wrote (Asterisk's `rewrite_contact`). Of several such,
/// the one that expires first, so that a wrong guess refreshes too early and never too late.
fn find<'a>(contacts: &'a [NameAddr], ours: &NameAddr) -> Option<&'a NameAddr> {
    let uri = ours.uri.as_sip()?;
    let same_instance = |contact: &&NameAddr| {
        let (theirs, ours) = (contact.instance(), ours.instance());
        theirs
            .zip(ours)
            .is_some_and(|(theirs, ours)| theirs.eq_ignore_ascii_case(ours))
    };
    let reg_id = |contact: &NameAddr| contact.params.value("reg-id").map(str::to_owned);
    let by_flow = contacts
        .iter()
        .filter(same_instance)
        .find(|contact| reg_id(contact) == reg_id(ours));
    // A registrar that does not know RFC 5626 may have dropped the reg-id; one that knows it has not.
    let by_instance = || {
        contacts
            .iter()
            .filter(same_instance)
            .find(|contact| reg_id(contact).is_none())
    };
    let by_uri = || {
        contacts.iter().find(|contact| {
            contact
                .uri
                .as_sip()
                .is_some_and(|theirs| theirs.is_equivalent(uri))
        })
    };
    let by_user = || {
        contacts
            .iter()
            .filter(|contact| {
                contact
                    .uri
                    .as_sip()
                    .is_some_and(|theirs| theirs.decoded_user() == uri.decoded_user())
            })
            .min_by_key(|contact| contact.expires().unwrap_or(u32::MAX))
    };
    by_flow.or_else(by_instance).or_else(by_uri).or_else(by_user)
}
