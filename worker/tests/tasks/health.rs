//! Health checks: a task runs once its container works, and fails when it no longer does.

use std::time::Duration;

use types::container_spec::Healthcheck;
use types::{Task, TaskState};

use crate::machine::{Machine, drive, in_time, sh, with};

/// A task whose container works while there is a file `/ok`.
fn checked(number: u128, script: &str) -> Task {
    with(sh(number, script), |spec| {
        spec.container.healthcheck = Some(Healthcheck {
            test: vec![
                "CMD-SHELL".into(),
                "test -e /ok || { echo none there; exit 1; }".into(),
            ],
            interval: Duration::from_millis(50),
            retries: 3,
            ..Healthcheck::default()
        });
    })
}

#[tokio::test]
async fn a_task_runs_once_its_container_works() {
    let Some(machine) = Machine::new() else {
        return;
    };
    // The file comes only after the first check was made.
    let mut task = checked(1, "sleep 0.12; touch /ok; sleep 1000");
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Starting).await;
    assert!(!machine.container_dir(&task).join("upper/ok").exists());
    drive(&*controller, &mut task, TaskState::Running).await;
    assert_eq!(task.status.state, TaskState::Running, "{:?}", task.status);
    assert!(machine.container_dir(&task).join("upper/ok").exists());
    in_time(controller.remove()).await.unwrap();
}

#[tokio::test]
async fn one_that_never_works_fails_and_is_stopped() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut task = checked(1, "trap 'exit 0' TERM; while :; do sleep 0.05; done");
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Running).await;
    assert_eq!(task.status.state, TaskState::Failed);
    assert_eq!(
        task.status.err,
        "unhealthy container: exit code 1: none there"
    );
    let container = controller.status().unwrap();
    assert_eq!(
        (container.pid, container.exit_code),
        (0, Some(0)),
        "it heard the stop signal"
    );
    in_time(controller.remove()).await.unwrap();
}

#[tokio::test]
async fn one_that_works_no_longer_fails() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let script = "trap 'exit 0' TERM; touch /ok; sleep 0.3; rm /ok; while :; do sleep 0.05; done";
    let mut task = checked(1, script);
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Running).await;
    assert_eq!(task.status.state, TaskState::Running, "{:?}", task.status);
    drive(&*controller, &mut task, TaskState::Complete).await;
    assert_eq!(task.status.state, TaskState::Failed);
    assert!(
        task.status.err.starts_with("unhealthy container"),
        "{:?}",
        task.status
    );
    in_time(controller.remove()).await.unwrap();
}
