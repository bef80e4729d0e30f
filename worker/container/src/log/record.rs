//! One line of output, or a part of an overlong one.

use serde::{Deserialize, Serialize};

/// Longest text of one record in bytes; longer lines continue in the next. Docker's value.
pub const TEXT_BYTES_MAX: usize = 16 << 10;

/// Bytes before the text.
pub(super) const HEADER_BYTES: usize = 16;

const FLAG_PARTIAL: u8 = 1;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The shim, about the log itself: that output was lost.
    Notice,
}

/// One line of output, or a part of an overlong one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When the shim read it, in nanoseconds since the epoch.
    pub timestamp_ns: u64,
    /// Where it came from.
    pub stream: Stream,
    /// Whether the line goes on in the next record of this stream.
    pub partial: bool,
    /// The text, without its newline.
    pub text: Vec<u8>,
}

/// The fields before the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) text_bytes: usize,
    pub(super) stream: Stream,
    pub(super) partial: bool,
    pub(super) timestamp_ns: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let length = u32::try_from(self.text_bytes).expect("a text is at most 16 KiB");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
            Stream::Notice => 3,
        };
        bytes[5] = if self.partial { FLAG_PARTIAL } else { 0 };
        bytes[8..].copy_from_slice(&self.timestamp_ns.to_le_bytes());
        let check = check(&bytes);
        bytes[6..8].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None` if these bytes were not written as a header.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let written = u16::from_le_bytes([bytes[6], bytes[7]]);
        if written != check(bytes) {
            return None;
        }
        let stream = match bytes[4] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::Notice,
            _ => return None,
        };
        let length = u32::from_le_bytes(bytes[..4].try_into().ok()?);
        let text_bytes = usize::try_from(length)
            .ok()
            .filter(|bytes| *bytes <= TEXT_BYTES_MAX)?;
        let timestamp_ns = u64::from_le_bytes(bytes[8..].try_into().ok()?);
        Some(Self {
            text_bytes,
            stream,
            partial: bytes[5] & FLAG_PARTIAL != 0,
            timestamp_ns,
        })
    }
}

/// Fletcher-16 over a header without its check; never 0 for a header of zeros, which is what a file
/// holds where the machine died before its data reached the disk.
fn check(header: &[u8; HEADER_BYTES]) -> u16 {
    let (mut low, mut high) = (1u16, 0u16);
    for byte in header[..6].iter().chain(&header[8..]) {
        low = (low + u16::from(*byte)) % 255;
        high = (high + low) % 255;
    }
    high << 8 | low
}
