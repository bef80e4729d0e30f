//! The state machine as the library sees it: applies entries, follows the membership, takes and
//! installs snapshots.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use proto::raft as pb;

use super::codec;
use super::facts::Facts;
use super::types::{LogId, Membership, Response, SnapshotMeta, StoredMembership, TypeConfig};
use crate::snapshot::{Image, SnapshotFile};
use crate::{Error, StateMachine};

type Encode = Box<dyn FnOnce() -> Vec<u8> + Send>;
type SmSnapshot = openraft::alias::SnapshotOf<TypeConfig, Image>;

/// The user's state, and what the log itself has to remember with it.
pub(crate) struct Machine {
    app: Arc<dyn StateMachine>,
    snapshots: SnapshotFile,
    facts: Arc<Facts>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    removed: BTreeSet<u64>,
}

impl Machine {
    pub(crate) fn new(
        app: Arc<dyn StateMachine>,
        snapshots: SnapshotFile,
        facts: Arc<Facts>,
    ) -> Self {
        Self {
            app,
            snapshots,
            facts,
            last_applied: None,
            membership: StoredMembership::default(),
            removed: BTreeSet::new(),
        }
    }

    /// Whoever was a member and is not any more has been removed for good.
    fn follow_membership(&mut self, log_id: LogId, membership: Membership) {
        let stays = |id: &u64| membership.get_node(id).is_some();
        let gone = self
            .membership
            .nodes()
            .map(|(id, _)| *id)
            .filter(|id| !stays(id));
        let before = self.removed.len();
        self.removed.extend(gone);
        if self.removed.len() > before {
            self.facts.set_removed(&self.removed);
        }
        self.membership = StoredMembership::new(Some(log_id), membership);
        self.remember_addrs();
    }

    fn remember_addrs(&self) {
        for (id, node) in self.membership.nodes() {
            self.facts.set_addr(*id, &node.addr);
        }
    }

    async fn restore(&mut self, meta: &SnapshotMeta, image: Image) -> Result<(), Error> {
        let snapshots = self.snapshots.clone();
        let app = Arc::clone(&self.app);
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let header = image.header.clone();
        let restore = move || -> Result<(), Error> {
            let state = snapshots.state(&image)?;
            app.restore(index, &state).map_err(|e| Error::Failed {
                reason: format!("the state machine refuses the snapshot at {index}: {e}"),
            })?;
            if !snapshots.holds(&image) {
                let header = image.header.clone();
                // The image is what else holds the state: without it nothing is copied.
                drop(image);
                snapshots.write(header, Arc::unwrap_or_clone(state))?;
            }
            Ok(())
        };
        tokio::task::spawn_blocking(restore)
            .await
            .map_err(|e| Error::Failed {
                reason: format!("restoring a snapshot: {e}"),
            })??;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.removed = header.removed.iter().copied().collect();
        self.remember_addrs();
        self.facts.set_removed(&self.removed);
        self.facts.set_applied(index);
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let log_id = entry.log_id;
            let response = match entry.payload {
                EntryPayload::Blank => Response::default(),
                EntryPayload::Normal(command) => {
                    self.facts.add_log_bytes(command.0.len());
                    Response::new(self.app.apply(log_id.index, &command.0))
                }
                EntryPayload::Membership(membership) => {
                    self.follow_membership(log_id, membership);
                    Response::default()
                }
            };
            self.last_applied = Some(log_id);
            self.facts.set_applied(log_id.index);
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.facts.reset_log_bytes();
        Builder {
            encode: Mutex::new(Some(self.app.snapshot())),
            snapshots: self.snapshots.clone(),
            meta: SnapshotMeta {
                last_log_id: self.last_applied,
                last_membership: self.membership.clone(),
            },
            removed: self.removed.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, image: Image) -> io::Result<()> {
        let restored = self.restore(meta, image).await;
        restored.map_err(|error| {
            let text = io::Error::other(error.to_string());
            self.facts.set_fault(error);
            text
        })
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SmSnapshot>> {
        let Some(image) = self.snapshots.current() else {
            return Ok(None);
        };
        let meta = codec::meta_from(&image.header).map_err(io::Error::other)?;
        Ok(Some(Snapshot {
            meta,
            snapshot: image,
        }))
    }
}

/// A captured state on its way to the snapshot file.
pub(crate) struct Builder {
    /// In a mutex only because the library wants to share the builder between threads.
    encode: Mutex<Option<Encode>>,
    snapshots: SnapshotFile,
    meta: SnapshotMeta,
    removed: BTreeSet<u64>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> io::Result<SmSnapshot> {
        let encode = self
            .encode
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let encode = encode.ok_or_else(|| io::Error::other("the snapshot was built already"))?;
        let header = pb::SnapshotHeader {
            last_log_id: self.meta.last_log_id.as_ref().map(codec::log_id_to),
            membership: Some(codec::stored_membership_to(&self.meta.last_membership)),
            removed: self.removed.iter().copied().collect(),
            size_bytes: 0,
        };
        let snapshots = self.snapshots.clone();
        let image = tokio::task::spawn_blocking(move || snapshots.write(header, encode()))
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        let meta = codec::meta_from(&image.header).map_err(io::Error::other)?;
        Ok(Snapshot {
            meta,
            snapshot: image,
        })
    }
}
