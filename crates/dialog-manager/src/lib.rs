//! SIP dialogs and the users of their transactions (RFC 3261 sections 12 to 15)
