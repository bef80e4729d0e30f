//! Key files keep key and headers.
