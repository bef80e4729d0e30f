//! Who may come in besides the nodes: named join tokens, users of other machines, former managers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClientId, NodeId, NodeRole, Timestamp};

/// The part of the cluster object that says who may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Join tokens besides the two permanent ones, by name.
    pub join_tokens: BTreeMap<String, NamedToken>,
    /// Users of other machines. A client certificate counts while its client stands here.
    pub clients: BTreeMap<ClientId, Client>,
    /// Managers that became workers, and when: manager certificates from before count no more.
    pub demoted: BTreeMap<NodeId, Timestamp>,
}

/// A join token that somebody made for a purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedToken {
    /// What machines with it become.
    pub role: NodeRole,
    /// Its text as it was made; the root's digest in it is that of the time.
    pub token: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working; none for never.
    pub expires_at: Option<Timestamp>,
    /// How many nodes it lets in, at least 1; none for any number.
    pub uses_max: Option<u64>,
    /// How many it has let in.
    pub uses: u64,
}

impl NamedToken {
    /// Why it lets nobody in at `now`, if it does not.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> Option<&'static str> {
        if self.expires_at.is_some_and(|at| now >= at) {
            Some("expired")
        } else if self.uses_max.is_some_and(|max| self.uses >= max) {
            Some("used up")
        } else {
            None
        }
    }
}

impl fmt::Debug for NamedToken {
    /// Everything but the token: logs must never carry one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedToken")
            .field("role", &self.role)
            .field("expires_at", &self.expires_at)
            .field("uses_max", &self.uses_max)
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}

/// Somebody who may ask the cluster from another machine, by a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Client {
    /// What people call it; unique.
    pub name: String,
    /// What it may do.
    pub role: ClientRole,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its certificate runs out.
    pub expires_at: Timestamp,
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientRole {
    /// Look, but at no secret and no token.
    Reader,
    /// Look and change.
    Operator,
}

impl fmt::Display for ClientRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_by_its_time_or_by_its_uses() {
        let token = |expires: Option<u64>, uses_max, uses| NamedToken {
            role: NodeRole::Worker,
            token: "SWMTKN-1-secret".to_owned(),
            created_at: Timestamp::from_secs(1),
            expires_at: expires.map(Timestamp::from_secs),
            uses_max,
            uses,
        };
        let now = Timestamp::from_secs(100);
        for (token, expected) in [
            (token(None, None, 1000), None),
            (token(Some(101), Some(2), 1), None),
            (token(Some(100), None, 0), Some("expired")),
            (token(Some(99), Some(1), 1), Some("expired")),
            (token(None, Some(2), 2), Some("used up")),
            (token(None, Some(0), 0), Some("used up")),
        ] {
            assert_eq!(token.ended(now), expected, "{token:?}");
            assert!(!format!("{token:?}").contains("secret"));
        }
    }
}
