//! Secrets and configs from their making to their removal, and the services that go along.

use std::sync::Arc;

use seal::Plain;
use types::secret::{ConfigReference, Driver, FileTarget, ReferenceTarget, SecretReference};
use types::{Config, ConfigSpec, Secret, SecretSpec, ServiceSpec};

use crate::testing::{Fixture, spec};
use crate::{ContentChanged, Error, UpdateConfig, UpdateSecret, UpdateService};

fn named(name: &str) -> SecretSpec {
    SecretSpec {
        name: name.into(),
        ..SecretSpec::default()
    }
}

fn config_named(name: &str) -> ConfigSpec {
    ConfigSpec {
        name: name.into(),
        ..ConfigSpec::default()
    }
}

fn file(name: &str) -> ReferenceTarget {
    ReferenceTarget::File(FileTarget {
        name: name.into(),
        uid: "0".into(),
        gid: "0".into(),
        mode: 0o444,
    })
}

fn using(name: &str, secrets: &[&Secret], configs: &[&Config]) -> ServiceSpec {
    let mut spec = spec(name);
    let container = &mut Arc::make_mut(&mut spec.task).container;
    for secret in secrets {
        container.secrets.push(SecretReference {
            secret_id: secret.id,
            secret_name: secret.spec.name.clone(),
            version: 0,
            target: file(&secret.spec.name),
        });
    }
    for config in configs {
        container.configs.push(ConfigReference {
            config_id: config.id,
            config_name: config.spec.name.clone(),
            version: 0,
            target: file(&config.spec.name),
        });
    }
    spec
}

impl Fixture {
    fn sealed(&self, name: &str, text: &str) -> Vec<u8> {
        let plain = Plain::new(text.as_bytes().to_vec());
        self.api.seal_key().seal(name.as_bytes(), plain).unwrap()
    }

    async fn secret(&self, name: &str, text: &str) -> Arc<Secret> {
        let sealed = Some(self.sealed(name, text));
        self.api.create_secret(named(name), sealed).await.unwrap()
    }

    async fn update(&self, read: &Secret, text: &str) -> Result<ContentChanged<Secret>, Error> {
        let update = UpdateSecret {
            id: read.id,
            version: read.meta.version,
            spec: read.spec.clone(),
            sealed: Some(self.sealed(&read.spec.name, text)),
        };
        self.api.update_secret(update).await
    }

    fn version_of(&self, service: &str) -> u64 {
        let view = self.api.get_service(service).unwrap();
        view.service.spec.task.container.secrets[0].version
    }
}

#[tokio::test]
async fn the_store_never_holds_a_secret_in_clear() {
    let f = Fixture::new(1, 0).await;
    let secret = f.secret("db", "hunter2").await;
    let key = f.api.store_key().await.unwrap();
    let version = &secret.versions[0];
    assert!(!version.data.bytes().windows(7).any(|it| it == b"hunter2"));
    let id = types::secret::ContentId::Secret(secret.id);
    let context = types::secret::ContentKey {
        id,
        version: 1,
        task: None,
    }
    .context();
    assert_eq!(
        key.open(&context, version.data.bytes()).unwrap().as_slice(),
        b"hunter2"
    );
    // Sealed for another name, it is refused.
    let stolen = f.sealed("db", "hunter2");
    let refused = f.api.create_secret(named("web"), Some(stolen)).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn names_are_taken_and_drivers_bring_the_content() {
    let f = Fixture::new(1, 0).await;
    let secret = f.secret("db", "a").await;
    let taken = f
        .api
        .create_secret(named("DB"), Some(f.sealed("DB", "b")))
        .await;
    assert!(matches!(taken, Err(Error::NameTaken { .. })), "{taken:?}");
    let missing = f.api.create_secret(named("web"), None).await;
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("less than 512000 bytes")
    );
    let mut driven = named("vault");
    driven.driver = Some(Driver {
        name: "vault".into(),
        ..Driver::default()
    });
    let driven = f.api.create_secret(driven, None).await.unwrap();
    assert!(driven.versions.is_empty());
    let refused = f.update(&driven, "x").await.unwrap_err();
    assert!(refused.to_string().contains("driver"), "{refused}");
    let service = f
        .api
        .create_service(using("web", &[&driven, &secret], &[]))
        .await
        .unwrap();
    assert_eq!(service.service.spec.task.container.secrets[0].version, 1);
}

#[tokio::test]
async fn references_are_checked_and_what_is_used_stays() {
    let f = Fixture::new(1, 0).await;
    let secret = f.secret("db", "a").await;
    let config = f
        .api
        .create_config(config_named("app"), b"x".to_vec())
        .await
        .unwrap();
    for name in ["one", "two"] {
        f.api
            .create_service(using(name, &[&secret], &[&config]))
            .await
            .unwrap();
    }
    let refused = f.api.remove_secret("db").await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "secret \"db\" is in use by the following services: one, two"
    );
    let refused = f.api.remove_config("app").await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "config \"app\" is in use by the following services: one, two"
    );

    let mut wrong = using("three", &[&secret], &[]);
    Arc::make_mut(&mut wrong.task).container.secrets[0].secret_name = "other".into();
    let refused = f.api.create_service(wrong).await.unwrap_err();
    assert!(
        refused.to_string().contains("malformed secret reference"),
        "{refused}"
    );
    let mut wrong = using("three", &[&secret], &[]);
    Arc::make_mut(&mut wrong.task).container.secrets[0].version = 7;
    let refused = f.api.create_service(wrong).await.unwrap_err();
    assert!(
        refused.to_string().contains("no version 7: kept are 1"),
        "{refused}"
    );
    let twice = f
        .api
        .create_service(using("three", &[&secret, &secret], &[]))
        .await;
    assert!(
        twice
            .unwrap_err()
            .to_string()
            .contains("conflicting target")
    );

    for name in ["one", "two"] {
        f.api.remove_service(name).await.unwrap();
    }
    f.api.remove_secret("db").await.unwrap();
    let gone = f.api.create_service(using("three", &[&secret], &[])).await;
    assert_eq!(gone.unwrap_err().to_string(), "secret db not found");
}

#[tokio::test]
async fn new_content_rolls_the_services_and_can_be_taken_back() {
    let f = Fixture::new(1, 0).await;
    let secret = f.secret("db", "a").await;
    let other = f.secret("other", "o").await;
    for name in ["one", "two"] {
        f.api
            .create_service(using(name, &[&secret], &[]))
            .await
            .unwrap();
    }
    f.api
        .create_service(using("aside", &[&other], &[]))
        .await
        .unwrap();
    let aside = f.api.get_service("aside").unwrap().service;

    let same = f.update(&secret, "a").await.unwrap();
    assert!(same.services.is_empty());
    assert_eq!(
        same.content.versions.len(),
        1,
        "the same content is no new version"
    );

    let changed = f.update(&secret, "b").await.unwrap();
    assert_eq!((changed.services.len(), changed.content.newest()), (2, 2));
    assert_eq!((f.version_of("one"), f.version_of("two")), (2, 2));
    assert_eq!(f.api.get_service("aside").unwrap().service, aside);
    let stale = f.update(&secret, "c").await.unwrap_err();
    assert!(matches!(stale, Error::Stale { .. }), "{stale}");

    let one = f.api.get_service("one").unwrap().service;
    f.api
        .update_service(UpdateService::back(one.id, one.meta.version))
        .await
        .unwrap();
    assert_eq!((f.version_of("one"), f.version_of("two")), (1, 2));
    // The same content again brings the one that went back forward once more.
    let again = f.update(&changed.content, "b").await.unwrap();
    assert_eq!((again.services.len(), again.content.newest()), (1, 2));
    assert_eq!(f.version_of("one"), 2);
}

#[tokio::test]
async fn many_services_roll_in_several_transactions() {
    let f = Fixture::new(1, 0).await;
    let secret = f.secret("db", "a").await;
    for number in 0..230 {
        let name = format!("s{number}");
        f.api
            .create_service(using(&name, &[&secret], &[]))
            .await
            .unwrap();
    }
    let before = f.store.state().version().index;
    let changed = f.update(&secret, "b").await.unwrap();
    assert_eq!(changed.services.len(), 230);
    assert_eq!(f.store.state().version().index - before, 2);
}

#[tokio::test]
async fn large_configs_get_new_versions() {
    let f = Fixture::new(1, 0).await;
    let mut config = f
        .api
        .create_config(config_named("app"), vec![b'x'; 1_000_000])
        .await
        .unwrap();
    for number in 2..5 {
        let update = UpdateConfig {
            id: config.id,
            version: config.meta.version,
            spec: config.spec.clone(),
            data: Some(vec![b'0' + number; 1_000_000]),
        };
        config = f.api.update_config(update).await.unwrap().content;
    }
    let sizes: Vec<_> = config.versions.iter().map(|it| it.data.len()).collect();
    assert_eq!(sizes, [1_000_000; 4]);
}

#[tokio::test]
async fn only_labels_and_content_change() {
    let f = Fixture::new(1, 0).await;
    let secret = f.secret("db", "a").await;
    let update = |spec| UpdateSecret {
        id: secret.id,
        version: secret.meta.version,
        spec,
        sealed: None,
    };
    let renamed = f.api.update_secret(update(named("web"))).await.unwrap_err();
    assert!(
        renamed.to_string().contains("only updates to Labels"),
        "{renamed}"
    );
    let mut labelled = named("db");
    labelled.labels.insert("owner".into(), "ops".into());
    let changed = f.api.update_secret(update(labelled)).await.unwrap();
    assert_eq!(changed.content.spec.labels["owner"], "ops");
    assert_eq!(changed.content.versions, secret.versions, "content stays");
}
