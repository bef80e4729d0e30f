//! What comes of specs and images.

use std::sync::Arc;

use container::spec::{Mount, MountSource, Propagation};
use types::container_spec::{self, MountKind};
use types::network::NetworkAttachmentSpec;
use types::task::Platform;
use types::{NodeId, ServiceId, TaskId, TaskSpec, TaskState, TaskStatus, Version};

use super::*;

/// Task 1 in slot 4 of the service `web` (2) on node 3.
pub(crate) fn task() -> Task {
    Task {
        id: TaskId::from_number(1),
        meta: types::Meta::default(),
        service_id: ServiceId::from_number(2),
        service_name: "web".to_owned(),
        slot: 4,
        node_id: Some(NodeId::from_number(3)),
        spec: Arc::new(TaskSpec::default()),
        spec_version: Version::default(),
        status: TaskStatus::default(),
        desired_state: TaskState::Running,
        attachments: vec![],
        host_ports: vec![],
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn image() -> ImageConfig {
    ImageConfig {
        cmd: texts(&["serve"]),
        ..ImageConfig::default()
    }
}

/// The plan of a task whose spec `change` has changed.
fn planned(image: &ImageConfig, change: impl FnOnce(&mut TaskSpec)) -> Result<Plan, String> {
    let mut task = task();
    change(Arc::make_mut(&mut task.spec));
    let platform = Platform {
        os: "linux".to_owned(),
        architecture: "x86_64".to_owned(),
    };
    let place = Place {
        hostname: "m1",
        platform: &platform,
    };
    plan(&task, place, image, vec!["/layer".into()]).map_err(|error| error.to_string())
}

#[test]
fn command_and_arguments_replace_those_of_the_image() {
    // Entrypoint and command of the image, command and arguments of the spec.
    type Case = (
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
        Option<&'static [&'static str]>,
    );
    let cases: [Case; 12] = [
        (&["/e"], &["c"], &[], &[], Some(&["/e", "c"])),
        (&["/e"], &[], &[], &[], Some(&["/e"])),
        (&[], &["c", "d"], &[], &[], Some(&["c", "d"])),
        (&["/e"], &["c"], &[], &["a"], Some(&["/e", "a"])),
        (&[], &["c"], &[], &["a"], Some(&["a"])),
        (&["/e"], &["c"], &["x"], &[], Some(&["x"])),
        (&["/e"], &["c"], &["x", "y"], &["a"], Some(&["x", "y", "a"])),
        (&[], &[], &["x"], &["a"], Some(&["x", "a"])),
        (&[""], &["c"], &[], &[], Some(&["c"])),
        (&[], &[], &[], &["a"], Some(&["a"])),
        (&[], &[], &[], &[], None),
        (&["/e"], &[], &[""], &[], None),
    ];
    for (entrypoint, cmd, command, args, expected) in cases {
        let image = ImageConfig {
            entrypoint: texts(entrypoint),
            cmd: texts(cmd),
            ..ImageConfig::default()
        };
        let plan = planned(&image, |spec| {
            spec.container.command = texts(command);
            spec.container.args = texts(args);
        });
        let expected = expected.map(texts).ok_or("no command specified".to_owned());
        let case = (entrypoint, cmd, command, args);
        assert_eq!(plan.map(|plan| plan.spec.args), expected, "{case:?}");
    }
}

#[test]
fn variables_of_the_spec_win() {
    for (of_image, asked, expected) in [
        (&["A=1", "B=2"][..], &[][..], Ok(&["A=1", "B=2"][..])),
        (&["A=1", "B=2"], &["B=3", "C=4"], Ok(&["A=1", "B=3", "C=4"])),
        (&["A=1", "B=2"], &["A"], Ok(&["A", "B=2"])),
        (&["AB=1"], &["A=2"], Ok(&["AB=1", "A=2"])),
        (&[], &["A=1", "A=2"], Ok(&["A=2"])),
        (&[], &["A=x=y", "B="], Ok(&["A=x=y", "B="])),
        (
            &[],
            &["N={{.Service.Name}}.{{.Task.Slot}}"],
            Ok(&["N=web.4"]),
        ),
        // Only values of the spec have placeholders.
        (
            &["I={{.Task.Slot}}"],
            &["{{.Task.Slot}}=1"],
            Ok(&["I={{.Task.Slot}}", "{{.Task.Slot}}=1"]),
        ),
        (
            &[],
            &["A={{.Foo}}"],
            Err("expanding env failed: unknown placeholder {{.Foo}}"),
        ),
        (&[], &["=x"], Err("invalid environment variable: \"=x\"")),
        (
            &[],
            &["A=\0"],
            Err("invalid environment variable: \"A=\\0\""),
        ),
    ] {
        let image = ImageConfig {
            env: texts(of_image),
            ..image()
        };
        let plan = planned(&image, |spec| spec.container.env = texts(asked));
        let expected = expected.map(texts).map_err(str::to_owned);
        assert_eq!(
            plan.map(|plan| plan.spec.env),
            expected,
            "{of_image:?} {asked:?}"
        );
    }
}

#[test]
fn the_image_fills_in_what_the_spec_leaves_open() {
    let image = ImageConfig {
        user: "www".to_owned(),
        working_dir: "/srv".to_owned(),
        stop_signal: "SIGQUIT".to_owned(),
        ..image()
    };
    let plan = planned(&image, |_| {}).unwrap();
    assert_eq!(plan.spec.layers, [PathBuf::from("/layer")]);
    assert_eq!(
        (plan.spec.user.as_str(), plan.spec.cwd.as_str()),
        ("www", "/srv")
    );
    assert_eq!(plan.stop_signal, 3);
    let plan = planned(&image, |spec| {
        spec.container.user = "7:8".to_owned();
        spec.container.groups = texts(&["9", "adm"]);
        spec.container.dir = "/tmp".to_owned();
        spec.container.stop_signal = "USR1".to_owned();
        spec.container.hostname = "h{{.Task.Slot}}".to_owned();
        spec.container.read_only = true;
        spec.container.capability_add = texts(&["CAP_NET_ADMIN"]);
        spec.container.capability_drop = texts(&["ALL"]);
    })
    .unwrap();
    assert_eq!(
        (plan.spec.user.as_str(), plan.spec.cwd.as_str()),
        ("7:8", "/tmp")
    );
    assert_eq!(plan.spec.additional_groups, ["9", "adm"]);
    assert_eq!(plan.stop_signal, 10);
    assert_eq!(plan.spec.hostname, "h4");
    assert!(plan.spec.readonly_rootfs);
    assert_eq!(plan.spec.capabilities.add, ["CAP_NET_ADMIN"]);
    assert_eq!(plan.spec.capabilities.drop, ["ALL"]);
}

#[test]
fn without_anyone_asking_there_are_defaults() {
    let plan = planned(&image(), |_| {}).unwrap();
    let default = ContainerSpec {
        layers: vec!["/layer".into()],
        args: texts(&["serve"]),
        ..ContainerSpec::default()
    };
    assert_eq!(plan.spec, default);
    assert_eq!(plan.stop_signal, 15);
    let image = ImageConfig {
        stop_signal: "NONSENSE".to_owned(),
        ..image()
    };
    assert_eq!(planned(&image, |_| {}).unwrap().stop_signal, 15);
}

#[test]
fn limits_become_resources() {
    let plan = planned(&image(), |spec| {
        spec.resources.limits = Limits {
            nano_cpus: 500_000_000,
            memory_bytes: 64 << 20,
            pids: 32,
        };
        // Reservations only count in the scheduler (S22.02).
        spec.resources.reservations.memory_bytes = 128 << 20;
    });
    let expected = Resources {
        cpu: Some(CpuQuota {
            quota_us: 50_000,
            period_us: 100_000,
        }),
        memory_bytes: Some(64 << 20),
        pids_max: Some(32),
        ..Resources::default()
    };
    assert_eq!(plan.unwrap().spec.resources, expected);
}

#[test]
fn ulimits_are_checked() {
    for (soft, hard, expected) in [
        (1024, 2048, Some((1024, 2048))),
        (-1, -1, Some((u64::MAX, u64::MAX))),
        (0, -1, Some((0, u64::MAX))),
        (-1, 5, None),
        (6, 5, None),
        (-2, 5, None),
    ] {
        let plan = planned(&image(), |spec| {
            spec.container.ulimits = vec![Ulimit {
                name: "nofile".to_owned(),
                soft,
                hard,
            }];
        });
        let limits = plan.map(|plan| (plan.spec.rlimits[0].soft, plan.spec.rlimits[0].hard));
        assert_eq!(limits.ok(), expected, "{soft}:{hard}");
    }
}

#[test]
fn networks_are_none_or_the_machines() {
    for (targets, expected) in [
        (&[][..], Ok(Network::Own)),
        (&["none"], Ok(Network::Own)),
        (&["host"], Ok(Network::Host)),
        (&["host", "host"], Ok(Network::Host)),
        (
            &["none", "host"],
            Err("conflicting networks: \"host\" goes with no other"),
        ),
        (&["back"], Err("network back not found")),
    ] {
        let plan = planned(&image(), |spec| {
            let attachments = targets.iter().map(|target| NetworkAttachmentSpec {
                target: (*target).to_owned(),
                aliases: vec![],
                driver_options: Default::default(),
            });
            spec.networks = attachments.collect();
        });
        let expected = expected.map_err(str::to_owned);
        assert_eq!(plan.map(|plan| plan.spec.network), expected, "{targets:?}");
    }
}

fn mount(kind: MountKind, source: &str, target: &str) -> container_spec::Mount {
    container_spec::Mount {
        kind,
        source: source.to_owned(),
        target: target.to_owned(),
        ..container_spec::Mount::default()
    }
}

#[test]
fn mounts_are_planned_in_order() {
    let plan = planned(&image(), |spec| {
        spec.container.mounts = vec![
            mount(MountKind::Bind, "/srv/{{.Task.Slot}}", "/data"),
            container_spec::Mount {
                read_only: true,
                tmpfs_size_bytes: 4096,
                tmpfs_mode: 0o700,
                ..mount(MountKind::Tmpfs, "", "/run/{{.Service.Name}}")
            },
            mount(MountKind::Tmpfs, "", "/tmp"),
        ];
    });
    let expected = [
        Mount {
            target: "/data".to_owned(),
            source: MountSource::Bind {
                path: "/srv/4".into(),
                propagation: Propagation::Private,
                recursive: true,
            },
            readonly: false,
        },
        Mount {
            target: "/run/web".to_owned(),
            source: MountSource::Tmpfs {
                size_bytes: Some(4096),
                mode: Some(0o700),
            },
            readonly: true,
        },
        Mount {
            target: "/tmp".to_owned(),
            source: MountSource::Tmpfs {
                size_bytes: None,
                mode: None,
            },
            readonly: false,
        },
    ];
    assert_eq!(plan.unwrap().spec.mounts, expected);
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    use MountKind::{Bind, Tmpfs};
    type Change = fn(&mut TaskSpec);
    let cases: [(Change, &str); 12] = [
        (
            |spec| spec.container.mounts = vec![mount(Bind, "", "/a")],
            "invalid mount config for type \"bind\": field Source must not be empty",
        ),
        (
            |spec| spec.container.mounts = vec![mount(Bind, "a", "/a")],
            "invalid mount config for type \"bind\": \
             invalid mount path: 'a' mount path must be absolute",
        ),
        (
            |spec| spec.container.mounts = vec![mount(Tmpfs, "", "")],
            "invalid mount config for type \"tmpfs\": field Target must not be empty",
        ),
        (
            |spec| spec.container.mounts = vec![mount(Tmpfs, "", "a")],
            "invalid mount config for type \"tmpfs\": \
             invalid mount path: 'a' mount path must be absolute",
        ),
        (
            |spec| spec.container.mounts = vec![mount(Tmpfs, "", "//")],
            "invalid mount config for type \"tmpfs\": \
             invalid specification: destination can't be '/'",
        ),
        (
            |spec| spec.container.mounts = vec![mount(Tmpfs, "/a", "/a")],
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
        (
            |spec| {
                spec.container.mounts = vec![mount(Tmpfs, "", "/a"), mount(Bind, "/b", "/a/")];
            },
            "duplicate mount point: /a/",
        ),
        (
            |spec| spec.container.mounts = vec![mount(Bind, "/{{.Nope}}", "/a")],
            "expanding mounts failed: unknown placeholder {{.Nope}}",
        ),
        (
            |spec| spec.container.hostname = "{{.Task".to_owned(),
            "expanding hostname failed: {{ without }} in \"{{.Task\"",
        ),
        (
            |spec| spec.container.dir = "srv".to_owned(),
            "the working directory 'srv' is invalid, it needs to be an absolute path",
        ),
        (
            |spec| spec.container.capability_add = texts(&["CAP_FLY"]),
            "invalid capability: \"CAP_FLY\"",
        ),
        (
            |spec| spec.container.stop_signal = "SIGNOPE".to_owned(),
            "invalid signal: SIGNOPE",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(planned(&image(), change), Err(expected.to_owned()));
    }
}

#[test]
fn bind_sources_have_to_exist() {
    let dir = tempfile::tempdir().unwrap();
    let bound = |path: PathBuf| Mount {
        target: "/a".to_owned(),
        source: MountSource::Bind {
            path,
            propagation: Propagation::Private,
            recursive: true,
        },
        readonly: false,
    };
    assert_eq!(check_sources(&[bound(dir.path().to_owned())]), Ok(()));
    let error = check_sources(&[bound("/nonexistent/a".into())]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid mount config for type \"bind\": bind source path does not exist: /nonexistent/a"
    );
}

#[test]
fn labels_tell_what_the_container_belongs_to() {
    let plan = planned(&image(), |spec| {
        let labels = [
            ("tier", "back"),
            ("com.docker.swarm.service.name", "forged"),
        ];
        spec.container.labels = labels
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    });
    let labels = plan.unwrap().labels;
    let task = TaskId::from_number(1);
    for (name, value) in [
        ("tier", "back".to_owned()),
        ("com.docker.swarm.task", String::new()),
        ("com.docker.swarm.task.id", task.to_string()),
        ("com.docker.swarm.task.name", format!("web.4.{task}")),
        (
            "com.docker.swarm.node.id",
            NodeId::from_number(3).to_string(),
        ),
        (
            "com.docker.swarm.service.id",
            ServiceId::from_number(2).to_string(),
        ),
        ("com.docker.swarm.service.name", "web".to_owned()),
    ] {
        assert_eq!(labels.get(name), Some(&value), "{name}");
    }
}
