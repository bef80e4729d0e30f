//! The shim's end: splits output into lines and appends them to rotated files.
//!
//! A container never waits for its logs: if they cannot be written (a full disk), output is counted
//! and dropped, and a notice says so once writing works again.

use super::record::{HEADER_BYTES, Header, Stream, TEXT_BYTES_MAX};
use super::{MAGIC, file_name};
use crate::spec::LogOptions;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Appends records to the files of a log directory.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    options: LogOptions,
    number: u64,
    /// The file that is written, once there is output.
    file: Option<File>,
    file_bytes: u64,
    lost_bytes: u64,
    /// Records that are ready to be written; empty between calls.
    pending: Vec<u8>,
}

impl Writer {
    /// Writes to a directory that exists and holds no log yet. Nothing is opened before the first
    /// record.
    pub(crate) fn new(dir: PathBuf, options: LogOptions) -> Self {
        let options = LogOptions {
            files_max: options.files_max.max(1),
            ..options
        };
        Self {
            dir,
            options,
            number: 0,
            file: None,
            file_bytes: 0,
            lost_bytes: 0,
            pending: Vec::new(),
        }
    }

    /// Adds a record to those that the next [`Self::flush`] writes.
    pub(crate) fn add(&mut self, timestamp_ns: u64, stream: Stream, partial: bool, text: &[&[u8]]) {
        let text_bytes = text.iter().map(|part| part.len()).sum();
        let header = Header {
            text_bytes,
            stream,
            partial,
            timestamp_ns,
        };
        self.pending.extend_from_slice(&header.encode());
        for part in text {
            self.pending.extend_from_slice(part);
        }
    }

    /// Appends what was added, in one write.
    pub(crate) fn flush(&mut self, timestamp_ns: u64) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = self.pending.len() as u64;
        if self.lost_bytes > 0 {
            self.prepend_notice(timestamp_ns);
        }
        let pending = std::mem::take(&mut self.pending);
        match self.append(&pending) {
            Ok(()) => self.lost_bytes = 0,
            Err(_) => self.lost_bytes += bytes,
        }
        // The buffer is given back rather than kept: most containers are silent most of the time.
    }

    fn prepend_notice(&mut self, timestamp_ns: u64) {
        let text = format!(
            "{} bytes of logs could not be written and are lost",
            self.lost_bytes
        );
        let lines = std::mem::take(&mut self.pending);
        self.add(timestamp_ns, Stream::Notice, false, &[text.as_bytes()]);
        self.pending.extend_from_slice(&lines);
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if self.file.is_none() || self.file_bytes >= self.options.file_bytes_max {
            self.next_file()?;
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let result = file.write_all(records);
        match result {
            Ok(()) => self.file_bytes += records.len() as u64,
            // A part may have been written. The next records go to a new file, since nothing behind
            // a torn record can be read.
            Err(_) => self.file = None,
        }
        result
    }

    fn next_file(&mut self) -> io::Result<()> {
        let number = self.number + 1;
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.dir.join(file_name(number)))?;
        file.write_all(MAGIC)?;
        self.number = number;
        self.file = Some(file);
        self.file_bytes = MAGIC.len() as u64;
        if let Some(oldest) = number.checked_sub(u64::from(self.options.files_max)) {
            // It may be gone already; then there is nothing to remove.
            let _ = std::fs::remove_file(self.dir.join(file_name(oldest)));
        }
        Ok(())
    }
}

/// Splits one stream of output into lines.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    stream: Stream,
    /// The beginning of a line whose end was not read yet.
    begun: Vec<u8>,
}

impl LineSplitter {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            begun: Vec::new(),
        }
    }

    /// Takes what was read and adds the lines that are complete.
    pub(crate) fn take(&mut self, timestamp_ns: u64, mut bytes: &[u8], writer: &mut Writer) {
        while !bytes.is_empty() {
            let room = TEXT_BYTES_MAX - self.begun.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            let (end, rest, partial) = match window.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at, at + 1, false),
                None if bytes.len() >= room => (room, room, true),
                None => {
                    self.begun.extend_from_slice(bytes);
                    return;
                }
            };
            writer.add(
                timestamp_ns,
                self.stream,
                partial,
                &[&self.begun, &bytes[..end]],
            );
            self.begun = Vec::new();
            bytes = &bytes[rest..];
        }
    }

    /// Adds the last line, which did not end in a newline.
    pub(crate) fn finish(&mut self, timestamp_ns: u64, writer: &mut Writer) {
        if !self.begun.is_empty() {
            writer.add(timestamp_ns, self.stream, false, &[&self.begun]);
            self.begun = Vec::new();
        }
    }
}

/// What one record takes besides its text.
const _: () = assert!(HEADER_BYTES == 16, "the format says so");
