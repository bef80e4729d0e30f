//! Why the executor could not be opened.

use std::path::PathBuf;

/// Why a [`crate::ContainerExecutor`] could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory cannot be used.
    #[error("{doing} {}", path.display())]
    Io {
        /// Verb phrase.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The node's network cannot be looked after.
    #[error("open the node's network")]
    Network(#[source] Box<network::Error>),
    /// The container runtime cannot work here.
    #[error("open the container runtime")]
    Runtime(#[source] Box<container::Error>),
}

impl Error {
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}
