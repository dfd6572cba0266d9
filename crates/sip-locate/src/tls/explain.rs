//! rustls' errors as sentences.

use super::verify::NO_SYSTEM_ROOTS;
use super::{CA, CERTIFICATE, KEY};
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use rustls_pki_types::UnixTime;
use siprtc_core::{Error, Fault};
use std::error::Error as StdError;
use std::io::ErrorKind;

const OPERATION: &str = "TLS handshake";

/// Most names of a certificate that a sentence repeats.
const MAX_NAMES: usize = 8;

/// Why a TLS handshake or connection failed, whose fault it is and what to do next.
///
/// `error` is rustls' error, the I/O error around it, or any error with one of them as its source; `name` is what the
/// peer is called in the sentence, and what its certificate should have been for: `sip.example.com`.
pub fn explain(error: &(dyn StdError + 'static), name: &str) -> Error {
    match tls_error(error) {
        // The sentence says all of it.
        Some(rustls::Error::InvalidCertificate(why)) => of_certificate(why, name),
        Some(tls) => of_tls(tls, name).caused_by(tls.clone()),
        None => of_io(error, name).caused_by(error.to_string()),
    }
}

/// An `io::Error` made of another error does not name that one as its source, but that one's source.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn of_tls(error: &rustls::Error, name: &str) -> Error {
    match error {
        rustls::Error::AlertReceived(alert) => of_alert(*alert, name),
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        )
        | rustls::Error::PeerSentOversizedRecord => no_tls(name),
        rustls::Error::NoCertificatesPresented => incompatible(format!(
            "{name} shows no certificate, and this listener wants one"
        ))
        .advice("the peer needs a client certificate; without sip.tls.client_ca nobody does"),
        rustls::Error::PeerIncompatible(_) => incompatible(format!(
            "{name} and this endpoint share no TLS version, cipher or signature"
        ))
        .advice("the peer needs TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3"),
        rustls::Error::General(why) if why.starts_with(NO_SYSTEM_ROOTS) => ours(format!(
            "{name} cannot be verified: this system has no certificates of authorities"
        ))
        .advice(format!("install ca-certificates, or name the authority in {CA}")),
        rustls::Error::General(_) | rustls::Error::FailedToGetRandomBytes | rustls::Error::EncryptError => {
            Error::new(Fault::Backend, OPERATION, format!("TLS with {name} failed here"))
        }
        _ => theirs(format!("{name} breaks the TLS protocol"))
            .advice("check that a SIP server with TLS listens on that port"),
    }
}

fn of_certificate(error: &CertificateError, name: &str) -> Error {
    let renew = "its operator must renew it; if it is in order, set this machine's clock";
    match error {
        CertificateError::ExpiredContext { time, not_after } => theirs(format!(
            "the certificate of {name} expired {} ago",
            between(*not_after, *time)
        ))
        .advice(renew),
        CertificateError::Expired => theirs(format!("the certificate of {name} has expired")).advice(renew),
        CertificateError::NotValidYetContext { time, not_before } => theirs(format!(
            "the certificate of {name} is not valid for another {}",
            between(*time, *not_before)
        ))
        .advice(renew),
        CertificateError::NotValidYet => {
            theirs(format!("the certificate of {name} is not valid yet")).advice(renew)
        }
        CertificateError::NotValidForNameContext { presented, .. } => other_name(name, presented),
        CertificateError::NotValidForName => other_name(name, &[]),
        CertificateError::UnknownIssuer => ours(format!(
            "the certificate of {name} is from an authority that is not trusted here"
        ))
        .advice(format!(
            "if you know the authority, put its certificate into {CA}; if not, somebody may be in between"
        )),
        CertificateError::Revoked => {
            theirs(format!("the certificate of {name} was revoked")).advice("its operator must get a new one")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => theirs(format!(
            "the certificate of {name} is not for this purpose"
        ))
        .advice("its extended key usage must have serverAuth for a server and clientAuth for a client"),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => theirs(format!(
            "{name} shows the certificate of an authority instead of one of its own"
        ))
        .advice("its operator must make it with basicConstraints=CA:FALSE"),
        other => theirs(format!("the certificate of {name} is not valid"))
            .caused_by(other.to_string())
            .advice("its operator must get a new one"),
    }
}

fn other_name(name: &str, presented: &[String]) -> Error {
    // rustls writes DnsName("a") and IpAddress(192.0.2.1).
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner);
        inner.trim_end_matches(')').trim_matches('"').to_owned()
    };
    let shown: Vec<String> = presented.iter().take(MAX_NAMES).map(bare).collect();
    let message = match shown.is_empty() {
        true => format!("the certificate that {name} shows is for no name that could be compared"),
        false => format!("the certificate that {name} shows is for {}", shown.join(", ")),
    };
    theirs(message).advice(format!(
        "connect by a name that it is for, or have it issued for {name} (RFC 5922 section 7.1)"
    ))
}

fn of_alert(alert: AlertDescription, name: &str) -> Error {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            ours(format!("{name} wants a client certificate"))
                .advice(format!("set {CERTIFICATE} and {KEY} to those that its operator gave you"))
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => ours(format!("{name} refuses our certificate")).advice(format!(
            "check that {CERTIFICATE} is valid, has every certificate up to its authority, and that the peer trusts \
             that authority"
        )),
        AlertDescription::UnrecognisedName => incompatible(format!("{name} does not know itself by that name"))
            .advice("check the domain; the server chooses its certificate by it (SNI)"),
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
            incompatible(format!("{name} and this endpoint share no TLS version or cipher"))
                .advice("the peer needs TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3")
        }
        AlertDescription::HandshakeFailure => incompatible(format!("{name} refuses the TLS handshake")).advice(
            format!("it shares no cipher, or wants a client certificate ({CERTIFICATE}): its log says which"),
        ),
        AlertDescription::InternalError => {
            theirs(format!("{name} has an internal error")).advice("its log says more; try again later")
        }
        alert => theirs(format!("{name} ended TLS with the alert {alert:?}")).advice("its log says why"),
    }
}

fn of_io(error: &(dyn StdError + 'static), name: &str) -> Error {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match kind {
        Some(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            incompatible(format!("{name} closed the connection in the TLS handshake"))
                .advice("check that the port is one for TLS, usually 5061; the peer's log says why")
        }
        Some(ErrorKind::TimedOut) => Error::new(
            Fault::TimedOut,
            OPERATION,
            format!("{name} did not answer the TLS handshake in time"),
        )
        .advice("check that the port is one for TLS, usually 5061"),
        // What TLS libraries say of octets that are no TLS records.
        Some(ErrorKind::InvalidData) => no_tls(name),
        _ => Error::new(
            Fault::Backend,
            OPERATION,
            format!("the connection to {name} failed"),
        )
        .advice("check the address and the firewalls between"),
    }
}

fn no_tls(name: &str) -> Error {
    incompatible(format!("{name} answers, but not with TLS"))
        .advice("check the port: SIP over TLS is usually on 5061, and 5060 is without TLS")
}

/// In the largest unit that fits.
fn between(earlier: UnixTime, later: UnixTime) -> String {
    let seconds = later.as_secs().saturating_sub(earlier.as_secs());
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

fn ours(message: String) -> Error {
    Error::new(Fault::ConfigInvalid, OPERATION, message)
}

fn theirs(message: String) -> Error {
    Error::new(Fault::PeerMisbehaved, OPERATION, message)
}

fn incompatible(message: String) -> Error {
    Error::new(Fault::PeerIncompatible, OPERATION, message)
}
