//! Containers outlive the daemon, and a later one finds them however far they had come.

use std::collections::BTreeSet;

use container::state::{self, EXIT_FILE, STATE_FILE};
use executor::Executor as _;
use rustix::process::{Pid, Signal, kill_process};
use types::container_spec::Mount;
use types::{Task, TaskState};

use crate::machine::{ALL, Machine, drive, in_time, lines, sh, texts, until, with};

/// A task that ends with code 7 once the file `go` is in the machine's directory.
fn gated(machine: &Machine, number: u128) -> Task {
    let script = "echo begun; until [ -e /gate/go ]; do sleep 0.02; done; echo over; exit 7";
    with(sh(number, script), |spec| {
        spec.container.mounts = vec![Mount {
            source: machine.dir.path().to_str().unwrap().to_owned(),
            target: "/gate".to_owned(),
            ..Mount::default()
        }];
    })
}

fn open_gate(machine: &Machine) {
    std::fs::write(machine.dir.path().join("go"), "").unwrap();
}

#[tokio::test]
async fn a_running_task_is_found_again() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let mut task = gated(&machine, 1);
    drive(&*machine.controller(&task), &mut task, TaskState::Running).await;
    let before = task.status.container_status.clone().unwrap();
    machine.reopen();
    assert!(machine.executor().image_in_use(&machine.image));
    let controller = machine.controller(&task);
    // As an agent that had not yet recorded how far the task was.
    task.status.state = TaskState::Preparing;
    drive(&*controller, &mut task, TaskState::Running).await;
    assert_eq!(task.status.container_status, Some(before));
    open_gate(&machine);
    drive(&*controller, &mut task, TaskState::Complete).await;
    assert_eq!(task.status.err, "task: non-zero exit (7)");
    assert_eq!(texts(&lines(&*controller, ALL).await), ["begun", "over"]);
}

#[tokio::test]
async fn a_prepared_task_goes_on() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let mut task = gated(&machine, 1);
    drive(&*machine.controller(&task), &mut task, TaskState::Ready).await;
    machine.reopen();
    open_gate(&machine);
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Complete).await;
    assert_eq!(task.status.err, "task: non-zero exit (7)");
}

#[tokio::test]
async fn an_end_while_away_is_told_later() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let mut task = gated(&machine, 1);
    drive(&*machine.controller(&task), &mut task, TaskState::Running).await;
    machine.reopen();
    open_gate(&machine);
    let exit = machine.container_dir(&task).join(EXIT_FILE);
    until("the end", || exit.exists()).await;
    for resumed in [
        TaskState::Preparing,
        TaskState::Ready,
        TaskState::Starting,
        TaskState::Running,
    ] {
        let mut task = task.clone();
        task.status.state = resumed;
        let controller = machine.controller(&task);
        drive(&*controller, &mut task, TaskState::Complete).await;
        assert_eq!(task.status.err, "task: non-zero exit (7)", "from {resumed}");
        let status = task.status.container_status.unwrap();
        assert_eq!((status.exit_code, status.pid), (Some(7), 0));
    }
}

#[tokio::test]
async fn a_container_whose_shim_died_while_away_fails_its_task() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let mut task = gated(&machine, 1);
    drive(&*machine.controller(&task), &mut task, TaskState::Running).await;
    let dir = machine.container_dir(&task);
    let shim = state::read::<state::State>(&dir, STATE_FILE)
        .unwrap()
        .unwrap()
        .shim;
    machine.reopen();
    kill_process(Pid::from_raw(shim.pid).unwrap(), Signal::KILL).unwrap();
    until("the shim's end", || !shim.exists()).await;
    for resumed in [TaskState::Accepted, TaskState::Running] {
        let mut task = task.clone();
        task.status.state = resumed;
        let controller = machine.controller(&task);
        drive(&*controller, &mut task, TaskState::Complete).await;
        assert_eq!(task.status.state, TaskState::Failed);
        assert!(
            task.status.err.starts_with("the container was lost: "),
            "{}",
            task.status.err
        );
        assert_eq!(task.status.container_status.unwrap().exit_code, Some(137));
    }
    in_time(machine.controller(&task).remove()).await.unwrap();
}

#[tokio::test]
async fn a_shim_that_dies_fails_the_wait() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut task = gated(&machine, 1);
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Running).await;
    let dir = machine.container_dir(&task);
    let shim = state::read::<state::State>(&dir, STATE_FILE)
        .unwrap()
        .unwrap()
        .shim;
    let ended = drive(&*controller, &mut task, TaskState::Complete);
    let killed = async {
        tokio::task::yield_now().await;
        kill_process(Pid::from_raw(shim.pid).unwrap(), Signal::KILL).unwrap();
    };
    tokio::join!(ended, killed);
    assert_eq!(task.status.state, TaskState::Failed);
    assert!(
        task.status.err.starts_with("the container was lost: "),
        "{}",
        task.status.err
    );
}

#[tokio::test]
async fn containers_of_unknown_tasks_are_removed() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let mut tasks = [gated(&machine, 1), gated(&machine, 2), gated(&machine, 3)];
    for task in &mut tasks {
        drive(&*machine.controller(task), task, TaskState::Running).await;
    }
    let [known, unknown, ended] = tasks;
    in_time(machine.controller(&ended).terminate())
        .await
        .unwrap();
    machine.reopen();
    let set = BTreeSet::from([known.id]);
    in_time(machine.executor().retain(&set)).await.unwrap();
    assert_eq!(machine.files("containers"), [known.id.to_string()]);
    assert_eq!(machine.files("records"), [format!("{}.json", known.id)]);
    assert_eq!(machine.controller(&unknown).status(), None);
    in_time(machine.controller(&known).prepare()).await.unwrap();
    in_time(machine.controller(&known).terminate())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_container_that_was_only_begun_does_not_stand_in_the_way() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let mut task = sh(1, "true");
    let dir = machine.container_dir(&task);
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join(".config.json.1"), "{").unwrap();
    machine.reopen();
    drive(&*machine.controller(&task), &mut task, TaskState::Complete).await;
    assert_eq!(task.status.state, TaskState::Complete, "{:?}", task.status);
}

#[tokio::test]
async fn what_was_lost_before_its_start_is_made_again() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let mut task = gated(&machine, 1);
    drive(&*machine.controller(&task), &mut task, TaskState::Ready).await;
    let dir = machine.container_dir(&task);
    let shim = state::read::<state::State>(&dir, STATE_FILE)
        .unwrap()
        .unwrap()
        .shim;
    kill_process(Pid::from_raw(shim.pid).unwrap(), Signal::KILL).unwrap();
    until("the shim's end", || !shim.exists()).await;
    machine.reopen();
    task.status.state = TaskState::Accepted;
    open_gate(&machine);
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Complete).await;
    assert_eq!(task.status.err, "task: non-zero exit (7)");
    assert_eq!(texts(&lines(&*controller, ALL).await), ["begun", "over"]);
}
