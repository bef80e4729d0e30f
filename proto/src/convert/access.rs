//! The message of who may come in.

use types::Timestamp;
use types::access::{Access, Client, ClientRole, NamedToken};

use super::{ConvertError, enums, known, parse};
use crate::objects;

enums!(
    ClientRole,
    objects::ClientRole,
    Reader = Reader,
    Operator = Operator
);

impl From<&Access> for objects::Access {
    fn from(access: &Access) -> Self {
        let tokens = access.join_tokens.iter();
        let clients = access.clients.iter();
        let demoted = access.demoted.iter();
        Self {
            join_tokens: tokens
                .map(|(name, token)| (name.clone(), token.into()))
                .collect(),
            clients: clients
                .map(|(id, client)| (id.to_string(), client.into()))
                .collect(),
            demoted: demoted.map(|(id, at)| (id.to_string(), at.0)).collect(),
        }
    }
}

impl TryFrom<objects::Access> for Access {
    type Error = ConvertError;
    fn try_from(message: objects::Access) -> Result<Self, ConvertError> {
        let tokens = message.join_tokens.into_iter();
        let clients = message.clients.into_iter();
        let demoted = message.demoted.into_iter();
        Ok(Self {
            join_tokens: tokens
                .map(|(name, token)| Ok((name, token.try_into()?)))
                .collect::<Result<_, ConvertError>>()?,
            clients: clients
                .map(|(id, client)| Ok((parse("clients", &id)?, client.try_into()?)))
                .collect::<Result<_, ConvertError>>()?,
            demoted: demoted
                .map(|(id, at)| Ok((parse("demoted", &id)?, Timestamp(at))))
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}

impl From<&NamedToken> for objects::NamedToken {
    fn from(token: &NamedToken) -> Self {
        Self {
            role: objects::NodeRole::from(token.role).into(),
            token: token.token.clone(),
            created_at: token.created_at.0,
            expires_at: token.expires_at.map(|at| at.0),
            uses_max: token.uses_max,
            uses: token.uses,
        }
    }
}

impl TryFrom<objects::NamedToken> for NamedToken {
    type Error = ConvertError;
    fn try_from(message: objects::NamedToken) -> Result<Self, ConvertError> {
        Ok(Self {
            role: known::<objects::NodeRole>("role", message.role)?.into(),
            token: message.token,
            created_at: Timestamp(message.created_at),
            expires_at: message.expires_at.map(Timestamp),
            uses_max: message.uses_max,
            uses: message.uses,
        })
    }
}

impl From<&Client> for objects::Client {
    fn from(client: &Client) -> Self {
        Self {
            name: client.name.clone(),
            role: objects::ClientRole::from(client.role).into(),
            created_at: client.created_at.0,
            expires_at: client.expires_at.0,
        }
    }
}

impl TryFrom<objects::Client> for Client {
    type Error = ConvertError;
    fn try_from(message: objects::Client) -> Result<Self, ConvertError> {
        Ok(Self {
            name: message.name,
            role: known::<objects::ClientRole>("role", message.role)?.into(),
            created_at: Timestamp(message.created_at),
            expires_at: Timestamp(message.expires_at),
        })
    }
}
