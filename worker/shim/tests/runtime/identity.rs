//! Who a container runs as, and what it is allowed to do.

use crate::harness::Host;
use container::spec::{CapabilityChanges, Rlimit, Seccomp};
use container::{ContainerSpec, Step};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| String::from(*name)).collect()
}

/// The value of a field of `/proc/self/status`, as printed by a container.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {status}"))[name.len()..].trim()
}

#[tokio::test]
async fn user_and_groups_come_from_the_image() {
    let Some(host) = Host::new() else { return };
    for (user, additional, expected) in [
        (
            "",
            &[][..],
            "uid=0(root) gid=0(root) groups=0(root)\n/root\n",
        ),
        (
            "web",
            &[],
            "uid=1000(web) gid=1001(web) groups=33(www),1001(web)\n/srv\n",
        ),
        (
            "1000",
            &[],
            "uid=1000(web) gid=1001(web) groups=33(www),1001(web)\n/srv\n",
        ),
        (
            "web:www",
            &[],
            "uid=1000(web) gid=33(www) groups=33(www)\n/srv\n",
        ),
        (
            "4242:77",
            &["www"],
            "uid=4242 gid=77 groups=33(www),77\n/\n",
        ),
    ] {
        let spec = ContainerSpec {
            user: user.into(),
            additional_groups: names(additional),
            ..host.sh("id; echo $HOME")
        };
        let run = host.run(&spec).await;
        assert_eq!(run.stdout, expected, "{user}");
    }
    let spec = ContainerSpec {
        user: "nobody".into(),
        ..host.sh("id")
    };
    let error = host.try_run(&spec).await.unwrap_err();
    assert_eq!(
        error.fault().map(|fault| fault.step),
        Some(Step::User),
        "{error}"
    );
    assert!(
        host.runtime.list().unwrap().is_empty(),
        "a failure leaves nothing"
    );
}

#[tokio::test]
async fn capabilities_filter_and_privileges_are_as_asked() {
    let Some(host) = Host::new() else { return };
    let status = "cat /proc/self/status";
    let run = host.run(&host.sh(status)).await;
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(&run.stdout, set), "00000000a80425fb", "{set}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(field(&run.stdout, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&run.stdout, "NoNewPrivs:"), "0");
    assert_eq!(field(&run.stdout, "Seccomp:"), "2");

    let changed = ContainerSpec {
        capabilities: CapabilityChanges {
            add: names(&["NET_ADMIN"]),
            drop: names(&["ALL"]),
        },
        no_new_privileges: true,
        seccomp: Seccomp::Unconfined,
        ..host.sh(status)
    };
    let run = host.run(&changed).await;
    assert_eq!(field(&run.stdout, "CapEff:"), "0000000000001000");
    assert_eq!(field(&run.stdout, "CapBnd:"), "0000000000001000");
    assert_eq!(field(&run.stdout, "NoNewPrivs:"), "1");
    assert_eq!(field(&run.stdout, "Seccomp:"), "0");

    let user = ContainerSpec {
        user: "web".into(),
        ..host.sh(status)
    };
    let run = host.run(&user).await;
    assert_eq!(field(&run.stdout, "CapPrm:"), "0000000000000000");
    assert_eq!(field(&run.stdout, "CapEff:"), "0000000000000000");
    assert_eq!(field(&run.stdout, "CapBnd:"), "00000000a80425fb");
}

#[tokio::test]
async fn filter_refuses_what_the_capabilities_do_not_cover() {
    let Some(host) = Host::new() else { return };
    // Mounting takes CAP_SYS_ADMIN; making a file system root takes CAP_SYS_CHROOT, which is there.
    let script = "mount -t tmpfs none /bin && echo mounted; mknod /n c 1 3 && echo made; \
                  sethostname 2>/dev/null; hostname other && echo renamed; cat /proc/self/uid_map";
    let run = host.run(&host.sh(script)).await;
    assert!(
        !run.stdout.contains("mounted") && !run.stdout.contains("renamed"),
        "{run:?}"
    );
    assert!(run.stdout.contains("made"), "{run:?}");
    let admin = ContainerSpec {
        capabilities: CapabilityChanges {
            add: names(&["SYS_ADMIN"]),
            drop: Vec::new(),
        },
        ..host.sh("mkdir /x && mount -t tmpfs none /x && echo mounted; hostname other && hostname")
    };
    let run = host.run(&admin).await;
    assert_eq!(run.stdout, "mounted\nother\n", "{run:?}");
}

#[tokio::test]
async fn devices_outside_the_list_cannot_be_opened() {
    let Some(host) = Host::new() else { return };
    // The memory device; a node of it may be made, but not opened, even with every capability.
    let spec = ContainerSpec {
        capabilities: CapabilityChanges {
            add: names(&["ALL"]),
            drop: Vec::new(),
        },
        ..host.sh(
            "mknod /mem c 1 1 && echo made; head -c 1 /mem && echo read; \
                   head -c 1 /dev/zero >/dev/null && echo zero",
        )
    };
    let run = host.run(&spec).await;
    assert_eq!(run.stdout, "made\nzero\n", "{run:?}");
    assert!(run.stderr.contains("Operation not permitted"), "{run:?}");
}

#[tokio::test]
async fn process_limits_are_set_and_unknown_ones_refused() {
    let Some(host) = Host::new() else { return };
    let limit = |name: &str, soft, hard| Rlimit {
        name: name.into(),
        soft,
        hard,
    };
    let spec = ContainerSpec {
        rlimits: vec![limit("nofile", 100, 200), limit("CORE", 0, u64::MAX)],
        ..host.sh("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc")
    };
    assert_eq!(host.run(&spec).await.stdout, "100\n200\n0\nunlimited\n");
    for bad in [limit("speed", 1, 1), limit("nofile", 2, 1)] {
        let spec = ContainerSpec {
            rlimits: vec![bad],
            ..host.sh("true")
        };
        let error = host.try_run(&spec).await.unwrap_err();
        assert_eq!(
            error.fault().map(|fault| fault.step),
            Some(Step::Rlimit),
            "{error}"
        );
    }
}

#[tokio::test]
async fn environment_directory_and_name() {
    let Some(host) = Host::new() else { return };
    let spec = ContainerSpec {
        env: names(&["A=1", "A=2", "B=x y"]),
        cwd: "/made/for/it".into(),
        hostname: "box".into(),
        ..host.sh("env | sort; pwd; hostname; cat /etc/hostname; grep box /etc/hosts")
    };
    let run = host.run(&spec).await;
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = format!(
        "A=2\nB=x y\nHOME=/root\nHOSTNAME=box\nPATH={path}\nPWD=/made/for/it\nSHLVL=1\n\
         /made/for/it\nbox\nbox\n127.0.0.1\tbox\n"
    );
    assert_eq!(run.stdout, expected);
}
