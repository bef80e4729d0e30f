//! The log as the library sees it: all live entries in memory, every change also on its way to disk.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use prost::Message as _;

use super::codec::{self, Malformed};
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::log::recover::Recovered;
use crate::log::wal::{self, Done, Wal};

/// Bytes of entries given out for one message, beyond the first entry.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log of one member.
#[derive(Clone)]
pub(crate) struct LogStore {
    cache: Arc<Mutex<Cache>>,
    wal: Wal,
}

/// Reads entries out of memory.
#[derive(Clone)]
pub(crate) struct LogReader {
    cache: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    vote: Option<Vote>,
}

impl LogStore {
    pub(crate) fn new(recovered: Recovered, wal: Wal) -> Result<Self, Malformed> {
        let mut cache = Cache {
            entries: BTreeMap::new(),
            purged: recovered.purged.map(codec::log_id_from),
            committed: recovered.committed.map(codec::log_id_from),
            vote: recovered.vote.map(codec::vote_from),
        };
        for entry in recovered.entries {
            let entry = codec::entry_from(entry)?;
            cache.entries.insert(entry.log_id.index, entry);
        }
        Ok(Self {
            cache: Arc::new(Mutex::new(cache)),
            wal,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(lock(&self.cache)
            .entries
            .range(range)
            .map(|(_, e)| e.clone())
            .collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += 64 + payload_bytes(entry);
            first || bytes <= READ_BYTES_MAX
        };
        let cache = lock(&self.cache);
        Ok(cache
            .entries
            .range(start..end)
            .map(|(_, e)| e)
            .take_while(fits)
            .cloned()
            .collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(lock(&self.cache).vote)
    }
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let cache = self.lock();
        let last = cache
            .entries
            .last_key_value()
            .map(|(_, entry)| entry.log_id);
        Ok(LogState {
            last_purged_log_id: cache.purged,
            last_log_id: last.or(cache.purged),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader {
            cache: Arc::clone(&self.cache),
        }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let encoded = codec::vote_to(vote).encode_to_vec();
        self.wal
            .run(|done| wal::Command::Vote(encoded, done))
            .await?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.lock().committed = committed;
        let Some(committed) = committed else {
            return Ok(());
        };
        let encoded = codec::log_id_to(&committed).encode_to_vec();
        self.wal.send(wal::Command::Committed(encoded)).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut cache = self.lock();
            for entry in entries {
                let index = entry.log_id.index;
                records.push((index, codec::entry_to(&entry).encode_to_vec()));
                cache.entries.insert(index, entry);
            }
        }
        let done = Done::new(move |outcome| callback.io_completed(outcome));
        self.wal.send(wal::Command::Append(records, done)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        drop(self.lock().entries.split_off(&from));
        self.wal
            .run(|done| wal::Command::Truncate(from, done))
            .await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut cache = self.lock();
            cache.entries = cache.entries.split_off(&(upto.index + 1));
            cache.purged = cache.purged.max(Some(upto));
        }
        let encoded = codec::log_id_to(&upto).encode_to_vec();
        self.wal
            .send(wal::Command::Purge(upto.index, encoded))
            .await
    }
}
