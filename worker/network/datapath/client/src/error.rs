//! Why the datapath process could not have its way, or we not with it.

use std::path::PathBuf;

/// Why the datapath process could not have its way, or we not with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be loaded.
    #[error("load the datapath program from {}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The process could not be started or reached.
    #[error("reach the datapath process at {}: {reason}", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// What stood in the way.
        reason: String,
    },
    /// The process refused.
    #[error("datapath: {0}")]
    Refused(String),
    /// The service that talks to the process has ended.
    #[error("the datapath service has ended")]
    Ended,
}
