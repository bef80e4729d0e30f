//! Settings of an image store.

use crate::platform::Platform;

/// Settings of an image store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which image of a multi-platform archive is taken.
    pub platform: Platform,
    /// How much an archive may hold.
    pub limits: Limits,
}

/// How much an archive may hold before it is refused: the guard against archives that are small
/// and unpack to more than the disk.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Size of a whole archive once decompressed, in bytes.
    pub archive_bytes_max: u64,
    /// Size of one layer's archive once decompressed, in bytes.
    pub layer_bytes_max: u64,
    /// Entries of one archive or layer.
    pub entries_max: u64,
    /// Layers of one image. The default is Docker's, which leaves overlayfs (500) room for the
    /// layers of a container itself.
    pub layers_max: usize,
    /// Size of one index, manifest or configuration, in bytes.
    pub document_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            platform: Platform::current(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1024 * 1024 * 1024;
        Self {
            archive_bytes_max: 64 * GIB,
            layer_bytes_max: 32 * GIB,
            entries_max: 2_000_000,
            layers_max: 125,
            // 4 MiB is what registries accept for a manifest; configurations are smaller.
            document_bytes_max: 4 * 1024 * 1024,
        }
    }
}
