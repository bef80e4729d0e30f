//! Declaring, reading and removing services.

mod update;
mod watch;

use std::sync::Arc;

use store::{Action, Kind, Object, ObjectId, State};
use types::id::RandomIds;
use types::node::NodeState;
use types::service::ServiceMode;
use types::{Meta, Service, ServiceId, ServiceSpec, Task, TaskState, Version};

use crate::{ControlApi, Error, content, key, names, network, normalize, validate};

pub use update::UpdateService;
pub(crate) use update::forward;
pub use watch::{ServiceProgress, ServiceWatch, TaskProgress};

/// Random names tried before giving up.
const NAME_TRIES_MAX: usize = 16;

/// A service with how much of it runs.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// The stored service.
    pub service: Arc<Service>,
    /// Tasks that run on nodes that can be reached.
    pub running_tasks: u64,
    /// Tasks there should be.
    pub desired_tasks: u64,
}

/// What creating or updating a service came to.
#[derive(Clone, Debug)]
pub struct ServiceChanged {
    /// The service as stored now.
    pub service: Arc<Service>,
    /// What is allowed but will hardly be what the user wants, one sentence each.
    pub warnings: Vec<String>,
}

impl ControlApi {
    /// Declares a service. Without a name it is given a random one.
    ///
    /// # Errors
    /// When the spec is not valid or its name is taken.
    pub async fn create_service(&self, mut spec: ServiceSpec) -> Result<ServiceChanged, Error> {
        normalize::service_spec(&mut spec);
        let unnamed = spec.name.is_empty();
        let mut tries = 0;
        loop {
            if unnamed {
                spec.name = names::random(&mut RandomIds, tries);
            }
            if tries == 0 {
                validate::service_spec(&spec)?;
                network::resolve(&self.state(), &mut spec)?;
                validate::endpoint(&spec)?;
            }
            match self.create_named(&spec).await {
                Err(Error::NameTaken { .. }) if unnamed && tries < NAME_TRIES_MAX => tries += 1,
                Err(error) => return Err(error),
                Ok(service) => {
                    let warnings = validate::warnings(&spec);
                    return Ok(ServiceChanged { service, warnings });
                }
            }
        }
    }

    async fn create_named(&self, spec: &ServiceSpec) -> Result<Arc<Service>, Error> {
        // Saves a round through the group; the checks that count are made when applied.
        let mut spec = spec.clone();
        content::resolve(&self.state(), &mut spec)?;
        if self.state().service_by_name(&spec.name).is_some() {
            return Err(Error::NameTaken {
                kind: Kind::Service,
                name: spec.name.clone(),
            });
        }
        let id = ServiceId::generate(&mut RandomIds);
        self.state()
            .check_service(id, &spec)
            .map_err(Error::from_check)?;
        let service = Service {
            id,
            meta: Meta::default(),
            spec,
            spec_version: Version::default(),
            previous_spec: None,
            update_status: None,
            endpoint: types::network::Endpoint::default(),
        };
        self.propose(vec![Action::Create(Object::from(service))])
            .await?;
        self.stored_service(id)
    }

    /// Every service, by id.
    #[must_use]
    pub fn list_services(&self) -> Vec<ServiceView> {
        let state = self.state();
        state
            .services()
            .map(|service| view(&state, service))
            .collect()
    }

    /// The service called `key`.
    ///
    /// # Errors
    /// When nothing or several are called so.
    pub fn get_service(&self, key: &str) -> Result<ServiceView, Error> {
        let state = self.state();
        key::service(&state, key).map(|service| view(&state, service))
    }

    /// Removes the service called `key`; its tasks are stopped after it (S4.18).
    ///
    /// # Errors
    /// When nothing or several are called so.
    pub async fn remove_service(&self, key: &str) -> Result<ServiceId, Error> {
        let id = key::service(&self.state(), key)?.id;
        self.propose(vec![Action::Remove {
            id: ObjectId::Service(id),
            version: None,
        }])
        .await?;
        Ok(id)
    }

    fn stored_service(&self, id: ServiceId) -> Result<Arc<Service>, Error> {
        let state = self.state();
        // Somebody may have removed it since.
        state.service(id).cloned().ok_or_else(|| Error::NotFound {
            kind: Kind::Service,
            key: id.to_string(),
        })
    }
}

/// The service with its counts; costs one look at each of its tasks.
fn view(state: &State, service: &Arc<Service>) -> ServiceView {
    let mut running_tasks = 0;
    let mut wanted_tasks = 0;
    for task in state.tasks_of_service(service.id) {
        running_tasks += u64::from(runs(state, task));
        wanted_tasks += u64::from(task.desired_state == TaskState::Running);
    }
    let desired_tasks = match service.spec.mode {
        ServiceMode::Replicated { replicas } => replicas,
        ServiceMode::Global {} => wanted_tasks,
    };
    ServiceView {
        service: service.clone(),
        running_tasks,
        desired_tasks,
    }
}

/// Whether a task runs for all that is known: nothing is known of one on a node that is down.
fn runs(state: &State, task: &Task) -> bool {
    let node = task.node_id.and_then(|id| state.node(id));
    task.status.state == TaskState::Running
        && node.is_some_and(|node| node.status.state != NodeState::Down)
}

#[cfg(test)]
mod tests;
