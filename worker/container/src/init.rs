//! What the container's first process does between its creation and its program.
//!
//! It is a copy of the shim, in new namespaces, with one thread. It sets everything up, says that it
//! is ready, waits for the word, and executes the program. What it says goes over one socket that
//! closes on execution: silence there means success.

mod environment;
mod exec;
pub(crate) mod join;
mod pid1;
mod privilege;

pub(crate) use environment::hostname;

use crate::cgroup::Hierarchies;
use crate::error::{During, Fault, Result, Step};
use crate::private::Private;
use crate::rootfs::{self, Leaf, Rootfs};
use crate::spec::{ContainerSpec, Network};
use crate::state::Config;
use crate::{syscall, user};
use rustix::fs::{CWD, Mode, OFlags, fchown, openat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, fchdir, getcwd, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

/// What the first process tells its shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// Only the program's execution is left.
    Ready,
    /// It cannot go on, and ends.
    Failed(Fault),
}

/// What the shim sends once the process is in its cgroups.
pub(crate) const ADMITTED: u8 = b'a';
/// What the shim sends to have the program executed.
pub(crate) const GO: u8 = b'g';

/// Largest message, in bytes; a fault's subject is at most a path or two.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// What the first process works with.
pub(crate) struct Init<'a> {
    pub(crate) config: &'a Config,
    pub(crate) private: &'a Private,
    pub(crate) hierarchies: &'a Hierarchies,
    /// To the shim: keeps message borders, closes on execution.
    pub(crate) channel: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl Init<'_> {
    /// Becomes the program, or tells why not and ends.
    pub(crate) fn run(self) -> ! {
        let fault = match self.become_program() {
            Ok(never) => match never {},
            Err(fault) => fault,
        };
        let message = serde_json::to_vec(&Message::Failed(fault)).unwrap_or_default();
        // If the shim is gone there is nobody to tell.
        let _ = rustix::io::write(&self.channel, &message);
        syscall::exit_now(127)
    }

    fn become_program(&self) -> Result<std::convert::Infallible> {
        let spec = &self.config.spec;
        syscall::die_with_parent().during(Step::Clone, "parent death signal")?;
        setsid().during(Step::Clone, "session")?;
        enter_network(&spec.network)?;
        umask(Mode::from_raw_mode(0o022));
        let mut rootfs = rootfs::enter(self.config, self.hierarchies, self.private)?;
        let hostname = self.set_hostname()?;
        write_sysctls(&rootfs, spec)?;
        write_oom_score(&rootfs, spec)?;
        let user = user::resolve(&spec.user, &spec.additional_groups, &user::open_in_root)?;
        let cwd = rootfs::ensure(&rootfs.root, &spec.cwd, Leaf::Directory)
            .during(Step::Cwd, &spec.cwd)?;
        let program = exec::Program::new(
            spec,
            environment::complete(spec, &self.private.env, &hostname, &user.home),
        )?;
        wait_for(&self.channel, ADMITTED)?;
        privilege::new_cgroup_namespace()?;
        rootfs::show_cgroups(&mut rootfs, spec)?;
        rootfs::protect(&rootfs, spec)?;
        self.connect_stdio(user.uid, user.gid)?;
        syscall::new_session_keyring().during(Step::Privileges, "session keyring")?;
        privilege::set_rlimits(&spec.rlimits)?;
        syscall::reset_signals().during(Step::Exec, "signals")?;
        privilege::drop_to(&user, spec)?;
        // Cleared by the kernel whenever the user changes, hence again.
        syscall::die_with_parent().during(Step::Clone, "parent death signal")?;
        enter_cwd(&cwd, &spec.cwd)?;
        drop(cwd);
        drop(rootfs);
        syscall::close_on_exec_from(3).during(Step::Exec, "descriptors")?;
        self.say_ready()?;
        wait_for(&self.channel, GO)?;
        if spec.init {
            return pid1::run_as_child(&self.channel, &program);
        }
        Err(program.execute())
    }

    fn set_hostname(&self) -> Result<String> {
        let name = hostname(self.config);
        if self.config.spec.hostname.is_empty() && self.config.spec.network == Network::Host {
            return Ok(name);
        }
        rustix::system::sethostname(name.as_bytes()).during(Step::Hostname, &name)?;
        Ok(name)
    }

    /// Input is empty; output goes to the shim, and belongs to the user so that it can be reopened
    /// by way of `/dev/stdout`.
    fn connect_stdio(&self, uid: u32, gid: u32) -> Result<()> {
        let connect = || -> rustix::io::Result<()> {
            let null = openat(
                CWD,
                "/dev/null",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            dup2_stdin(&null)?;
            for pipe in [&self.stdout, &self.stderr] {
                fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
            dup2_stdout(&self.stdout)?;
            dup2_stderr(&self.stderr)
        };
        connect().during(Step::Stdio, "/dev/null and pipes")
    }

    fn say_ready(&self) -> Result<()> {
        let ready = serde_json::to_vec(&Message::Ready).expect("a unit variant is JSON");
        rustix::io::write(&self.channel, &ready)
            .during(Step::Shim, "say ready")
            .map(drop)
    }
}

/// Waits for one word of the shim's.
fn wait_for(channel: &OwnedFd, expected: u8) -> Result<()> {
    let mut word = [0];
    loop {
        match rustix::io::read(channel, &mut word) {
            Ok(1) if word[0] == expected => return Ok(()),
            Ok(_) => return Err(Fault::refuse(Step::Shim, "wait", "the shim is gone")),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fault::errno(Step::Shim, "wait", errno)),
        }
    }
}

fn enter_network(network: &Network) -> Result<()> {
    match network {
        // The new namespace came with the process.
        Network::Own => syscall::loopback_up().during(Step::Network, "bring up lo"),
        Network::Host => Ok(()),
        Network::Join(path) => {
            let join = || -> rustix::io::Result<()> {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let namespace = openat(CWD, path, flags, Mode::empty())?;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            };
            join().during(Step::Network, path.display())
        }
    }
}

fn write_sysctls(rootfs: &Rootfs, spec: &ContainerSpec) -> Result<()> {
    for (name, value) in &spec.sysctls {
        let is_private_network = spec.network != Network::Host;
        if !is_namespaced(name, is_private_network) {
            let reason = "it is not the container's own";
            return Err(Fault::refuse(Step::Sysctl, name, reason));
        }
        let path = format!("sys/{}", name.replace('.', "/"));
        write_proc(&rootfs.proc, &path, value).during(Step::Sysctl, name)?;
    }
    Ok(())
}

fn write_oom_score(rootfs: &Rootfs, spec: &ContainerSpec) -> Result<()> {
    write_proc(
        &rootfs.proc,
        "self/oom_score_adj",
        &spec.oom_score_adj.to_string(),
    )
    .during(Step::OomScore, spec.oom_score_adj)
}

/// Writes to a file of the procfs this runtime has mounted, by descriptor: what `/proc` of the
/// image looks like does not matter (CVE-2019-19921, CVE-2025-52881).
fn write_proc(proc: &OwnedFd, path: &str, value: &str) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(proc, path, flags, Mode::empty())?;
    std::fs::File::from(file).write_all(value.as_bytes())
}

/// Whether a kernel parameter belongs to a namespace of the container: Docker's list.
fn is_namespaced(name: &str, is_private_network: bool) -> bool {
    const IPC: [&str; 10] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.domainname",
        "kernel.hostname",
    ];
    let is_plain = name.split('.').all(|part| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        !part.is_empty() && part.bytes().all(fits)
    });
    let is_own = IPC.contains(&name)
        || name.starts_with("fs.mqueue.")
        || (is_private_network && name.starts_with("net."));
    is_plain && is_own
}

/// Enters the working directory, and makes sure that it is in the container: one that was reached
/// by way of a leaked descriptor is not (CVE-2024-21626).
fn enter_cwd(cwd: &OwnedFd, path: &str) -> Result<()> {
    fchdir(cwd).during(Step::Cwd, path)?;
    let now = getcwd(Vec::new()).during(Step::Cwd, path)?;
    if !now.to_bytes().starts_with(b"/") {
        return Err(Fault::refuse(
            Step::Cwd,
            path,
            "it is outside the container",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_namespaced;

    #[test]
    fn only_parameters_of_own_namespaces() {
        for (name, private, shared) in [
            ("net.core.somaxconn", true, false),
            ("net.ipv4.ip_unprivileged_port_start", true, false),
            ("kernel.shmmax", true, true),
            ("fs.mqueue.msg_max", true, true),
            ("kernel.core_pattern", false, false),
            ("vm.overcommit_memory", false, false),
            ("net.ipv4/../../kernel/core_pattern", false, false),
            ("net...kernel.core_pattern", false, false),
            ("net.", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_namespaced(name, true), private, "{name}");
            assert_eq!(
                is_namespaced(name, false),
                shared,
                "{name} on the machine's network"
            );
        }
    }
}
