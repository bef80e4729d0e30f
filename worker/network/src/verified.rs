//! What comes of comparing the kernel with what it should hold.

use types::NetworkId;

use crate::plan::Kind;

/// What comes of comparing the kernel with what it should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Differences nobody had asked for. They are repaired, but for what is `left`.
    pub found: Vec<Found>,
    /// What is still not as it should be, and why.
    pub left: Vec<String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of what.
    pub kind: Kind,
    /// On which network, where it is on one alone.
    pub network: Option<NetworkId>,
    /// What had to be done about it.
    pub what: String,
}

impl Verified {
    /// Whether everything was as it should be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.left.is_empty()
    }
}
