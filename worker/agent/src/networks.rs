//! What managers told of networks: passed on to the executor, and kept on disk so that the node's
//! data plane works without managers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use executor::Executor;
use prost::Message as _;
use proto::ConvertError;
use proto::dispatcher::{self as wire, assignment_change::Change};
use tokio::time::Instant;
use types::reach::Reach;

use crate::{Error, files};

/// Name of the file below the agent's directory: a complete assignment set of these records alone.
const FILE: &str = "networks";

/// How long changes are gathered before they are written.
const SAVE_DELAY: Duration = Duration::from_secs(1);

/// The records of networks that this node was told.
pub(crate) struct Networks {
    file: PathBuf,
    executor: Arc<dyn Executor>,
    reach: Reach,
    /// When they are to be written; `None` while the file is as they are.
    save_at: Option<Instant>,
}

impl Networks {
    /// Passes on what was told before the daemon was restarted.
    pub(crate) fn open(dir: &Path, executor: Arc<dyn Executor>) -> Self {
        let file = dir.join(FILE);
        let reach = match read(&file) {
            Ok(reach) => reach,
            Err(problem) => {
                tracing::warn!(path = %file.display(), problem, "dropped unreadable records of networks");
                None
            }
        };
        if let Some(reach) = &reach {
            executor.set_reach(Arc::new(reach.clone()));
        }
        Self {
            file,
            executor,
            reach: reach.unwrap_or_default(),
            save_at: None,
        }
    }

    /// Takes over what a set says of networks; a complete one says all there is.
    pub(crate) fn apply(&mut self, changes: Vec<Change>, is_complete: bool) {
        if changes.is_empty() && !is_complete {
            return;
        }
        let before = self.reach.clone();
        if is_complete {
            self.reach = Reach::default();
        }
        for change in changes {
            if let Err(error) = take(&mut self.reach, change) {
                tracing::error!(%error, "did not understand what the manager said of networks");
            }
        }
        // A set that says nothing of networks is word, too: it ends the waiting for it.
        if is_complete || self.reach != before {
            self.executor.set_reach(Arc::new(self.reach.clone()));
        }
        if self.reach != before {
            self.save_at
                .get_or_insert_with(|| Instant::now() + SAVE_DELAY);
        }
    }

    /// A sum of fingerprints of all records, for comparison with what managers sent.
    pub(crate) fn fingerprint(&self) -> u64 {
        let prints = changes(&self.reach).map(|change| proto::fingerprint(&change));
        prints.fold(0, u64::wrapping_add)
    }

    /// Waits until there is something to write.
    pub(crate) async fn unsaved(&self) {
        match self.save_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Writes what has not been written.
    pub(crate) fn save(&mut self) {
        if self.save_at.take().is_none() {
            return;
        }
        if let Err(error) = files::replace(&self.file, &encode(&self.reach)) {
            log(&error);
        }
    }
}

fn log(error: &Error) {
    let source = std::error::Error::source(error);
    tracing::error!(%error, ?source, "the records of networks were not written");
}

/// Takes over one change. What is no record of networks changes nothing.
fn take(reach: &mut Reach, change: Change) -> Result<(), ConvertError> {
    let id =
        |field| move |error: types::id::ParseIdError| ConvertError::new(field, error.to_string());
    match change {
        Change::UpdateNetwork(network) => {
            let network = types::Network::try_from(network)?;
            reach.networks.insert(network.id, Arc::new(network));
        }
        Change::RemoveNetwork(text) => {
            reach
                .networks
                .remove(&text.parse().map_err(id("remove_network"))?);
        }
        Change::UpdateEndpoint(endpoint) => {
            let endpoint = types::reach::TaskEndpoint::try_from(endpoint)?;
            reach.tasks.insert(endpoint.task, Arc::new(endpoint));
        }
        Change::RemoveEndpoint(text) => {
            reach
                .tasks
                .remove(&text.parse().map_err(id("remove_endpoint"))?);
        }
        Change::UpdateService(service) => {
            let service = types::reach::ServiceEndpoint::try_from(service)?;
            reach.services.insert(service.service, Arc::new(service));
        }
        Change::RemoveService(text) => {
            reach
                .services
                .remove(&text.parse().map_err(id("remove_service"))?);
        }
        Change::UpdatePeer(peer) => {
            let peer = types::reach::Peer::try_from(peer)?;
            reach.peers.insert(peer.node, Arc::new(peer));
        }
        Change::RemovePeer(text) => {
            reach
                .peers
                .remove(&text.parse().map_err(id("remove_peer"))?);
        }
        Change::NetworkSettings(settings) => reach.settings = Some(settings.try_into()?),
        Change::UpdateTask(_)
        | Change::RemoveTask(_)
        | Change::UpdateSecret(_)
        | Change::RemoveSecret(_)
        | Change::UpdateConfig(_)
        | Change::RemoveConfig(_) => {}
    }
    Ok(())
}

fn read(file: &Path) -> Result<Option<Reach>, String> {
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| error.to_string())?,
    };
    let set = wire::Assignments::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
    let mut reach = Reach::default();
    for change in set.changes.into_iter().filter_map(|change| change.change) {
        take(&mut reach, change).map_err(|error| error.to_string())?;
    }
    Ok(Some(reach))
}

fn encode(reach: &Reach) -> Vec<u8> {
    let changes = changes(reach).map(|mut change| {
        if let Change::NetworkSettings(settings) = &mut change {
            // A key at rest would have to be guarded like a secret; managers tell it again.
            settings.gossip_keys.clear();
        }
        wire::AssignmentChange {
            change: Some(change),
        }
    });
    wire::Assignments {
        changes: changes.collect(),
        ..Default::default()
    }
    .encode_to_vec()
}

/// The records as they were told.
fn changes(reach: &Reach) -> impl Iterator<Item = Change> {
    let settings = reach.settings.as_ref();
    let settings = settings.map(|settings| Change::NetworkSettings(settings.into()));
    reach
        .networks
        .values()
        .map(|one| Change::UpdateNetwork((&**one).into()))
        .chain(
            reach
                .tasks
                .values()
                .map(|one| Change::UpdateEndpoint((&**one).into())),
        )
        .chain(
            reach
                .services
                .values()
                .map(|one| Change::UpdateService((&**one).into())),
        )
        .chain(
            reach
                .peers
                .values()
                .map(|one| Change::UpdatePeer((&**one).into())),
        )
        .chain(settings)
}

#[cfg(test)]
mod tests;
