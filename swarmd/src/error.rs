//! Why the daemon does not do what it is asked, and which gRPC code each reason has.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::{Code, Status};

use crate::{address, state_dir};

/// What a user is told who asks anything of a locked manager (S10.14).
pub(crate) const LOCKED: &str = "swarm is encrypted and needs to be unlocked before it can be used: \
     run `swarmctl swarm unlock`";

/// Why the daemon does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What runs containers does not work on this machine.
    #[error("setting up to run containers")]
    Containers(#[from] worker::Error),
    /// Init or join of a node that is in a swarm (S19.08).
    #[error(
        "this node is already part of a swarm: use `swarmctl leave` to leave it before joining \
         another one"
    )]
    AlreadyMember,
    /// Unlocking what is not locked (S10.14).
    #[error("swarm is not locked")]
    NotLocked,
    /// Anything that needs the keys of a locked manager.
    #[error("{LOCKED}")]
    Locked,
    /// Leaving a swarm whose keys are locked.
    #[error("{LOCKED}; to leave the swarm without its consent, use --force")]
    LeaveLocked,
    /// The text given is no unlock key, or not the right one (S10.14).
    #[error("{0}")]
    InvalidKey(String),
    /// An unlock key in the cluster that cannot be read.
    #[error("the swarm's unlock key")]
    UnlockKey(#[from] ca::UnlockKeyError),
    /// Leaving without being in a swarm.
    #[error("this node is not part of a swarm")]
    NotMember,
    /// A manager leaves without force (S19.05).
    #[error("{0}")]
    LeaveNeedsForce(String),
    /// A field of the request.
    #[error("{field}: {problem}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting of the swarm.
    #[error(transparent)]
    Spec(#[from] control_api::Invalid),
    /// An address.
    #[error(transparent)]
    Address(#[from] address::Error),
    /// The address of a manager that has to be looked up.
    #[error("cannot find the address of {host}")]
    Lookup {
        /// What was looked up.
        host: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Not a join token.
    #[error(transparent)]
    Token(#[from] ca::TokenError),
    /// The manager's root is not the one the token names (S11.03).
    #[error(
        "the root certificate of {addr} is not the one this join token was made for: it is a token \
         of another swarm, the root was rotated, or somebody is in between"
    )]
    RootMismatch {
        /// The manager.
        addr: String,
    },
    /// Nobody answers where a manager should.
    #[error("cannot reach a manager at {addr}")]
    Unreachable {
        /// The address.
        addr: String,
        /// The reason.
        #[source]
        source: ca::tls::Error,
    },
    /// A manager answered with a refusal.
    #[error("{addr}: {}", .status.message())]
    Refused {
        /// The manager.
        addr: String,
        /// Its answer.
        status: Status,
    },
    /// Nobody answered in time.
    #[error("no answer from {addr} within {} s", after.as_secs())]
    Timeout {
        /// The manager.
        addr: String,
        /// The limit.
        after: Duration,
    },
    /// The node has its certificate, but is not a member of the managers' group yet (S10.16).
    #[error(
        "the node did not become a manager within {} s; it goes on trying, `swarmctl info` shows \
         how it fares", after.as_secs()
    )]
    StillJoining {
        /// The limit.
        after: Duration,
    },
    /// The roots a manager shows do not follow from those this node trusts.
    #[error("the root of {addr} is not one that follows from those this node trusts")]
    Lineage {
        /// The manager.
        addr: String,
        /// What is wrong with it.
        #[source]
        source: ca::Error,
    },
    /// The address to listen at cannot be used.
    #[error("cannot listen at {addr}")]
    Listen {
        /// The address.
        addr: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate.
    #[error(transparent)]
    Certificate(#[from] ca::Error),
    /// The identity on disk.
    #[error(transparent)]
    Files(#[from] ca::FilesError),
    /// TLS refuses the identity.
    #[error(transparent)]
    Tls(#[from] ca::tls::Error),
    /// The managers' group.
    #[error("the managers' group: {0}")]
    Raft(#[from] raft::Error),
    /// The first objects of a new swarm.
    #[error("cannot write the new swarm")]
    Propose(#[from] store::ProposeError),
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] state_dir::Error),
    /// The image store.
    #[error("cannot open the images of this node")]
    Images(#[from] image::Error),
    /// Containers of a swarm that was left.
    #[error("some containers of this swarm could not be removed: {0}")]
    Remains(executor::Error),
    /// The socket for users of this machine.
    #[error("cannot serve {}", path.display())]
    Socket {
        /// The socket.
        path: std::path::PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A thread that should have done something is gone.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Error {
    fn code(&self) -> Code {
        match self {
            Self::AlreadyMember
            | Self::NotMember
            | Self::NotLocked
            | Self::LeaveLocked
            | Self::LeaveNeedsForce(_)
            | Self::Lineage { .. }
            | Self::Listen { .. } => Code::FailedPrecondition,
            Self::Field { .. }
            | Self::Address(_)
            | Self::Spec(_)
            | Self::Lookup { .. }
            | Self::Token(_)
            | Self::RootMismatch { .. } => Code::InvalidArgument,
            Self::Refused { status, .. } => status.code(),
            Self::Unreachable { .. } | Self::Stopping | Self::Locked => Code::Unavailable,
            Self::InvalidKey(_) => Code::Unauthenticated,
            Self::Timeout { .. } | Self::StillJoining { .. } => Code::DeadlineExceeded,
            Self::Certificate(_)
            | Self::Files(_)
            | Self::Tls(_)
            | Self::UnlockKey(_)
            | Self::Raft(_)
            | Self::Propose(_)
            | Self::StateDir(_)
            | Self::Images(_)
            | Self::Containers(_)
            | Self::Remains(_)
            | Self::Socket { .. } => Code::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), chain(&error))
    }
}

/// An error with all its causes in one sentence.
#[must_use]
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let because = error.to_string();
        // Libraries like to repeat their cause in their own text.
        if !text.ends_with(&because) {
            text = format!("{text}: {because}");
        }
        cause = error.source();
    }
    text
}
