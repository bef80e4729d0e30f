//! The daemon's end: reads records in order, from a place in the log, across rotation.

use super::record::{HEADER_BYTES, Header, Record};
use super::{MAGIC, file_name, file_numbers};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the file.
    pub file: u64,
    /// Bytes into it; 0 is before the first record.
    pub offset: u64,
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record there is.
    Oldest,
    /// With the last so many complete lines.
    Tail(usize),
    /// At a place an earlier reader came to.
    At(Position),
}

/// Reads a container's output. Blocking, but never waits: see [`Reader::next`].
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    position: Position,
    file: Option<BufReader<File>>,
    /// Records from this time on, in nanoseconds since the epoch.
    since_ns: u64,
}

/// What reading one record came to.
enum Step {
    Record(Record),
    /// No whole record here (yet).
    End,
}

impl Reader {
    /// Reads the log in `dir` (see [`crate::client::Container::log_dir`]). Records before `since_ns`
    /// are passed over; [`Start::Tail`] counts lines from there on only.
    #[cfg_attr(not(feature = "client"), doc = "")]
    pub fn open(dir: &Path, start: Start, since_ns: u64) -> io::Result<Self> {
        let from = |position| Self {
            dir: dir.to_owned(),
            position,
            file: None,
            since_ns,
        };
        let oldest = Position { file: 0, offset: 0 };
        match start {
            Start::Oldest => Ok(from(oldest)),
            Start::At(position) => Ok(from(position)),
            Start::Tail(lines) => Ok(from(from(oldest).tail(lines)?)),
        }
    }

    /// The next record, or `None` when there is none yet. After more was written, it may be called
    /// again.
    #[expect(
        clippy::should_implement_trait,
        reason = "an end that is no end fits no iterator"
    )]
    pub fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            if self.file.is_none() && !self.open_file()? {
                return Ok(None);
            }
            match self.read()? {
                Step::Record(record) if record.timestamp_ns < self.since_ns => {}
                Step::Record(record) => return Ok(Some(record)),
                Step::End => {
                    // A later file is only begun once nothing more is written to this one.
                    if !self.has_later_file()? {
                        return Ok(None);
                    }
                    // What was written between the read and the look is read before moving on.
                    match self.read()? {
                        Step::Record(record) if record.timestamp_ns < self.since_ns => {}
                        Step::Record(record) => return Ok(Some(record)),
                        Step::End => self.leave_file(),
                    }
                }
            }
        }
    }

    /// The place behind the last record that was read.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Opens the file of the position, or the oldest one after it if that was removed.
    fn open_file(&mut self) -> io::Result<bool> {
        loop {
            let numbers = match file_numbers(&self.dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                numbers => numbers?,
            };
            let Some(number) = numbers
                .into_iter()
                .find(|number| *number >= self.position.file)
            else {
                return Ok(false);
            };
            if number != self.position.file {
                self.position = Position {
                    file: number,
                    offset: 0,
                };
            }
            match File::open(self.dir.join(file_name(number))) {
                Ok(file) => {
                    let mut file = BufReader::new(file);
                    file.seek(SeekFrom::Start(self.position.offset))?;
                    self.file = Some(file);
                    return Ok(true);
                }
                // Rotated away since the listing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.position = Position {
                        file: number + 1,
                        offset: 0,
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn has_later_file(&self) -> io::Result<bool> {
        Ok(file_numbers(&self.dir)?
            .last()
            .is_some_and(|last| *last > self.position.file))
    }

    fn leave_file(&mut self) {
        self.file = None;
        self.position = Position {
            file: self.position.file + 1,
            offset: 0,
        };
    }

    fn read(&mut self) -> io::Result<Step> {
        let Some(file) = &mut self.file else {
            return Ok(Step::End);
        };
        let mut offset = self.position.offset;
        let Some(record) = read_record(file, &mut offset)? else {
            // Whatever was read of an incomplete record is read again once there is more.
            file.seek(SeekFrom::Start(self.position.offset))?;
            return Ok(Step::End);
        };
        self.position.offset = offset;
        Ok(Step::Record(record))
    }

    /// The place before the last `lines` complete lines. Reads all headers: a log is some megabytes.
    fn tail(mut self, lines: usize) -> io::Result<Position> {
        let mut starts = VecDeque::with_capacity(lines.min(4096) + 1);
        let mut at_line_start = true;
        loop {
            let before = self.position;
            let Some(record) = self.next()? else {
                return Ok(starts.front().copied().unwrap_or(self.position));
            };
            if at_line_start && lines > 0 {
                // A file change between the two records moves the place on, but not past a record.
                let start = if before.file == self.position.file {
                    before
                } else {
                    Position {
                        file: self.position.file,
                        offset: 0,
                    }
                };
                starts.push_back(start);
                if starts.len() > lines {
                    starts.pop_front();
                }
            }
            at_line_start = !record.partial;
        }
    }
}

/// Reads one record at `offset`, where the file stands, and moves `offset` behind it.
fn read_record(file: &mut impl Read, offset: &mut u64) -> io::Result<Option<Record>> {
    if *offset == 0 {
        let mut magic = [0; MAGIC.len()];
        if !read_whole(file, &mut magic)? || magic != *MAGIC {
            return Ok(None);
        }
        *offset = MAGIC.len() as u64;
    }
    let mut header = [0; HEADER_BYTES];
    if !read_whole(file, &mut header)? {
        return Ok(None);
    }
    let Some(header) = Header::decode(&header) else {
        return Ok(None);
    };
    let mut text = vec![0; header.text_bytes];
    if !read_whole(file, &mut text)? {
        return Ok(None);
    }
    *offset += (HEADER_BYTES + header.text_bytes) as u64;
    let Header {
        stream,
        partial,
        timestamp_ns,
        ..
    } = header;
    Ok(Some(Record {
        timestamp_ns,
        stream,
        partial,
        text,
    }))
}

/// Fills the buffer, or says that the file ends before it is full.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
