//! Reading tar archives entry by entry, in bounded memory whatever the archive says of itself.
//!
//! Field layout comes from the `tar` crate. Its own iterator is not used: it reads long names and
//! extended headers into memory at whatever size the archive claims, and splits extended
//! attributes at line breaks, which breaks binary ones such as `security.capability`.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::Error;
use crate::error::printable;

/// Size of a tar block, in bytes.
const BLOCK_BYTES: usize = 512;
/// Longest extended header or long name read, in bytes: 64 KiB for one attribute's value (the
/// kernel's XATTR_SIZE_MAX), and room for several.
const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;
/// Longest path of an entry or target of a link, in bytes (the kernel's PATH_MAX, which counts a
/// NUL at the end).
const PATH_BYTES_MAX: usize = 4095;

/// What one entry of an archive makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink { target: Vec<u8> },
    Hardlink { target: Vec<u8> },
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

/// Seconds since the epoch and nanoseconds within the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModifiedAt {
    pub(crate) secs: i64,
    pub(crate) nanos: u32,
}

/// One entry of an archive; its contents, if any, are read from the [`TarReader`].
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// As in the archive: not normalized, not checked for where it leads; free of NUL.
    pub(crate) path: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    /// Never `u32::MAX`, which system calls take for "leave it".
    pub(crate) uid: u32,
    /// Never `u32::MAX`.
    pub(crate) gid: u32,
    pub(crate) modified_at: ModifiedAt,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A tar archive being read; `Read` gives the contents of the current entry.
pub(crate) struct TarReader<R> {
    inner: R,
    what: String,
    bytes_max: u64,
    left: u64,
    padding: u64,
    entries: u64,
    ended: bool,
    has_end_marker: bool,
}

/// Values of extended headers, waiting for the entry they belong to.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    /// Reads from `inner`, of which messages speak as `what`.
    ///
    /// `bytes_max` is the limit that stands on `inner`, for messages alone.
    pub(crate) fn new(inner: R, what: &str, bytes_max: u64) -> Self {
        Self {
            inner,
            what: what.to_owned(),
            bytes_max,
            left: 0,
            padding: 0,
            entries: 0,
            ended: false,
            has_end_marker: false,
        }
    }

    /// The next entry, after stepping over what is left of the current one.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut pending = Pending::default();
        loop {
            self.skip(self.left.saturating_add(self.padding))?;
            (self.left, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                return if pending.is_empty() {
                    Ok(None)
                } else {
                    Err(self.truncated())
                };
            };
            let size = self.number(&header.as_old().size, "size")?;
            self.expect_data(size);
            match header.entry_type().as_byte() {
                // Global headers carry comments (git) and are ignored by Docker as well.
                b'g' => {}
                b'x' | b'X' => {
                    let records = self.extension(size)?;
                    self.parse_records(&records, &mut pending)?;
                }
                b'L' => pending.path = Some(until_nul(&self.extension(size)?).to_vec()),
                b'K' => pending.link = Some(until_nul(&self.extension(size)?).to_vec()),
                _entry => return self.entry(&header, size, pending).map(Some),
            }
        }
    }

    /// Reads everything behind the last entry, so that a digest of the stream is complete.
    pub(crate) fn drain(&mut self) -> Result<(), Error> {
        io::copy(&mut self.inner, &mut io::sink())
            .map(drop)
            .map_err(|e| self.read_error(e))
    }

    /// Refuses an archive without end marker: it may have been cut between two entries.
    pub(crate) fn require_end_marker(&self) -> Result<(), Error> {
        if self.has_end_marker {
            Ok(())
        } else {
            Err(self.truncated())
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// Fills `buf` from the current entry; zero at its end.
    pub(crate) fn read_contents(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        self.read(buf).map_err(|e| self.read_error(e))
    }

    fn header(&mut self) -> Result<Option<tar::Header>, Error> {
        if self.ended {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let filled =
            fill(&mut self.inner, block).map_err(|e| Error::read(&self.what, e, self.bytes_max))?;
        let is_first = self.entries == 0;
        self.entries += 1;
        if filled == 0 && !is_first {
            self.ended = true;
            return Ok(None);
        }
        if filled < BLOCK_BYTES {
            return Err(self.truncated());
        }
        if block.iter().all(|&byte| byte == 0) {
            self.ended = true;
            self.has_end_marker = true;
            return Ok(None);
        }
        if !checksum_is_right(&header) {
            return Err(if is_first {
                Error::NotTar {
                    what: self.what.clone(),
                }
            } else {
                self.bad_header("its checksum is wrong")
            });
        }
        Ok(Some(header))
    }

    fn entry(&mut self, header: &tar::Header, size: u64, pending: Pending) -> Result<Entry, Error> {
        let path = match &pending.path {
            Some(path) => path.clone(),
            None => header.path_bytes().into_owned(),
        };
        if pending
            .records
            .keys()
            .any(|key| key.starts_with(b"GNU.sparse."))
        {
            return Err(self.bad_entry(&path, "is a sparse file, which is not supported"));
        }
        let target = match &pending.link {
            Some(link) => link.clone(),
            None => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        for text in [&path, &target] {
            if text.len() > PATH_BYTES_MAX {
                return Err(self.bad_entry(&path, "has a path of more than 4095 bytes"));
            }
            if text.contains(&0) {
                return Err(self.bad_entry(&path, "has a NUL byte in its path"));
            }
        }
        let kind = self.kind(header, &path, target)?;
        let size = match (&kind, pending.records.get(&b"size"[..])) {
            (Kind::File, Some(text)) => self.decimal(text, "size")?,
            (Kind::File, None) => size,
            // Nothing follows the other kinds, whatever their size says (as in Go's reader).
            (
                Kind::Directory
                | Kind::Symlink { .. }
                | Kind::Hardlink { .. }
                | Kind::CharDevice { .. }
                | Kind::BlockDevice { .. }
                | Kind::Fifo,
                _,
            ) => 0,
        };
        self.expect_data(size);
        let old = header.as_old();
        Ok(Entry {
            kind,
            path,
            mode: u32::try_from(self.number(&old.mode, "mode")? & 0o7777).unwrap_or_default(),
            uid: self.owner(&old.uid, pending.records.get(&b"uid"[..]), "uid")?,
            gid: self.owner(&old.gid, pending.records.get(&b"gid"[..]), "gid")?,
            modified_at: self.modified_at(&old.mtime, pending.records.get(&b"mtime"[..]))?,
            xattrs: pending.xattrs(),
        })
    }

    fn kind(&self, header: &tar::Header, path: &[u8], target: Vec<u8>) -> Result<Kind, Error> {
        let device = |field: Option<[u8; 8]>| match field {
            Some(field) => u32::try_from(self.number(&field, "device number")?)
                .map_err(|_| self.bad_header("its device number is too large")),
            None => Err(self.bad_header("a device needs a header with device numbers")),
        };
        let ustar = header.as_ustar();
        let gnu = header.as_gnu();
        let major = ustar.map(|h| h.dev_major).or(gnu.map(|h| h.dev_major));
        let minor = ustar.map(|h| h.dev_minor).or(gnu.map(|h| h.dev_minor));
        Ok(match header.entry_type().as_byte() {
            // Archives older than POSIX tell a directory by the slash at its end alone.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::Hardlink { target },
            b'2' => Kind::Symlink { target },
            b'3' => Kind::CharDevice {
                major: device(major)?,
                minor: device(minor)?,
            },
            b'4' => Kind::BlockDevice {
                major: device(major)?,
                minor: device(minor)?,
            },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => return Err(self.bad_entry(path, "is a sparse file, which is not supported")),
            other => {
                let kind = char::from(other).escape_default();
                let reason = format!("has the unsupported type `{kind}`");
                return Err(self.bad_entry(path, &reason));
            }
        })
    }

    fn expect_data(&mut self, size: u64) {
        let block = BLOCK_BYTES as u64;
        self.left = size;
        self.padding = (block - size % block) % block;
    }

    /// The whole contents of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > EXTENSION_BYTES_MAX {
            return Err(Error::TooLarge {
                what: format!("an extended header of {}", self.what),
                limit: format!("{EXTENSION_BYTES_MAX} bytes"),
            });
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)
            .map_err(|e| self.read_error(e))?;
        Ok(bytes)
    }

    /// Takes the records `<length> <key>=<value>\n` of a POSIX extended header.
    fn parse_records(&self, mut records: &[u8], pending: &mut Pending) -> Result<(), Error> {
        while !records.is_empty() {
            let (key, value, rest) = next_record(records)
                .ok_or_else(|| self.bad_header("an extended record is malformed"))?;
            match key {
                b"path" => pending.path = Some(value.to_vec()),
                b"linkpath" => pending.link = Some(value.to_vec()),
                _other => {
                    pending.records.insert(key.to_vec(), value.to_vec());
                }
            }
            records = rest;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Error> {
        let skipped = io::copy(&mut self.inner.by_ref().take(bytes), &mut io::sink())
            .map_err(|e| self.read_error(e))?;
        if skipped < bytes {
            return Err(self.truncated());
        }
        Ok(())
    }

    /// A non-negative number of a header: octal digits, or binary when the top bit is set.
    fn number(&self, field: &[u8], name: &str) -> Result<u64, Error> {
        signed_number(field)
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| self.bad_header(&format!("its {name} is no number")))
    }

    fn decimal(&self, text: &[u8], name: &str) -> Result<u64, Error> {
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.bad_header(&format!("its {name} is no number")))
    }

    fn owner(&self, field: &[u8], record: Option<&Vec<u8>>, name: &str) -> Result<u32, Error> {
        let number = match record {
            Some(text) => self.decimal(text, name)?,
            None => self.number(field, name)?,
        };
        u32::try_from(number)
            .ok()
            .filter(|&id| id != u32::MAX)
            .ok_or_else(|| self.bad_header(&format!("its {name} {number} is too large")))
    }

    fn modified_at(&self, field: &[u8], record: Option<&Vec<u8>>) -> Result<ModifiedAt, Error> {
        let at = match record {
            Some(text) => std::str::from_utf8(text).ok().and_then(parse_decimal_time),
            None => signed_number(field).map(|secs| ModifiedAt { secs, nanos: 0 }),
        };
        at.ok_or_else(|| self.bad_header("its modification time is no number"))
    }

    fn truncated(&self) -> Error {
        Error::Truncated {
            what: self.what.clone(),
        }
    }

    fn bad_header(&self, reason: &str) -> Error {
        Error::BadHeader {
            what: self.what.clone(),
            reason: reason.to_owned(),
        }
    }

    fn bad_entry(&self, path: &[u8], reason: &str) -> Error {
        Error::BadEntry {
            what: self.what.clone(),
            entry: printable(path),
            reason: reason.to_owned(),
        }
    }

    fn read_error(&self, source: io::Error) -> Error {
        Error::read(&self.what, source, self.bytes_max)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buf[..wanted])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.link.is_none() && self.records.is_empty()
    }

    /// Extended attributes, in the form Docker, GNU tar and star write them.
    fn xattrs(self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.records
            .into_iter()
            .filter_map(|(key, value)| {
                let name = key.strip_prefix(b"SCHILY.xattr.")?;
                (!name.is_empty()).then(|| (name.to_vec(), value))
            })
            .collect()
    }
}

/// Reads until `buf` is full or the input ends; gives the number of bytes read.
fn fill(reader: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match reader.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Sum of the header's bytes with the checksum itself as spaces; old writers summed signed bytes.
fn checksum_is_right(header: &tar::Header) -> bool {
    const CHECKSUM_AT: std::ops::Range<usize> = 148..156;
    let Some(written) = signed_number(&header.as_old().cksum) else {
        return false;
    };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, &byte) in header.as_bytes().iter().enumerate() {
        let byte = if CHECKSUM_AT.contains(&at) {
            b' '
        } else {
            byte
        };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    written == unsigned || written == signed
}

/// A number field: octal text, blank for zero, or big-endian two's complement marked by its top
/// bit (GNU's base-256).
fn signed_number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // The marker bit is dropped and the next one is the sign.
        let start = if first & 0x40 != 0 { -1_i128 } else { 0 };
        let mut value = start << 6 | i128::from(first & 0x3f);
        for &byte in &field[1..] {
            value = value.checked_mul(256)? | i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0_i64, |value, &digit| {
        let digit = digit.checked_sub(b'0').filter(|&d| d < 8)?;
        value.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Key and value of the first record, and the records behind it.
fn next_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

/// `-12.345` as seconds and nanoseconds; digits past the ninth are dropped.
fn parse_decimal_time(text: &str) -> Option<ModifiedAt> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        let secs = secs.checked_sub(1)?;
        let nanos = 1_000_000_000 - nanos;
        return Some(ModifiedAt { secs, nanos });
    }
    Some(ModifiedAt { secs, nanos })
}

#[cfg(test)]
mod tests;
