//! Secrets: made, listed without their content, changed, removed.

use std::sync::Arc;

use seal::Plain;
use store::{Action, Kind, Object};
use types::id::RandomIds;
use types::secret::{ContentId, ContentKey, SECRET_BYTES_MAX};
use types::{Meta, Secret, SecretId, SecretSpec, Timestamp, Version};

use crate::content::{Content as _, ContentChanged, check_change, stored_at};
use crate::{ControlApi, Error, validate};

/// A change of a secret.
#[derive(Clone, Debug)]
pub struct UpdateSecret {
    /// Which one.
    pub id: SecretId,
    /// The version the spec was made from; must still be stored.
    pub version: Version,
    /// What is asked now; only labels can change.
    pub spec: SecretSpec,
    /// New content, sealed with [`ControlApi::seal_key`]; none leaves it.
    pub sealed: Option<Vec<u8>>,
}

impl ControlApi {
    /// Makes a secret. Its content comes sealed with [`ControlApi::seal_key`], bound to its name; a
    /// secret with a driver has none.
    ///
    /// # Errors
    /// When the spec or the content is not valid, or the name is taken.
    pub async fn create_secret(
        &self,
        spec: SecretSpec,
        sealed: Option<Vec<u8>>,
    ) -> Result<Arc<Secret>, Error> {
        let sealed = sealed.as_deref();
        let plain = sealed
            .map(|it| self.open_sent(&spec.name, it))
            .transpose()?;
        validate::secret(&spec, plain.as_ref().map(|plain| plain.len()))?;
        if self.state().secret_by_name(&spec.name).is_some() {
            return Err(Error::NameTaken {
                kind: Kind::Secret,
                name: spec.name,
            });
        }
        let mut secret = Secret {
            id: SecretId::generate(&mut RandomIds),
            meta: Meta::default(),
            spec,
            versions: vec![],
        };
        if let Some(plain) = plain {
            let data = self.seal_version(secret.id, 1, plain).await?;
            secret.push_version(Timestamp::now(), data);
        }
        let id = secret.id_text();
        self.propose(vec![Action::Create(Object::from(secret))])
            .await?;
        self.get_secret(&id)
    }

    /// Every secret, by id, with sealed content.
    #[must_use]
    pub fn list_secrets(&self) -> Vec<Arc<Secret>> {
        self.state().secrets().cloned().collect()
    }

    /// The secret called `key`, with sealed content.
    ///
    /// # Errors
    /// When nothing or several are called so.
    pub fn get_secret(&self, key: &str) -> Result<Arc<Secret>, Error> {
        Secret::find(&self.state(), key)
    }

    /// Changes labels, or makes a new version and moves every service that refers to the secret to
    /// it. Content that is the newest already makes no version, and completes what broke off.
    ///
    /// # Errors
    /// When something else than labels and content would change, or the version is not the stored
    /// one.
    pub async fn update_secret(
        &self,
        update: UpdateSecret,
    ) -> Result<ContentChanged<Secret>, Error> {
        let id = update.id.to_string();
        let read = Secret::find(&self.state(), &id)?;
        let read = stored_at(&self.state(), &*read, update.version)?;
        let only_labels = SecretSpec {
            labels: update.spec.labels.clone(),
            ..read.spec.clone()
        };
        check_change(&update.spec, &only_labels, &update.spec.labels)?;
        let mut changed = read.bare();
        changed.spec = update.spec;
        if let Some(sealed) = update.sealed {
            let plain = self.open_sent(&read.spec.name, &sealed)?;
            if read.spec.driver.is_some() {
                validate::secret(&read.spec, Some(plain.len()))?;
            }
            validate::data_size(plain.len(), SECRET_BYTES_MAX)?;
            if !self.is_newest(&read, &plain).await? {
                let number = read.newest() + 1;
                let data = self.seal_version(read.id, number, plain).await?;
                changed.push_version(Timestamp::now(), data);
            }
            let is_changed = changed != read.bare();
            return self
                .write_content(&*read, is_changed.then_some(changed))
                .await;
        }
        self.write_labels(changed).await
    }

    /// Removes the secret called `key`.
    ///
    /// # Errors
    /// When nothing or several are called so, or services use it; they are named.
    pub async fn remove_secret(&self, key: &str) -> Result<String, Error> {
        self.remove_content::<Secret>(key).await
    }

    async fn seal_version(
        &self,
        id: SecretId,
        number: u64,
        plain: Plain,
    ) -> Result<Vec<u8>, Error> {
        let context = context(id, number);
        self.store_key()
            .await?
            .seal(&context, plain)
            .map_err(Error::Seal)
    }

    async fn is_newest(&self, secret: &Secret, plain: &Plain) -> Result<bool, Error> {
        let Some(newest) = secret.versions.last() else {
            return Ok(false);
        };
        let context = context(secret.id, newest.number);
        let opened = self.store_key().await?.open(&context, newest.data.bytes());
        Ok(*opened.map_err(Error::Seal)? == **plain)
    }
}

/// What the envelope of a version is bound to.
fn context(id: SecretId, version: u64) -> Vec<u8> {
    ContentKey {
        id: ContentId::Secret(id),
        version,
        task: None,
    }
    .context()
}
