//! Limits of the container as a whole, by whichever cgroup version the machine has.

use crate::harness::{Host, in_time, skip};
use container::spec::{CpuQuota, Resources};
use container::{ContainerSpec, Step};

#[tokio::test]
async fn memory_limit_ends_in_an_exit_that_says_so() {
    let Some(host) = Host::new() else { return };
    let resources = Resources {
        memory_bytes: Some(16 << 20),
        memory_and_swap_bytes: Some(16 << 20),
        ..Resources::default()
    };
    // The whole input is one line, which has to be held.
    let script = "dd if=/dev/zero bs=1M count=64 2>/dev/null | tr '\\0' x | grep -c y";
    let eater = ContainerSpec {
        resources: resources.clone(),
        ..host.sh(&format!("exec sh -c \"{script}\"; exit $?"))
    };
    let run = host.run(&eater).await;
    assert!(run.status.oom_killed, "{run:?}");
    let fits = ContainerSpec {
        resources,
        ..host.sh("echo fine")
    };
    let run = host.run(&fits).await;
    assert_eq!((run.status.code, run.status.oom_killed), (0, false));
}

#[tokio::test]
async fn memory_limit_of_the_first_process_itself() {
    let Some(host) = Host::new() else { return };
    let resources = Resources {
        memory_bytes: Some(12 << 20),
        memory_and_swap_bytes: Some(12 << 20),
        ..Resources::default()
    };
    // A shell variable that doubles until it does not fit.
    let script = "x=0123456789; while :; do x=$x$x; done";
    let run = host
        .run(&ContainerSpec {
            resources,
            ..host.sh(script)
        })
        .await;
    assert_eq!(
        (run.status.code, run.status.signal),
        (137, Some(9)),
        "{run:?}"
    );
    assert!(run.status.oom_killed);
}

#[tokio::test]
async fn process_limit_holds() {
    let Some(host) = Host::new() else { return };
    let resources = Resources {
        pids_max: Some(5),
        ..Resources::default()
    };
    let script = "i=0; while [ $i -lt 20 ]; do sleep 30 & i=$((i+1)); done; echo unreached";
    let run = host
        .run(&ContainerSpec {
            resources,
            ..host.sh(script)
        })
        .await;
    assert!(
        run.stderr.contains("can't fork") || run.stderr.contains("Resource temporarily"),
        "{run:?}"
    );
    assert!(!run.stdout.contains("unreached"), "{run:?}");
}

#[tokio::test]
async fn limits_are_what_the_container_reads() {
    let Some(host) = Host::new() else { return };
    if !std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        skip("not cgroup version 1");
        return;
    }
    let resources = Resources {
        cpu: Some(CpuQuota::from_nano_cpus(500_000_000)),
        cpu_shares: Some(512),
        memory_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        pids_max: Some(50),
        ..Resources::default()
    };
    let script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares \
                  memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes pids/pids.max; \
                  echo 1 > pids/pids.max";
    let run = host
        .run(&ContainerSpec {
            resources,
            ..host.sh(script)
        })
        .await;
    let expected = format!("50000\n100000\n512\n{}\n{}\n50\n", 64 << 20, 32 << 20);
    assert_eq!(run.stdout, expected, "{run:?}");
    assert!(run.stderr.contains("Read-only file system"), "{run:?}");
}

#[tokio::test]
async fn absurd_limits_fail_before_anything_is_made() {
    let Some(host) = Host::new() else { return };
    let resources = Resources {
        memory_bytes: Some(1),
        ..Resources::default()
    };
    let spec = ContainerSpec {
        resources,
        ..host.sh("true")
    };
    let error = in_time(host.runtime.create("c", &spec)).await.unwrap_err();
    assert_eq!(
        error.fault().map(|fault| fault.step),
        Some(Step::Cgroup),
        "{error}"
    );
    assert!(host.cgroups("c").is_empty());
    assert!(!host.options.state_dir.join("c").exists());
}

#[tokio::test]
async fn memory_score_and_shm_size_are_set() {
    let Some(host) = Host::new() else { return };
    let spec = ContainerSpec {
        oom_score_adj: 321,
        shm_size_bytes: 1 << 20,
        ..host.sh("cat /proc/self/oom_score_adj; dd if=/dev/zero of=/dev/shm/x bs=1k count=2000 2>/dev/null; stat -c %s /dev/shm/x")
    };
    assert_eq!(host.run(&spec).await.stdout, "321\n1048576\n");
}
