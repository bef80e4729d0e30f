//! Moving a service to another spec, and back.
//!
//! Swarm keeps whatever spec was there before the last call as the previous one, so a changed label
//! takes away the way back to the image that worked (S23.24). Here the previous spec is replaced
//! only when what runs changes: the task template or the mode. Other changes (labels, pace of
//! updates) are written into the previous spec as well, so that going back does not undo them.

use store::{Action, Object};
use types::service::ServiceMode;
use types::update::{UpdateState, UpdateStatus};
use types::{Service, ServiceId, ServiceSpec, Timestamp, Version};

use super::ServiceChanged;
use crate::{ControlApi, Error, content, key, network, normalize, validate};

/// A change of a service.
#[derive(Clone, Debug)]
pub struct UpdateService {
    /// Which one.
    pub id: ServiceId,
    /// The version the new spec was made from; must still be stored.
    pub version: Version,
    /// Where to go.
    pub to: UpdateTo,
}

/// Where an update goes.
#[derive(Clone, Debug)]
pub enum UpdateTo {
    /// To this spec.
    Spec(Box<ServiceSpec>),
    /// Back to the previous spec.
    Previous,
}

impl UpdateService {
    /// A move to `spec`.
    #[must_use]
    pub fn to(id: ServiceId, version: Version, spec: ServiceSpec) -> Self {
        Self {
            id,
            version,
            to: UpdateTo::Spec(Box::new(spec)),
        }
    }

    /// A move back to what ran before (S7.18).
    #[must_use]
    pub fn back(id: ServiceId, version: Version) -> Self {
        Self {
            id,
            version,
            to: UpdateTo::Previous,
        }
    }
}

impl ControlApi {
    /// Moves a service to another spec; scaling and rolling back are moves too.
    ///
    /// # Errors
    /// When the spec is not valid, changes name or mode, or the version is not the stored one.
    pub async fn update_service(&self, update: UpdateService) -> Result<ServiceChanged, Error> {
        let UpdateService { id, version, to } = update;
        let state = self.state();
        let stored = key::service(&state, id.as_str())?;
        if stored.meta.version != version {
            return Err(Error::Stale {
                object: format!("service {}", stored.spec.name),
            });
        }
        let changed = match to {
            UpdateTo::Spec(mut spec) => {
                normalize::service_spec(&mut spec);
                check_change(&stored.spec, &spec)?;
                content::resolve(&state, &mut spec)?;
                validate::service_spec(&spec)?;
                network::resolve(&state, &mut spec)?;
                validate::endpoint(&spec)?;
                forward(stored, *spec)
            }
            UpdateTo::Previous => back(stored, Timestamp::now())?,
        };
        let warnings = validate::warnings(&changed.spec);
        self.propose(vec![Action::Update(Object::from(changed))])
            .await?;
        Ok(ServiceChanged {
            service: self.stored_service(id)?,
            warnings,
        })
    }
}

/// Name and mode are for ever (S7.21).
fn check_change(old: &ServiceSpec, new: &ServiceSpec) -> Result<(), Error> {
    if old.name != new.name {
        return Err(Error::Unsupported(format!(
            "renaming services is not supported: service {} cannot become {:?}",
            old.name, new.name
        )));
    }
    match (old.mode, new.mode) {
        (ServiceMode::Replicated { .. }, ServiceMode::Replicated { .. })
        | (ServiceMode::Global {}, ServiceMode::Global {}) => Ok(()),
        (ServiceMode::Replicated { .. }, ServiceMode::Global {})
        | (ServiceMode::Global {}, ServiceMode::Replicated { .. }) => {
            Err(Error::Unsupported(format!(
                "service mode change is not allowed: make another service than {}",
                old.name
            )))
        }
    }
}

/// The service on its way to `spec`. Any update clears the status, which resumes a paused one.
pub(crate) fn forward(stored: &Service, spec: ServiceSpec) -> Service {
    let same_work = stored.spec.task == spec.task && stored.spec.mode == spec.mode;
    let previous_spec = if same_work {
        stored.previous_spec.as_ref().map(|previous| ServiceSpec {
            task: previous.task.clone(),
            mode: previous.mode,
            ..spec.clone()
        })
    } else {
        Some(stored.spec.clone())
    };
    Service {
        spec,
        previous_spec,
        update_status: None,
        ..stored.clone()
    }
}

/// The service on its way back; doing it twice goes forward again.
fn back(stored: &Service, now: Timestamp) -> Result<Service, Error> {
    let Some(previous) = stored.previous_spec.clone() else {
        return Err(Error::Precondition(format!(
            "service {} does not have a previous spec",
            stored.spec.name
        )));
    };
    Ok(Service {
        previous_spec: Some(stored.spec.clone()),
        spec: previous,
        update_status: Some(UpdateStatus {
            state: UpdateState::RollbackStarted,
            started_at: now,
            completed_at: Timestamp::default(),
            message: "manually requested rollback".to_owned(),
        }),
        ..stored.clone()
    })
}
