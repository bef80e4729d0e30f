//! The RPCs about who may come in: join tokens and clients.

use std::time::Duration;

use ca::authorize::{self, Caller};
use proto::control as wire;
use proto::objects;
use tonic::{Request, Response};
use types::access::ClientRole;

use super::{Answer, convert};
use crate::{ClientView, ControlApi, Error, Invalid, JoinTokenView, NewClient, NewJoinToken};

/// Whether whoever asks may see what lets nodes in. Nobody is who is not known to be one that may.
pub(super) fn may_read_tokens<T>(request: &Request<T>) -> bool {
    matches!(
        authorize::caller(request),
        Ok(Caller::Local | Caller::Operator)
    )
}

pub(super) async fn create_join_token(
    api: &ControlApi,
    request: wire::CreateJoinTokenRequest,
) -> Answer<wire::CreateJoinTokenResponse> {
    let new = NewJoinToken {
        name: request.name,
        role: convert::role(request.role)?,
        expires_in: request.expires_in.map(Duration::from_nanos),
        uses_max: request.uses_max,
    };
    let made = api.create_join_token(new).await?;
    Ok(Response::new(wire::CreateJoinTokenResponse {
        token: Some((&made).into()),
    }))
}

pub(super) fn list_join_tokens(
    api: &ControlApi,
    with_text: bool,
) -> Answer<wire::ListJoinTokensResponse> {
    let view = |view: &JoinTokenView| {
        let mut view = wire::JoinTokenView::from(view);
        if !with_text {
            view.token.clear();
        }
        view
    };
    let tokens = api.list_join_tokens()?.iter().map(view).collect();
    Ok(Response::new(wire::ListJoinTokensResponse { tokens }))
}

pub(super) async fn create_client(
    api: &ControlApi,
    request: wire::CreateClientRequest,
) -> Answer<wire::CreateClientResponse> {
    let new = NewClient {
        name: request.name,
        role: client_role(request.role)?,
        expires_in: Duration::from_nanos(request.expires_in),
        csr_pem: request.csr_pem,
    };
    let issued = api.create_client(new).await?;
    Ok(Response::new(wire::CreateClientResponse {
        client: Some((&issued.view).into()),
        certificate_pem: issued.certificate_pem,
        root_cert_pem: issued.root_cert_pem,
        cluster_id: issued.cluster_id.to_string(),
        managers: issued.managers,
    }))
}

fn client_role(number: i32) -> Result<ClientRole, Error> {
    objects::ClientRole::try_from(number)
        .map(ClientRole::from)
        .map_err(|_| Invalid::new("role", format!("{number} is not a client's role")).into())
}

impl From<&JoinTokenView> for wire::JoinTokenView {
    fn from(view: &JoinTokenView) -> Self {
        Self {
            name: view.name.clone(),
            role: objects::NodeRole::from(view.token.role).into(),
            token: view.token.token.clone(),
            created_at: view.token.created_at.0,
            expires_at: view.token.expires_at.map(|at| at.0),
            uses_max: view.token.uses_max,
            uses: view.token.uses,
            ended: view.ended.unwrap_or_default().to_owned(),
        }
    }
}

impl From<&ClientView> for wire::ClientView {
    fn from(view: &ClientView) -> Self {
        Self {
            id: view.id.to_string(),
            client: Some((&view.client).into()),
        }
    }
}
