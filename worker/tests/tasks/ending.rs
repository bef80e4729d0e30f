//! Stopping gently, firmly and at once.

use std::time::Duration;

use executor::Controller;
use tokio::time::Instant;
use types::{Task, TaskState};

use crate::machine::{ALL, Machine, drive, in_time, lines, sh, until, with};

/// A running task that has set up its trap.
async fn ready(machine: &Machine, task: &mut Task) -> std::sync::Arc<dyn Controller> {
    let controller = machine.controller(task);
    drive(&*controller, task, TaskState::Running).await;
    let log = machine.container_dir(task).join("log/0000000001");
    until("output", || {
        std::fs::metadata(&log).is_ok_and(|file| file.len() > 8)
    })
    .await;
    assert_eq!(lines(&*controller, ALL).await.len(), 1);
    task.desired_state = TaskState::Shutdown;
    controller
}

/// Traps a signal; the shell waits in a way that lets it.
fn trapping(number: u128, signal: &str, what: &str) -> Task {
    let script =
        format!("trap '{what}' {signal}; echo ready; while true; do sleep 1000 & wait $!; done");
    sh(number, &script)
}

#[tokio::test]
async fn the_stop_signal_comes_first() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut quick = trapping(1, "TERM", "exit 4");
    let mut asked = with(trapping(2, "USR1", "exit 5"), |spec| {
        spec.container.stop_signal = "SIGUSR1".to_owned();
    });
    for (task, code) in [(&mut quick, 4), (&mut asked, 5)] {
        let controller = ready(&machine, task).await;
        let start = Instant::now();
        drive(&*controller, task, TaskState::Shutdown).await;
        assert!(
            start.elapsed() < Duration::from_secs(9),
            "the grace period ran out"
        );
        assert_eq!(
            (task.status.state, task.status.err.as_str()),
            (TaskState::Shutdown, "")
        );
        let status = task.status.container_status.as_ref().unwrap();
        assert_eq!((status.exit_code, status.pid), (Some(code), 0));
    }
}

#[tokio::test]
async fn what_does_not_listen_is_killed_after_its_grace_period() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let grace = Duration::from_millis(400);
    let mut task = with(trapping(1, "TERM", ""), |spec| {
        spec.container.stop_grace_period = Some(grace);
    });
    let controller = ready(&machine, &mut task).await;
    let start = Instant::now();
    drive(&*controller, &mut task, TaskState::Shutdown).await;
    let took = start.elapsed();
    assert!(
        grace <= took && took < grace + Duration::from_secs(5),
        "{took:?}"
    );
    assert_eq!(task.status.container_status.unwrap().exit_code, Some(137));
}

#[tokio::test]
async fn a_stop_that_is_broken_off_keeps_its_promise() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut task = with(trapping(1, "TERM", ""), |spec| {
        spec.container.stop_grace_period = Some(Duration::from_millis(300));
    });
    let controller = ready(&machine, &mut task).await;
    let broken_off = tokio::time::timeout(Duration::from_millis(100), controller.shutdown());
    assert!(broken_off.await.is_err());
    assert_eq!(in_time(controller.wait()).await.unwrap().code, 137);
}

#[tokio::test]
async fn what_was_only_prepared_ends_at_once() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut task = sh(1, "sleep 1000");
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Ready).await;
    task.desired_state = TaskState::Shutdown;
    let start = Instant::now();
    drive(&*controller, &mut task, TaskState::Shutdown).await;
    assert!(start.elapsed() < Duration::from_secs(9));
    assert_eq!(task.status.state, TaskState::Shutdown);
    in_time(controller.remove()).await.unwrap();
    assert!(!machine.container_dir(&task).exists());
}

#[tokio::test]
async fn removal_ends_what_still_runs() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut task = trapping(1, "TERM", "");
    let controller = ready(&machine, &mut task).await;
    in_time(controller.remove()).await.unwrap();
    assert!(!machine.container_dir(&task).exists());
    assert!(machine.files("records").is_empty());
}
