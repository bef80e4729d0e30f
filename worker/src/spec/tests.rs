//! Tables over the container made of a task, its image and its node.

use std::sync::Arc;

use types::container_spec::{self, ContainerSpec as Own};
use types::task::{NetworkAttachmentSpec, ResourceRequirements};
use types::{NodeId, ServiceId, Task, TaskId, TaskSpec, TaskStatus, Version};

use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn image() -> ImageConfig {
    ImageConfig {
        env: strings(&["PATH=/bin", "MODE=image"]),
        entrypoint: strings(&["/entry"]),
        cmd: strings(&["serve"]),
        working_dir: "/srv".to_owned(),
        user: "web".to_owned(),
        stop_signal: "SIGINT".to_owned(),
        ..ImageConfig::default()
    }
}

fn task(spec: TaskSpec) -> Task {
    Task {
        id: TaskId::from_number(u128::MAX),
        meta: types::Meta::default(),
        service_id: ServiceId::from_number(1),
        service_name: "web".to_owned(),
        slot: 3,
        node_id: Some(NodeId::from_number(2)),
        spec: Arc::new(spec),
        spec_version: Version::default(),
        status: TaskStatus::default(),
        desired_state: types::TaskState::Running,
    }
}

fn built(spec: TaskSpec) -> Result<ContainerSpec, Error> {
    let task = task(spec);
    let names = Names {
        task: &task,
        node: None,
        hostname: "host",
    };
    build(&names, &image(), vec!["/layer".into()])
}

fn of(own: Own) -> Result<ContainerSpec, Error> {
    built(TaskSpec {
        container: own,
        ..TaskSpec::default()
    })
}

#[test]
fn arguments_follow_dockers_rule() {
    let table: [(&[&str], &[&str], &[&str]); 4] = [
        (&[], &[], &["/entry", "serve"]),
        (&[], &["x"], &["/entry", "x"]),
        (&["/own"], &[], &["/own"]),
        (&["/own"], &["x"], &["/own", "x"]),
    ];
    for (command, args, expected) in table {
        let own = Own {
            command: strings(command),
            args: strings(args),
            ..Own::default()
        };
        assert_eq!(of(own).unwrap().args, expected, "{command:?} {args:?}");
    }
    let task = task(TaskSpec::default());
    let names = Names {
        task: &task,
        node: None,
        hostname: "host",
    };
    let nothing = build(&names, &ImageConfig::default(), vec![]);
    assert_eq!(nothing.unwrap_err(), Error::NoCommand);
}

#[test]
fn own_settings_win_over_the_images() {
    let plain = of(Own::default()).unwrap();
    assert_eq!((plain.cwd.as_str(), plain.user.as_str()), ("/srv", "web"));
    assert_eq!(plain.env, ["PATH=/bin", "MODE=image"]);
    assert_eq!(plain.hostname, task(TaskSpec::default()).id.as_str()[..12]);
    assert!(plain.no_new_privileges && plain.network == Network::Own);
    assert_eq!(
        plain.resources,
        Resources::default(),
        "no limit unless asked for"
    );

    let own = Own {
        env: strings(&[
            "MODE=own",
            "SLOT={{.Task.Slot}}",
            "PATH",
            "NAME={{ .Service.Name }}",
        ]),
        hostname: "{{.Service.Name}}-{{.Task.Slot}}.{{.Node.Hostname}}".to_owned(),
        dir: "/own".to_owned(),
        user: "0".to_owned(),
        ..Own::default()
    };
    let own = of(own).unwrap();
    assert_eq!(own.env, ["MODE=own", "SLOT=3", "NAME=web"]);
    assert_eq!(own.hostname, "web-3.host");
    assert_eq!((own.cwd.as_str(), own.user.as_str()), ("/own", "0"));
}

#[test]
fn placeholders_that_mean_nothing_are_refused() {
    for (text, why) in [
        ("A={{.Nope}}", "env: unknown placeholder {{.Nope}}"),
        (
            "A={{.Task.ID",
            "env: a placeholder in \"A={{.Task.ID\" has no end",
        ),
    ] {
        let own = Own {
            env: strings(&[text]),
            ..Own::default()
        };
        assert_eq!(of(own).unwrap_err().to_string(), why);
    }
}

#[test]
fn signals_come_from_the_spec_then_the_image() {
    for (own, image, expected) in [
        ("", "", Ok(15)),
        ("", "SIGINT", Ok(2)),
        ("9", "SIGINT", Ok(9)),
        ("what", "", Err(Error::StopSignal("what".to_owned()))),
    ] {
        assert_eq!(stop_signal(own, image), expected);
    }
    let own = Own {
        stop_signal: "SIGWHAT".to_owned(),
        ..Own::default()
    };
    assert!(
        of(own).is_err(),
        "said when the container is made, not when it is to stop"
    );
}

#[test]
fn networks_are_none_or_host_so_far() {
    let on = |targets: &[&str]| {
        let networks = targets
            .iter()
            .map(|t| NetworkAttachmentSpec {
                target: (*t).to_owned(),
            })
            .collect();
        built(TaskSpec {
            networks,
            ..TaskSpec::default()
        })
    };
    assert_eq!(on(&["none"]).unwrap().network, Network::Own);
    let host = on(&["host"]).unwrap();
    assert_eq!((host.network, host.hostname.as_str()), (Network::Host, ""));
    assert_eq!(
        on(&["front"]).unwrap_err(),
        Error::UnknownNetwork("front".to_owned())
    );
    assert_eq!(
        on(&["none", "host"]).unwrap_err(),
        Error::NetworkConflict("host".to_owned())
    );
}

#[test]
fn limits_and_mounts_are_translated() {
    let mounts = vec![
        container_spec::Mount {
            kind: MountKind::Bind,
            source: "/data".to_owned(),
            target: "/in".to_owned(),
            read_only: true,
            ..Default::default()
        },
        container_spec::Mount {
            kind: MountKind::Tmpfs,
            target: "/tmp".to_owned(),
            tmpfs_size_bytes: 1024,
            tmpfs_mode: 0o700,
            ..Default::default()
        },
    ];
    let ulimits = vec![Ulimit {
        name: "nofile".to_owned(),
        soft: 10,
        hard: -1,
    }];
    let container = Own {
        mounts,
        ulimits,
        ..Own::default()
    };
    let limits = Limits {
        nano_cpus: 500_000_000,
        memory_bytes: 64 << 20,
        pids: 7,
    };
    let resources = ResourceRequirements {
        limits,
        ..Default::default()
    };
    let spec = built(TaskSpec {
        container,
        resources,
        ..TaskSpec::default()
    })
    .unwrap();
    assert_eq!(
        spec.resources.cpu,
        Some(CpuQuota {
            quota_us: 50_000,
            period_us: 100_000
        })
    );
    assert_eq!(
        (spec.resources.memory_bytes, spec.resources.pids_max),
        (Some(64 << 20), Some(7))
    );
    assert_eq!((spec.rlimits[0].soft, spec.rlimits[0].hard), (10, u64::MAX));
    assert!(spec.mounts[0].readonly);
    let tmpfs = MountSource::Tmpfs {
        size_bytes: Some(1024),
        mode: Some(0o700),
    };
    assert_eq!(spec.mounts[1].source, tmpfs);
}

#[test]
fn mounts_that_make_no_sense_are_refused() {
    for (kind, source, target) in [
        (MountKind::Bind, "data", "/in"),
        (MountKind::Bind, "/data", "in"),
        (MountKind::Tmpfs, "/data", "/in"),
        (MountKind::Tmpfs, "", "in"),
    ] {
        let mount = container_spec::Mount {
            kind,
            source: source.to_owned(),
            target: target.to_owned(),
            ..Default::default()
        };
        let refused = of(Own {
            mounts: vec![mount],
            ..Own::default()
        });
        assert!(
            matches!(refused, Err(Error::Mount { .. })),
            "{kind:?} {source} {target}"
        );
    }
}
