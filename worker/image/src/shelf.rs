//! The store's directory: how layers and configurations get to their places and leave them, in
//! step with the database that lists them.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::config::ConfigDocument;
use crate::database::{Database, ImageRecord, replace_file, sync_directory};
use crate::digest::{Digest, ImageId};
use crate::layout::ArchivedImage;
use crate::spool;
use crate::staging::{StagedLayer, create_directory};

/// The directory, and what it holds.
pub(crate) struct Shelf {
    dir: PathBuf,
    state: Mutex<State>,
    /// Kept open: the lock on the directory goes with it.
    _lock: File,
}

/// What the directory holds, as written to its database.
pub(crate) struct State {
    pub(crate) database: Database,
    /// How many loads in progress count on a layer that they found in the store.
    pub(crate) pins: HashMap<Digest, usize>,
}

/// Directory mounted for an image without layers.
const EMPTY: &str = "empty";
/// Locked while a process has the store open; also what tells a store from other directories.
const LOCK: &str = "images.lock";

impl Shelf {
    /// Takes the directory for this process and clears what a crash left in it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let lock = claim(dir)?;
        create_parts(dir)?;
        let shelf = Self {
            dir: dir.to_owned(),
            state: Mutex::new(State {
                database: Database::read(dir)?,
                pins: HashMap::new(),
            }),
            _lock: lock,
        };
        shelf.sweep()?;
        Ok(shelf)
    }

    /// Directory mounted for an image without layers.
    pub(crate) fn empty(&self) -> PathBuf {
        self.dir.join(EMPTY)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    pub(crate) fn layer(&self, digest: Digest) -> PathBuf {
        self.dir.join("layers").join(digest.hex())
    }

    pub(crate) fn blob(&self, id: ImageId) -> PathBuf {
        self.dir.join("blobs").join(id.0.hex())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-made state: databases are replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn document(&self, id: ImageId) -> Result<ConfigDocument, Error> {
        let path = self.blob(id);
        let bytes = std::fs::read(&path).map_err(|e| Error::store("read", &path, e))?;
        spool::parse(&bytes, &format!("the configuration {id}"))
    }

    pub(crate) fn replace(&self, state: &mut State, database: Database) -> Result<(), Error> {
        database.write(&self.dir, &self.tmp())?;
        state.database = database;
        Ok(())
    }

    /// Moves staged layers to their places and lists the images, or does neither.
    pub(crate) fn commit(
        &self,
        layers: Vec<StagedLayer>,
        images: &[ArchivedImage],
    ) -> Result<(), Error> {
        let mut state = self.state();
        let mut database = state.database.clone();
        for layer in &layers {
            database.layers.insert(layer.digest, layer.record);
        }
        for image in images {
            let record = ImageRecord {
                created: image.document.created_at(),
                layers: image.document.rootfs.diff_ids.clone(),
                digests: image.digests.iter().copied().collect(),
            };
            database.add(image.id, record, &image.names);
        }
        let mut placed = Vec::new();
        let done = self
            .place(&layers, images, &mut placed)
            .and_then(|()| self.replace(&mut state, database));
        if done.is_err() {
            let rubbish = self.bury(placed.into_iter());
            drop(state);
            burn(rubbish);
        }
        done
    }

    /// Makes layers and configurations survive a crash under their final names, noting in
    /// `placed` which are new.
    fn place(
        &self,
        layers: &[StagedLayer],
        images: &[ArchivedImage],
        placed: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        for layer in layers {
            let path = self.layer(layer.digest);
            // Another load may have brought it meanwhile.
            if path.is_dir() {
                continue;
            }
            std::fs::rename(&layer.path, &path).map_err(|e| Error::store("create", &path, e))?;
            placed.push(path);
        }
        let parent = self.dir.join("layers");
        sync_directory(&parent).map_err(|e| Error::store("sync", &parent, e))?;
        for image in images {
            let path = self.blob(image.id);
            if !path.is_file() {
                placed.push(path.clone());
                replace_file(&path, &image.config, &self.tmp())?;
            }
        }
        Ok(())
    }

    /// Moves what the database does not list any more out of the way, which is quick.
    pub(crate) fn bury(&self, paths: impl Iterator<Item = PathBuf>) -> Option<tempfile::TempDir> {
        let mut paths = paths.filter(|path| path.exists()).peekable();
        paths.peek()?;
        let grave = match tempfile::Builder::new()
            .prefix("gone-")
            .tempdir_in(self.tmp())
        {
            Ok(grave) => grave,
            Err(error) => {
                tracing::warn!(%error, "removed layers stay until the image store is opened again");
                return None;
            }
        };
        for (number, path) in paths.enumerate() {
            let to = grave.path().join(number.to_string());
            if let Err(error) = std::fs::rename(&path, to) {
                tracing::warn!(path = %path.display(), %error, "a removed layer stays for now");
            }
        }
        Some(grave)
    }

    /// Clears what operations that were cut off left behind.
    fn sweep(&self) -> Result<(), Error> {
        let state = self.state();
        let database = &state.database;
        let listed = |dir: &str, path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let digest = name.and_then(Digest::from_hex);
            digest.is_some_and(|digest| match dir {
                "layers" => database.layers.contains_key(&digest),
                _blobs => database.images.contains_key(&ImageId(digest)),
            })
        };
        for dir in ["tmp", "layers", "blobs"] {
            let dir_path = self.dir.join(dir);
            let read = |e| Error::store("read", &dir_path, e);
            for entry in std::fs::read_dir(&dir_path).map_err(read)? {
                let path = entry.map_err(read)?.path();
                if dir == "tmp" || !listed(dir, &path) {
                    remove(&path).map_err(|e| Error::store("remove", &path, e))?;
                    tracing::info!(path = %path.display(), "removed a leftover");
                }
            }
        }
        Ok(())
    }
}

/// Keeps layers that a load found in the store from being removed until it is done.
pub(crate) struct Pins<'a> {
    shelf: &'a Shelf,
    layers: Vec<Digest>,
}

impl<'a> Pins<'a> {
    pub(crate) fn new(shelf: &'a Shelf) -> Self {
        Self {
            shelf,
            layers: Vec::new(),
        }
    }

    pub(crate) fn contains(&self, layer: Digest) -> bool {
        self.layers.contains(&layer)
    }

    /// False when the layer is not in the store.
    pub(crate) fn pin(&mut self, layer: Digest) -> bool {
        let mut state = self.shelf.state();
        let is_here =
            state.database.layers.contains_key(&layer) && self.shelf.layer(layer).is_dir();
        if is_here {
            *state.pins.entry(layer).or_default() += 1;
            self.layers.push(layer);
        }
        is_here
    }
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        let mut state = self.shelf.state();
        for layer in &self.layers {
            if let Some(pins) = state.pins.get_mut(layer) {
                *pins -= 1;
                if *pins == 0 {
                    state.pins.remove(layer);
                }
            }
        }
        // The images these layers belonged to may have been removed meanwhile.
        let mut database = state.database.clone();
        let gone = database.take_unreferenced(|layer| state.pins.contains_key(layer));
        if gone.is_empty() {
            return;
        }
        if let Err(error) = self.shelf.replace(&mut state, database) {
            tracing::warn!(%error, "layers without image stay until the next removal");
            return;
        }
        let gone = gone.into_iter().map(|layer| self.shelf.layer(layer));
        let rubbish = self.shelf.bury(gone);
        drop(state);
        burn(rubbish);
    }
}

/// Makes the directory this process's own until the file is closed.
///
/// Opening clears leftovers, so a directory that is not a store is not touched: a wrong setting
/// must not cost somebody's files.
fn claim(dir: &Path) -> Result<File, Error> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Error::store("create the directory", dir, e))?;
    let path = dir.join(LOCK);
    let is_store = path.symlink_metadata().is_ok_and(|lock| lock.is_file());
    let mut entries = std::fs::read_dir(dir).map_err(|e| Error::store("read", dir, e))?;
    if !is_store && entries.next().is_some() {
        return Err(Error::NotAStore {
            dir: dir.to_owned(),
        });
    }
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| Error::store("open", &path, e))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(Error::Locked {
                dir: dir.to_owned(),
            });
        }
        Err(error) => return Err(Error::store("lock", &path, error)),
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .map_err(|e| Error::store("set the mode of", dir, e))?;
    Ok(file)
}

fn create_parts(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    for part in ["tmp", "layers", "blobs", EMPTY] {
        let part = dir.join(part);
        if !part.is_dir() {
            create_directory(&part)?;
        }
    }
    // This one is seen from inside a container, as its root.
    let empty = dir.join(EMPTY);
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o755))
        .map_err(|e| Error::store("set the mode of", &empty, e))
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    }
}

/// Removes what [`Shelf::bury`] moved away, which takes time and needs no lock.
pub(crate) fn burn(rubbish: Option<tempfile::TempDir>) {
    if let Some(Err(error)) = rubbish.map(tempfile::TempDir::close) {
        tracing::warn!(%error, "a removed layer stays until the image store is opened again");
    }
}
