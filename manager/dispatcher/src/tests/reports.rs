//! What agents report, and what becomes of it.

use std::sync::{Arc, Mutex};

use proto::dispatcher::{self as wire, agent_message};
use store::testing::LocalProposer;
use store::{Action, Store};
use tonic::Code;
use types::node::NodeState;
use types::{TaskId, TaskState};

use super::fixture::{Fixture, Slow, status, task};
use crate::writer::Writer;

async fn with_tasks() -> Fixture {
    let fixture = Fixture::leading(&[(1, NodeState::Unknown), (2, NodeState::Unknown)]).await;
    let tasks = [
        task(1, 1, TaskState::Assigned),
        task(2, 1, TaskState::Running),
        task(3, 2, TaskState::Assigned),
    ];
    fixture
        .propose(tasks.map(|t| Action::Create(t.into())).to_vec())
        .await;
    fixture
}

fn state_of(fixture: &Fixture, number: u128) -> TaskState {
    fixture
        .store
        .state()
        .task(TaskId::from_number(number))
        .unwrap()
        .status
        .state
}

#[tokio::test]
async fn reports_are_stored_before_they_are_acknowledged() {
    let mut fixture = with_tasks().await;
    let mut agent = fixture.register(1).await.unwrap();
    // The third task does not exist: it was deleted while the report was on its way.
    agent
        .report(
            7,
            &[
                (1, TaskState::Running),
                (2, TaskState::Starting),
                (99, TaskState::Failed),
            ],
        )
        .await;
    assert_eq!(agent.ack().await, 7);
    assert_eq!(state_of(&fixture, 1), TaskState::Running);
    assert_eq!(
        state_of(&fixture, 2),
        TaskState::Running,
        "a lower state is not taken"
    );
    let stored = fixture.store.state();
    assert!(
        stored
            .task(TaskId::from_number(1))
            .unwrap()
            .status
            .applied_at
            .is_set()
    );

    agent.report(8, &[(1, TaskState::Running)]).await;
    assert_eq!(agent.ack().await, 8);
    let again = fixture.store.state().version();
    assert_eq!(
        again,
        stored.version(),
        "what is known already needs no transaction"
    );
}

#[tokio::test]
async fn a_node_speaks_only_of_its_own_tasks_and_only_in_its_own_states() {
    for (report, code) in [
        ((1, TaskState::Orphaned), Code::InvalidArgument),
        ((1, TaskState::Assigned), Code::InvalidArgument),
    ] {
        let mut fixture = with_tasks().await;
        let mut agent = fixture.register(1).await.unwrap();
        agent.report(1, &[(1, TaskState::Accepted), report]).await;
        assert_eq!(agent.end().await.unwrap_err().code(), code, "{report:?}");
        assert_eq!(state_of(&fixture, 3), TaskState::Assigned);
        assert_eq!(
            state_of(&fixture, 1),
            TaskState::Assigned,
            "the whole batch is refused"
        );
    }
}

#[tokio::test]
async fn reports_on_tasks_of_others_are_dropped_and_the_rest_is_taken() {
    let mut fixture = with_tasks().await;
    let mut agent = fixture.register(1).await.unwrap();
    agent
        .report(1, &[(3, TaskState::Failed), (1, TaskState::Accepted)])
        .await;
    assert_eq!(agent.ack().await, 1);
    assert_eq!(state_of(&fixture, 3), TaskState::Assigned);
    assert_eq!(state_of(&fixture, 1), TaskState::Accepted);
}

#[tokio::test]
async fn long_texts_are_cut() {
    let mut fixture = with_tasks().await;
    let mut agent = fixture.register(1).await.unwrap();
    let mut long = status(TaskState::Failed);
    long.err = "é".repeat(100_000);
    let report = wire::TaskReport {
        task_id: TaskId::from_number(1).to_string(),
        status: Some((&long).into()),
    };
    let batch = wire::StatusBatch {
        sequence: 1,
        reports: vec![report],
    };
    agent.say(agent_message::Message::Statuses(batch)).await;
    agent.ack().await;
    let stored = fixture.store.state();
    let err = &stored.task(TaskId::from_number(1)).unwrap().status.err;
    assert!(err.len() < 3000 && err.ends_with('…'));
}

#[tokio::test]
async fn what_comes_while_a_transaction_is_under_way_makes_the_next() {
    let store = Store::new();
    let slow = Arc::new(Slow {
        inner: Arc::new(LocalProposer::new(store)),
        gate: tokio::sync::Semaphore::new(0),
        sizes: Mutex::default(),
    });
    let (writer, queue) = Writer::new();
    let writing = queue.commit_all(slow.clone());
    let action = |n| Action::TaskDesired {
        task: TaskId::from_number(n),
        desired: TaskState::Remove,
    };
    let asking = async {
        let mut written = vec![writer.write(vec![action(0)]).await];
        while slow.sizes.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        for number in 1..=10 {
            written.push(writer.write(vec![action(number); 30]).await);
        }
        slow.gate.add_permits(10);
        for written in written {
            written.await.unwrap().unwrap();
        }
        drop(writer);
    };
    tokio::join!(writing, asking);
    assert_eq!(*slow.sizes.lock().unwrap(), [1, 200, 10, 90]);
}
