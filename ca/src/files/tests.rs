//! Crashes at every step of a change.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use types::{ClusterId, NodeId, NodeRole, Timestamp};

use super::*;
use crate::{DataKey, RootCa};

mod lock;

struct Issuer {
    root: RootCa,
    now: Timestamp,
}

impl Issuer {
    fn new() -> Self {
        let now = Timestamp::now();
        Self {
            root: RootCa::generate(now).unwrap(),
            now,
        }
    }

    fn issue(&self, key: PrivateKey, role: NodeRole) -> Identity {
        let subject = Subject {
            cluster_id: ClusterId::from_number(1),
            role,
            node_id: NodeId::from_number(2),
        };
        let csr = key.csr_pem().unwrap();
        let chain = self
            .root
            .issue(&csr, &subject, Duration::ZERO, self.now)
            .unwrap();
        Identity::new(key, &chain, self.root.bundle().clone()).unwrap()
    }
}

fn worker_and_manager() -> (Identity, Identity) {
    // Of two clusters, so that a mix of their files is noticed whichever file it is.
    let worker = Issuer::new().issue(PrivateKey::generate().unwrap(), NodeRole::Worker);
    let manager = Issuer::new().issue(PrivateKey::generate().unwrap(), NodeRole::Manager);
    (worker, manager)
}

fn same(left: Option<&Identity>, right: Option<&Identity>) -> bool {
    match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => {
            left.chain_pem() == right.chain_pem()
                && left.roots() == right.roots()
                && left.key().to_pem() == right.key().to_pem()
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

/// A directory as if the machine had stopped after `done` steps, in the middle of the next.
fn crash_in_step(files: &NodeFiles, steps: &[Step], done: usize) {
    for step in &steps[..done] {
        step.run(files.dir()).unwrap();
    }
    if let Some(Step::Write { name, mode, bytes }) = steps.get(done) {
        let half = Zeroizing::new(bytes[..bytes.len() / 2].to_vec());
        Step::Write {
            name: name.clone(),
            mode: *mode,
            bytes: half,
        }
        .run(files.dir())
        .unwrap();
    }
}

/// Crashes a change from `before` to `after` in each of its steps, then crashes each step of each
/// recovery from it. Every time exactly one of the two identities has to be there.
fn crash_everywhere(before: Option<&Identity>, after: &Identity, after_from_step: Option<usize>) {
    let dek = DataKey::new([5; 32]);
    let start = || {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeFiles::open(dir.path()).unwrap();
        if let Some(before) = before {
            files.save(before).unwrap();
            let set = |key: &mut KeyFile| {
                key.set_raft_dek(Some(&dek));
                Ok(())
            };
            files.update_headers(set).unwrap();
        }
        let steps = files.plan_save(after).unwrap();
        (dir, files, steps)
    };
    let check = |files: &NodeFiles, done: usize, place: &str| {
        let found = files.load().unwrap_or_else(|e| panic!("{place}: {e:?}"));
        let is_after = same(found.as_ref(), Some(after));
        assert!(
            is_after || same(found.as_ref(), before),
            "{place}: neither old nor new"
        );
        if let Some(from) = after_from_step {
            assert_eq!(is_after, done >= from, "{place}");
        }
        if before.is_some() {
            let key = files.key_file().unwrap().unwrap();
            assert_eq!(
                key.raft_dek().unwrap().as_ref(),
                Some(&dek),
                "{place}: lost a data key"
            );
        }
        let left = content(files.dir());
        assert!(
            left.keys()
                .all(|name| !name.ends_with(".new") && !name.ends_with(".tmp")),
            "{place}: {:?} left behind",
            left.keys()
        );
    };
    let (_dir, _files, steps) = start();
    for done in 0..=steps.len() {
        let (dir, files, steps) = start();
        crash_in_step(&files, &steps, done);
        let recovery = files.plan_recovery().unwrap();
        let reopened = NodeFiles::open(dir.path()).unwrap();
        check(
            &reopened,
            done,
            &format!("crash in step {done} of {}", steps.len()),
        );
        for recovered in 0..recovery.len() {
            let (dir, files, steps) = start();
            crash_in_step(&files, &steps, done);
            crash_in_step(&files, &recovery, recovered);
            let reopened = NodeFiles::open(dir.path()).unwrap();
            let place = format!("crash in step {done}, then in step {recovered} of recovery");
            check(&reopened, done, &place);
        }
    }
}

/// The step after which the new key stands in place.
fn commit_step(steps: &[Step]) -> usize {
    let is_commit = |step: &Step| matches!(step, Step::Rename { to, .. } if to == NODE_KEY);
    steps.iter().position(is_commit).unwrap() + 1
}

#[test]
fn a_crash_while_replacing_an_identity_leaves_one_whole() {
    let (old, new) = worker_and_manager();
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path()).unwrap();
    files.save(&old).unwrap();
    let commit = commit_step(&files.plan_save(&new).unwrap());
    crash_everywhere(Some(&old), &new, Some(commit));
}

#[test]
fn a_crash_while_saving_the_first_identity_leaves_none_or_it() {
    let (_, new) = worker_and_manager();
    let dir = tempfile::tempdir().unwrap();
    let commit = commit_step(
        &NodeFiles::open(dir.path())
            .unwrap()
            .plan_save(&new)
            .unwrap(),
    );
    crash_everywhere(None, &new, Some(commit));
}

#[test]
fn a_crash_while_renewing_with_the_same_key_leaves_one_whole() {
    let issuer = Issuer::new();
    let key = PrivateKey::generate().unwrap();
    let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
    let old = issuer.issue(key, NodeRole::Worker);
    let new = issuer.issue(again, NodeRole::Manager);
    // The staged certificate already fits the key, so the change counts from there on.
    crash_everywhere(Some(&old), &new, None);
}

#[test]
fn a_crash_while_changing_headers_leaves_the_old_or_the_new_ones() {
    let (identity, _) = worker_and_manager();
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path()).unwrap();
    files.save(&identity).unwrap();
    let mut key = files.key_file().unwrap().unwrap();
    key.set_kek_version(7);
    let text = key.to_text();
    let steps = step::replace(NODE_KEY, NODE_KEY, KEY_MODE, text.as_bytes());
    for done in 0..=steps.len() {
        crash_in_step(&files, &steps, done);
        let reopened = NodeFiles::open(dir.path()).unwrap();
        assert!(same(reopened.load().unwrap().as_ref(), Some(&identity)));
        let version = reopened.key_file().unwrap().unwrap().kek_version().unwrap();
        assert_eq!(version, if done == steps.len() { 7 } else { 0 });
    }
}

#[test]
fn modes_keep_the_key_to_the_daemon() {
    let (identity, _) = worker_and_manager();
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("certificates");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
    let files = NodeFiles::open(&inner).unwrap();
    files.save(&identity).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    assert_eq!(mode(&inner.join(NODE_KEY)), 0o600);
    assert_eq!(mode(&inner.join(NODE_CERT)) & 0o133, 0);
    fs::set_permissions(inner.join(NODE_KEY), fs::Permissions::from_mode(0o644)).unwrap();
    NodeFiles::open(&inner).unwrap();
    assert_eq!(mode(&inner.join(NODE_KEY)), 0o600);
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (one, other) = worker_and_manager();
    let put = |name: &str, bytes: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeFiles::open(dir.path()).unwrap();
        files.save(&one).unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
        (files.load().unwrap_err(), dir)
    };
    let key = other.key().to_pem();
    let (error, _dir) = put(NODE_KEY, key.as_bytes());
    assert!(
        matches!(
            &error,
            FilesError::Identity {
                source: Error::KeyMismatch { .. },
                ..
            }
        ),
        "{error:?}"
    );
    let (error, _dir) = put(ROOT_CERT, other.roots().pem());
    assert!(
        matches!(
            &error,
            FilesError::Identity {
                source: Error::Untrusted(_),
                ..
            }
        ),
        "{error:?}"
    );
    let (error, _dir) = put(NODE_CERT, b"\xff\xfe");
    assert!(matches!(&error, FilesError::Identity { .. }), "{error:?}");
    let (error, _dir) = put(NODE_KEY, b"\xff\xfe");
    assert!(matches!(&error, FilesError::KeyFile { .. }), "{error:?}");
}

#[test]
fn a_missing_file_is_named() {
    let (identity, _) = worker_and_manager();
    for name in [NODE_CERT, ROOT_CERT] {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeFiles::open(dir.path()).unwrap();
        files.save(&identity).unwrap();
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = files.load().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn removing_leaves_nothing_and_a_new_identity_can_follow() {
    let (one, other) = worker_and_manager();
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path()).unwrap();
    files.remove().unwrap();
    files.save(&one).unwrap();
    files.remove().unwrap();
    assert!(content(dir.path()).is_empty());
    assert!(files.load().unwrap().is_none());
    files.save(&other).unwrap();
    assert!(same(files.load().unwrap().as_ref(), Some(&other)));
}

#[test]
fn renewals_and_data_keys_do_not_lose_each_other() {
    let (one, other) = worker_and_manager();
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path()).unwrap();
    files.save(&one).unwrap();
    let renewing = files.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for identity in [&other, &one].into_iter().cycle().take(20) {
                renewing.save(identity).unwrap();
            }
        });
        for version in 1..=20 {
            let set = |key: &mut KeyFile| {
                assert_eq!(
                    key.kek_version()?,
                    version - 1,
                    "a renewal wrote an older header"
                );
                key.set_kek_version(version);
                Ok(())
            };
            files.update_headers(set).unwrap();
        }
    });
    assert_eq!(
        files.key_file().unwrap().unwrap().kek_version().unwrap(),
        20
    );
    assert!(same(files.load().unwrap().as_ref(), Some(&one)));
}
