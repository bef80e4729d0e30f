//! Which images an archive holds: OCI image layouts and `docker save` archives, verified.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::{ConfigDocument, null_as_default};
use crate::digest::{Digest, ImageId};
use crate::options::Options;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::spool::{self, Blob, Spool};
use crate::{Error, error};

/// Indexes in indexes; real ones have one level below the archive's own.
const INDEX_DEPTH_MAX: usize = 4;

/// An image of the archive, its documents verified and its layers not yet unpacked.
#[derive(Debug)]
pub(crate) struct ArchivedImage {
    pub(crate) id: ImageId,
    /// The document whose digest is the id.
    pub(crate) config: Vec<u8>,
    pub(crate) document: ConfigDocument,
    /// Digests of manifest and indexes that lead to the image.
    pub(crate) digests: Vec<Digest>,
    pub(crate) names: Vec<Reference>,
    /// Lowest first.
    pub(crate) layers: Vec<ArchivedLayer>,
}

/// A layer as it lies in the archive.
#[derive(Clone, Debug)]
pub(crate) struct ArchivedLayer {
    pub(crate) diff_id: Digest,
    pub(crate) file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<DescribedPlatform>,
    #[serde(default, deserialize_with = "null_as_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DescribedPlatform {
    os: String,
    architecture: String,
    variant: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// One image in the manifest.json of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default, deserialize_with = "null_as_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    layers: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Index,
    Manifest,
    Other,
}

/// The images of an archive that run on this node.
///
/// An archive with both descriptions (Docker from release 25 on) is read as an OCI layout, which
/// alone has the digests of manifests; names are taken from both.
pub(crate) fn images(spool: &Spool, options: &Options) -> Result<Vec<ArchivedImage>, Error> {
    let index = spool.by_path("index.json");
    let saved = spool.by_path("manifest.json");
    let saved: Vec<SavedImage> = match saved {
        Some(blob) => spool.json(blob, "manifest.json")?,
        None if index.is_none() => return Err(Error::NotAnImage),
        None => Vec::new(),
    };
    let mut images = match index {
        Some(blob) => Layout { spool, options }.images(blob)?,
        None => saved
            .iter()
            .map(|image| saved_image(image, spool, options))
            .collect::<Result<_, _>>()?,
    };
    if images.is_empty() {
        return Err(Error::NoImages);
    }
    for entry in &saved {
        let id = spool.by_path(&entry.config).map(|blob| blob.digest);
        let image = images.iter_mut().find(|image| Some(image.id.0) == id);
        if let Some(image) = image {
            for tag in &entry.repo_tags {
                add_name(image, tag)?;
            }
        }
    }
    Ok(images)
}

// === OCI layouts ===

struct Layout<'a> {
    spool: &'a Spool,
    options: &'a Options,
}

impl Layout<'_> {
    fn images(&self, index: &Blob) -> Result<Vec<ArchivedImage>, Error> {
        let index: Index = self.spool.json(index, "index.json")?;
        let mut images = Vec::new();
        let mut found = Vec::new();
        let mut foreign = None;
        for descriptor in &index.manifests {
            if is_attestation(descriptor) {
                continue;
            }
            if self.role(descriptor)? == Role::Other {
                foreign = Some(unsupported("an entry of the index", &descriptor.media_type));
                continue;
            }
            match self.image(descriptor, 0) {
                Ok(image) => images.push(image),
                Err(Error::NoMatchingPlatform { found: other, .. }) => found.push(other),
                Err(error) => return Err(error),
            }
        }
        match foreign {
            _ if !images.is_empty() => Ok(images),
            _ if !found.is_empty() => Err(self.no_platform(&found)),
            Some(error) => Err(error),
            None => Err(Error::NoImages),
        }
    }

    /// The image a descriptor of an index leads to, directly or through further indexes.
    fn image(&self, descriptor: &Descriptor, depth: usize) -> Result<ArchivedImage, Error> {
        let mut image = match self.role(descriptor)? {
            Role::Manifest => self.image_of_manifest(descriptor)?,
            Role::Index if depth == INDEX_DEPTH_MAX => {
                return Err(Error::Inconsistent {
                    what: spool::ARCHIVE.to_owned(),
                    reason: format!("it nests indexes more than {INDEX_DEPTH_MAX} deep"),
                });
            }
            Role::Index => self.best_of_index(descriptor, depth)?,
            Role::Other => {
                return Err(unsupported("an entry of the index", &descriptor.media_type));
            }
        };
        if let Some(name) = described_name(descriptor) {
            add_name(&mut image, name)?;
        }
        Ok(image)
    }

    fn best_of_index(&self, descriptor: &Descriptor, depth: usize) -> Result<ArchivedImage, Error> {
        let (digest, blob) = self.blob(descriptor, "the index")?;
        let index: Index = self.spool.json(blob, &format!("the index {digest}"))?;
        let wanted = &self.options.platform;
        let mut found = Vec::new();
        let mut best: Option<(u32, &Descriptor)> = None;
        for candidate in index.manifests.iter().filter(|d| !is_attestation(d)) {
            let platform = candidate.platform();
            match wanted.fit(&platform) {
                // Of equals the first counts, as in containerd.
                Some(fit) if best.is_none_or(|(other, _)| fit > other) => {
                    best = Some((fit, candidate));
                }
                Some(_) => {}
                None => found.push(platform.to_string()),
            }
        }
        let (_, best) = best.ok_or_else(|| self.no_platform(&found))?;
        let mut image = self.image(best, depth + 1)?;
        image.digests.push(digest);
        Ok(image)
    }

    fn image_of_manifest(&self, descriptor: &Descriptor) -> Result<ArchivedImage, Error> {
        let platform = descriptor.platform();
        if self.options.platform.fit(&platform).is_none() {
            return Err(self.no_platform(&[platform.to_string()]));
        }
        let (digest, blob) = self.blob(descriptor, "the manifest")?;
        let manifest: Manifest = self.spool.json(blob, &format!("the manifest {digest}"))?;
        check_config_type(&manifest.config.media_type)?;
        let (config_digest, config) = self.blob(&manifest.config, "the configuration")?;
        let config = self.spool.read(config, "the configuration")?;
        let document = check_config(&config, config_digest, self.options)?;
        let diff_ids = &document.rootfs.diff_ids;
        check_layer_count(
            config_digest,
            diff_ids.len(),
            manifest.layers.len(),
            self.options,
        )?;
        let mut layers = Vec::new();
        for (layer, &diff_id) in manifest.layers.iter().zip(diff_ids) {
            check_layer_type(layer)?;
            let (_, blob) = self.blob(layer, "the layer")?;
            let file = blob.file.clone();
            layers.push(ArchivedLayer { diff_id, file });
        }
        Ok(ArchivedImage {
            id: ImageId(config_digest),
            config,
            document,
            digests: vec![digest],
            names: Vec::new(),
            layers,
        })
    }

    /// The blob of a descriptor, its size and digest verified.
    fn blob(&self, descriptor: &Descriptor, what: &str) -> Result<(Digest, &Blob), Error> {
        let digest: Digest = descriptor.digest.parse()?;
        let blob = self.spool.by_digest(digest, what)?;
        if blob.bytes != descriptor.size {
            return Err(Error::SizeMismatch {
                what: format!("{what} {digest}"),
                expected: descriptor.size,
                got: blob.bytes,
            });
        }
        Ok((digest, blob))
    }

    /// What a descriptor of an index describes; one without media type is looked into.
    fn role(&self, descriptor: &Descriptor) -> Result<Role, Error> {
        Ok(match descriptor.media_type.as_str() {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Role::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Role::Manifest,
            "" => {
                let (_, blob) = self.blob(descriptor, "the manifest")?;
                let document: BTreeMap<String, serde::de::IgnoredAny> =
                    self.spool.json(blob, "the manifest")?;
                if document.contains_key("manifests") {
                    Role::Index
                } else {
                    Role::Manifest
                }
            }
            _other => Role::Other,
        })
    }

    fn no_platform(&self, found: &[String]) -> Error {
        Error::NoMatchingPlatform {
            wanted: self.options.platform.clone(),
            found: if found.is_empty() {
                "none at all".to_owned()
            } else {
                error::printable(found.join(", ").as_bytes())
            },
        }
    }
}

impl Descriptor {
    /// The platform described; an empty one when there is none.
    fn platform(&self) -> Platform {
        let described = self.platform.as_ref();
        let part = |part: fn(&DescribedPlatform) -> &String| {
            described.map(part).cloned().unwrap_or_default()
        };
        Platform {
            os: part(|p| &p.os),
            architecture: part(|p| &p.architecture),
            variant: part(|p| &p.variant),
        }
    }
}

/// Build records that `docker buildx` puts beside an image under the platform `unknown/unknown`.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor
        .annotations
        .get("vnd.docker.reference.type")
        .is_some_and(|kind| kind == "attestation-manifest")
}

/// The name an index gives an image: containerd's annotation has a whole one; OCI's is often a
/// mere tag, which names nothing by itself.
fn described_name(descriptor: &Descriptor) -> Option<&str> {
    let annotation = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    annotation("io.containerd.image.name").or_else(|| {
        annotation("org.opencontainers.image.ref.name")
            .filter(|name| name.contains([':', '/']) && name.parse::<Reference>().is_ok())
    })
}

fn check_config_type(media_type: &str) -> Result<(), Error> {
    match media_type {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json" => Ok(()),
        other => Err(unsupported("the configuration of a manifest", other)),
    }
}

/// Whether a layer is a tar archive; how it is compressed is seen from its bytes.
fn check_layer_type(layer: &Descriptor) -> Result<(), Error> {
    let (kind, compression) = layer
        .media_type
        .split_once('+')
        .unwrap_or((&layer.media_type, ""));
    let is_known = match kind {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => {
            ["", "gzip", "zstd"].contains(&compression)
        }
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => compression.is_empty(),
        _other => false,
    };
    if is_known {
        Ok(())
    } else {
        let what = format!("the layer {}", error::printable(layer.digest.as_bytes()));
        Err(unsupported(&what, &layer.media_type))
    }
}

fn unsupported(what: &str, media_type: &str) -> Error {
    Error::UnsupportedMediaType {
        what: what.to_owned(),
        media_type: error::printable(media_type.as_bytes()),
    }
}

// === docker save ===

fn saved_image(
    saved: &SavedImage,
    spool: &Spool,
    options: &Options,
) -> Result<ArchivedImage, Error> {
    let missing = |what: &str, path: &str| Error::Missing {
        what: format!("{what} {}", error::printable(path.as_bytes())),
    };
    let blob = spool
        .by_path(&saved.config)
        .ok_or_else(|| missing("the configuration", &saved.config))?;
    if let Some(expected) = digest_in_name(&saved.config)
        && expected != blob.digest
    {
        return Err(Error::DigestMismatch {
            what: "the configuration".to_owned(),
            expected,
            got: blob.digest,
        });
    }
    let config = spool.read(blob, "the configuration")?;
    let document = check_config(&config, blob.digest, options)?;
    let diff_ids = &document.rootfs.diff_ids;
    check_layer_count(blob.digest, diff_ids.len(), saved.layers.len(), options)?;
    let mut layers = Vec::new();
    for (path, &diff_id) in saved.layers.iter().zip(diff_ids) {
        let blob = spool
            .by_path(path)
            .ok_or_else(|| missing("the layer", path))?;
        let file = blob.file.clone();
        layers.push(ArchivedLayer { diff_id, file });
    }
    Ok(ArchivedImage {
        id: ImageId(blob.digest),
        config,
        document,
        digests: Vec::new(),
        names: Vec::new(),
        layers,
    })
}

/// The digest a configuration's file is named by: `<hex>.json`, or `blobs/sha256/<hex>`.
fn digest_in_name(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    Digest::from_hex(name.strip_suffix(".json").unwrap_or(name))
}

// === both ===

fn check_config(config: &[u8], digest: Digest, options: &Options) -> Result<ConfigDocument, Error> {
    let document: ConfigDocument = spool::parse(config, &format!("the configuration {digest}"))?;
    if options.platform.fit(&document.platform()).is_none() {
        return Err(Error::NoMatchingPlatform {
            wanted: options.platform.clone(),
            found: error::printable(document.platform().to_string().as_bytes()),
        });
    }
    Ok(document)
}

fn check_layer_count(
    config: Digest,
    configured: usize,
    listed: usize,
    options: &Options,
) -> Result<(), Error> {
    let what = format!("the configuration {config}");
    if configured != listed {
        return Err(Error::Inconsistent {
            what,
            reason: format!("it has {configured} layers and its manifest {listed}"),
        });
    }
    let layers_max = options.limits.layers_max;
    if listed > layers_max {
        return Err(Error::TooLarge {
            what: format!("the image of {what}"),
            limit: format!("{layers_max} layers"),
        });
    }
    Ok(())
}

fn add_name(image: &mut ArchivedImage, name: &str) -> Result<(), Error> {
    // Docker writes this for images without a name.
    if name == "<none>:<none>" {
        return Ok(());
    }
    let reference: Reference = name.parse().map_err(|source| Error::InvalidName {
        name: error::printable(name.as_bytes()),
        source,
    })?;
    // A digest is a fact about the manifest, kept with the image; only tags are names.
    let named = reference.tag().is_some() || reference.digest().is_none();
    let reference = reference.without_digest().with_default_tag();
    if named && !image.names.contains(&reference) {
        image.names.push(reference);
    }
    Ok(())
}
