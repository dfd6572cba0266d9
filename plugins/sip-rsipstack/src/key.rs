//! What makes two messages the same transaction.
//!
//! rsipstack's own keys leave out the sent-by and take in From, Call-ID and CSeq, so that they tell apart what RFC 3261
//! says is one transaction, and take for one what is two. Messages are matched here by the RFC's; rsipstack's only name
//! its transactions.

use rsipstack::sip::{self as rs, Header};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use siprtc_core::Result;
use siprtc_core::sip::{Method, SipRequest, SipResponse, TxId, Via};

/// RFC 3261 section 8.1.1.7.
const COOKIE: &str = "z9hG4bK";

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key(String);

impl Key {
    /// RFC 3261 section 17.2.3. The INVITE's, for an ACK and a CANCEL.
    pub(crate) fn of_request(request: &SipRequest, via: &Via) -> Result<Self> {
        let headers = &request.headers;
        let method = match request.method {
            Method::Ack | Method::Cancel => &Method::Invite,
            ref method => method,
        };
        let branch = via.branch().unwrap_or_default();
        if branch.starts_with(COOKIE) {
            return Ok(Key(format!(
                "{branch}\n{}\n{}\n{method}",
                via.host,
                via.port.unwrap_or(0)
            )));
        }
        // RFC 2543's way, for whoever still has no magic cookie: the ACK's To-tag differs, so it stays out.
        let (tag, sequence) = (headers.from_tag()?, headers.cseq()?.sequence);
        let (call, uri) = (headers.call_id()?, &request.uri);
        Ok(Key(format!("{call}\n{tag}\n{sequence}\n{via}\n{uri}\n{method}")))
    }

    /// RFC 3261 section 17.1.3.
    pub(crate) fn of_response(response: &SipResponse) -> Result<Self> {
        let via = response.headers.top_via()?;
        let method = response.headers.cseq()?.method;
        Ok(Key::of_branch(via.branch().unwrap_or_default(), &method))
    }

    /// The key of a request of ours.
    pub(crate) fn of_branch(branch: &str, method: &Method) -> Self {
        Key(format!("{branch}\n{method}"))
    }
}

/// rsipstack's name of a transaction. It makes names only of whole requests: it gets the least that will do.
#[allow(clippy::result_large_err, reason = "the error's type is rsipstack's")]
pub(crate) fn name(role: TransactionRole, tx: TxId, method: rs::Method) -> rsipstack::Result<TransactionKey> {
    let headers = vec![
        Header::Via("SIP/2.0/UDP a;branch=b".into()),
        Header::From("sip:a;tag=b".into()),
        Header::CallId(tx.to_string().into()),
        Header::CSeq("1 ACK".into()),
    ];
    let request = rs::Request {
        method,
        uri: rs::Uri::default(),
        version: rs::Version::V2,
        headers: headers.into(),
        body: Vec::new(),
    };
    TransactionKey::from_request(&request, role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use siprtc_core::sip::{TxIds, TxOwner, Uri};

    fn request(method: Method, via: &str, call: &str) -> SipRequest {
        let mut request = SipRequest::new(method.clone(), "sip:a@b".parse::<Uri>().unwrap());
        for (name, value) in [
            ("Via", via),
            ("From", "<sip:c@d>;tag=1"),
            ("To", "<sip:a@b>"),
            ("Call-ID", call),
            ("CSeq", &format!("1 {method}")),
        ] {
            request.headers.push(name, value);
        }
        request
    }

    fn key(method: Method, via: &str, call: &str) -> Key {
        Key::of_request(&request(method, via, call), &via.parse().unwrap()).unwrap()
    }

    #[test]
    fn branch_sent_by_and_method_name_a_transaction_and_nothing_else_does() {
        let via = "SIP/2.0/UDP h:5060;branch=z9hG4bK1";
        let invite = key(Method::Invite, via, "1");
        for same in [Method::Ack, Method::Cancel, Method::Invite] {
            assert_eq!(key(same, "SIP/2.0/UDP h:5060;rport;branch=z9hG4bK1", "2"), invite);
        }
        assert_ne!(key(Method::Bye, via, "1"), invite);
        assert_ne!(
            key(Method::Invite, "SIP/2.0/UDP h:5061;branch=z9hG4bK1", "1"),
            invite
        );
        assert_ne!(
            key(Method::Invite, "SIP/2.0/UDP i:5060;branch=z9hG4bK1", "1"),
            invite
        );
        assert_ne!(
            key(Method::Invite, "SIP/2.0/UDP h:5060;branch=z9hG4bK2", "1"),
            invite
        );
    }

    #[test]
    fn without_the_cookie_it_is_call_id_cseq_and_tag() {
        let via = "SIP/2.0/UDP h;branch=1";
        assert_eq!(key(Method::Ack, via, "1"), key(Method::Invite, via, "1"));
        assert_ne!(key(Method::Invite, via, "2"), key(Method::Invite, via, "1"));
    }

    #[test]
    fn an_answer_finds_its_request_by_branch_and_method() {
        let asked = request(Method::Options, "SIP/2.0/UDP h;branch=z9hG4bK1", "1");
        let found = Key::of_response(&asked.response(200)).unwrap();
        assert_eq!(found, Key::of_branch("z9hG4bK1", &Method::Options));
        assert_ne!(found, Key::of_branch("z9hG4bK1", &Method::Cancel));
    }

    #[test]
    fn no_two_transactions_have_one_name() {
        let (stack, user) = (TxIds::new(TxOwner::STACK), TxIds::new(TxOwner::user(1)));
        let name = |tx| name(TransactionRole::Client, tx, rs::Method::Bye).unwrap();
        assert_ne!(name(stack.mint()), name(stack.mint()));
        assert_ne!(name(stack.mint()), name(user.mint()));
    }
}
