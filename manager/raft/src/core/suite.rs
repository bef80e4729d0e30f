//! The library's own tests of a log and a state machine, run on ours.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::TypeConfig;
use super::facts::Facts;
use super::log_store::LogStore;
use super::machine::Machine;
use crate::log::seal::{Keyring, Sealer};
use crate::log::wal::Wal;
use crate::log::{self, recover};
use crate::snapshot::SnapshotFile;
use crate::{BackendKind, BoxError, DataKey, StateMachine};

/// A state that is empty whatever is applied: the suite looks at log and membership only.
struct Nothing;

impl StateMachine for Nothing {
    fn apply(&self, _: u64, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        Box::new(Vec::new)
    }

    fn restore(&self, _: u64, _: &[u8]) -> Result<(), BoxError> {
        Ok(())
    }
}

struct Builder(BackendKind);

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(Sealer::new(&DataKey::new([1; 32]), &[]));
        let mut backend = log::open(self.0, dir.path()).unwrap();
        let recovered = recover::recover(&mut *backend, &keyring.sealer(), dir.path(), 1).unwrap();
        let wal = Wal::spawn(backend, keyring.clone(), &recovered).unwrap();
        let store = LogStore::new(recovered, wal).unwrap();
        let snapshots = SnapshotFile::open(dir.path(), keyring).unwrap();
        let facts = Arc::new(Facts::new(1, u64::MAX));
        Ok((
            dir,
            store,
            Machine::new(Arc::new(Nothing), snapshots, facts),
        ))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_passes_the_library_suite() {
    Suite::test_all(Builder(BackendKind::Sled)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_passes_the_library_suite() {
    Suite::test_all(Builder(BackendKind::Redb)).await.unwrap();
}
