//! The snapshot file: one, sealed, replaced as a whole.
//!
//! Layout: 8 bytes of magic; the length of the sealed header (4 bytes, big-endian); the sealed header;
//! the sealed state. The state is sealed under a name that contains its last entry, so that header
//! and state of two snapshots cannot be mixed.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message as _;
use proto::raft as pb;

use crate::Error;
use crate::log::seal::Keyring;
use crate::log::{io_error, sync_dir};

const FILE: &str = "snapshot";
const TMP: &str = "snapshot.tmp";
const MAGIC: &[u8; 8] = b"swarmsn1";
const HEADER_NAME: &[u8] = b"snapshot/header";
/// A header holds ids and addresses of members only.
const HEADER_BYTES_MAX: u32 = 16 << 20;

/// A state, in memory or in the snapshot file.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) header: pb::SnapshotHeader,
    state: StateBytes,
}

#[derive(Clone, Debug)]
enum StateBytes {
    Memory(Arc<Vec<u8>>),
    /// Kept open, so that it stays this snapshot when a newer one takes its name.
    File(Arc<Mutex<File>>),
}

impl Image {
    /// A state just received.
    pub(crate) fn in_memory(header: pb::SnapshotHeader, state: Vec<u8>) -> Self {
        Self {
            header,
            state: StateBytes::Memory(Arc::new(state)),
        }
    }
}

/// Reads and replaces the snapshot file of one member.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    dir: PathBuf,
    keyring: Keyring,
    current: Arc<Mutex<Option<Image>>>,
}

impl SnapshotFile {
    /// Looks at the snapshot in `dir`, if there is one, and removes an unfinished one.
    pub(crate) fn open(dir: &Path, keyring: Keyring) -> Result<Self, Error> {
        let tmp = dir.join(TMP);
        match std::fs::remove_file(&tmp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &tmp)(e));
            }
            Ok(()) | Err(_) => {}
        }
        let this = Self {
            dir: dir.to_owned(),
            keyring,
            current: Arc::default(),
        };
        *this.lock() = this.read_header()?;
        Ok(this)
    }

    /// The snapshot there is now.
    pub(crate) fn current(&self) -> Option<Image> {
        self.lock().clone()
    }

    /// Whether `image` is what the snapshot file holds already.
    pub(crate) fn holds(&self, image: &Image) -> bool {
        let current = self.lock();
        match (&image.state, current.as_ref().map(|c| &c.state)) {
            (StateBytes::File(a), Some(StateBytes::File(b))) => Arc::ptr_eq(a, b),
            (StateBytes::Memory(_) | StateBytes::File(_), _) => false,
        }
    }

    /// The state of an image.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the file does not open with the keys held.
    pub(crate) fn state(&self, image: &Image) -> Result<Arc<Vec<u8>>, Error> {
        let file = match &image.state {
            StateBytes::Memory(bytes) => return Ok(Arc::clone(bytes)),
            StateBytes::File(file) => file,
        };
        let path = self.dir.join(FILE);
        let mut sealed = Vec::new();
        {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let mut read = || {
                file.rewind()?;
                file.read_to_end(&mut sealed)
            };
            read().map_err(io_error("read", &path))?;
        }
        let start = sealed
            .get(8..12)
            .and_then(|l| l.try_into().ok())
            .map(|l| 12 + u32::from_be_bytes(l) as usize)
            .filter(|start| *start <= sealed.len())
            .ok_or_else(|| self.corrupt("the file is too short"))?;
        let state = self
            .keyring
            .sealer()
            .open(&state_name(&image.header), &sealed[start..])
            .map_err(|e| self.corrupt(e.to_string()))?;
        Ok(Arc::new(state))
    }

    /// Replaces the snapshot by `state`; it is durable when this returns.
    ///
    /// A snapshot that reaches further than `state` stays: it was received while this one was built.
    pub(crate) fn write(&self, header: pb::SnapshotHeader, state: Vec<u8>) -> Result<Image, Error> {
        let mut current = self.lock();
        if let Some(image) = &*current
            && last_index(&image.header) > last_index(&header)
        {
            return Ok(image.clone());
        }
        self.replace(&mut current, header, state, &|_| ())
    }

    /// Seals the snapshot again with the key in use.
    pub(crate) fn reseal(&self, told: &(dyn Fn(&'static str) + Send + Sync)) -> Result<(), Error> {
        let mut current = self.lock();
        let Some(image) = current.clone() else {
            return Ok(());
        };
        let state = self.state(&image)?;
        self.replace(
            &mut current,
            image.header,
            Arc::unwrap_or_clone(state),
            told,
        )?;
        told("the directory of the snapshot was synced");
        Ok(())
    }

    /// The lock is held to the end: a rotation has to see either the old file or the new one.
    fn replace(
        &self,
        current: &mut Option<Image>,
        mut header: pb::SnapshotHeader,
        mut state: Vec<u8>,
        told: &(dyn Fn(&'static str) + Send + Sync),
    ) -> Result<Image, Error> {
        let sealer = self.keyring.sealer();
        header.size_bytes = state.len() as u64;
        let path = self.dir.join(TMP);
        let mut write = || -> io::Result<File> {
            let nonce = sealer.seal_in_place(&state_name(&header), &mut state)?;
            let sealed_header = sealer.seal(HEADER_NAME, &header.encode_to_vec())?;
            let header_bytes = u32::try_from(sealed_header.len())
                .map_err(|_| io::Error::other("the header is too large"))?;
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .truncate(true)
                .read(true)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(MAGIC)?;
            file.write_all(&header_bytes.to_be_bytes())?;
            file.write_all(&sealed_header)?;
            file.write_all(&nonce)?;
            file.write_all(&state)?;
            told("the next snapshot was written in part");
            file.sync_all()?;
            told("the next snapshot was synced");
            std::fs::rename(&path, self.dir.join(FILE))?;
            told("the snapshot was replaced");
            Ok(file)
        };
        let file = write().map_err(io_error("write", &path))?;
        sync_dir(&self.dir)?;
        let image = Image {
            header,
            state: StateBytes::File(Arc::new(Mutex::new(file))),
        };
        *current = Some(image.clone());
        Ok(image)
    }

    fn read_header(&self) -> Result<Option<Image>, Error> {
        let path = self.dir.join(FILE);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("open", &path)(e)),
        };
        let mut start = [0; 12];
        file.read_exact(&mut start)
            .map_err(|_| self.corrupt("the file is too short"))?;
        let (magic, length) = start.split_at(8);
        if magic != MAGIC {
            return Err(self.corrupt("the file is not a snapshot"));
        }
        let length = u32::from_be_bytes(length.try_into().expect("four of twelve bytes are left"));
        if length > HEADER_BYTES_MAX {
            return Err(self.corrupt("the header is too long"));
        }
        let mut sealed = vec![0; length as usize];
        file.read_exact(&mut sealed)
            .map_err(|_| self.corrupt("the file is too short"))?;
        let plain = self
            .keyring
            .sealer()
            .open(HEADER_NAME, &sealed)
            .map_err(|e| self.corrupt(e.to_string()))?;
        let header = pb::SnapshotHeader::decode(plain.as_slice())
            .map_err(|e| self.corrupt(e.to_string()))?;
        Ok(Some(Image {
            header,
            state: StateBytes::File(Arc::new(Mutex::new(file))),
        }))
    }

    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::Corrupt {
            dir: self.dir.clone(),
            record: FILE.to_owned(),
            reason: reason.into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Image>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn last_index(header: &pb::SnapshotHeader) -> Option<u64> {
    header.last_log_id.map(|id| id.index)
}

fn state_name(header: &pb::SnapshotHeader) -> Vec<u8> {
    let id = header.last_log_id.unwrap_or_default();
    format!("snapshot/state/{}/{}/{}", id.term, id.leader, id.index).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::seal::{DataKey, Sealer};

    fn keyring(byte: u8) -> Keyring {
        Keyring::new(Sealer::new(&DataKey::new([byte; 32]), &[]))
    }

    fn header(index: u64) -> pb::SnapshotHeader {
        let last_log_id = Some(pb::LogId {
            term: 1,
            leader: 2,
            index,
        });
        pb::SnapshotHeader {
            last_log_id,
            removed: vec![5],
            ..Default::default()
        }
    }

    #[test]
    fn a_snapshot_is_read_back_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::open(dir.path(), keyring(1)).unwrap();
        assert!(file.current().is_none());
        let first = file.write(header(10), b"first".to_vec()).unwrap();
        file.write(header(20), b"second".to_vec()).unwrap();
        assert_eq!(
            *file.state(&first).unwrap(),
            b"first",
            "still open for whoever sends it"
        );

        let again = SnapshotFile::open(dir.path(), keyring(1)).unwrap();
        let current = again.current().unwrap();
        assert_eq!(
            current.header,
            pb::SnapshotHeader {
                size_bytes: 6,
                ..header(20)
            }
        );
        assert_eq!(*again.state(&current).unwrap(), b"second");
        assert!(again.holds(&current) && !again.holds(&first));
    }

    #[test]
    fn an_older_snapshot_does_not_replace_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::open(dir.path(), keyring(1)).unwrap();
        file.write(header(20), b"newer".to_vec()).unwrap();
        let kept = file.write(header(10), b"older".to_vec()).unwrap();
        assert_eq!(*file.state(&kept).unwrap(), b"newer");
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        SnapshotFile::open(dir.path(), keyring(1))
            .unwrap()
            .write(header(1), vec![7; 40])
            .unwrap();
        let path = dir.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        assert!(
            !good.windows(8).any(|w| w == [7; 8]),
            "the state is in clear"
        );
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            let opened = SnapshotFile::open(dir.path(), keyring(1))
                .and_then(|f| f.state(&f.current().expect("the file exists")));
            assert!(matches!(opened, Err(Error::Corrupt { .. })), "byte {at}");
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            let opened = SnapshotFile::open(dir.path(), keyring(1))
                .and_then(|f| f.state(&f.current().expect("the file exists")));
            assert!(
                matches!(opened, Err(Error::Corrupt { .. })),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn an_unfinished_snapshot_is_removed_and_a_rotation_seals_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(TMP), b"half").unwrap();
        let keys = keyring(1);
        let file = SnapshotFile::open(dir.path(), keys.clone()).unwrap();
        assert!(!dir.path().join(TMP).exists());
        file.write(header(3), b"state".to_vec()).unwrap();

        keys.replace(Sealer::new(
            &DataKey::new([2; 32]),
            &[DataKey::new([1; 32])],
        ));
        file.reseal(&|_| ()).unwrap();
        assert!(
            SnapshotFile::open(dir.path(), keyring(1)).is_err(),
            "the old key still opens it"
        );
        let again = SnapshotFile::open(dir.path(), keyring(2)).unwrap();
        assert_eq!(*again.state(&again.current().unwrap()).unwrap(), b"state");
    }
}
