//! Certificates and roots change while servers and channels live on.

use ca::tls::{DialOptions, ExpectRole, Refusal, refusal};
use types::NodeId;

use crate::echo::{MANAGERS, NODES, ask};
use crate::fixture::{Cluster, Running, both, chain, dial, tls};

#[tokio::test]
async fn new_connections_see_the_new_certificate() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let client = tls(cluster.worker(5));
    let addr = server.addr.to_string();
    let options = DialOptions::default();
    let expect = |number| ExpectRole::ManagerNode(NodeId::from_number(number));

    let old = client.connect(&addr, expect(1), &options).await.unwrap();
    server.tls.swap(cluster.manager(2)).unwrap();
    client.connect(&addr, expect(2), &options).await.unwrap();
    let error = client
        .connect(&addr, expect(1), &options)
        .await
        .unwrap_err();
    assert!(
        chain(&error).contains("that was dialled"),
        "{}",
        chain(&error)
    );
    // The connection from before goes on.
    assert!(ask(&old, NODES, "").await.unwrap().starts_with("worker"));

    // And the client's: a promoted worker is a manager with its next connection, not before.
    client.swap(cluster.manager(5)).unwrap();
    ask(&old, MANAGERS, "").await.unwrap_err();
    let new = client.connect(&addr, expect(2), &options).await.unwrap();
    ask(&new, MANAGERS, "").await.unwrap();
}

#[tokio::test]
async fn a_root_is_replaced_without_a_restart() {
    // The same cluster under its old and its new root.
    let (old, new) = (Cluster::new(1), Cluster::new(1));
    let server = Running::start(old.manager(1)).await;
    let client = tls(old.worker(2));
    let laggard = tls(old.worker(3));
    dial(&client, server.addr).await.unwrap();

    // Everybody trusts both, nobody has a new certificate.
    server
        .tls
        .swap(old.manager(1).with_roots(both(&old, &new)).unwrap())
        .unwrap();
    client
        .swap(old.worker(2).with_roots(both(&old, &new)).unwrap())
        .unwrap();
    let channel = dial(&client, server.addr).await.unwrap();
    ask(&channel, NODES, "").await.unwrap();

    // The server has its new certificate.
    server
        .tls
        .swap(new.manager(1).with_roots(both(&old, &new)).unwrap())
        .unwrap();
    let channel = dial(&client, server.addr).await.unwrap();
    ask(&channel, NODES, "").await.unwrap();

    // The client has, too.
    client
        .swap(new.worker(2).with_roots(both(&old, &new)).unwrap())
        .unwrap();
    let channel = dial(&client, server.addr).await.unwrap();
    ask(&channel, NODES, "").await.unwrap();

    // The old root is dropped; whoever did not follow is out, in both directions.
    server.tls.swap(new.manager(1)).unwrap();
    client.swap(new.worker(2)).unwrap();
    let channel = dial(&client, server.addr).await.unwrap();
    ask(&channel, NODES, "").await.unwrap();
    let error = dial(&laggard, server.addr).await.unwrap_err();
    assert!(
        matches!(refusal(&error), Some(Refusal::TheirCertificate(_))),
        "{}",
        chain(&error)
    );
    laggard
        .swap(old.worker(3).with_roots(both(&old, &new)).unwrap())
        .unwrap();
    let refused: Box<dyn std::error::Error> = match dial(&laggard, server.addr).await {
        Err(error) => error.into(),
        Ok(channel) => ask(&channel, NODES, "").await.unwrap_err().into(),
    };
    assert_eq!(
        refusal(&*refused),
        Some(Refusal::OurCertificate),
        "{}",
        chain(&*refused)
    );
}

#[tokio::test]
async fn a_channel_connects_again_with_the_identity_of_that_moment() {
    let (old, new) = (Cluster::new(1), Cluster::new(1));
    let server = Running::start(old.manager(1)).await;
    let addr = server.addr;
    let client = tls(old.worker(2));
    let options = DialOptions::default();
    let channel = client
        .channel(&addr.to_string(), ExpectRole::Manager, &options)
        .unwrap();
    ask(&channel, NODES, "").await.unwrap();
    server.stop().await;
    ask(&channel, NODES, "").await.unwrap_err();

    client.swap(new.manager(2)).unwrap();
    let answer = std::sync::Arc::new(|_: &str| None);
    let _server = Running::with(new.manager(1), &addr.to_string(), answer, None).await;
    ask(&channel, MANAGERS, "").await.unwrap();
}
