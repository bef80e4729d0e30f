//! The gRPC front: turns messages into calls of [`ControlApi`] and its answers into messages.

mod access;
mod content;
mod convert;
mod network;
mod status;

use std::pin::Pin;
use std::str::FromStr;

use futures::{Stream, StreamExt as _};
use proto::control as wire;
use proto::control::control_server::{Control, ControlServer};
use tonic::{Request, Response, Status};
use types::{ClusterSpec, NodeSpec, ServiceSpec, Version};

use crate::{ClusterUpdate, ControlApi, Error, Invalid, RotateRoot, UpdateService};

/// Size of one request at most, in bytes: above what a transaction can hold, so that the store's
/// own sentence about it is what the user sees.
const REQUEST_BYTES_MAX: usize = 2 * store::TRANSACTION_BYTES_MAX;

/// Serves the API as `swarm.control.v1.Control`.
#[derive(Clone, Debug)]
pub struct ControlService {
    api: ControlApi,
}

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl ControlService {
    /// A service to put into a router. Whoever serves it decides who may call.
    #[must_use]
    pub fn server(api: ControlApi) -> ControlServer<Self> {
        ControlServer::new(Self { api }).max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn get_cluster(
        &self,
        request: Request<wire::GetClusterRequest>,
    ) -> Answer<wire::GetClusterResponse> {
        let mut cluster = self.api.cluster()?;
        if !access::may_read_tokens(&request) {
            cluster.worker_token.clear();
            cluster.manager_token.clear();
        }
        Ok(Response::new(wire::GetClusterResponse {
            cluster: Some((&cluster).into()),
        }))
    }

    async fn update_cluster(
        &self,
        request: Request<wire::UpdateClusterRequest>,
    ) -> Answer<wire::UpdateClusterResponse> {
        let request = request.into_inner();
        let version = Version {
            index: request.version,
        };
        let spec = request.spec.map(ClusterSpec::try_from).transpose();
        let update = ClusterUpdate {
            spec: spec
                .map_err(convert::malformed)?
                .map(|spec| (spec, version)),
            rotate_unlock_key: request.rotate_unlock_key,
            rotate_data_keys: request.rotate_data_keys,
        };
        let cluster = self.api.update_cluster(update).await?;
        Ok(Response::new(wire::UpdateClusterResponse {
            cluster: Some((&cluster).into()),
        }))
    }

    async fn get_unlock_key(
        &self,
        _: Request<wire::GetUnlockKeyRequest>,
    ) -> Answer<wire::GetUnlockKeyResponse> {
        let unlock_key = self.api.unlock_key()?.to_string();
        Ok(Response::new(wire::GetUnlockKeyResponse { unlock_key }))
    }

    async fn rotate_root(
        &self,
        request: Request<wire::RotateRootRequest>,
    ) -> Answer<wire::RotateRootResponse> {
        let request = request.into_inner();
        let cluster = if request.only_skip {
            self.api.skip_unreachable().await?
        } else {
            let outside = request.external_cas.into_iter().map(TryInto::try_into);
            let expiry = Some(request.node_cert_expiry).filter(|it| *it != 0);
            let wish = RotateRoot {
                cert_pem: request.ca_cert_pem,
                key_pem: request.ca_key_pem,
                external_cas: outside
                    .collect::<Result<_, _>>()
                    .map_err(convert::malformed)?,
                node_cert_expiry: expiry.map(std::time::Duration::from_nanos),
                skip_unreachable: request.skip_unreachable,
            };
            Box::pin(self.api.rotate_root(wish)).await?
        };
        Ok(Response::new(wire::RotateRootResponse {
            cluster: Some((&cluster).into()),
        }))
    }

    async fn rotate_join_token(
        &self,
        request: Request<wire::RotateJoinTokenRequest>,
    ) -> Answer<wire::RotateJoinTokenResponse> {
        let role = convert::role(request.into_inner().role)?;
        let token = self.api.rotate_join_token(role).await?;
        Ok(Response::new(wire::RotateJoinTokenResponse { token }))
    }

    async fn create_join_token(
        &self,
        request: Request<wire::CreateJoinTokenRequest>,
    ) -> Answer<wire::CreateJoinTokenResponse> {
        access::create_join_token(&self.api, request.into_inner()).await
    }

    async fn list_join_tokens(
        &self,
        request: Request<wire::ListJoinTokensRequest>,
    ) -> Answer<wire::ListJoinTokensResponse> {
        access::list_join_tokens(&self.api, access::may_read_tokens(&request))
    }

    async fn remove_join_token(
        &self,
        request: Request<wire::RemoveJoinTokenRequest>,
    ) -> Answer<wire::RemoveJoinTokenResponse> {
        let name = request.into_inner().name;
        self.api.remove_join_token(&name).await?;
        Ok(Response::new(wire::RemoveJoinTokenResponse {}))
    }

    async fn create_client(
        &self,
        request: Request<wire::CreateClientRequest>,
    ) -> Answer<wire::CreateClientResponse> {
        access::create_client(&self.api, request.into_inner()).await
    }

    async fn list_clients(
        &self,
        _: Request<wire::ListClientsRequest>,
    ) -> Answer<wire::ListClientsResponse> {
        let clients = self.api.list_clients()?;
        let clients = clients.iter().map(Into::into).collect();
        Ok(Response::new(wire::ListClientsResponse { clients }))
    }

    async fn remove_client(
        &self,
        request: Request<wire::RemoveClientRequest>,
    ) -> Answer<wire::RemoveClientResponse> {
        let id = self.api.remove_client(&request.into_inner().key).await?;
        let id = id.to_string();
        Ok(Response::new(wire::RemoveClientResponse { id }))
    }

    async fn list_nodes(
        &self,
        _: Request<wire::ListNodesRequest>,
    ) -> Answer<wire::ListNodesResponse> {
        let list = self.api.list_nodes();
        Ok(Response::new(wire::ListNodesResponse {
            nodes: list.nodes.iter().map(Into::into).collect(),
            self_id: list.self_id.to_string(),
        }))
    }

    async fn get_node(
        &self,
        request: Request<wire::GetNodeRequest>,
    ) -> Answer<wire::GetNodeResponse> {
        let node = self.api.get_node(&request.into_inner().key)?;
        Ok(Response::new(wire::GetNodeResponse {
            node: Some((&node).into()),
        }))
    }

    async fn update_node(
        &self,
        request: Request<wire::UpdateNodeRequest>,
    ) -> Answer<wire::UpdateNodeResponse> {
        let wire::UpdateNodeRequest { id, version, spec } = request.into_inner();
        let spec = NodeSpec::try_from(required("spec", spec)?).map_err(convert::malformed)?;
        let version = Version { index: version };
        let node = self
            .api
            .update_node(parse("id", &id)?, version, spec)
            .await?;
        Ok(Response::new(wire::UpdateNodeResponse {
            node: Some((&node).into()),
        }))
    }

    async fn remove_node(
        &self,
        request: Request<wire::RemoveNodeRequest>,
    ) -> Answer<wire::RemoveNodeResponse> {
        let wire::RemoveNodeRequest { key, force } = request.into_inner();
        let id = self.api.remove_node(&key, force).await?.to_string();
        Ok(Response::new(wire::RemoveNodeResponse { id }))
    }

    async fn create_service(
        &self,
        request: Request<wire::CreateServiceRequest>,
    ) -> Answer<wire::CreateServiceResponse> {
        let spec = required("spec", request.into_inner().spec)?;
        let spec = ServiceSpec::try_from(spec).map_err(convert::malformed)?;
        let created = self.api.create_service(spec).await?;
        Ok(Response::new(wire::CreateServiceResponse {
            service: Some((&*created.service).into()),
            warnings: created.warnings,
        }))
    }

    async fn list_services(
        &self,
        _: Request<wire::ListServicesRequest>,
    ) -> Answer<wire::ListServicesResponse> {
        let services = self.api.list_services().iter().map(Into::into).collect();
        Ok(Response::new(wire::ListServicesResponse { services }))
    }

    async fn get_service(
        &self,
        request: Request<wire::GetServiceRequest>,
    ) -> Answer<wire::GetServiceResponse> {
        let service = self.api.get_service(&request.into_inner().key)?;
        Ok(Response::new(wire::GetServiceResponse {
            service: Some((&service).into()),
        }))
    }

    async fn update_service(
        &self,
        request: Request<wire::UpdateServiceRequest>,
    ) -> Answer<wire::UpdateServiceResponse> {
        let wire::UpdateServiceRequest {
            id,
            version,
            spec,
            rollback,
        } = request.into_inner();
        let id = parse("id", &id)?;
        let version = Version { index: version };
        let update = if rollback {
            UpdateService::back(id, version)
        } else {
            let spec =
                ServiceSpec::try_from(required("spec", spec)?).map_err(convert::malformed)?;
            UpdateService::to(id, version, spec)
        };
        let changed = self.api.update_service(update).await?;
        Ok(Response::new(wire::UpdateServiceResponse {
            service: Some((&*changed.service).into()),
            warnings: changed.warnings,
        }))
    }

    async fn remove_service(
        &self,
        request: Request<wire::RemoveServiceRequest>,
    ) -> Answer<wire::RemoveServiceResponse> {
        let id = self
            .api
            .remove_service(&request.into_inner().key)
            .await?
            .to_string();
        Ok(Response::new(wire::RemoveServiceResponse { id }))
    }

    type WatchServiceStream = Messages<wire::ServiceProgress>;

    async fn watch_service(
        &self,
        request: Request<wire::WatchServiceRequest>,
    ) -> Answer<Self::WatchServiceStream> {
        let watch = self.api.watch_service(&request.into_inner().key)?;
        let views = futures::stream::unfold(watch, |mut watch| async {
            let progress = watch.next().await?;
            Some((Ok((&progress).into()), watch))
        });
        Ok(Response::new(views.boxed()))
    }

    type ServiceLogsStream = Messages<wire::ServiceLogsResponse>;

    async fn service_logs(
        &self,
        request: Request<wire::ServiceLogsRequest>,
    ) -> Answer<Self::ServiceLogsStream> {
        let wire::ServiceLogsRequest { keys, options } = request.into_inner();
        let options = options.unwrap_or_default().into();
        let batches = self.api.logs(&keys, options).await?;
        let messages = batches.map(|batch| batch.map(Into::into).map_err(Status::from));
        Ok(Response::new(messages.boxed()))
    }

    async fn list_tasks(
        &self,
        request: Request<wire::ListTasksRequest>,
    ) -> Answer<wire::ListTasksResponse> {
        let wire::ListTasksRequest { services, nodes } = request.into_inner();
        let tasks = self.api.list_tasks(&services, &nodes)?;
        let tasks = tasks.iter().map(|task| (&**task).into()).collect();
        Ok(Response::new(wire::ListTasksResponse { tasks }))
    }

    async fn get_task(
        &self,
        request: Request<wire::GetTaskRequest>,
    ) -> Answer<wire::GetTaskResponse> {
        let task = self.api.get_task(&request.into_inner().key)?;
        Ok(Response::new(wire::GetTaskResponse {
            task: Some((&*task).into()),
        }))
    }

    async fn get_seal_key(
        &self,
        _: Request<wire::GetSealKeyRequest>,
    ) -> Answer<wire::GetSealKeyResponse> {
        let seal_key = self.api.seal_key().to_bytes();
        Ok(Response::new(wire::GetSealKeyResponse { seal_key }))
    }

    async fn create_secret(
        &self,
        request: Request<wire::CreateSecretRequest>,
    ) -> Answer<wire::CreateSecretResponse> {
        content::create_secret(&self.api, request.into_inner()).await
    }

    async fn list_secrets(
        &self,
        _: Request<wire::ListSecretsRequest>,
    ) -> Answer<wire::ListSecretsResponse> {
        content::list_secrets(&self.api)
    }

    async fn get_secret(
        &self,
        request: Request<wire::GetSecretRequest>,
    ) -> Answer<wire::GetSecretResponse> {
        content::get_secret(&self.api, &request.into_inner().key)
    }

    async fn update_secret(
        &self,
        request: Request<wire::UpdateSecretRequest>,
    ) -> Answer<wire::UpdateSecretResponse> {
        content::update_secret(&self.api, request.into_inner()).await
    }

    async fn remove_secret(
        &self,
        request: Request<wire::RemoveSecretRequest>,
    ) -> Answer<wire::RemoveSecretResponse> {
        let id = self.api.remove_secret(&request.into_inner().key).await?;
        Ok(Response::new(wire::RemoveSecretResponse { id }))
    }

    async fn create_config(
        &self,
        request: Request<wire::CreateConfigRequest>,
    ) -> Answer<wire::CreateConfigResponse> {
        content::create_config(&self.api, request.into_inner()).await
    }

    async fn list_configs(
        &self,
        _: Request<wire::ListConfigsRequest>,
    ) -> Answer<wire::ListConfigsResponse> {
        content::list_configs(&self.api)
    }

    async fn get_config(
        &self,
        request: Request<wire::GetConfigRequest>,
    ) -> Answer<wire::GetConfigResponse> {
        content::get_config(&self.api, &request.into_inner().key)
    }

    async fn update_config(
        &self,
        request: Request<wire::UpdateConfigRequest>,
    ) -> Answer<wire::UpdateConfigResponse> {
        content::update_config(&self.api, request.into_inner()).await
    }

    async fn remove_config(
        &self,
        request: Request<wire::RemoveConfigRequest>,
    ) -> Answer<wire::RemoveConfigResponse> {
        let id = self.api.remove_config(&request.into_inner().key).await?;
        Ok(Response::new(wire::RemoveConfigResponse { id }))
    }

    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Answer<wire::CreateNetworkResponse> {
        let created = network::create(&self.api, request.into_inner()).await?;
        Ok(Response::new(created))
    }

    async fn list_networks(
        &self,
        _: Request<wire::ListNetworksRequest>,
    ) -> Answer<wire::ListNetworksResponse> {
        Ok(Response::new(network::list(&self.api)))
    }

    async fn get_network(
        &self,
        request: Request<wire::GetNetworkRequest>,
    ) -> Answer<wire::GetNetworkResponse> {
        Ok(Response::new(network::get(&self.api, request.get_ref())?))
    }

    async fn remove_network(
        &self,
        request: Request<wire::RemoveNetworkRequest>,
    ) -> Answer<wire::RemoveNetworkResponse> {
        let removed = network::remove(&self.api, request.get_ref()).await?;
        Ok(Response::new(removed))
    }

    async fn connect_network(
        &self,
        request: Request<wire::ConnectNetworkRequest>,
    ) -> Answer<wire::ConnectNetworkResponse> {
        let connected = network::connect(&self.api, request.into_inner()).await?;
        Ok(Response::new(connected))
    }

    async fn disconnect_network(
        &self,
        request: Request<wire::DisconnectNetworkRequest>,
    ) -> Answer<wire::DisconnectNetworkResponse> {
        let wire::DisconnectNetworkRequest { network, task } = request.get_ref();
        self.api.disconnect_network(network, task).await?;
        Ok(Response::new(wire::DisconnectNetworkResponse {}))
    }

    async fn verify_networks(
        &self,
        request: Request<wire::VerifyNetworksRequest>,
    ) -> Answer<wire::VerifyNetworksResponse> {
        let checks = self.api.verify_networks(&request.get_ref().key).await?;
        Ok(Response::new(wire::VerifyNetworksResponse {
            nodes: checks.iter().map(Into::into).collect(),
        }))
    }
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::Invalid(Invalid::new(field, "is missing")))
}

fn parse<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|error| Error::Invalid(Invalid::new(field, error)))
}

#[cfg(test)]
mod tests;
