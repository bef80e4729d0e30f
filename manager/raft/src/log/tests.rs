//! Tests of the log on disk, each with both libraries.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use proto::raft as pb;

use super::recover::{Recovered, recover};
use super::seal::{DataKey, Keyring, Sealer};
use super::wal::{Command, Wal};
use super::{Backend, Durability, Each, Op, open, record};
use crate::{BackendKind, Error};

const BOTH: [BackendKind; 2] = [BackendKind::Sled, BackendKind::Redb];

fn key(byte: u8) -> DataKey {
    DataKey::new([byte; 32])
}

fn keyring(byte: u8) -> Keyring {
    Keyring::new(Sealer::new(&key(byte), &[]))
}

fn entry(index: u64, data: Vec<u8>) -> (u64, Vec<u8>) {
    let log_id = Some(pb::LogId {
        term: 1,
        leader: 1,
        index,
    });
    let payload = Some(pb::entry::Payload::Data(data));
    (index, pb::Entry { log_id, payload }.encode_to_vec())
}

fn log_id(index: u64) -> Vec<u8> {
    pb::LogId {
        term: 1,
        leader: 1,
        index,
    }
    .encode_to_vec()
}

fn read(kind: BackendKind, dir: &Path, keyring: &Keyring) -> Result<Recovered, Error> {
    let mut backend = open(kind, dir)?;
    recover(&mut *backend, &keyring.sealer(), dir, 77)
}

fn start(kind: BackendKind, dir: &Path, keyring: &Keyring) -> Wal {
    let mut backend = open(kind, dir).unwrap();
    let recovered = recover(&mut *backend, &keyring.sealer(), dir, 77).unwrap();
    Wal::spawn(backend, keyring.clone(), &recovered).unwrap()
}

fn indexes(recovered: &Recovered) -> Vec<u64> {
    recovered
        .entries
        .iter()
        .map(|e| e.log_id.unwrap().index)
        .collect()
}

/// Runs `test` with a runtime, once for each library, in a fresh directory.
fn with_both<F: Future<Output = ()>>(test: impl Fn(BackendKind, std::path::PathBuf) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for kind in BOTH {
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(test(kind, dir.path().to_owned()));
    }
}

#[test]
fn what_was_written_is_read_back() {
    with_both(|kind, dir| async move {
        let keys = keyring(1);
        let wal = start(kind, &dir, &keys);
        let vote = pb::Vote {
            term: 3,
            candidate: 9,
            committed: true,
        };
        wal.run(|d| Command::Vote(vote.encode_to_vec(), d))
            .await
            .unwrap();
        // Sizes around every limit of a record, and the largest proposal.
        let sizes = [0, 1, 4_000, 4_096, 4_097, 70_000, 3 << 19];
        let entries: Vec<_> = (0..)
            .zip(sizes)
            .map(|(i, size)| entry(i, vec![7; size]))
            .collect();
        wal.run(|d| Command::Append(entries, d)).await.unwrap();
        wal.send(Command::Committed(log_id(5))).await.unwrap();
        wal.run(Command::Close).await.unwrap();

        let found = read(kind, &dir, &keys).unwrap();
        assert_eq!(found.member_id, 77);
        assert_eq!(found.vote, Some(vote));
        assert_eq!(found.committed.unwrap().index, 5);
        assert_eq!(found.purged, None);
        assert_eq!(indexes(&found), [0, 1, 2, 3, 4, 5, 6]);
        for (entry, size) in found.entries.iter().zip(sizes) {
            let Some(pb::entry::Payload::Data(data)) = &entry.payload else {
                panic!("no data")
            };
            assert_eq!(*data, vec![7; size]);
        }
    });
}

#[test]
fn truncation_and_purge_survive() {
    with_both(|kind, dir| async move {
        let keys = keyring(1);
        let wal = start(kind, &dir, &keys);
        let long = |i| entry(i, vec![1; 9_000]);
        let entries = (0..3_000)
            .map(|i| entry(i, vec![0; 10]))
            .chain([long(3_000), long(3_001)]);
        wal.run(|d| Command::Append(entries.collect(), d))
            .await
            .unwrap();
        wal.run(|d| Command::Truncate(3_000, d)).await.unwrap();
        wal.run(|d| Command::Append(vec![entry(3_000, vec![2; 5])], d))
            .await
            .unwrap();
        wal.send(Command::Purge(2_990, log_id(2_990)))
            .await
            .unwrap();
        // Right behind the purge, so that most of what it removes is still there.
        wal.run(|d| Command::Append(vec![entry(3_001, vec![3])], d))
            .await
            .unwrap();
        wal.run(Command::Close).await.unwrap();

        let found = read(kind, &dir, &keys).unwrap();
        assert_eq!(found.purged.unwrap().index, 2_990);
        assert_eq!(indexes(&found), (2_991..=3_001).collect::<Vec<_>>());
        // What the crash left of the purge is removed by the next run.
        let wal = start(kind, &dir, &keys);
        for i in 3_002..3_020 {
            wal.run(|d| Command::Append(vec![entry(i, vec![])], d))
                .await
                .unwrap();
        }
        wal.run(Command::Close).await.unwrap();
        let found = read(kind, &dir, &keys).unwrap();
        assert_eq!(found.on_disk.first_key_value().unwrap().0, &2_991);
    });
}

#[test]
fn a_snapshot_beyond_the_log_leaves_no_hole() {
    with_both(|kind, dir| async move {
        let keys = keyring(1);
        let wal = start(kind, &dir, &keys);
        wal.run(|d| Command::Append((0..10).map(|i| entry(i, vec![])).collect(), d))
            .await
            .unwrap();
        wal.send(Command::Purge(500, log_id(500))).await.unwrap();
        wal.run(|d| Command::Append(vec![entry(501, vec![])], d))
            .await
            .unwrap();
        wal.run(Command::Close).await.unwrap();
        assert_eq!(indexes(&read(kind, &dir, &keys).unwrap()), [501]);
    });
}

#[test]
fn a_wrong_key_is_called_that() {
    with_both(|kind, dir| async move {
        let wal = start(kind, &dir, &keyring(1));
        wal.run(|d| Command::Append(vec![entry(0, vec![1])], d))
            .await
            .unwrap();
        wal.run(Command::Close).await.unwrap();
        let error = read(kind, &dir, &keyring(2)).unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    });
}

#[test]
fn resealing_leaves_nothing_for_the_old_key() {
    with_both(|kind, dir| async move {
        let keys = keyring(1);
        let wal = start(kind, &dir, &keys);
        let vote = pb::Vote {
            term: 3,
            candidate: 9,
            committed: true,
        }
        .encode_to_vec();
        wal.run(|d| Command::Vote(vote, d)).await.unwrap();
        wal.run(|d| Command::Append((0..50).map(|i| entry(i, vec![5; 5_000])).collect(), d))
            .await
            .unwrap();
        wal.run(Command::Close).await.unwrap();
        let sealed_before = sealed_beginnings(kind, &dir);
        assert!(sealed_before.len() > 50);
        let bytes = all_bytes(&dir);
        let is_there = |beginning: &Vec<u8>| bytes.windows(32).any(|it| it == beginning);
        assert!(
            sealed_before.iter().take(3).all(is_there),
            "looked for the wrong bytes"
        );

        let wal = start(kind, &dir, &keys);
        keys.replace(Sealer::new(&key(2), &[key(1)]));
        wal.run(|done| Command::Reseal(Arc::new(|_| ()), done))
            .await
            .unwrap();
        wal.run(|d| Command::Append(vec![entry(50, vec![])], d))
            .await
            .unwrap();
        wal.run(Command::Close).await.unwrap();

        let found = read(kind, &dir, &keyring(2)).unwrap();
        assert_eq!(found.entries.len(), 51);
        assert!(found.vote.is_some());
        let error = read(kind, &dir, &keyring(1)).unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }), "{error}");
        // A library that appends may keep what was overwritten: whoever has the old key and the
        // files must find nothing to open.
        let left: std::collections::HashSet<Vec<u8>> =
            all_bytes(&dir).windows(32).map(<[u8]>::to_vec).collect();
        let kept = sealed_before.iter().filter(|it| left.contains(*it)).count();
        assert_eq!(kept, 0, "records under the old key are left in the files");
    });
}

/// First bytes, the nonce among them, of every sealed value.
fn sealed_beginnings(kind: BackendKind, dir: &Path) -> Vec<Vec<u8>> {
    let mut found = vec![];
    let mut take = |_: &[u8], value: &[u8]| {
        found.push(value[..32].to_vec());
        Ok(())
    };
    open(kind, dir).unwrap().scan(b"", &mut take).unwrap();
    found
}

/// The content of all files below a directory, one after the other.
fn all_bytes(dir: &Path) -> Vec<u8> {
    let mut bytes = vec![];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(all_bytes(&path));
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

/// Changes one record behind the log's back and tells what opening it says.
fn damage(kind: BackendKind, dir: &Path, change: impl FnOnce(&mut dyn Backend)) -> String {
    let mut backend = open(kind, dir).unwrap();
    change(&mut *backend);
    drop(backend);
    match read(kind, dir, &keyring(1)).unwrap_err() {
        Error::Corrupt { record, reason, .. } => format!("{record}: {reason}"),
        other => panic!("{other}"),
    }
}

fn get(backend: &dyn Backend, name: &[u8]) -> Vec<u8> {
    let mut found = None;
    let mut take = |_: &[u8], value: &[u8]| {
        found = Some(value.to_vec());
        Ok(())
    };
    backend.scan(name, &mut take).unwrap();
    found.unwrap()
}

async fn twenty_entries(kind: BackendKind, dir: &Path) {
    let wal = start(kind, dir, &keyring(1));
    let vote = pb::Vote {
        term: 3,
        candidate: 9,
        committed: true,
    }
    .encode_to_vec();
    wal.run(|d| Command::Vote(vote, d)).await.unwrap();
    wal.run(|d| Command::Append((0..20).map(|i| entry(i, vec![1])).collect(), d))
        .await
        .unwrap();
    wal.run(Command::Close).await.unwrap();
}

#[test]
fn damage_names_the_record() {
    let flip = |name: Vec<u8>| {
        move |backend: &mut dyn Backend| {
            let mut value = get(backend, &name);
            *value.last_mut().unwrap() ^= 1;
            backend
                .commit(vec![Op::Put(name, value)], Durability::Now)
                .unwrap();
        }
    };
    let remove = |name: Vec<u8>| {
        move |backend: &mut dyn Backend| {
            backend
                .commit(vec![Op::Del(name)], Durability::Now)
                .unwrap();
        }
    };
    let moved = |backend: &mut dyn Backend| {
        let value = get(backend, &record::entry_name(3, 0));
        let op = Op::Put(record::entry_name(4, 0), value);
        backend.commit(vec![op], Durability::Now).unwrap();
    };
    type Change = Box<dyn Fn() -> Box<dyn FnOnce(&mut dyn Backend)>>;
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(move || Box::new(flip(record::entry_name(7, 0)))),
            "entry 7 part 0: the seal does not open",
        ),
        (
            Box::new(move || Box::new(moved)),
            "entry 4 part 0: the seal does not open",
        ),
        (
            Box::new(move || Box::new(remove(record::entry_name(7, 0)))),
            "entry 7 part 0: missing",
        ),
        (
            Box::new(move || Box::new(flip(record::VOTE.to_vec()))),
            "m/vote: the seal does not open",
        ),
        (
            Box::new(move || Box::new(flip(record::IDENTITY.to_vec()))),
            "m/id: the seal does not open",
        ),
        (
            Box::new(move || Box::new(remove(record::IDENTITY.to_vec()))),
            "m/id: missing",
        ),
    ];
    for (change, expected) in cases {
        with_both(|kind, dir| {
            let change = change();
            async move {
                twenty_entries(kind, &dir).await;
                assert_eq!(damage(kind, &dir, change), expected, "{kind:?}");
            }
        });
    }
}

#[test]
fn sled_opens_after_a_crash_in_its_own_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(twenty_entries(BackendKind::Sled, dir.path()));
    let left = dir.path().join("log/snap.0000000000001234.generating");
    std::fs::write(&left, b"half a snapshot").unwrap();
    let found = read(BackendKind::Sled, dir.path(), &keyring(1)).unwrap();
    assert_eq!(found.entries.len(), 20);
    assert!(!left.exists());
}

#[test]
fn nobody_else_may_read_the_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    with_both(|kind, dir| async move {
        twenty_entries(kind, &dir).await;
        assert_eq!(mode(&dir), 0o700);
        match kind {
            BackendKind::Sled => {
                assert_eq!(mode(&dir.join("log")), 0o700);
                assert_eq!(mode(&dir.join("log/db")), 0o600);
            }
            BackendKind::Redb => assert_eq!(mode(&dir.join("log.redb")), 0o600),
        }
    });
}

/// Fails, or panics, from a certain commit on.
struct Faulty {
    commits_left: usize,
    panics: bool,
    written: Arc<Mutex<usize>>,
}

impl Backend for Faulty {
    fn commit(&mut self, _: Vec<Op>, _: Durability) -> io::Result<()> {
        if self.commits_left == 0 {
            assert!(!self.panics, "the library panics on purpose");
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.commits_left -= 1;
        *self.written.lock().unwrap() += 1;
        Ok(())
    }

    fn scan(&self, _: &[u8], _: &mut Each<'_>) -> io::Result<()> {
        Ok(())
    }

    fn value_bytes_max(&self) -> usize {
        4096
    }
}

#[test]
fn after_an_error_nothing_is_written_and_everybody_is_told() {
    for panics in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let written = Arc::default();
            let mut faulty = Faulty {
                commits_left: 2,
                panics,
                written: Arc::clone(&written),
            };
            let recovered = recover(&mut faulty, &keyring(1).sealer(), Path::new("/"), 1).unwrap();
            let wal = Wal::spawn(Box::new(faulty), keyring(1), &recovered).unwrap();
            wal.run(|d| Command::Append(vec![entry(0, vec![])], d))
                .await
                .unwrap();
            for i in 1..4 {
                let error = wal
                    .run(|d| Command::Append(vec![entry(i, vec![])], d))
                    .await
                    .unwrap_err();
                let kind = if panics {
                    io::ErrorKind::Other
                } else {
                    io::ErrorKind::StorageFull
                };
                assert_eq!(error.kind(), kind);
            }
            assert!(wal.run(Command::Close).await.is_err());
            assert_eq!(*written.lock().unwrap(), 2);
            let gone = wal.run(|d| Command::Vote(vec![], d)).await.unwrap_err();
            assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
        });
    }
}

#[test]
fn waiting_commands_share_a_sync() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let written = Arc::default();
        let faulty = Slow(Faulty {
            commits_left: usize::MAX,
            panics: false,
            written: Arc::clone(&written),
        });
        let recovered = Recovered {
            member_id: 1,
            vote: None,
            committed: None,
            purged: None,
            entries: Vec::new(),
            on_disk: Default::default(),
        };
        let wal = Wal::spawn(Box::new(faulty), keyring(1), &recovered).unwrap();
        let appends =
            (0..200).map(|i| wal.run(move |d| Command::Append(vec![entry(i, vec![])], d)));
        let outcomes = futures::future::join_all(appends).await;
        assert!(outcomes.iter().all(Result::is_ok));
        assert!(
            *written.lock().unwrap() < 20,
            "{} syncs for 200 appends",
            written.lock().unwrap()
        );
    });
}

struct Slow(Faulty);

impl Backend for Slow {
    fn commit(&mut self, ops: Vec<Op>, durability: Durability) -> io::Result<()> {
        std::thread::sleep(std::time::Duration::from_millis(5));
        self.0.commit(ops, durability)
    }

    fn scan(&self, prefix: &[u8], each: &mut Each<'_>) -> io::Result<()> {
        self.0.scan(prefix, each)
    }

    fn value_bytes_max(&self) -> usize {
        self.0.value_bytes_max()
    }
}
