//! Secrets and configs: named content with versions, and how services refer to it.

use serde::{Deserialize, Serialize};

use crate::payload::Payload;
use crate::{ConfigId, Labels, Meta, SecretId, Timestamp};

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
