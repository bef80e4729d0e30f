//! Reads the content of secrets and configs out of assignments, and keeps what is still assigned.

use std::collections::BTreeSet;

use executor::{Content, Contents, Data};
use proto::dispatcher as wire;
use types::Payload;
use types::secret::{ContentId, ContentKey};

/// What a set of assignments says of contents.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    updates: Vec<(ContentKey, Content)>,
    removals: Vec<ContentKey>,
}

impl Changes {
    pub(crate) fn update_secret(&mut self, message: wire::SecretContent) {
        let data = match message.problem.as_str() {
            "" => Data::Sealed(Payload::new(message.data)),
            _ => Data::Missing(message.problem),
        };
        let is_template = message.spec.is_some_and(|spec| spec.templated);
        if let Some(key) = secret_key(message.key) {
            self.updates.push((key, Content { data, is_template }));
        }
    }

    pub(crate) fn update_config(&mut self, message: wire::ConfigContent) {
        let data = Data::Clear(Payload::new(message.data));
        let is_template = message.spec.is_some_and(|spec| spec.templated);
        if let Some(key) = config_key(message.key) {
            self.updates.push((key, Content { data, is_template }));
        }
    }

    pub(crate) fn remove_secret(&mut self, key: wire::ContentKey) {
        self.removals.extend(secret_key(Some(key)));
    }

    pub(crate) fn remove_config(&mut self, key: wire::ContentKey) {
        self.removals.extend(config_key(Some(key)));
    }

    /// Takes the changes over. After a complete set nothing else is held.
    pub(crate) fn apply(self, is_complete: bool, contents: &Contents) {
        if is_complete {
            let known: BTreeSet<_> = self.updates.iter().map(|(key, _)| *key).collect();
            contents.retain(&known);
        }
        for (key, content) in self.updates {
            contents.put(key, content);
        }
        for key in &self.removals {
            contents.remove(key);
        }
    }
}

fn secret_key(message: Option<wire::ContentKey>) -> Option<ContentKey> {
    key(message, |id| id.parse().ok().map(ContentId::Secret))
}

fn config_key(message: Option<wire::ContentKey>) -> Option<ContentKey> {
    key(message, |id| id.parse().ok().map(ContentId::Config))
}

fn key(
    message: Option<wire::ContentKey>,
    parse: impl Fn(&str) -> Option<ContentId>,
) -> Option<ContentKey> {
    let message = message?;
    let task = match message.task_id.as_str() {
        "" => None,
        task => Some(task.parse().ok()?),
    };
    let key = parse(&message.id).map(|id| ContentKey {
        id,
        version: message.version,
        task,
    });
    if key.is_none() {
        tracing::error!(id = message.id, "told of content without a valid id");
    }
    key
}

#[cfg(test)]
mod tests {
    use types::{ConfigId, SecretId};

    use super::*;

    fn key(id: String, version: u64) -> Option<wire::ContentKey> {
        Some(wire::ContentKey {
            id,
            version,
            task_id: String::new(),
        })
    }

    #[test]
    fn sets_add_take_away_and_replace() {
        let contents = Contents::new();
        let secret = SecretId::from_number(1).to_string();
        let config = ConfigId::from_number(1).to_string();
        let mut first = Changes::default();
        first.update_secret(wire::SecretContent {
            key: key(secret.clone(), 1),
            ..wire::SecretContent::default()
        });
        first.update_config(wire::ConfigContent {
            key: key(config.clone(), 4),
            ..wire::ConfigContent::default()
        });
        first.update_secret(wire::SecretContent {
            key: key("?".into(), 1),
            ..wire::SecretContent::default()
        });
        first.apply(true, &contents);
        assert_eq!(contents.keys().len(), 2);

        let mut second = Changes::default();
        second.remove_config(key(config, 4).unwrap());
        second.apply(false, &contents);
        assert_eq!(contents.keys().len(), 1);

        let mut third = Changes::default();
        third.update_secret(wire::SecretContent {
            key: key(secret, 2),
            ..wire::SecretContent::default()
        });
        third.apply(true, &contents);
        assert_eq!(contents.keys()[0].version, 2);
        Changes::default().apply(true, &contents);
        assert_eq!(contents.keys(), []);
    }
}
