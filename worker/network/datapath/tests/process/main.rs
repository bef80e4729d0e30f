//! The real process, in namespaces of its own: what it answers, what it survives, how it is replaced.

mod encryption;
mod gossip;
mod machine;
mod names;
mod survival;
