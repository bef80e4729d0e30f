//! The whole program against a daemon in the test's process: what is typed, what is shown, and
//! with which exit code.

mod access;
mod daemon;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use daemon::Daemon;
use types::TaskState;

/// Runs a line; words are cut at blanks, as in a shell without quotes.
fn run(daemon: &Daemon, line: &str) -> Output {
    command(daemon, line)
        .stdin(Stdio::null())
        .output()
        .expect("swarmctl runs")
}

fn command(daemon: &Daemon, line: &str) -> Command {
    // A wait that never ends is to fail, not to hang.
    let mut command = Command::new("timeout");
    command
        .args(["30", env!("CARGO_BIN_EXE_swarmctl")])
        .env("SWARMCTL_HOST", daemon.host())
        .args(line.split_whitespace());
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a line that has to succeed; what it printed.
fn ok(daemon: &Daemon, line: &str) -> String {
    let output = run(daemon, line);
    assert!(output.status.success(), "{line}: {}", err(&output));
    out(&output)
}

/// Runs a line that has to fail with this code; what it complained.
fn fails(daemon: &Daemon, line: &str, code: i32) -> String {
    let output = run(daemon, line);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{line}: {}{}",
        out(&output),
        err(&output)
    );
    err(&output)
}

#[test]
fn create_waits_and_prints_only_the_id() {
    let daemon = Daemon::start();
    let line = "service create --name web --replicas 3 --update-monitor 0s web:1 serve --loud";
    let created = run(&daemon, line);
    assert!(created.status.success(), "{}", err(&created));
    assert_eq!(out(&created).trim().len(), 25, "{}", out(&created));
    assert!(
        err(&created).contains("overall progress: 3 out of 3 tasks"),
        "{}",
        err(&created)
    );
    assert!(
        err(&created).ends_with("verify: Service web converged\n"),
        "{}",
        err(&created)
    );
    let id = out(&created).trim().to_owned();
    assert_eq!(
        ok(
            &daemon,
            "service ls --format {{.Name}},{{.Replicas}},{{.Mode}},{{.Image}}"
        ),
        "web,3/3,replicated,web:1\n"
    );
    assert_eq!(ok(&daemon, "service ls -q"), format!("{id}\n"));
    let names = ok(&daemon, "service ps web --format {{.Name}}@{{.Node}}");
    assert_eq!(names, "web.1@n1\nweb.2@n1\nweb.3@n1\n");
    let args = "{{json .Spec.TaskTemplate.ContainerSpec.Args}}";
    let inspected = command(&daemon, "service inspect --format")
        .arg(args)
        .arg(&id[..8])
        .output();
    assert_eq!(out(&inspected.unwrap()), "[\"serve\",\"--loud\"]\n");
    assert_eq!(ok(&daemon, "service rm web"), "web\n");
    assert_eq!(
        fails(&daemon, "service inspect web", 1),
        "error: service web not found\n"
    );
}

#[test]
fn waiting_ends_well_after_scale_update_and_rollback() {
    let daemon = Daemon::start();
    ok(
        &daemon,
        "service create -d --name web --update-monitor 0s --rollback-monitor 0s web:1",
    );
    assert_eq!(ok(&daemon, "service scale web=4"), "web scaled to 4\n");
    assert_eq!(ok(&daemon, "service ls --format {{.Replicas}}"), "4/4\n");
    let updated = run(&daemon, "service update --image web:2 --env-add A=1 web");
    assert!(updated.status.success(), "{}", err(&updated));
    assert!(err(&updated).contains("converged"), "{}", err(&updated));
    assert_eq!(
        ok(
            &daemon,
            "service ps web --filter desired-state=running --format {{.Image}}"
        ),
        "web:2\n".repeat(4)
    );
    ok(&daemon, "service rollback web");
    assert_eq!(ok(&daemon, "service ls --format {{.Image}}"), "web:1\n");
    ok(&daemon, "service update --rollback -q web");
    assert_eq!(ok(&daemon, "service ls --format {{.Image}}"), "web:2\n");
    let history = ok(&daemon, "service ps web");
    assert!(history.contains(" \\_ web.1"), "{history}");
}

#[test]
fn waiting_shows_why_and_stops_when_told() {
    let daemon = Daemon::start();
    daemon.set_tasks(
        TaskState::Pending,
        "no suitable node (scheduling constraints not satisfied)",
    );
    let mut child = command(&daemon, "service create --name web web:1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("no suitable node (scheduling constraints not satisfied)") {
        assert!(
            stderr.read_line(&mut shown).unwrap() > 0,
            "it ended early: {shown}"
        );
    }
    assert!(shown.contains("0 out of 1 tasks"), "{shown}");
    let kill = format!("kill -INT {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    stderr.read_to_string(&mut shown).unwrap();
    assert!(
        shown.contains("Operation continuing in background."),
        "{shown}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(
        ok(&daemon, "service ls --format {{.Replicas}}"),
        "0/1\n",
        "it is still there"
    );
}

#[test]
fn a_paused_update_and_ended_tasks_are_failures() {
    let daemon = Daemon::start();
    ok(
        &daemon,
        "service create --name web --update-monitor 0s web:1",
    );
    daemon.pause_updates("update paused due to failure or early termination of task x");
    let complaint = fails(&daemon, "service update --image web:2 web", 1);
    assert!(
        complaint.ends_with(
            "error: service update paused: update paused due to failure or early termination of \
             task x\n"
        ),
        "{complaint}"
    );

    let daemon = Daemon::start();
    daemon.set_tasks(TaskState::Failed, "task: non-zero exit (1)");
    let line = "service create --name job --restart-condition none --update-monitor 100ms job:1";
    let complaint = fails(&daemon, line, 1);
    assert!(
        complaint.ends_with(
            "error: 1 of 1 tasks of service job ended and will not be restarted: task: non-zero \
             exit (1)\n"
        ),
        "{complaint}"
    );
    daemon.set_tasks(TaskState::Complete, "");
    let line = "service create --name done --restart-condition none --update-monitor 100ms job:1";
    let created = run(&daemon, line);
    assert!(created.status.success(), "{}", err(&created));
    assert!(err(&created).contains("1 of 1 tasks of service done have completed"));
}

#[test]
fn changes_that_race_are_all_made() {
    let daemon = Daemon::start();
    ok(&daemon, "service create -d --name web web:1");
    let children: Vec<_> = (0..6)
        .map(|number| {
            let line = format!("service update -d --label-add l{number}=x web");
            command(&daemon, &line)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let labels = ok(
        &daemon,
        "service inspect --format {{len(.Spec.Labels)}} web",
    );
    assert_eq!(labels, "6\n");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn mistakes_are_one_sentence_with_their_code() {
    let daemon = Daemon::start();
    ok(&daemon, "service create -d --name web web:1");
    for (line, code, words) in [
        (
            "service create -d --name web web:1",
            1,
            "name conflicts with an existing object",
        ),
        (
            "service create -d --name w!b web:1",
            1,
            "Name: \"w!b\" must be valid as a DNS name",
        ),
        (
            "service create -d --name w Web",
            1,
            "not a valid repository/tag",
        ),
        (
            "service create -d --constraint a=b web:1",
            1,
            "expected == or !=",
        ),
        (
            "service create -d --limit-memory 1k web:1",
            1,
            "invalid memory value 1024",
        ),
        ("service create -d --replicas 100001 web:1", 1, "too many"),
        ("service scale web=-1", 2, "it cannot be negative"),
        (
            "service scale nope=1 web=2 -d",
            1,
            "error: service nope not found",
        ),
        ("service rollback -d nope", 1, "service nope not found"),
        (
            "service ls --filter colour=red",
            2,
            "invalid filter \"colour\"",
        ),
        ("service ls --format {{.Nope}}", 2, "no field .Nope"),
        ("service ls --format {{", 2, "is not closed"),
        (
            "node demote n1",
            1,
            "attempting to demote the last manager of the swarm",
        ),
        (
            "node rm self",
            1,
            "must be demoted to worker before removal",
        ),
        ("node update n1", 2, "nothing to change"),
        ("node update --label-rm x n1", 1, "key \"x\" doesn't exist"),
        ("node promote n9", 1, "node n9 not found"),
        ("join 10.0.0.1", 2, "a token is needed"),
        ("service", 2, "Usage:"),
        ("nonsense", 2, "unrecognized subcommand"),
        (
            "image load /nope/image.tar",
            1,
            "/nope/image.tar: No such file",
        ),
        (
            "-H tcp://1.2.3.4 info",
            2,
            "host \"tcp://1.2.3.4\" cannot be used",
        ),
        (
            "-H unix:///nope/s info",
            1,
            "there is no socket at /nope/s: start swarmd",
        ),
    ] {
        let complaint = fails(&daemon, line, code);
        assert!(complaint.contains(words), "{line}: {complaint}");
        assert!(!complaint.contains("panicked"), "{line}: {complaint}");
    }
    let scaled = ok(&daemon, "service ls --format {{.Replicas}}");
    assert!(
        scaled.ends_with("/2\n"),
        "the other service was scaled all the same: {scaled}"
    );
}

#[test]
fn nodes_are_listed_changed_and_told_apart() {
    let daemon = Daemon::start();
    ok(
        &daemon,
        "node update --availability drain --label-add zone=a n2",
    );
    let list = ok(&daemon, "node ls");
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[1].contains(" *   n1"), "{list}");
    assert!(
        lines[1].contains("Leader") && lines[2].contains("Drain"),
        "{list}"
    );
    assert_eq!(
        ok(&daemon, "node inspect n2 --format {{.Spec.Labels.zone}}"),
        "a\n"
    );
    assert_eq!(
        ok(
            &daemon,
            "node inspect self --format {{.ManagerStatus.Leader}}"
        ),
        "true\n"
    );
    assert_eq!(
        ok(&daemon, "node promote n1 n2"),
        "Node n1 is already a manager.\nNode n2 promoted to a manager in the swarm.\n"
    );
    assert_eq!(
        ok(&daemon, "node demote n2"),
        "Manager n2 demoted in the swarm.\n"
    );
    let pretty = ok(&daemon, "node inspect --pretty n2");
    assert!(pretty.contains(" Availability:\t\tDrain"), "{pretty}");
    ok(
        &daemon,
        "service create --name web --update-monitor 0s web:1",
    );
    assert_eq!(ok(&daemon, "node ps --format {{.Name}}"), "web.1\n");
    assert_eq!(ok(&daemon, "node ps n2 -q"), "");
}

#[test]
fn the_swarm_is_made_joined_and_left() {
    let daemon = Daemon::start();
    let made = ok(
        &daemon,
        "init --advertise-addr 10.0.0.1 --availability pause",
    );
    assert!(
        made.starts_with("Swarm initialized: current node (n) is now a manager."),
        "{made}"
    );
    assert!(
        made.contains("    swarmctl join --token SWMTKN-1-w 10.0.0.1:2377\n"),
        "{made}"
    );
    assert_eq!(
        daemon.heard(),
        ["init 10.0.0.1 availability 1 heartbeat 1s"]
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "SWMTKN-1-file\n").unwrap();
    let joined = ok(
        &daemon,
        &format!("swarm join --token-file {} 10.0.0.1", file.display()),
    );
    assert_eq!(joined, "This node joined a swarm as a worker.\n");
    let mut child = command(&daemon, "join --token - 10.0.0.1:99")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"SWMTKN-1-pipe\n")
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(ok(&daemon, "leave --force"), "Node left the swarm.\n");
    assert_eq!(
        daemon.heard()[1..],
        [
            "join 10.0.0.1:2377 SWMTKN-1-file",
            "join 10.0.0.1:99 SWMTKN-1-pipe",
            "leave force true"
        ]
    );
    let token = ok(&daemon, "join-token -q worker");
    assert!(
        token.starts_with("SWMTKN-1-") && token.len() > 80,
        "{token}"
    );
    let rotated = ok(&daemon, "swarm join-token --rotate worker");
    assert!(rotated.starts_with("Successfully rotated worker join token.\n\nTo add a worker"));
    assert!(!rotated.contains(token.trim()), "{rotated}");
    assert!(ok(&daemon, "info").contains(" Nodes: 2\n"));
    assert_eq!(
        ok(&daemon, "status --format {{.Swarm.LocalNodeState}}"),
        "active\n"
    );
}

#[test]
fn archives_arrive_whole_and_half_read_ones_never_do() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image.tar");
    let content: Vec<u8> = (0..3_500_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    std::fs::write(&file, &content).unwrap();
    let file = file.display();
    assert_eq!(
        ok(&daemon, &format!("image load {file}")),
        "Loaded image: web:1\n"
    );
    assert_eq!(daemon.archive(), content);
    assert_eq!(
        ok(&daemon, &format!("image load -q -i {file}")),
        "sha256:00\n"
    );
    let line = format!("image import -c WORKDIR=/srv {file} base:1");
    assert_eq!(ok(&daemon, &line), "sha256:11\n");
    assert_eq!(
        daemon.heard().last().unwrap(),
        "import base:1 [\"WORKDIR=/srv\"]"
    );
    assert_eq!(daemon.archive(), content);
    // A directory opens, but cannot be read.
    let before = daemon.heard().len();
    let complaint = fails(&daemon, &format!("image load {}", dir.path().display()), 1);
    assert!(complaint.contains("Is a directory"), "{complaint}");
    assert_eq!(daemon.heard().len(), before, "no load was finished");
}

#[test]
fn logs_have_prefixes_and_tell_what_is_missing() {
    let daemon = Daemon::start();
    ok(
        &daemon,
        "service create --name web --update-monitor 0s web:1",
    );
    let logs = run(&daemon, "service logs --no-task-ids -t web");
    assert!(logs.status.success(), "{}", err(&logs));
    assert_eq!(
        out(&logs),
        "2023-11-14T22:13:20.500000000Z web.1@n1 | hello\n"
    );
    assert!(
        err(&logs).ends_with("warning: incomplete log stream:\n  node n2 is not available\n"),
        "{}",
        err(&logs)
    );
    assert!(err(&logs).contains("web.1@n1 | oops\n"), "{}", err(&logs));
    let raw = run(&daemon, "service logs --raw --tail 1 web.1");
    assert_eq!(out(&raw), "hello\n");
    assert!(fails(&daemon, "service logs nope", 1).contains("service or task nope not found"));
    assert!(fails(&daemon, "service logs --since nope web", 2).contains("invalid value \"nope\""));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let daemon = Daemon::start();
    ok(&daemon, "service create -d --name web web:1");
    let mut child = command(&daemon, "service inspect web")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(err(&output), "");
}
