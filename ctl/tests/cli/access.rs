//! Tokens, clients and contexts: what lets nodes and people in.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::daemon::Daemon;
use crate::{err, fails, ok, out};

/// Runs a line as a user with this home.
fn at_home(home: &Path, line: &str) -> Output {
    Command::new("timeout")
        .args(["30", env!("CARGO_BIN_EXE_swarmctl")])
        .env_remove("SWARM_HOST")
        .env_remove("SWARMCTL_HOST")
        .env_remove("SWARM_CONTEXT")
        .env("HOME", home)
        .current_dir(home)
        .args(line.split_whitespace())
        .output()
        .expect("swarmctl runs")
}

fn home_ok(home: &Path, line: &str) -> String {
    let output = at_home(home, line);
    assert!(output.status.success(), "{line}: {}", err(&output));
    out(&output)
}

#[test]
fn tokens_with_an_end_are_made_listed_shown_and_revoked() {
    let daemon = Daemon::start();
    let line = "token create rack7 --role manager --expires 24h --uses 3";
    let made = ok(&daemon, line);
    let begin = "Join token rack7 made.\n\nTo add a manager";
    assert!(made.starts_with(begin), "{made}");
    assert!(made.contains("swarmctl join --token SWMTKN-1-"), "{made}");
    let listed = ok(&daemon, "token ls");
    assert!(listed.contains("rack7     manager"), "{listed}");
    assert!(listed.contains("in 24 hours"), "{listed}");
    assert!(listed.contains("0 of 3"), "{listed}");
    assert!(!listed.contains("SWMTKN"), "a list shows no token");
    let shown = ok(&daemon, "token show -q rack7");
    assert!(made.contains(shown.trim()), "{shown}");
    assert_eq!(ok(&daemon, "token ls -q"), "rack7\n");
    let twice = fails(&daemon, line, 1);
    assert_eq!(twice, "error: join token rack7 already exists\n");
    assert_eq!(ok(&daemon, "token rm rack7"), "rack7\n");
    fails(&daemon, "token show rack7", 1);
    fails(&daemon, "token rm rack7", 1);
    assert_eq!(
        fails(&daemon, "token create x --uses 0", 1),
        "error: Uses: 0 uses let nobody in: it must be 1 or more\n"
    );
}

#[test]
fn a_client_is_made_into_a_file_that_another_machine_imports() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path(), dir.path().join("ci.context"));
    let output = file.display();
    let line = format!("client create ci --role operator --output {output}");
    ok(&daemon, &line);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let listed = ok(&daemon, "client ls --format {{.Name}},{{.Role}}");
    assert_eq!(listed, "ci,operator\n");
    fails(&daemon, &line, 1);

    assert_eq!(home_ok(home, "context import prod ci.context"), "prod\n");
    assert_eq!(home_ok(home, "context use prod"), "prod\n");
    let format = "context ls --format {{.Name}}|{{.Role}}|{{.Endpoint}}";
    assert_eq!(
        home_ok(home, format),
        "default||unix:///run/swarm/swarmd.sock\nprod *|operator|10.0.0.1:2377\n"
    );
    let inspected = home_ok(home, "context inspect");
    assert!(inspected.contains("\"Role\": \"operator\""), "{inspected}");
    assert!(!inspected.contains("PRIVATE KEY"), "{inspected}");
    assert_eq!(home_ok(home, "-c default context show"), "default\n");
    home_ok(home, "context export prod copy.context");
    assert_eq!(home_ok(home, "context import copy copy.context"), "copy\n");
    let in_use = at_home(home, "context rm prod");
    assert_eq!(in_use.status.code(), Some(1));
    let removed = home_ok(home, "context rm --force prod copy");
    assert_eq!(removed, "prod\ncopy\n");
    assert_eq!(home_ok(home, "context show"), "default\n");
    assert_eq!(ok(&daemon, "client rm ci"), "ci\n");
    assert_eq!(ok(&daemon, "client ls -q"), "");
}

#[test]
fn flags_count_more_than_the_environment_and_that_more_than_the_choice() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let host = daemon.host();
    home_ok(home, &format!("context create here --host {host}"));
    home_ok(home, "context create nowhere --host unix:///nowhere.sock");
    home_ok(home, "context use nowhere");
    let asked = err(&at_home(home, "node ls -q"));
    assert!(asked.contains("/nowhere.sock"), "{asked}");
    assert!(home_ok(home, "-c here node ls -q").contains('\n'));
    assert!(home_ok(home, &format!("-H {host} node ls -q")).contains('\n'));
    let by_name = Command::new(env!("CARGO_BIN_EXE_swarmctl"))
        .env("HOME", home)
        .env_remove("SWARM_HOST")
        .env_remove("SWARMCTL_HOST")
        .env("SWARM_CONTEXT", "here")
        .args(["node", "ls", "-q"])
        .output()
        .unwrap();
    assert!(by_name.status.success(), "{}", err(&by_name));
    let both = at_home(home, "-c here -H unix:///x node ls");
    assert_eq!(both.status.code(), Some(2));
    let missing = err(&at_home(home, "-c gone node ls"));
    assert!(missing.contains("\"gone\" does not exist"), "{missing}");
}
