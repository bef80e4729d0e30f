//! The configuration of an image: what a container made from it runs by default.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use types::Timestamp;
use types::container_spec::Healthcheck;

use crate::digest::Digest;
use crate::platform::Platform;

/// What a container runs by default; keys in JSON are those of Docker and OCI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]` by name or number; empty means root.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports the image says it serves, `80/tcp`.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub exposed_ports: Vec<String>,
    /// `NAME=value`.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// Program and first arguments; the command follows as further ones.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub entrypoint: Vec<String>,
    /// Arguments of the entrypoint, or program and arguments when there is none.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cmd: Vec<String>,
    /// Paths the image wants on volumes.
    #[serde(
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub volumes: Vec<String>,
    /// Working directory; empty means `/`.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks the container to stop; empty means SIGTERM.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// How to tell whether the container works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// The document whose digest is the image's id, as far as this store reads it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) author: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) architecture: String,
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) variant: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) os: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) config: ImageConfig,
    pub(crate) rootfs: RootFs,
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) history: Vec<History>,
}

/// The layers of an image, lowest first, by the digests of their uncompressed archives.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<Digest>,
}

/// How a layer came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) created_by: String,
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) comment: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) empty_layer: bool,
}

impl ConfigDocument {
    pub(crate) fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }

    /// When the image was made; "never" when the document does not say so in a way we can read,
    /// because nothing but listings depends on it.
    pub(crate) fn created_at(&self) -> Timestamp {
        self.created
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }
}

/// Go writes empty lists, maps and texts as `null`.
pub(crate) fn null_as_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(d).map(Option::unwrap_or_default)
}

/// Reads the keys of `{"80/tcp": {}}`, Go's way to write a set.
fn keys<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let map: BTreeMap<String, serde::de::IgnoredAny> = null_as_default(d)?;
    Ok(map.into_keys().collect())
}

fn as_keys<S: serde::Serializer>(keys: &[String], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(keys.iter().map(|key| (key, BTreeMap::<(), ()>::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_nulls_and_sets_are_read() {
        let text = r#"{"architecture":"amd64","os":"linux","created":"2023-11-14T22:13:20Z",
            "config":{"Entrypoint":null,"Cmd":["sh"],"Env":null,"Labels":null,"Volumes":null,
            "ExposedPorts":{"80/tcp":{},"443/tcp":{}},"User":"1000","WorkingDir":"",
            "Healthcheck":{"Test":["CMD","true"],"Interval":5000000000,"Retries":3},
            "ArgsEscaped":true,"OnBuild":null},
            "rootfs":{"type":"layers","diff_ids":[]},"history":null,"docker_version":"20.10"}"#;
        let document: ConfigDocument = serde_json::from_str(text).expect("readable");
        let config = &document.config;
        assert_eq!(config.cmd, ["sh"]);
        assert!(config.entrypoint.is_empty() && config.env.is_empty());
        assert_eq!(config.exposed_ports, ["443/tcp", "80/tcp"]);
        let interval = config.healthcheck.as_ref().map(|h| h.interval);
        assert_eq!(interval, Some(std::time::Duration::from_secs(5)));
        assert_eq!(document.created_at(), Timestamp::from_secs(1_700_000_000));
        let again = serde_json::to_string(config).expect("writable");
        assert!(
            again.contains(r#""ExposedPorts":{"443/tcp":{},"80/tcp":{}}"#),
            "{again}"
        );
        assert_eq!(
            serde_json::from_str::<ImageConfig>(&again).ok().as_ref(),
            Some(config)
        );
    }

    #[test]
    fn an_unreadable_date_is_no_date() {
        let document = ConfigDocument {
            created: Some("yesterday".to_owned()),
            ..ConfigDocument::default()
        };
        assert!(!document.created_at().is_set());
    }
}
