//! `a=setup`: who begins the DTLS handshake.

use std::fmt;

/// The DTLS role as `a=setup` says it (RFC 4145 section 4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Setup {
    /// It sends the ClientHello.
    Active,
    /// The answer shall choose: in offers alone.
    Actpass,
    /// It waits for the ClientHello.
    Passive,
}

impl Setup {
    /// As in SDP.
    pub fn as_str(self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Actpass => "actpass",
            Setup::Passive => "passive",
        }
    }

    /// From `a=setup`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Setup::Active, Setup::Actpass, Setup::Passive]
            .into_iter()
            .find(|setup| setup.as_str() == name)
    }

    /// The other side's, once settled.
    pub fn reversed(self) -> Self {
        match self {
            Setup::Active => Setup::Passive,
            Setup::Passive => Setup::Active,
            Setup::Actpass => Setup::Actpass,
        }
    }

    /// The role to answer with, and whether that needs a new DTLS association (RFC 8842 section 5). `established` is our
    /// role in the one that is there, and it is kept whenever the offer allows it: a role that changes without need makes
    /// the other side begin its handshake anew.
    ///
    /// ```
    /// use siprtc_sdp_words::Setup;
    /// assert_eq!(Setup::answering(Some(Setup::Actpass), None), (Setup::Active, true));
    /// assert_eq!(Setup::answering(Some(Setup::Actpass), Some(Setup::Passive)), (Setup::Passive, false));
    /// assert_eq!(Setup::answering(Some(Setup::Active), Some(Setup::Active)), (Setup::Passive, true));
    /// ```
    pub fn answering(offered: Option<Setup>, established: Option<Setup>) -> (Setup, bool) {
        match (offered, established) {
            (Some(Setup::Actpass) | None, Some(role @ (Setup::Active | Setup::Passive))) => (role, false),
            (Some(Setup::Active), role) => (Setup::Passive, role != Some(Setup::Passive)),
            (Some(Setup::Passive), role) => (Setup::Active, role != Some(Setup::Active)),
            // RFC 5763 section 5: active is what an answerer should be, so that it can begin at once.
            (Some(Setup::Actpass) | None, _) => (Setup::Active, true),
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
