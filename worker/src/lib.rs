//! Runs tasks in containers: the executor contract over the runtime and the image store.
//!
//! | owned task | where | ends |
//! |---|---|---|
//! | one for each container being made | `controller` | when it is made, also if nobody waits |
//!
//! Nothing else runs here: a container's life is watched by whoever waits for it.

mod controller;
mod executor;
mod logs;
mod machine;
mod spec;
mod template;

pub use executor::{ContainerExecutor, Error, Options};
