//! Issuing identity: join tokens against certificates.
