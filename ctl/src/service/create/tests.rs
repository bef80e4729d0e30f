//! From flags to the spec of a new service.

use std::time::Duration;

use clap::Parser as _;
use types::container_spec::MountKind;
use types::task::RestartCondition;
use types::update::{FailureAction, UpdateOrder};

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    create: Create,
}

fn spec(flags: &[&str]) -> ServiceSpec {
    try_spec(flags).unwrap_or_else(|error| panic!("{flags:?}: {error}"))
}

/// The flags of a whole line, as a shell hands them over.
fn line(text: &str) -> ServiceSpec {
    let words = crate::parse::words::words(text).unwrap();
    spec(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn try_spec(flags: &[&str]) -> Result<ServiceSpec, String> {
    let line =
        Line::try_parse_from(["create"].iter().chain(flags)).map_err(|error| error.to_string())?;
    let own = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    line.create
        .into_spec(own)
        .map_err(|error| error.to_string())
}

#[test]
fn an_image_alone_leaves_every_default() {
    let mut expected = ServiceSpec::default();
    Arc::make_mut(&mut expected.task).container.image = "web:1".into();
    assert_eq!(spec(&["web:1"]), expected);
}

#[test]
fn everything_after_the_image_is_the_command() {
    let spec = spec(&[
        "--name", "web", "web:1", "sh", "-c", "echo hi", "--name", "x",
    ]);
    assert_eq!(spec.name, "web");
    assert_eq!(
        spec.task.container.args,
        ["sh", "-c", "echo hi", "--name", "x"]
    );
}

#[test]
fn flags_set_the_container() {
    let spec = line(
        "-e A=1 -e HOME -e NOPE --env A=2 --label owner=ops -l plain --container-label tier=web \
         --entrypoint \"sh -c 'exec x'\" --hostname h -u 1000:1000 -w /srv --read-only \
         --stop-signal SIGQUIT --stop-grace-period 1m30s --mount type=bind,src=/a,dst=/b,ro \
         --mount type=tmpfs,dst=/t,tmpfs-size=1m --ulimit nofile=10:20 --cap-add NET_ADMIN \
         --cap-drop ALL --group audio --network host --dns 10.0.0.53 --dns fd00::53 \
         --dns-search corp.example --dns-option ndots:2 --host db:10.0.0.5 web:1",
    );
    let container = &spec.task.container;
    assert_eq!(container.env, ["A=2", "HOME=/root"]);
    assert_eq!(spec.labels["owner"], "ops");
    assert_eq!(spec.labels["plain"], "");
    assert_eq!(container.labels["tier"], "web");
    assert_eq!(container.command, ["sh", "-c", "exec x"]);
    assert_eq!(
        (&*container.hostname, &*container.user, &*container.dir),
        ("h", "1000:1000", "/srv")
    );
    assert!(container.read_only);
    assert_eq!(container.stop_signal, "SIGQUIT");
    assert_eq!(container.stop_grace_period, Some(Duration::from_secs(90)));
    assert_eq!(container.mounts.len(), 2);
    assert_eq!(container.mounts[1].kind, MountKind::Tmpfs);
    assert_eq!(
        (container.ulimits[0].soft, container.ulimits[0].hard),
        (10, 20)
    );
    assert_eq!(container.capability_add, ["NET_ADMIN"]);
    assert_eq!(container.capability_drop, ["ALL"]);
    assert_eq!(container.groups, ["audio"]);
    let servers = container.dns.nameservers.iter().map(ToString::to_string);
    assert_eq!(servers.collect::<Vec<_>>(), ["10.0.0.53", "fd00::53"]);
    assert_eq!(container.dns.search, ["corp.example"]);
    assert_eq!(container.dns.options, ["ndots:2"]);
    assert_eq!(container.hosts[0].to_string(), "10.0.0.5 db");
    assert_eq!(spec.task.networks[0].target, "host");
}

#[test]
fn flags_set_numbers() {
    let spec = line(
        "--replicas 5 --replicas-max-per-node 2 --constraint node.role==worker \
         --placement-pref spread=node.labels.zone --limit-cpu 0.5 --limit-memory 64m \
         --limit-pids 100 --reserve-cpu 0.1 --reserve-memory 32M web:1",
    );
    assert_eq!(spec.mode, ServiceMode::Replicated { replicas: 5 });
    let task = &spec.task;
    assert_eq!(task.placement.max_replicas, 2);
    assert_eq!(task.placement.constraints, ["node.role==worker"]);
    assert_eq!(task.placement.preferences, ["node.labels.zone"]);
    let limits = task.resources.limits;
    assert_eq!(
        (limits.nano_cpus, limits.memory_bytes, limits.pids),
        (500_000_000, 64 << 20, 100)
    );
    let reserved = task.resources.reservations;
    assert_eq!(
        (reserved.nano_cpus, reserved.memory_bytes),
        (100_000_000, 32 << 20)
    );
}

#[test]
fn flags_set_the_pace() {
    let spec = line(
        "--restart-condition on-failure --restart-delay 0 --restart-max-attempts 3 \
         --restart-window 2m --update-parallelism 0 --update-delay 1s --update-monitor 0s \
         --update-failure-action rollback --update-max-failure-ratio 0.5 \
         --update-order start-first --rollback-parallelism 2 --rollback-delay 2s \
         --rollback-monitor 3s --rollback-failure-action continue \
         --rollback-max-failure-ratio 1 --rollback-order stop-first web:1",
    );
    let restart = &spec.task.restart_policy;
    assert_eq!(restart.condition, RestartCondition::OnFailure);
    assert_eq!((restart.delay, restart.max_attempts), (Duration::ZERO, 3));
    assert_eq!(restart.window, Duration::from_secs(120));
    let update = &spec.update_config;
    assert_eq!(
        (update.parallelism, update.delay),
        (0, Duration::from_secs(1))
    );
    assert_eq!(
        (update.monitor, update.max_failure_ratio),
        (Duration::ZERO, 0.5)
    );
    assert_eq!(update.failure_action, FailureAction::Rollback);
    assert_eq!(update.order, UpdateOrder::StartFirst);
    let rollback = &spec.rollback_config;
    assert_eq!(
        (rollback.parallelism, rollback.delay),
        (2, Duration::from_secs(2))
    );
    assert_eq!(
        (rollback.monitor, rollback.max_failure_ratio),
        (Duration::from_secs(3), 1.0)
    );
    assert_eq!(rollback.failure_action, FailureAction::Continue);
    assert_eq!(rollback.order, UpdateOrder::StopFirst);
}

#[test]
fn switches_take_a_value_or_none() {
    for (flags, read_only) in [
        (vec!["web"], false),
        (vec!["--read-only", "web"], true),
        (vec!["--read-only=true", "web"], true),
        (vec!["--read-only=false", "web"], false),
        (vec!["-d", "web"], false),
        (vec!["-d", "-q", "web"], false),
        (vec!["--detach", "web"], false),
        (vec!["--detach=false", "web"], false),
    ] {
        let spec = spec(&flags);
        assert_eq!(spec.task.container.read_only, read_only, "{flags:?}");
        assert_eq!(spec.task.container.image, "web", "{flags:?}");
    }
}

#[test]
fn files_of_variables_come_before_flags() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("env");
    std::fs::write(&path, "# settings\nA=1\nB=2\nHOME\n").unwrap();
    let spec = spec(&[
        "--env",
        "B=3",
        "--env-file",
        path.to_str().unwrap(),
        "web:1",
    ]);
    assert_eq!(spec.task.container.env, ["A=1", "B=3", "HOME=/root"]);
    let missing = try_spec(&["--env-file", "/nope/env", "web:1"]).unwrap_err();
    assert!(missing.starts_with("/nope/env: "), "{missing}");
}

#[test]
fn mistakes_are_told() {
    for (flags, words) in [
        (vec![], "required"),
        (vec!["--replicas", "-1", "web"], "it cannot be negative"),
        (vec!["--replicas", "x", "web"], "it must be a whole number"),
        (
            vec!["--mode", "global", "--replicas", "2", "web"],
            "can only be used with replicated mode",
        ),
        (
            vec!["--mode", "job", "web"],
            "possible values: replicated, global",
        ),
        (vec!["--limit-memory", "-1", "web"], "it must be a size"),
        (vec!["--limit-cpu", "-1", "web"], "it cannot be negative"),
        (
            vec!["--restart-delay", "-1s", "web"],
            "it cannot be negative",
        ),
        (
            vec!["--restart-delay", "5", "web"],
            "it must be a length of time",
        ),
        (
            vec!["--mount", "type=volume,dst=/a", "web"],
            "is not supported yet",
        ),
        (vec!["--ulimit", "nofile", "web"], "it must be NAME=SOFT"),
        (vec!["--label", "=x", "web"], "it must be KEY=VALUE"),
        (
            vec!["--placement-pref", "zone", "web"],
            "it must be spread=",
        ),
        (vec!["--entrypoint", "'x", "web"], "is not closed"),
        (vec!["-e", "=x", "web"], "must be NAME=value or NAME"),
        (vec!["--nope", "web"], "unexpected argument '--nope'"),
    ] {
        let problem = try_spec(&flags).unwrap_err();
        assert!(problem.contains(words), "{flags:?}: {problem}");
    }
}
