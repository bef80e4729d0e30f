//! The one thread that writes the log: everything waiting is sealed, written as one batch and synced
//! once, and then everybody waiting is told, in order.

use std::collections::BTreeMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use super::record;
use super::recover::Recovered;
use super::seal::Keyring;
use super::{Backend, Durability, Op, Told};

/// Commands that may wait for the thread.
const COMMANDS_MAX: usize = 1024;
/// A batch is not extended beyond this, so that memory and the time to the next sync stay bounded.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Entries dropped in one batch: more at once made sled pause for 0.2 s.
const PURGE_SLICE: usize = 500;

/// Told the outcome exactly once, also if the thread goes away.
pub(crate) struct Done(Option<Box<dyn FnOnce(io::Result<()>) + Send>>);

impl Done {
    pub(crate) fn new(f: impl FnOnce(io::Result<()>) + Send + 'static) -> Self {
        Self(Some(Box::new(f)))
    }

    fn call(mut self, outcome: io::Result<()>) {
        if let Some(f) = self.0.take() {
            f(outcome);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f(Err(stopped()));
        }
    }
}

/// What the thread is asked to do.
pub(crate) enum Command {
    /// Writes encoded entries.
    Append(Vec<(u64, Vec<u8>)>, Done),
    /// Writes the vote.
    Vote(Vec<u8>, Done),
    /// Removes the entries from this index on.
    Truncate(u64, Done),
    /// Removes the entries up to this index, whose encoded id is the new marker.
    Purge(u64, Vec<u8>),
    /// Remembers the last committed entry with the next batch.
    Committed(Vec<u8>),
    /// Seals everything again with the key in use, telling what was done on disk.
    Reseal(Told, Done),
    /// Writes what is left, closes the files and ends the thread.
    Close(Done),
}

/// Sends commands to the thread.
#[derive(Clone)]
pub(crate) struct Wal {
    tx: mpsc::Sender<Command>,
    failure: Arc<OnceLock<String>>,
}

impl Wal {
    /// Starts the thread on a log that was read back as `recovered`.
    pub(crate) fn spawn(
        backend: Box<dyn Backend>,
        keyring: Keyring,
        recovered: &Recovered,
    ) -> io::Result<Self> {
        let (tx, rx) = mpsc::channel(COMMANDS_MAX);
        let failure = Arc::new(OnceLock::new());
        let writer = Writer {
            failure: Arc::clone(&failure),
            backend,
            keyring,
            on_disk: recovered.on_disk.clone(),
            purge_upto: recovered.purged.as_ref().map(|p| p.index),
            committed: None,
            failed: None,
        };
        std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run(rx))?;
        Ok(Self { tx, failure })
    }

    /// Why nothing is written any more, if so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// Queues a command; its `Done` is told the outcome.
    pub(crate) async fn send(&self, command: Command) -> io::Result<()> {
        self.tx.send(command).await.map_err(|_| stopped())
    }

    /// Queues the command made by `command` and waits for its outcome.
    pub(crate) async fn run(&self, command: impl FnOnce(Done) -> Command) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        // Nobody waits any more when the caller was cancelled; the outcome then matters to nobody.
        self.send(command(Done::new(move |outcome| drop(tx.send(outcome)))))
            .await?;
        rx.await.map_err(|_| stopped())?
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log writer has stopped")
}

/// What one round of the thread writes and whom it tells.
#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    bytes: usize,
    durable: bool,
    waiting: Vec<Done>,
    /// A command that needs everything before it on disk.
    barrier: Option<Command>,
}

struct Writer {
    failure: Arc<OnceLock<String>>,
    backend: Box<dyn Backend>,
    keyring: Keyring,
    /// Every entry on disk with the number of its parts.
    on_disk: BTreeMap<u64, u16>,
    /// Entries up to here are to be removed, a slice at a time.
    purge_upto: Option<u64>,
    /// The last committed entry, if it has not been written.
    committed: Option<Vec<u8>>,
    /// The first error; nothing is written after it, since what the disk holds is unknown.
    failed: Option<(io::ErrorKind, String)>,
}

impl Writer {
    fn run(mut self, mut rx: mpsc::Receiver<Command>) {
        loop {
            let first = if self.failed.is_none() && self.has_to_purge() {
                match rx.try_recv() {
                    Ok(command) => Some(command),
                    Err(mpsc::error::TryRecvError::Empty) => None,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            } else {
                match rx.blocking_recv() {
                    Some(command) => Some(command),
                    None => return,
                }
            };
            let mut batch = Batch::default();
            let collected = self.collect(first, &mut rx, &mut batch);
            let outcome = collected.and_then(|()| self.write(&mut batch));
            for done in batch.waiting {
                done.call(match &outcome {
                    Ok(()) => Ok(()),
                    Err(error) => Err(copy(error)),
                });
            }
            match batch.barrier {
                Some(Command::Reseal(told, done)) => {
                    let outcome = outcome.and_then(|()| self.reseal(&told));
                    done.call(outcome);
                }
                Some(Command::Close(done)) => {
                    drop(self);
                    done.call(outcome);
                    return;
                }
                _ => {}
            }
        }
    }

    /// Takes `first` and everything else that is waiting.
    fn collect(
        &mut self,
        first: Option<Command>,
        rx: &mut mpsc::Receiver<Command>,
        batch: &mut Batch,
    ) -> io::Result<()> {
        let mut next = first;
        let mut outcome = Ok(());
        while let Some(command) = next {
            let added = self.add(command, batch);
            outcome = outcome.and(added);
            if batch.barrier.is_some() || batch.bytes >= BATCH_BYTES_MAX {
                break;
            }
            next = rx.try_recv().ok();
        }
        outcome
    }

    fn add(&mut self, command: Command, batch: &mut Batch) -> io::Result<()> {
        let sealer = self.keyring.sealer();
        let put = |batch: &mut Batch, name: &[u8], value: &[u8]| -> io::Result<()> {
            batch
                .ops
                .push(Op::Put(name.to_vec(), sealer.seal(name, value)?));
            Ok(())
        };
        match command {
            Command::Append(entries, done) => {
                batch.durable = true;
                batch.waiting.push(done);
                let value_bytes_max = self.backend.value_bytes_max();
                for (index, encoded) in entries {
                    batch.bytes += encoded.len();
                    let ops = &mut batch.ops;
                    let parts = record::put_entry(&sealer, index, &encoded, value_bytes_max, ops)?;
                    self.on_disk.insert(index, parts);
                }
            }
            Command::Vote(encoded, done) => {
                batch.durable = true;
                batch.waiting.push(done);
                put(batch, record::VOTE, &encoded)?;
            }
            Command::Truncate(from, done) => {
                batch.durable = true;
                batch.waiting.push(done);
                let removed = self.on_disk.split_off(&from);
                batch.ops.extend(deletions(&removed));
            }
            Command::Purge(upto, encoded) => {
                put(batch, record::PURGED, &encoded)?;
                self.purge_upto = self.purge_upto.max(Some(upto));
            }
            Command::Committed(encoded) => self.committed = Some(encoded),
            Command::Reseal(..) | Command::Close(_) => {
                batch.durable = true;
                batch.barrier = Some(command);
            }
        }
        Ok(())
    }

    fn has_to_purge(&self) -> bool {
        let Some(upto) = self.purge_upto else {
            return false;
        };
        self.on_disk
            .first_key_value()
            .is_some_and(|(first, _)| *first <= upto)
    }

    fn write(&mut self, batch: &mut Batch) -> io::Result<()> {
        if let Some((kind, reason)) = &self.failed {
            return Err(io::Error::new(*kind, reason.clone()));
        }
        let outcome = self.commit(batch);
        if let Err(error) = &outcome {
            tracing::error!(%error, "the log cannot be written");
            // Only the first failure gets here.
            self.failure
                .set(format!("the log cannot be written: {error}"))
                .ok();
            self.failed = Some((error.kind(), error.to_string()));
        }
        outcome
    }

    fn commit(&mut self, batch: &mut Batch) -> io::Result<()> {
        if self.has_to_purge() {
            let upto = self.purge_upto.unwrap_or(0);
            let slice: BTreeMap<u64, u16> = self
                .on_disk
                .range(..=upto)
                .take(PURGE_SLICE)
                .map(|(i, p)| (*i, *p))
                .collect();
            for index in slice.keys() {
                self.on_disk.remove(index);
            }
            batch.ops.extend(deletions(&slice));
        }
        if batch.durable
            && let Some(encoded) = self.committed.take()
        {
            let sealed = self.keyring.sealer().seal(record::COMMITTED, &encoded)?;
            batch.ops.push(Op::Put(record::COMMITTED.to_vec(), sealed));
        }
        if batch.ops.is_empty() {
            return Ok(());
        }
        let ops = std::mem::take(&mut batch.ops);
        let durability = if batch.durable {
            Durability::Now
        } else {
            Durability::Later
        };
        let backend = AssertUnwindSafe(&mut self.backend);
        // The library may panic where it should return an error; the member then stops the same way.
        std::panic::catch_unwind(move || {
            let backend = backend;
            backend.0.commit(ops, durability)
        })
        .unwrap_or_else(|_| Err(io::Error::other("the log library panicked")))
    }

    /// Reads every record and writes it again, sealed with the key in use.
    fn reseal(&mut self, told: &Told) -> io::Result<()> {
        let sealer = self.keyring.sealer();
        let mut seal = |name: &[u8], sealed: &[u8]| {
            let plain = sealer.open(name, sealed).map_err(io::Error::other)?;
            sealer.seal(name, &zeroize::Zeroizing::new(plain))
        };
        let outcome = self.backend.rewrite(&mut seal, told);
        if let Err(error) = &outcome {
            tracing::error!(%error, "the log was not sealed again");
        }
        outcome
    }
}

fn deletions(entries: &BTreeMap<u64, u16>) -> impl Iterator<Item = Op> {
    entries.iter().flat_map(|(index, parts)| {
        (0..*parts).map(|part| Op::Del(record::entry_name(*index, part)))
    })
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
