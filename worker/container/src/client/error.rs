//! Why the daemon could not have its way with a container.

use crate::error::Fault;
use std::path::PathBuf;

/// Why the daemon could not have its way with a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim, or the container's first process before it ran its program, refused.
    #[error("container {id}: {fault}")]
    Fault {
        /// The container.
        id: String,
        /// What was being done to what.
        #[source]
        fault: Fault,
    },
    /// A file of ours could not be made, read or removed.
    #[error("{action} {}", path.display())]
    Io {
        /// Verb phrase.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The id is not one this runtime makes directories and cgroups for.
    #[error("container id {0:?} is not 1-64 letters, digits, dots, dashes or underscores")]
    InvalidId(String),
    /// There is one with this id.
    #[error("container {0} exists")]
    Exists(String),
    /// The container ended, so that nothing more can be asked of it.
    #[error("container {0} has ended")]
    Ended(String),
    /// The shim said something that is no answer to the question.
    #[error("container {id}: shim answered {answer:?}")]
    Protocol {
        /// The container.
        id: String,
        /// What it said.
        answer: String,
    },
}

impl Error {
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// What went wrong inside the shim or the container, if that is what it was.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault { fault, .. } => Some(fault),
            Self::Io { .. }
            | Self::InvalidId(_)
            | Self::Exists(_)
            | Self::Ended(_)
            | Self::Protocol { .. } => None,
        }
    }
}
