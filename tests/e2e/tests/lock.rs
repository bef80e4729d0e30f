//! Locked managers: what a disk shows without the key, and what a manager does until it has it.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use harness::image::{ImageRecipe, write_archive};
use harness::{Lab, Node, wait_for};
use swarm_e2e::lab;

const PATIENCE: Duration = Duration::from_secs(60);

fn unlock(node: &Node, key: &str) -> (bool, String) {
    let mut child = node
        .ctl_command(&["swarm", "unlock"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A refusal may come before the key is read.
    drop(writeln!(input, "{key}"));
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn unlock_key(node: &Node) -> String {
    let key = node.ctl(&["swarm", "unlock-key", "-q"]).unwrap();
    key.trim().to_owned()
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, PATIENCE, || {
        Ok(if is_so() {
            Ok(())
        } else {
            Err("not yet".to_owned())
        })
    })
    .unwrap();
}

fn key_file(node: &Node) -> String {
    std::fs::read_to_string(node.dir().join("state/certificates/swarm-node.key")).unwrap()
}

/// Files below a directory, but for those of images and of containers' own file systems and output.
fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        let is_operators = ["images", "upper", "work", "rootfs", "etc", "log"]
            .contains(&name.as_str())
            && !path.ends_with("raft/log");
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !is_operators {
            files(&path, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

fn is_sealed_or_known(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    // Certificates are public; addresses of managers are what a node has to know before it has any
    // key; states and exits are numbers of processes; marks and locks are empty. The key file is PEM:
    // a locked manager's is looked at by itself, a worker's is not under the managers' lock.
    [
        "swarm-root-ca.crt",
        "swarm-node.crt",
        "swarm-node.key",
        "swarm.json",
        "managers",
        "state.json",
        "exit.json",
        "made",
        "lock",
    ]
    .contains(&&*name)
}

/// Bits of information a byte, for text at most about 6.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = f64::from(u32::try_from(bytes.len()).unwrap());
    counts
        .into_iter()
        .filter(|count| *count > 0)
        .map(|count| f64::from(count) / total)
        .map(|share| -share * share.log2())
        .sum()
}

fn scan(lab: &Lab, secrets: &[String]) {
    for node in lab.nodes() {
        let mut found = vec![];
        files(&node.dir().join("state"), &mut found);
        assert!(found.len() >= 4, "{found:?}");
        for path in found {
            let bytes = std::fs::read(&path).unwrap();
            for secret in secrets {
                let is_there = bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes());
                assert!(!is_there, "{} holds {secret:?}", path.display());
            }
            if is_sealed_or_known(&path) {
                continue;
            }
            // Stretches that are not padding look random.
            for piece in bytes.chunks(1024).filter(|piece| piece.len() == 1024) {
                let text = piece
                    .iter()
                    .filter(|byte| byte.is_ascii_graphic() || **byte == b' ')
                    .count();
                let is_text = text > 900 && entropy(piece) < 6.2;
                assert!(!is_text, "{} holds text", path.display());
            }
        }
    }
}

/// Loads the example's image on every node and runs it everywhere, with things only it knows.
fn run_service(lab: &Lab) {
    let archive = lab.dir().join("web.tar");
    let recipe = ImageRecipe {
        name: "web:1",
        program: &lab.programs().web,
        command: &["/bin/web"],
        env: &[],
        check: &[],
    };
    write_archive(&recipe, &archive).unwrap();
    for node in lab.nodes() {
        node.ctl(&["image", "load", archive.to_str().unwrap()])
            .unwrap();
    }
    let create = [
        "service",
        "create",
        "--detach",
        "--name",
        "plainname",
        "--mode",
        "global",
        "--env",
        "PASSPHRASE=plainvalue",
        "--label",
        "team=plainlabel",
        "--container-label",
        "part=plainpart",
        "web:1",
    ];
    lab.node(0).ctl(&create).unwrap();
    for node in lab.nodes() {
        wait("the service runs", || {
            node.pids_of("web").is_ok_and(|pids| pids.len() == 1)
        });
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn a_locked_swarm_shows_nothing_and_needs_its_key() {
    let Some(mut lab) = lab() else { return };
    lab.form_swarm(3, 1).unwrap();
    run_service(&lab);
    let first = lab.node(0);
    let none = first.ctl(&["swarm", "unlock-key"]).unwrap_err().to_string();
    assert!(none.contains("no unlock key is set"), "{none}");
    let open = unlock(first, "SWMKEY-1-x");
    assert!(!open.0 && open.1.contains("not locked"), "{open:?}");

    let shown = first.ctl(&["swarm", "update", "--autolock=true"]).unwrap();
    let key = unlock_key(first);
    assert!(
        key.starts_with("SWMKEY-1-") && shown.contains(&key),
        "{shown}"
    );
    let is_locked = |node: &Node| key_file(node).contains("ENCRYPTED PRIVATE KEY");
    for index in 0..3 {
        let node = lab.node(index);
        wait(
            "the key file is locked, its private key and data key replaced",
            || {
                let file = key_file(node);
                is_locked(node)
                    && !file.contains("renew-key")
                    && !file.contains("raft-dek-pending")
                    && file.contains("raft-dek-epoch: 1")
            },
        );
    }
    assert!(!is_locked(lab.node(3)), "a worker is not locked");

    // A restart: locked, whatever is asked; the others go on.
    let second = lab.node(1);
    let running = second.pids_of("web").unwrap();
    second.stop_daemon(15).unwrap();
    second.start_daemon().unwrap();
    assert_eq!(second.pids_of("web").unwrap(), running, "containers run on");
    let info = second.ctl(&["info"]).unwrap();
    assert!(info.contains("Swarm: locked"), "{info}");
    for asked in [
        &["node", "ls"][..],
        &["service", "ls"],
        &["swarm", "unlock-key"],
    ] {
        let refused = second.ctl(asked).unwrap_err().to_string();
        assert!(refused.contains("swarm unlock"), "{asked:?}: {refused}");
    }
    // Rotated while this one is locked: it needs the key it was locked with, then follows.
    first.ctl(&["swarm", "unlock-key", "--rotate"]).unwrap();
    let rotated = unlock_key(first);
    assert_ne!(rotated, key);
    let (done, text) = unlock(second, &rotated);
    assert!(!done && text.contains("invalid key"), "{text}");
    assert!(text.contains("version 1"), "{text}");
    let (done, text) = unlock(second, "SWMKEY-1-nonsense");
    assert!(!done && text.contains("invalid key"), "{text}");
    let (done, text) = unlock(second, &key);
    assert!(done, "{text}");
    wait("the unlocked manager answers", || {
        second.ctl(&["node", "ls"]).is_ok()
    });
    for index in 0..3 {
        wait("the rotated key is followed", || {
            key_file(lab.node(index)).contains("kek-version: 2")
        });
    }
    second.stop_daemon(9).unwrap();
    second.start_daemon().unwrap();
    let (done, text) = unlock(second, &key);
    assert!(!done, "the former key still opens: {text}");
    let (done, text) = unlock(second, &rotated);
    assert!(done, "{text}");
    wait("the unlocked manager answers", || {
        second.ctl(&["node", "ls"]).is_ok()
    });

    let tokens = ["worker", "manager"].map(|role| {
        let token = first.ctl(&["join-token", "-q", role]).unwrap();
        token.trim().to_owned()
    });
    // A worker's daemon finds its tasks again although nothing of them is on its disk.
    let worker = lab.node(3);
    let before = worker.pids_of("web").unwrap();
    worker.stop_daemon(9).unwrap();
    worker.start_daemon().unwrap();
    wait("the worker is back", || {
        let nodes = first.ctl(&["node", "ls"]).unwrap_or_default();
        nodes.matches("Ready").count() == 4
    });
    assert_eq!(
        worker.pids_of("web").unwrap(),
        before,
        "the task was replaced"
    );

    let mut secrets = vec![key, rotated];
    secrets.extend(["plainname", "plainvalue", "plainlabel", "plainpart"].map(str::to_owned));
    secrets.extend(tokens);
    secrets.extend(
        lab.nodes()
            .iter()
            .map(|node| format!("\"{}\"", node.name())),
    );
    scan(&lab, &secrets);
    for node in lab.nodes() {
        let log = node.log_tail(usize::MAX);
        assert!(log.len() > 100);
        for secret in secrets.iter().filter(|it| it.starts_with("SWM")) {
            assert!(
                !log.contains(secret.as_str()),
                "{} logged a secret",
                node.name()
            );
        }
        assert!(!log.contains("PRIVATE KEY"), "{} logged a key", node.name());
    }

    // Without the lock, a restart needs nobody.
    first.ctl(&["swarm", "update", "--autolock=false"]).unwrap();
    wait("the lock is gone", || !is_locked(second));
    second.stop_daemon(15).unwrap();
    second.start_daemon().unwrap();
    wait("the manager answers", || {
        second.ctl(&["node", "ls"]).is_ok()
    });
}

#[test]
fn a_daemon_has_given_up_what_it_does_not_need() {
    let Some(mut lab) = lab() else { return };
    let index = lab.add_node().unwrap();
    let node = lab.node(index);
    let pid = node.start_daemon().unwrap();
    let proc = format!("/proc/{}/root/proc/{pid}", node_pid1(node));
    let read = |name: &str| std::fs::read_to_string(format!("{proc}/{name}")).unwrap();
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let permitted = u64::from_str_radix(&field("CapPrm:"), 16).unwrap();
    let bounding = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
    let (sys_module, sys_boot, sys_admin) = (1 << 16, 1 << 22, 1 << 21);
    assert_eq!(permitted & (sys_module | sys_boot), 0, "{status}");
    assert_eq!(permitted & sys_admin, sys_admin & bounding, "{status}");
    assert_eq!(field("Umask:"), "0077");
    let limits = read("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    assert_eq!(
        core.unwrap().split_whitespace().nth(4),
        Some("0"),
        "{limits}"
    );
}

/// The machine's first process as this machine counts it: the child of the one the lab started.
fn node_pid1(node: &Node) -> u32 {
    let outer = node.pid().unwrap();
    let path = format!("/proc/{outer}/task/{outer}/children");
    let children = std::fs::read_to_string(path).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}
