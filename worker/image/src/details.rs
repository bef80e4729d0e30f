//! What the store tells about its images.

use serde::Serialize;
use types::Timestamp;

use crate::config::ImageConfig;
use crate::digest::{Digest, ImageId};
use crate::reference::Reference;

/// An image in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// The image.
    pub id: ImageId,
    /// Its names, possibly none.
    pub names: Vec<Reference>,
    /// When it was made; not set when it does not say.
    pub created: Timestamp,
    /// Contents of its files, in bytes; layers shared with other images count for each.
    pub size_bytes: u64,
}

/// Everything known of an image; as JSON it has the keys of Docker's `image inspect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageDetails {
    /// The image.
    pub id: ImageId,
    /// Its names.
    #[serde(rename = "RepoTags", serialize_with = "as_texts")]
    pub names: Vec<Reference>,
    /// Its repositories with the digests of its manifests.
    #[serde(rename = "RepoDigests", serialize_with = "as_texts")]
    pub digests: Vec<Reference>,
    /// When it was made; not set when it does not say.
    pub created: Timestamp,
    /// Who made it, or empty.
    pub author: String,
    /// What a container made from it runs.
    pub config: ImageConfig,
    /// Architecture in Go's words (`amd64`), or empty.
    pub architecture: String,
    /// Variant of the architecture (`v7`), or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Operating system (`linux`), or empty.
    pub os: String,
    /// Contents of its files, in bytes.
    #[serde(rename = "Size")]
    pub size_bytes: u64,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub layers: LayerDigests,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LayerDigests {
    /// `layers`, the only kind there is.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Digests of the uncompressed archives, lowest first.
    pub layers: Vec<Digest>,
}

fn as_texts<S: serde::Serializer>(references: &[Reference], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(references.iter().map(Reference::to_string))
}
