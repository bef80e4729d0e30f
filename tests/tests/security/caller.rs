//! Callers of every kind, with certificates the cluster gave them, and requests of bytes.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use ca::tls::{DialOptions, ExpectRole, bootstrap_channel, pinned_channel};
use ca::{ClientCredential, Identity, JoinToken, PrivateKey, RootBundle, Tls};
use http::uri::PathAndQuery;
use proto::ca::ca_client::CaClient;
use proto::ca::{GetRootCertificateRequest, IssueNodeCertificateRequest};
use proto::control::CreateClientRequest;
use proto::objects;
use swarm_tests::cluster::{Cluster, Machine};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};
use types::NodeRole;
use types::access::ClientRole;

/// Bytes that are no message of any kind: a field number that does not end.
pub(crate) const NO_MESSAGE: &[u8] = &[0xff];

/// The cluster's roots.
pub(crate) async fn roots(machine: &Machine) -> RootBundle {
    let stranger = bootstrap_channel(&machine.advertise_addr().unwrap()).await;
    let answer = CaClient::new(stranger.unwrap())
        .get_root_certificate(GetRootCertificateRequest {})
        .await;
    RootBundle::from_pem(answer.unwrap().into_inner().bundle_pem).unwrap()
}

/// Somebody without a certificate.
pub(crate) async fn stranger(machine: &Machine) -> Channel {
    let roots = roots(machine).await;
    let addr = machine.advertise_addr().unwrap();
    pinned_channel(&addr, &roots).await.unwrap()
}

/// What a manager gives to whoever shows this token, without a daemon behind it.
pub(crate) async fn try_join(machine: &Machine, token: &str) -> Result<Identity, Status> {
    let (key, roots) = (PrivateKey::generate().unwrap(), roots(machine).await);
    let request = IssueNodeCertificateRequest {
        csr_pem: key.csr_pem().unwrap(),
        token: token.to_owned(),
        ..Default::default()
    };
    let issued = CaClient::new(stranger(machine).await)
        .issue_node_certificate(request)
        .await?;
    let chain = issued.into_inner().chain_pem;
    Ok(Identity::new(key, &chain, roots).unwrap())
}

/// A node that joined with nothing but a token: what an attacker has who took over a machine.
pub(crate) async fn join(cluster: &Cluster, role: NodeRole) -> Identity {
    let token = cluster.token(role).await.unwrap();
    token.parse::<JoinToken>().unwrap();
    let machine = cluster.a_manager().await.unwrap();
    try_join(machine, &token).await.unwrap()
}

/// A connection with a node's certificate.
pub(crate) async fn as_node(identity: &Identity, machine: &Machine) -> Channel {
    let tls = Tls::new(Some(identity.clone())).unwrap();
    let addr = machine.advertise_addr().unwrap();
    let options = DialOptions::default();
    tls.connect(&addr, ExpectRole::Manager, &options)
        .await
        .unwrap()
}

/// Lets a remote user in.
pub(crate) async fn client(machine: &Machine, name: &str, role: ClientRole) -> ClientCredential {
    let key = PrivateKey::generate().unwrap();
    let request = CreateClientRequest {
        name: name.to_owned(),
        role: objects::ClientRole::from(role).into(),
        csr_pem: key.csr_pem().unwrap(),
        ..Default::default()
    };
    let mut control = machine.control().await.unwrap();
    let answer = control.create_client(request).await.unwrap().into_inner();
    let roots = RootBundle::from_pem(answer.root_cert_pem).unwrap();
    ClientCredential::new(&key, &answer.certificate_pem, &roots).unwrap()
}

/// Connects as a remote user.
pub(crate) async fn as_client(credential: &ClientCredential, machine: &Machine) -> Channel {
    let addr = machine.advertise_addr().unwrap();
    credential.connect(&addr).await.unwrap()
}

/// Calls an RPC, whatever its kind, with one message of these bytes; the end of what comes back.
pub(crate) async fn call(
    channel: &Channel,
    path: &'static str,
    message: &[u8],
) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready()
        .await
        .map_err(|e| Status::from_error(Box::new(e)))?;
    let message = Bytes::copy_from_slice(message);
    let request = Request::new(futures::stream::iter([message]));
    let asking = async {
        let path = PathAndQuery::from_static(path);
        let answer = grpc.streaming(request, path, Raw).await?;
        let mut messages = answer.into_inner();
        while messages.message().await?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), asking)
        .await
        .unwrap_or_else(|_| panic!("{path} neither answers nor refuses"))
}

#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
