//! Configs: made, listed, changed, removed.

use std::sync::Arc;

use store::{Action, Kind, Object};
use types::id::RandomIds;
use types::secret::CONFIG_BYTES_MAX;
use types::{Config, ConfigId, ConfigSpec, Meta, Timestamp, Version};

use crate::content::{Content as _, ContentChanged, check_change, stored_at};
use crate::{ControlApi, Error, validate};

/// A change of a config.
#[derive(Clone, Debug)]
pub struct UpdateConfig {
    /// Which one.
    pub id: ConfigId,
    /// The version the spec was made from; must still be stored.
    pub version: Version,
    /// What is asked now; only labels can change.
    pub spec: ConfigSpec,
    /// New content; none leaves it.
    pub data: Option<Vec<u8>>,
}

impl ControlApi {
    /// Makes a config.
    ///
    /// # Errors
    /// When the spec or the content is not valid, or the name is taken.
    pub async fn create_config(
        &self,
        spec: ConfigSpec,
        data: Vec<u8>,
    ) -> Result<Arc<Config>, Error> {
        validate::config(&spec, data.len())?;
        if self.state().config_by_name(&spec.name).is_some() {
            return Err(Error::NameTaken {
                kind: Kind::Config,
                name: spec.name,
            });
        }
        let mut config = Config {
            id: ConfigId::generate(&mut RandomIds),
            meta: Meta::default(),
            spec,
            versions: vec![],
        };
        config.push_version(Timestamp::now(), data);
        let id = config.id_text();
        self.propose(vec![Action::Create(Object::from(config))])
            .await?;
        self.get_config(&id)
    }

    /// Every config, by id.
    #[must_use]
    pub fn list_configs(&self) -> Vec<Arc<Config>> {
        self.state().configs().cloned().collect()
    }

    /// The config called `key`.
    ///
    /// # Errors
    /// When nothing or several are called so.
    pub fn get_config(&self, key: &str) -> Result<Arc<Config>, Error> {
        Config::find(&self.state(), key)
    }

    /// Changes labels, or makes a new version and moves every service that refers to the config to
    /// it. Content that is the newest already makes no version, and completes what broke off.
    ///
    /// # Errors
    /// When something else than labels and content would change, or the version is not the stored
    /// one.
    pub async fn update_config(
        &self,
        update: UpdateConfig,
    ) -> Result<ContentChanged<Config>, Error> {
        let id = update.id.to_string();
        let read = Config::find(&self.state(), &id)?;
        let read = stored_at(&self.state(), &*read, update.version)?;
        let only_labels = ConfigSpec {
            labels: update.spec.labels.clone(),
            ..read.spec.clone()
        };
        check_change(&update.spec, &only_labels, &update.spec.labels)?;
        let mut changed = read.bare();
        changed.spec = update.spec;
        if let Some(data) = update.data {
            validate::data_size(data.len(), CONFIG_BYTES_MAX)?;
            let newest = read.versions.last();
            if newest.is_none_or(|newest| newest.data.bytes() != data) {
                changed.push_version(Timestamp::now(), data);
            }
            let is_changed = changed != read.bare();
            return self
                .write_content(&*read, is_changed.then_some(changed))
                .await;
        }
        self.write_labels(changed).await
    }

    /// Removes the config called `key`.
    ///
    /// # Errors
    /// When nothing or several are called so, or services use it; they are named.
    pub async fn remove_config(&self, key: &str) -> Result<String, Error> {
        self.remove_content::<Config>(key).await
    }
}
