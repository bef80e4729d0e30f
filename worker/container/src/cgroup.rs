//! The container's control groups: made, limited, entered, asked about memory kills, removed.
//!
//! Version 1 and 2 are both whole: a machine has one or the other, and some still have version 1
//! with an empty version 2 beside it ("hybrid"), which counts as version 1 here.

mod device;
mod hierarchy;
mod v1;
mod v2;

pub(crate) use hierarchy::{Hierarchies, View};

use crate::error::{During, Fault, Result, Step};
use crate::spec::Resources;
use hierarchy::Version;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Smallest memory limit, in bytes: Docker's; below it a container cannot even start.
const MEMORY_BYTES_MIN: u64 = 6 << 20;
/// How long the processes of a killed cgroup have to be gone.
const KILL_MAX: Duration = Duration::from_secs(5);
/// How often to look.
const KILL_POLL: Duration = Duration::from_millis(2);

/// One container's cgroups: with version 1 one in each hierarchy that is used, with version 2 one.
#[derive(Debug)]
pub(crate) struct Cgroup {
    version: Version,
    members: Vec<Member>,
}

/// The container's directory in one hierarchy.
#[derive(Debug)]
struct Member {
    /// What controls this hierarchy; empty for version 2.
    controllers: Vec<String>,
    /// The directory it was made in.
    parent: OwnedFd,
    /// Its name there.
    name: String,
    /// The directory.
    dir: OwnedFd,
}

impl Cgroup {
    /// Makes the cgroups of a container below `parent` and sets their limits.
    pub(crate) fn create(
        hierarchies: &Hierarchies,
        parent: &str,
        id: &str,
        resources: &Resources,
    ) -> Result<Self> {
        check_limits(resources)?;
        let mut cgroup = Self {
            version: hierarchies.version,
            members: Vec::new(),
        };
        match cgroup.fill(hierarchies, parent, id, resources) {
            Ok(()) => Ok(cgroup),
            Err(fault) => {
                // The fault that matters is the first one.
                let _ = cgroup.remove();
                Err(fault)
            }
        }
    }

    fn fill(
        &mut self,
        hierarchies: &Hierarchies,
        parent: &str,
        id: &str,
        resources: &Resources,
    ) -> Result<()> {
        for hierarchy in &hierarchies.hierarchies {
            let subject = || format!("{parent}/{id} of {hierarchy}");
            let parent_dir = hierarchy.make_parent(parent)?;
            if self.version == Version::V2 {
                v2::enable_controllers(hierarchy, parent, resources)?;
            }
            mkdirat(&parent_dir, id, Mode::from_raw_mode(0o755)).during(Step::Cgroup, subject())?;
            let dir = open_dir(&parent_dir, id).during(Step::Cgroup, subject())?;
            self.members.push(Member {
                controllers: hierarchy.controllers.clone(),
                parent: parent_dir,
                name: id.to_owned(),
                dir,
            });
        }
        match self.version {
            Version::V1 => v1::limit(self, resources),
            Version::V2 => v2::limit(self, resources),
        }
    }

    /// Opens the cgroups a container has left; `None` when it has none.
    #[cfg(feature = "client")]
    pub(crate) fn open(hierarchies: &Hierarchies, parent: &str, id: &str) -> Result<Option<Self>> {
        let mut members = Vec::new();
        for hierarchy in &hierarchies.hierarchies {
            let subject = || format!("{parent}/{id} of {hierarchy}");
            let Some(parent_dir) = hierarchy.open_parent(parent)? else {
                continue;
            };
            match open_dir(&parent_dir, id) {
                Ok(dir) => members.push(Member {
                    controllers: hierarchy.controllers.clone(),
                    parent: parent_dir,
                    name: id.to_owned(),
                    dir,
                }),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(Fault::errno(Step::Cgroup, subject(), errno)),
            }
        }
        let version = hierarchies.version;
        Ok((!members.is_empty()).then_some(Self { version, members }))
    }

    /// The directory a process can be born in; only version 2 has such.
    pub(crate) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        match self.version {
            Version::V1 => None,
            Version::V2 => self.members.first().map(|member| member.dir.as_fd()),
        }
    }

    /// Moves a process in, unless it was born there.
    ///
    /// With version 1 the kernel may take some milliseconds for it, all asleep (it waits until no
    /// processor is within a fork), so the caller does well to have the process do other things.
    pub(crate) fn admit(&self, pid: i32) -> Result<()> {
        match self.version {
            Version::V1 => {
                for member in &self.members {
                    member.write("cgroup.procs", pid, Step::EnterCgroup)?;
                }
                Ok(())
            }
            Version::V2 => Ok(()),
        }
    }

    /// How many processes were killed for want of memory so far.
    pub(crate) fn oom_kills(&self) -> u64 {
        let (controller, file) = match self.version {
            Version::V1 => ("memory", "memory.oom_control"),
            Version::V2 => ("", "memory.events"),
        };
        // Kernels before 4.13 and cgroups without the controller do not count; that reads as none.
        self.member(controller)
            .and_then(|member| member.read(file).ok())
            .and_then(|text| number_after(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// Kills every process in it and waits until they are gone.
    pub(crate) fn kill(&self) -> Result<()> {
        if self.pids()?.is_empty() {
            return Ok(());
        }
        let mut waited = Duration::ZERO;
        loop {
            self.kill_once()?;
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            if waited >= KILL_MAX {
                let left = format!("{} processes do not end", pids.len());
                return Err(Fault::refuse(Step::Cgroup, &self.members[0].name, left));
            }
            std::thread::sleep(KILL_POLL);
            waited += KILL_POLL;
        }
    }

    fn kill_once(&self) -> Result<()> {
        if self.version == Version::V2 {
            match self.members[0].write("cgroup.kill", "1", Step::Cgroup) {
                // Kernels before 5.14 have no such file.
                Err(fault) if fault.errno == Some(libc::ENOENT) => {}
                result => return result,
            }
        }
        // Freezing keeps a process from forking faster than it is looked for.
        self.freeze(true);
        for pid in self.pids()? {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        self.freeze(false);
        Ok(())
    }

    /// Best effort: killing works without it, if less surely.
    fn freeze(&self, frozen: bool) {
        let (controller, file, value) = match (self.version, frozen) {
            (Version::V1, true) => ("freezer", "freezer.state", "FROZEN"),
            (Version::V1, false) => ("freezer", "freezer.state", "THAWED"),
            (Version::V2, true) => ("", "cgroup.freeze", "1"),
            (Version::V2, false) => ("", "cgroup.freeze", "0"),
        };
        if let Some(member) = self.member(controller) {
            let _ = member.write(file, value, Step::Cgroup);
        }
    }

    fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for member in &self.members {
            match member.read("cgroup.procs") {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(Fault::errno(Step::Cgroup, &member.name, errno)),
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Removes the cgroups; whoever is still in them is killed.
    pub(crate) fn remove(&self) -> Result<()> {
        for member in &self.members {
            let mut waited = Duration::ZERO;
            loop {
                match unlinkat(&member.parent, member.name.as_str(), AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => break,
                    Err(Errno::BUSY) if waited < KILL_MAX => {
                        // The last process may not be fully gone, or the container has made
                        // cgroups of its own below.
                        self.kill()?;
                        remove_children(&member.dir);
                        std::thread::sleep(KILL_POLL);
                        waited += KILL_POLL;
                    }
                    Err(errno) => {
                        let subject = format!("{} of {:?}", member.name, member.controllers);
                        return Err(Fault::errno(Step::Cgroup, subject, errno));
                    }
                }
            }
        }
        Ok(())
    }

    fn member(&self, controller: &str) -> Option<&Member> {
        match self.version {
            Version::V1 => self.members.iter().find(|member| member.has(controller)),
            Version::V2 => self.members.first(),
        }
    }
}

impl Member {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }

    fn write(&self, file: &str, value: impl std::fmt::Display, step: Step) -> Result<()> {
        write_file(&self.dir, file, &value.to_string())
            .during(step, format!("{}/{file} to {value}", self.name))
    }

    fn read(&self, file: &str) -> rustix::io::Result<String> {
        read_file(&self.dir, file)
    }
}

fn check_limits(resources: &Resources) -> Result<()> {
    let refuse = |subject: &str, reason: String| Err(Fault::refuse(Step::Cgroup, subject, reason));
    match resources.memory_bytes {
        Some(bytes) if bytes < MEMORY_BYTES_MIN => {
            return refuse(
                "memory limit",
                format!("{bytes} is less than {MEMORY_BYTES_MIN} bytes"),
            );
        }
        Some(_) | None => {}
    }
    if let (Some(both), memory) = (resources.memory_and_swap_bytes, resources.memory_bytes)
        && memory.is_none_or(|memory| both < memory)
    {
        return refuse(
            "swap limit",
            String::from("it needs a memory limit that is not above it"),
        );
    }
    if let Some(cpu) = resources.cpu
        && (cpu.quota_us < 1000 || !(1000..=1_000_000).contains(&cpu.period_us))
    {
        let reason = format!(
            "{} us in every {} us is out of range",
            cpu.quota_us, cpu.period_us
        );
        return refuse("cpu quota", reason);
    }
    Ok(())
}

fn open_dir(parent: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn write_file(dir: impl AsFd, name: &str, value: &str) -> rustix::io::Result<()> {
    let file = openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // A control file takes its value in one write or refuses it.
    std::fs::File::from(file)
        .write_all(value.as_bytes())
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn read_file(dir: impl AsFd, name: &str) -> rustix::io::Result<String> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    std::fs::File::from(file)
        .read_to_string(&mut text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(text)
}

/// Removes the cgroups a container has made within its own, deepest first. Best effort.
fn remove_children(dir: &OwnedFd) {
    let Ok(entries) = rustix::fs::Dir::read_from(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if entry.file_type() == rustix::fs::FileType::Directory
            && !matches!(name.to_bytes(), b"." | b"..")
            && let Ok(child) = openat(
                dir,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
        {
            remove_children(&child);
            let _ = unlinkat(dir, name, AtFlags::REMOVEDIR);
        }
    }
}

/// The number in the line `key number`.
fn number_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::CpuQuota;

    #[test]
    fn oom_kills_are_read_from_either_version() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let v2 = "low 0\nhigh 0\nmax 9\noom 4\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(number_after(v1, "oom_kill"), Some(3));
        assert_eq!(number_after(v2, "oom_kill"), Some(2));
        assert_eq!(number_after("oom_kill_disable 0\n", "oom_kill"), None);
    }

    #[test]
    fn absurd_limits_are_refused() {
        let none = Resources::default();
        let memory = |bytes| Resources {
            memory_bytes: Some(bytes),
            ..Resources::default()
        };
        let cpu = |quota_us, period_us| Resources {
            cpu: Some(CpuQuota {
                quota_us,
                period_us,
            }),
            ..Resources::default()
        };
        let swap = |memory_bytes, both| Resources {
            memory_bytes,
            memory_and_swap_bytes: Some(both),
            ..Resources::default()
        };
        for (resources, fine) in [
            (none, true),
            (memory(6 << 20), true),
            (memory((6 << 20) - 1), false),
            (memory(0), false),
            (cpu(1000, 100_000), true),
            (cpu(999, 100_000), false),
            (cpu(1000, 1_000_001), false),
            (swap(Some(8 << 20), 8 << 20), true),
            (swap(Some(8 << 20), 7 << 20), false),
            (swap(None, 8 << 20), false),
        ] {
            assert_eq!(check_limits(&resources).is_ok(), fine, "{resources:?}");
        }
    }

    #[test]
    fn nano_cpus_become_a_quota() {
        for (nano_cpus, quota_us) in [
            (1_000_000_000, 100_000),
            (500_000_000, 50_000),
            (2_500_000_000, 250_000),
            (1, 1000),
        ] {
            assert_eq!(CpuQuota::from_nano_cpus(nano_cpus).quota_us, quota_us);
        }
    }
}
