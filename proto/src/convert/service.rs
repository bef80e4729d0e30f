//! A service's messages.

use std::sync::Arc;
use std::time::Duration;

use types::service::ServiceMode;
use types::update::{FailureAction, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus};
use types::{Service, ServiceSpec, Timestamp, Version};

use super::{ConvertError, enums, known, nanos, parse, required};
use crate::objects;
use crate::objects::service_spec::Mode;

enums!(
    FailureAction,
    objects::FailureAction,
    Pause = Pause,
    Continue = Continue,
    Rollback = Rollback,
);
enums!(
    UpdateOrder,
    objects::UpdateOrder,
    StopFirst = StopFirst,
    StartFirst = StartFirst
);
enums!(
    UpdateState,
    objects::UpdateState,
    Updating = Updating,
    Paused = Paused,
    Completed = Completed,
    RollbackStarted = RollbackStarted,
    RollbackPaused = RollbackPaused,
    RollbackCompleted = RollbackCompleted,
);

impl From<&Service> for objects::Service {
    fn from(service: &Service) -> Self {
        Self {
            id: service.id.to_string(),
            meta: Some((&service.meta).into()),
            spec: Some((&service.spec).into()),
            spec_version: service.spec_version.index,
            previous_spec: service.previous_spec.as_ref().map(Into::into),
            update_status: service.update_status.as_ref().map(Into::into),
            endpoint: Some((&service.endpoint).into()),
        }
    }
}

impl TryFrom<objects::Service> for Service {
    type Error = ConvertError;
    fn try_from(message: objects::Service) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse("id", &message.id)?,
            meta: message.meta.unwrap_or_default().into(),
            spec: required("spec", message.spec)?.try_into()?,
            spec_version: Version {
                index: message.spec_version,
            },
            previous_spec: message.previous_spec.map(TryInto::try_into).transpose()?,
            update_status: message.update_status.map(TryInto::try_into).transpose()?,
            endpoint: message.endpoint.unwrap_or_default().try_into()?,
        })
    }
}

impl From<&ServiceSpec> for objects::ServiceSpec {
    fn from(spec: &ServiceSpec) -> Self {
        let mode = match spec.mode {
            ServiceMode::Replicated { replicas } => {
                Mode::Replicated(objects::ReplicatedMode { replicas })
            }
            ServiceMode::Global {} => Mode::Global(objects::GlobalMode {}),
        };
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone().into_iter().collect(),
            task: Some((&*spec.task).into()),
            mode: Some(mode),
            update_config: Some((&spec.update_config).into()),
            rollback_config: Some((&spec.rollback_config).into()),
            endpoint: Some((&spec.endpoint).into()),
        }
    }
}

impl TryFrom<objects::ServiceSpec> for ServiceSpec {
    type Error = ConvertError;
    fn try_from(message: objects::ServiceSpec) -> Result<Self, ConvertError> {
        let mode = match message.mode {
            Some(Mode::Replicated(mode)) => ServiceMode::Replicated {
                replicas: mode.replicas,
            },
            Some(Mode::Global(_)) => ServiceMode::Global {},
            None => ServiceMode::default(),
        };
        let config = |config: Option<objects::UpdateConfig>| {
            config
                .map(UpdateConfig::try_from)
                .transpose()
                .map(Option::unwrap_or_default)
        };
        Ok(Self {
            name: message.name,
            labels: message.labels.into_iter().collect(),
            task: Arc::new(required("task", message.task)?.try_into()?),
            mode,
            update_config: config(message.update_config)?,
            rollback_config: config(message.rollback_config)?,
            endpoint: message.endpoint.unwrap_or_default().try_into()?,
        })
    }
}

impl From<&UpdateConfig> for objects::UpdateConfig {
    fn from(config: &UpdateConfig) -> Self {
        Self {
            parallelism: config.parallelism,
            delay: nanos(config.delay),
            failure_action: objects::FailureAction::from(config.failure_action).into(),
            monitor: nanos(config.monitor),
            max_failure_ratio: config.max_failure_ratio,
            order: objects::UpdateOrder::from(config.order).into(),
        }
    }
}

impl TryFrom<objects::UpdateConfig> for UpdateConfig {
    type Error = ConvertError;
    fn try_from(message: objects::UpdateConfig) -> Result<Self, ConvertError> {
        let action = known::<objects::FailureAction>("failure_action", message.failure_action)?;
        Ok(Self {
            parallelism: message.parallelism,
            delay: Duration::from_nanos(message.delay),
            failure_action: action.into(),
            monitor: Duration::from_nanos(message.monitor),
            max_failure_ratio: message.max_failure_ratio,
            order: known::<objects::UpdateOrder>("order", message.order)?.into(),
        })
    }
}

impl From<&UpdateStatus> for objects::UpdateStatus {
    fn from(status: &UpdateStatus) -> Self {
        Self {
            state: objects::UpdateState::from(status.state).into(),
            started_at: status.started_at.0,
            completed_at: status.completed_at.0,
            message: status.message.clone(),
        }
    }
}

impl TryFrom<objects::UpdateStatus> for UpdateStatus {
    type Error = ConvertError;
    fn try_from(message: objects::UpdateStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            state: known::<objects::UpdateState>("state", message.state)?.into(),
            started_at: Timestamp(message.started_at),
            completed_at: Timestamp(message.completed_at),
            message: message.message,
        })
    }
}
