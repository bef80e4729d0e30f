//! The same bundle run by this runtime, crun and runc: what can be seen from inside has to agree.

use crate::harness::{Host, make_image, skip};
use container::ContainerSpec;
use container::spec::{CpuQuota, Resources, Rlimit, Seccomp};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// What is looked at, one `== name` section each. What is left out is what crun does otherwise than
/// runc and this runtime: it makes `/dev/core` also where the kernel has no `/proc/kcore`, and leaves
/// the tmpfs on `/sys/fs/cgroup` writable.
const SCRIPT: &str = r#"
section() { echo "== $1"; }
section identity; grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; id
section limits; sed 's/  */ /g' /proc/self/limits
section environment; env | grep -v ^_= | sort; pwd; hostname; umask; cat /proc/self/oom_score_adj
section namespaces; for n in cgroup ipc mnt net pid user uts; do
  [ "$(readlink /proc/self/ns/$n)" = "$(eval echo \$OUTSIDE_$n)" ] && echo "$n shared" || echo "$n own"; done
section devices; for d in /dev/*; do [ $d = /dev/core ] && continue; stat -c '%n %F %a %t:%T' $d; [ -L $d ] && readlink $d; done
section mounts; sed 's/^[0-9]* [0-9]* [^ ]* \([^ ]*\) \([^ ]*\) \([^ ]*\) .*- \([^ ]*\) [^ ]* .*/\2 \4 \3/' /proc/self/mountinfo \
  | grep -E '^/(proc|dev|dev/pts|dev/shm|dev/mqueue|sys|tmp|data) ' | sort
section masked; for p in /proc/acpi /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /sys/firmware /proc/scsi; do
  if [ -d $p ]; then echo "$p $(ls -A $p | grep -c .) entries"; elif [ -e $p ]; then echo "$p $(head -c 10 $p | grep -c .) lines"; else echo "$p none"; fi; done
section readonly; for p in /proc/sys/kernel/panic /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm /etc/passwd /data/file; do
  if [ -d $p ]; then touch $p/x 2>&1 | sed 's/.*: //'; elif [ -e $p ]; then (: >> $p) 2>&1 | sed 's/.*: //'; else echo none; fi; done
section cgroups; cut -d: -f2,3 /proc/self/cgroup | grep -E '^(memory|pids|cpu|cpuacct|devices|freezer)' | sort
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.shares
section network; ls /sys/class/net; cat /sys/class/net/lo/operstate
section descriptors; ls /proc/1/fd # no pipe: the shell would hold its ends meanwhile
section process; cut -d' ' -f1,4,5,6 /proc/1/stat; grep ^SigBlk /proc/1/status
"#;

const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

#[tokio::test]
async fn crun_and_runc_agree() {
    let Some(host) = Host::new() else { return };
    if !Path::new("/sys/fs/cgroup/memory").exists() {
        skip("the comparison is written for cgroup version 1");
        return;
    }
    let data = host.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "").unwrap();
    for (name, user, nnp, readonly) in [
        ("root", "0:0", false, false),
        ("user", "1000:1001", true, true),
    ] {
        let mut spec = host.sh(SCRIPT);
        spec.env = NAMESPACES
            .iter()
            .map(|kind| {
                let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
                format!("OUTSIDE_{kind}={}", own.display())
            })
            .collect();
        spec.env
            .extend(["PATH=/bin".into(), "HOME=/h".into(), "HOSTNAME=diff".into()]);
        spec = ContainerSpec {
            cwd: "/tmp".into(),
            user: user.into(),
            hostname: "diff".into(),
            no_new_privileges: nnp,
            readonly_rootfs: readonly,
            seccomp: Seccomp::Unconfined,
            oom_score_adj: 100,
            rlimits: vec![Rlimit {
                name: "nofile".into(),
                soft: 512,
                hard: 1024,
            }],
            mounts: mounts(&data),
            resources: Resources {
                cpu: Some(CpuQuota {
                    quota_us: 50_000,
                    period_us: 100_000,
                }),
                cpu_shares: Some(512),
                memory_bytes: Some(64 << 20),
                pids_max: Some(64),
                ..Resources::default()
            },
            ..spec
        };
        let ours = host.run(&spec).await;
        assert_eq!(ours.status.code, 0, "{ours:?}");
        let ours = sections(&ours.stdout);
        for runtime in ["crun", "runc"] {
            let Some(theirs) = run_with(&host, runtime, name, &spec, &data) else {
                continue;
            };
            let theirs = sections(&theirs);
            for ((section, ours), (_, theirs)) in ours.iter().zip(&theirs) {
                assert_eq!(
                    ours, theirs,
                    "{section} of {name} by us (left) and {runtime} (right)"
                );
            }
            assert_eq!(ours.len(), theirs.len());
        }
    }
}

fn mounts(data: &Path) -> Vec<container::spec::Mount> {
    use container::spec::{Mount, MountSource, Propagation};
    let tmp = MountSource::Tmpfs {
        size_bytes: Some(1 << 20),
        mode: Some(0o1777),
    };
    let bind = MountSource::Bind {
        path: data.to_owned(),
        propagation: Propagation::Private,
        recursive: true,
    };
    vec![
        Mount {
            target: "/tmp".into(),
            source: tmp,
            readonly: false,
        },
        Mount {
            target: "/data".into(),
            source: bind,
            readonly: true,
        },
    ]
}

/// Runs the bundle with another runtime; `None`, having said why, where there is none.
fn run_with(
    host: &Host,
    runtime: &str,
    name: &str,
    spec: &ContainerSpec,
    data: &Path,
) -> Option<String> {
    if Command::new(runtime).arg("--version").output().is_err() {
        skip(&format!("{runtime} not installed"));
        return None;
    }
    let bundle = host.dir.path().join(format!("{runtime}-{name}"));
    make_image(&bundle.join("rootfs"));
    let id = format!("swarm-diff-{}-{runtime}-{name}", std::process::id());
    let config = serde_json::to_vec(&oci_config(&id, spec, data)).unwrap();
    std::fs::write(bundle.join("config.json"), config).unwrap();
    // crun 1.8 refuses a version 2 hierarchy beside version 1, so it is not shown any.
    let script = "mount --make-rprivate / && { umount /sys/fs/cgroup/unified 2>/dev/null || true; } \
                  && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", runtime, "run", "--bundle"])
        .arg(&bundle)
        .arg(&id)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let removed = Command::new(runtime)
        .args(["delete", "--force", &id])
        .output()
        .unwrap();
    drop(removed);
    assert!(
        output.status.success(),
        "{runtime}: {}",
        text(&output.stderr)
    );
    Some(text(&output.stdout))
}

fn oci_config(id: &str, spec: &ContainerSpec, data: &Path) -> Value {
    let caps: Vec<String> = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
    .iter()
    .map(|name| format!("CAP_{name}"))
    .collect();
    let is_root = spec.user.starts_with("0:");
    let (uid, gid) = if is_root { (0, 0) } else { (1000, 1001) };
    let held = if is_root { json!(caps) } else { json!([]) };
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": uid, "gid": gid, "umask": 18, "additionalGids": [gid] },
            "args": spec.args,
            "env": spec.env,
            "cwd": spec.cwd,
            "capabilities": { "bounding": caps, "effective": held, "permitted": held },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024 }],
            "noNewPrivileges": spec.no_new_privileges,
            "oomScoreAdj": spec.oom_score_adj,
        },
        "root": { "path": "rootfs", "readonly": spec.readonly_rootfs },
        "hostname": spec.hostname,
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
            mount("/tmp", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=1m"]),
            { "destination": "/data", "type": "bind", "source": data, "options": ["rbind", "ro", "rprivate"] },
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": { "limit": 64 << 20 },
                "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 },
                "pids": { "limit": 64 },
            },
            "namespaces": namespaces,
            "maskedPaths": spec.masked_paths,
            "readonlyPaths": spec.readonly_paths,
        },
    })
}

/// The sections of the script's output, by name.
fn sections(output: &str) -> Vec<(String, Vec<String>)> {
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in output.lines() {
        match (line.strip_prefix("== "), sections.last_mut()) {
            (Some(name), _) => sections.push((name.to_owned(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => panic!("output before the first section: {line}"),
        }
    }
    sections
}
