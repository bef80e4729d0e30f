//! The daemon's side: makes containers by starting shims, and finds them again after a restart.

mod connection;
mod container;
mod error;
mod program;
mod reap;
mod runtime;

pub use container::{Container, Executed};
pub use error::Error;
pub use program::ShimSource;
pub use runtime::{Runtime, RuntimeOptions};
