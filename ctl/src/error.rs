//! Why a command failed, in one sentence for people and one exit code for scripts.

use std::path::PathBuf;

use crate::output;
use crate::template::TemplateError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line asks for something that cannot be: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A `--format` that cannot be read or filled in.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The daemon cannot be spoken to.
    #[error("{0}")]
    Connect(String),
    /// The daemon or the cluster refused.
    #[error("{}", sentence(.0))]
    Refused(#[from] tonic::Status),
    /// An answer that this release does not understand.
    #[error("the daemon's answer cannot be understood: {0}")]
    Answer(#[from] proto::ConvertError),
    /// A file of the user.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// What was waited for did not come.
    #[error("{0}")]
    Failed(String),
    /// Some of several things failed; the others were done.
    #[error("{}", lines(.0))]
    Several(Vec<Error>),
    /// The user stopped waiting (exit code 130); what was asked for goes on.
    #[error("{0}")]
    Interrupted(String),
    /// Nobody reads the output any more.
    #[error("writing the output: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// 0 when the reader of the output went away, 1 for an error of the daemon or the cluster,
    /// 2 for a wrong command line, 130 when interrupted.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Template(_) => 2,
            Self::Interrupted(_) => 130,
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Self::Several(errors) => errors.iter().map(Self::exit_code).max().unwrap_or(1),
            Self::Connect(_)
            | Self::Refused(_)
            | Self::Answer(_)
            | Self::File { .. }
            | Self::Failed(_)
            | Self::Output(_) => 1,
        }
    }

    /// Tells the user, one line for each thing that failed.
    pub(crate) fn tell(&self) {
        match self {
            Self::Several(errors) => errors.iter().for_each(Self::tell),
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Self::Interrupted(sentence) => output::note(sentence),
            Self::Usage(_)
            | Self::Template(_)
            | Self::Connect(_)
            | Self::Refused(_)
            | Self::Answer(_)
            | Self::File { .. }
            | Self::Failed(_)
            | Self::Output(_) => output::note(format_args!("error: {self}")),
        }
    }

    /// True when the object changed since it was read: reading it again may help.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == tonic::Code::Aborted)
    }

    /// Nothing when all went well, the one error, or all of them.
    pub(crate) fn join(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

fn sentence(status: &tonic::Status) -> String {
    if let Some(ca::tls::Refusal::OurCertificate) = ca::tls::refusal(status) {
        return "the managers refuse this context's certificate: it has run out, or the cluster has \
                another root by now; make a new one with `swarmctl client create` on a manager"
            .to_owned();
    }
    match status.message() {
        "" => format!("the daemon answered {:?} without a word", status.code()),
        message => message.to_owned(),
    }
}

fn lines(errors: &[Error]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
