//! Content goes only to nodes with a task that uses it, before it, and leaves with the last.

use std::sync::Arc;

use proto::dispatcher::assignment_change::Change;
use proto::dispatcher::{self as wire, assignments::Kind};
use seal::{Plain, StoreKey};
use store::{Action, Object};
use types::node::NodeState;
use types::secret::{
    ConfigReference, ContentId, ContentKey, ContentVersion, ReferenceTarget, SecretReference,
};
use types::{
    Cluster, Config, ConfigId, ConfigSpec, Meta, Payload, Secret, SecretId, SecretSpec, Task,
    TaskId, TaskState, Timestamp,
};

use super::fixture::{Agent, Fixture, status, task};

/// What a set changes, in order: `+secret 1`, `task`, `-config 1`.
fn words(agent: &Agent, set: &wire::Assignments) -> Vec<String> {
    let key = |key: &Option<wire::ContentKey>| key.clone().unwrap().version;
    let word = |change: &wire::AssignmentChange| match change.change.as_ref().unwrap() {
        Change::UpdateTask(_) => "task".to_owned(),
        Change::RemoveTask(_) => "-task".to_owned(),
        Change::UpdateSecret(content) => {
            let number = key(&content.key);
            let context = secret_key(number).context();
            let opened = agent.key.open(&context, &content.data).unwrap();
            format!("+secret {}", String::from_utf8_lossy(&opened))
        }
        Change::RemoveSecret(key) => format!("-secret {}", key.version),
        Change::UpdateConfig(content) => {
            format!("+config {}", String::from_utf8_lossy(&content.data))
        }
        Change::RemoveConfig(key) => format!("-config {}", key.version),
        other => panic!("unexpected {other:?}"),
    };
    // Settings of the data plane begin every complete set.
    let others = set
        .changes
        .iter()
        .filter(|change| !matches!(change.change, Some(Change::NetworkSettings(_))));
    others.map(word).collect()
}

fn secret_key(version: u64) -> ContentKey {
    ContentKey {
        id: ContentId::Secret(SecretId::from_number(1)),
        version,
        task: None,
    }
}

fn version(number: u64, data: Vec<u8>) -> ContentVersion {
    ContentVersion {
        number,
        created_at: Timestamp::default(),
        data: Payload::new(data),
    }
}

/// A store with the secret `db` in versions 1 and 2, and the config `app` in version 1.
async fn fill(fixture: &Fixture) {
    let bytes = StoreKey::generate().unwrap();
    let key = StoreKey::try_from(&bytes[..]).unwrap();
    let sealed = |number: u64| {
        let plain = Plain::new(format!("v{number}").into_bytes());
        version(
            number,
            key.seal(&secret_key(number).context(), plain).unwrap(),
        )
    };
    let state = fixture.store.state();
    let cluster = Cluster {
        content_key: Payload::new(bytes.to_vec()),
        ..Cluster::clone(state.cluster().unwrap())
    };
    let secret = Secret {
        id: SecretId::from_number(1),
        meta: Meta::default(),
        spec: SecretSpec {
            name: "db".into(),
            ..SecretSpec::default()
        },
        versions: vec![sealed(1), sealed(2)],
    };
    let config = Config {
        id: ConfigId::from_number(1),
        meta: Meta::default(),
        spec: ConfigSpec {
            name: "app".into(),
            ..ConfigSpec::default()
        },
        versions: vec![version(1, b"c1".to_vec())],
    };
    let actions = vec![
        Action::Update(Object::from(cluster)),
        Action::Create(Object::from(secret)),
        Action::Create(Object::from(config)),
    ];
    fixture.propose(actions).await;
}

fn using(mut task: Task, secret: Option<u64>, config: bool) -> Task {
    let container = &mut Arc::make_mut(&mut task.spec).container;
    container
        .secrets
        .extend(secret.map(|version| SecretReference {
            secret_id: SecretId::from_number(1),
            secret_name: "db".into(),
            version,
            target: ReferenceTarget::Env("DB".into()),
        }));
    container.configs.extend(config.then(|| ConfigReference {
        config_id: ConfigId::from_number(1),
        config_name: "app".into(),
        version: 1,
        target: ReferenceTarget::Env("APP".into()),
    }));
    task
}

fn create(task: Task) -> Action {
    Action::Create(Object::from(task))
}

fn reach(number: u128, state: TaskState) -> Action {
    Action::TaskStatus {
        task: TaskId::from_number(number),
        status: status(state),
    }
}

#[tokio::test]
async fn content_comes_with_the_first_task_and_goes_with_the_last() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown), (2, NodeState::Unknown)]).await;
    fill(&fixture).await;
    fixture
        .propose(vec![
            create(using(task(1, 1, TaskState::Assigned), Some(1), true)),
            create(using(task(2, 1, TaskState::Pending), Some(2), false)),
            create(using(task(3, 1, TaskState::Failed), Some(2), false)),
            create(task(4, 2, TaskState::Assigned)),
        ])
        .await;
    let mut one = fixture.register(1).await.unwrap();
    let mut two = fixture.register(2).await.unwrap();
    let set = one.assignments().await;
    assert_eq!(
        words(&one, &set),
        ["+secret v1", "+config c1", "task", "task"]
    );
    let set = two.assignments().await;
    assert_eq!(words(&two, &set), ["task"], "nothing of other nodes");

    // A second user of the same version needs nothing more; another version comes before its task.
    let more = [
        create(using(task(5, 1, TaskState::Assigned), Some(1), false)),
        create(using(task(6, 1, TaskState::Assigned), Some(2), false)),
    ];
    fixture.propose(more.to_vec()).await;
    let set = one.assignments().await;
    assert_eq!(words(&one, &set), ["+secret v2", "task", "task"]);

    // Version 1 has another user; the config has none.
    fixture.propose(vec![reach(1, TaskState::Shutdown)]).await;
    let set = one.assignments().await;
    assert_eq!(words(&one, &set), ["-config 1"]);
    fixture.propose(vec![reach(5, TaskState::Failed)]).await;
    let set = one.assignments().await;
    assert_eq!(words(&one, &set), ["-secret 1"]);

    // A new session starts from nothing.
    let mut again = fixture.register(1).await.unwrap();
    let set = again.assignments().await;
    assert_eq!(set.kind(), Kind::Complete);
    assert!(words(&again, &set).starts_with(&["+secret v2".to_owned(), "task".to_owned()]));
}
