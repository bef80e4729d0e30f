//! Keys, certificates, join tokens and TLS of a node; knows no store.
