//! Node states over time, with tokio's clock paused.

use std::time::Duration;

use proto::dispatcher::{self as wire, agent_message, manager_message};
use tonic::Code;
use types::node::NodeState;

use super::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn a_new_leader_knows_nothing_of_nodes_until_they_register() {
    let nodes = [
        (1, NodeState::Ready),
        (2, NodeState::Ready),
        (3, NodeState::Down),
    ];
    let mut fixture = Fixture::leading(&nodes).await;
    assert_eq!(fixture.node_state(1), NodeState::Unknown);
    assert!(fixture.node_status(2).message.contains("leadership change"));
    assert_eq!(fixture.node_state(3), NodeState::Down, "stays down");

    let mut agent = fixture.register(1).await.unwrap();
    let status = fixture.node_status(1);
    assert_eq!(
        (status.state, status.message.as_str()),
        (NodeState::Ready, "")
    );
    assert_eq!(
        status.addr,
        Some([10, 0, 0, 1].into()),
        "as the connection shows it"
    );
    let state = fixture.store.state();
    assert_eq!(
        state
            .node(types::NodeId::from_number(1))
            .unwrap()
            .hostname(),
        "host"
    );
    let first = agent.hear().await.unwrap().unwrap();
    assert!(
        matches!(first, manager_message::Message::Started(s) if s.heartbeat_period == 1_000_000_000)
    );

    let began = tokio::time::Instant::now();
    fixture.until(|f| f.node_state(2) == NodeState::Down).await;
    assert!(
        began.elapsed() > Duration::from_secs(5),
        "six periods for those that were known"
    );
    assert!(fixture.node_status(2).message.contains("did not register"));
}

#[tokio::test(start_paused = true)]
async fn a_node_without_heartbeats_goes_down_and_its_session_ends() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown)]).await;
    let mut agent = fixture.register(1).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        agent.beat().await;
    }
    assert_eq!(
        fixture.node_state(1),
        NodeState::Ready,
        "heartbeats keep it up"
    );
    let began = tokio::time::Instant::now();
    fixture.until(|f| f.node_state(1) == NodeState::Down).await;
    let took = began.elapsed();
    assert!(
        (2950..=3100).contains(&took.as_millis()),
        "three periods, not {took:?}"
    );
    assert_eq!(fixture.node_status(1).message, "heartbeat failure");
    assert_eq!(
        fixture.node_status(1).addr,
        Some([10, 0, 0, 1].into()),
        "where it was last seen"
    );
    assert_eq!(agent.end().await.unwrap_err().code(), Code::Unavailable);

    fixture.register(1).await.unwrap();
    assert_eq!(fixture.node_state(1), NodeState::Ready, "and comes back");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_has_its_grace() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown)]).await;
    let mut agent = fixture.register(1).await.unwrap();
    agent.hang_up();
    agent.end().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1400)).await;
    let before = fixture.store.state().version();
    let mut agent = fixture.register(1).await.unwrap();
    assert_eq!(
        fixture.store.state().version(),
        before,
        "a short absence is nothing to note"
    );
    assert_eq!(agent.assignments().await.applies_to, 0);

    let began = tokio::time::Instant::now();
    drop(agent);
    fixture.until(|f| f.node_state(1) == NodeState::Down).await;
    let took = began.elapsed();
    assert!(
        (1500..=1600).contains(&took.as_millis()),
        "the grace, not {took:?}"
    );
    assert_eq!(fixture.node_status(1).message, "connection lost");
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_gives_fifteen_seconds() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown)]).await;
    let mut agent = fixture.register(1).await.unwrap();
    agent
        .say(agent_message::Message::Goodbye(wire::Goodbye {
            leaving: false,
        }))
        .await;
    agent.end().await.unwrap();
    let began = tokio::time::Instant::now();
    fixture.until(|f| f.node_state(1) == NodeState::Down).await;
    let took = began.elapsed();
    assert!((14_900..=15_100).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_period_comes_with_the_next_heartbeat() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown)]).await;
    let mut agent = fixture.register(1).await.unwrap();
    let mut cluster = types::Cluster::clone(fixture.store.state().cluster().unwrap());
    cluster.spec.heartbeat_period = Duration::from_secs(5);
    fixture
        .propose(vec![store::Action::Update(cluster.into())])
        .await;
    agent.beat().await;
    loop {
        match agent.hear().await.unwrap().unwrap() {
            manager_message::Message::Heartbeat(ack) => {
                assert_eq!(ack.heartbeat_period, 5_000_000_000);
                break;
            }
            _ => continue,
        }
    }
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(
        fixture.node_state(1),
        NodeState::Ready,
        "three of the new periods"
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_registrations_are_turned_away() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown)]).await;
    let mut agents = vec![];
    for _ in 0..3 {
        agents.push(fixture.register(1).await.unwrap());
    }
    let code = agents[0].end().await.unwrap_err().code();
    assert_eq!(code, Code::Aborted, "the newer session ends the older");
    let refused = fixture.register(1).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        fixture.node_state(1),
        NodeState::Ready,
        "the last good session stands"
    );
}

/// Puts these nodes on one network, each with a task there.
async fn on_one_network(fixture: &Fixture, nodes: &[u128]) {
    let network = types::NetworkId::from_number(1);
    let mut actions = vec![store::Action::Create(
        types::Network {
            id: network,
            meta: types::Meta::default(),
            spec: types::network::NetworkSpec {
                name: "web".to_owned(),
                ..types::network::NetworkSpec::default()
            },
            subnets: vec![],
        }
        .into(),
    )];
    for number in nodes {
        let mut task = super::fixture::task(*number, *number, types::TaskState::Assigned);
        task.attachments = vec![types::network::NetworkAttachment {
            network,
            addresses: vec![format!("10.0.1.{number}/24").parse().unwrap()],
            aliases: vec![],
        }];
        actions.push(store::Action::Create(task.into()));
    }
    fixture.propose(actions).await;
}

fn lost(numbers: &[u128]) -> agent_message::Message {
    let ids = numbers
        .iter()
        .map(|number| types::NodeId::from_number(*number));
    agent_message::Message::LostPeers(wire::LostPeers {
        node_ids: ids.map(|id| id.to_string()).collect(),
    })
}

/// Waits until the agent is called upon.
async fn called(agent: &mut super::fixture::Agent) {
    while !matches!(
        agent.hear().await,
        Ok(Some(manager_message::Message::Call(_)))
    ) {}
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_that_its_peers_miss_goes_down_before_its_heartbeats_run_out() {
    let nodes = [1, 2, 3].map(|number| (number, NodeState::Unknown));
    let mut fixture = Fixture::leading(&nodes).await;
    on_one_network(&fixture, &[1, 2, 3]).await;
    let (first, second) = (
        fixture.register(1).await.unwrap(),
        fixture.register(2).await.unwrap(),
    );
    let mut third = fixture.register(3).await.unwrap();
    for agent in [&first, &second] {
        agent.say(lost(&[])).await;
    }
    // One alone does no more than have it called upon; and it answers.
    first.say(lost(&[3])).await;
    called(&mut third).await;
    third.beat().await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for agent in [&first, &second, &third] {
            agent.beat().await;
        }
    }
    assert_eq!(fixture.node_state(3), NodeState::Ready);
    let began = tokio::time::Instant::now();
    second.say(lost(&[3])).await;
    fixture.until(|f| f.node_state(3) == NodeState::Down).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(2_500), "{took:?}");
    let message = fixture.node_status(3).message;
    assert!(message.contains("peers"), "{message}");
    // It comes back, whatever others still believe.
    let mut third = fixture.register(3).await.unwrap();
    assert_eq!(fixture.node_state(3), NodeState::Ready);
    called(&mut third).await;
    third.beat().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(fixture.node_state(3), NodeState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lies_takes_nobody_down() {
    let nodes = [1, 2, 3].map(|number| (number, NodeState::Unknown));
    let mut fixture = Fixture::leading(&nodes).await;
    on_one_network(&fixture, &[1, 2]).await;
    let mut liar = fixture.register(1).await.unwrap();
    let mut second = fixture.register(2).await.unwrap();
    let third = fixture.register(3).await.unwrap();
    liar.say(lost(&[2, 3, 77])).await;
    third.say(lost(&[2])).await;
    called(&mut second).await;
    second.beat().await;
    // Even one that is away for a moment is not lost for one report.
    second.hang_up();
    second.end().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_400)).await;
    assert_eq!(fixture.node_state(2), NodeState::Ready, "within its grace");
    let second = fixture.register(2).await.unwrap();
    second.beat().await;
    for garbage in [vec!["?".to_owned()], vec![String::new(); 5000]] {
        liar.say(agent_message::Message::LostPeers(wire::LostPeers {
            node_ids: garbage,
        }))
        .await;
        assert_eq!(liar.end().await.unwrap_err().code(), Code::InvalidArgument);
        liar = fixture.register(1).await.unwrap();
    }
}
