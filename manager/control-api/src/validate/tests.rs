//! Tables of what specs may and may not hold.

use std::sync::Arc;

use types::ServiceSpec;
use types::container_spec::{HostAlias, Mount, MountKind, Ulimit};
use types::network::NetworkAttachmentSpec;
use types::service::ServiceMode;

use super::*;
use crate::testing::spec;

/// Names what goes in and what comes out: empty for valid.
fn table(check: impl Fn(&str) -> Checked, rows: &[(&str, &str)]) {
    for (given, words) in rows {
        match check(given) {
            Ok(()) => assert_eq!(*words, "", "{given:?} should be refused"),
            Err(invalid) => {
                let text = invalid.to_string();
                assert!(
                    !words.is_empty() && text.contains(words),
                    "{given:?}: {text}"
                );
                assert!(text.starts_with("F: "), "{text}");
            }
        }
    }
}

#[test]
fn names() {
    let dns = "must be valid as a DNS name component";
    let long = "a".repeat(64);
    table(
        |text| name("F", text),
        &[
            ("web", ""),
            ("Web-1_x", ""),
            ("a--b", ""),
            ("7", ""),
            (&"a".repeat(63), ""),
            ("", "name must be provided"),
            ("-web", dns),
            ("web-", dns),
            ("web.de", dns),
            ("we b", dns),
            ("wéb", dns),
            ("web\0", dns),
            (&long, "63 characters or fewer"),
        ],
    );
}

#[test]
fn image_references() {
    let sha = format!("web@sha256:{}", "a".repeat(64));
    let tagged = format!("r.io:5000/a/b:1@sha256:{}", "0".repeat(64));
    let short = format!("web@sha256:{}", "a".repeat(63));
    let long_tag = format!("web:{}", "t".repeat(129));
    let long_name = "a".repeat(256);
    table(
        |text| image_reference("F", text),
        &[
            ("web", ""),
            ("web:1.2-3_x", ""),
            ("library/web", ""),
            ("localhost/web", ""),
            ("localhost:5000/web:1", ""),
            ("[::1]:5000/web", ""),
            ("Registry.example.COM/web", ""),
            ("x/a.b__c-d---e/f_g", ""),
            (&sha, ""),
            (&tagged, ""),
            ("", "image reference must be provided"),
            (
                "Web",
                "not a valid repository/tag: the name must be lower-case",
            ),
            ("a/Web", "lower-case"),
            ("web:", "tag \"\" must be"),
            ("web:.x", "tag \".x\" must be"),
            (&long_tag, "tag"),
            (&short, "is not a digest"),
            ("web@md5:00", "is not a digest"),
            ("web//x", "not a valid repository/tag"),
            ("/web", "not a valid repository/tag"),
            ("web/", "not a valid repository/tag"),
            ("a___b", "not a valid repository/tag"),
            ("a..b", "not a valid repository/tag"),
            ("-a", "not a valid repository/tag"),
            ("we b", "not a valid repository/tag"),
            ("host:port/web", "is not a registry's host[:port]"),
            ("-x.io/web", "is not a registry's host[:port]"),
            (&long_name, "255 characters or fewer"),
        ],
    );
}

#[test]
fn host_names_users_and_signals() {
    let long = "a".repeat(64);
    table(
        |text| hostname("F", text),
        &[
            ("", ""),
            ("web-1.example.org", ""),
            ("-web", "not a valid host name"),
            ("a..b", "not a valid host name"),
            ("a_b", "not a valid host name"),
            (&long, "63 characters or fewer"),
        ],
    );
    table(
        |text| user("F", text),
        &[
            ("", ""),
            ("1000", ""),
            ("www-data:www-data", ""),
            (":1", "user or user:group"),
            ("a:", "user or user:group"),
            ("a:b:c", "user or user:group"),
            ("a b", "user or user:group"),
        ],
    );
    table(
        |text| stop_signal("F", text),
        &[
            ("", ""),
            ("SIGTERM", ""),
            ("quit", ""),
            ("15", ""),
            ("64", ""),
            ("SIGRTMIN+3", ""),
            ("RTMAX-2", ""),
            ("0", "is not a signal"),
            ("65", "is not a signal"),
            ("-9", "is not a signal"),
            ("+9", "is not a signal"),
            ("SIGNOPE", "is not a signal"),
            ("SIGRTMIN+31", "is not a signal"),
            ("SIG", "is not a signal"),
        ],
    );
}

/// Changes one thing of a valid spec and says what that comes to.
fn outcome(change: impl FnOnce(&mut ServiceSpec)) -> String {
    let mut spec = spec("web");
    change(&mut spec);
    service_spec(&spec).map_or_else(|invalid| invalid.to_string(), |()| "ok".to_owned())
}

fn container(change: impl FnOnce(&mut types::ContainerSpec)) -> String {
    outcome(|spec| change(&mut Arc::make_mut(&mut spec.task).container))
}

#[test]
fn the_mode_and_its_replicas() {
    let replicas = |replicas| outcome(|spec| spec.mode = ServiceMode::Replicated { replicas });
    assert_eq!(replicas(0), "ok");
    assert_eq!(replicas(REPLICAS_MAX), "ok");
    assert_eq!(
        replicas(REPLICAS_MAX + 1),
        "Mode.Replicated.Replicas: 100001 replicas are too many: a service may have at most 100000"
    );
    let per_node = |mode| {
        outcome(|spec| {
            spec.mode = mode;
            Arc::make_mut(&mut spec.task).placement.max_replicas = 1;
        })
    };
    assert_eq!(per_node(ServiceMode::default()), "ok");
    assert!(per_node(ServiceMode::Global {}).starts_with("Placement.MaxReplicas: "));
}

#[test]
fn amounts() {
    let cpu = |nano_cpus| {
        outcome(|spec| Arc::make_mut(&mut spec.task).resources.limits.nano_cpus = nano_cpus)
    };
    assert_eq!(cpu(0), "ok");
    assert_eq!(cpu(1_000_000), "ok");
    assert_eq!(
        cpu(100_000),
        "Resources.Limits.NanoCPUs: invalid cpu value 0.0001: must be at least 0.001"
    );
    let memory = |bytes| {
        outcome(|spec| {
            Arc::make_mut(&mut spec.task)
                .resources
                .reservations
                .memory_bytes = bytes
        })
    };
    assert_eq!(memory(4 << 20), "ok");
    assert_eq!(
        memory(1024),
        "Resources.Reservations.MemoryBytes: invalid memory value 1024: must be at least 4MiB \
         (4194304 bytes)"
    );
    for (ratio, ok) in [
        (0.0, true),
        (1.0, true),
        (-0.1, false),
        (1.1, false),
        (f32::NAN, false),
    ] {
        let outcome = outcome(|spec| spec.rollback_config.max_failure_ratio = ratio);
        assert_eq!(outcome == "ok", ok, "{outcome}");
        assert!(
            ok || outcome.starts_with("RollbackConfig.MaxFailureRatio: update-maxfailureratio")
        );
    }
}

#[test]
fn placements() {
    let constraint = |text: &str| {
        outcome(|spec| Arc::make_mut(&mut spec.task).placement.constraints = vec![text.into()])
    };
    assert_eq!(constraint("node.labels.zone != a"), "ok");
    assert_eq!(
        constraint("node.colour==red"),
        "ok",
        "an unknown key only warns"
    );
    assert!(constraint("node.role=worker").contains("expected == or !="));
    assert!(constraint("node.role==worker").starts_with("ok"));
    assert!(constraint("x==1").starts_with("Placement.Constraints[0]: key \"x\""));
    let preference = |text: &str| {
        outcome(|spec| Arc::make_mut(&mut spec.task).placement.preferences = vec![text.into()])
    };
    assert_eq!(preference("node.labels.zone"), "ok");
    assert_eq!(preference("engine.labels.zone"), "ok");
    for wrong in ["node.labels.", "node.id", "zone", ""] {
        let outcome = preference(wrong);
        assert!(
            outcome.contains("cannot be spread over"),
            "{wrong}: {outcome}"
        );
    }
}

#[test]
fn container_words() {
    for (change, expected) in [
        (
            container(|c| c.env = vec!["A=1".into(), "B".into()]),
            "ContainerSpec.Env[1]: \"B\" is not an environment variable: it must be NAME=value",
        ),
        (
            container(|c| c.env = vec!["A=".into(), "A=b=c".into()]),
            "ok",
        ),
        (
            container(|c| c.env = vec!["=x".into()]),
            "ContainerSpec.Env[0]: \"=x\" is not an environment variable: it must be NAME=value",
        ),
        (
            container(|c| c.args = vec!["a\0b".into()]),
            "ContainerSpec.Args[0]: must not hold a NUL character",
        ),
        (
            container(|c| c.dir = "srv".into()),
            "ContainerSpec.Dir: the working directory \"srv\" is invalid: it must be an absolute \
             path",
        ),
        (
            container(|c| c.capability_add = vec!["net_admin".into(), "CAP_NOPE".into()]),
            "ContainerSpec.CapabilityAdd[1]: \"CAP_NOPE\" is not a capability: use a name like \
             CAP_NET_ADMIN, or ALL",
        ),
        (container(|c| c.capability_drop = vec!["all".into()]), "ok"),
        (
            container(|c| c.groups = vec!["a b".into()]),
            "ContainerSpec.Groups[0]: \"a b\" is not the name or number of a group",
        ),
        (
            container(|c| drop(c.labels.insert(String::new(), "x".into()))),
            "ContainerSpec.Labels: the label with value \"x\" has no name",
        ),
    ] {
        assert_eq!(change, expected);
    }
}

#[test]
fn how_names_are_found() {
    let alias = |name: &str| HostAlias {
        address: "10.0.0.5".parse().unwrap(),
        name: name.to_owned(),
    };
    let server = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let servers = |texts: &[&str]| {
        let servers: Vec<_> = texts.iter().map(|text| server(text)).collect();
        container(|c| c.dns.nameservers = servers)
    };
    assert_eq!(servers(&["10.0.0.53", "fd00::53"]), "ok");
    let many = servers(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    assert!(many.contains("4 servers: name at most 3"), "{many}");
    let any = servers(&["0.0.0.0"]);
    assert!(
        any.contains("Nameservers[0]: 0.0.0.0 cannot be asked"),
        "{any}"
    );
    let search = |text: &str| container(|c| c.dns.search = vec![text.to_owned()]);
    assert_eq!((&*search("."), &*search("corp.example.")), ("ok", "ok"));
    for text in ["", "a b", "a..b", "x\nnameserver 1.2.3.4"] {
        assert!(search(text).contains("Search[0]"), "{text:?}");
    }
    let option = |text: &str| container(|c| c.dns.options = vec![text.to_owned()]);
    assert_eq!(option("ndots:2"), "ok");
    assert!(option("a b").contains("write one like ndots:2"));
    assert!(option("").contains("Options[0]"));
    let host = |text: &str| container(|c| c.hosts = vec![alias(text)]);
    assert_eq!(host("db_1.corp"), "ok");
    assert!(host("db 1").contains("Hosts[0]: \"db 1\" is not a name of DNS"));
    let named = |name: &str| container(|c| c.hostname = name.to_owned());
    assert_eq!(
        named("{{.Node.Hostname}}-{{.Task.Slot}}"),
        "ok",
        "the node checks it"
    );
    assert!(named("a b").contains("is not a valid host name"));
}

#[test]
fn ulimits() {
    let limits = |limits: &[(&str, i64, i64)]| {
        container(|c| {
            let ulimit = |(name, soft, hard): &(&str, i64, i64)| Ulimit {
                name: (*name).to_owned(),
                soft: *soft,
                hard: *hard,
            };
            c.ulimits = limits.iter().map(ulimit).collect();
        })
    };
    assert_eq!(
        limits(&[("nofile", 1, 2), ("nproc", -1, -1), ("core", 5, -1)]),
        "ok"
    );
    assert!(limits(&[("files", 1, 2)]).contains("\"files\" is not a ulimit: there are core, cpu"));
    assert!(limits(&[("nofile", 3, 2)]).ends_with("must not exceed the hard limit"));
    assert!(limits(&[("nofile", -1, 2)]).ends_with("must not exceed the hard limit"));
    assert!(limits(&[("nofile", -2, 2)]).ends_with("use -1 for unlimited"));
    assert!(limits(&[("nofile", 1, 2), ("nofile", 1, 2)]).ends_with("nofile is given twice"));
}

#[test]
fn mount_points() {
    let bind = |source: &str, target: &str| Mount {
        source: source.into(),
        target: target.into(),
        ..Mount::default()
    };
    let tmpfs = |target: &str| Mount {
        kind: MountKind::Tmpfs,
        target: target.into(),
        ..Mount::default()
    };
    for (given, expected) in [
        (vec![bind("/a", "/b"), tmpfs("/c")], "ok"),
        (
            vec![bind("/a", "/b"), tmpfs("/b/./")],
            "ContainerSpec.Mounts[1].Target: duplicate mount point \"/b\": each target may be \
             mounted once",
        ),
        (
            vec![tmpfs("b")],
            "ContainerSpec.Mounts[0].Target: \"b\" must be an absolute path",
        ),
        (
            vec![tmpfs("")],
            "ContainerSpec.Mounts[0].Target: a mount needs a target",
        ),
        (
            vec![tmpfs("/")],
            "ContainerSpec.Mounts[0].Target: the target cannot be \"/\"",
        ),
        (
            vec![tmpfs("/a/../b")],
            "ContainerSpec.Mounts[0].Target: \"/a/../b\" must not hold \"..\"",
        ),
        (
            vec![bind("a", "/b")],
            "ContainerSpec.Mounts[0].Source: \"a\" must be an absolute path",
        ),
        (
            vec![bind("", "/b")],
            "ContainerSpec.Mounts[0].Source: a bind mount needs a source, a path on the node",
        ),
        (
            vec![Mount {
                source: "x".into(),
                ..tmpfs("/b")
            }],
            "ContainerSpec.Mounts[0].Source: \"x\" must be empty: a tmpfs has no source",
        ),
        (
            vec![Mount {
                tmpfs_mode: 0o10000,
                ..tmpfs("/b")
            }],
            "ContainerSpec.Mounts[0].TmpfsOptions.Mode: 0o10000 is not a file mode, at most \
             0o7777 is",
        ),
        (
            vec![Mount {
                tmpfs_size_bytes: 1,
                ..bind("/a", "/b")
            }],
            "ContainerSpec.Mounts[0].TmpfsOptions: cannot be given for a bind mount",
        ),
    ] {
        assert_eq!(container(|c| c.mounts = given), expected);
    }
}

#[test]
fn networks_there_are() {
    let on = |targets: &[&str]| {
        outcome(|spec| {
            let network = |target: &&str| NetworkAttachmentSpec {
                target: (*target).to_owned(),
                aliases: vec![],
                driver_options: Default::default(),
            };
            Arc::make_mut(&mut spec.task).networks = targets.iter().map(network).collect();
        })
    };
    assert_eq!(on(&[]), "ok");
    assert_eq!(on(&["host"]), "ok");
    assert_eq!(on(&["none"]), "ok");
    assert_eq!(on(&["web", "db"]), "ok", "whether they exist is seen later");
    assert_eq!(
        on(&["web", "web"]),
        "Networks[1].Target: network web is listed twice"
    );
    assert_eq!(on(&[""]), "Networks[0].Target: the network must be named");
    assert!(on(&["host", "none"]).contains("cannot be on another network as well"));
}

#[test]
fn cluster_settings() {
    let outcome = |change: &dyn Fn(&mut types::ClusterSpec)| {
        let mut spec = types::ClusterSpec::default();
        change(&mut spec);
        cluster_spec(&spec, ca::NODE_VALIDITY_MIN)
            .map_or_else(|invalid| invalid.to_string(), |()| "ok".to_owned())
    };
    let secs = std::time::Duration::from_secs;
    assert_eq!(outcome(&|_| {}), "ok");
    let expiry = outcome(&|spec| spec.node_cert_expiry = secs(60));
    assert!(
        expiry.contains("the minimum certificate expiry time is 1h"),
        "{expiry}"
    );
    for period in [secs(0), std::time::Duration::from_millis(1), secs(7200)] {
        let heartbeat = outcome(&|spec| spec.heartbeat_period = period);
        assert!(
            heartbeat.contains("it must be 100ms to 3600s"),
            "{heartbeat}"
        );
    }
    assert!(outcome(&|spec| spec.snapshot_interval = 0).starts_with("Raft.SnapshotInterval: 0"));
}
