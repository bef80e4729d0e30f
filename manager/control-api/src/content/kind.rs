//! The two kinds of content, seen alike.

use std::sync::Arc;

use prost::Message as _;
use store::{Object, ObjectId, State};
use types::secret::{ContentId, ContentVersion};
use types::{Config, ContainerSpec, Meta, Payload, Secret, Timestamp};

use crate::{Error, key};

/// A secret or a config.
pub(crate) trait Content: Clone + Send + Sync + Into<Object> {
    /// What users call the kind.
    const WORD: &'static str;

    fn find(state: &State, key: &str) -> Result<Arc<Self>, Error>;
    fn content_id(&self) -> ContentId;
    fn name(&self) -> &str;
    fn meta(&self) -> &Meta;
    fn versions(&self) -> &[ContentVersion];
    fn versions_mut(&mut self) -> &mut Vec<ContentVersion>;
    fn encoded_bytes(&self) -> usize;
    /// Has every reference to it name this version.
    fn point_to(&self, container: &mut ContainerSpec, version: u64);

    fn newest(&self) -> u64 {
        self.versions().last().map_or(1, |version| version.number)
    }

    /// Itself without any data, which the store has, as an update wants it.
    fn bare(&self) -> Self {
        let mut bare = self.clone();
        for version in bare.versions_mut() {
            version.data = Payload::default();
        }
        bare
    }

    /// Gives it another version.
    fn push_version(&mut self, now: Timestamp, data: Vec<u8>) {
        let number = self.versions().last().map_or(0, |version| version.number) + 1;
        self.versions_mut().push(ContentVersion {
            number,
            created_at: now,
            data: Payload::new(data),
        });
    }

    fn id_text(&self) -> String {
        match self.content_id() {
            ContentId::Secret(id) => id.to_string(),
            ContentId::Config(id) => id.to_string(),
        }
    }

    fn object_id(&self) -> ObjectId {
        match self.content_id() {
            ContentId::Secret(id) => ObjectId::Secret(id),
            ContentId::Config(id) => ObjectId::Config(id),
        }
    }
}

impl Content for Secret {
    const WORD: &'static str = "secret";

    fn find(state: &State, key: &str) -> Result<Arc<Self>, Error> {
        key::secret(state, key).cloned()
    }

    fn content_id(&self) -> ContentId {
        ContentId::Secret(self.id)
    }

    fn name(&self) -> &str {
        &self.spec.name
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn versions(&self) -> &[ContentVersion] {
        &self.versions
    }

    fn versions_mut(&mut self) -> &mut Vec<ContentVersion> {
        &mut self.versions
    }

    fn encoded_bytes(&self) -> usize {
        proto::objects::Secret::from(self).encoded_len()
    }

    fn point_to(&self, container: &mut ContainerSpec, version: u64) {
        let references = container.secrets.iter_mut();
        for reference in references.filter(|it| it.secret_id == self.id) {
            reference.version = version;
        }
    }
}

impl Content for Config {
    const WORD: &'static str = "config";

    fn find(state: &State, key: &str) -> Result<Arc<Self>, Error> {
        key::config(state, key).cloned()
    }

    fn content_id(&self) -> ContentId {
        ContentId::Config(self.id)
    }

    fn name(&self) -> &str {
        &self.spec.name
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn versions(&self) -> &[ContentVersion] {
        &self.versions
    }

    fn versions_mut(&mut self) -> &mut Vec<ContentVersion> {
        &mut self.versions
    }

    fn encoded_bytes(&self) -> usize {
        proto::objects::Config::from(self).encoded_len()
    }

    fn point_to(&self, container: &mut ContainerSpec, version: u64) {
        let references = container.configs.iter_mut();
        for reference in references.filter(|it| it.config_id == self.id) {
            reference.version = version;
        }
    }
}
