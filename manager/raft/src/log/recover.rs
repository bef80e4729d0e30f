//! Reading the log back at start, and refusing one that is not what this code wrote.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use prost::Message;
use proto::raft as pb;

use super::record::{self, Assembler};
use super::seal::Sealer;
use super::{Backend, Durability, Op};
use crate::Error;
use crate::log::io_error;

/// Version of the layout of records; another one is refused.
const FORMAT: u32 = 1;

/// What the disk holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Who the log belongs to.
    pub(crate) member_id: u64,
    pub(crate) vote: Option<pb::Vote>,
    pub(crate) committed: Option<pb::LogId>,
    pub(crate) purged: Option<pb::LogId>,
    /// Everything after `purged`, without a hole.
    pub(crate) entries: Vec<pb::Entry>,
    /// Every entry on disk with the number of its parts, also those below `purged`.
    pub(crate) on_disk: BTreeMap<u64, u16>,
}

/// Reads the whole log, or makes a fresh one belong to `member_id`.
///
/// # Errors
/// [`Error::WrongKey`], [`Error::Corrupt`] or [`Error::Io`]; nothing on disk was changed.
pub(crate) fn recover(
    backend: &mut dyn Backend,
    sealer: &Sealer,
    dir: &Path,
    member_id: u64,
) -> Result<Recovered, Error> {
    let mut values = BTreeMap::new();
    let mut read = |name: &[u8], sealed: &[u8]| {
        values.insert(name.to_vec(), sealed.to_vec());
        Ok(())
    };
    backend
        .scan(b"m/", &mut read)
        .map_err(io_error("read log in", dir))?;
    let reader = Reader {
        sealer,
        dir,
        values,
    };

    let (entries, on_disk) = reader.entries(backend)?;
    let member_id = match reader.identity()? {
        Some(found) => found,
        None if reader.values.is_empty() && on_disk.is_empty() => {
            write_identity(backend, sealer, member_id).map_err(io_error("write log in", dir))?;
            member_id
        }
        None => return Err(reader.corrupt(record::IDENTITY, "missing")),
    };
    let purged: Option<pb::LogId> = reader.value(record::PURGED)?;
    let entries = reader.contiguous(entries, purged.as_ref())?;
    Ok(Recovered {
        member_id,
        vote: reader.value(record::VOTE)?,
        committed: reader.value(record::COMMITTED)?,
        purged,
        entries,
        on_disk,
    })
}

fn write_identity(backend: &mut dyn Backend, sealer: &Sealer, member_id: u64) -> io::Result<()> {
    let identity = pb::LogIdentity {
        member_id,
        format: FORMAT,
    };
    let sealed = sealer.seal(record::IDENTITY, &identity.encode_to_vec())?;
    backend.commit(
        vec![Op::Put(record::IDENTITY.to_vec(), sealed)],
        Durability::Now,
    )
}

struct Reader<'a> {
    sealer: &'a Sealer,
    dir: &'a Path,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Reader<'_> {
    fn corrupt(&self, name: &[u8], reason: impl Into<String>) -> Error {
        let record = match record::parse_entry_name(name) {
            Some((index, part)) => format!("entry {index} part {part}"),
            None => String::from_utf8_lossy(name).into_owned(),
        };
        Error::Corrupt {
            dir: self.dir.to_owned(),
            record,
            reason: reason.into(),
        }
    }

    fn value<M: Message + Default>(&self, name: &[u8]) -> Result<Option<M>, Error> {
        let Some(sealed) = self.values.get(name) else {
            return Ok(None);
        };
        let plain = self
            .sealer
            .open(name, sealed)
            .map_err(|e| self.corrupt(name, e.to_string()))?;
        let value = M::decode(plain.as_slice()).map_err(|e| self.corrupt(name, e.to_string()))?;
        Ok(Some(value))
    }

    /// Tells a wrong key from a damaged record: with a wrong key nothing opens.
    fn identity(&self) -> Result<Option<u64>, Error> {
        match self.value::<pb::LogIdentity>(record::IDENTITY) {
            Ok(None) => Ok(None),
            Ok(Some(identity)) if identity.format == FORMAT => Ok(Some(identity.member_id)),
            Ok(Some(identity)) => {
                let reason = format!("format {} is not known", identity.format);
                Err(self.corrupt(record::IDENTITY, reason))
            }
            Err(damaged) => {
                let opens =
                    |(name, sealed): (&Vec<u8>, &Vec<u8>)| self.sealer.open(name, sealed).is_ok();
                if self.values.iter().any(opens) {
                    return Err(damaged);
                }
                Err(Error::WrongKey {
                    dir: self.dir.to_owned(),
                })
            }
        }
    }

    #[expect(
        clippy::type_complexity,
        reason = "entries by index, and how many parts each has"
    )]
    fn entries(
        &self,
        backend: &dyn Backend,
    ) -> Result<(BTreeMap<u64, pb::Entry>, BTreeMap<u64, u16>), Error> {
        // Before any entry is opened, so that a wrong key is called that.
        self.identity()?;
        let mut entries = BTreeMap::new();
        let mut on_disk = BTreeMap::new();
        let mut assembler = Assembler::default();
        let mut damaged = None;
        let scanned = backend.scan(record::ENTRIES, &mut |name, sealed| {
            let stop = |reason: &str, damaged: &mut Option<Error>| {
                *damaged = Some(self.corrupt(name, reason));
                Err(io::Error::other("damaged"))
            };
            let Some((index, part)) = record::parse_entry_name(name) else {
                return stop("the name is not one of an entry", &mut damaged);
            };
            let Ok(plain) = self.sealer.open(name, sealed) else {
                return stop("the seal does not open", &mut damaged);
            };
            let (encoded, parts) = match assembler.add(index, part, plain) {
                Ok(None) => return Ok(()),
                Ok(Some(whole)) => whole,
                Err(reason) => return stop(reason, &mut damaged),
            };
            match pb::Entry::decode(encoded.as_slice()) {
                Ok(entry) if entry.log_id.is_some_and(|id| id.index == index) => {
                    entries.insert(index, entry);
                    on_disk.insert(index, parts);
                    Ok(())
                }
                Ok(_) => stop("the entry belongs elsewhere", &mut damaged),
                Err(_) => stop("the entry does not decode", &mut damaged),
            }
        });
        if let Some(error) = damaged {
            return Err(error);
        }
        scanned.map_err(io_error("read log in", self.dir))?;
        if let Some(index) = assembler.unfinished() {
            return Err(self.corrupt(&record::entry_name(index, 0), "its last parts are missing"));
        }
        Ok((entries, on_disk))
    }

    /// What follows the purge marker; a hole would make the member answer for entries it lacks.
    fn contiguous(
        &self,
        mut entries: BTreeMap<u64, pb::Entry>,
        purged: Option<&pb::LogId>,
    ) -> Result<Vec<pb::Entry>, Error> {
        let first = purged.map_or(0, |p| p.index + 1);
        let live = entries.split_off(&first);
        if let Some((missing, _)) = (first..).zip(live.keys()).find(|(e, found)| e != *found) {
            return Err(self.corrupt(&record::entry_name(missing, 0), "missing"));
        }
        Ok(live.into_values().collect())
    }
}
