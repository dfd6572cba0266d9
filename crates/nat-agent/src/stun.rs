//! The STUN messages of probes and of gathering (RFC 8489, RFC 8656), over rtc-stun.

use rtc_stun::attributes::{
    ATTR_LIFETIME, ATTR_NONCE, ATTR_REALM, ATTR_REQUESTED_TRANSPORT, ATTR_USERNAME, ATTR_XORMAPPED_ADDRESS,
    AttrType,
};
use rtc_stun::crypto::{RTCCryptoProvider, default_provider};
use rtc_stun::error_code::ErrorCodeAttribute;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_REQUEST, CLASS_ERROR_RESPONSE, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_ALLOCATE,
    METHOD_REFRESH, Message, MessageType, Setter, TransactionId, is_stun_message,
};
use rtc_stun::textattrs::TextAttribute;
use rtc_stun::xoraddr::XorMappedAddress;
use std::net::SocketAddr;
use std::sync::Arc;

/// The longest reason phrase that is kept, in characters (RFC 8489 section 14.8 allows 127).
const MAX_REASON: usize = 127;

/// Long-term credentials for one realm (RFC 8489 section 9.2).
#[derive(Clone)]
pub(crate) struct Auth {
    username: String,
    realm: String,
    nonce: String,
    key: Vec<u8>,
    crypto: Arc<dyn RTCCryptoProvider>,
}

impl Auth {
    /// `None` when this build has no MD5 and no HMAC.
    pub(crate) fn new(username: &str, password: &str, realm: String, nonce: String) -> Option<Self> {
        let crypto = default_provider().ok()?;
        let key = MessageIntegrity::long_term_integrity_key(
            username.to_owned(),
            realm.clone(),
            password.to_owned(),
            crypto.crypto(),
        )
        .ok()?;
        Some(Auth {
            username: username.to_owned(),
            realm,
            nonce,
            key,
            crypto,
        })
    }
}

/// A request, ready to be sent and sent again.
pub(crate) struct Request {
    pub(crate) id: TransactionId,
    pub(crate) data: Vec<u8>,
}

/// What a probe can ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    Allocate,
    Binding,
    /// Refresh with lifetime 0: gives an allocation back (RFC 8656 section 8).
    Free,
}

/// Builds a request. `None` only when rtc-stun cannot: a user name or realm longer than RFC 8489 allows.
pub(crate) fn request(ask: Ask, auth: Option<&Auth>) -> Option<Request> {
    let mut message = Message::new();
    message.transaction_id = TransactionId::new();
    message.write_header();
    let typ = match ask {
        Ask::Allocate => MessageType::new(METHOD_ALLOCATE, CLASS_REQUEST),
        Ask::Binding => BINDING_REQUEST,
        Ask::Free => MessageType::new(METHOD_REFRESH, CLASS_REQUEST),
    };
    message.set_type(typ);
    match ask {
        // RFC 8656 section 18.8: protocol number 17 is UDP.
        Ask::Allocate => message.add(ATTR_REQUESTED_TRANSPORT, &[17, 0, 0, 0]),
        Ask::Binding => {}
        Ask::Free => message.add(ATTR_LIFETIME, &0_u32.to_be_bytes()),
    }
    if let Some(auth) = auth {
        let texts = [
            (ATTR_USERNAME, &auth.username),
            (ATTR_REALM, &auth.realm),
            (ATTR_NONCE, &auth.nonce),
        ];
        for (attribute, text) in texts {
            TextAttribute::new(attribute, text.clone())
                .add_to(&mut message)
                .ok()?;
        }
        let key = auth.key.clone();
        MessageIntegrity::new_raw_integrity_with_provider(key, auth.crypto.crypto())
            .add_to(&mut message)
            .ok()?;
    }
    Some(Request {
        id: message.transaction_id,
        data: message.raw,
    })
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) id: TransactionId,
    message: Message,
}

/// What an answer says.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Error {
        code: u16,
        reason: String,
        challenge: Option<(String, String)>,
    },
    Success {
        mapped: Option<SocketAddr>,
    },
}

impl Answer {
    /// `None` for what is no STUN answer.
    pub(crate) fn read(data: &[u8]) -> Option<Self> {
        if !is_stun_message(data) {
            return None;
        }
        let mut message = Message::new();
        message.unmarshal_binary(data).ok()?;
        let class = message.typ.class;
        (class == CLASS_SUCCESS_RESPONSE || class == CLASS_ERROR_RESPONSE).then_some(Answer {
            id: message.transaction_id,
            message,
        })
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let message = &self.message;
        if message.typ.class == CLASS_SUCCESS_RESPONSE {
            let mut mapped = XorMappedAddress::default();
            let is_there = mapped.get_from_as(message, ATTR_XORMAPPED_ADDRESS).is_ok();
            return Outcome::Success {
                mapped: is_there.then(|| SocketAddr::new(mapped.ip, mapped.port)),
            };
        }
        let mut error = ErrorCodeAttribute::default();
        let code = error.get_from(message).map_or(0, |()| error.code.0);
        let reason = String::from_utf8_lossy(&error.reason);
        let reason = reason
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_REASON)
            .collect();
        let text = |attribute: AttrType| {
            TextAttribute::get_from_as(message, attribute)
                .ok()
                .map(|found| found.text)
        };
        Outcome::Error {
            code,
            reason,
            challenge: text(ATTR_REALM).zip(text(ATTR_NONCE)),
        }
    }

    /// Whether the answer comes from somebody who knows the password (RFC 8489 section 9.2.5).
    pub(crate) fn is_signed_by(&mut self, auth: &Auth) -> bool {
        MessageIntegrity::check(&mut self.message, &auth.key, auth.crypto.crypto()).is_ok()
    }

    /// Whether it answers what was asked.
    pub(crate) fn answers(&self, ask: Ask) -> bool {
        let method = match ask {
            Ask::Allocate => METHOD_ALLOCATE,
            Ask::Binding => BINDING_REQUEST.method,
            Ask::Free => METHOD_REFRESH,
        };
        self.message.typ.method == method
    }
}
