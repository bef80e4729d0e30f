//! Keeps secrets and configs consistent with the services that refer to them.

use std::sync::Arc;

use types::ContainerSpec;
use types::secret::{ContentId, ContentUse, ContentVersion};

use super::{Checked, Step};
use crate::{Object, ObjectId, RefusalReason};

/// A changed secret or config with the stored data where it brings none of its own.
pub(super) fn keep_data(object: Object, old: &Object) -> Result<Object, (RefusalReason, String)> {
    let id = object.id();
    let is_whole = match (object, old) {
        (Object::Secret(mut new), Object::Secret(old)) => {
            let is_whole = fill(&mut Arc::make_mut(&mut new).versions, &old.versions);
            is_whole.then_some(Object::Secret(new))
        }
        (Object::Config(mut new), Object::Config(old)) => {
            let is_whole = fill(&mut Arc::make_mut(&mut new).versions, &old.versions);
            is_whole.then_some(Object::Config(new))
        }
        (object, _) => Some(object),
    };
    is_whole.ok_or_else(|| (RefusalReason::Malformed, id.to_string()))
}

/// False when a version has no data and none is stored.
fn fill(versions: &mut [ContentVersion], stored: &[ContentVersion]) -> bool {
    for version in versions
        .iter_mut()
        .filter(|version| version.data.is_empty())
    {
        match stored.iter().find(|it| it.number == version.number) {
            Some(stored) => version.clone_from(stored),
            None => return false,
        }
    }
    true
}

impl Step {
    /// A service refers only to what there is; what is referred to keeps its versions.
    pub(super) fn check_references(&self, object: &Object) -> Checked {
        match object {
            Object::Service(service) => {
                let mut uses = service.spec.task.container.contents();
                match uses.find(|reference| !self.is_kept(reference)) {
                    Some(lost) => Err((
                        RefusalReason::NotFound,
                        format!("{} {}", lost.id.kind(), lost.name),
                    )),
                    None => Ok(()),
                }
            }
            Object::Secret(secret) => {
                let id = ContentId::Secret(secret.id);
                self.check_versions(id, secret.spec.driver.is_some(), &secret.versions)
            }
            Object::Config(config) => {
                self.check_versions(ContentId::Config(config.id), false, &config.versions)
            }
            Object::Node(_) | Object::Task(_) | Object::Cluster(_) | Object::Network(_) => Ok(()),
        }
    }

    /// What a service refers to cannot be removed (S14.04).
    pub(super) fn check_unused(&self, id: ObjectId) -> Checked {
        let content = match id {
            ObjectId::Secret(id) => ContentId::Secret(id),
            ObjectId::Config(id) => ContentId::Config(id),
            ObjectId::Node(_)
            | ObjectId::Service(_)
            | ObjectId::Task(_)
            | ObjectId::Cluster(_)
            | ObjectId::Network(_) => return Ok(()),
        };
        let refers = |spec: &ContainerSpec| spec.contents().any(|it| it.id == content);
        let mut services = self.state.services();
        if services.any(|service| refers(&service.spec.task.container)) {
            return Err((RefusalReason::InUse, id.to_string()));
        }
        Ok(())
    }

    fn is_kept(&self, reference: &ContentUse<'_>) -> bool {
        match reference.id {
            ContentId::Secret(id) => self.state.secret(id).is_some_and(|secret| {
                secret.spec.driver.is_some() || secret.version(reference.version).is_some()
            }),
            ContentId::Config(id) => {
                let config = self.state.config(id);
                config.is_some_and(|config| config.version(reference.version).is_some())
            }
        }
    }

    /// Every version that a service needs now or to go back to, or a live task, stays.
    fn check_versions(
        &self,
        id: ContentId,
        has_driver: bool,
        versions: &[ContentVersion],
    ) -> Checked {
        let is_ordered = versions.windows(2).all(|two| two[0].number < two[1].number);
        if !is_ordered || versions.is_empty() != has_driver {
            return Err((RefusalReason::Malformed, id.to_string()));
        }
        let lacks = |spec: &ContainerSpec| {
            spec.contents().any(|it| {
                it.id == id && !has_driver && !versions.iter().any(|v| v.number == it.version)
            })
        };
        let is_needed = self.state.services().any(|service| {
            let previous = service.previous_spec.as_ref();
            lacks(&service.spec.task.container)
                || previous.is_some_and(|spec| lacks(&spec.task.container))
        });
        if is_needed || live_tasks_lack(&self.state, &lacks) {
            return Err((RefusalReason::InUse, id.to_string()));
        }
        Ok(())
    }
}

fn live_tasks_lack(state: &crate::State, lacks: &impl Fn(&ContainerSpec) -> bool) -> bool {
    state
        .tasks()
        .any(|task| !task.status.state.is_terminal() && lacks(&task.spec.container))
}
