//! Secrets, configs and those who refer to them stay consistent.

use types::secret::{ContentVersion, FileTarget, ReferenceTarget, SecretReference};
use types::{Payload, Secret, SecretId, SecretSpec};

use super::*;
use crate::Object;

fn version(number: u64, data: &str) -> ContentVersion {
    ContentVersion {
        number,
        created_at: NOW,
        data: Payload::new(data.as_bytes().to_vec()),
    }
}

fn secret(id: u128, name: &str, versions: Vec<ContentVersion>) -> Secret {
    Secret {
        id: SecretId::from_number(id),
        meta: Meta::default(),
        spec: SecretSpec {
            name: name.into(),
            ..SecretSpec::default()
        },
        versions,
    }
}

fn with_secret(mut service: Service, secret: u128, version: u64) -> Service {
    let reference = SecretReference {
        secret_id: SecretId::from_number(secret),
        secret_name: "db".into(),
        version,
        target: ReferenceTarget::File(FileTarget {
            name: "db".into(),
            ..FileTarget::default()
        }),
    };
    Arc::make_mut(&mut service.spec.task).container.secrets = vec![reference];
    service
}

fn remove(id: u128) -> Action {
    Action::Remove {
        id: ObjectId::Secret(SecretId::from_number(id)),
        version: None,
    }
}

#[test]
fn a_service_refers_only_to_versions_that_are_kept() {
    let mut f = Fixture::new();
    let create = |service| vec![Action::Create(Object::from(service))];
    let wanted = || with_secret(service(1, "web"), 1, 1);
    let refused = f.apply(create(wanted())).unwrap_err();
    assert_eq!(
        (refused.reason, refused.object.as_str()),
        (RefusalReason::NotFound, "secret db")
    );
    f.apply(vec![Action::Create(
        secret(1, "db", vec![version(1, "a")]).into(),
    )])
    .unwrap();
    let unknown = create(with_secret(service(1, "web"), 1, 2));
    assert_eq!(f.reason(unknown), RefusalReason::NotFound);
    f.apply(create(wanted())).unwrap();
    assert_eq!(f.reason(vec![remove(1)]), RefusalReason::InUse);
    // In one transaction: the service goes first.
    let service = ObjectId::Service(ServiceId::from_number(1));
    let gone = Action::Remove {
        id: service,
        version: None,
    };
    f.apply(vec![gone, remove(1)]).unwrap();
}

#[test]
fn an_update_without_data_keeps_it_and_needed_versions_cannot_go() {
    let mut f = Fixture::new();
    let first = secret(1, "db", vec![version(1, "a")]);
    f.apply(vec![Action::Create(first.into())]).unwrap();
    let service = with_secret(service(1, "web"), 1, 1);
    f.apply(vec![Action::Create(service.into())]).unwrap();

    let stored = |f: &Fixture| Secret::clone(f.state.secret(SecretId::from_number(1)).unwrap());
    let update = |f: &Fixture, versions| {
        let changed = Secret {
            versions,
            ..stored(f)
        };
        vec![Action::Update(changed.into())]
    };
    let two = update(&f, vec![version(1, ""), version(2, "b")]);
    f.apply(two).unwrap();
    let data: Vec<_> = stored(&f)
        .versions
        .iter()
        .map(|v| v.data.bytes().to_vec())
        .collect();
    assert_eq!(data, [b"a", b"b"]);

    let unknown = update(&f, vec![version(1, ""), version(2, ""), version(3, "")]);
    assert_eq!(f.reason(unknown), RefusalReason::Malformed);
    let disordered = update(&f, vec![version(2, ""), version(1, "")]);
    assert_eq!(f.reason(disordered), RefusalReason::Malformed);
    let dropped = update(&f, vec![version(2, "")]);
    assert_eq!(f.reason(dropped), RefusalReason::InUse);

    // A live task needs it as well, and so does the way back.
    let mut moved = Service::clone(f.state.service(ServiceId::from_number(1)).unwrap());
    let before = moved.spec.clone();
    moved = with_secret(moved, 1, 2);
    moved.previous_spec = Some(before.clone());
    f.apply(vec![Action::Update(moved.into())]).unwrap();
    let dropped = update(&f, vec![version(2, "")]);
    assert_eq!(f.reason(dropped), RefusalReason::InUse);
    let mut live = task(1, 1, TaskState::Running);
    live.spec = before.task.clone();
    let mut moved = Service::clone(f.state.service(ServiceId::from_number(1)).unwrap());
    moved.previous_spec = None;
    f.apply(vec![
        Action::Update(moved.into()),
        Action::Create(live.into()),
    ])
    .unwrap();
    let dropped = update(&f, vec![version(2, "")]);
    assert_eq!(f.reason(dropped), RefusalReason::InUse);
    let ended = Action::TaskStatus {
        task: TaskId::from_number(1),
        status: TaskStatus {
            state: TaskState::Shutdown,
            ..TaskStatus::default()
        },
    };
    let dropped = update(&f, vec![version(2, "")]);
    f.apply([vec![ended], dropped].concat()).unwrap();
    assert_eq!(stored(&f).versions.len(), 1);
}
