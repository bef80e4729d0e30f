//! A further program in a container that runs: enters what its first process lives in.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, chdir, pidfd_open, set_dumpable_behavior, setsid, umask,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::{ADMITTED, environment, exec, hostname, privilege, wait_for};
use crate::error::{During, Fault, Result, Step};
use crate::state::Config;
use crate::syscall::{self, Forked};
use crate::user;

/// What the process that enters works with. It is a copy of the shim, outside the container yet.
pub(crate) struct Join<'a> {
    pub(crate) config: &'a Config,
    /// Program and arguments.
    pub(crate) args: &'a [String],
    /// The container's first process.
    pub(crate) init: i32,
    /// To the shim: says when this process is in the container's cgroups, and hears the number of
    /// the program's process.
    pub(crate) channel: OwnedFd,
    /// Where the program's output goes.
    pub(crate) output: OwnedFd,
}

impl Join<'_> {
    /// Has the program run in a process that is the shim's child, and ends.
    pub(crate) fn run(self) -> ! {
        let code = match self.enter() {
            Ok(()) => 0,
            Err(fault) => {
                self.tell(&fault);
                fault.exit_code()
            }
        };
        syscall::exit_now(code)
    }

    fn enter(&self) -> Result<()> {
        // Nothing in the container may look into this process before its program runs, root of the
        // container included.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Step::Exec, "protection")?;
        wait_for(&self.channel, ADMITTED)?;
        let init = Pid::from_raw(self.init)
            .ok_or_else(|| Fault::refuse(Step::Exec, self.init, "it is no process"))?;
        let namespaces = || -> rustix::io::Result<()> {
            let init = pidfd_open(init, PidfdFlags::empty())?;
            let all = ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::PROCESS_ID
                | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
                | ThreadNameSpaceType::CONTROL_GROUP
                | ThreadNameSpaceType::NETWORK;
            move_into_thread_name_spaces(init.as_fd(), all)
        };
        namespaces().during(Step::Exec, "enter the container")?;
        // The process namespace is only that of children. The shim becomes the parent of this one.
        match syscall::clone3(libc::CLONE_PARENT, None).during(Step::Clone, "a further process")? {
            Forked::Parent(pid) => rustix::io::write(&self.channel, &pid.to_ne_bytes())
                .during(Step::Shim, "tell the process")
                .map(drop),
            Forked::Child => {
                let fault = match self.become_program() {
                    Ok(never) => match never {},
                    Err(fault) => fault,
                };
                self.tell(&fault);
                syscall::exit_now(fault.exit_code())
            }
        }
    }

    fn become_program(&self) -> Result<std::convert::Infallible> {
        let spec = &self.config.spec;
        // A group of its own, so that all of it can be killed.
        setsid().during(Step::Clone, "session")?;
        umask(Mode::from_raw_mode(0o022));
        let user = user::resolve(&spec.user, &spec.additional_groups, &user::open_in_root)?;
        let hostname = hostname(self.config);
        let mut spec = spec.clone();
        spec.args = self.args.to_vec();
        // Secrets in variables are kept nowhere, so the program has them and what joins it has not.
        let env = environment::complete(&spec, &[], &hostname, &user.home);
        let program = exec::Program::new(&spec, env)?;
        self.connect_stdio()
            .during(Step::Stdio, "/dev/null and pipe")?;
        syscall::new_session_keyring().during(Step::Privileges, "session keyring")?;
        privilege::set_rlimits(&spec.rlimits)?;
        syscall::reset_signals().during(Step::Exec, "signals")?;
        // The root directory is the container's by now, so a path cannot lead out of it.
        let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
        chdir(cwd).during(Step::Cwd, cwd)?;
        privilege::drop_to(&user, &spec)?;
        syscall::die_with_parent().during(Step::Clone, "parent death signal")?;
        syscall::close_on_exec_from(3).during(Step::Exec, "descriptors")?;
        Err(program.execute())
    }

    fn connect_stdio(&self) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        dup2_stdin(&openat(CWD, "/dev/null", flags, Mode::empty())?)?;
        dup2_stdout(&self.output)?;
        dup2_stderr(&self.output)
    }

    /// What went wrong takes the place of output; the exit code says which it is.
    fn tell(&self, fault: &Fault) {
        // If the shim is gone there is nobody to tell.
        let _ = rustix::io::write(&self.output, fault.to_string().as_bytes());
    }
}
