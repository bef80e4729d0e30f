//! The leader loop that drops versions of secrets and configs that nobody needs any more.
//!
//! The newest is always kept; others as long as a service refers to them, has them to go back to,
//! or a live task uses them.

use std::collections::BTreeSet;
use std::sync::Arc;

use store::{Action, Change, Object, Plan, PlanContext, Planner, State};
use types::secret::{ContentId, ContentVersion};
use types::{ContainerSpec, Payload, Task};

/// Drops versions that nobody needs.
#[derive(Debug, Default)]
pub struct VersionReaper {
    is_dirty: bool,
}

impl Planner for VersionReaper {
    fn name(&self) -> &'static str {
        "version reaper"
    }

    fn observe(&mut self, change: &Change) {
        self.is_dirty |= match (&change.old, &change.new) {
            (_, Some(Object::Secret(_) | Object::Config(_))) => true,
            (Some(Object::Service(old)), Some(Object::Service(new))) => {
                old.spec != new.spec || old.previous_spec != new.previous_spec
            }
            (Some(Object::Service(_)), None) => true,
            (Some(Object::Task(old)), Some(Object::Task(new))) => is_live(old) && !is_live(new),
            (Some(Object::Task(old)), None) => is_live(old),
            (_, _) => false,
        };
    }

    fn resync(&mut self, _: &State) {
        self.is_dirty = true;
    }

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let mut plan = Plan::default();
        if std::mem::take(&mut self.is_dirty) {
            plan.add_independent(actions(context.state));
        }
        plan
    }
}

fn actions(state: &State) -> Vec<Action> {
    let old = |versions: &[ContentVersion]| versions.len() > 1;
    let has_old =
        state.secrets().any(|it| old(&it.versions)) || state.configs().any(|it| old(&it.versions));
    if !has_old {
        return vec![];
    }
    let needed = needed(state);
    let mut actions = vec![];
    for secret in state.secrets() {
        let id = ContentId::Secret(secret.id);
        if let Some(versions) = without_unneeded(id, &secret.versions, &needed) {
            let mut changed = (**secret).clone();
            changed.versions = versions;
            actions.push(Action::Update(Object::Secret(Arc::new(changed))));
        }
    }
    for config in state.configs() {
        let id = ContentId::Config(config.id);
        if let Some(versions) = without_unneeded(id, &config.versions, &needed) {
            let mut changed = (**config).clone();
            changed.versions = versions;
            actions.push(Action::Update(Object::Config(Arc::new(changed))));
        }
    }
    actions
}

type Needed = BTreeSet<(ContentId, u64)>;

fn needed(state: &State) -> Needed {
    let mut needed = Needed::new();
    let mut note = |spec: &ContainerSpec| {
        needed.extend(spec.contents().map(|used| (used.id, used.version)));
    };
    for service in state.services() {
        note(&service.spec.task.container);
        if let Some(previous) = &service.previous_spec {
            note(&previous.task.container);
        }
    }
    for task in state.tasks().filter(|task| is_live(task)) {
        note(&task.spec.container);
    }
    needed
}

/// The versions to keep, without their data, which the store has; none when all are.
fn without_unneeded(
    id: ContentId,
    versions: &[ContentVersion],
    needed: &Needed,
) -> Option<Vec<ContentVersion>> {
    let newest = versions.last()?.number;
    let is_needed = |version: &&ContentVersion| {
        version.number == newest || needed.contains(&(id, version.number))
    };
    let kept: Vec<ContentVersion> = versions
        .iter()
        .filter(is_needed)
        .map(|version| ContentVersion {
            data: Payload::default(),
            ..*version
        })
        .collect();
    (kept.len() < versions.len()).then_some(kept)
}

fn is_live(task: &Task) -> bool {
    !task.status.state.is_terminal()
}

#[cfg(test)]
mod tests {
    use types::secret::{ReferenceTarget, SecretReference};
    use types::{Meta, Secret, SecretId, SecretSpec, Timestamp, Version};

    use super::*;

    fn state(used: Option<u64>, previous: Option<u64>) -> State {
        let version = |number| ContentVersion {
            number,
            created_at: Timestamp::default(),
            data: Payload::new(vec![1]),
        };
        let secret = Secret {
            id: SecretId::from_number(1),
            meta: Meta::default(),
            spec: SecretSpec {
                name: "db".into(),
                ..SecretSpec::default()
            },
            versions: (1..=4).map(version).collect(),
        };
        let spec = |number: Option<u64>| {
            let mut spec = types::ServiceSpec {
                name: "web".into(),
                ..types::ServiceSpec::default()
            };
            let container = &mut Arc::make_mut(&mut spec.task).container;
            container
                .secrets
                .extend(number.map(|version| SecretReference {
                    secret_id: SecretId::from_number(1),
                    secret_name: "db".into(),
                    version,
                    target: ReferenceTarget::Env("DB".into()),
                }));
            spec
        };
        let service = types::Service {
            id: types::ServiceId::from_number(1),
            meta: Meta::default(),
            spec: spec(used),
            spec_version: Version::default(),
            previous_spec: previous.map(|number| spec(Some(number))),
            update_status: None,
            endpoint: types::network::Endpoint::default(),
        };
        let mut state = State::default();
        let transaction = store::Transaction {
            now: Timestamp(1),
            actions: vec![
                Action::Create(Object::from(secret)),
                Action::Create(Object::from(service)),
            ],
        };
        state.apply(Version { index: 1 }, &transaction).unwrap();
        state
    }

    #[test]
    fn only_what_is_needed_and_the_newest_stay() {
        for (used, previous, kept) in [
            (None, None, vec![4]),
            (Some(2), None, vec![2, 4]),
            (Some(4), Some(3), vec![3, 4]),
            (Some(1), Some(2), vec![1, 2, 4]),
        ] {
            let mut state = state(used, previous);
            let actions = actions(&state);
            assert_eq!(actions.len(), 1);
            let transaction = store::Transaction {
                now: Timestamp(2),
                actions,
            };
            state.apply(Version { index: 2 }, &transaction).unwrap();
            let secret = state.secret(SecretId::from_number(1)).unwrap();
            let numbers: Vec<_> = secret.versions.iter().map(|it| it.number).collect();
            assert_eq!(numbers, kept);
            assert!(secret.versions.iter().all(|it| !it.data.is_empty()));
            assert_eq!(super::actions(&state), [], "at rest");
        }
    }
}
