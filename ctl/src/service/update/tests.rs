//! From flags to the change of a stored spec.

use clap::Parser as _;
use types::container_spec::MountKind;
use types::service::ServiceMode;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    update: Update,
}

fn stored() -> ServiceSpec {
    let mut spec = ServiceSpec {
        name: "web".into(),
        ..ServiceSpec::default()
    };
    spec.labels.insert("owner".into(), "ops".into());
    let task = Arc::make_mut(&mut spec.task);
    task.placement.constraints = vec!["node.role==worker".into()];
    let container = &mut task.container;
    container.image = "web:1".into();
    container.args = vec!["serve".into()];
    container.env = vec!["A=1".into(), "B=2".into()];
    container.mounts = vec![mount("type=bind,src=/a,dst=/b").unwrap()];
    container.ulimits = vec![ulimit("nofile=5").unwrap()];
    container.capability_drop = vec!["CAP_NET_RAW".into()];
    spec
}

fn update(flags: &[&str]) -> ServiceSpec {
    let mut spec = stored();
    try_update(&mut spec, flags).unwrap_or_else(|error| panic!("{flags:?}: {error}"));
    spec
}

fn try_update(spec: &mut ServiceSpec, flags: &[&str]) -> Result<(), String> {
    let line = Line::try_parse_from(["update"].iter().chain(flags).chain(&["web"]))
        .map_err(|error| error.to_string())?;
    assert_eq!(line.update.service, "web");
    line.update.apply(spec).map_err(|error| error.to_string())
}

#[test]
fn nothing_named_changes_nothing() {
    assert_eq!(update(&[]), stored());
    assert_eq!(update(&["--detach"]), stored());
}

#[test]
fn single_values_are_replaced() {
    let spec = update(&[
        "--image",
        "web:2",
        "--args",
        "serve --loud",
        "--replicas",
        "4",
    ]);
    assert_eq!(spec.task.container.image, "web:2");
    assert_eq!(spec.task.container.args, ["serve", "--loud"]);
    assert_eq!(spec.mode, ServiceMode::Replicated { replicas: 4 });
    assert_eq!(update(&["--force"]).task.force_update, 1);
    assert!(update(&["--args", ""]).task.container.args.is_empty());
}

#[test]
fn lists_lose_and_gain() {
    let spec = update(&[
        "--env-rm",
        "A",
        "--env-add",
        "B=3",
        "--env-add",
        "C=4",
        "--label-rm",
        "owner",
        "--label-add",
        "zone=a",
        "--label-rm",
        "nope",
        "--container-label-add",
        "x=y",
        "--constraint-rm",
        "node.role==worker",
        "--constraint-add",
        "node.role==manager",
        "--placement-pref-add",
        "spread=node.labels.zone",
        "--mount-rm",
        "/b",
        "--mount-add",
        "type=tmpfs,dst=/t",
        "--ulimit-add",
        "nofile=9",
        "--ulimit-add",
        "nproc=7",
        "--group-add",
        "audio",
        "--network-add",
        "host",
    ]);
    let task = &spec.task;
    assert_eq!(task.container.env, ["B=3", "C=4"]);
    assert_eq!(spec.labels.len(), 1);
    assert_eq!(spec.labels["zone"], "a");
    assert_eq!(task.container.labels["x"], "y");
    assert_eq!(task.placement.constraints, ["node.role==manager"]);
    assert_eq!(task.placement.preferences, ["node.labels.zone"]);
    assert_eq!(task.container.mounts.len(), 1);
    assert_eq!(task.container.mounts[0].kind, MountKind::Tmpfs);
    let limits: Vec<_> = task
        .container
        .ulimits
        .iter()
        .map(|u| (&*u.name, u.soft))
        .collect();
    assert_eq!(limits, [("nofile", 9), ("nproc", 7)]);
    assert_eq!(task.container.groups, ["audio"]);
    assert_eq!(task.networks[0].target, "host");
}

#[test]
fn names_come_and_go() {
    let mut spec = update(&[
        "--dns-add",
        "10.0.0.53",
        "--dns-search-add",
        "a.example",
        "--dns-option-add",
        "ndots:2",
        "--host-add",
        "db:10.0.0.5",
        "--host-add",
        "db:fd00::5",
    ]);
    let container = |spec: &ServiceSpec| spec.task.container.clone();
    assert_eq!(container(&spec).dns.nameservers.len(), 1);
    assert_eq!(container(&spec).dns.search, ["a.example"]);
    let changes = [
        "--dns-rm",
        "10.0.0.53",
        "--dns-add",
        "10.0.0.54",
        "--dns-search-rm",
        "a.example",
        "--dns-option-rm",
        "ndots:2",
        "--host-rm",
        "db:10.0.0.5",
    ];
    try_update(&mut spec, &changes).unwrap();
    let container = container(&spec);
    assert_eq!(container.dns.nameservers[0].to_string(), "10.0.0.54");
    assert!(container.dns.search.is_empty() && container.dns.options.is_empty());
    assert_eq!(container.hosts.len(), 1);
    assert_eq!(container.hosts[0].to_string(), "fd00::5 db");
}

#[test]
fn a_mount_at_the_same_target_takes_its_place() {
    let spec = update(&["--mount-add", "type=bind,src=/new,dst=/b"]);
    let sources: Vec<_> = spec
        .task
        .container
        .mounts
        .iter()
        .map(|m| &*m.source)
        .collect();
    assert_eq!(sources, ["/new"]);
}

#[test]
fn capabilities_cancel_out() {
    let change = |flags: &[&str]| {
        let container = update(flags).task.container.clone();
        (container.capability_add, container.capability_drop)
    };
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (flags, added, dropped) in [
        (vec!["--cap-add", "net_raw"], vec![], vec![]),
        (
            vec!["--cap-add", "SYS_TIME"],
            vec!["CAP_SYS_TIME"],
            vec!["CAP_NET_RAW"],
        ),
        (
            vec!["--cap-drop", "CHOWN"],
            vec![],
            vec!["CAP_NET_RAW", "CAP_CHOWN"],
        ),
        (vec!["--cap-drop", "RESET"], vec![], vec![]),
        (
            vec!["--cap-add", "RESET", "--cap-add", "ALL"],
            vec!["ALL"],
            vec![],
        ),
    ] {
        assert_eq!(
            change(&flags),
            (owned(&added), owned(&dropped)),
            "{flags:?}"
        );
    }
}

#[test]
fn mistakes_are_told() {
    let mut global = ServiceSpec {
        mode: ServiceMode::Global {},
        ..stored()
    };
    for (flags, words) in [
        (
            vec!["--replicas", "2"],
            "can only be used with replicated mode",
        ),
        (vec!["--args", "'x"], "invalid value \"'x\" for --args"),
        (vec!["--rollback", "--image", "x"], "cannot be used with"),
        (vec!["--mount-add", "dst=/a"], "type is required"),
    ] {
        let problem = try_update(&mut global, &flags).unwrap_err();
        assert!(problem.contains(words), "{flags:?}: {problem}");
    }
}
