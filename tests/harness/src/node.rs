//! One machine of a lab: a network namespace, a pid namespace, a daemon in it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::{inside, inside_path, ip};
use crate::{LabOptions, Programs, wait_for};

/// How long a daemon may take to open its socket.
const DAEMON_START_MAX: Duration = Duration::from_secs(20);

/// A machine of a lab.
pub struct Node {
    name: String,
    namespace: String,
    hub_link: String,
    address: IpAddr,
    address_v6: Ipv6Addr,
    dir: PathBuf,
    cgroup_parent: String,
    programs: Programs,
    daemon_args: Vec<String>,
    init: Option<Init>,
}

/// The machine's first process; with it dies all that runs there.
struct Init {
    process: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Node {
    pub(crate) fn new(
        lab: &str,
        hub: &str,
        number: u8,
        address: IpAddr,
        lab_dir: &Path,
        options: &LabOptions,
    ) -> Result<Self> {
        let name = format!("n{number}");
        let dir = lab_dir.join(&name);
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let node = Self {
            namespace: format!("{lab}-{name}"),
            hub_link: format!("v{number}"),
            address,
            address_v6: crate::lab::address_v6(number),
            cgroup_parent: format!("{lab}/{name}"),
            programs: options.programs.clone(),
            daemon_args: options.daemon_args.clone(),
            name,
            dir,
            init: None,
        };
        let ns = node.namespace.as_str();
        ip(&["netns", "add", ns])?;
        ip(&[
            "-n",
            hub,
            "link",
            "add",
            &node.hub_link,
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            ns,
        ])?;
        ip(&[
            "-n",
            hub,
            "link",
            "set",
            &node.hub_link,
            "master",
            "br0",
            "up",
        ])?;
        ip(&[
            "-n",
            ns,
            "addr",
            "add",
            &format!("{address}/24"),
            "dev",
            "eth0",
        ])?;
        crate::lab::add_address_v6(ns, "eth0", node.address_v6)?;
        ip(&["-n", ns, "link", "set", "eth0", "up"])?;
        ip(&["-n", ns, "link", "set", "lo", "up"])?;
        Ok(node)
    }

    /// Host name of the machine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the hub network.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its address of the other family on the hub network; only the machine has it, daemons are
    /// not told.
    #[must_use]
    pub fn address_v6(&self) -> IpAddr {
        self.address_v6.into()
    }

    /// Does something on a thread in the machine's network namespace.
    ///
    /// # Errors
    /// What the work fails with, or when the namespace is gone.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(&self.namespace, work)
    }

    /// The same in the network namespace of a process of the machine, by its pid there.
    ///
    /// # Errors
    /// What the work fails with, or when there is no such process.
    pub fn inside_of<T: Send>(
        &self,
        pid: u32,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let init = self.pid().context("the machine is switched off")?;
        // The machine's own /proc, as its first process sees it.
        inside_path(&format!("/proc/{init}/root/proc/{pid}/ns/net"), work)
    }

    /// Its directory: `state/`, `swarmd.sock` and `swarmd.log`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of the daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("swarmd.sock")
    }

    /// The machine's first process, as the host counts it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.init.as_ref().map(|init| init.process.id())
    }

    /// Name of its network namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The cgroup its containers' cgroups lie in, from the root of each hierarchy.
    pub(crate) fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// Whether the machine is switched on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.init.is_some()
    }

    /// Switches the machine on; its daemon does not start by itself.
    ///
    /// # Errors
    /// When its first process cannot be made.
    pub fn power_on(&mut self) -> Result<()> {
        let mut process = Command::new(&self.programs.node_init)
            .args(["outer", &self.namespace, &self.name, &self.cgroup_parent])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.programs.node_init.display()))?;
        let stdin = process.stdin.take().context("its stdin was asked for")?;
        let stdout = BufReader::new(process.stdout.take().context("its stdout was asked for")?);
        self.init = Some(Init {
            process,
            pipes: Mutex::new((stdin, stdout)),
        });
        self.order("ping")?;
        Ok(())
    }

    /// Takes the power: everything on the machine ends at once, its connections included.
    pub fn power_off(&mut self) {
        if let Some(mut init) = self.init.take() {
            // The outer process waits for pid 1, whose end ends everything else there.
            drop(init.pipes);
            drop(init.process.wait());
        }
    }

    /// Pulls the network cable (`false`) or plugs it in again.
    ///
    /// # Errors
    /// When the link cannot be switched.
    pub fn plug(&self, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        ip(&["-n", &self.namespace, "link", "set", "eth0", state])
    }

    /// Sets the size of the largest packet its link to the hub takes, in bytes.
    ///
    /// # Errors
    /// When the link does not take that.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        let mtu = mtu.to_string();
        ip(&["-n", &self.namespace, "link", "set", "eth0", "mtu", &mtu])
    }

    /// Starts the daemon and waits for its socket. Returns its pid in the machine.
    ///
    /// # Errors
    /// When it is not up in time, with the end of its log.
    pub fn start_daemon(&self) -> Result<u32> {
        let pid = self.launch_daemon()?;
        wait_for("the daemon's socket", DAEMON_START_MAX, || {
            if std::os::unix::net::UnixStream::connect(self.socket()).is_ok() {
                return Ok(Ok(()));
            }
            Ok(Err(self.log_tail(5)))
        })?;
        Ok(pid)
    }

    /// Starts the daemon without waiting.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn launch_daemon(&self) -> Result<u32> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let args = [
            text(self.programs.swarmd.clone()),
            "--state-dir".into(),
            text(self.dir.join("state")),
            "--socket".into(),
            text(self.socket()),
            "--shim".into(),
            text(self.programs.shim.clone()),
            "--cgroup-parent".into(),
            self.cgroup_parent.clone(),
        ];
        let args = [&args[..], &self.daemon_args].concat();
        let log = text(self.dir.join("swarmd.log"));
        let pid = self.order(&format!("start\t{log}\t{}", args.join("\t")))?;
        pid.parse()
            .with_context(|| format!("{pid:?} should be the daemon's pid"))
    }

    /// Sends a signal to the daemon and waits until it is gone.
    ///
    /// # Errors
    /// When it is still there after 20 s.
    pub fn stop_daemon(&self, signal: i32) -> Result<()> {
        self.order(&format!("stop\t{signal}")).map(drop)
    }

    /// Sends a signal to a process of the machine, by its pid there.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, pid: u32, signal: i32) -> Result<()> {
        self.order(&format!("signal\t{pid}\t{signal}")).map(drop)
    }

    /// Pids (in the machine) of its running processes of this program name.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn pids_of(&self, program: &str) -> Result<Vec<u32>> {
        let answer = self.order(&format!("pids\t{program}"))?;
        answer
            .split_whitespace()
            .map(|pid| Ok(pid.parse()?))
            .collect()
    }

    /// Pids (in the machine) of its containers' first processes, whatever they run.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn container_pids(&self) -> Result<Vec<u32>> {
        let answer = self.order("children\tswarm-shim")?;
        answer
            .split_whitespace()
            .map(|pid| Ok(pid.parse()?))
            .collect()
    }

    /// Runs `swarmctl` against this machine's daemon and returns what it printed.
    ///
    /// # Errors
    /// When it exits with anything but 0, with what it said.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        let output = self
            .ctl_command(args)
            .output()
            .context("running swarmctl")?;
        if !output.status.success() {
            bail!(
                "swarmctl {} on {}: {}{}",
                args.join(" "),
                self.name,
                String::from_utf8_lossy(&output.stderr).trim(),
                output
                    .status
                    .code()
                    .map_or_else(String::new, |code| format!(" (exit {code})")),
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `swarmctl` aimed at this machine, to run as the caller likes.
    #[must_use]
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.swarmctl);
        command
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(args);
        command.env_remove("SWARMCTL_HOST");
        command
    }

    /// The same, parsed as JSON.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub fn ctl_json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let text = self.ctl(args)?;
        serde_json::from_str(&text).with_context(|| format!("{args:?} printed {text:?}"))
    }

    /// The last lines the daemon logged.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(self.dir.join("swarmd.log")).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Resident memory of a process of the machine, in KiB.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn memory_kib(&self, pid: u32) -> Result<u64> {
        Ok(self.order(&format!("rss\t{pid}"))?.parse()?)
    }

    /// Processor time of all processes the machine ever ran and still runs.
    ///
    /// # Errors
    /// Without the `cpuacct` controller, which accounts for a machine here.
    pub fn cpu_time(&self) -> Result<Duration> {
        let path = format!(
            "/sys/fs/cgroup/cpuacct/{}/cpuacct.usage",
            self.cgroup_parent
        );
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        Ok(Duration::from_nanos(text.trim().parse()?))
    }

    /// Sum of the proportional memory of all processes of the machine, in KiB, by program name.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn memory_by_program(&self) -> Result<std::collections::BTreeMap<String, u64>> {
        let answer = self.order("pss")?;
        let mut sums = std::collections::BTreeMap::new();
        for entry in answer.split('\t').filter(|entry| !entry.is_empty()) {
            let (name, kib) = entry.rsplit_once('=').context("name=KiB")?;
            *sums.entry(name.to_owned()).or_insert(0) += kib.parse::<u64>()?;
        }
        Ok(sums)
    }

    /// Gives pid 1 an order and returns its answer.
    fn order(&self, order: &str) -> Result<String> {
        let init = self
            .init
            .as_ref()
            .with_context(|| format!("{} is switched off", self.name))?;
        let mut pipes = init
            .pipes
            .lock()
            .expect("nobody panics while holding the pipes");
        writeln!(pipes.0, "{order}").context("ordering pid 1")?;
        pipes.0.flush()?;
        let mut answer = String::new();
        pipes
            .1
            .read_line(&mut answer)
            .context("reading pid 1's answer")?;
        match answer.trim_end_matches('\n').split_once('\t') {
            Some(("ok", rest)) => Ok(rest.to_owned()),
            Some(("error", rest)) => bail!("{}: {order:?}: {rest}", self.name),
            Some(_) | None => bail!("{}: pid 1 is gone ({answer:?})", self.name),
        }
    }

    /// Lets everything run on after the lab is gone.
    pub(crate) fn leave_running(&mut self) {
        if let Some(init) = self.init.take() {
            // Without the order, the closing pipe would switch the machine off.
            self.init = Some(init);
            drop(self.order("stay"));
            self.init = None;
        }
    }

    /// Removes the machine's network.
    pub(crate) fn remove(&self) {
        drop(ip(&["netns", "del", &self.namespace]));
    }

    /// Opens the daemon's log for appending a remark, so that a story can be followed in it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remark(&self, text: &str) -> Result<()> {
        let path = self.dir.join("swarmd.log");
        let mut log: File = OpenOptions::new().append(true).create(true).open(path)?;
        writeln!(log, "=== {text}")?;
        Ok(())
    }
}
