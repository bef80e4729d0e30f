//! Tasks run as real containers through the agent's contract. Needs root and `busybox-static`; says
//! so where it has not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod content;
mod ending;
mod health;
mod inside;
mod machine;
mod network;
mod output;
mod running;
mod survival;
