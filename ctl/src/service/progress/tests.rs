//! What views of a service are judged to be.

use proto::control::ServiceView;
use types::update::UpdateStatus;
use types::{Meta, ServiceId, ServiceSpec, Version};

use super::*;

fn task(slot: u64, state: TaskState, desired: TaskState, current: bool, err: &str) -> TaskProgress {
    TaskProgress {
        slot,
        state: state.number().into(),
        desired_state: desired.number().into(),
        current,
        err: err.to_owned(),
        ..TaskProgress::default()
    }
}

fn running(slot: u64) -> TaskProgress {
    task(slot, TaskState::Running, TaskState::Running, true, "")
}

fn picture(replicas: u64, status: Option<UpdateState>, tasks: Vec<TaskProgress>) -> Picture {
    let service = Service {
        id: ServiceId::from_number(1),
        meta: Meta::default(),
        spec: ServiceSpec {
            mode: ServiceMode::Replicated { replicas },
            ..ServiceSpec::default()
        },
        spec_version: Version::default(),
        previous_spec: None,
        update_status: status.map(|state| UpdateStatus {
            state,
            ..UpdateStatus::default()
        }),
        endpoint: Default::default(),
    };
    let view = ServiceView {
        service: Some((&service).into()),
        running_tasks: 0,
        desired_tasks: replicas,
    };
    Picture::read(ServiceProgress {
        service: Some(view),
        tasks,
    })
    .unwrap()
    .unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn verdicts() {
    use TaskState::{Complete, Failed, Pending, Preparing, Ready, Running, Shutdown};
    let stale = |slot| task(slot, Running, Running, false, "");
    for (name, replicas, status, tasks, expected) in [
        ("nothing yet", 2, None, vec![], Verdict::Moving),
        ("one of two", 2, None, vec![running(1)], Verdict::Moving),
        (
            "both",
            2,
            None,
            vec![running(1), running(2)],
            Verdict::Steady,
        ),
        ("scaled to nothing", 0, None, vec![], Verdict::Done),
        (
            "one too many",
            1,
            None,
            vec![running(1), running(2)],
            Verdict::Moving,
        ),
        ("old spec", 1, None, vec![stale(1)], Verdict::Moving),
        (
            "old beside new",
            1,
            None,
            vec![stale(1), running(1)],
            Verdict::Moving,
        ),
        (
            "preparing",
            1,
            None,
            vec![task(1, Preparing, Running, true, "")],
            Verdict::Moving,
        ),
        (
            "replacement waits",
            1,
            None,
            vec![
                task(1, Failed, Shutdown, true, "x"),
                task(1, Pending, Ready, true, ""),
            ],
            Verdict::Moving,
        ),
        (
            "updating",
            1,
            Some(UpdateState::Updating),
            vec![running(1)],
            Verdict::Moving,
        ),
        (
            "updated",
            1,
            Some(UpdateState::Completed),
            vec![running(1)],
            Verdict::Done,
        ),
        (
            "updated, then lost",
            1,
            Some(UpdateState::Completed),
            vec![],
            Verdict::Moving,
        ),
        (
            "paused",
            2,
            Some(UpdateState::Paused),
            vec![running(1)],
            Verdict::Paused,
        ),
        (
            "rolling back",
            1,
            Some(UpdateState::RollbackStarted),
            vec![running(1)],
            Verdict::Moving,
        ),
        (
            "back",
            1,
            Some(UpdateState::RollbackCompleted),
            vec![running(1)],
            Verdict::RolledBack,
        ),
        (
            "stuck on the way back",
            1,
            Some(UpdateState::RollbackPaused),
            vec![],
            Verdict::Paused,
        ),
        (
            "ended",
            1,
            None,
            vec![task(1, Complete, Shutdown, true, "")],
            Verdict::Ended,
        ),
        (
            "ended, to be replaced",
            1,
            None,
            vec![task(1, Failed, Running, true, "")],
            Verdict::Moving,
        ),
        (
            "one ended, one moves",
            2,
            None,
            vec![
                task(1, Complete, Shutdown, true, ""),
                task(2, Preparing, Running, true, ""),
            ],
            Verdict::Moving,
        ),
    ] {
        assert_eq!(
            picture(replicas, status, tasks).verdict(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_slot_tells_why_it_is_no_further() {
    use TaskState::{Failed, Pending, Ready, Running, Shutdown};
    let view = picture(
        4,
        None,
        vec![
            task(1, Pending, Running, true, "no suitable node"),
            task(2, Pending, Running, true, "no suitable node"),
            task(3, Failed, Shutdown, true, "exit 1"),
            task(3, Ready, Ready, true, ""),
            task(4, Running, Running, true, "was slow"),
        ],
    );
    assert_eq!(view.reasons(), [(2, "no suitable node"), (1, "exit 1")]);
    assert_eq!(view.running(), 1);
    assert_eq!(view.slots[2].state, TaskState::Ready);
}

#[test]
fn how_a_slot_ended_counts() {
    use TaskState::{Complete, Failed, Shutdown};
    let ended = |state| picture(1, None, vec![task(1, state, Shutdown, true, "")]);
    assert!(ended(Complete).ended_well());
    assert!(!ended(Failed).ended_well());
}

#[test]
fn a_gone_service_has_no_picture() {
    assert!(Picture::read(ServiceProgress::default()).unwrap().is_none());
}
