//! Which gRPC code an error has; the only place that chooses one.

use store::{ProposeError, RefusalReason};
use tonic::{Code, Status};

use crate::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(code(&error), error.to_string())
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::Invalid(_) | Error::Ambiguous { .. } => Code::InvalidArgument,
        Error::NotFound { .. } | Error::Unknown { .. } => Code::NotFound,
        Error::NameTaken { .. } | Error::Exists { .. } => Code::AlreadyExists,
        // Swarm answers Unknown here, which clients cannot tell from a defect (S1.02).
        Error::Stale { .. } => Code::Aborted,
        Error::Precondition(_) => Code::FailedPrecondition,
        Error::Unsupported(_) => Code::Unimplemented,
        Error::NotReady | Error::Logs(_) | Error::Checks(_) => Code::Unavailable,
        Error::Token(_) | Error::Seal(_) => Code::Internal,
        Error::Propose(error) => propose_code(error),
    }
}

fn propose_code(error: &ProposeError) -> Code {
    match error {
        ProposeError::Refused(refusal) => match refusal.reason {
            RefusalReason::Malformed => Code::Internal,
            RefusalReason::Exists | RefusalReason::NameTaken => Code::AlreadyExists,
            RefusalReason::NotFound => Code::NotFound,
            RefusalReason::Stale => Code::Aborted,
            RefusalReason::Conflict => Code::FailedPrecondition,
            RefusalReason::InUse => Code::FailedPrecondition,
        },
        ProposeError::NoLeader | ProposeError::Shutdown => Code::Unavailable,
        ProposeError::Timeout => Code::DeadlineExceeded,
        ProposeError::TooLarge { .. } => Code::InvalidArgument,
    }
}
