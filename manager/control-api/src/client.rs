//! Users of other machines: giving them a certificate, and taking it back.

use std::time::Duration;

use ca::{ClientSubject, NODE_VALIDITY_DEFAULT, RootCa};
use types::access::{Client, ClientRole};
use types::id::RandomIds;
use types::{ClientId, Cluster, ClusterId, Timestamp};

use crate::{ControlApi, Error, Invalid, validate};

/// Clients a cluster may have; they travel with every change of the cluster's settings.
const CLIENTS_MAX: usize = 256;
/// Shortest life of a client certificate.
const EXPIRY_MIN: Duration = Duration::from_secs(60);

const WHAT: &str = "client";

/// A user of another machine who is to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClient {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: ClientRole,
    /// Life of its certificate; zero for the usual one, that of a node by default.
    pub expires_in: Duration,
    /// Request signed by its key, as PEM.
    pub csr_pem: String,
}

/// A client as users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientView {
    /// Its id, the CN of its certificate.
    pub id: ClientId,
    /// Everything about it.
    pub client: Client,
}

/// What a new client needs.
#[derive(Clone, Debug)]
pub struct IssuedClient {
    /// The client.
    pub view: ClientView,
    /// Its certificate, as PEM.
    pub certificate_pem: String,
    /// PEM bundle of the roots to trust.
    pub root_cert_pem: String,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Addresses of the managers, the leader's first.
    pub managers: Vec<String>,
}

impl ControlApi {
    /// Signs a certificate for a new client. It counts until it runs out or the client is removed.
    ///
    /// # Errors
    /// When the name is taken, a value is out of range, this cluster cannot sign, or the change
    /// cannot be committed.
    pub async fn create_client(&self, new: NewClient) -> Result<IssuedClient, Error> {
        let now = Timestamp::now();
        validate::name("Name", &new.name)?;
        let validity = match new.expires_in {
            Duration::ZERO => NODE_VALIDITY_DEFAULT,
            expiry if expiry < EXPIRY_MIN => {
                let problem = format!("{expiry:?} is too short: it must be {EXPIRY_MIN:?} or more");
                return Err(Invalid::new("Expires", problem).into());
            }
            expiry => expiry,
        };
        let id = ClientId::generate(&mut RandomIds);
        let client = Client {
            name: new.name.clone(),
            role: new.role,
            created_at: now,
            expires_at: now.plus(validity),
        };
        let (certificate_pem, cluster) = self
            .change_cluster(|cluster| {
                add(cluster, id, &client, now)?;
                let subject = ClientSubject {
                    cluster_id: cluster.id,
                    role: new.role,
                    client_id: id,
                };
                let signed = signer(cluster)?
                    .issue_client(&new.csr_pem, &subject, validity, now)
                    .map_err(|error| Invalid::new("CSR", error))?;
                Ok((signed, cluster.clone()))
            })
            .await?;
        tracing::info!(client = %id, name = new.name, role = %new.role, "made a client");
        Ok(IssuedClient {
            view: ClientView { id, client },
            certificate_pem,
            root_cert_pem: cluster.root_ca.cert_pem,
            cluster_id: cluster.id,
            managers: self.cluster()?.managers,
        })
    }

    /// Every client, by name.
    ///
    /// # Errors
    /// [`Error::NotReady`] while the cluster has not been written.
    pub fn list_clients(&self) -> Result<Vec<ClientView>, Error> {
        let cluster = self.stored_cluster()?;
        let clients = cluster.access.clients.iter();
        let mut views: Vec<_> = clients
            .map(|(id, client)| ClientView {
                id: *id,
                client: client.clone(),
            })
            .collect();
        views.sort_by(|a, b| a.client.name.cmp(&b.client.name));
        Ok(views)
    }

    /// Revokes a client, by name, id, or unique beginning of an id. Its connections are closed.
    ///
    /// # Errors
    /// When there is none, several could be meant, or the change cannot be committed.
    pub async fn remove_client(&self, key: &str) -> Result<ClientId, Error> {
        self.change_cluster(|cluster| {
            let id = find(cluster, key)?;
            cluster.access.clients.remove(&id);
            Ok(id)
        })
        .await
    }
}

/// Notes the client, and forgets those whose certificates have run out.
fn add(cluster: &mut Cluster, id: ClientId, client: &Client, now: Timestamp) -> Result<(), Error> {
    let clients = &mut cluster.access.clients;
    clients.retain(|_, client| client.expires_at > now);
    if clients.values().any(|known| known.name == client.name) {
        let name = client.name.clone();
        return Err(Error::Exists { what: WHAT, name });
    }
    if clients.len() >= CLIENTS_MAX {
        return Err(Error::Precondition(format!(
            "there are {CLIENTS_MAX} clients already: remove one first"
        )));
    }
    clients.insert(id, client.clone());
    Ok(())
}

fn signer(cluster: &Cluster) -> Result<RootCa, Error> {
    if cluster.root_ca.key_pem.is_empty() {
        return Err(Error::Precondition(
            "the managers hold no signing key, so they cannot sign for a client: an external \
             authority signs for this cluster"
                .to_owned(),
        ));
    }
    RootCa::from_pem(&cluster.root_ca.cert_pem, &cluster.root_ca.key_pem)
        .map_err(|error| Error::Token(error.to_string()))
}

fn find(cluster: &Cluster, key: &str) -> Result<ClientId, Error> {
    let clients = &cluster.access.clients;
    let named = clients.iter().find(|(_, client)| client.name == key);
    if let Some((id, _)) = named {
        return Ok(*id);
    }
    let mut begun = clients
        .keys()
        .filter(|id| !key.is_empty() && id.as_str().starts_with(key));
    match (begun.next(), begun.next()) {
        (Some(id), None) => Ok(*id),
        (Some(_), Some(_)) => Err(Invalid::new(
            "Client",
            format!("{key} is ambiguous: use more characters of the id"),
        )
        .into()),
        (None, _) => {
            let key = key.to_owned();
            Err(Error::Unknown { what: WHAT, key })
        }
    }
}

#[cfg(test)]
mod tests {
    use ca::PrivateKey;

    use super::*;
    use crate::testing::Fixture;

    fn new(name: &str) -> NewClient {
        NewClient {
            name: name.to_owned(),
            role: ClientRole::Reader,
            expires_in: Duration::from_secs(3600),
            csr_pem: PrivateKey::generate().unwrap().csr_pem().unwrap(),
        }
    }

    #[tokio::test]
    async fn clients_are_made_listed_and_revoked() {
        let fixture = Fixture::new(1, 0).await;
        let made = fixture.api.create_client(new("ci")).await.unwrap();
        assert!(made.certificate_pem.contains("BEGIN CERTIFICATE"));
        let listed = fixture.api.list_clients().unwrap();
        assert_eq!(listed, std::slice::from_ref(&made.view));
        let again = fixture.api.create_client(new("ci")).await.unwrap_err();
        assert_eq!(again.to_string(), "client ci already exists");
        let begin = &made.view.id.as_str()[..12];
        assert_eq!(
            fixture.api.remove_client(begin).await.unwrap(),
            made.view.id
        );
        let gone = fixture.api.remove_client("ci").await.unwrap_err();
        assert_eq!(gone.to_string(), "client ci not found");
        // An empty key is no beginning of anything.
        fixture.api.create_client(new("ci")).await.unwrap();
        assert!(fixture.api.remove_client("").await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_signed_for_a_bad_request() {
        let fixture = Fixture::new(1, 0).await;
        for (client, words) in [
            (
                NewClient {
                    csr_pem: "no".to_owned(),
                    ..new("a")
                },
                "CSR: ",
            ),
            (new("a b"), "Name: "),
            (
                NewClient {
                    expires_in: Duration::from_secs(1),
                    ..new("a")
                },
                "Expires: 1s is too short",
            ),
        ] {
            let error = fixture.api.create_client(client).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(fixture.api.list_clients().unwrap().is_empty());
    }
}
