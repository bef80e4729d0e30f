//! What went wrong while making or running a container, in a form that crosses processes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What the runtime was doing when it failed. The words end up in front of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reading or checking the container's specification.
    ReadSpec,
    /// Making the shim's own files, sockets or processes.
    Shim,
    /// Finding the machine's cgroup hierarchies.
    FindCgroups,
    /// Making or limiting the container's cgroups.
    Cgroup,
    /// Creating the container's first process.
    Clone,
    /// Moving a process into the container's cgroups.
    EnterCgroup,
    /// Entering or preparing the network namespace.
    Network,
    /// Stacking the image's layers.
    Overlay,
    /// Making the stacked layers the root directory.
    PivotRoot,
    /// Mounting something into the container.
    Mount,
    /// Making a device node.
    Device,
    /// Hiding or write-protecting a kernel path.
    Mask,
    /// Writing a kernel parameter of the container.
    Sysctl,
    /// Setting the host name.
    Hostname,
    /// Writing `/etc/hosts`, `/etc/hostname` or `/etc/resolv.conf`.
    EtcFiles,
    /// Looking up the user and its groups in the image.
    User,
    /// Setting a resource limit.
    Rlimit,
    /// Adjusting the out-of-memory score.
    OomScore,
    /// Connecting standard input and output.
    Stdio,
    /// Giving up capabilities or changing the user id.
    Privileges,
    /// Changing to the working directory.
    Cwd,
    /// Loading the system call filter.
    Seccomp,
    /// Executing the program.
    Exec,
    /// Writing the container's logs.
    Log,
    /// Sending a signal.
    Signal,
    /// The first process ended before it was ready, without saying why.
    InitDied,
    /// The shim ended while its container was alive.
    ShimDied,
}

impl Step {
    /// The verb phrase used in messages; the subject follows it.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::ReadSpec => "read specification",
            Self::Shim => "run shim",
            Self::FindCgroups => "find cgroups",
            Self::Cgroup => "set up cgroup",
            Self::Clone => "create process",
            Self::EnterCgroup => "enter cgroup",
            Self::Network => "prepare network namespace",
            Self::Overlay => "stack layers",
            Self::PivotRoot => "change root",
            Self::Mount => "mount",
            Self::Device => "make device",
            Self::Mask => "protect path",
            Self::Sysctl => "set kernel parameter",
            Self::Hostname => "set hostname",
            Self::EtcFiles => "write network files",
            Self::User => "find user",
            Self::Rlimit => "set resource limit",
            Self::OomScore => "set oom score",
            Self::Stdio => "connect standard streams",
            Self::Privileges => "drop privileges",
            Self::Cwd => "change working directory",
            Self::Seccomp => "load system call filter",
            Self::Exec => "exec",
            Self::Log => "write logs",
            Self::Signal => "signal",
            Self::InitDied => "start container process",
            Self::ShimDied => "keep shim alive",
        }
    }
}

/// A failed [`Step`], what it was done to, and the reason.
///
/// It is serialisable because the process that fails (the container's first process, or the shim)
/// is never the one that reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What was being done.
    pub step: Step,
    /// What it was being done to: a path, a name, a number.
    pub subject: String,
    /// The kernel's error number, when the kernel refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The reason in words, when it was ours.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Shorthand of everything in this crate that can fail with a [`Fault`].
pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// A refusal of our own.
    pub fn refuse(step: Step, subject: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self {
            step,
            subject: subject.to_string(),
            errno: None,
            reason: reason.to_string(),
        }
    }

    /// An error number as the kernel returned it.
    pub fn errno(step: Step, subject: impl fmt::Display, errno: rustix::io::Errno) -> Self {
        Self {
            step,
            subject: subject.to_string(),
            errno: Some(errno.raw_os_error()),
            reason: String::new(),
        }
    }

    /// The code a shell would exit with: 127 program not found, 126 found but not executable,
    /// 137 killed with its shim, 125 anything that kept the container from being made.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match (self.step, self.errno) {
            (Step::Exec, Some(libc::ENOENT | libc::ENOTDIR)) => 127,
            (Step::Exec, _) => 126,
            (Step::ShimDied, _) => 137,
            _ => 125,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.step.phrase(), self.subject)?;
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {}", std::io::Error::from_raw_os_error(errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Attaches the step and its subject to a kernel or IO error.
pub(crate) trait During<T> {
    /// `subject` is only rendered on failure.
    fn during(self, step: Step, subject: impl fmt::Display) -> Result<T>;
}

impl<T> During<T> for rustix::io::Result<T> {
    fn during(self, step: Step, subject: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Fault::errno(step, subject, errno))
    }
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, step: Step, subject: impl fmt::Display) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Fault {
                step,
                subject: subject.to_string(),
                errno: Some(errno),
                reason: String::new(),
            },
            None => Fault::refuse(step, subject, error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_shell() {
        let fault = |step, errno| Fault {
            step,
            subject: "x".into(),
            errno,
            reason: String::new(),
        };
        for (step, errno, code) in [
            (Step::Exec, Some(libc::ENOENT), 127),
            (Step::Exec, Some(libc::EACCES), 126),
            (Step::Exec, Some(libc::ENOEXEC), 126),
            (Step::Mount, Some(libc::ENOENT), 125),
            (Step::ShimDied, None, 137),
        ] {
            assert_eq!(fault(step, errno).exit_code(), code, "{step:?} {errno:?}");
        }
    }

    #[test]
    fn message_says_what_was_done_to_what() {
        let fault = Fault::errno(Step::Mount, "tmpfs on /run", rustix::io::Errno::NOENT);
        assert_eq!(
            fault.to_string(),
            "mount tmpfs on /run: No such file or directory (os error 2)"
        );
    }
}
