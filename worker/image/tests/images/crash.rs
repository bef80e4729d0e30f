//! What is there after a crash, a restart, or a second daemon on the same directory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use image::{Error, ImageStore, Options};

use crate::archives::{Tar, layout};
use crate::chain;

fn open(dir: &Path) -> Result<ImageStore, Error> {
    ImageStore::open(dir, Options::default())
}

fn load(store: &ImageStore, name: &str) -> image::ImageId {
    let layer = Tar::new().file(name, "").build();
    let loaded = store.load(&layout(name, &[&layer])[..], &mut |_| {});
    loaded.unwrap()[0].id
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn images_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let id = load(&store, "web");
    let listed = store.list();
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.list(), listed);
    assert_eq!(store.resolve("web").unwrap(), id);
    assert!(store.layers(&id).unwrap()[0].join("web").exists());
}

#[test]
fn leftovers_of_a_crash_are_cleared_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let id = load(&store, "web");
    drop(store);
    // A load that died while unpacking, one that died between placing and listing, and a removal
    // that died before its layers were gone.
    let stray = image::Digest::of(b"stray").hex();
    let unfinished = dir.path().join("tmp/work-123/files");
    std::fs::create_dir_all(&unfinished).unwrap();
    std::fs::write(unfinished.join("0"), "half").unwrap();
    std::os::unix::fs::symlink("/", dir.path().join("tmp/link")).unwrap();
    std::fs::create_dir_all(dir.path().join("layers").join(&stray).join("diff/a")).unwrap();
    std::fs::write(dir.path().join("blobs").join(&stray), "{}").unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(count(&dir.path().join("tmp")), 0);
    assert_eq!(count(&dir.path().join("layers")), 1);
    assert_eq!(count(&dir.path().join("blobs")), 1);
    assert!(store.layers(&id).unwrap()[0].join("web").exists());
}

#[test]
fn one_process_at_a_time_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let error = open(dir.path()).map(drop).unwrap_err();
    assert!(
        error.to_string().ends_with("is in use by another process"),
        "{error}"
    );
    let clone = store.clone();
    drop(store);
    assert!(open(dir.path()).is_err(), "a clone holds it as well");
    drop(clone);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn only_the_owner_can_enter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/store");
    let store = open(&path).unwrap();
    load(&store, "web");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for part in ["", "layers", "blobs", "tmp"] {
        assert_eq!(mode(&path.join(part)), 0o700, "{part}");
    }
    assert_eq!(mode(&path.join("repositories.json")), 0o600);
}

#[test]
fn a_database_that_does_not_read_is_left_alone() {
    let later = r#"{"version": 9, "other": 1}"#;
    let table = [
        ("{", "is damaged"),
        (
            r#"{"version":1,"names":{"Bad Name":"x"},"images":{},"layers":{}}"#,
            "is damaged",
        ),
        (later, "has version 9, this release reads up to 1"),
    ];
    for (text, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        load(&store, "web");
        drop(store);
        let database = dir.path().join("repositories.json");
        std::fs::write(&database, text).unwrap();
        let error = open(dir.path()).map(drop).unwrap_err();
        assert!(chain(&error).contains(expected), "{}", chain(&error));
        assert_eq!(std::fs::read_to_string(&database).unwrap(), text);
        assert_eq!(
            count(&dir.path().join("layers")),
            1,
            "layers are left alone as well"
        );
    }
}

#[test]
fn a_layer_taken_away_is_missed_and_comes_back_with_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let id = load(&store, "web");
    let path = store.layers(&id).unwrap().remove(0);
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let error = store.layers(&id).unwrap_err();
    assert!(matches!(error, Error::LayerMissing { .. }), "{error:?}");
    assert_eq!(load(&store, "web"), id);
    assert_eq!(store.layers(&id).unwrap(), [path]);
}

#[test]
fn a_load_that_cannot_be_listed_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    // A directory cannot be replaced by a file, whoever tries.
    let database = dir.path().join("repositories.json");
    std::fs::create_dir(&database).unwrap();
    let archive = layout("web", &[&Tar::new().file("x", "").build()]);
    let error = store.load(&archive[..], &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("could not replace"), "{error}");
    assert!(store.list().is_empty());
    for part in ["layers", "blobs", "tmp"] {
        assert_eq!(count(&dir.path().join(part)), 0, "{part}");
    }
    std::fs::remove_dir(&database).unwrap();
    load(&store, "web");
}

#[test]
fn a_directory_of_something_else_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tmp")).unwrap();
    std::fs::write(dir.path().join("tmp/letter"), "dear").unwrap();
    // Like /var: with a link of that name, too.
    std::os::unix::fs::symlink("elsewhere", dir.path().join("images.lock")).unwrap();
    let error = open(dir.path()).map(drop).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is not empty and not an image store"),
        "{error}"
    );
    assert!(dir.path().join("tmp/letter").exists());
    assert_eq!(count(dir.path()), 2);
}
