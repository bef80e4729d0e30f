//! Forwarded identities survive, forged ones do not.
