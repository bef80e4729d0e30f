//! The way of a task through its states.

use std::collections::BTreeSet;
use std::time::Instant;

use executor::{Executor as _, LogStreamName};
use futures::future::join_all;
use types::TaskState;

use crate::machine::{Machine, drive, in_time, run, sh, texts, with};

#[tokio::test]
async fn a_task_runs_to_completion() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut task = sh(1, "echo out; echo err >&2");
    let controller = machine.controller(&task);
    assert_eq!(controller.status(), None);
    drive(&*controller, &mut task, TaskState::Ready).await;
    let created = task.status.container_status.clone().unwrap();
    assert_eq!(created.container_id, task.id.to_string());
    assert!(created.pid > 0 && created.exit_code.is_none());
    assert!(machine.executor().image_in_use(&machine.image));
    let (status, lines) = run(&machine, task.clone()).await;
    assert_eq!(
        (status.state, status.message.as_str()),
        (TaskState::Complete, "finished")
    );
    let ended = status.container_status.unwrap();
    assert_eq!(
        (ended.exit_code, ended.pid, ended.oom_killed),
        (Some(0), 0, false)
    );
    let mut shown: Vec<_> = lines
        .iter()
        .map(|line| line.stream)
        .zip(texts(&lines))
        .collect();
    shown.sort_by_key(|(stream, _)| *stream == LogStreamName::Stderr);
    let out = (LogStreamName::Stdout, "out".to_owned());
    assert_eq!(shown, [out, (LogStreamName::Stderr, "err".to_owned())]);
    assert!(!machine.executor().image_in_use(&machine.image));
}

#[tokio::test]
async fn the_command_of_the_image_is_the_default() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let task = with(sh(1, ""), |spec| spec.container.command = vec![]);
    let (status, _) = run(&machine, task).await;
    assert_eq!(status.state, TaskState::Complete, "{status:?}");
}

#[tokio::test]
async fn failures_say_why() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let missing = machine.dir.path().join("missing");
    let no_bind = format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        missing.display()
    );
    let bind = types::container_spec::Mount {
        source: missing.to_str().unwrap().to_owned(),
        target: "/data".to_owned(),
        ..types::container_spec::Mount::default()
    };
    let cases = [
        (
            sh(1, "exit 3"),
            TaskState::Failed,
            Some(3),
            "task: non-zero exit (3)",
        ),
        (
            sh(2, "exit 137"),
            TaskState::Failed,
            Some(137),
            "task: non-zero exit (137)",
        ),
        (
            with(sh(3, ""), |spec| {
                spec.container.command = vec!["/nope".to_owned()]
            }),
            TaskState::Failed,
            Some(127),
            "starting container failed: exec /nope: No such file or directory (os error 2)",
        ),
        (
            with(sh(4, ""), |spec| spec.container.image = "nope:1".to_owned()),
            TaskState::Rejected,
            None,
            "No such image: nope:1",
        ),
        (
            with(sh(5, ""), |spec| spec.container.mounts = vec![bind]),
            TaskState::Rejected,
            None,
            &no_bind,
        ),
        (
            with(sh(6, ""), |spec| spec.container.user = "nobody".to_owned()),
            TaskState::Rejected,
            None,
            "creating container failed: find user nobody: \
             the image's /etc/passwd has no such user",
        ),
        (
            with(sh(7, ""), |spec| {
                spec.container.hostname = "{{.Nope}}".to_owned()
            }),
            TaskState::Rejected,
            None,
            "expanding hostname failed: unknown placeholder {{.Nope}}",
        ),
    ];
    for (task, state, exit_code, err) in cases {
        let id = task.id;
        let (status, _) = run(&machine, task).await;
        assert_eq!((status.state, status.err.as_str()), (state, err), "{id}");
        let told = status.container_status.and_then(|status| status.exit_code);
        assert_eq!(told, exit_code, "{id}");
        assert!(!machine.executor().image_in_use(&machine.image), "{id}");
    }
}

#[tokio::test]
async fn an_image_in_use_is_not_removed() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut task = sh(1, "sleep 1000");
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Running).await;
    let images = machine.executor().images().clone();
    let executor = machine.executor().clone();
    let in_use = move |image: &image::ImageId| executor.image_in_use(image);
    let refused = images.remove("busybox", false, &in_use).unwrap_err();
    assert!(matches!(refused, image::Error::InUse { .. }), "{refused}");
    in_time(controller.terminate()).await.unwrap();
    // Also after its end: until it is removed, its files are the image's.
    assert!(images.remove("busybox", false, &in_use).is_err());
    in_time(controller.remove()).await.unwrap();
    images.remove("busybox", false, &in_use).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_tasks_start_at_once() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let start = Instant::now();
    let started = join_all((1..=50).map(|number| {
        let mut task = sh(number, "echo $HOSTNAME; exec sleep 1000");
        let controller = machine.controller(&task);
        async move {
            drive(&*controller, &mut task, TaskState::Running).await;
            (task, controller)
        }
    }))
    .await;
    println!("50 tasks came to run in {:?}", start.elapsed());
    let pids: BTreeSet<u32> = started
        .iter()
        .map(|(task, _)| {
            assert_eq!(task.status.state, TaskState::Running, "{:?}", task.status);
            task.status.container_status.as_ref().unwrap().pid
        })
        .collect();
    assert_eq!(pids.len(), 50);
    join_all(started.iter().map(|(_, controller)| async move {
        in_time(controller.terminate()).await.unwrap();
        in_time(controller.remove()).await.unwrap();
    }))
    .await;
    assert!(machine.files("containers").is_empty());
}

#[tokio::test]
async fn every_request_may_be_made_again() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let task = sh(1, "sleep 1000");
    let controller = machine.controller(&task);
    // Nothing there yet.
    for _ in 0..2 {
        in_time(controller.shutdown()).await.unwrap();
        in_time(controller.terminate()).await.unwrap();
        in_time(controller.remove()).await.unwrap();
    }
    let lost = in_time(controller.start()).await.unwrap_err();
    assert_eq!(lost.to_string(), format!("No such container: {}", task.id));
    for _ in 0..2 {
        in_time(controller.prepare()).await.unwrap();
    }
    for _ in 0..2 {
        in_time(controller.start()).await.unwrap();
    }
    let pid = controller.status().unwrap().pid;
    in_time(controller.prepare()).await.unwrap();
    assert_eq!(controller.status().unwrap().pid, pid);
    for _ in 0..2 {
        in_time(controller.terminate()).await.unwrap();
        in_time(controller.shutdown()).await.unwrap();
        assert_eq!(in_time(controller.wait()).await.unwrap().code, 137);
    }
    for _ in 0..2 {
        in_time(controller.remove()).await.unwrap();
    }
    // What it was is still known.
    assert_eq!(controller.status().unwrap().exit_code, Some(137));
    let lost = in_time(controller.wait()).await.unwrap_err();
    assert_eq!(lost.to_string(), format!("No such container: {}", task.id));
}

#[tokio::test]
async fn a_prepare_that_is_broken_off_leaves_nothing_behind() {
    let Some(machine) = Machine::new() else {
        return;
    };
    for number in 1..=8 {
        let task = sh(number, "sleep 1000");
        let controller = machine.controller(&task);
        let mut prepare = Box::pin(controller.prepare());
        // Broken off at different moments of the making.
        for _ in 0..number {
            tokio::select! {
                biased;
                _ = &mut prepare => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(prepare);
        in_time(controller.shutdown()).await.unwrap();
        in_time(controller.remove()).await.unwrap();
        assert!(!machine.container_dir(&task).exists(), "{number}");
    }
    assert!(machine.files("records").is_empty());
}

#[tokio::test]
async fn the_machine_is_described() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let described = machine.executor().describe().await.unwrap();
    assert_eq!(described.hostname, "m1");
    assert_eq!(described.platform.os, "linux");
}
