//! Images and volumes that try to reach the machine. Each has been a hole in some runtime.

use crate::harness::{Host, in_time, until};
use container::spec::{CapabilityChanges, Mount, MountSource, Propagation};
use container::{ContainerSpec, Step};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A layer over the image with links in it.
fn layer(host: &Host, name: &str, links: &[(&str, &str)]) -> Vec<PathBuf> {
    let layer = host.dir.path().join(name);
    for (path, target) in links {
        let path = layer.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
    vec![layer, host.image.clone()]
}

#[tokio::test]
async fn image_whose_kernel_directories_are_links_is_refused() {
    let Some(host) = Host::new() else { return };
    let outside = host.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("../../../../../../..{}", outside.display());
    for (index, name) in ["proc", "dev", "sys"].into_iter().enumerate() {
        for (kind, target) in [
            "/etc",
            outside.to_str().unwrap(),
            up.as_str(),
            "/proc/1/root",
        ]
        .into_iter()
        .enumerate()
        {
            let layers = layer(&host, &format!("layer-{index}-{kind}"), &[(name, target)]);
            let error = host
                .try_run(&ContainerSpec {
                    layers,
                    ..host.sh("true")
                })
                .await
                .unwrap_err();
            let fault = error.fault().expect("a fault");
            assert_eq!(fault.step, Step::Mount, "{error}");
            assert!(fault.reason.contains("symbolic link"), "{error}");
        }
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn links_in_the_image_lead_nowhere_but_into_it() {
    let Some(host) = Host::new() else { return };
    let outside = host.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("../../../../../../..{}", outside.display());
    let before = std::fs::read_to_string("/etc/hosts").unwrap();
    let layers = layer(
        &host,
        "links",
        &[
            ("data", &up),
            ("work", outside.to_str().unwrap()),
            ("etc/hosts", "../../../../../../../../etc/hosts-elsewhere"),
            ("etc/resolv.conf", "/run/deep/resolv.conf"),
            ("etc/hostname", "/proc/1/root/tmp/hostname"),
        ],
    );
    let source = MountSource::Tmpfs {
        size_bytes: None,
        mode: None,
    };
    let spec = ContainerSpec {
        layers,
        cwd: "/work/made".into(),
        mounts: vec![Mount { target: "/data/made".into(), source, readonly: false }],
        hostname: "caught".into(),
        ..host.sh("pwd; cat /etc/hosts-elsewhere | grep -c caught; cat /run/deep/resolv.conf >/dev/null && echo read; cat /tmp/hostname")
    };
    // `etc/hostname` goes by way of another process's root: only text to this runtime.
    let run = host.run(&spec).await;
    assert!(
        run.stdout.contains(&format!("{}/made", outside.display())),
        "{run:?}"
    );
    assert!(run.stdout.ends_with("1\nread\ncaught\n"), "{run:?}");
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing was made outside"
    );
    assert_eq!(std::fs::read_to_string("/etc/hosts").unwrap(), before);
    assert!(!Path::new("/etc/hosts-elsewhere").exists());
}

#[tokio::test]
async fn working_directory_by_way_of_a_descriptor_stays_inside() {
    let Some(host) = Host::new() else { return };
    for number in 3..40 {
        let cwd = format!("/proc/self/fd/{number}");
        let spec = ContainerSpec {
            cwd,
            ..host.sh("pwd; cat ../../../etc/shadow")
        };
        match host.try_run(&spec).await {
            Err(error) => {
                let step = error.fault().map(|fault| fault.step);
                assert!(matches!(step, Some(Step::Cwd)), "{error}");
            }
            // The text of the link, taken for a path, leads to a directory of the container.
            Ok(run) => {
                assert!(
                    run.stdout.starts_with('/') && run.stdout.lines().count() == 1,
                    "{run:?}"
                );
                assert!(run.stderr.contains("can't open"), "{run:?}");
            }
        }
    }
}

#[tokio::test]
async fn runtime_cannot_be_overwritten_from_within() {
    let Some(host) = Host::new() else { return };
    // A script whose interpreter is the runtime's own program, as CVE-2019-5736 had it. Before the
    // program runs, process 1 is a copy of the shim.
    std::fs::write(host.image.join("bin/evil"), "#!/proc/self/exe\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(host.image.join("bin/evil"), mode).unwrap();
    let spec = ContainerSpec {
        init: true,
        capabilities: CapabilityChanges {
            add: vec!["ALL".into()],
            drop: Vec::new(),
        },
        ..host.sh(
            "readlink /proc/1/exe; (echo x > /proc/1/exe) 2>&1; head -c 4 /proc/1/exe | tail -c 3",
        )
    };
    let run = host.run(&spec).await;
    assert!(
        run.stdout.starts_with("/memfd:swarm-shim (deleted)\n"),
        "{run:?}"
    );
    let refused = [
        "Text file busy",
        "Operation not permitted",
        "Permission denied",
    ];
    assert!(
        refused.iter().any(|words| run.stdout.contains(words)),
        "{run:?}"
    );
    assert!(run.stdout.ends_with("ELF\n"), "{run:?}");
    let run = host.try_run(&host.command(&["evil"])).await;
    // Whatever the kernel makes of it, the next container runs the same shim.
    drop(run);
    assert_eq!(host.run(&host.sh("echo fine")).await.stdout, "fine\n");
}

#[tokio::test]
async fn masked_file_shows_nothing_even_if_the_image_brings_its_own_null() {
    let Some(host) = Host::new() else { return };
    let layer = host.dir.path().join("null");
    std::fs::create_dir_all(layer.join("dev")).unwrap();
    std::fs::write(layer.join("dev/null"), "not null").unwrap();
    let layers = vec![layer, host.image.clone()];
    let spec = ContainerSpec {
        layers,
        ..host.sh("cat /proc/keys /dev/null; stat -c '%F %t:%T' /proc/keys")
    };
    let run = host.run(&spec).await;
    assert_eq!(run.stdout, "character special file 1:3\n", "{run:?}");
}

#[tokio::test]
async fn user_files_that_are_no_files_or_never_end_are_refused() {
    let Some(host) = Host::new() else { return };
    for (index, target) in ["/dev/zero", "/dev/stdin", "/proc/self/exe"]
        .into_iter()
        .enumerate()
    {
        let layers = layer(&host, &format!("passwd-{index}"), &[("etc/passwd", target)]);
        let spec = ContainerSpec {
            layers,
            user: "web".into(),
            ..host.sh("id")
        };
        let error = host.try_run(&spec).await.unwrap_err();
        assert_eq!(
            error.fault().map(|fault| fault.step),
            Some(Step::User),
            "{error}"
        );
    }
}

/// A volume in which a directory and a link change places all the time (CVE-2021-30465): whichever
/// is found, what is made for a mount below it is made inside.
#[tokio::test]
async fn racing_links_in_a_shared_volume_stay_inside() {
    let Some(host) = Host::new() else { return };
    let volume = host.dir.path().join("volume");
    let outside = host.dir.path().join("outside");
    std::fs::create_dir_all(volume.join("a")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, volume.join("b")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let racer = std::thread::spawn({
        let (volume, stop) = (volume.clone(), Arc::clone(&stop));
        move || {
            let mut turns = 0u64;
            while !stop.load(Ordering::Relaxed) {
                // Three renames exchange the two.
                for (from, to) in [("a", "t"), ("b", "a"), ("t", "b")] {
                    let _ = std::fs::rename(volume.join(from), volume.join(to));
                }
                turns += 1;
            }
            turns
        }
    });
    let bind = |target: &str| Mount {
        target: target.into(),
        source: MountSource::Bind {
            path: volume.clone(),
            propagation: Propagation::Private,
            recursive: true,
        },
        readonly: false,
    };
    let source = MountSource::Tmpfs {
        size_bytes: None,
        mode: None,
    };
    let below = Mount {
        target: "/volume/a/below".into(),
        source,
        readonly: false,
    };
    let spec = ContainerSpec {
        mounts: vec![bind("/volume"), below],
        ..host.sh("true")
    };
    for _ in 0..30 {
        // It may fail where it loses a race; it may not reach out.
        let _ = host.try_run(&spec).await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(racer.join().unwrap() > 100, "the race was run");
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing was made outside"
    );
    assert!(!host.has_mounts());
}

#[tokio::test]
async fn crowd_that_keeps_forking_is_gone_when_its_container_is() {
    let Some(host) = Host::new() else { return };
    let script = "i=0; while [ $i -lt 30 ]; do \
                  (trap '' TERM HUP INT; while :; do sleep 0.01 & wait; done) & \
                  i=$((i+1)); done; sleep 1000";
    let container = host.start("crowd", &host.sh(script)).await;
    let dir = host
        .cgroups("crowd")
        .into_iter()
        .find(|dir| dir.join("cgroup.procs").exists());
    let procs = dir.expect("a cgroup").join("cgroup.procs");
    let count = || std::fs::read_to_string(&procs).map_or(0, |text| text.lines().count());
    until("a crowd", || count() > 30).await;
    in_time(container.remove()).await.unwrap();
    assert!(host.cgroups("crowd").is_empty());
}
