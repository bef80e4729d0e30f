//! Join tokens that somebody made for a purpose: for a time, for a number of nodes, revocable.

use std::time::Duration;

use ca::{JoinToken, RootBundle};
use types::access::NamedToken;
use types::id::RandomIds;
use types::{NodeRole, Timestamp};

use crate::cluster::fresh_token;
use crate::{ControlApi, Error, Invalid, names, validate};

/// Named tokens a cluster may have; they travel with every change of the cluster's settings.
const TOKENS_MAX: usize = 64;
/// Shortest life of a token: below it nobody gets to paste it.
const EXPIRY_MIN: Duration = Duration::from_secs(1);

/// A join token to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJoinToken {
    /// What people call it; empty for one that is made up.
    pub name: String,
    /// What machines with it become.
    pub role: NodeRole,
    /// How long it works; none for ever.
    pub expires_in: Option<Duration>,
    /// How many nodes it lets in, at least 1; none for any number.
    pub uses_max: Option<u64>,
}

/// A join token as users see it.
#[derive(Clone, Debug)]
pub struct JoinTokenView {
    /// What people call it.
    pub name: String,
    /// Everything about it; its text is the one that works at present.
    pub token: NamedToken,
    /// Why it lets nobody in any more, if it does not.
    pub ended: Option<&'static str>,
}

impl ControlApi {
    /// Makes a join token besides the two permanent ones.
    ///
    /// # Errors
    /// When the name is taken, a value is out of range, or the change cannot be committed.
    pub async fn create_join_token(&self, new: NewJoinToken) -> Result<JoinTokenView, Error> {
        let now = Timestamp::now();
        let name = match new.name.as_str() {
            "" => names::random(&mut RandomIds, 2),
            name => name.to_owned(),
        };
        validate::name("Name", &name)?;
        if new.uses_max == Some(0) {
            return Err(Invalid::new("Uses", "0 uses let nobody in: it must be 1 or more").into());
        }
        if let Some(expiry) = new.expires_in
            && expiry < EXPIRY_MIN
        {
            let problem = format!("{expiry:?} is too short: it must be {EXPIRY_MIN:?} or more");
            return Err(Invalid::new("Expires", problem).into());
        }
        self.change_cluster(|cluster| {
            let token = NamedToken {
                role: new.role,
                token: fresh_token(&cluster.root_ca.cert_pem)?,
                created_at: now,
                expires_at: new.expires_in.map(|expiry| now.plus(expiry)),
                uses_max: new.uses_max,
                uses: 0,
            };
            let tokens = &mut cluster.access.join_tokens;
            if tokens.contains_key(&name) {
                let (what, name) = ("join token", name.clone());
                return Err(Error::Exists { what, name });
            }
            if tokens.len() >= TOKENS_MAX {
                // Those that let nobody in any more make room.
                tokens.retain(|_, token| token.ended(now).is_none());
            }
            if tokens.len() >= TOKENS_MAX {
                return Err(Error::Precondition(format!(
                    "there are {TOKENS_MAX} join tokens already: remove one first"
                )));
            }
            tokens.insert(name.clone(), token.clone());
            let (name, ended) = (name.clone(), None);
            Ok(JoinTokenView { name, token, ended })
        })
        .await
    }

    /// Every named join token, by name.
    ///
    /// # Errors
    /// [`Error::NotReady`] while the cluster has not been written.
    pub fn list_join_tokens(&self) -> Result<Vec<JoinTokenView>, Error> {
        let cluster = self.stored_cluster()?;
        let now = Timestamp::now();
        let tokens = cluster.access.join_tokens.iter();
        tokens
            .map(|(name, token)| {
                let current = current(&token.token, &cluster.root_ca.cert_pem)?;
                let mut token = token.clone();
                token.token = current;
                Ok(JoinTokenView {
                    name: name.clone(),
                    ended: token.ended(now),
                    token,
                })
            })
            .collect()
    }

    /// Revokes a named join token; nodes that came with it stay.
    ///
    /// # Errors
    /// When there is none of this name, or the change cannot be committed.
    pub async fn remove_join_token(&self, name: &str) -> Result<(), Error> {
        self.change_cluster(|cluster| {
            let removed = cluster.access.join_tokens.remove(name);
            removed.map(drop).ok_or_else(|| Error::Unknown {
                what: "join token",
                key: name.to_owned(),
            })
        })
        .await
    }
}

/// The token's secret with the digest of the roots of today.
fn current(token: &str, root_pem: &str) -> Result<String, Error> {
    let broken = |error: &dyn std::fmt::Display| Error::Token(error.to_string());
    let bundle = RootBundle::from_pem(root_pem).map_err(|error| broken(&error))?;
    let token: JoinToken = token.parse().map_err(|error| broken(&error))?;
    Ok(token.with_bundle(&bundle).reveal().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    fn new(name: &str) -> NewJoinToken {
        NewJoinToken {
            name: name.to_owned(),
            role: NodeRole::Worker,
            expires_in: Some(Duration::from_secs(60)),
            uses_max: Some(2),
        }
    }

    #[tokio::test]
    async fn tokens_are_made_listed_and_revoked() {
        let fixture = Fixture::new(1, 0).await;
        let made = fixture.api.create_join_token(new("batch")).await.unwrap();
        assert!(made.token.token.starts_with("SWMTKN-1-"));
        let listed = fixture.api.list_join_tokens().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].token, made.token);
        let again = fixture.api.create_join_token(new("batch")).await;
        assert_eq!(
            again.unwrap_err().to_string(),
            "join token batch already exists"
        );
        fixture.api.remove_join_token("batch").await.unwrap();
        let gone = fixture.api.remove_join_token("batch").await.unwrap_err();
        assert_eq!(gone.to_string(), "join token batch not found");
        assert!(fixture.api.list_join_tokens().unwrap().is_empty());
        let named = fixture.api.create_join_token(new("")).await.unwrap();
        assert!(!named.name.is_empty());
    }

    #[tokio::test]
    async fn values_out_of_range_are_named() {
        let fixture = Fixture::new(1, 0).await;
        for (token, words) in [
            (new("no spaces"), "Name: "),
            (
                NewJoinToken {
                    uses_max: Some(0),
                    ..new("a")
                },
                "Uses: 0 uses",
            ),
            (
                NewJoinToken {
                    expires_in: Some(Duration::ZERO),
                    ..new("a")
                },
                "Expires: 0ns is too short",
            ),
        ] {
            let error = fixture.api.create_join_token(token).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn only_ended_tokens_make_room() {
        let fixture = Fixture::new(1, 0).await;
        for number in 0..TOKENS_MAX {
            let token = new(&format!("t{number}"));
            fixture.api.create_join_token(token).await.unwrap();
        }
        let full = fixture.api.create_join_token(new("more")).await;
        assert!(matches!(full, Err(Error::Precondition(_))), "{full:?}");
        let used_up = fixture.api.change_cluster(|cluster| {
            let token = cluster.access.join_tokens.get_mut("t0");
            token.expect("it was made").uses = 2;
            Ok(())
        });
        used_up.await.unwrap();
        fixture.api.create_join_token(new("more")).await.unwrap();
        let listed = fixture.api.list_join_tokens().unwrap();
        assert!(!listed.iter().any(|view| view.name == "t0"));
    }
}
