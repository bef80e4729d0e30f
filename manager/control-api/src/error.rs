//! Why a request was not carried out, in words for the person who made it.

use store::{Kind, ProposeError, Refusal, RefusalReason};

use crate::Invalid;

/// Why a request was not carried out. Unless a variant says otherwise, nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field has a value it may not have.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Nothing has this id, name or id prefix.
    #[error("{kind} {key} not found")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// What the user called it.
        key: String,
    },
    /// Several objects have this name or id prefix.
    #[error("{kind} {key} is ambiguous ({count} matches found): use more characters of the id")]
    Ambiguous {
        /// What was looked for.
        kind: Kind,
        /// What the user called it.
        key: String,
        /// How many it could be.
        count: usize,
    },
    /// Nothing of the cluster's own lists has this name.
    #[error("{what} {key} not found")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// What the user called it.
        key: String,
    },
    /// Something of the cluster's own lists has this name already.
    #[error("{what} {name} already exists")]
    Exists {
        /// What was to be made.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The name belongs to another object (S20.02).
    #[error("name conflicts with an existing object: {kind} {name} already exists")]
    NameTaken {
        /// What was to be made.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The object changed since it was read (S20.21).
    #[error("update out of sequence: {object} changed since it was read, read it again and retry")]
    Stale {
        /// Kind and name of the object.
        object: String,
    },
    /// The cluster's present condition forbids it.
    #[error("{0}")]
    Precondition(String),
    /// Swarm's rules do not know such a change (S20.20).
    #[error("{0}")]
    Unsupported(String),
    /// There is no cluster object yet: the first manager is still starting.
    #[error("the swarm is not ready yet: its settings have not been written")]
    NotReady,
    /// A join token could not be made.
    #[error("no new join token could be made: {0}")]
    Token(String),
    /// The content of a secret could not be sealed or opened.
    #[error("the content of the secret: {0}")]
    Seal(seal::Error),
    /// Output of containers could not be asked for.
    #[error("container output cannot be read: {0}")]
    Logs(String),
    /// Nodes could not be asked how their networks are.
    #[error("networks cannot be verified: {0}")]
    Checks(String),
    /// The change was not committed, or not known to be.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl Error {
    /// A check of the store made ahead, in the words of a refused proposal.
    pub(crate) fn from_check((reason, object): (RefusalReason, String)) -> Self {
        Self::from_propose(ProposeError::Refused(Refusal {
            action: 0,
            reason,
            object,
        }))
    }

    /// A refused proposal in the words of the request that made it.
    pub(crate) fn from_propose(error: ProposeError) -> Self {
        let ProposeError::Refused(refusal) = error else {
            return Self::Propose(error);
        };
        let Refusal { reason, object, .. } = &refusal;
        if *reason == RefusalReason::Conflict {
            return Self::Precondition(object.clone());
        }
        let (kind, name) = object.split_once(' ').unwrap_or(("", object));
        let kind = match kind {
            "node" => Kind::Node,
            "service" => Kind::Service,
            "task" => Kind::Task,
            "cluster" => Kind::Cluster,
            "secret" => Kind::Secret,
            "config" => Kind::Config,
            "network" => Kind::Network,
            _ => return Self::Propose(refusal.into()),
        };
        match reason {
            RefusalReason::NameTaken => Self::NameTaken {
                kind,
                name: name.to_owned(),
            },
            RefusalReason::NotFound => Self::NotFound {
                kind,
                key: name.to_owned(),
            },
            RefusalReason::Stale => Self::Stale {
                object: object.clone(),
            },
            RefusalReason::InUse => Self::Precondition(format!("{object} is in use")),
            RefusalReason::Malformed | RefusalReason::Exists | RefusalReason::Conflict => {
                Self::Propose(refusal.into())
            }
        }
    }
}
