//! Settings of a node's network.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`crate::Network`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory for what is remembered; made when missing, mode 0700.
    pub state_dir: PathBuf,
    /// How often the kernel is compared with what it should hold when nothing seems to happen.
    pub pass_period: Duration,
    /// How soon after something happened.
    pub pass_delay: Duration,
}

impl Options {
    /// The usual settings.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            pass_period: Duration::from_secs(30),
            pass_delay: Duration::from_millis(500),
        }
    }
}
