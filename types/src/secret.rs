//! Secrets and configs: named content with versions, and how services refer to it.

use serde::{Deserialize, Serialize};

use crate::payload::Payload;
use crate::{ConfigId, ContainerSpec, Labels, Meta, SecretId, TaskId, Timestamp};

/// Directory of the files of secrets whose target is a mere name (S14.06).
pub const SECRETS_DIR: &str = "/run/secrets";

/// A secret or a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentId {
    /// A secret.
    Secret(SecretId),
    /// A config.
    Config(ConfigId),
}

impl ContentId {
    /// `secret` or `config`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Secret(_) => "secret",
            Self::Config(_) => "config",
        }
    }
}

impl std::fmt::Display for ContentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(id) => write!(f, "secret {id}"),
            Self::Config(id) => write!(f, "config {id}"),
        }
    }
}

/// One version of a secret or config, as nodes hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentKey {
    /// Of what.
    pub id: ContentId,
    /// Which version.
    pub version: u64,
    /// The one task it was made for; none when all tasks share it.
    pub task: Option<TaskId>,
}

impl ContentKey {
    /// What an envelope of this content is bound to, so that none passes for another.
    #[must_use]
    pub fn context(&self) -> Vec<u8> {
        let task = self.task.map_or_else(String::new, |task| task.to_string());
        format!("{} version {} task {task}", self.id, self.version).into_bytes()
    }
}

/// A spec's use of one version of a secret or config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentUse<'a> {
    /// Of what.
    pub id: ContentId,
    /// Its name when the reference was made.
    pub name: &'a str,
    /// Which version.
    pub version: u64,
    /// How the tasks see it.
    pub target: &'a ReferenceTarget,
}

impl<'a> ContentUse<'a> {
    /// The key of content that all tasks share.
    #[must_use]
    pub fn key(&self) -> ContentKey {
        ContentKey {
            id: self.id,
            version: self.version,
            task: None,
        }
    }

    /// The file in the container and its absolute path, unless it is a variable.
    #[must_use]
    pub fn file(&self) -> Option<(String, &'a FileTarget)> {
        let ReferenceTarget::File(file) = self.target else {
            return None;
        };
        let name = &file.name;
        let path = match self.id {
            _ if name.starts_with('/') => name.clone(),
            ContentId::Secret(_) => format!("{SECRETS_DIR}/{name}"),
            ContentId::Config(_) => format!("/{name}"),
        };
        Some((path, file))
    }
}

impl ContainerSpec {
    /// Every use of a secret or config, secrets first.
    pub fn contents(&self) -> impl Iterator<Item = ContentUse<'_>> {
        let secrets = self.secrets.iter().map(|reference| ContentUse {
            id: ContentId::Secret(reference.secret_id),
            name: &reference.secret_name,
            version: reference.version,
            target: &reference.target,
        });
        let configs = self.configs.iter().map(|reference| ContentUse {
            id: ContentId::Config(reference.config_id),
            name: &reference.config_name,
            version: reference.version,
            target: &reference.target,
        });
        secrets.chain(configs)
    }
}

/// Content of one version of a secret in bytes at most (S14.01: under 500 KiB).
pub const SECRET_BYTES_MAX: usize = 511_999;

/// Content of one version of a config in bytes at most (S14.01: under 1000 KiB).
pub const CONFIG_BYTES_MAX: usize = 1_023_999;

/// Content only tasks that refer to it may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its id.
    pub id: SecretId,
    /// Version and times.
    pub meta: Meta,
    /// What the user asked.
    pub spec: SecretSpec,
    /// Every version still kept, oldest first; empty when a driver gives the content.
    pub versions: Vec<ContentVersion>,
}

impl Secret {
    /// Number of the newest version; 1 for a secret whose content a driver gives.
    #[must_use]
    pub fn newest(&self) -> u64 {
        newest(&self.versions)
    }

    /// The version with this number, while it is kept.
    #[must_use]
    pub fn version(&self, number: u64) -> Option<&ContentVersion> {
        self.versions.iter().find(|v| v.number == number)
    }
}

/// What the user asks of a secret, but for its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SecretSpec {
    /// Unique name.
    pub name: String,
    /// Labels of the secret.
    pub labels: Labels,
    /// Where the content comes from, when it is not kept in the cluster.
    pub driver: Option<Driver>,
    /// The content is a template, expanded for each task.
    pub templated: bool,
}

/// Content tasks can read, not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its id.
    pub id: ConfigId,
    /// Version and times.
    pub meta: Meta,
    /// What the user asked.
    pub spec: ConfigSpec,
    /// Every version still kept, oldest first; never empty.
    pub versions: Vec<ContentVersion>,
}

impl Config {
    /// Number of the newest version.
    #[must_use]
    pub fn newest(&self) -> u64 {
        newest(&self.versions)
    }

    /// The version with this number, while it is kept.
    #[must_use]
    pub fn version(&self, number: u64) -> Option<&ContentVersion> {
        self.versions.iter().find(|v| v.number == number)
    }
}

/// What the user asks of a config, but for its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigSpec {
    /// Unique name.
    pub name: String,
    /// Labels of the config.
    pub labels: Labels,
    /// The content is a template, expanded for each task.
    pub templated: bool,
}

fn newest(versions: &[ContentVersion]) -> u64 {
    versions.last().map_or(1, |version| version.number)
}

/// One version of a secret's or config's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentVersion {
    /// From 1, never used again.
    pub number: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// The content.
    pub data: Payload,
}

/// Something outside that does a part of the work, and its options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Driver {
    /// Which one.
    pub name: String,
    /// What it is told.
    pub options: Labels,
}

/// A service's use of one version of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecretReference {
    /// The secret.
    #[serde(rename = "SecretID")]
    pub secret_id: SecretId,
    /// Its name when the reference was made.
    pub secret_name: String,
    /// Which version the tasks see.
    pub version: u64,
    /// How they see it.
    pub target: ReferenceTarget,
}

/// A service's use of one version of a config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigReference {
    /// The config.
    #[serde(rename = "ConfigID")]
    pub config_id: ConfigId,
    /// Its name when the reference was made.
    pub config_name: String,
    /// Which version the tasks see.
    pub version: u64,
    /// How they see it.
    pub target: ReferenceTarget,
}

/// How a task sees a secret or config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReferenceTarget {
    /// As a file.
    File(FileTarget),
    /// As an environment variable of this name, when the user asked for just that.
    Env(String),
}

/// A file in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileTarget {
    /// Name, or absolute path.
    pub name: String,
    /// Owner, by number.
    #[serde(rename = "UID")]
    pub uid: String,
    /// Group, by number.
    #[serde(rename = "GID")]
    pub gid: String,
    /// Permission bits.
    pub mode: u32,
}
