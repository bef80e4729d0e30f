//! The image store of one node: what can be done with images, each operation all or nothing.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::Timestamp;

use crate::Error;
use crate::config::{ConfigDocument, History, ImageConfig, RootFs};
use crate::database::{Database, Removed};
use crate::details::{ImageDetails, ImageSummary, LayerDigests};
use crate::digest::{Digest, ImageId};
use crate::layout::{self, ArchivedImage};
use crate::options::Options;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::shelf::{Pins, Shelf, burn};
use crate::spool::Spool;
use crate::staging::{FILES, StagedLayer, Staging};

/// A handle on the node's images; clones are the same store.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    shelf: Shelf,
    options: Options,
}

/// An image that a load brought, or brought again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub id: ImageId,
    /// Names that now mean it; none for an archive without names.
    pub names: Vec<Reference>,
}

/// What an imported image gets besides its files.
#[derive(Clone, Debug, Default)]
pub struct ImportChanges {
    /// What a container made from it runs; see also [`ImageConfig::apply`].
    pub config: ImageConfig,
    /// When it was imported. Part of its id, as with Docker.
    pub created: Timestamp,
    /// A remark for its history.
    pub message: String,
}

impl ImageStore {
    /// Opens the store in `dir`, creating it when it is not there, and clears what a crash left.
    ///
    /// # Errors
    /// When another process has it open, `dir` holds something else, the database is damaged, or
    /// the file system fails.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let shelf = Shelf::open(dir)?;
        Ok(Self {
            inner: Arc::new(Inner { shelf, options }),
        })
    }

    /// Loads the images of an archive: an OCI image layout or what `docker save` writes, in one
    /// tar stream, plain or compressed with gzip or zstd.
    ///
    /// # Errors
    /// When the archive is damaged, lies, is unsafe to unpack or has no image for this node, and
    /// when the file system fails; the store is then as it was.
    pub fn load(
        &self,
        reader: impl Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Loaded>, Error> {
        let inner = &*self.inner;
        let limits = &inner.options.limits;
        let staging = Staging::new(&inner.shelf.tmp())?;
        let spool = Spool::receive(reader, &staging.spool(), limits, progress)?;
        let images = layout::images(&spool, &inner.options)?;
        let mut pins = Pins::new(&inner.shelf);
        let mut staged: BTreeMap<Digest, StagedLayer> = BTreeMap::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            let digest = layer.diff_id;
            if staged.contains_key(&digest) || pins.contains(digest) {
                continue;
            }
            if pins.pin(digest) {
                progress(Progress::Present { layer: digest });
            } else {
                let layer = staging.unpack_archived(layer, limits, progress)?;
                staged.insert(digest, layer);
            }
        }
        staging.sync()?;
        inner
            .shelf
            .commit(staged.into_values().collect(), &images)?;
        let loaded = loaded(&inner.shelf.state().database, &images);
        Ok(loaded)
    }

    /// Makes an image of one layer from a root file system in a tar stream, plain or compressed
    /// with gzip or zstd.
    ///
    /// # Errors
    /// When `name` has a digest, the archive is damaged, empty or unsafe to unpack, and when the
    /// file system fails; the store is then as it was.
    pub fn import(
        &self,
        reader: impl Read,
        name: Option<Reference>,
        changes: ImportChanges,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ImageId, Error> {
        let inner = &*self.inner;
        let names = name.map(taggable).transpose()?;
        let staging = Staging::new(&inner.shelf.tmp())?;
        let layer = staging.unpack_imported(reader, &inner.options.limits, progress)?;
        let document = imported(&layer, changes, &inner.options);
        let config = serde_json::to_vec(&document).expect("texts, lists and maps become JSON");
        let image = ArchivedImage {
            id: ImageId(Digest::of(&config)),
            config,
            document,
            digests: Vec::new(),
            names: names.into_iter().collect(),
            layers: Vec::new(),
        };
        staging.sync()?;
        inner
            .shelf
            .commit(vec![layer], std::slice::from_ref(&image))?;
        Ok(image.id)
    }

    /// All images, latest first.
    #[must_use]
    pub fn list(&self) -> Vec<ImageSummary> {
        let state = self.inner.shelf.state();
        let database = &state.database;
        let mut images: Vec<ImageSummary> = database
            .images
            .iter()
            .map(|(&id, image)| ImageSummary {
                id,
                names: database.names_of(id),
                created: image.created,
                size_bytes: database.bytes_of(image),
            })
            .collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        images
    }

    /// Everything known of the image that `name_or_id` means.
    ///
    /// # Errors
    /// As [`ImageStore::resolve`], and when its configuration cannot be read.
    pub fn inspect(&self, name_or_id: &str) -> Result<ImageDetails, Error> {
        let state = self.inner.shelf.state();
        let database = &state.database;
        let id = database.find(name_or_id)?.id();
        let names = database.names_of(id);
        let image = &database.images[&id];
        let digests = image
            .digests
            .iter()
            .flat_map(|digest| repository_digests(&names, digest))
            .collect();
        let (size_bytes, layers) = (database.bytes_of(image), image.layers.clone());
        drop(state);
        let document = self.inner.shelf.document(id)?;
        Ok(ImageDetails {
            id,
            names,
            digests,
            created: document.created_at(),
            author: document.author,
            config: document.config,
            architecture: document.architecture,
            variant: document.variant,
            os: document.os,
            size_bytes,
            layers: LayerDigests {
                kind: "layers".to_owned(),
                layers,
            },
        })
    }

    /// The image that a name (`web`, `web:1`, `web@sha256:…`), an id or the beginning of an id
    /// means.
    ///
    /// # Errors
    /// When there is none, several ids begin so, or the text is neither name nor id.
    pub fn resolve(&self, name_or_id: &str) -> Result<ImageId, Error> {
        self.inner
            .shelf
            .state()
            .database
            .find(name_or_id)
            .map(|found| found.id())
    }

    /// The image of a reference, if it is here. A reference with a digest means these contents,
    /// whatever name they were loaded under.
    #[must_use]
    pub fn find(&self, reference: &Reference) -> Option<ImageId> {
        self.inner
            .shelf
            .state()
            .database
            .find_reference(reference)
            .map(|found| found.id())
    }

    /// The directories to be mounted by overlayfs as lower ones, top-most first, never none.
    ///
    /// A layer that an image has twice comes once, as overlayfs demands; the upper one hides the
    /// lower one in any case. Before Linux 6.5 all layers of a mount share one page, or 255 bytes
    /// with `fsconfig`: paths like `/proc/self/fd/7` to opened directories fit where these do not.
    ///
    /// # Errors
    /// When the image is not here or a layer was taken away behind the store's back.
    pub fn layers(&self, id: &ImageId) -> Result<Vec<PathBuf>, Error> {
        let state = self.inner.shelf.state();
        let image = state.database.images.get(id);
        let image = image.ok_or_else(|| Error::UnknownImage {
            name: id.to_string(),
        })?;
        let mut directories = Vec::new();
        for &layer in image.layers.iter().rev() {
            let path = self.inner.shelf.layer(layer).join(FILES);
            if directories.contains(&path) {
                continue;
            }
            let record = state.database.layers.get(&layer);
            let record = record.filter(|_| path.is_dir());
            let record = record.ok_or(Error::LayerMissing { image: *id, layer })?;
            directories.push(path);
            if record.is_opaque {
                break;
            }
        }
        if directories.is_empty() {
            directories.push(self.inner.shelf.empty());
        }
        Ok(directories)
    }

    /// What a container made from the image runs.
    ///
    /// # Errors
    /// When the image is not here or its configuration cannot be read.
    pub fn config(&self, id: &ImageId) -> Result<ImageConfig, Error> {
        if !self.inner.shelf.state().database.images.contains_key(id) {
            return Err(Error::UnknownImage {
                name: id.to_string(),
            });
        }
        Ok(self.inner.shelf.document(*id)?.config)
    }

    /// Gives the image that `name_or_id` means one more name, taken from whichever had it.
    ///
    /// # Errors
    /// As [`ImageStore::resolve`], when `name` has a digest, and when the file system fails.
    pub fn tag(&self, name_or_id: &str, name: Reference) -> Result<(), Error> {
        let name = taggable(name)?;
        let mut state = self.inner.shelf.state();
        let mut database = state.database.clone();
        let id = database.find(name_or_id)?.id();
        database.names.insert(name, id);
        self.inner.shelf.replace(&mut state, database)
    }

    /// Takes a name away and, with the last one or when asked by id, the image and the layers no
    /// other image has.
    ///
    /// `in_use` tells whether a container is made from an image; it is called while the store is
    /// locked and must not call back. `force` takes away an image by id with all its names, and
    /// the last name of an image in use, whose contents then stay.
    ///
    /// # Errors
    /// As [`ImageStore::resolve`]; when the image is in use or, asked by id, has several names;
    /// when the file system fails.
    pub fn remove(
        &self,
        name_or_id: &str,
        force: bool,
        in_use: &dyn Fn(&ImageId) -> bool,
    ) -> Result<Removed, Error> {
        let shelf = &self.inner.shelf;
        let mut state = shelf.state();
        let mut database = state.database.clone();
        let removed = database.remove(name_or_id, force, in_use)?;
        let layers = database.take_unreferenced(|layer| state.pins.contains_key(layer));
        shelf.replace(&mut state, database)?;
        let doomed = layers.into_iter().map(|layer| shelf.layer(layer));
        let blobs = removed.deleted.iter().map(|&id| shelf.blob(id));
        let rubbish = shelf.bury(doomed.chain(blobs));
        drop(state);
        burn(rubbish);
        Ok(removed)
    }
}

fn taggable(name: Reference) -> Result<Reference, Error> {
    if name.digest().is_some() {
        return Err(Error::DigestInName { name });
    }
    Ok(name.with_default_tag())
}

/// What a load brought: each image once, with the names that mean it now.
fn loaded(database: &Database, images: &[ArchivedImage]) -> Vec<Loaded> {
    let mut loaded: Vec<Loaded> = Vec::new();
    for image in images {
        let mut names = image.names.clone();
        names.retain(|name| database.names.get(name) == Some(&image.id));
        match loaded.iter_mut().find(|other| other.id == image.id) {
            Some(same) => {
                names.retain(|name| !same.names.contains(name));
                same.names.append(&mut names);
            }
            None => loaded.push(Loaded {
                id: image.id,
                names,
            }),
        }
    }
    loaded
}

fn imported(layer: &StagedLayer, changes: ImportChanges, options: &Options) -> ConfigDocument {
    let created = Some(changes.created.to_string());
    ConfigDocument {
        created: created.clone(),
        author: String::new(),
        architecture: options.platform.architecture.clone(),
        variant: options.platform.variant.clone(),
        os: options.platform.os.clone(),
        config: changes.config,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![layer.digest],
        },
        history: vec![History {
            created,
            created_by: String::new(),
            comment: changes.message,
            empty_layer: false,
        }],
    }
}

/// `repository@digest` for each repository that the names are in.
fn repository_digests(names: &[Reference], digest: &Digest) -> Vec<Reference> {
    let mut references: Vec<Reference> = names
        .iter()
        .filter_map(|name| name.clone().with_digest(&digest.to_string()).ok())
        .collect();
    references.dedup();
    references
}
