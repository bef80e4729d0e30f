//! Archives for the tests: layers, OCI image layouts and `docker save` archives.

use std::collections::BTreeMap;
use std::io::Write as _;

use image::Digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};

/// A tar archive being written; owners default to the test's own user.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn file(self, path: &str, contents: &str) -> Self {
        self.with(path, EntryType::Regular, contents.as_bytes(), |_| {})
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.with(path, EntryType::Directory, b"", |h| h.set_mode(0o755))
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.with(path, EntryType::Symlink, b"", |h| set_link(h, target))
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.with(path, EntryType::Link, b"", |h| set_link(h, target))
    }

    /// An entry of any kind. The path is written as it is, where the library would refuse some.
    pub(crate) fn with(
        mut self,
        path: &str,
        kind: EntryType,
        contents: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(1_000_000_000);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        change(&mut header);
        header.set_cksum();
        self.0.append(&header, contents).unwrap();
        self
    }

    /// Extended records for the entry that follows.
    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn set_link(header: &mut Header, target: &str) {
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A configuration for this machine, with the digests of these layers.
pub(crate) fn config(layers: &[&[u8]]) -> Value {
    let platform = image::Platform::current();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({
        "created": "2023-11-14T22:13:20Z",
        "architecture": platform.architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/web"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// An OCI image layout being made.
#[derive(Default)]
pub(crate) struct Layout {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) index: Vec<Value>,
    /// Files outside `blobs`, after all others.
    pub(crate) extra: Vec<(String, Vec<u8>)>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl Layout {
    /// Adds a blob and gives its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = Digest::of(&bytes);
        let size = bytes.len();
        self.blobs.insert(digest.hex(), bytes);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// Adds configuration, layers (as stored) and manifest; gives the manifest's descriptor.
    pub(crate) fn manifest(&mut self, config: &Value, layers: &[(&str, Vec<u8>)]) -> Value {
        let config = self.blob(CONFIG, config.to_string().into_bytes());
        let layers: Vec<Value> = layers
            .iter()
            .map(|(suffix, bytes)| self.blob(&format!("{LAYER}{suffix}"), bytes.clone()))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.blob(MANIFEST, manifest.to_string().into_bytes())
    }

    /// Adds an image of plain layers under a name.
    pub(crate) fn image(&mut self, name: &str, layers: &[&[u8]]) {
        let stored: Vec<_> = layers.iter().map(|layer| ("", layer.to_vec())).collect();
        let manifest = self.manifest(&config(layers), &stored);
        self.named(name, manifest);
    }

    /// Lists a descriptor in the index, with a name unless that is empty.
    pub(crate) fn named(&mut self, name: &str, mut descriptor: Value) {
        if !name.is_empty() {
            descriptor["annotations"] = json!({"io.containerd.image.name": name});
        }
        self.index.push(descriptor);
    }

    pub(crate) fn build(self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": self.index}).to_string();
        let mut tar = Tar::new()
            .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", &index)
            .dir("blobs/")
            .dir("blobs/sha256/");
        for (hex, bytes) in self.blobs {
            tar = tar.with(
                &format!("blobs/sha256/{hex}"),
                EntryType::Regular,
                &bytes,
                |_| {},
            );
        }
        for (path, bytes) in self.extra {
            tar = tar.with(&path, EntryType::Regular, &bytes, |_| {});
        }
        tar.build()
    }
}

/// An image layout of one image.
pub(crate) fn layout(name: &str, layers: &[&[u8]]) -> Vec<u8> {
    let mut layout = Layout::default();
    layout.image(name, layers);
    layout.build()
}

/// The old form of `docker save`: configuration by digest, layers in directories, manifest last.
pub(crate) fn docker_save(names: &[&str], layers: &[&[u8]]) -> Vec<u8> {
    let config = config(layers).to_string();
    let config_path = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let mut tar = Tar::new().file(&config_path, &config);
    let mut paths: Vec<String> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let path = format!("{number}/layer.tar");
        tar = tar.dir(&format!("{number}/"));
        // What `docker save` writes when two layers are the same.
        tar = match layers[..number].iter().position(|other| other == layer) {
            Some(first) => tar.symlink(&path, &format!("../{first}/layer.tar")),
            None => tar.with(&path, EntryType::Regular, layer, |_| {}),
        };
        paths.push(path);
    }
    let manifest = json!([{"Config": config_path, "RepoTags": names, "Layers": paths}]);
    tar.file("manifest.json", &manifest.to_string()).build()
}
