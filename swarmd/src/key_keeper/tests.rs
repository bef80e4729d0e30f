//! A key file follows the cluster, and every crash on the way leaves a manager that starts.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ca::{Identity, PrivateKey, RootCa, Subject};
use tonic::transport::Channel;
use types::{ClusterId, NodeId, NodeRole};

use super::*;

const DAY: u64 = 24 * 3600 * 1_000_000_000;

#[test]
fn what_is_due_is_what_the_file_has_not_followed() {
    let kept = Kept {
        key_version: 3,
        data_key_epoch: 5,
        data_key_made: 100 * 24 * 3600,
        is_rotating: false,
    };
    let wanted = |key_version, data_key_epoch| ClusterLock {
        unlock_key: String::new(),
        key_version,
        data_key_epoch,
    };
    let now = Timestamp(101 * DAY);
    let table = [
        (kept, wanted(3, 5), now, (false, false)),
        (kept, wanted(4, 5), now, (true, false)),
        (kept, wanted(4, 6), now, (true, true)),
        // A store that is only catching up may be behind the file.
        (kept, wanted(2, 4), now, (false, false)),
        (kept, wanted(3, 5), Timestamp(189 * DAY), (false, false)),
        (kept, wanted(3, 5), Timestamp(190 * DAY), (false, true)),
        // A clock that went back is no reason.
        (kept, wanted(3, 5), Timestamp(DAY), (false, false)),
        (
            Kept {
                is_rotating: true,
                ..kept
            },
            wanted(3, 5),
            now,
            (false, true),
        ),
    ];
    for (kept, wanted, now, expected) in table {
        let Due { relock, rotate } = due(&kept, &wanted, now);
        assert_eq!((relock, rotate), expected, "{kept:?} {wanted:?} {now:?}");
    }
}

/// Keeps what it was given.
#[derive(Default)]
struct Bytes(Mutex<Vec<u8>>);

impl raft::StateMachine for Bytes {
    fn apply(&self, _: u64, data: &[u8]) -> Vec<u8> {
        self.0.lock().unwrap().extend_from_slice(data);
        vec![]
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let bytes = self.0.lock().unwrap().clone();
        Box::new(move || bytes)
    }

    fn restore(&self, _: u64, data: &[u8]) -> Result<(), raft::BoxError> {
        *self.0.lock().unwrap() = data.to_vec();
        Ok(())
    }
}

struct Nobody;

#[async_trait::async_trait]
impl raft::Dialer for Nobody {
    async fn dial(&self, _: &str) -> Result<Channel, raft::BoxError> {
        Err("nobody is there".into())
    }
}

fn identity() -> Identity {
    let now = Timestamp::now();
    let root = RootCa::generate(now).unwrap();
    let key = PrivateKey::generate().unwrap();
    let subject = Subject {
        cluster_id: ClusterId::from_number(1),
        role: NodeRole::Manager,
        node_id: NodeId::from_number(2),
    };
    let chain = root
        .issue(&key.csr_pem().unwrap(), &subject, Duration::ZERO, now)
        .unwrap();
    Identity::new(key, &chain, root.bundle().clone()).unwrap()
}

async fn start(dir: &Path, files: &NodeFiles) -> (Raft, Arc<Bytes>) {
    let (key, pending) = data_keys(files, Timestamp::now()).await.unwrap();
    let mut options = raft::Options::new(dir.join("raft"), 7, key);
    options.pending_key = pending;
    let bytes = Arc::new(Bytes::default());
    let raft = Raft::start(options, bytes.clone(), Arc::new(Nobody))
        .await
        .unwrap();
    (raft, bytes)
}

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

/// The keys that open a copy: all that were in force at some time.
fn unlock(files: &NodeFiles, keys: &[UnlockKey]) {
    if files.is_locked().unwrap() {
        let opened = keys.iter().filter(|key| files.unlock(key).is_ok()).count();
        assert_eq!(opened, 1, "exactly one key is the right one");
    }
}

/// Locks a manager, rotates its unlock key, orders other data keys and ends the lock; a copy of its
/// directory is taken after every single change of the disk on the way. A manager starts from each,
/// with all it had, and catches up with what the cluster wants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one history, told in its order")]
async fn a_crash_at_each_step_leaves_a_manager_that_starts_and_catches_up() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("live");
    let files = NodeFiles::open(dir.join("certificates")).unwrap();
    files.save(&identity()).unwrap();
    let (raft, _) = start(&dir, &files).await;
    raft.bootstrap("127.0.0.1:1").await.unwrap();
    raft.propose(b"before the snapshot, ".to_vec())
        .await
        .unwrap();
    raft.snapshot_now().await.unwrap();
    while !dir.join("raft/snapshot").exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    raft.propose(b"after".to_vec()).await.unwrap();

    let crashes: Arc<Mutex<Vec<(&str, PathBuf)>>> = Arc::default();
    let told: Told = {
        let (crashes, dir) = (crashes.clone(), dir.clone());
        Arc::new(move |step| {
            let mut crashes = crashes.lock().unwrap();
            let to = dir.with_file_name(format!("crash{}", crashes.len()));
            copy(&dir, &to);
            crashes.push((step, to));
        })
    };
    let keeper = KeyKeeper {
        files: files.clone(),
        raft: raft.clone(),
        told,
    };
    let keys = [
        UnlockKey::generate().unwrap(),
        UnlockKey::generate().unwrap(),
    ];
    let (first, second) = (keys[0].reveal().to_string(), keys[1].reveal().to_string());
    let orders = [(first, 1, 1), (second, 2, 2), (String::new(), 3, 3)];
    let mut last = ClusterLock::default();
    for (unlock_key, key_version, data_key_epoch) in orders {
        last = ClusterLock {
            unlock_key,
            key_version,
            data_key_epoch,
        };
        let exposed = Notify::new();
        keeper.follow(&mut None, &last, &exposed).await.unwrap();
        let was_told = futures::FutureExt::now_or_never(exposed.notified()).is_some();
        assert_eq!(was_told, !last.unlock_key.is_empty());
        assert_eq!(
            NodeFiles::open(files.dir()).unwrap().is_locked().unwrap(),
            !last.unlock_key.is_empty()
        );
    }
    raft.shutdown().await;
    drop(keeper);

    let crashes = crashes.lock().unwrap().clone();
    assert!(crashes.len() > 30, "{} steps", crashes.len());
    for (step, dir) in crashes {
        let files = NodeFiles::open(dir.join("certificates")).unwrap();
        unlock(&files, &keys);
        assert!(files.load().unwrap().is_some(), "after {step:?}");
        let (raft, bytes) = start(&dir, &files).await;
        let found = String::from_utf8(bytes.0.lock().unwrap().clone()).unwrap();
        assert_eq!(found, "before the snapshot, after", "after {step:?}");
        let keeper = KeyKeeper {
            files: files.clone(),
            raft: raft.clone(),
            told: Arc::new(|_| ()),
        };
        keeper
            .follow(&mut None, &last, &Notify::new())
            .await
            .unwrap();
        let kept = keeper.read().await.unwrap();
        assert_eq!(
            (kept.key_version, kept.data_key_epoch, kept.is_rotating),
            (3, 3, false),
            "after {step:?}"
        );
        raft.shutdown().await;
    }
}
