//! What can go wrong between this crate and the kernel.

use std::io;

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed exchange with the packet filter, or input it could not express.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No socket to the packet filter.
    #[error("opening a netfilter socket")]
    Open {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The descriptor is no network namespace, or it may not be entered.
    #[error("entering the network namespace")]
    EnterNamespace {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A request did not leave.
    #[error("sending {bytes} bytes to netfilter")]
    Send {
        /// Length of the request.
        bytes: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No answer could be read.
    #[error("receiving from netfilter")]
    Receive {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// One step of a transaction was refused, so nothing of it was done.
    #[error("{step}{}", explained(.explanation))]
    Rejected {
        /// What that step was to do, for example `adding chain swarm-balancer/10.0.0.2`.
        step: String,
        /// The kernel's own words, where it had some.
        explanation: Option<String>,
        /// The kernel's errno.
        #[source]
        source: io::Error,
    },
    /// The kernel sent something this crate cannot read.
    #[error("reading netfilter's answer: {what}")]
    Malformed {
        /// What was being read.
        what: &'static str,
    },
    /// The kernel did not say whether a transaction was done.
    #[error("netfilter did not answer")]
    Unanswered,
    /// The rules kept changing while they were being read.
    #[error("{what}: it changed {tries} times meanwhile")]
    Unstable {
        /// What was being done.
        what: &'static str,
        /// How often it was tried.
        tries: u32,
    },
    /// A field of the desired state cannot be.
    #[error("{field} is {value:?}: {allowed}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

fn explained(explanation: &Option<String>) -> String {
    explanation
        .as_ref()
        .map_or_else(String::new, |words| format!(" ({words})"))
}

impl Error {
    /// Whether this is the kernel saying that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Rejected { source, .. }
            if source.raw_os_error() == Some(libc::ENOENT))
    }

    /// Whether the kernel may have refused because it does not hold what was put there.
    pub(crate) fn may_be_surprise(&self) -> bool {
        const SURPRISES: [i32; 4] = [libc::ENOENT, libc::EEXIST, libc::EBUSY, libc::EINVAL];
        matches!(self, Self::Rejected { source, .. }
            if source.raw_os_error().is_some_and(|errno| SURPRISES.contains(&errno)))
    }
}
