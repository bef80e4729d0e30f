//! What a task finds inside its container.

use types::TaskState;
use types::container_spec::{Mount, MountKind, Ulimit};
use types::network::NetworkAttachmentSpec;

use crate::machine::{Machine, output, run, sh, with};

#[tokio::test]
async fn environment_user_and_directory_are_as_asked() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let task = with(
        sh(
            1,
            "echo $FROM_IMAGE $GREETING $NAME; hostname; id -u; id -G; pwd; echo $PATH",
        ),
        |spec| {
            let container = &mut spec.container;
            container.env = vec![
                "GREETING=hello".to_owned(),
                "NAME={{.Service.Name}}/{{.Task.Slot}}@{{.Node.Hostname}}".to_owned(),
            ];
            container.hostname = "web{{.Task.Slot}}".to_owned();
            container.user = "web".to_owned();
            container.groups = vec!["www".to_owned()];
            container.dir = "/srv/app".to_owned();
        },
    );
    let expected = "1 hello web/4@m1\nweb4\n1000\n1001 33\n/srv/app\n\
                    /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(output(&machine, task).await, expected);
}

#[tokio::test]
async fn the_hostname_defaults_to_the_id() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let task = sh(u128::MAX, "hostname; echo $HOSTNAME");
    let short = task.id.to_string()[..12].to_owned();
    assert_eq!(output(&machine, task).await, format!("{short}\n{short}"));
}

#[tokio::test]
async fn mounts_are_there() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let shared = machine.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("in"), "from the machine\n").unwrap();
    let bind = |target: &str, read_only| Mount {
        source: shared.to_str().unwrap().to_owned(),
        target: target.to_owned(),
        read_only,
        ..Mount::default()
    };
    let script = "cat /data/in; echo hi > /data/out; touch /fixed/x 2>/dev/null || echo refused
        touch /x 2>/dev/null || echo read-only; echo y > /scratch/y; cat /scratch/y
        stat -f -c %T /scratch; stat -c %a /scratch";
    let task = with(sh(1, script), |spec| {
        spec.container.read_only = true;
        spec.container.mounts = vec![
            bind("/data", false),
            bind("/fixed", true),
            Mount {
                kind: MountKind::Tmpfs,
                target: "/scratch".to_owned(),
                tmpfs_size_bytes: 1 << 20,
                tmpfs_mode: 0o750,
                ..Mount::default()
            },
        ];
    });
    let expected = "from the machine\nrefused\nread-only\ny\ntmpfs\n750";
    assert_eq!(output(&machine, task).await, expected);
    assert_eq!(std::fs::read_to_string(shared.join("out")).unwrap(), "hi\n");
}

#[tokio::test]
async fn networks_are_none_or_the_machines() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let script = "ls -l /proc/self/ns/net | grep -o 'net:.*'; ls /sys/class/net";
    let host = with(sh(1, script), |spec| {
        spec.networks = vec![NetworkAttachmentSpec {
            target: "host".to_owned(),
            aliases: vec![],
            driver_options: Default::default(),
        }];
    });
    let seen = output(&machine, host).await;
    assert_eq!(seen.lines().next(), own.to_str());
    let seen = output(&machine, sh(2, script)).await;
    assert_ne!(seen.lines().next(), own.to_str());
    assert_eq!(seen.lines().skip(1).collect::<Vec<_>>(), ["lo"]);
}

#[tokio::test]
async fn capabilities_and_ulimits_are_as_asked() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let script = "grep CapEff /proc/self/status; ulimit -n; ulimit -Hn";
    let task = with(sh(1, script), |spec| {
        spec.container.capability_drop = vec!["ALL".to_owned()];
        spec.container.capability_add = vec!["CAP_CHOWN".to_owned()];
        spec.container.ulimits = vec![Ulimit {
            name: "nofile".to_owned(),
            soft: 64,
            hard: 128,
        }];
    });
    assert_eq!(
        output(&machine, task).await,
        "CapEff:\t0000000000000001\n64\n128"
    );
}

#[tokio::test]
async fn memory_is_limited() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let task = with(sh(1, "exec tail /dev/zero"), |spec| {
        spec.resources.limits.memory_bytes = 16 << 20;
    });
    let (status, _) = run(&machine, task).await;
    assert_eq!(status.state, TaskState::Failed);
    assert_eq!(status.err, "task: non-zero exit (137): out of memory");
    let container = status.container_status.unwrap();
    assert_eq!(
        (container.exit_code, container.oom_killed),
        (Some(137), true)
    );
}

#[tokio::test]
async fn processes_are_limited() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let script = "for i in $(seq 20); do sleep 1000 & done; echo all";
    let task = with(sh(1, script), |spec| spec.resources.limits.pids = 8);
    let (status, lines) = run(&machine, task).await;
    assert_eq!(status.state, TaskState::Failed, "{lines:?}");
    let unlimited = sh(2, &format!("{script}; kill %1"));
    assert_eq!(output(&machine, unlimited).await, "all");
}
