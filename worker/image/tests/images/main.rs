//! The image store as its callers see it, on archives made here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

// The name it has everywhere else; only its own tests have to ask for it.
extern crate swarm_image as image;

mod archives;
mod crash;
mod hostile;
mod import;
mod layers;
mod load;
mod names;
mod overlay;

use std::path::{Path, PathBuf};

use image::{Error, ImageStore, Loaded, Options};

/// A store in a directory of its own, removed with it.
pub(crate) struct Fixture {
    pub(crate) store: ImageStore,
    pub(crate) dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("store"), Options::default()).unwrap();
        Self { store, dir }
    }

    pub(crate) fn load(&self, archive: &[u8]) -> Result<Vec<Loaded>, Error> {
        self.store.load(archive, &mut |_| {})
    }

    /// Every path below the store, sorted: what a failed operation must leave as it was.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        collect(&self.dir.path().join("store"), &mut paths);
        paths.sort();
        paths
    }
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), paths);
        }
        paths.push(entry.path());
    }
}

/// The message of an error with those of its causes, as a user gets to see it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Whether the test can make devices, owners and trusted attributes; says so when it cannot.
pub(crate) fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped {test}: it needs root");
    }
    is_root
}
