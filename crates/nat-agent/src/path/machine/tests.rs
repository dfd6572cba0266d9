//! What a path decides, in virtual time.
