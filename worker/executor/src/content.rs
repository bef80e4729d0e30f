//! The content of secrets and configs on this node: in memory only, secrets in their envelopes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seal::{OpenKey, Plain, SealKey};
use types::secret::{ContentKey, ContentUse};
use types::{Payload, TaskId};

/// What the node was given for its tasks. Clones share it.
///
/// Secrets stay in the envelopes they came in until a task is started: the plaintext is in memory
/// only while it is written into the container.
#[derive(Clone, Debug)]
pub struct Contents {
    key: Arc<OpenKey>,
    held: Arc<Mutex<BTreeMap<ContentKey, Content>>>,
}

/// One version of a secret or config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The bytes; absent while the managers have none.
    pub data: Data,
    /// It is a template, to be filled in for each task.
    pub is_template: bool,
}

/// The bytes of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In an envelope for this node.
    Sealed(Payload),
    /// Not secret.
    Clear(Payload),
    /// The managers could not get it yet; why.
    Missing(String),
}

/// Why content cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// It did not come yet.
    #[error("waiting for {kind} {name} version {version} from the managers{reason}")]
    Waiting {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Which version.
        version: u64,
        /// `: ` and why it takes so long; empty when nothing is known.
        reason: String,
    },
    /// It came and cannot be opened.
    #[error("{kind} {name} version {version}: {error}")]
    Unopened {
        /// `secret` or `config`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Which version.
        version: u64,
        /// Why.
        error: seal::Error,
    },
}

/// Content a task uses, opened.
#[derive(Debug)]
pub struct Opened {
    /// The bytes, wiped when dropped.
    pub data: Plain,
    /// They are a template, to be filled in.
    pub is_template: bool,
}

impl Contents {
    /// Holds nothing yet, and has a new key.
    ///
    /// # Panics
    /// When the system has no randomness.
    #[must_use]
    pub fn new() -> Self {
        let key = OpenKey::generate().expect("the system has randomness");
        Self {
            key: Arc::new(key),
            held: Arc::default(),
        }
    }

    /// What managers seal content with that is sent here.
    #[must_use]
    pub fn seal_key(&self) -> SealKey {
        self.key.seal_key()
    }

    /// Takes a version, in place of what was held of it.
    pub fn put(&self, key: ContentKey, content: Content) {
        self.held().insert(key, content);
    }

    /// Lets go of a version.
    pub fn remove(&self, key: &ContentKey) {
        self.held().remove(key);
    }

    /// Lets go of everything but these.
    pub fn retain(&self, known: &BTreeSet<ContentKey>) {
        self.held().retain(|key, _| known.contains(key));
    }

    /// The versions held.
    #[must_use]
    pub fn keys(&self) -> Vec<ContentKey> {
        self.held().keys().copied().collect()
    }

    /// Opens what `task` uses: what was made for it alone, else what all tasks share.
    ///
    /// # Errors
    /// [`ContentError::Waiting`] passes by itself, the other does not.
    pub fn open(&self, task: TaskId, used: &ContentUse<'_>) -> Result<Opened, ContentError> {
        let shared = used.key();
        let own = ContentKey {
            task: Some(task),
            ..shared
        };
        let (kind, name, version) = (used.id.kind(), used.name.to_owned(), used.version);
        let found = {
            let held = self.held();
            let own = held.get(&own).map(|content| (own, content.clone()));
            own.or_else(|| held.get(&shared).map(|content| (shared, content.clone())))
        };
        let waiting = |reason: &str| ContentError::Waiting {
            kind,
            name: name.clone(),
            version,
            reason: if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            },
        };
        let Some((key, content)) = found else {
            return Err(waiting(""));
        };
        let data = match content.data {
            Data::Missing(reason) => return Err(waiting(&reason)),
            Data::Clear(data) => Plain::new(data.bytes().to_vec()),
            Data::Sealed(sealed) => {
                let opened = self.key.open(&key.context(), sealed.bytes());
                opened.map_err(|error| ContentError::Unopened {
                    kind,
                    name: name.clone(),
                    version,
                    error,
                })?
            }
        };
        Ok(Opened {
            data,
            is_template: content.is_template,
        })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<ContentKey, Content>> {
        // Nothing panics while it holds the lock; each change is a single one.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Contents {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use types::SecretId;
    use types::secret::{ContentId, ReferenceTarget};

    use super::*;

    static TARGET: ReferenceTarget = ReferenceTarget::Env(String::new());

    fn used() -> ContentUse<'static> {
        ContentUse {
            id: ContentId::Secret(SecretId::from_number(1)),
            name: "db",
            version: 2,
            target: &TARGET,
        }
    }

    fn sealed(contents: &Contents, key: ContentKey, text: &str) -> Content {
        let plain = Plain::new(text.as_bytes().to_vec());
        let sealed = contents.seal_key().seal(&key.context(), plain).unwrap();
        Content {
            data: Data::Sealed(Payload::new(sealed)),
            is_template: false,
        }
    }

    #[test]
    fn a_task_gets_its_own_before_what_is_shared() {
        let contents = Contents::new();
        let task = TaskId::from_number(7);
        let waiting = contents.open(task, &used()).unwrap_err().to_string();
        assert_eq!(waiting, "waiting for secret db version 2 from the managers");
        let shared = used().key();
        contents.put(shared, sealed(&contents, shared, "all"));
        assert_eq!(
            contents.open(task, &used()).unwrap().data.as_slice(),
            b"all"
        );
        let own = ContentKey {
            task: Some(task),
            ..shared
        };
        contents.put(own, sealed(&contents, own, "one"));
        assert_eq!(
            contents.open(task, &used()).unwrap().data.as_slice(),
            b"one"
        );
        contents.retain(&BTreeSet::from([shared]));
        assert_eq!(contents.keys(), [shared]);
        contents.remove(&shared);
        assert!(contents.open(task, &used()).is_err());
    }

    #[test]
    fn an_envelope_of_another_content_is_refused_and_problems_are_told() {
        let contents = Contents::new();
        let shared = used().key();
        let other = ContentKey {
            version: 1,
            ..shared
        };
        contents.put(shared, sealed(&contents, other, "old"));
        let error = contents.open(TaskId::from_number(7), &used()).unwrap_err();
        assert!(matches!(error, ContentError::Unopened { .. }), "{error}");
        let problem = Content {
            data: Data::Missing("vault is down".into()),
            is_template: false,
        };
        contents.put(shared, problem);
        let waiting = contents.open(TaskId::from_number(7), &used()).unwrap_err();
        assert!(
            waiting
                .to_string()
                .ends_with("from the managers: vault is down")
        );
    }
}
