//! Reading a task's output.

use std::time::Duration;

use executor::{LogOptions, LogStreamName};
use futures::StreamExt as _;
use types::{TaskState, Timestamp};

use crate::machine::{ALL, Machine, drive, in_time, lines, sh, texts, with};

#[tokio::test]
async fn parts_of_the_output_are_read() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let script = "for i in $(seq 1000); do echo $i; done; sleep 0.2; echo late; echo err >&2";
    let mut task = sh(1, script);
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Complete).await;
    let all = in_time(lines(&*controller, ALL)).await;
    assert_eq!(all.len(), 1002);
    assert_eq!(texts(&all)[..2], ["1", "2"]);
    assert!(all.iter().all(|line| line.timestamp.is_set()));

    let out = LogOptions {
        stderr: false,
        ..ALL
    };
    let tail = |count| LogOptions {
        tail: Some(count),
        ..out
    };
    let read = |options| lines(&*controller, options);
    assert_eq!(texts(&read(tail(3)).await), ["999", "1000", "late"]);
    assert_eq!(read(tail(0)).await.len(), 0);
    assert_eq!(read(tail(u64::MAX)).await.len(), 1001);
    let late = all.iter().find(|line| line.line == "late").unwrap();
    let since = LogOptions {
        since: late.timestamp,
        ..out
    };
    assert_eq!(texts(&read(since).await), ["late"]);
    let none = LogOptions {
        since: Timestamp(u64::MAX),
        ..ALL
    };
    assert_eq!(read(none).await.len(), 0);
    let errors = LogOptions {
        stdout: false,
        ..ALL
    };
    let errors = read(errors).await;
    assert_eq!(texts(&errors), ["err"]);
    assert_eq!(errors[0].stream, LogStreamName::Stderr);
    // Following what has ended ends too.
    let follow = LogOptions {
        follow: true,
        ..ALL
    };
    assert_eq!(in_time(read(follow)).await, all);
}

#[tokio::test]
async fn output_is_followed_to_the_end() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let gate = machine.dir.path().join("gate");
    std::fs::create_dir(&gate).unwrap();
    let script = "echo old; echo first; until [ -e /gate/open ]; do sleep 0.02; done
        for i in $(seq 500); do echo $i; done; echo -n last";
    let mut task = with(sh(1, script), |spec| {
        spec.container.mounts = vec![types::container_spec::Mount {
            source: gate.to_str().unwrap().to_owned(),
            target: "/gate".to_owned(),
            ..types::container_spec::Mount::default()
        }];
    });
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Ready).await;
    let mut stream = controller.logs(LogOptions {
        follow: true,
        ..ALL
    });
    drive(&*controller, &mut task, TaskState::Running).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(in_time(stream.next()).await.unwrap().unwrap());
    }
    assert_eq!(texts(&seen), ["old", "first"]);
    let mut tail = controller.logs(LogOptions {
        follow: true,
        tail: Some(1),
        ..ALL
    });
    assert_eq!(
        texts(&in_time(tail.next()).await.unwrap().unwrap()),
        ["first"]
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(50), stream.next())
            .await
            .is_err()
    );
    std::fs::write(gate.join("open"), "").unwrap();
    for stream in [&mut stream, &mut tail] {
        let mut seen = Vec::new();
        while let Some(batch) = in_time(stream.next()).await {
            seen.extend(texts(&batch.unwrap()));
        }
        assert_eq!(seen.len(), 501);
        assert_eq!((seen[0].as_str(), seen[500].as_str()), ("1", "last"));
    }
    drive(&*controller, &mut task, TaskState::Complete).await;
    assert_eq!(task.status.state, TaskState::Complete);
}

#[tokio::test]
async fn a_task_without_container_has_no_output() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let controller = machine.controller(&sh(1, "true"));
    assert_eq!(in_time(lines(&*controller, ALL)).await, []);
    let follow = LogOptions {
        follow: true,
        ..ALL
    };
    assert_eq!(in_time(lines(&*controller, follow)).await, []);
}

#[tokio::test]
async fn a_removed_task_ends_its_readers() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let mut task = sh(1, "echo on; sleep 1000");
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Running).await;
    let mut stream = controller.logs(LogOptions {
        follow: true,
        ..ALL
    });
    assert_eq!(
        texts(&in_time(stream.next()).await.unwrap().unwrap()),
        ["on"]
    );
    in_time(controller.remove()).await.unwrap();
    while let Some(batch) = in_time(stream.next()).await {
        assert!(batch.unwrap().is_empty());
    }
}
