//! A machine of its own for each test: state directory, images and cgroups, all gone at the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use container::ShimSource;
use executor::{Controller, Executor as _, LogLine, LogOptions, Outcome, step};
use futures::StreamExt as _;
use image::{ImageId, ImageStore, ImportChanges};
use swarm_worker::{ContainerExecutor, Options};
use types::{
    Labels, Meta, NodeId, ServiceId, Task, TaskId, TaskSpec, TaskState, TaskStatus, Timestamp,
    Version,
};

/// The static busybox of the Debian package `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";
/// The applets the tests use.
const APPLETS: [&str; 18] = [
    "cat", "echo", "env", "false", "grep", "hostname", "id", "ip", "ls", "nc", "pwd", "seq", "sh",
    "sleep", "stat", "tail", "touch", "true",
];
/// How long anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// All output, no more than there is.
pub(crate) const ALL: LogOptions = LogOptions {
    follow: false,
    tail: None,
    since: Timestamp(0),
    stdout: true,
    stderr: true,
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A machine with an image `busybox`.
pub(crate) struct Machine {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) image: ImageId,
    options: Options,
    executor: Option<ContainerExecutor>,
    /// Holds the network the machine has for itself, if it was given one.
    network: Option<std::process::Child>,
}

impl Machine {
    /// `None`, having said why, where containers cannot be run.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("not root");
            return None;
        }
        if !Path::new(BUSYBOX).exists() {
            skip("busybox-static is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let images = ImageStore::open(&dir.path().join("images"), image::Options::default());
        let images = images.unwrap();
        let mut changes = ImportChanges::default();
        changes.config.env = vec!["FROM_IMAGE=1".to_owned()];
        changes.config.cmd = vec!["true".to_owned()];
        let name = Some("busybox".parse().unwrap());
        let image = images
            .import(&*busybox(), name, changes, &mut |_| {})
            .unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let options = Options {
            state_dir: dir.path().join("worker"),
            run_dir: dir.path().join("worker"),
            shim: ShimSource::Path(shim().to_owned()),
            cgroup_parent: format!("swarm-worker-test-{}-{number}", std::process::id()),
            datapath: None,
            key_timing: swarm_worker::KeyTiming::default(),
            images,
            hostname: "m1".to_owned(),
            engine_labels: Labels::new(),
        };
        let executor = Some(ContainerExecutor::open(options.clone()).unwrap());
        Some(Self {
            dir,
            image,
            options,
            executor,
            network: None,
        })
    }

    pub(crate) fn executor(&self) -> &ContainerExecutor {
        self.executor.as_ref().unwrap()
    }

    /// As when the daemon is restarted.
    pub(crate) fn reopen(&mut self) {
        self.executor = None;
        let options = self.options.clone();
        let open = move || ContainerExecutor::open(options).unwrap();
        self.executor = Some(self.in_network(open));
    }

    /// Gives the machine a network of its own, as otherwise it would have that of this one.
    pub(crate) fn isolate(&mut self) {
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .spawn();
        let holder = holder.unwrap();
        let path = format!("/proc/{}/ns/net", holder.id());
        while std::fs::read_link(&path).is_ok_and(|link| link == own) {
            std::thread::yield_now();
        }
        self.network = Some(holder);
        self.reopen();
    }

    /// Runs something in the machine's network.
    pub(crate) fn in_network<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let Some(holder) = &self.network else {
            return work();
        };
        let path = format!("/proc/{}/ns/net", holder.id());
        let namespace = std::fs::File::open(path).unwrap();
        let thread = std::thread::spawn(move || {
            use std::os::fd::AsFd as _;
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    pub(crate) fn controller(&self, task: &Task) -> Arc<dyn Controller> {
        self.executor().controller(Arc::new(task.clone()))
    }

    /// Directory of a task's container.
    pub(crate) fn container_dir(&self, task: &Task) -> PathBuf {
        let containers = self.options.state_dir.join("containers");
        containers.join(task.id.to_string())
    }

    /// Names of what is below a directory of the executor's.
    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.options.state_dir.join(below)).unwrap();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(|entry| name(entry.unwrap())).collect()
    }

    /// The directories of this machine's cgroups that exist, in every visible hierarchy.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .filter_map(|line| line.split(' ').nth(4))
            .map(|point| Path::new(point).join(&self.options.cgroup_parent))
            .filter(|path| path.exists())
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let executor = self.executor().clone();
        // A drop may run within an async test; removal has to wait.
        let cleared = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(executor.retain(&BTreeSet::new()))
        });
        let cleared = cleared.join();
        if let Some(holder) = &mut self.network {
            let _ = holder.kill();
            let _ = holder.wait();
        }
        if !std::thread::panicking() {
            cleared.expect("no panic").expect("all is removed");
            assert!(self.files("containers").is_empty() && self.files("records").is_empty());
            assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups are left");
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(
                !mounts.contains(self.dir.path().to_str().unwrap()),
                "mounts are left"
            );
        }
    }
}

/// Says that a test did nothing, past the capture of test output.
fn skip(reason: &str) {
    use std::io::Write as _;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("skipped: {reason} ({name})\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// A task of the service `web` that runs a shell script in the image.
pub(crate) fn sh(number: u128, script: &str) -> Task {
    let mut spec = TaskSpec::default();
    spec.container.image = "busybox".to_owned();
    spec.container.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    Task {
        id: TaskId::from_number(number),
        meta: Meta::default(),
        service_id: ServiceId::from_number(2),
        service_name: "web".to_owned(),
        slot: 4,
        node_id: Some(NodeId::from_number(3)),
        spec: Arc::new(spec),
        spec_version: Version::default(),
        status: TaskStatus {
            state: TaskState::Assigned,
            ..TaskStatus::default()
        },
        desired_state: TaskState::Running,
        attachments: vec![],
        host_ports: vec![],
    }
}

/// The same task with a changed spec.
pub(crate) fn with(mut task: Task, change: impl FnOnce(&mut TaskSpec)) -> Task {
    change(Arc::make_mut(&mut task.spec));
    task
}

/// Drives a task as an agent does until it has come to `state` or ended.
pub(crate) async fn drive(controller: &dyn Controller, task: &mut Task, state: TaskState) {
    while task.status.state < state && !task.status.state.is_terminal() {
        match in_time(step(task, controller)).await {
            Outcome::Rest => panic!("the task rests in {}", task.status.state),
            Outcome::Moved {
                state,
                message,
                err,
            } => {
                task.status = TaskStatus {
                    state,
                    message: message.to_owned(),
                    err,
                    container_status: controller.status(),
                    ..TaskStatus::default()
                };
            }
            Outcome::Retry { err } => panic!("the task is tried again: {err}"),
        }
    }
}

/// Drives a task to its end and removes what is left of it.
pub(crate) async fn run(machine: &Machine, mut task: Task) -> (TaskStatus, Vec<LogLine>) {
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Complete).await;
    let lines = in_time(lines(&*controller, ALL)).await;
    in_time(controller.remove()).await.unwrap();
    assert!(!machine.container_dir(&task).exists());
    (task.status, lines)
}

/// What a task that must complete wrote to its standard output.
pub(crate) async fn output(machine: &Machine, task: Task) -> String {
    let (status, lines) = run(machine, task).await;
    assert_eq!(status.state, TaskState::Complete, "{status:?} {lines:?}");
    texts(&lines).join("\n")
}

pub(crate) async fn lines(controller: &dyn Controller, options: LogOptions) -> Vec<LogLine> {
    let batches: Vec<_> = controller.logs(options).collect().await;
    batches.into_iter().flat_map(Result::unwrap).collect()
}

pub(crate) fn texts(lines: &[LogLine]) -> Vec<String> {
    let text = |line: &LogLine| String::from_utf8_lossy(&line.line).into_owned();
    lines.iter().map(text).collect()
}

/// Awaits with the tests' patience.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let timeout = tokio::time::timeout(PATIENCE, future);
    timeout.await.expect("it takes too long")
}

/// Awaits a condition, asking every few milliseconds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The shim, built from the same tree as these tests: cargo hands a test only the programs of its
/// own package.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let directory = own.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "swarm-shim"]);
        if directory.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the shim was not built");
        directory.join("swarm-shim")
    })
}

/// A root file system of busybox, as a tar archive.
fn busybox() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_path_with_name(BUSYBOX, "bin/busybox")
        .unwrap();
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        let path = format!("bin/{applet}");
        archive.append_link(&mut header, path, "busybox").unwrap();
    }
    let mut file = |path: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        archive
            .append_data(&mut header, path, text.as_bytes())
            .unwrap();
    };
    file(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/srv:/bin/sh\n",
    );
    file("etc/group", "root:x:0:\nweb:x:1001:\nwww:x:33:\n");
    archive.into_inner().unwrap()
}
