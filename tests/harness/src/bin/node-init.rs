//! Pid 1 of a lab's node: runs and signals the daemon on order, and reaps what is left behind.
//!
//! `outer NAMESPACE NAME CGROUP` moves into the network namespace and makes the pid namespace;
//! `inner NAME` is pid 1 in it. Orders come line by line on standard input; when it closes, the
//! machine goes off, and the kernel ends everything in it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Where the daemon keeps what must not be on disk.
const RUN_DIR: &str = "/run/swarm";
/// How long a stopped daemon may take to end.
const STOP_MAX: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["outer", namespace, name, cgroup] => outer(namespace, name, cgroup),
        ["inner", name] => inner(name),
        _ => bail!("usage: node-init outer NAMESPACE NAME CGROUP | inner NAME"),
    }
}

#[expect(
    unsafe_code,
    reason = "unsharing is unsafe in rustix's eyes; one thread, no descriptors"
)]
fn outer(namespace: &str, name: &str, cgroup: &str) -> Result<()> {
    // Best effort: it only serves to measure processor time.
    let dir = format!("/sys/fs/cgroup/cpuacct/{cgroup}");
    if std::fs::create_dir_all(&dir).is_ok() {
        drop(std::fs::write(
            format!("{dir}/cgroup.procs"),
            std::process::id().to_string(),
        ));
    }
    let path = format!("/run/netns/{namespace}");
    let file = std::fs::File::open(&path).with_context(|| format!("opening {path}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("moving into {path}"))?;
    // SAFETY: there is one thread, and no file descriptor table is unshared.
    unsafe {
        rustix::thread::unshare_unsafe(
            UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWUTS,
        )
    }
    .context("making namespaces")?;
    // The first child of a process that unshared its pid namespace is pid 1 there.
    let status = Command::new(std::env::current_exe()?)
        .args(["inner", name])
        .status()?;
    std::process::exit(status.code().unwrap_or(0));
}

fn inner(name: &str) -> Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::system::sethostname(name.as_bytes())?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::empty(),
        None::<&std::ffi::CStr>,
    )
    .context("mounting /proc")?;
    // As on a real machine, it is empty after a reboot.
    std::fs::create_dir_all(RUN_DIR).context("making /run/swarm")?;
    mount(
        "tmpfs",
        RUN_DIR,
        "tmpfs",
        MountFlags::empty(),
        None::<&std::ffi::CStr>,
    )
    .context("mounting /run/swarm")?;
    let init = Init::default();
    let reaped = init.reaped.clone();
    std::thread::spawn(move || reap(&reaped));
    init.serve()
}

/// Ends of processes by pid; `None` while one runs that was started here.
type Reaped = Arc<Mutex<HashMap<u32, bool>>>;

fn reap(reaped: &Reaped) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) => {
                let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0);
                if let Some(ended) = reaped.lock().expect("no panic while held").get_mut(&pid) {
                    *ended = true;
                }
            }
            // No children: nothing wakes us when one appears, so look again.
            Ok(None) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[derive(Default)]
struct Init {
    daemon: Mutex<Option<u32>>,
    reaped: Reaped,
}

impl Init {
    fn serve(&self) -> Result<()> {
        let mut stay = false;
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            if line == "stay" {
                stay = true;
            }
            let answer = match self.obey(&line) {
                Ok(answer) => format!("ok\t{answer}"),
                Err(error) => format!("error\t{error:#}").replace('\n', "; "),
            };
            writeln!(std::io::stdout(), "{answer}")?;
            std::io::stdout().flush()?;
        }
        if !stay {
            return Ok(());
        }
        loop {
            std::thread::park();
        }
    }

    fn obey(&self, line: &str) -> Result<String> {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["ping" | "stay"] => Ok(String::new()),
            ["start", log, program, ref args @ ..] => self.start(log, program, args),
            ["stop", signal] => self.stop(signal.parse()?),
            ["signal", pid, signal] => {
                send(pid.parse()?, signal.parse()?)?;
                Ok(String::new())
            }
            ["pids", name] => {
                let pids = processes().filter(|(_, program)| program == name);
                Ok(pids
                    .map(|(pid, _)| pid.to_string())
                    .collect::<Vec<_>>()
                    .join(" "))
            }
            ["children", name] => {
                let parents: Vec<u32> = processes()
                    .filter(|(_, program)| program == name)
                    .map(|(pid, _)| pid)
                    .collect();
                let ours = processes()
                    .map(|(pid, _)| pid)
                    .filter(|pid| parent(*pid).is_ok_and(|parent| parents.contains(&parent)));
                Ok(ours
                    .map(|pid| pid.to_string())
                    .collect::<Vec<_>>()
                    .join(" "))
            }
            ["rss", pid] => kib(&format!("/proc/{pid}/status"), "VmRSS:").map(|k| k.to_string()),
            ["pss"] => Ok(processes()
                .filter_map(|(pid, name)| {
                    let kib = kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:").ok()?;
                    Some(format!("{name}={kib}"))
                })
                .collect::<Vec<_>>()
                .join("\t")),
            _ => bail!("unknown order {line:?}"),
        }
    }

    fn start(&self, log: &str, program: &str, args: &[&str]) -> Result<String> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context(log.to_owned())?;
        // Holding the table keeps the reaper from taking a quick end before it is expected.
        let mut reaped = self.reaped.lock().expect("no panic while held");
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("running {program}"))?;
        let pid = child.id();
        reaped.insert(pid, false);
        *self.daemon.lock().expect("no panic while held") = Some(pid);
        Ok(pid.to_string())
    }

    fn stop(&self, signal: i32) -> Result<String> {
        let pid = self.daemon.lock().expect("no panic while held").take();
        let pid = pid.context("no daemon was started")?;
        let ended = || self.reaped.lock().expect("no panic while held").get(&pid) == Some(&true);
        if !ended() {
            send(pid, signal)?;
        }
        let start = Instant::now();
        while !ended() {
            if start.elapsed() > STOP_MAX {
                bail!("the daemon (pid {pid}) did not end within {STOP_MAX:?} of signal {signal}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(String::new())
    }
}

fn send(pid: u32, signal: i32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("pid 0 is nobody")?;
    let signal = Signal::from_named_raw(signal).context("not a signal")?;
    rustix::process::kill_process(pid, signal).with_context(|| format!("signalling {pid:?}"))
}

fn processes() -> impl Iterator<Item = (u32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let state = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let zombie = state
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'));
        (!zombie).then(|| (pid, name.trim_end().to_owned()))
    })
}

fn parent(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .context("no such field")?;
    Ok(line.trim().parse()?)
}

fn kib(path: &str, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let line = text
        .lines()
        .find(|line| line.starts_with(field))
        .context("no such field")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .context("no value")?
        .parse()?)
}
