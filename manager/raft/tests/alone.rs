//! A member on its own: restarts, keys, damage, a full disk, and being killed while it writes.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use swarm_raft::{
    BackendKind, BoxError, Condition, DataKey, Dialer, Error, Options, Raft, StateMachine,
};
use tonic::transport::Channel;

const BOTH: [BackendKind; 2] = [BackendKind::Sled, BackendKind::Redb];

/// Remembers the numbers it was given.
#[derive(Default)]
struct Numbers(Mutex<Vec<u64>>);

impl Numbers {
    fn all(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }
}

fn number(data: &[u8]) -> u64 {
    u64::from_be_bytes(data[..8].try_into().unwrap())
}

impl StateMachine for Numbers {
    fn apply(&self, _: u64, data: &[u8]) -> Vec<u8> {
        self.0.lock().unwrap().push(number(data));
        Vec::new()
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let numbers = self.all();
        Box::new(move || numbers.into_iter().flat_map(u64::to_be_bytes).collect())
    }

    fn restore(&self, _: u64, data: &[u8]) -> Result<(), BoxError> {
        *self.0.lock().unwrap() = data.chunks(8).map(number).collect();
        Ok(())
    }
}

/// There is nobody else.
struct Nobody;

#[async_trait::async_trait]
impl Dialer for Nobody {
    async fn dial(&self, addr: &str) -> Result<Channel, BoxError> {
        Err(format!("nobody is at {addr}").into())
    }
}

fn options(backend: BackendKind, dir: &Path) -> Options {
    let mut options = Options::new(dir.join("raft"), 7, DataKey::new([1; 32]));
    options.backend = backend;
    options
}

async fn start(options: Options) -> Result<(Raft, Arc<Numbers>), Error> {
    let numbers = Arc::new(Numbers::default());
    let raft = Raft::start(options, numbers.clone(), Arc::new(Nobody)).await?;
    Ok((raft, numbers))
}

async fn propose(raft: &Raft, numbers: std::ops::Range<u64>) {
    for n in numbers {
        raft.propose(n.to_be_bytes().to_vec()).await.unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn with_both<F: Future<Output = ()>>(test: impl Fn(BackendKind, std::path::PathBuf) -> F) {
    let runtime = runtime();
    for backend in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let test = test(backend, dir.path().to_owned());
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), test)
                .await
                .expect("the test hangs");
        });
    }
}

#[test]
fn it_leads_again_at_once_with_everything() {
    with_both(|backend, dir| async move {
        let (raft, _) = start(options(backend, &dir)).await.unwrap();
        assert!(!raft.is_initialized().await.unwrap());
        raft.bootstrap("127.0.0.1:1").await.unwrap();
        assert!(raft.is_initialized().await.unwrap());
        assert!(raft.status().borrow().is_leader);
        let twice = raft.bootstrap("127.0.0.1:1").await;
        assert!(matches!(twice, Err(Error::AlreadyInitialized)), "{twice:?}");
        propose(&raft, 0..200).await;
        raft.shutdown().await;

        let mut moved = options(backend, &dir);
        moved.member_id = 8;
        let asked = Instant::now();
        let (raft, numbers) = start(moved).await.unwrap();
        let took = asked.elapsed();
        println!("restart: {} ms", took.as_millis());
        assert!(took < Duration::from_millis(400), "{took:?}");
        assert!(raft.status().borrow().is_leader);
        assert_eq!(raft.member_id(), 7, "the id is the directory's");
        assert_eq!(numbers.all(), (0..200).collect::<Vec<_>>());
        raft.read_barrier().await.unwrap();
        propose(&raft, 200..201).await;
        raft.shutdown().await;
    });
}

#[test]
fn a_log_with_snapshots_comes_back() {
    with_both(|backend, dir| async move {
        let mut options = options(backend, &dir);
        options.snapshot_interval = 50;
        options.snapshot_keep_entries = 5;
        let (raft, _) = start(options.clone()).await.unwrap();
        raft.bootstrap("127.0.0.1:1").await.unwrap();
        propose(&raft, 0..333).await;
        raft.shutdown().await;
        assert!(options.dir.join("snapshot").exists());
        for _ in 0..2 {
            let (raft, numbers) = start(options.clone()).await.unwrap();
            assert_eq!(numbers.all(), (0..333).collect::<Vec<_>>());
            raft.shutdown().await;
        }
    });
}

#[test]
fn a_rotated_key_is_the_only_one() {
    with_both(|backend, dir| async move {
        let old = options(backend, &dir);
        let (raft, _) = start(old.clone()).await.unwrap();
        raft.bootstrap("127.0.0.1:1").await.unwrap();
        propose(&raft, 0..20).await;
        raft.snapshot_now().await.unwrap();
        while !old.dir.join("snapshot").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        propose(&raft, 20..40).await;
        let new_key = DataKey::new([2; 32]);
        raft.rotate_key(new_key.clone()).await.unwrap();
        propose(&raft, 40..60).await;
        raft.shutdown().await;

        let refused = start(old.clone()).await.err();
        assert!(
            matches!(refused, Some(Error::WrongKey { .. })),
            "{refused:?}"
        );
        let mut new = old.clone();
        new.key = new_key.clone();
        let (raft, numbers) = start(new).await.unwrap();
        assert_eq!(numbers.all(), (0..60).collect::<Vec<_>>());
        raft.shutdown().await;

        // A crash in the middle of the next rotation: both keys are given.
        let mut between = old;
        between.key = new_key;
        between.pending_key = Some(DataKey::new([3; 32]));
        let (raft, numbers) = start(between.clone()).await.unwrap();
        assert_eq!(numbers.all().len(), 60);
        propose(&raft, 60..61).await;
        raft.rotate_key(DataKey::new([3; 32])).await.unwrap();
        raft.shutdown().await;
        between.key = DataKey::new([3; 32]);
        between.pending_key = None;
        let (raft, numbers) = start(between).await.unwrap();
        assert_eq!(numbers.all().len(), 61);
        raft.shutdown().await;
    });
}

/// Copies a directory as a crash at this moment would leave it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

#[test]
fn a_crash_at_each_step_of_a_rotation_leaves_a_member_that_starts() {
    with_both(|backend, dir| async move {
        let old = options(backend, &dir);
        let (raft, _) = start(old.clone()).await.unwrap();
        raft.bootstrap("127.0.0.1:1").await.unwrap();
        propose(&raft, 0..20).await;
        raft.snapshot_now().await.unwrap();
        while !old.dir.join("snapshot").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        propose(&raft, 20..40).await;
        let crashes: Arc<Mutex<Vec<&str>>> = Arc::default();
        let told = {
            let (crashes, from, to) = (crashes.clone(), old.dir.clone(), dir.clone());
            move |step| {
                let mut crashes = crashes.lock().unwrap();
                copy(&from, &to.join(format!("crash{}/raft", crashes.len())));
                crashes.push(step);
            }
        };
        let new_key = DataKey::new([2; 32]);
        raft.rotate_key_telling(new_key.clone(), Arc::new(told))
            .await
            .unwrap();
        raft.shutdown().await;

        let crashes = crashes.lock().unwrap().clone();
        assert!(crashes.len() >= 10, "{crashes:?}");
        for (number, step) in crashes.iter().enumerate() {
            let mut between = options(backend, &dir.join(format!("crash{number}")));
            between.pending_key = Some(new_key.clone());
            let (raft, numbers) = start(between.clone())
                .await
                .unwrap_or_else(|error| panic!("after {step:?}: {error}"));
            assert_eq!(numbers.all(), (0..40).collect::<Vec<_>>(), "after {step:?}");
            raft.rotate_key(new_key.clone()).await.unwrap();
            propose(&raft, 40..41).await;
            raft.shutdown().await;
            between.key = new_key.clone();
            between.pending_key = None;
            let (raft, numbers) = start(between).await.unwrap();
            assert_eq!(numbers.all().len(), 41, "after {step:?}");
            raft.shutdown().await;
        }
    });
}

#[test]
fn a_directory_has_one_owner() {
    with_both(|backend, dir| async move {
        let (raft, _) = start(options(backend, &dir)).await.unwrap();
        raft.bootstrap("127.0.0.1:1").await.unwrap();
        let second = start(options(backend, &dir)).await.err();
        assert!(matches!(second, Some(Error::InUse { .. })), "{second:?}");
        propose(&raft, 0..1).await;
        raft.shutdown().await;
        let (raft, numbers) = start(options(backend, &dir)).await.unwrap();
        assert_eq!(numbers.all(), [0]);
        raft.shutdown().await;
    });
}

#[test]
fn a_damaged_snapshot_is_named() {
    with_both(|backend, dir| async move {
        let options = options(backend, &dir);
        let (raft, _) = start(options.clone()).await.unwrap();
        raft.bootstrap("127.0.0.1:1").await.unwrap();
        propose(&raft, 0..20).await;
        raft.snapshot_now().await.unwrap();
        let path = options.dir.join("snapshot");
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        raft.shutdown().await;
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        match start(options.clone()).await.err() {
            Some(Error::Corrupt { record, .. }) => assert_eq!(record, "snapshot"),
            other => panic!("{other:?}"),
        }
        // Nothing was changed: the same again, and the files are free.
        assert!(matches!(
            start(options).await.err(),
            Some(Error::Corrupt { .. })
        ));
    });
}

/// A small file system of its own, gone again when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> rustix::io::Result<Self> {
        let dir = tempfile::tempdir().unwrap();
        let data = std::ffi::CString::new(format!("size={size}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, data.as_c_str())?;
        Ok(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(self.0.path(), flags).ok();
    }
}

#[test]
fn a_full_disk_stops_the_member_and_loses_nothing() {
    with_both(|backend, _| async move {
        let disk = match SmallDisk::new("6m") {
            Ok(disk) => disk,
            Err(rustix::io::Errno::PERM) => return eprintln!("skipped: mounting needs root"),
            Err(error) => panic!("{error}"),
        };
        let options = options(backend, disk.0.path());
        let (raft, numbers) = start(options.clone()).await.unwrap();
        raft.bootstrap("127.0.0.1:1").await.unwrap();
        let mut acked = 0;
        let error = loop {
            let mut data = acked_bytes(acked);
            data.resize(20_000, 0);
            match raft.propose(data).await {
                Ok(_) => acked += 1,
                Err(error) => break error,
            }
            assert!(acked < 1_000, "the disk is never full");
        };
        assert!(acked > 50, "full after {acked}: {error}");
        println!("{backend:?}: full after {acked}: {error}");
        let mut status = raft.status();
        let failed = status.wait_for(|s| matches!(s.condition, Condition::Failed { .. }));
        let failed = tokio::time::timeout(Duration::from_secs(10), failed).await;
        let failed = failed
            .expect("the failure is not told")
            .unwrap()
            .condition
            .clone();
        assert!(
            format!("{failed:?}").contains("No space left on device"),
            "{failed:?}"
        );
        assert!(matches!(
            raft.propose(vec![0; 8]).await,
            Err(Error::Failed { .. })
        ));
        assert!(numbers.all().len() as u64 >= acked);
        raft.shutdown().await;

        // With room again everything that was acknowledged is there.
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount_remount(disk.0.path(), flags, c"size=64m").unwrap();
        let (raft, numbers) = start(options).await.unwrap();
        assert_eq!(
            numbers.all()[..usize::try_from(acked).unwrap()],
            (0..acked).collect::<Vec<_>>()
        );
        raft.shutdown().await;
    });
}

fn acked_bytes(n: u64) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

const CHILD_DIR: &str = "SWARM_RAFT_TEST_DIR";
const CHILD_BACKEND: &str = "SWARM_RAFT_TEST_BACKEND";

/// Not a test: what `nothing_acknowledged_is_lost_when_killed` runs and kills. Says how many numbers
/// it found, then every number that was acknowledged.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let backend = match std::env::var(CHILD_BACKEND).unwrap().as_str() {
        "Sled" => BackendKind::Sled,
        _ => BackendKind::Redb,
    };
    runtime().block_on(async {
        let mut options = options(backend, Path::new(&dir));
        // Small enough that snapshots and purges are in progress when the kill comes.
        options.snapshot_interval = 100;
        options.snapshot_keep_entries = 10;
        let (raft, numbers) = start(options).await.unwrap();
        if !raft.is_initialized().await.unwrap() {
            raft.bootstrap("127.0.0.1:1").await.unwrap();
        }
        let found = numbers.all();
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "a hole");
        say("found", found.len() as u64);
        for n in found.len() as u64.. {
            let mut data = acked_bytes(n);
            // Some entries are too large for one value of sled.
            data.resize(if n % 10 == 0 { 20_000 } else { 500 }, 0);
            raft.propose(data).await.unwrap();
            say("acked", n);
        }
    });
}

fn say(what: &str, n: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {n}").unwrap();
    out.flush().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_when_killed() {
    for backend in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let mut acked: Option<u64> = None;
        // Different places in the snapshot and purge cycle.
        for (round, writes) in [37, 150, 1, 263, 90, 411, 120, 8].into_iter().enumerate() {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "child_that_writes_until_it_is_killed",
                    "--nocapture",
                ])
                .env(CHILD_DIR, dir.path())
                .env(CHILD_BACKEND, format!("{backend:?}"))
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
            let mut seen = 0;
            for line in lines {
                let line = line.unwrap();
                let number = |prefix: &str| -> Option<u64> {
                    line.split_once(prefix)
                        .and_then(|(_, n)| n.trim().parse().ok())
                };
                if let Some(found) = number("found ") {
                    let expected = acked.map_or(0, |n| n + 1);
                    assert!(
                        found >= expected,
                        "{backend:?} round {round}: {found} of {expected}"
                    );
                }
                if let Some(n) = number("acked ") {
                    acked = Some(n);
                    seen += 1;
                }
                if seen == writes {
                    child.kill().unwrap();
                }
            }
            assert!(
                seen >= writes,
                "{backend:?} round {round}: the child ended by itself"
            );
            child.wait().unwrap();
        }
    }
}
