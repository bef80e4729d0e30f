//! A place to run containers in: state directory, cgroups and image of its own, all gone at the end.

use container::log::{Reader, Start, Stream};
use container::spec::ContainerSpec;
use container::{Container, Error, ExitStatus, Runtime, RuntimeOptions, ShimSource};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The static busybox of the Debian package `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// The applets the tests use.
const APPLETS: [&str; 33] = [
    "cat", "chmod", "dd", "df", "echo", "env", "false", "find", "grep", "head", "hostname", "id",
    "kill", "ln", "ls", "mkdir", "mknod", "mount", "nproc", "ps", "pwd", "readlink", "rm", "sed",
    "seq", "sh", "sleep", "sort", "stat", "tail", "touch", "true", "tr",
];

/// How long anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A place to run containers in.
pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    pub(crate) options: RuntimeOptions,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) image: PathBuf,
}

/// One run of a container, from creation to removal.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Host {
    /// `None`, having said why, where containers cannot be run.
    pub(crate) fn new() -> Option<Self> {
        if !is_root() {
            skip("not root");
            return None;
        }
        if !Path::new(BUSYBOX).exists() {
            skip("busybox-static not installed");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let image = dir.path().join("image");
        make_image(&image);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let options = RuntimeOptions {
            shim: ShimSource::Path(env!("CARGO_BIN_EXE_swarm-shim").into()),
            state_dir: dir.path().join("state"),
            cgroup_parent: format!("swarm-test-{}-{number}", std::process::id()),
        };
        let runtime = Runtime::new(options.clone()).expect("a runtime");
        Some(Self {
            runtime,
            options,
            dir,
            image,
        })
    }

    /// A specification that runs a shell script in the image.
    pub(crate) fn sh(&self, script: &str) -> ContainerSpec {
        self.command(&["sh", "-c", script])
    }

    /// A specification that runs a program of the image.
    pub(crate) fn command(&self, args: &[&str]) -> ContainerSpec {
        ContainerSpec {
            layers: vec![self.image.clone()],
            args: args.iter().map(|arg| String::from(*arg)).collect(),
            ..ContainerSpec::default()
        }
    }

    /// Creates, starts, awaits and removes a container.
    pub(crate) async fn run(&self, spec: &ContainerSpec) -> Run {
        self.try_run(spec).await.expect("the container runs")
    }

    /// Like [`Self::run`]; a failure to create or start is returned.
    pub(crate) async fn try_run(&self, spec: &ContainerSpec) -> Result<Run, Error> {
        let id = format!("run-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let container = in_time(self.runtime.create(&id, spec)).await?;
        let started = in_time(container.start()).await;
        let status = in_time(container.wait()).await?;
        let log = |stream| read_log(&container.log_dir(), stream);
        let run = Run {
            status,
            stdout: log(Stream::Stdout),
            stderr: log(Stream::Stderr),
        };
        in_time(container.remove()).await?;
        started.map(|()| run)
    }

    /// Creates and starts a container that stays.
    pub(crate) async fn start(&self, id: &str, spec: &ContainerSpec) -> Container {
        let container = in_time(self.runtime.create(id, spec))
            .await
            .expect("it is created");
        in_time(container.start()).await.expect("it starts");
        container
    }

    /// The directories of this host's cgroups that exist, in every visible hierarchy.
    pub(crate) fn cgroups(&self, below: &str) -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        mounts
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .filter_map(|line| line.split(' ').nth(4))
            .map(|point| {
                Path::new(point)
                    .join(&self.options.cgroup_parent)
                    .join(below)
            })
            .filter(|path| path.exists())
            .collect()
    }

    /// Whether any mount of the machine is below this host's directory.
    pub(crate) fn has_mounts(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        mounts.contains(self.dir.path().to_str().expect("a plain path"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let runtime = self.runtime.clone();
        // A drop may run within an async test; removal has to wait.
        let cleared = std::thread::spawn(move || {
            let executor = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            executor.expect("an executor").block_on(async {
                for id in runtime.list().expect("containers") {
                    let container = runtime.attach(&id).await.expect("attached");
                    container
                        .expect("it is there")
                        .remove()
                        .await
                        .expect("removed");
                }
            });
            runtime.remove_cgroup_parent()
        });
        let cleared = cleared.join();
        if !std::thread::panicking() {
            cleared.expect("cleared").expect("the parent cgroup goes");
            assert_eq!(self.cgroups(""), Vec::<PathBuf>::new(), "cgroups are left");
            assert!(!self.has_mounts(), "mounts are left");
        }
    }
}

/// Set to the name of the test in the copy of this process that has the changed mounts.
const INSIDE: &str = "SWARM_TEST_INSIDE";

/// For tests of a machine whose mounts look different: runs this process again, for the named test
/// only, in a mount namespace changed by the script, and checks that it passed. Returns whether this
/// is that copy.
pub(crate) fn is_inside(test: &str, mounts: &str) -> bool {
    if std::env::var(INSIDE).as_deref() == Ok(test) {
        return true;
    }
    if !is_root() {
        skip("not root");
        return false;
    }
    let executable = std::env::current_exe().expect("this test's program");
    let script = format!(
        "set -e; mount --make-rprivate /; {{ {mounts}; }} || exit 77; exec \"$0\" --exact \"$1\" --nocapture"
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(executable)
        .arg(test)
        .env(INSIDE, test)
        .output()
        .expect("unshare runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.code() == Some(77) {
        skip(&format!(
            "the mounts cannot be made here: {}",
            text(&output.stderr).trim()
        ));
        return false;
    }
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    false
}

/// Says on the terminal that a test did nothing, past the capture of test output.
pub(crate) fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stdout().write_all(format!("skipped: {reason} ({name})\n").as_bytes());
}

pub(crate) fn is_root() -> bool {
    // The owner of one's own processes directory is the effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// What was logged on a stream, as text.
pub(crate) fn read_log(dir: &Path, stream: Stream) -> String {
    let mut reader = Reader::open(dir, Start::Oldest, 0).expect("a log");
    let mut text = Vec::new();
    while let Some(record) = reader.next().expect("a readable log") {
        if record.stream == stream {
            text.extend_from_slice(&record.text);
            if !record.partial {
                text.push(b'\n');
            }
        }
    }
    String::from_utf8(text).expect("text")
}

/// Awaits with the tests' patience.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

/// Awaits a condition, asking every few milliseconds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes an image of busybox.
pub(crate) fn make_image(image: &Path) {
    std::fs::create_dir_all(image.join("bin")).expect("bin");
    std::fs::create_dir_all(image.join("etc")).expect("etc");
    std::fs::copy(BUSYBOX, image.join("bin/busybox")).expect("busybox");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).expect("an applet");
    }
    std::fs::write(
        image.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/srv:/bin/sh\n",
    )
    .expect("passwd");
    std::fs::write(
        image.join("etc/group"),
        "root:x:0:\nweb:x:1001:\nwww:x:33:web\n",
    )
    .expect("group");
}
