//! Tables over the step function, with a controller that answers by script.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use types::task::ContainerStatus;
use types::{ServiceId, TaskId, TaskSpec, TaskStatus, Version};

use super::*;
use crate::{LogOptions, LogStream};

/// Answers each request with the same result and notes which were made.
struct Scripted {
    answer: Result<(), Error>,
    exit: Result<Exit, Error>,
    asked: Mutex<Vec<&'static str>>,
}

impl Scripted {
    fn new(answer: Result<(), Error>, exit: Result<Exit, Error>) -> Self {
        Self {
            answer,
            exit,
            asked: Mutex::new(vec![]),
        }
    }

    fn note(&self, request: &'static str) -> Result<(), Error> {
        self.asked.lock().unwrap().push(request);
        self.answer.clone()
    }
}

#[async_trait]
impl Controller for Scripted {
    async fn update(&self, _: Arc<Task>) -> Result<(), Error> {
        self.note("update")
    }
    async fn prepare(&self) -> Result<(), Error> {
        self.note("prepare")
    }
    async fn start(&self) -> Result<(), Error> {
        self.note("start")
    }
    async fn wait(&self) -> Result<Exit, Error> {
        self.note("wait")?;
        self.exit.clone()
    }
    async fn shutdown(&self) -> Result<(), Error> {
        self.note("shutdown")
    }
    async fn terminate(&self) -> Result<(), Error> {
        self.note("terminate")
    }
    async fn remove(&self) -> Result<(), Error> {
        self.note("remove")
    }
    fn status(&self) -> Option<ContainerStatus> {
        None
    }
    fn logs(&self, _: LogOptions) -> LogStream {
        Box::pin(futures::stream::empty())
    }
}

fn task(state: TaskState, desired: TaskState) -> Task {
    Task {
        id: TaskId::from_number(1),
        meta: types::Meta::default(),
        service_id: ServiceId::from_number(1),
        service_name: "web".to_owned(),
        slot: 1,
        node_id: None,
        spec: Arc::new(TaskSpec::default()),
        spec_version: Version::default(),
        status: TaskStatus {
            state,
            ..TaskStatus::default()
        },
        desired_state: desired,
        attachments: vec![],
        host_ports: vec![],
    }
}

/// Steps a task until it rests or asks for a retry, and tells the states, messages and errors.
async fn run(
    from: TaskState,
    desired: TaskState,
    controller: &Scripted,
) -> Vec<(TaskState, &'static str, String)> {
    let mut task = task(from, desired);
    let mut story = vec![];
    loop {
        match step(&task, controller).await {
            Outcome::Rest => return story,
            Outcome::Moved {
                state,
                message,
                err,
            } => {
                assert!(state > task.status.state, "states only grow");
                task.status.state = state;
                story.push((state, message, err));
            }
            Outcome::Retry { err } => {
                story.push((task.status.state, "retry", err));
                return story;
            }
        }
    }
}

/// A story with its errors borrowed, for comparing.
type Told<'a> = Vec<(TaskState, &'static str, &'a str)>;

fn told<'a>(story: &'a [(TaskState, &'static str, String)]) -> Told<'a> {
    story.iter().map(|(s, m, e)| (*s, *m, e.as_str())).collect()
}

#[tokio::test]
async fn a_good_task_goes_all_the_way() {
    use TaskState::*;
    let controller = Scripted::new(Ok(()), Ok(Exit::default()));
    let story = run(Assigned, Running, &controller).await;
    assert_eq!(
        told(&story),
        [
            (Accepted, "accepted", ""),
            (Preparing, "preparing", ""),
            (Ready, "prepared", ""),
            (Starting, "starting", ""),
            (Running, "started", ""),
            (Complete, "finished", ""),
        ]
    );
    assert_eq!(
        *controller.asked.lock().unwrap(),
        ["prepare", "start", "wait"]
    );
}

#[tokio::test]
async fn a_task_desired_ready_waits_there() {
    let controller = Scripted::new(Ok(()), Ok(Exit::default()));
    let story = run(TaskState::Assigned, TaskState::Ready, &controller).await;
    assert_eq!(story.last().unwrap().0, TaskState::Ready);
    assert_eq!(*controller.asked.lock().unwrap(), ["prepare"]);
}

#[tokio::test]
async fn errors_reject_before_starting_and_fail_from_there_on() {
    use TaskState::*;
    let no = || Err(Error::Fatal("no such image: x".to_owned()));
    let table = [
        (Preparing, Running, Rejected, "preparing"),
        (Starting, Running, Failed, "starting"),
        (Running, Running, Failed, "started"),
        (Running, Shutdown, Failed, "shutdown"),
        (Accepted, Remove, Rejected, "shutdown"),
    ];
    for (from, desired, to, message) in table {
        let controller = Scripted::new(no(), Ok(Exit::default()));
        assert_eq!(
            told(&run(from, desired, &controller).await),
            [(to, message, "no such image: x")],
            "{from} -> {desired}"
        );
    }
}

#[tokio::test]
async fn passing_errors_ask_for_a_retry_in_every_state() {
    use TaskState::*;
    for (from, desired) in [
        (Preparing, Running),
        (Starting, Running),
        (Running, Running),
        (Running, Shutdown),
    ] {
        let controller = Scripted::new(
            Err(Error::Temporary("busy".to_owned())),
            Ok(Exit::default()),
        );
        assert_eq!(
            told(&run(from, desired, &controller).await),
            [(from, "retry", "busy")]
        );
    }
}

#[tokio::test]
async fn exits_are_judged_by_their_code() {
    let table = [
        (0, "", TaskState::Complete, ""),
        (0, "out of memory", TaskState::Complete, ""),
        (3, "", TaskState::Failed, "task: non-zero exit (3)"),
        (
            137,
            "out of memory",
            TaskState::Failed,
            "task: non-zero exit (137): out of memory",
        ),
    ];
    for (code, reason, state, err) in table {
        let exit = Exit {
            code,
            reason: reason.to_owned(),
        };
        let controller = Scripted::new(Ok(()), Ok(exit));
        let story = run(TaskState::Running, TaskState::Running, &controller).await;
        assert_eq!((story[0].0, story[0].2.as_str()), (state, err));
    }
}

#[tokio::test]
async fn shutting_down_is_reported_from_any_state_before_the_end() {
    for from in TaskState::ALL {
        for desired in [TaskState::Shutdown, TaskState::Remove] {
            let controller = Scripted::new(Ok(()), Ok(Exit::default()));
            let story = run(from, desired, &controller).await;
            if from.is_terminal() {
                assert!(story.is_empty(), "{from} is an end");
            } else {
                assert_eq!(told(&story), [(TaskState::Shutdown, "shutdown", "")]);
                assert_eq!(*controller.asked.lock().unwrap(), ["shutdown"]);
            }
        }
    }
}
