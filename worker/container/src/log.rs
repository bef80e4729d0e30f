//! A container's output on disk: written by its shim, read by the daemon for `service logs`.
//!
//! # Format
//!
//! `log/` holds files named by a ten-digit number that counts up from `0000000001`. The shim appends
//! to the highest; when that is full it starts the next and removes the lowest beyond the limit. No
//! file is ever renamed or rewritten, so a position is a file's number and an offset in it, and it
//! stays good until that file is removed.
//!
//! A file is the eight bytes `swlog 1\n` followed by records, all numbers little-endian:
//!
//! | bytes | field                                                             |
//! |-------|-------------------------------------------------------------------|
//! | 4     | length of the text in bytes                                       |
//! | 1     | stream: 1 standard output, 2 standard error, 3 a notice of the shim |
//! | 1     | flags: bit 0 set when the line goes on in the next record of the stream |
//! | 2     | check: Fletcher-16 of the other fields                            |
//! | 8     | when it was read, in nanoseconds since the epoch                  |
//! | n     | the text, without its newline                                     |
//!
//! Binary rather than JSON lines: output need not be UTF-8, and a shim does no escaping. Records are
//! appended whole by one `write`, so a reader sees at most one torn record, at the end of the file
//! that was being written when the shim or the machine died; it is told by its length or its check
//! and ends the file.

#[cfg(feature = "client")]
mod follow;
mod reader;
mod record;
mod writer;

#[cfg(feature = "client")]
pub use follow::Follower;
pub use reader::{Position, Reader, Start};
pub use record::{Record, Stream, TEXT_BYTES_MAX};
pub(crate) use writer::{LineSplitter, Writer};

/// The first bytes of every file.
const MAGIC: &[u8; 8] = b"swlog 1\n";

/// The name of the file with this number.
fn file_name(number: u64) -> String {
    format!("{number:010}")
}

/// The numbers of the files in a log directory, ascending.
fn file_numbers(dir: &std::path::Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(number) = name.to_str().filter(|name| name.len() == 10)
            && let Ok(number) = number.parse()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests;
