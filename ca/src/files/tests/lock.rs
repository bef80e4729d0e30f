//! A locked key file: what can be done before and after the unlock key is given, and crashes.

use super::*;

fn manager() -> Identity {
    Issuer::new().issue(PrivateKey::generate().unwrap(), NodeRole::Manager)
}

/// Files of a manager, locked, as a daemon finds them.
fn locked(identity: &Identity, key: &UnlockKey) -> (tempfile::TempDir, NodeFiles) {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path()).unwrap();
    files.save(identity).unwrap();
    let set = |file: &mut KeyFile| {
        file.set_raft_dek(Some(&DataKey::new([5; 32])));
        file.set_kek_version(3);
        Ok(())
    };
    files.relock(Some(key), set).unwrap();
    let files = NodeFiles::open(dir.path()).unwrap();
    (dir, files)
}

fn reason(error: &FilesError) -> &KeyFileError {
    match error {
        FilesError::KeyFile { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_read_before_the_right_key_is_given() {
    let (identity, key) = (manager(), UnlockKey::generate().unwrap());
    let (dir, files) = locked(&identity, &key);
    assert!(files.is_locked().unwrap());
    assert_eq!(files.subject().unwrap(), Some(identity.subject()));
    assert!(matches!(
        reason(&files.load().unwrap_err()),
        KeyFileError::Locked
    ));
    let change = files.update_headers(|_| Ok(())).unwrap_err();
    assert!(matches!(reason(&change), KeyFileError::Locked));
    assert!(matches!(
        reason(&files.save(&identity).unwrap_err()),
        KeyFileError::Locked
    ));
    let wrong = files.unlock(&UnlockKey::generate().unwrap()).unwrap_err();
    assert!(matches!(
        reason(&wrong),
        KeyFileError::WrongKey { version: 3 }
    ));
    assert!(files.is_locked().unwrap());

    files.unlock(&key).unwrap();
    assert!(!files.is_locked().unwrap());
    assert!(same(files.load().unwrap().as_ref(), Some(&identity)));
    assert!(
        NodeFiles::open(dir.path()).unwrap().is_locked().unwrap(),
        "unlocking writes nothing"
    );
}

#[test]
fn what_is_written_stays_locked_until_the_lock_ends() {
    let (identity, key) = (manager(), UnlockKey::generate().unwrap());
    let (dir, files) = locked(&identity, &key);
    files.unlock(&key).unwrap();
    let next = manager();
    files.save(&next).unwrap();
    files
        .update_headers(|file| {
            file.set_data_key_epoch(9);
            Ok(())
        })
        .unwrap();
    let reopened = NodeFiles::open(dir.path()).unwrap();
    assert!(reopened.is_locked().unwrap());
    reopened.unlock(&key).unwrap();
    assert!(same(reopened.load().unwrap().as_ref(), Some(&next)));

    let rotated = UnlockKey::generate().unwrap();
    reopened.relock(Some(&rotated), |_| Ok(())).unwrap();
    let reopened = NodeFiles::open(dir.path()).unwrap();
    assert!(reopened.unlock(&key).is_err(), "the former key still opens");
    reopened.unlock(&rotated).unwrap();
    reopened.relock(None, |_| Ok(())).unwrap();
    let reopened = NodeFiles::open(dir.path()).unwrap();
    assert!(!reopened.is_locked().unwrap());
    let file = reopened.key_file().unwrap().unwrap();
    assert_eq!(file.raft_dek().unwrap(), Some(DataKey::new([5; 32])));
    assert_eq!(file.data_key_epoch().unwrap(), 9);
    assert!(matches!(
        reason(&reopened.unlock(&rotated).unwrap_err()),
        KeyFileError::NotLocked
    ));
}

#[test]
fn a_manager_that_becomes_a_worker_is_not_locked() {
    let (identity, key) = (manager(), UnlockKey::generate().unwrap());
    let (dir, files) = locked(&identity, &key);
    files.unlock(&key).unwrap();
    let worker = Issuer::new().issue(PrivateKey::generate().unwrap(), NodeRole::Worker);
    files.save(&worker).unwrap();
    let reopened = NodeFiles::open(dir.path()).unwrap();
    assert!(same(reopened.load().unwrap().as_ref(), Some(&worker)));
    let version = reopened.key_file().unwrap().unwrap().kek_version().unwrap();
    assert_eq!(version, 0, "a manager again, it takes the lock again");
}

#[test]
fn only_another_private_key_ends_the_wish_for_one() {
    let (identity, key) = (manager(), UnlockKey::generate().unwrap());
    let (_dir, files) = locked(&identity, &key);
    files.unlock(&key).unwrap();
    files
        .update_headers(|file| {
            file.set_wants_renewal(true);
            Ok(())
        })
        .unwrap();
    let wants = || files.key_file().unwrap().unwrap().wants_renewal();
    files.save(&identity).unwrap();
    assert!(wants(), "the key is the same");
    files.save(&manager()).unwrap();
    assert!(!wants());
}

/// Each crash leaves a file that opens with the former lock or with the next one, whole.
#[test]
fn a_crash_while_the_lock_changes_leaves_the_former_or_the_next_one() {
    let identity = manager();
    let keys = [
        None,
        Some(UnlockKey::generate().unwrap()),
        Some(UnlockKey::generate().unwrap()),
    ];
    for (before, after) in [(0, 1), (1, 2), (1, 0)] {
        let start = || {
            let dir = tempfile::tempdir().unwrap();
            let files = NodeFiles::open(dir.path()).unwrap();
            files.save(&identity).unwrap();
            files.relock(keys[before].as_ref(), |_| Ok(())).unwrap();
            let file = files.key_file().unwrap().unwrap();
            let steps = files.plan_key(&file, keys[after].as_ref()).unwrap();
            (dir, files, steps)
        };
        let opens = |dir: &Path, key: Option<&UnlockKey>| {
            let files = NodeFiles::open(dir).unwrap();
            let unlocked = match key {
                Some(key) => files.unlock(key).is_ok(),
                None => !files.is_locked().unwrap(),
            };
            unlocked && same(files.load().unwrap().as_ref(), Some(&identity))
        };
        let steps = start().2.len();
        let mut was_former = false;
        for done in 0..=steps {
            let (dir, files, steps) = start();
            crash_in_step(&files, &steps, done);
            let (former, next) = (
                opens(dir.path(), keys[before].as_ref()),
                opens(dir.path(), keys[after].as_ref()),
            );
            assert!(former != next, "{before} to {after}, crash in step {done}");
            was_former |= former;
            assert!(done < steps.len() || next);
        }
        assert!(was_former);
    }
}

/// A renewal of a locked manager, broken off at each step, is completed or undone once the key is
/// there, and not before.
#[test]
fn a_crash_while_a_locked_manager_renews_waits_for_the_key() {
    let (old, new, key) = (manager(), manager(), UnlockKey::generate().unwrap());
    let start = || {
        let (dir, files) = locked(&old, &key);
        files.unlock(&key).unwrap();
        let steps = files.plan_save(&new).unwrap();
        (dir, files, steps)
    };
    for done in 0..=start().2.len() {
        let (dir, files, steps) = start();
        crash_in_step(&files, &steps, done);
        let reopened = NodeFiles::open(dir.path()).unwrap();
        assert!(reopened.is_locked().unwrap());
        reopened.unlock(&key).unwrap();
        let found = reopened.load().unwrap();
        let is_new = same(found.as_ref(), Some(&new));
        assert!(is_new || same(found.as_ref(), Some(&old)), "step {done}");
        let left = content(dir.path());
        assert!(
            left.keys().all(|name| !name.ends_with(".new")),
            "step {done}"
        );
    }
}
