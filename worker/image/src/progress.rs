//! What an operation in progress tells its caller.

use crate::digest::Digest;

/// Bytes between two reports of the same step.
pub(crate) const REPORT_EVERY_BYTES: u64 = 4 * 1024 * 1024;

/// A step of loading or importing an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The archive is being received.
    Receiving {
        /// Bytes of contents received so far.
        bytes: u64,
    },
    /// A layer is being unpacked.
    Unpacking {
        /// The layer.
        layer: Digest,
        /// Bytes of the layer unpacked so far.
        bytes: u64,
    },
    /// A layer is in the store already.
    Present {
        /// The layer.
        layer: Digest,
    },
}
