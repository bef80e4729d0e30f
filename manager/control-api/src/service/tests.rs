//! A service from its declaration to its removal, and what is asked beside it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use store::{Action, ObjectId};
use types::node::NodeState;
use types::service::ServiceMode;
use types::update::{UpdateState, UpdateStatus};
use types::{Service, ServiceSpec, TaskState};

use super::{ServiceProgress, ServiceWatch};
use crate::testing::{Fixture, spec};
use crate::{Error, LogOptions, UpdateService};

fn with_image(spec: &ServiceSpec, image: &str) -> ServiceSpec {
    let mut spec = spec.clone();
    Arc::make_mut(&mut spec.task).container.image = image.to_owned();
    spec
}

fn with_replicas(spec: &ServiceSpec, replicas: u64) -> ServiceSpec {
    ServiceSpec {
        mode: ServiceMode::Replicated { replicas },
        ..spec.clone()
    }
}

async fn update(fixture: &Fixture, to: ServiceSpec) -> Result<Arc<Service>, Error> {
    let stored = fixture.api.get_service(&to.name).unwrap().service;
    let update = UpdateService::to(stored.id, stored.meta.version, to);
    fixture
        .api
        .update_service(update)
        .await
        .map(|changed| changed.service)
}

async fn rollback(fixture: &Fixture, name: &str) -> Result<Arc<Service>, Error> {
    let stored = fixture.api.get_service(name).unwrap().service;
    let update = UpdateService::back(stored.id, stored.meta.version);
    fixture
        .api
        .update_service(update)
        .await
        .map(|changed| changed.service)
}

#[tokio::test]
async fn a_name_belongs_to_one_service() {
    let fixture = Fixture::new(1, 0).await;
    fixture.service("web").await;
    let error = fixture.api.create_service(spec("WEB")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "name conflicts with an existing object: service WEB already exists"
    );
}

#[tokio::test]
async fn a_service_without_a_name_gets_one() {
    let fixture = Fixture::new(1, 0).await;
    for _ in 0..200 {
        let service = fixture.service("").await;
        assert!(service.spec.name.contains('_'), "{}", service.spec.name);
    }
    assert_eq!(fixture.api.list_services().len(), 200);
}

#[tokio::test]
async fn a_wrong_spec_changes_nothing_and_an_odd_one_warns() {
    let fixture = Fixture::new(1, 0).await;
    let error = fixture
        .api
        .create_service(with_image(&spec("web"), "Web!"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert!(fixture.api.list_services().is_empty());
    let mut odd = spec("web");
    Arc::make_mut(&mut odd.task).placement.constraints = vec!["node.colour==red".into()];
    let created = fixture.api.create_service(odd).await.unwrap();
    assert!(
        created.warnings[0].contains("node.colour==red"),
        "{:?}",
        created.warnings
    );
}

#[tokio::test]
async fn name_and_mode_stay() {
    let fixture = Fixture::new(1, 0).await;
    let web = fixture.service("web").await;
    let renamed = ServiceSpec {
        name: "api".into(),
        ..web.spec.clone()
    };
    let renamed = UpdateService::to(web.id, web.meta.version, renamed);
    let global = ServiceSpec {
        mode: ServiceMode::Global {},
        ..web.spec.clone()
    };
    let global = UpdateService::to(web.id, web.meta.version, global);
    for (change, words) in [
        (renamed, "renaming services is not supported"),
        (global, "service mode change is not allowed"),
    ] {
        let error = fixture.api.update_service(change).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_stale_version_is_refused() {
    let fixture = Fixture::new(1, 0).await;
    let web = fixture.service("web").await;
    update(&fixture, with_replicas(&web.spec, 2)).await.unwrap();
    let late = UpdateService::to(web.id, web.meta.version, with_replicas(&web.spec, 3));
    let error = fixture.api.update_service(late).await.unwrap_err();
    assert!(
        matches!(&error, Error::Stale { object } if object == "service web"),
        "{error}"
    );
}

#[tokio::test]
async fn going_back_restores_what_ran_and_keeps_labels_set_since() {
    let fixture = Fixture::new(1, 0).await;
    let v1 = fixture.service("web").await;
    assert!(
        matches!(rollback(&fixture, "web").await, Err(Error::Precondition(text))
        if text.ends_with("does not have a previous spec"))
    );

    let v2 = update(&fixture, with_image(&v1.spec, "web:2"))
        .await
        .unwrap();
    assert_eq!(v2.previous_spec.as_ref(), Some(&v1.spec));
    let mut labelled = v2.spec.clone();
    labelled.labels.insert("owner".into(), "ops".into());
    labelled.rollback_config.parallelism = 0;
    let labelled = update(&fixture, labelled).await.unwrap();
    assert_eq!(labelled.previous_spec.as_ref().unwrap().task, v1.spec.task);

    let back = rollback(&fixture, "web").await.unwrap();
    assert_eq!(back.spec.task.container.image, "web:1");
    assert_eq!(back.spec.labels["owner"], "ops");
    assert_eq!(back.spec.rollback_config.parallelism, 0);
    let status = back.update_status.as_ref().unwrap();
    assert_eq!(status.state, UpdateState::RollbackStarted);
    assert_eq!(status.message, "manually requested rollback");
    assert!(status.started_at.is_set());

    let forth = rollback(&fixture, "web").await.unwrap();
    assert_eq!(
        forth.spec.task.container.image, "web:2",
        "twice leads to the newer spec"
    );
}

#[tokio::test]
async fn a_scale_can_be_taken_back() {
    let fixture = Fixture::new(1, 0).await;
    let web = fixture.service("web").await;
    update(&fixture, with_replicas(&web.spec, 4)).await.unwrap();
    let back = rollback(&fixture, "web").await.unwrap();
    assert_eq!(back.spec.mode, ServiceMode::Replicated { replicas: 1 });
}

#[tokio::test]
async fn any_update_resumes_a_paused_one() {
    let fixture = Fixture::new(1, 0).await;
    let mut web = Service::clone(&*fixture.service("web").await);
    web.update_status = Some(UpdateStatus {
        state: UpdateState::Paused,
        ..UpdateStatus::default()
    });
    fixture.act(Action::Update(web.clone().into())).await;
    let web = update(&fixture, web.spec.clone()).await.unwrap();
    assert_eq!(web.update_status, None);
}

#[tokio::test]
async fn running_tasks_are_those_on_nodes_that_can_be_reached() {
    let fixture = Fixture::new(1, 2).await;
    let web = fixture
        .api
        .create_service(with_replicas(&spec("web"), 3))
        .await
        .unwrap()
        .service;
    fixture.task(1, &web, 1, 2, TaskState::Running).await;
    fixture.task(2, &web, 2, 3, TaskState::Running).await;
    fixture.task(3, &web, 3, 3, TaskState::Starting).await;
    let counts = || {
        let view = fixture.api.get_service("web").unwrap();
        (view.running_tasks, view.desired_tasks)
    };
    assert_eq!(counts(), (2, 3));
    fixture.node_state(3, NodeState::Down).await;
    assert_eq!(counts(), (1, 3));
}

async fn next(watch: &mut ServiceWatch) -> ServiceProgress {
    tokio::time::timeout(Duration::from_secs(10), watch.next())
        .await
        .expect("a view follows a change")
        .expect("the service was there")
}

#[tokio::test]
async fn a_watch_shows_each_change_until_the_service_is_gone() {
    let fixture = Fixture::new(1, 1).await;
    let web = fixture.service("web").await;
    let other = fixture.service("other").await;
    let mut watch = fixture.api.watch_service("web").unwrap();
    assert!(next(&mut watch).await.tasks.is_empty());

    fixture.task(1, &other, 1, 2, TaskState::Running).await;
    let old = fixture.task(2, &web, 1, 2, TaskState::Running).await;
    let view = next(&mut watch).await;
    assert_eq!(view.tasks.len(), 1, "of the other service nothing is said");
    assert!(view.tasks[0].current);

    // A label makes another version of the spec, but the task still runs what is asked for.
    let mut labelled = web.spec.clone();
    labelled.labels.insert("a".into(), "b".into());
    let web = update(&fixture, labelled).await.unwrap();
    assert!(next(&mut watch).await.tasks[0].current);

    let web = update(&fixture, with_image(&web.spec, "web:2"))
        .await
        .unwrap();
    assert!(!next(&mut watch).await.tasks[0].current);

    fixture
        .act(Action::TaskDesired {
            task: old,
            desired: TaskState::Shutdown,
        })
        .await;
    let view = next(&mut watch).await;
    assert_eq!(
        view.tasks[0].id, old,
        "a slot without a live task shows its newest"
    );
    let new = fixture.task(3, &web, 1, 2, TaskState::Starting).await;
    let view = next(&mut watch).await;
    assert_eq!(
        view.tasks.iter().map(|task| task.id).collect::<Vec<_>>(),
        [new]
    );

    fixture.api.remove_service("web").await.unwrap();
    assert!(next(&mut watch).await.service.is_none());
    assert!(watch.next().await.is_none());
    assert!(fixture.api.remove_service("web").await.is_err());
    fixture
        .act(Action::Remove {
            id: ObjectId::Task(new),
            version: None,
        })
        .await;
}

#[tokio::test]
async fn logs_are_asked_for_by_service_then_task() {
    let fixture = Fixture::new(1, 1).await;
    let web = fixture.service("web").await;
    fixture.task(1, &web, 1, 2, TaskState::Running).await;
    let keys = ["web".to_owned(), "web.1".to_owned()];
    let options = LogOptions {
        tail: Some(3),
        ..LogOptions::default()
    };
    let mut batches = fixture.api.logs(&keys, options).await.unwrap();
    let batch = batches.next().await.unwrap().unwrap();
    assert_eq!(batch.incomplete, ["1 services, 1 tasks, tail Some(3)"]);
    let error = |keys: &[String], options| {
        let api = fixture.api.clone();
        let keys = keys.to_vec();
        async move { api.logs(&keys, options).await.err().unwrap().to_string() }
    };
    let missing = error(&["nope".to_owned()], LogOptions::default()).await;
    assert_eq!(missing, "service or task nope not found");
    let neither = LogOptions {
        no_stdout: true,
        no_stderr: true,
        ..LogOptions::default()
    };
    assert!(
        error(&keys, neither)
            .await
            .contains("choose at least one stream")
    );
}

#[tokio::test]
async fn tasks_are_listed_by_service_and_node() {
    let fixture = Fixture::new(1, 2).await;
    let web = fixture.service("web").await;
    let api = fixture.service("api").await;
    fixture.task(1, &web, 1, 2, TaskState::Running).await;
    fixture.task(2, &web, 2, 3, TaskState::Running).await;
    fixture.task(3, &api, 1, 3, TaskState::Running).await;
    let count = |services: &[&str], nodes: &[&str]| {
        let owned = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
        fixture
            .api
            .list_tasks(&owned(services), &owned(nodes))
            .map(|tasks| tasks.len())
    };
    assert_eq!(count(&[], &[]), Ok(3));
    assert_eq!(count(&["web"], &[]), Ok(2));
    assert_eq!(count(&["web", "api", "web"], &[]), Ok(3));
    assert_eq!(count(&[], &["n3"]), Ok(2));
    assert_eq!(count(&["web"], &["n3"]), Ok(1));
    assert!(count(&["nope"], &[]).is_err());
}

#[tokio::test]
async fn tokens_rotate_alone() {
    let fixture = Fixture::new(2, 0).await;
    let before = fixture.api.cluster().unwrap();
    assert_eq!(
        before.managers,
        ["10.0.0.1:2377", "10.0.0.2:2377"],
        "the leader comes first"
    );
    let token = fixture
        .api
        .rotate_join_token(types::NodeRole::Worker)
        .await
        .unwrap();
    let after = fixture.api.cluster().unwrap();
    assert_eq!(after.worker_token, token);
    assert_ne!(after.worker_token, before.worker_token);
    assert_eq!(after.manager_token, before.manager_token);
    let root = |token: &str| token.rsplit_once('-').unwrap().0.to_owned();
    assert_eq!(
        root(&after.worker_token),
        root(&before.worker_token),
        "the root stays"
    );
}
