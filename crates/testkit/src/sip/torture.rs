//! What RFC 4475 and RFC 5118 say of each of their messages.

use siprtc_core::sip::Transport;

/// What becomes of a message in a stack, before any user of its transactions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is a request, and reaches the user as it is.
    Delivered,
    /// It is no answer to anything, and nothing happens.
    Dropped,
    /// It is answered by the stack, for it is malformed.
    Refused,
    /// It is malformed, but can be understood: delivered or refused.
    Tolerated,
}

/// One of the RFCs' messages.
#[derive(Clone, Copy, Debug)]
pub struct Torture {
    /// The file in the corpus.
    pub file: &'static str,
    /// Where the RFC speaks of it.
    pub section: &'static str,
    /// What a stack does with it.
    pub fate: Fate,
    /// The statuses that a user agent without calls may answer, one of them; 486 stands for a call that reached its
    /// user. None: no answer.
    pub statuses: &'static [u16],
}

impl Torture {
    /// The message called `file`, as in `rfc4475/wsinv.dat`. Panics when it is not listed: then it came after the list.
    pub fn of(file: &str) -> &'static Torture {
        TORTURE
            .iter()
            .find(|torture| torture.file == file)
            .unwrap_or_else(|| panic!("{file} is not listed in {}", file!()))
    }

    /// The transport that its Via names.
    pub fn transport(&self) -> Transport {
        if OVER_CONNECTIONS.contains(&self.file) {
            Transport::Tcp
        } else {
            Transport::Udp
        }
    }
}

/// Those whose Via says TCP or TLS.
const OVER_CONNECTIONS: [&str; 9] = [
    "rfc4475/bext01.dat",
    "rfc4475/esc02.dat",
    "rfc4475/intmeth.dat",
    "rfc4475/novelsc.dat",
    "rfc4475/regaut01.dat",
    "rfc4475/scalar02.dat",
    "rfc4475/scalarlg.dat",
    "rfc4475/trws.dat",
    "rfc4475/unkscm.dat",
];

const fn message(file: &'static str, section: &'static str, fate: Fate, statuses: &'static [u16]) -> Torture {
    Torture {
        file,
        section,
        fate,
        statuses,
    }
}

use Fate::{Delivered, Dropped, Refused, Tolerated};

/// Every message of both RFCs. A registrar's and a presence server's business is answered 405 by an endpoint.
pub const TORTURE: [Torture; 62] = [
    // To, Display name, Date: RFC 4475 lets a receiver accept these three; ours does not guess.
    message(
        "rfc4475/badaspec.dat",
        "RFC 4475 section 3.1.2.14",
        Refused,
        &[400],
    ),
    message(
        "rfc4475/badbranch.dat",
        "RFC 4475 section 3.2.1",
        Delivered,
        &[200],
    ),
    message(
        "rfc4475/baddate.dat",
        "RFC 4475 section 3.1.2.12",
        Refused,
        &[400],
    ),
    message("rfc4475/baddn.dat", "RFC 4475 section 3.1.2.15", Refused, &[400]),
    message(
        "rfc4475/badinv01.dat",
        "RFC 4475 section 3.1.2.1",
        Refused,
        &[400],
    ),
    message(
        "rfc4475/badvers.dat",
        "RFC 4475 section 3.1.2.16",
        Refused,
        &[505],
    ),
    message("rfc4475/bcast.dat", "RFC 4475 section 3.3.10", Dropped, &[]),
    message("rfc4475/bext01.dat", "RFC 4475 section 3.3.5", Delivered, &[420]),
    message("rfc4475/bigcode.dat", "RFC 4475 section 3.1.2.19", Dropped, &[]),
    message("rfc4475/clerr.dat", "RFC 4475 section 3.1.2.2", Refused, &[400]),
    message(
        "rfc4475/cparam01.dat",
        "RFC 4475 section 3.3.12",
        Delivered,
        &[405],
    ),
    message(
        "rfc4475/cparam02.dat",
        "RFC 4475 section 3.3.13",
        Delivered,
        &[405],
    ),
    message(
        "rfc4475/dblreq.dat",
        "RFC 4475 section 3.1.1.8",
        Delivered,
        &[405],
    ),
    message("rfc4475/esc01.dat", "RFC 4475 section 3.1.1.3", Delivered, &[486]),
    message("rfc4475/esc02.dat", "RFC 4475 section 3.1.1.5", Delivered, &[501]),
    message(
        "rfc4475/escnull.dat",
        "RFC 4475 section 3.1.1.4",
        Delivered,
        &[405],
    ),
    message(
        "rfc4475/escruri.dat",
        "RFC 4475 section 3.1.2.11",
        Refused,
        &[400],
    ),
    message("rfc4475/insuf.dat", "RFC 4475 section 3.3.1", Refused, &[400]),
    message(
        "rfc4475/intmeth.dat",
        "RFC 4475 section 3.1.1.2",
        Delivered,
        &[501],
    ),
    message("rfc4475/inv2543.dat", "RFC 4475 section 3.4.1", Delivered, &[486]),
    message("rfc4475/invut.dat", "RFC 4475 section 3.3.6", Delivered, &[415]),
    message(
        "rfc4475/longreq.dat",
        "RFC 4475 section 3.1.1.7",
        Delivered,
        &[486],
    ),
    message(
        "rfc4475/ltgtruri.dat",
        "RFC 4475 section 3.1.2.7",
        Refused,
        &[400],
    ),
    message(
        "rfc4475/lwsdisp.dat",
        "RFC 4475 section 3.1.1.6",
        Delivered,
        &[200],
    ),
    message("rfc4475/lwsruri.dat", "RFC 4475 section 3.1.2.8", Refused, &[400]),
    message(
        "rfc4475/lwsstart.dat",
        "RFC 4475 section 3.1.2.9",
        Refused,
        &[400],
    ),
    message("rfc4475/mcl01.dat", "RFC 4475 section 3.3.9", Refused, &[400]),
    message(
        "rfc4475/mismatch01.dat",
        "RFC 4475 section 3.1.2.17",
        Refused,
        &[400],
    ),
    message(
        "rfc4475/mismatch02.dat",
        "RFC 4475 section 3.1.2.18",
        Refused,
        &[400, 501],
    ),
    message(
        "rfc4475/mpart01.dat",
        "RFC 4475 section 3.1.1.11",
        Delivered,
        &[405, 415],
    ),
    message("rfc4475/multi01.dat", "RFC 4475 section 3.3.8", Refused, &[400]),
    message("rfc4475/ncl.dat", "RFC 4475 section 3.1.2.3", Refused, &[400]),
    message("rfc4475/noreason.dat", "RFC 4475 section 3.1.1.13", Dropped, &[]),
    message("rfc4475/novelsc.dat", "RFC 4475 section 3.3.3", Delivered, &[416]),
    message("rfc4475/quotbal.dat", "RFC 4475 section 3.1.2.6", Refused, &[400]),
    message(
        "rfc4475/regaut01.dat",
        "RFC 4475 section 3.3.7",
        Delivered,
        &[405],
    ),
    message(
        "rfc4475/regbadct.dat",
        "RFC 4475 section 3.1.2.13",
        Refused,
        &[400],
    ),
    message(
        "rfc4475/regescrt.dat",
        "RFC 4475 section 3.3.14",
        Delivered,
        &[405],
    ),
    message(
        "rfc4475/scalar02.dat",
        "RFC 4475 section 3.1.2.4",
        Refused,
        &[400],
    ),
    message("rfc4475/scalarlg.dat", "RFC 4475 section 3.1.2.5", Dropped, &[]),
    message("rfc4475/sdp01.dat", "RFC 4475 section 3.3.15", Delivered, &[406]),
    message(
        "rfc4475/semiuri.dat",
        "RFC 4475 section 3.1.1.9",
        Delivered,
        &[200],
    ),
    // Came with the RFC's archive, is in no section: it has no version and no Via, so nobody knows where to answer.
    message("rfc4475/test.dat", "RFC 4475, archive", Dropped, &[]),
    message(
        "rfc4475/transports.dat",
        "RFC 4475 section 3.1.1.10",
        Delivered,
        &[200],
    ),
    message("rfc4475/trws.dat", "RFC 4475 section 3.1.2.10", Refused, &[400]),
    message("rfc4475/unkscm.dat", "RFC 4475 section 3.3.2", Delivered, &[416]),
    // A registrar would object to the schemes; an endpoint objects to the method first (RFC 3261 section 8.2).
    message("rfc4475/unksm2.dat", "RFC 4475 section 3.3.4", Delivered, &[405]),
    message("rfc4475/unreason.dat", "RFC 4475 section 3.1.1.12", Dropped, &[]),
    // Its To has a tag, and no dialog with it is known (RFC 3261 section 12.2.2).
    message("rfc4475/wsinv.dat", "RFC 4475 section 3.1.1.1", Delivered, &[481]),
    // Max-Forwards 0 stops a proxy; who is addressed answers.
    message("rfc4475/zeromf.dat", "RFC 4475 section 3.3.11", Delivered, &[200]),
    message(
        "rfc5118/ipv4-mapped-ipv6.dat",
        "RFC 5118 section 4.9",
        Delivered,
        &[486],
    ),
    message("rfc5118/ipv6-bad.dat", "RFC 5118 section 4.2", Refused, &[400]),
    // The colon too many comes from a defect in RFC 3261's grammar.
    message(
        "rfc5118/ipv6-bug-abnf-3-colons.dat",
        "RFC 5118 section 4.10",
        Tolerated,
        &[200, 400],
    ),
    message(
        "rfc5118/ipv6-correct-abnf-2-colons.dat",
        "RFC 5118 section 4.10",
        Delivered,
        &[200],
    ),
    message("rfc5118/ipv6-good.dat", "RFC 5118 section 4.1", Delivered, &[405]),
    // The corpus' copy has a Content-Length longer than its body.
    message(
        "rfc5118/ipv6-in-sdp.dat",
        "RFC 3261 section 18.3",
        Refused,
        &[400],
    ),
    message(
        "rfc5118/mult-ip-in-header.dat",
        "RFC 5118 section 4.7",
        Delivered,
        &[481],
    ),
    message(
        "rfc5118/mult-ip-in-sdp.dat",
        "RFC 5118 section 4.8",
        Delivered,
        &[486],
    ),
    message(
        "rfc5118/port-ambiguous.dat",
        "RFC 5118 section 4.3",
        Delivered,
        &[405],
    ),
    message(
        "rfc5118/port-unambiguous.dat",
        "RFC 5118 section 4.4",
        Delivered,
        &[405],
    ),
    message(
        "rfc5118/via-received-param-no-delim.dat",
        "RFC 5118 section 4.5",
        Delivered,
        &[200],
    ),
    message(
        "rfc5118/via-received-param-with-delim.dat",
        "RFC 5118 section 4.5",
        Delivered,
        &[481],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::sip_messages;
    use siprtc_core::sip::{Limits, SipMessage};

    #[test]
    fn every_message_of_both_rfcs_is_listed_once_and_read_as_listed() {
        let mut listed: Vec<&str> = TORTURE.iter().map(|torture| torture.file).collect();
        for (name, octets) in sip_messages() {
            if !name.starts_with("rfc4475/") && !name.starts_with("rfc5118/") {
                continue;
            }
            let torture = Torture::of(&name);
            listed.retain(|file| *file != name);
            let read = SipMessage::parse(&octets, &Limits::default())
                .and_then(|message| message.validate().map(|()| message));
            match (torture.fate, read) {
                (Fate::Delivered | Fate::Tolerated, Ok(SipMessage::Request(_)))
                | (Fate::Dropped, Ok(SipMessage::Response(_)) | Err(_))
                | (Fate::Refused, Err(_)) => {}
                (fate, read) => panic!("{name}: {fate:?}, but core says {read:?}"),
            }
        }
        assert_eq!(listed, Vec::<&str>::new(), "listed twice or not there");
    }
}
