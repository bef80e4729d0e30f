//! Secrets and configs as messages: secrets without their content, lists without any.

use proto::control as wire;
use proto::objects;
use tonic::{Response, Status};
use types::{Config, ConfigSpec, Secret, SecretSpec, Service, Version};

use super::{parse, required};
use crate::content::Content as _;
use crate::{ControlApi, UpdateConfig, UpdateSecret};

type Answer<T> = Result<Response<T>, Status>;

pub(super) async fn create_secret(
    api: &ControlApi,
    request: wire::CreateSecretRequest,
) -> Answer<wire::CreateSecretResponse> {
    let spec = SecretSpec::from(required("spec", request.spec)?);
    let secret = api.create_secret(spec, request.sealed).await?;
    Ok(Response::new(wire::CreateSecretResponse {
        secret: Some(bare_secret(&secret)),
    }))
}

pub(super) fn list_secrets(api: &ControlApi) -> Answer<wire::ListSecretsResponse> {
    let secrets = api.list_secrets();
    Ok(Response::new(wire::ListSecretsResponse {
        secrets: secrets.iter().map(|it| bare_secret(it)).collect(),
    }))
}

pub(super) fn get_secret(api: &ControlApi, key: &str) -> Answer<wire::GetSecretResponse> {
    let secret = api.get_secret(key)?;
    Ok(Response::new(wire::GetSecretResponse {
        secret: Some(bare_secret(&secret)),
    }))
}

pub(super) async fn update_secret(
    api: &ControlApi,
    request: wire::UpdateSecretRequest,
) -> Answer<wire::UpdateSecretResponse> {
    let update = UpdateSecret {
        id: parse("id", &request.id)?,
        version: Version {
            index: request.version,
        },
        spec: required("spec", request.spec)?.into(),
        sealed: request.sealed,
    };
    let changed = api.update_secret(update).await?;
    Ok(Response::new(wire::UpdateSecretResponse {
        secret: Some(bare_secret(&changed.content)),
        services: changed.services.iter().map(|it| service(it)).collect(),
    }))
}

pub(super) async fn create_config(
    api: &ControlApi,
    request: wire::CreateConfigRequest,
) -> Answer<wire::CreateConfigResponse> {
    let spec = ConfigSpec::from(required("spec", request.spec)?);
    let config = api.create_config(spec, request.data).await?;
    Ok(Response::new(wire::CreateConfigResponse {
        config: Some(bare_config(&config)),
    }))
}

pub(super) fn list_configs(api: &ControlApi) -> Answer<wire::ListConfigsResponse> {
    let configs = api.list_configs();
    Ok(Response::new(wire::ListConfigsResponse {
        configs: configs.iter().map(|it| bare_config(it)).collect(),
    }))
}

pub(super) fn get_config(api: &ControlApi, key: &str) -> Answer<wire::GetConfigResponse> {
    let config = api.get_config(key)?;
    Ok(Response::new(wire::GetConfigResponse {
        config: Some((&*config).into()),
    }))
}

pub(super) async fn update_config(
    api: &ControlApi,
    request: wire::UpdateConfigRequest,
) -> Answer<wire::UpdateConfigResponse> {
    let update = UpdateConfig {
        id: parse("id", &request.id)?,
        version: Version {
            index: request.version,
        },
        spec: required("spec", request.spec)?.into(),
        data: request.data,
    };
    let changed = api.update_config(update).await?;
    Ok(Response::new(wire::UpdateConfigResponse {
        config: Some(bare_config(&changed.content)),
        services: changed.services.iter().map(|it| service(it)).collect(),
    }))
}

fn bare_secret(secret: &Secret) -> objects::Secret {
    (&secret.bare()).into()
}

fn bare_config(config: &Config) -> objects::Config {
    (&config.bare()).into()
}

fn service(service: &Service) -> objects::Service {
    service.into()
}
