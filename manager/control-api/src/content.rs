//! What secrets and configs have in common: versions, who uses them, moving services along.

mod kind;
mod reference;

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;
use seal::{Plain, StoreKey};
use store::{Action, Object, State, TRANSACTION_ACTIONS_MAX, TRANSACTION_BYTES_MAX};
use types::{Cluster, Labels, Payload, Service, ServiceId, Version};

use crate::api::STALE_RETRIES_MAX;
use crate::service::forward;
use crate::{ControlApi, Error, Invalid, validate};

pub(crate) use kind::Content;
pub(crate) use reference::resolve;

/// What a change of a secret or config came to.
#[derive(Clone, Debug)]
pub struct ContentChanged<C> {
    /// It, as stored now.
    pub content: Arc<C>,
    /// Services that were moved to its newest version.
    pub services: Vec<Arc<Service>>,
}

impl ControlApi {
    /// Key to seal content with on its way to this manager, made anew whenever it starts.
    #[must_use]
    pub fn seal_key(&self) -> seal::SealKey {
        self.open_key.seal_key()
    }

    /// Opens what a user sent as the content of `name`.
    pub(crate) fn open_sent(&self, name: &str, sealed: &[u8]) -> Result<Plain, Error> {
        let opened = self.open_key.open(name.as_bytes(), sealed);
        opened.map_err(|error| Error::Invalid(Invalid::new("Data", error)))
    }

    /// The key of what the store holds; made when there is none yet.
    pub(crate) async fn store_key(&self) -> Result<StoreKey, Error> {
        let mut tries = 0;
        loop {
            let cluster = self.stored_cluster()?;
            if !cluster.content_key.is_empty() {
                return StoreKey::try_from(cluster.content_key.bytes()).map_err(Error::Seal);
            }
            let mut key = StoreKey::generate().map_err(Error::Seal)?;
            let cluster = Cluster {
                content_key: Payload::new(std::mem::take(&mut *key)),
                ..Cluster::clone(&*cluster)
            };
            let action = Action::Update(Object::from(cluster));
            match self.propose(vec![action]).await {
                Ok(_) => {}
                Err(Error::Stale { .. }) if tries < STALE_RETRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn remove_content<C: Content>(&self, key: &str) -> Result<String, Error> {
        let content = C::find(&self.state(), key)?;
        let action = Action::Remove {
            id: content.object_id(),
            version: None,
        };
        match self.propose(vec![action]).await {
            Ok(_) => Ok(content.object_id().to_string().split_off(C::WORD.len() + 1)),
            Err(error) => Err(self.in_use(&*content).unwrap_or(error)),
        }
    }

    /// Names the services that keep it from being removed (S14.04).
    fn in_use<C: Content>(&self, content: &C) -> Option<Error> {
        let state = self.state();
        let users = state.services().filter(|service| {
            let mut uses = service.spec.task.container.contents();
            uses.any(|it| it.id == content.content_id())
        });
        let mut names: Vec<&str> = users.map(|it| it.spec.name.as_str()).collect();
        names.sort_unstable();
        let (kind, name) = (C::WORD, content.name());
        let plural = if names.len() == 1 {
            "service"
        } else {
            "services"
        };
        (!names.is_empty()).then(|| {
            Error::Precondition(format!(
                "{kind} {name:?} is in use by the following {plural}: {}",
                names.join(", ")
            ))
        })
    }

    /// Writes a secret or config of which only the spec changed.
    pub(crate) async fn write_labels<C: Content>(
        &self,
        changed: C,
    ) -> Result<ContentChanged<C>, Error> {
        let id = changed.id_text();
        self.propose(vec![Action::Update(changed.into())]).await?;
        Ok(ContentChanged {
            content: C::find(&self.state(), &id)?,
            services: vec![],
        })
    }

    /// Writes a changed secret or config, and moves every service that refers to it to the version
    /// `newest`, in as few transactions as fit. Should it break off, doing it again completes it.
    pub(crate) async fn write_content<C: Content>(
        &self,
        read: &C,
        changed: Option<C>,
    ) -> Result<ContentChanged<C>, Error> {
        let newest = changed.as_ref().unwrap_or(read).newest();
        let mut pending = changed;
        let mut moved = BTreeSet::new();
        let mut tries = 0;
        loop {
            let state = self.state();
            let batch = Batch::plan(&state, read, newest, pending.as_ref());
            if batch.actions.is_empty() {
                break;
            }
            match self.propose(batch.actions).await {
                Ok(_) => {
                    pending = None;
                    moved.extend(batch.services);
                }
                // A service changed meanwhile; whether the content itself did is looked at again.
                Err(Error::Stale { .. }) if tries < STALE_RETRIES_MAX => {
                    tries += 1;
                    if pending.is_some() {
                        stored_at(&self.state(), read, read.meta().version)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let state = self.state();
        let services = moved
            .into_iter()
            .filter_map(|id| state.service(id).cloned());
        Ok(ContentChanged {
            services: services.collect(),
            content: C::find(&state, &read.id_text())?,
        })
    }
}

/// Nothing of a spec can change but its labels: `only_labels` is the stored one with those of
/// `asked`.
pub(crate) fn check_change<S: PartialEq>(
    asked: &S,
    only_labels: &S,
    labels: &Labels,
) -> Result<(), Error> {
    if asked != only_labels {
        return Err(Error::Invalid(Invalid::new(
            "Spec",
            "only updates to Labels are allowed, and new content",
        )));
    }
    validate::labels("Labels", labels).map_err(Error::Invalid)
}

/// The stored object, provided it still has this version.
pub(crate) fn stored_at<C: Content>(
    state: &State,
    read: &C,
    version: Version,
) -> Result<Arc<C>, Error> {
    let stored = C::find(state, &read.id_text())?;
    if stored.meta().version == version {
        return Ok(stored);
    }
    Err(Error::Stale {
        object: format!("{} {}", C::WORD, read.name()),
    })
}

/// One transaction's worth of a change.
struct Batch {
    actions: Vec<Action>,
    services: Vec<ServiceId>,
}

impl Batch {
    /// The change itself if it is not written yet, and as many services as fit beside it.
    fn plan<C: Content>(state: &State, read: &C, newest: u64, pending: Option<&C>) -> Self {
        let mut actions = vec![];
        // Names and lengths of fields come on top of what is counted.
        let mut room = TRANSACTION_BYTES_MAX / 8 * 7;
        if let Some(changed) = pending {
            room = room.saturating_sub(changed.encoded_bytes());
            actions.push(Action::Update(changed.clone().into()));
        }
        let mut services = vec![];
        for service in state.services() {
            let mut spec = service.spec.clone();
            let is_behind = |at: u64| at != newest;
            let mut uses = spec.task.container.contents();
            if !uses.any(|it| it.id == read.content_id() && is_behind(it.version)) {
                continue;
            }
            drop(uses);
            read.point_to(&mut Arc::make_mut(&mut spec.task).container, newest);
            let changed = forward(service, spec);
            let size = proto::objects::Service::from(&changed).encoded_len();
            let is_full = actions.len() >= TRANSACTION_ACTIONS_MAX || size > room;
            if is_full && !actions.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            services.push(service.id);
            actions.push(Action::Update(Object::from(changed)));
        }
        Self { actions, services }
    }
}

#[cfg(test)]
mod tests;
