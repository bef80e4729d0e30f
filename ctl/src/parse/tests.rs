//! Tables of the small grammars: what each reads and what it refuses.

use std::time::Duration;

use types::Timestamp;
use types::container_spec::{Mount, MountKind, Ulimit};

use super::amount::{bytes, nano_cpus};
use super::duration::duration;
use super::mount::mount;
use super::time::point;
use super::ulimit::ulimit;
use super::words::words;
use super::{count, csv, key_value, placement_preference};

#[test]
fn sizes() {
    for (text, expected) in [
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("4k", 4096),
        ("64M", 64 << 20),
        ("64mb", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("1 g", 1 << 30),
    ] {
        assert_eq!(bytes(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        "m",
        "-1",
        "1x",
        "1..5g",
        "1gg",
        "99999999999999t",
        "99999999.5p",
    ] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn processors() {
    for (text, expected) in [
        ("1", 1_000_000_000),
        ("0.5", 500_000_000),
        (".25", 250_000_000),
        ("0.001", 1_000_000),
        ("2.", 2_000_000_000),
        ("0.1000000000", 100_000_000),
    ] {
        assert_eq!(nano_cpus(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        ".",
        "-1",
        "a",
        "1e3",
        "0.0000000001",
        "99999999999999999999",
    ] {
        assert!(nano_cpus(text).is_err(), "{text}");
    }
}

#[test]
fn lengths_of_time() {
    for (text, millis) in [
        ("0", 0),
        ("5s", 5000),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        ("250ms", 250),
        ("1h0m1s", 3_601_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    assert_eq!(duration("-5s").unwrap_err(), "it cannot be negative");
    for text in ["", "5", "s", "5x", "5s5", "-", "1.2.3s", "999999999h"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn points_in_time() {
    let now = Timestamp::from_secs(1_000_000);
    for (text, expected) in [
        ("2023-11-14T22:13:20Z", Timestamp::from_secs(1_700_000_000)),
        (
            "2023-11-14T23:13:20+01:00",
            Timestamp::from_secs(1_700_000_000),
        ),
        ("2023-11-14T22:13:20", Timestamp::from_secs(1_700_000_000)),
        ("2023-11-14T22:13", Timestamp::from_secs(1_699_999_980)),
        ("2023-11-14", Timestamp::from_secs(1_699_920_000)),
        ("1700000000", Timestamp::from_secs(1_700_000_000)),
        ("1.5", Timestamp(1_500_000_000)),
        ("10m", Timestamp::from_secs(999_400)),
    ] {
        assert_eq!(point(text, now), Ok(expected), "{text}");
    }
    for text in ["", "yesterday", "-5m", "2023-13-01", "."] {
        assert!(point(text, now).is_err(), "{text}");
    }
}

#[test]
fn commands() {
    for (text, expected) in [
        ("", vec![]),
        (
            "  nginx  -g 'daemon off;' ",
            vec!["nginx", "-g", "daemon off;"],
        ),
        (
            r#"sh -c "echo \"a b\" \n""#,
            vec!["sh", "-c", r#"echo "a b" \n"#],
        ),
        (r"a\ b ''", vec!["a b", ""]),
    ] {
        assert_eq!(words(text).unwrap(), expected, "{text}");
    }
    for text in ["'a", "\"a", "a\\"] {
        assert!(words(text).is_err(), "{text}");
    }
}

#[test]
fn pairs_counts_limits_and_preferences() {
    assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
    assert_eq!(key_value("a"), Ok(("a".into(), String::new())));
    assert!(key_value("=a").is_err());
    assert_eq!(count("5"), Ok(5));
    assert_eq!(count("-5").unwrap_err(), "it cannot be negative");
    assert_eq!(count("5.5").unwrap_err(), "it must be a whole number");
    let limit = |soft, hard| Ulimit {
        name: "nofile".into(),
        soft,
        hard,
    };
    assert_eq!(ulimit("nofile=5"), Ok(limit(5, 5)));
    assert_eq!(ulimit("nofile=5:-1"), Ok(limit(5, -1)));
    for text in ["nofile", "=5", "nofile=", "nofile=a", "nofile=1:2:3"] {
        assert!(ulimit(text).is_err(), "{text}");
    }
    assert_eq!(
        placement_preference("spread=node.labels.zone"),
        Ok("node.labels.zone".into())
    );
    for text in ["node.labels.zone", "binpack=x", "spread="] {
        assert!(placement_preference(text).is_err(), "{text}");
    }
}

#[test]
fn comma_separated_values() {
    assert_eq!(csv::fields("a,b=c,").unwrap(), ["a", "b=c", ""]);
    assert_eq!(csv::fields("\"a,b\",\"c\"\"d\"").unwrap(), ["a,b", "c\"d"]);
    for text in ["\"a", "a\"b", "\"a\"b"] {
        assert!(csv::fields(text).is_err(), "{text}");
    }
}

#[test]
fn mounts() {
    let bind = Mount {
        source: "/a".into(),
        target: "/b".into(),
        ..Mount::default()
    };
    let tmpfs = Mount {
        kind: MountKind::Tmpfs,
        target: "/t".into(),
        ..Mount::default()
    };
    for (text, expected) in [
        ("type=bind,source=/a,target=/b", bind.clone()),
        ("TYPE=Bind,src=/a,dst=/b", bind.clone()),
        (
            "type=bind,source=/a,destination=/b,ro",
            Mount {
                read_only: true,
                ..bind.clone()
            },
        ),
        (
            "type=bind,src=/a,dst=/b,readonly=false,bind-propagation=rprivate",
            bind.clone(),
        ),
        (
            "type=bind,\"source=/a,b\",target=/b",
            Mount {
                source: "/a,b".into(),
                ..bind.clone()
            },
        ),
        ("type=tmpfs,target=/t", tmpfs.clone()),
        (
            "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770",
            Mount {
                tmpfs_size_bytes: 64 << 20,
                tmpfs_mode: 0o1770,
                ..tmpfs.clone()
            },
        ),
    ] {
        assert_eq!(mount(text), Ok(expected), "{text}");
    }
    let here = std::env::current_dir().unwrap();
    let relative = mount("type=bind,src=./x,dst=/b").unwrap();
    assert_eq!(relative.source, here.join("x").to_string_lossy());
}

#[test]
fn mounts_that_cannot_be() {
    for (text, words) in [
        ("source=/a,target=/b", "type is required"),
        (
            "type=volume,source=a,target=/b",
            "\"volume\" is not supported yet",
        ),
        ("type=floppy,target=/b", "\"floppy\" is not known"),
        ("type=bind,source=/a", "target is required"),
        (
            "type=bind,src=/a,dst=/b,tmpfs-size=1m",
            "cannot mix option tmpfs-size with mount type \"bind\"",
        ),
        (
            "type=tmpfs,dst=/b,bind-propagation=rprivate",
            "cannot mix option bind-propagation",
        ),
        (
            "type=bind,src=/a,dst=/b,bind-propagation=shared",
            "not supported yet",
        ),
        (
            "type=tmpfs,dst=/b,tmpfs-mode=99",
            "is not an octal file mode",
        ),
        (
            "type=tmpfs,dst=/b,tmpfs-size=x",
            "invalid value for tmpfs-size",
        ),
        ("type=bind,src=/a,dst=/b,ro=maybe", "invalid value for ro"),
        (
            "type=bind,src=/a,dst=/b,colour=red",
            "unexpected key \"colour\"",
        ),
        ("type=bind,src=/a,dst=/b,loud", "invalid field \"loud\""),
        (
            "type=bind,volume-nocopy,src=/a,dst=/b",
            "option volume-nocopy is not supported yet",
        ),
        ("", "invalid field \"\""),
    ] {
        let problem = mount(text).unwrap_err();
        assert!(problem.contains(words), "{text}: {problem}");
    }
}
