//! The same containers where the machine's cgroups look different: version 2 alone, and hidden as
//! under `ip netns exec`. Each test runs itself again in a mount namespace made to look so.

use crate::harness::{Host, in_time, is_inside};
use container::spec::{CapabilityChanges, Resources};
use container::{ContainerSpec, Step};
use std::process::Command;

#[tokio::test]
async fn version_2_alone() {
    let mounts = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup";
    if !is_inside("cgroups::version_2_alone", mounts) {
        return;
    }
    let Some(host) = Host::new() else { return };
    let all = CapabilityChanges {
        add: vec!["ALL".into()],
        drop: Vec::new(),
    };
    let script = "cat /proc/self/cgroup | grep ^0: ; grep -c . /sys/fs/cgroup/cgroup.procs; \
                  mknod /mem c 1 1 && echo made; head -c 1 /mem || echo refused; \
                  head -c 1 /dev/zero > /dev/null && echo zero; \
                  echo 1 > /sys/fs/cgroup/cgroup.freeze || echo fixed; exit 3";
    let run = host
        .run(&ContainerSpec {
            capabilities: all,
            ..host.sh(script)
        })
        .await;
    assert_eq!(run.status.code, 3);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[0], "0::/", "{run:?}");
    assert_eq!(lines[2..], ["made", "refused", "zero", "fixed"], "{run:?}");

    // Born in its cgroup, and killed through it.
    let container = host.start("c", &host.sh("sleep 1000 & sleep 1000")).await;
    let cgroup = host.cgroups("c").pop().expect("a cgroup");
    let procs = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    assert!(
        procs.lines().any(|pid| pid == container.pid().to_string()),
        "{procs}"
    );
    let state: container::state::State =
        container::state::read(&host.options.state_dir.join("c"), "state.json")
            .unwrap()
            .unwrap();
    let shim = state.shim.pid.to_string();
    assert!(
        Command::new("kill")
            .args(["-9", &shim])
            .status()
            .unwrap()
            .success()
    );
    let status = in_time(container.wait()).await.unwrap();
    assert_eq!(status.error.map(|fault| fault.step), Some(Step::ShimDied));
    assert!(host.cgroups("c").is_empty());
    in_time(container.remove()).await.unwrap();

    // A limit that the machine's version 2 has no controller for is refused, not forgotten.
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let resources = Resources {
        pids_max: Some(10),
        ..Resources::default()
    };
    let limited = ContainerSpec {
        resources,
        ..host.sh("cat /sys/fs/cgroup/pids.max")
    };
    if controllers.contains("pids") {
        assert_eq!(host.run(&limited).await.stdout, "10\n");
    } else {
        let error = host.try_run(&limited).await.unwrap_err();
        assert_eq!(
            error.fault().map(|fault| fault.step),
            Some(Step::Cgroup),
            "{error}"
        );
    }
}

#[tokio::test]
async fn hidden_hierarchies() {
    // What `ip netns exec` does to /sys.
    let mounts = "umount -l /sys && mount -t sysfs sysfs /sys && [ ! -e /sys/fs/cgroup/memory ]";
    if !is_inside("cgroups::hidden_hierarchies", mounts) {
        return;
    }
    let Some(host) = Host::new() else { return };
    let script = "ls /sys/fs/cgroup; sed 's/.*://' /proc/self/cgroup | sort -u; exit 3";
    let run = host.run(&host.sh(script)).await;
    assert_eq!(run.status.code, 3, "{run:?}");
    assert!(run.stdout.ends_with("/\n"), "{run:?}");
    assert!(
        run.stdout.contains("memory") || run.stdout.contains("cgroup.procs"),
        "{run:?}"
    );
    let resources = Resources {
        memory_bytes: Some(12 << 20),
        memory_and_swap_bytes: Some(12 << 20),
        ..Resources::default()
    };
    let script = "x=0123456789; while :; do x=$x$x; done";
    let run = host
        .run(&ContainerSpec {
            resources,
            ..host.sh(script)
        })
        .await;
    assert!(run.status.oom_killed, "{run:?}");
    let container = host.start("c", &host.command(&["sleep", "1000"])).await;
    in_time(container.remove()).await.unwrap();
}
