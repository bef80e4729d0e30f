//! What the store holds: names, images and their layers, in one file that is replaced as a whole.
//!
//! This file decides what exists. A layer or document on disk that it does not list is the
//! leftover of an operation that was cut off, and is swept away when the store is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::Error;
use crate::digest::{Digest, ImageId};
use crate::reference::Reference;

/// File name of the database in the store's directory.
pub(crate) const FILE: &str = "repositories.json";
/// Version of the format written.
const VERSION: u32 = 1;

/// Everything the store holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    version: u32,
    #[serde(with = "long_names")]
    pub(crate) names: BTreeMap<Reference, ImageId>,
    pub(crate) images: BTreeMap<ImageId, ImageRecord>,
    pub(crate) layers: BTreeMap<Digest, LayerRecord>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) created: Timestamp,
    /// Lowest first.
    pub(crate) layers: Vec<Digest>,
    /// Manifests and indexes by which registries know it.
    pub(crate) digests: BTreeSet<Digest>,
}

/// A layer in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Contents of its files, in bytes.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Hides all layers below it.
    pub(crate) is_opaque: bool,
}

/// What a text given by a user means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Name(Reference, ImageId),
    Id(ImageId),
}

impl Found {
    pub(crate) fn id(&self) -> ImageId {
        match self {
            Self::Name(_, id) | Self::Id(id) => *id,
        }
    }
}

/// What removing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Images that are gone.
    pub deleted: Vec<ImageId>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            version: VERSION,
            names: BTreeMap::new(),
            images: BTreeMap::new(),
            layers: BTreeMap::new(),
        }
    }
}

impl Database {
    /// Reads the database of the store in `dir`; an empty one when there is none yet.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::store("read", &path, e)),
        };
        let damaged = |source| Error::Database {
            path: path.clone(),
            source,
        };
        let Versioned { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version > VERSION {
            return Err(Error::DatabaseVersion {
                path,
                found: version,
                known: VERSION,
            });
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    }

    /// Replaces the database of the store in `dir`; after an error the old one stands.
    pub(crate) fn write(&self, dir: &Path, tmp: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        let bytes = serde_json::to_vec_pretty(self).map_err(|source| Error::Database {
            path: path.clone(),
            source,
        })?;
        replace_file(&path, &bytes, tmp)
    }

    /// What `text` means: an id, a name, or the beginning of an id, in this order.
    pub(crate) fn find(&self, text: &str) -> Result<Found, Error> {
        let unknown = || Error::UnknownImage {
            name: crate::error::printable(text.as_bytes()),
        };
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if let Some(digest) = Digest::from_hex(digits) {
            let id = ImageId(digest);
            return match self.images.contains_key(&id) {
                true => Ok(Found::Id(id)),
                false => Err(unknown()),
            };
        }
        let reference = text.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(found) = self.find_reference(reference)
        {
            return Ok(found);
        }
        let is_prefix = !digits.is_empty()
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_prefix {
            return Err(match reference {
                Ok(_) => unknown(),
                Err(source) => Error::InvalidName {
                    name: crate::error::printable(text.as_bytes()),
                    source,
                },
            });
        }
        let matches: Vec<ImageId> = self
            .images
            .keys()
            .filter(|id| id.0.hex().starts_with(digits))
            .copied()
            .collect();
        match matches[..] {
            [] => Err(unknown()),
            [id] => Ok(Found::Id(id)),
            [_, _, ..] => Err(Error::AmbiguousPrefix {
                prefix: text.to_owned(),
                matches,
            }),
        }
    }

    /// The image of a reference. A digest decides alone, whatever tag stands beside it: the
    /// contents are what was asked for, under whichever name they came here.
    pub(crate) fn find_reference(&self, reference: &Reference) -> Option<Found> {
        if let Some(digest) = reference.digest() {
            let digest: Digest = digest.parse().ok()?;
            let (id, _) = self
                .images
                .iter()
                .find(|(_, image)| image.digests.contains(&digest))?;
            return Some(Found::Id(*id));
        }
        let reference = reference.clone().with_default_tag();
        let id = *self.names.get(&reference)?;
        Some(Found::Name(reference, id))
    }

    /// The names of an image.
    pub(crate) fn names_of(&self, id: ImageId) -> Vec<Reference> {
        self.names
            .iter()
            .filter(|(_, of)| **of == id)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Size of an image's layers, in bytes of file contents.
    pub(crate) fn bytes_of(&self, image: &ImageRecord) -> u64 {
        image
            .layers
            .iter()
            .filter_map(|layer| self.layers.get(layer))
            .map(|layer| layer.bytes)
            .sum()
    }

    /// Adds an image or, when it is there, what is new about it.
    pub(crate) fn add(&mut self, id: ImageId, record: ImageRecord, names: &[Reference]) {
        let image = self.images.entry(id).or_insert_with(|| ImageRecord {
            digests: BTreeSet::new(),
            ..record.clone()
        });
        image.digests.extend(record.digests);
        for name in names {
            self.names.insert(name.clone(), id);
        }
    }

    /// Takes away a name and, with the last one, the image.
    ///
    /// `in_use` tells whether a container is made from an image. Such an image keeps its layers;
    /// `force` takes only its name away.
    pub(crate) fn remove(
        &mut self,
        text: &str,
        force: bool,
        in_use: &dyn Fn(&ImageId) -> bool,
    ) -> Result<Removed, Error> {
        let found = self.find(text)?;
        let id = found.id();
        let names = self.names_of(id);
        let used = || Error::InUse {
            name: text.to_owned(),
        };
        let (untagged, deletes) = match found {
            Found::Name(name, _) => {
                let is_last = names.len() == 1;
                let is_used = is_last && in_use(&id);
                if is_used && !force {
                    return Err(used());
                }
                (vec![name], is_last && !is_used)
            }
            Found::Id(_) if in_use(&id) => return Err(used()),
            Found::Id(_) if names.len() > 1 && !force => {
                let names: Vec<String> = names.iter().map(Reference::to_string).collect();
                return Err(Error::SeveralNames {
                    id,
                    names: names.join(", "),
                });
            }
            Found::Id(_) => (names, true),
        };
        for name in &untagged {
            self.names.remove(name);
        }
        let mut deleted = Vec::new();
        if deletes {
            self.images.remove(&id);
            deleted.push(id);
        }
        Ok(Removed { untagged, deleted })
    }

    /// Forgets layers that no image and no `kept` needs, and returns them.
    pub(crate) fn take_unreferenced(&mut self, kept: impl Fn(&Digest) -> bool) -> Vec<Digest> {
        let needed: BTreeSet<Digest> = self
            .images
            .values()
            .flat_map(|image| image.layers.iter().copied())
            .collect();
        let gone: Vec<Digest> = self
            .layers
            .keys()
            .filter(|layer| !needed.contains(layer) && !kept(layer))
            .copied()
            .collect();
        for layer in &gone {
            self.layers.remove(layer);
        }
        gone
    }
}

/// Puts `bytes` where `path` is, in one step that survives a crash.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], tmp: &Path) -> Result<(), Error> {
    let mut file = tempfile::NamedTempFile::new_in(tmp)
        .map_err(|e| Error::store("create a file in", tmp, e))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(|e| Error::store("write", path, e))?;
    file.persist(path)
        .map_err(|e| Error::store("replace", path, e.error))?;
    // The new contents stand; a directory that does not reach the disk now will with the next
    // change, and until then a crash brings back the old contents as a whole.
    if let Some(dir) = path.parent()
        && let Err(error) = sync_directory(dir)
    {
        tracing::warn!(path = %dir.display(), %error, "a directory could not be synced");
    }
    Ok(())
}

/// Makes the names in a directory survive a crash.
pub(crate) fn sync_directory(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Names as their long forms, which do not depend on what the short form leaves out.
mod long_names {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::digest::ImageId;
    use crate::reference::Reference;

    pub(super) fn serialize<S: Serializer>(
        names: &BTreeMap<Reference, ImageId>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_map(names.iter().map(|(name, id)| (name.canonical(), id)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<Reference, ImageId>, D::Error> {
        BTreeMap::<String, ImageId>::deserialize(d)?
            .into_iter()
            .map(|(name, id)| Ok((name.parse().map_err(de::Error::custom)?, id)))
            .collect()
    }
}
