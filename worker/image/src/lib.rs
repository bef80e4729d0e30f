//! Images on this node: loaded, imported, verified and stored, each layer once, unpacked into a
//! directory that a container's overlayfs mounts.
//!
//! Everything here blocks; async callers use `spawn_blocking`. On disk, below the directory given
//! to [`ImageStore::open`]:
//!
//! ```text
//! repositories.json   names, images, layers: what it does not list does not exist
//! blobs/<hex>         configuration of an image, by the image's id
//! layers/<hex>/diff   files of a layer, by the digest of its uncompressed archive
//! empty/              the layer of an image without layers
//! tmp/                operations in progress; emptied when the store is opened
//! images.lock         held while a process has the store open
//! ```

pub mod reference;

mod archive;
mod changes;
mod compression;
mod config;
mod database;
mod details;
mod digest;
mod entry_path;
mod error;
mod layout;
mod options;
mod platform;
mod progress;
mod shelf;
mod spool;
mod staging;
mod store;
mod tree;
mod unpack;

pub use config::ImageConfig;
pub use database::Removed;
pub use details::{ImageDetails, ImageSummary, LayerDigests};
pub use digest::{Digest, ImageId};
pub use error::Error;
pub use options::{Limits, Options};
pub use platform::Platform;
pub use progress::Progress;
pub use reference::Reference;
pub use store::{ImageStore, ImportChanges, Loaded};
