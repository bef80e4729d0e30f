//! Messages of secrets, configs and references to them.

use types::secret::{
    ConfigReference, ContentVersion, Driver, FileTarget, ReferenceTarget, SecretReference,
};
use types::{Config, ConfigSpec, Payload, Secret, SecretSpec, Timestamp};

use super::{ConvertError, parse, required};
use crate::objects;
use crate::objects::content_reference::Target;

impl From<&Secret> for objects::Secret {
    fn from(secret: &Secret) -> Self {
        Self {
            id: secret.id.to_string(),
            meta: Some((&secret.meta).into()),
            spec: Some((&secret.spec).into()),
            versions: secret.versions.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<objects::Secret> for Secret {
    type Error = ConvertError;
    fn try_from(message: objects::Secret) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse("id", &message.id)?,
            meta: message.meta.unwrap_or_default().into(),
            spec: required("spec", message.spec)?.into(),
            versions: message.versions.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&SecretSpec> for objects::SecretSpec {
    fn from(spec: &SecretSpec) -> Self {
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone().into_iter().collect(),
            driver: spec.driver.as_ref().map(|driver| objects::Driver {
                name: driver.name.clone(),
                options: driver.options.clone().into_iter().collect(),
            }),
            templated: spec.templated,
        }
    }
}

impl From<objects::SecretSpec> for SecretSpec {
    fn from(message: objects::SecretSpec) -> Self {
        Self {
            name: message.name,
            labels: message.labels.into_iter().collect(),
            driver: message.driver.map(|driver| Driver {
                name: driver.name,
                options: driver.options.into_iter().collect(),
            }),
            templated: message.templated,
        }
    }
}

impl From<&Config> for objects::Config {
    fn from(config: &Config) -> Self {
        Self {
            id: config.id.to_string(),
            meta: Some((&config.meta).into()),
            spec: Some((&config.spec).into()),
            versions: config.versions.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<objects::Config> for Config {
    type Error = ConvertError;
    fn try_from(message: objects::Config) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse("id", &message.id)?,
            meta: message.meta.unwrap_or_default().into(),
            spec: required("spec", message.spec)?.into(),
            versions: message.versions.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&ConfigSpec> for objects::ConfigSpec {
    fn from(spec: &ConfigSpec) -> Self {
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone().into_iter().collect(),
            templated: spec.templated,
        }
    }
}

impl From<objects::ConfigSpec> for ConfigSpec {
    fn from(message: objects::ConfigSpec) -> Self {
        Self {
            name: message.name,
            labels: message.labels.into_iter().collect(),
            templated: message.templated,
        }
    }
}

impl From<&ContentVersion> for objects::ContentVersion {
    fn from(version: &ContentVersion) -> Self {
        Self {
            number: version.number,
            created_at: version.created_at.0,
            data: version.data.bytes().to_vec(),
        }
    }
}

impl From<objects::ContentVersion> for ContentVersion {
    fn from(message: objects::ContentVersion) -> Self {
        Self {
            number: message.number,
            created_at: Timestamp(message.created_at),
            data: Payload::new(message.data),
        }
    }
}

impl From<&SecretReference> for objects::ContentReference {
    fn from(reference: &SecretReference) -> Self {
        Self {
            id: reference.secret_id.to_string(),
            name: reference.secret_name.clone(),
            version: reference.version,
            target: Some((&reference.target).into()),
        }
    }
}

impl TryFrom<objects::ContentReference> for SecretReference {
    type Error = ConvertError;
    fn try_from(message: objects::ContentReference) -> Result<Self, ConvertError> {
        Ok(Self {
            secret_id: parse("secrets.id", &message.id)?,
            secret_name: message.name,
            version: message.version,
            target: required("secrets.target", message.target)?.into(),
        })
    }
}

impl From<&ConfigReference> for objects::ContentReference {
    fn from(reference: &ConfigReference) -> Self {
        Self {
            id: reference.config_id.to_string(),
            name: reference.config_name.clone(),
            version: reference.version,
            target: Some((&reference.target).into()),
        }
    }
}

impl TryFrom<objects::ContentReference> for ConfigReference {
    type Error = ConvertError;
    fn try_from(message: objects::ContentReference) -> Result<Self, ConvertError> {
        Ok(Self {
            config_id: parse("configs.id", &message.id)?,
            config_name: message.name,
            version: message.version,
            target: required("configs.target", message.target)?.into(),
        })
    }
}

impl From<&ReferenceTarget> for Target {
    fn from(target: &ReferenceTarget) -> Self {
        match target {
            ReferenceTarget::File(file) => Self::File(objects::FileTarget {
                name: file.name.clone(),
                uid: file.uid.clone(),
                gid: file.gid.clone(),
                mode: file.mode,
            }),
            ReferenceTarget::Env(name) => Self::Env(name.clone()),
        }
    }
}

impl From<Target> for ReferenceTarget {
    fn from(message: Target) -> Self {
        match message {
            Target::File(file) => Self::File(FileTarget {
                name: file.name,
                uid: file.uid,
                gid: file.gid,
                mode: file.mode,
            }),
            Target::Env(name) => Self::Env(name),
        }
    }
}
