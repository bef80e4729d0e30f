//! The filter of system calls: Docker's default profile, compiled to a binary search.
//!
//! `libseccomp` is a C library and the crates that do without it emit a linear chain of
//! comparisons, which costs each container more than half a millisecond to load and each call more
//! to pass. Ranges of call numbers with the same answer are few, so a search over them is short.

mod compile;
mod profile;
mod table;

pub(crate) use compile::compile;
