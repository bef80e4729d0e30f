//! Lists of tasks as people see them.

use std::sync::Arc;

use types::{
    ContainerSpec, Meta, NodeId, ServiceId, Task, TaskId, TaskSpec, TaskState, TaskStatus,
    Timestamp, Version,
};

use super::*;
use crate::format::list;

fn task(number: u128, slot: u64, created: u64, state: TaskState, desired: TaskState) -> Task {
    let at = Timestamp::from_secs(created);
    let container = ContainerSpec {
        image: "web:1@sha256:00".into(),
        ..ContainerSpec::default()
    };
    Task {
        id: TaskId::from_number(number << 70),
        meta: Meta {
            version: Version { index: created },
            created_at: at,
            updated_at: at,
        },
        service_id: ServiceId::from_number(1),
        service_name: "web".into(),
        slot,
        node_id: (state >= TaskState::Assigned).then(|| NodeId::from_number(1 + number % 2)),
        spec: Arc::new(TaskSpec {
            container,
            ..TaskSpec::default()
        }),
        spec_version: Version::default(),
        status: TaskStatus {
            state,
            timestamp: at,
            ..TaskStatus::default()
        },
        desired_state: desired,
        attachments: vec![],
        host_ports: vec![],
    }
}

fn options(no_trunc: bool, format: Option<&str>) -> TaskListOptions {
    TaskListOptions {
        filters: vec![],
        format: format.map(|format| format.parse().unwrap()),
        no_resolve: false,
        no_trunc,
        quiet: false,
    }
}

fn tasks() -> Vec<Task> {
    let mut failed = task(1, 2, 100, TaskState::Failed, TaskState::Shutdown);
    failed.status.err = "task: non-zero exit (137): the kernel ran out of memory".into();
    let mut waiting = task(4, 10, 140, TaskState::Pending, TaskState::Running);
    waiting.status.err = "no suitable node (x)".into();
    vec![
        waiting,
        failed,
        task(2, 2, 110, TaskState::Running, TaskState::Running),
        task(3, 1, 120, TaskState::Running, TaskState::Running),
    ]
}

fn nodes() -> Nodes {
    Nodes(BTreeMap::from([(
        NodeId::from_number(1),
        "alpha".to_owned(),
    )]))
}

fn show(options: &TaskListOptions) -> String {
    let filters = Filters::new(&options.filters, &["id", "name", "node", "desired-state"]).unwrap();
    let rows = options.rows(tasks(), &nodes(), &filters, Timestamp::from_secs(160));
    list(&COLUMNS, rows, options.format.as_ref(), options.quiet).unwrap()
}

#[test]
fn slots_show_their_newest_task_first() {
    let shown = show(&options(false, None));
    // The ids of the tests are alike at their end only.
    let id = |number: u128| truncate(TaskId::from_number(number << 70).as_str(), 12);
    let expected = [
        "ID             NAME        IMAGE     NODE                        DESIRED STATE   \
         CURRENT STATE               ERROR                              PORTS"
            .to_owned(),
        format!(
            "{}   web.1       web:1     0000000000000000000000002   Running         Running 40 \
             seconds ago",
            id(3)
        ),
        format!(
            "{}   web.2       web:1     alpha                       Running         Running 50 \
             seconds ago",
            id(2)
        ),
        format!(
            "{}    \\_ web.2   web:1     0000000000000000000000002   Shutdown        Failed about a \
             minute ago   \"task: non-zero exit (137): th…\"",
            id(1)
        ),
        format!(
            "{}   web.10      web:1                                 Running         Pending 20 \
             seconds ago      \"no suitable node (x)\"",
            id(4)
        ),
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn nothing_is_cut_when_asked() {
    let shown = show(&options(true, None));
    assert!(shown.contains("web:1@sha256:00"), "{shown}");
    assert!(shown.contains("the kernel ran out of memory"), "{shown}");
    assert!(
        shown.contains(TaskId::from_number(1 << 70).as_str()),
        "{shown}"
    );
}

#[test]
fn templates_get_plain_names() {
    let shown = show(&options(false, Some("{{.Name}} {{.CurrentState}}")));
    assert_eq!(
        shown,
        "web.1 Running 40 seconds ago\nweb.2 Running 50 seconds ago\nweb.2 Failed about a minute \
         ago\nweb.10 Pending 20 seconds ago\n"
    );
}

#[test]
fn filters_choose() {
    for (filter, expected) in [
        ("desired-state=running", "web.1 web.2 web.10 "),
        ("desired-state=shutdown", "web.2 "),
        ("name=web.1", "web.1 web.10 "),
        ("node=alpha", "web.2 "),
        ("id=zz", ""),
    ] {
        let mut options = options(false, Some("{{.Name}}"));
        options.filters = vec![filter.parse().unwrap()];
        assert_eq!(show(&options).replace('\n', " "), expected, "{filter}");
    }
}
