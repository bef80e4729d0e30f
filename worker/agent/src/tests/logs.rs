//! Publishing output.

use proto::logs::broker_message::Message;
use proto::logs::{self as wire};
use types::{ServiceId, TaskId, TaskState};

use super::manager::{Manager, Network, Node, Publisher};
use super::task;

impl Publisher {
    async fn order(&self, message: Message) {
        let message = wire::BrokerMessage {
            message: Some(message),
        };
        self.outgoing.send(Ok(message)).await.unwrap();
    }

    async fn subscribe(&self, id: &str, credit: u64, options: wire::LogOptions) {
        let selector = wire::LogSelector {
            service_ids: vec![ServiceId::from_number(1).to_string()],
            ..Default::default()
        };
        let subscription = wire::Subscription {
            id: id.to_owned(),
            selector: Some(selector),
            options: Some(options),
            credit,
        };
        self.order(Message::Open(subscription)).await;
    }

    async fn next(&mut self) -> wire::PublishMessage {
        let time = std::time::Duration::from_secs(30);
        let message = tokio::time::timeout(time, self.incoming.message()).await;
        message.expect("something is published").unwrap().unwrap()
    }
}

#[tokio::test]
async fn output_is_published_as_far_as_there_is_credit() {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let mut session = manager.session().await;
    let mut publisher = manager.publisher().await;
    session.complete(&[task(1)]).await;
    session.until(1, TaskState::Running).await;

    let three = wire::LogOptions {
        tail: Some(3),
        ..Default::default()
    };
    publisher.subscribe("a", 1 << 20, three).await;
    let lines = publisher.next().await;
    assert_eq!(
        (lines.subscription_id.as_str(), lines.lines.len()),
        ("a", 3)
    );
    assert_eq!(lines.lines[0].task_id, TaskId::from_number(1).to_string());
    let end = publisher.next().await;
    assert!(end.done && end.err.is_empty());

    // Ten lines cost 10640; the second reader has credit for fewer and holds up nobody.
    publisher.subscribe("b", 10_000, Default::default()).await;
    publisher.subscribe("c", 1 << 20, Default::default()).await;
    assert_eq!(publisher.next().await.subscription_id, "c");
    assert!(publisher.next().await.done);
    let more = wire::Credit {
        subscription_id: "b".to_owned(),
        bytes: 10_000,
    };
    publisher.order(Message::Credit(more)).await;
    let lines = publisher.next().await;
    assert_eq!(
        (lines.subscription_id.as_str(), lines.lines.len()),
        ("b", 10)
    );
}

#[tokio::test]
async fn following_includes_tasks_that_come_later() {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let mut session = manager.session().await;
    let mut publisher = manager.publisher().await;
    let follow = wire::LogOptions {
        follow: true,
        ..Default::default()
    };
    publisher.subscribe("a", 1 << 20, follow).await;
    session.complete(&[task(1)]).await;
    assert_eq!(publisher.next().await.lines.len(), 10);
    publisher.order(Message::Close("a".to_owned())).await;
    // Its end is not awaited any more; another subscription shows that the stream goes on.
    publisher.subscribe("b", 1 << 20, Default::default()).await;
    assert_eq!(publisher.next().await.subscription_id, "b");
}
