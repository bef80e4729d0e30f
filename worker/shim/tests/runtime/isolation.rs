//! What a container sees: its own namespaces and file system, and of the machine only what was asked.

use crate::harness::{Host, in_time};
use container::Step;
use container::spec::{ContainerSpec, Dns, HostEntry, Mount, MountSource, Network, Propagation};
use std::path::Path;

fn bind(source: &Path, target: &str, readonly: bool) -> Mount {
    let path = source.to_owned();
    let source = MountSource::Bind {
        path,
        propagation: Propagation::Private,
        recursive: true,
    };
    Mount {
        target: target.into(),
        source,
        readonly,
    }
}

fn tmpfs(target: &str, size_bytes: Option<u64>, mode: Option<u32>) -> Mount {
    let source = MountSource::Tmpfs { size_bytes, mode };
    Mount {
        target: target.into(),
        source,
        readonly: false,
    }
}

#[tokio::test]
async fn namespaces_are_the_containers_own() {
    let Some(host) = Host::new() else { return };
    let kinds = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];
    let script = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; \
                  cat /proc/self/cgroup | sed 's/.*://' | sort -u; echo $$; ps | grep -c sh";
    let run = host.run(&host.sh(script)).await;
    let lines: Vec<_> = run.stdout.lines().collect();
    for (kind, inside) in kinds.iter().zip(&lines) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(outside.to_str(), Some(*inside), "{kind}");
    }
    assert_eq!(
        lines[6..8],
        ["/", "1"],
        "its cgroups look like roots, and it is process 1"
    );
    let shared = ContainerSpec {
        network: Network::Host,
        ..host.sh(script)
    };
    let run = host.run(&shared).await;
    let outside = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(run.stdout.lines().nth(2), outside.to_str());
}

#[tokio::test]
async fn signals_start_out_as_a_program_expects() {
    let Some(host) = Host::new() else { return };
    // Not a shell, which ignores some by itself.
    let run = host
        .run(&host.command(&["grep", "^Sig[BIC]", "/proc/self/status"]))
        .await;
    let zeros = "0000000000000000";
    let expected = format!("SigBlk:\t{zeros}\nSigIgn:\t{zeros}\nSigCgt:\t{zeros}\n");
    assert_eq!(run.stdout, expected);
}

#[tokio::test]
async fn network_of_another_process_can_be_joined() {
    let Some(host) = Host::new() else { return };
    let first = host.start("first", &host.command(&["sleep", "1000"])).await;
    let namespace = format!("/proc/{}/ns/net", first.pid());
    let expected = std::fs::read_link(&namespace).unwrap();
    let network = Network::Join(namespace.into());
    let run = host
        .run(&ContainerSpec {
            network,
            ..host.sh("readlink /proc/self/ns/net")
        })
        .await;
    assert_eq!(run.stdout.trim(), expected.to_str().unwrap());
    let network = Network::Join("/nonexistent".into());
    let error = host
        .try_run(&ContainerSpec {
            network,
            ..host.sh("true")
        })
        .await
        .unwrap_err();
    assert_eq!(
        error.fault().map(|fault| fault.step),
        Some(Step::Network),
        "{error}"
    );
    in_time(first.remove()).await.unwrap();
}

#[tokio::test]
async fn own_network_has_a_working_loopback() {
    let Some(host) = Host::new() else { return };
    let run = host
        .run(&host.sh("cat /sys/class/net/lo/operstate; ls /sys/class/net"))
        .await;
    assert_eq!(
        run.stdout, "unknown\nlo\n",
        "an interface without carrier detection that is up"
    );
}

#[tokio::test]
async fn writes_go_to_a_layer_of_the_containers_own() {
    let Some(host) = Host::new() else { return };
    let top = host.dir.path().join("top");
    std::fs::create_dir_all(top.join("etc")).unwrap();
    std::fs::write(top.join("etc/motd"), "top").unwrap();
    std::fs::write(host.image.join("etc/motd"), "bottom").unwrap();
    let spec = ContainerSpec {
        layers: vec![top.clone(), host.image.clone()],
        ..host.sh("cat /etc/motd; echo changed > /etc/motd; rm /etc/group; cat /etc/motd")
    };
    assert_eq!(host.run(&spec).await.stdout, "topchanged\n");
    assert_eq!(
        std::fs::read_to_string(top.join("etc/motd")).unwrap(),
        "top"
    );
    assert!(host.image.join("etc/group").exists());
    let missing = ContainerSpec {
        layers: vec!["/nonexistent".into()],
        ..host.sh("true")
    };
    let error = host.try_run(&missing).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}

#[tokio::test]
async fn readonly_root_leaves_mounts_writable() {
    let Some(host) = Host::new() else { return };
    let spec = ContainerSpec {
        readonly_rootfs: true,
        mounts: vec![tmpfs("/scratch", None, None)],
        ..host.sh("touch /x; touch /etc/x; touch /scratch/x && touch /dev/shm/x && echo ok")
    };
    let run = host.run(&spec).await;
    assert_eq!(run.stdout, "ok\n", "{run:?}");
    assert_eq!(
        run.stderr.matches("Read-only file system").count(),
        2,
        "{run:?}"
    );
}

#[tokio::test]
async fn tmpfs_and_binds() {
    let Some(host) = Host::new() else { return };
    let shared = host.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "of the machine").unwrap();
    let spec = ContainerSpec {
        mounts: vec![
            bind(&shared, "/data/deep", false),
            tmpfs("/data", Some(1 << 20), Some(0o750)),
            bind(&shared, "/fixed", true),
            bind(&shared.join("file"), "/etc/one", true),
        ],
        ..host.sh(
            "stat -c %a /data; df -k /data | tail -n 1 | sed 's/ \\+/ /g' | grep -o '^[^ ]* [0-9]*'; \
             cat /data/deep/file; echo; echo new > /data/deep/new; cat /etc/one; echo; \
             touch /fixed/x; touch /etc/one; grep -E ' /(data|fixed) ' /proc/self/mountinfo \
             | sed 's/.* \\(\\/[a-z]*\\) \\([^ ]*\\) .*/\\1 \\2/'",
        )
    };
    let run = host.run(&spec).await;
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(
        lines[..4],
        ["750", "tmpfs 1024", "of the machine", "of the machine"],
        "{run:?}"
    );
    assert!(
        lines[4..].contains(&"/data rw,nosuid,nodev,noexec,relatime"),
        "{run:?}"
    );
    assert!(
        lines[4..].iter().any(|line| line.starts_with("/fixed ro,")),
        "{run:?}"
    );
    assert_eq!(
        run.stderr.matches("Read-only file system").count(),
        2,
        "{run:?}"
    );
    assert_eq!(
        std::fs::read_to_string(shared.join("new")).unwrap(),
        "new\n"
    );
    assert!(!shared.join("x").exists());
    for (mount, words) in [
        (bind(Path::new("/nonexistent"), "/x", false), "/nonexistent"),
        (bind(Path::new("relative"), "/x", false), "absolute"),
        (tmpfs("/proc/x", None, None), "/proc"),
        (tmpfs("/", None, None), "root directory"),
        (tmpfs("/bin/sh/x", None, None), "Not a directory"),
    ] {
        let spec = ContainerSpec {
            mounts: vec![mount],
            ..host.sh("true")
        };
        let error = host.try_run(&spec).await.unwrap_err();
        assert_eq!(
            error.fault().map(|fault| fault.step),
            Some(Step::Mount),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn readonly_bind_covers_what_is_mounted_below() {
    let Some(host) = Host::new() else { return };
    // A container with a tmpfs is a convenient place with something mounted below it.
    let lender = host
        .start(
            "lender",
            &ContainerSpec {
                mounts: vec![tmpfs("/srv/below", None, None)],
                ..host.command(&["sleep", "1000"])
            },
        )
        .await;
    let source = format!("/proc/{}/root/srv", lender.pid());
    for (recursive, expected) in [(true, "Read-only"), (false, "")] {
        let mut mount = bind(Path::new(&source), "/lent", true);
        mount.source = MountSource::Bind {
            path: source.clone().into(),
            propagation: Propagation::Private,
            recursive,
        };
        let spec = ContainerSpec {
            mounts: vec![mount],
            ..host.sh("touch /lent/below/x; true")
        };
        match host.try_run(&spec).await {
            Ok(run) if recursive => assert!(run.stderr.contains(expected), "{run:?}"),
            // Without what is mounted below, the directory is the layer's, read-only as well.
            Ok(run) => assert!(run.stderr.contains("Read-only"), "{run:?}"),
            // Kernels that only clone mounts of the own namespace say so plainly.
            Err(error) => {
                assert_eq!(
                    error.fault().map(|fault| fault.step),
                    Some(Step::Mount),
                    "{error}"
                );
            }
        }
    }
    in_time(lender.remove()).await.unwrap();
}

#[tokio::test]
async fn kernel_paths_are_masked_or_readonly() {
    let Some(host) = Host::new() else { return };
    let script = "for p in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do \
                  [ -e $p ] && head -c 1 $p; done; ls -A /sys/firmware /proc/acpi 2>/dev/null \
                  | grep -v :; for p in /proc/sys/vm/swappiness /proc/sysrq-trigger \
                  /sys/kernel/mm/ksm/run; do [ -e $p ] && (echo 1 > $p) 2>&1; done; true";
    let run = host.run(&host.sh(script)).await;
    let refused = run.stdout.matches("Read-only file system").count();
    assert!(refused >= 1, "{run:?}");
    assert_eq!(
        run.stdout.trim().lines().count(),
        refused,
        "nothing else is to be seen: {run:?}"
    );
    // With every capability it is still so.
    let spec = ContainerSpec {
        capabilities: container::spec::CapabilityChanges {
            add: vec!["ALL".into()],
            drop: Vec::new(),
        },
        ..host.sh("echo 1 > /proc/sys/vm/swappiness")
    };
    assert!(host.run(&spec).await.stderr.contains("Read-only"));
}

#[tokio::test]
async fn own_kernel_parameters_can_be_set() {
    let Some(host) = Host::new() else { return };
    let mut spec = host.sh("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni");
    spec.sysctls
        .insert("net.core.somaxconn".into(), "77".into());
    spec.sysctls.insert("kernel.shmmni".into(), "88".into());
    assert_eq!(host.run(&spec).await.stdout, "77\n88\n");
    let mut spec = host.sh("true");
    spec.sysctls
        .insert("kernel.core_pattern".into(), "|/evil".into());
    let error = host.try_run(&spec).await.unwrap_err();
    assert_eq!(
        error.fault().map(|fault| fault.step),
        Some(Step::Sysctl),
        "{error}"
    );
}

#[tokio::test]
async fn names_are_resolved_as_asked() {
    let Some(host) = Host::new() else { return };
    let spec = ContainerSpec {
        hostname: "me".into(),
        extra_hosts: vec![HostEntry {
            address: "10.1.2.3".parse().unwrap(),
            names: vec!["db".into()],
        }],
        dns: Some(Dns {
            nameservers: vec!["127.0.0.11".parse().unwrap()],
            search: Vec::new(),
            options: vec!["ndots:0".into()],
        }),
        ..host.sh("tail -n 2 /etc/hosts; cat /etc/resolv.conf; echo x >> /etc/hosts && echo ok")
    };
    let run = host.run(&spec).await;
    let expected = "127.0.0.1\tme\n10.1.2.3\tdb\nnameserver 127.0.0.11\noptions ndots:0\nok\n";
    assert_eq!(run.stdout, expected);
    let machine = ContainerSpec {
        network: Network::Host,
        ..host.sh("cat /etc/hosts; hostname")
    };
    let run = host.run(&machine).await;
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(run.stdout.trim_end(), format!("{hosts}{name}").trim_end());
}

#[tokio::test]
async fn nothing_of_the_machine_is_open_in_the_container() {
    let Some(host) = Host::new() else { return };
    let run = host
        .run(&host.sh("for f in /proc/1/fd/*; do readlink $f; done; readlink /proc/1/exe"))
        .await;
    for line in run.stdout.lines() {
        let is_own = line == "/dev/null" || line.starts_with("pipe:") || line == "/bin/busybox";
        assert!(is_own, "{line} in {run:?}");
    }
    assert_eq!(run.stdout.lines().count(), 4, "{run:?}");
    let run = host.run(&host.sh("cat /proc/self/mountinfo")).await;
    assert!(!run.stdout.contains(" /old"), "{run:?}");
    assert!(
        run.stdout.lines().all(|line| !line.contains("shared:")),
        "{run:?}"
    );
}
