//! What can go wrong with an image, each as one sentence that names the thing it happened to.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{Digest, ImageId};
use crate::platform::Platform;
use crate::reference::{ParseError, Reference};

/// Failure of an operation on images; nothing is left half-done after any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name given by the user or found in an archive is no image reference.
    #[error("`{name}` is not an image name")]
    InvalidName {
        /// The text as given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A name to be given has a digest, which is the manifest's to say.
    #[error("the name `{name}` has a digest: give a tag instead")]
    DigestInName {
        /// The name as given.
        name: Reference,
    },
    /// A digest is malformed or of another algorithm.
    #[error("`{digest}` is not a digest of the form `sha256:<64 hexadecimal digits>`")]
    InvalidDigest {
        /// The text as given.
        digest: String,
    },
    /// A change for an imported image is not understood.
    #[error("the change `{change}` is not understood: {reason}")]
    InvalidChange {
        /// The change as given.
        change: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The stream being read failed.
    #[error("could not read {what}")]
    Read {
        /// What was read.
        what: String,
        /// The reader's own error.
        #[source]
        source: io::Error,
    },
    /// Something ends before it is complete.
    #[error("{what} is truncated: it ends before its contents are complete")]
    Truncated {
        /// What was read.
        what: String,
    },
    /// Compressed data does not decompress.
    #[error("{what} is damaged: it does not decompress")]
    Damaged {
        /// What was read.
        what: String,
        /// The decompressor's own error.
        #[source]
        source: io::Error,
    },
    /// Something is not a tar archive at all.
    #[error("{what} is not a tar archive, plain or compressed with gzip or zstd")]
    NotTar {
        /// What was read.
        what: String,
    },
    /// A tar header is damaged.
    #[error("{what} has a damaged tar header: {reason}")]
    BadHeader {
        /// What was read.
        what: String,
        /// What is wrong with the header.
        reason: String,
    },
    /// A limit of [`crate::Limits`] is passed.
    #[error("{what} is too large: more than {limit}")]
    TooLarge {
        /// What was read.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// An entry names a place outside the archive's own tree.
    #[error("{what} is unsafe: its entry `{entry}` {reason}")]
    Escapes {
        /// What was read.
        what: String,
        /// Path of the entry.
        entry: String,
        /// How it would leave the tree.
        reason: String,
    },
    /// An entry cannot be made.
    #[error("the entry `{entry}` of {what} {reason}")]
    BadEntry {
        /// What was read.
        what: String,
        /// Path of the entry.
        entry: String,
        /// Why it cannot be made.
        reason: String,
    },
    /// A tar archive is neither an image layout nor a `docker save` archive.
    #[error(
        "the archive holds no image: it has neither index.json nor manifest.json \
         (a plain root file system is taken by `image import`)"
    )]
    NotAnImage,
    /// An image archive without any image in it.
    #[error("the archive lists no image")]
    NoImages,
    /// A root file system archive without any entry.
    #[error("the archive is empty: it has no file to import")]
    EmptyImport,
    /// An archive refers to something that is not in it.
    #[error("the archive refers to {what} but does not contain it")]
    Missing {
        /// What was referred to.
        what: String,
    },
    /// Contents differ from the digest they are known by.
    #[error("{what} has the wrong digest: expected {expected}, got {got}")]
    DigestMismatch {
        /// What was read.
        what: String,
        /// The digest it is known by.
        expected: Digest,
        /// The digest of what was there.
        got: Digest,
    },
    /// Contents differ in length from what is written of them.
    #[error("{what} has the wrong size: expected {expected} bytes, got {got}")]
    SizeMismatch {
        /// What was read.
        what: String,
        /// Length by its descriptor, in bytes.
        expected: u64,
        /// Length found, in bytes.
        got: u64,
    },
    /// A descriptor says it is something that is no image, or no layer this store unpacks.
    #[error("{what} has the unsupported media type `{media_type}`")]
    UnsupportedMediaType {
        /// What the descriptor describes.
        what: String,
        /// Its media type.
        media_type: String,
    },
    /// No image in the archive runs here.
    #[error("the archive has no image for {wanted}, only for {found}")]
    NoMatchingPlatform {
        /// This node's platform.
        wanted: Platform,
        /// Platforms found, separated by commas.
        found: String,
    },
    /// A JSON document of the archive does not parse.
    #[error("{what} is not the JSON document it should be")]
    BadJson {
        /// Which document.
        what: String,
        /// The parser's own error.
        #[source]
        source: serde_json::Error,
    },
    /// Documents of one archive contradict each other.
    #[error("{what} is inconsistent: {reason}")]
    Inconsistent {
        /// Which document.
        what: String,
        /// The contradiction.
        reason: String,
    },
    /// The file system of the store is full.
    #[error("no space left for images: could not {doing} {}", path.display())]
    NoSpace {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// A file operation inside the store failed.
    #[error("could not {doing} {}", path.display())]
    Store {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("the image store {} is in use by another process", dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A directory that holds something else; it is left as it is.
    #[error("the directory {} is not empty and not an image store", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
    },
    /// The database of names does not parse; it is left as it is.
    #[error("the image database {} is damaged", path.display())]
    Database {
        /// The database's path.
        path: PathBuf,
        /// The parser's own error.
        #[source]
        source: serde_json::Error,
    },
    /// The database of names was written by a later release.
    #[error("the image database {} has version {found}, this release reads up to {known}", path.display())]
    DatabaseVersion {
        /// The database's path.
        path: PathBuf,
        /// Version found in it.
        found: u32,
        /// Latest version this release knows.
        known: u32,
    },
    /// No image has this name or id.
    #[error("no such image: {name}")]
    UnknownImage {
        /// What was looked for.
        name: String,
    },
    /// Several ids begin with the text given.
    #[error("the id `{prefix}` is ambiguous: it begins the ids of {} images", matches.len())]
    AmbiguousPrefix {
        /// The text given.
        prefix: String,
        /// Images it could mean.
        matches: Vec<ImageId>,
    },
    /// An image asked to be removed by id has names in several places.
    #[error("the image {id} has several names ({names}): remove them one by one, or force it")]
    SeveralNames {
        /// The image.
        id: ImageId,
        /// Its names, separated by commas.
        names: String,
    },
    /// A container uses the image.
    #[error("the image {name} is in use by a container")]
    InUse {
        /// The image as it was named.
        name: String,
    },
    /// A layer that the database lists is not on disk.
    #[error("the layer {layer} of image {image} is missing from the store: load the image again")]
    LayerMissing {
        /// The image asked for.
        image: ImageId,
        /// Its missing layer.
        layer: Digest,
    },
}

impl Error {
    /// A failed file operation of the store; `doing` is a verb with its preposition.
    pub(crate) fn store(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace {
                doing,
                path,
                source,
            },
            _other => Self::Store {
                doing,
                path,
                source,
            },
        }
    }

    /// A failed read of `what`, told apart by what it says of the input.
    ///
    /// `bytes_max` is the limit that was put on the stream.
    pub(crate) fn read(what: &str, source: io::Error, bytes_max: u64) -> Self {
        let what = what.to_owned();
        if ends_early(&source) {
            return Self::Truncated { what };
        }
        match source.kind() {
            io::ErrorKind::FileTooLarge => Self::TooLarge {
                what,
                limit: format!("{bytes_max} bytes"),
            },
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Damaged { what, source }
            }
            _other => Self::Read { what, source },
        }
    }
}

/// Whether an early end of input is at the bottom of `error`; decompressors wrap it.
fn ends_early(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return true;
    }
    let mut next: Option<&(dyn StdError + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(error) = next {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::UnexpectedEof) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Text from an archive made fit for a message: no control characters, at most 120 of them.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const CHARS_MAX: usize = 120;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * CHARS_MAX)]);
    let mut shown: String = text.escape_debug().take(CHARS_MAX).collect();
    if shown.len() < bytes.len() && shown.chars().count() == CHARS_MAX {
        shown.push('…');
    }
    shown
}
