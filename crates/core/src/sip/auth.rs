//! What Digest authentication writes into header fields (RFC 3261 section 22, RFC 7616, RFC 8760).

use super::scan::{
    excerpt, is_token, malformed, split_outside_quotes, split_quoted, trim, unescape, write_quoted,
};
use crate::Result;
use std::fmt;
use std::str::FromStr;

/// The hash of a challenge.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum DigestAlgorithm {
    /// RFC 2617's, still what most servers ask for.
    Md5,
    /// RFC 8760.
    Sha256,
}

impl DigestAlgorithm {
    /// As on the wire: `SHA-256`.
    pub fn as_str(self) -> &'static str {
        match self {
            DigestAlgorithm::Md5 => "MD5",
            DigestAlgorithm::Sha256 => "SHA-256",
        }
    }

    /// From an `algorithm` parameter, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        [DigestAlgorithm::Md5, DigestAlgorithm::Sha256]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A `Digest` challenge: WWW-Authenticate or Proxy-Authenticate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// The protection domain.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// To be returned as it came.
    pub opaque: Option<String>,
    /// The nonce was too old, the credentials may be right.
    pub stale: bool,
    /// MD5 when the challenge names none (RFC 7616 section 3.3), `None` when it cannot be answered: it names one that we
    /// do not know, or only a `qop` that we do not know (which must not be answered as if there were none).
    pub algorithm: Option<DigestAlgorithm>,
    /// Offers `qop=auth`. A challenge without qop is RFC 2069's.
    pub qop_auth: bool,
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest realm=")?;
        write_quoted(f, &self.realm)?;
        f.write_str(", nonce=")?;
        write_quoted(f, &self.nonce)?;
        if let Some(opaque) = &self.opaque {
            f.write_str(", opaque=")?;
            write_quoted(f, opaque)?;
        }
        if self.stale {
            f.write_str(", stale=true")?;
        }
        // A hash that has no name here must not become MD5, which is what no name means.
        write!(
            f,
            ", algorithm={}",
            self.algorithm.map_or("unknown", DigestAlgorithm::as_str)
        )?;
        if self.qop_auth {
            f.write_str(", qop=\"auth\"")
        } else {
            Ok(())
        }
    }
}

impl FromStr for Challenge {
    type Err = crate::Error;

    /// `Digest realm="...", nonce="...", ...`
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        only(challenges(s)?, "challenge", s)
    }
}

/// `Digest` credentials: Authorization or Proxy-Authorization.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// Whose.
    pub username: String,
    /// As in the challenge.
    pub realm: String,
    /// As in the challenge.
    pub nonce: String,
    /// The digest-uri, as written.
    pub uri: String,
    /// Hex.
    pub response: String,
    /// As in the challenge: MD5 when they name none, `None` when they name one that we do not know.
    pub algorithm: Option<DigestAlgorithm>,
    /// As in the challenge.
    pub opaque: Option<String>,
    /// The client's nonce, with qop.
    pub cnonce: Option<String>,
    /// The nonce count, with qop.
    pub nonce_count: Option<u32>,
    /// `auth`, when the challenge offered it; `None` is RFC 2069's way.
    pub qop: Option<String>,
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest username=")?;
        write_quoted(f, &self.username)?;
        let quoted = [
            ("realm", &self.realm),
            ("nonce", &self.nonce),
            ("uri", &self.uri),
            ("response", &self.response),
        ];
        for (name, value) in quoted {
            write!(f, ", {name}=")?;
            write_quoted(f, value)?;
        }
        write!(
            f,
            ", algorithm={}",
            self.algorithm.map_or("unknown", DigestAlgorithm::as_str)
        )?;
        for (name, value) in [("cnonce", &self.cnonce), ("opaque", &self.opaque)] {
            if let Some(value) = value {
                write!(f, ", {name}=")?;
                write_quoted(f, value)?;
            }
        }
        // RFC 7616 section 3.4: neither of these is in quotes.
        if let Some(qop) = self.qop.as_deref().filter(|qop| is_token(qop)) {
            write!(f, ", qop={qop}")?;
        }
        match self.nonce_count {
            Some(count) => write!(f, ", nc={count:08x}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Credentials {
    type Err = crate::Error;

    /// `Digest username="...", ...`
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        only(credentials(s)?, "credentials", s)
    }
}

/// The Digest challenges of a WWW-Authenticate or Proxy-Authenticate field line; other schemes are skipped.
pub(super) fn challenges(line: &str) -> Result<Vec<Challenge>> {
    digests(line)?.iter().map(challenge).collect()
}

/// The Digest credentials of an Authorization or Proxy-Authorization field line; other schemes are skipped.
pub(super) fn credentials(line: &str) -> Result<Vec<Credentials>> {
    digests(line)?.iter().map(credential).collect()
}

const RULE: &str = "RFC 7616 section 3";

type AuthParams<'a> = Vec<(&'a str, String)>;

fn only<T>(mut found: Vec<T>, what: &str, text: &str) -> Result<T> {
    match found.pop() {
        Some(one) if found.is_empty() => Ok(one),
        _ => Err(malformed(
            format!("\"{}\" is not one Digest {what}", excerpt(text)),
            RULE,
        )),
    }
}

/// One field line may carry several challenges, each with a list of its own: a comma ends both (RFC 7235 section 4.1).
/// A new one begins where a word is followed by a blank and no equals sign.
fn digests(line: &str) -> Result<Vec<AuthParams<'_>>> {
    let mut found: Vec<AuthParams<'_>> = Vec::new();
    let mut in_digest = false;
    for item in split_outside_quotes(line, b',')
        .map(trim)
        .filter(|item| !item.is_empty())
    {
        let (word, rest) = item.split_once([' ', '\t']).unwrap_or((item, ""));
        let rest = trim(rest);
        let param = if is_token(word) && !rest.starts_with('=') {
            in_digest = word.eq_ignore_ascii_case("Digest");
            if in_digest {
                found.push(Vec::new());
            }
            rest
        } else {
            item
        };
        if let (true, Some(params)) = (in_digest && !param.is_empty(), found.last_mut()) {
            params.push(auth_param(param)?);
        }
    }
    Ok(found)
}

fn auth_param(text: &str) -> Result<(&str, String)> {
    let wrong = || malformed(format!("{} is no Digest parameter", excerpt(text)), RULE);
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let (name, value) = (trim(name), trim(value));
    if !is_token(name) {
        return Err(wrong());
    }
    if !value.starts_with('"') {
        return Ok((name, value.to_owned()));
    }
    match split_quoted(value) {
        Some((inner, rest)) if trim(rest).is_empty() => Ok((name, unescape(inner))),
        _ => Err(malformed(
            format!("the quoted string of Digest parameter {name} is not terminated"),
            RULE,
        )),
    }
}

fn find<'a>(params: &'a AuthParams<'_>, name: &str) -> Option<&'a str> {
    params
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn required(params: &AuthParams<'_>, name: &str, what: &str) -> Result<String> {
    let value = find(params, name).map(str::to_owned);
    value.ok_or_else(|| malformed(format!("the Digest {what} has no {name}"), RULE))
}

fn algorithm(params: &AuthParams<'_>) -> Option<DigestAlgorithm> {
    find(params, "algorithm").map_or(Some(DigestAlgorithm::Md5), DigestAlgorithm::from_name)
}

fn challenge(params: &AuthParams<'_>) -> Result<Challenge> {
    let qop = find(params, "qop").map(trim).filter(|qop| !qop.is_empty());
    let qop_auth = qop.is_some_and(|qop| qop.split(',').any(|qop| trim(qop).eq_ignore_ascii_case("auth")));
    Ok(Challenge {
        realm: required(params, "realm", "challenge")?,
        nonce: required(params, "nonce", "challenge")?,
        opaque: find(params, "opaque").map(str::to_owned),
        stale: find(params, "stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        algorithm: algorithm(params).filter(|_| qop_auth || qop.is_none()),
        qop_auth,
    })
}

fn credential(params: &AuthParams<'_>) -> Result<Credentials> {
    let required = |name| required(params, name, "credentials");
    let optional = |name| find(params, name).map(str::to_owned);
    let nonce_count = match find(params, "nc") {
        Some(count) => Some(u32::from_str_radix(count, 16).map_err(|error| {
            malformed(
                format!("the nonce count {} is no hexadecimal number", excerpt(count)),
                RULE,
            )
            .caused_by(error)
        })?),
        None => None,
    };
    Ok(Credentials {
        username: required("username")?,
        realm: required("realm")?,
        nonce: required("nonce")?,
        uri: required("uri")?,
        response: required("response")?,
        algorithm: algorithm(params),
        opaque: optional("opaque"),
        cnonce: optional("cnonce"),
        nonce_count,
        qop: optional("qop"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_comes_back_as_it_was_printed() {
        let text = r#"Digest realm="atl\"anta", nonce="84a4cc6f", opaque="", stale=true, algorithm=SHA-256, qop="auth""#;
        let challenge: Challenge = text.parse().unwrap();
        assert_eq!(challenge.realm, "atl\"anta");
        assert_eq!(challenge.opaque.as_deref(), Some(""));
        assert!(challenge.stale && challenge.qop_auth);
        assert_eq!(challenge.algorithm, Some(DigestAlgorithm::Sha256));
        assert_eq!(challenge.to_string(), text);
    }

    #[test]
    fn a_challenge_without_algorithm_is_md5_and_one_with_an_unknown_one_is_none() {
        let algorithm = |text: &str| text.parse::<Challenge>().unwrap().algorithm;
        assert_eq!(
            algorithm(r#"Digest realm="a",nonce="b""#),
            Some(DigestAlgorithm::Md5)
        );
        assert_eq!(
            algorithm(r#"dIGEST realm="a",nonce="b",algorithm=md5"#),
            Some(DigestAlgorithm::Md5)
        );
        assert_eq!(
            algorithm(r#"Digest realm="a",nonce="b",algorithm="sha-256""#),
            Some(DigestAlgorithm::Sha256)
        );
        let unknown: Challenge = r#"Digest realm="a",nonce="b",algorithm=AKAv1-MD5"#.parse().unwrap();
        assert_eq!(unknown.algorithm, None);
        assert_eq!(unknown.to_string().parse::<Challenge>().unwrap(), unknown);
    }

    #[test]
    fn several_challenges_on_one_line_come_apart_and_other_schemes_are_skipped() {
        let line = r#"Basic realm="x, y", Digest realm="a", nonce="1", qop="auth,auth-int", Negotiate,
            Digest realm = "b", nonce="2", Other c="d""#;
        let found = challenges(&line.replace('\n', " ")).unwrap();
        let realms: Vec<_> = found.iter().map(|challenge| challenge.realm.as_str()).collect();
        assert_eq!(realms, ["a", "b"]);
        assert!(found[0].qop_auth && !found[1].qop_auth);
    }

    #[test]
    fn credentials_come_back_as_they_were_printed() {
        let text = concat!(
            r#"Digest username="bob", realm="r", nonce="n", uri="sip:r", response="00ff", algorithm=MD5, "#,
            r#"cnonce="c", opaque="o", qop=auth, nc=0000000a"#
        );
        let credentials: Credentials = text.parse().unwrap();
        assert_eq!(credentials.nonce_count, Some(10));
        assert_eq!(credentials.to_string(), text);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        for (text, word) in [
            (
                r#"Digest username="a", realm="r", uri="u", response="0""#,
                "no nonce",
            ),
            (
                r#"Digest username="a", realm="r", nonce="n", uri="u", response="0", nc=xyz"#,
                "nonce count",
            ),
            (r#"Digest username="a", nonce="n"#, "not terminated"),
            ("Digest realm", "no Digest parameter"),
            ("Basic YWJj", "not one Digest"),
            ("", "not one Digest"),
        ] {
            let error = text.parse::<Credentials>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_cannot_begin_a_new_line() {
        let mut credentials: Credentials =
            r#"Digest username="a", realm="r", nonce="n", uri="u", response="0""#
                .parse()
                .unwrap();
        credentials.username = "a\r\nEvil: yes".to_owned();
        credentials.qop = Some("auth\r\nEvil: yes".to_owned());
        assert!(!credentials.to_string().contains(['\r', '\n']));
    }
}
