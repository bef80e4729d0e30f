//! What the process survives, and what survives the process.

use crate::machine::{
    Machine, PROGRAM, addresses, ask, cannot_run, data, descriptor_path, new_namespace, query,
    records, wait_until,
};
use hickory_proto::rr::RecordType;
use rustix::process::{Signal, getsid, kill_process, test_kill_process};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// In the environment of a test that plays the daemon: its machine's socket directory.
const DAEMON_VAR: &str = "DATAPATH_TEST_NAMESPACE";

#[tokio::test]
async fn answers_go_on_when_the_daemon_stops() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let namespace = Arc::new(new_namespace().unwrap());
    let daemon = machine.daemon();
    daemon
        .handle
        .set_network(records(1, "front", "web", 1))
        .await
        .unwrap();
    daemon.add("a", &[1], &namespace).await;
    let pid = machine.process().unwrap();
    // Its own session: what ends the daemon's does not reach it.
    assert_eq!(getsid(Some(pid)).unwrap(), pid);
    daemon.stop().await;
    assert_eq!(addresses(&namespace, "web"), ["10.1.0.1"]);
    // The next one says it anew, differently.
    let daemon = machine.daemon();
    daemon
        .handle
        .set_network(records(1, "front", "api", 1))
        .await
        .unwrap();
    daemon
        .add("b", &[1], &Arc::new(new_namespace().unwrap()))
        .await;
    assert_eq!(addresses(&namespace, "web"), ["10.1.0.1"]);
    assert_eq!(addresses(&namespace, "api"), ["10.1.0.1"]);
    daemon.handle.complete().await.unwrap();
    let status = daemon.handle.status().await.unwrap().unwrap();
    assert_eq!(status.sandboxes, ["b".parse().unwrap()]);
    assert_eq!(machine.process(), Some(pid));
    daemon.handle.end().await.unwrap();
    wait_until("the end", async || test_kill_process(pid).is_err()).await;
    assert!(!machine.socket().exists());
}

/// Not a test of its own: what [`answers_go_on_when_the_daemon_is_killed`] kills.
#[tokio::test]
async fn daemon_to_be_killed() {
    let Some(namespace) = std::env::var_os(DAEMON_VAR) else {
        return;
    };
    let socket = std::env::var_os("DATAPATH_TEST_SOCKET").unwrap();
    let (handle, service) = datapath_client::Datapath::new(datapath_client::Options {
        program: datapath_client::ProgramSource::Path(PROGRAM.into()),
        socket: socket.into(),
    });
    let serve = service.run(tokio_util::sync::CancellationToken::new());
    let say = async {
        let namespace = Arc::new(std::fs::File::open(namespace).unwrap().into());
        handle
            .set_network(records(1, "front", "web", 1))
            .await
            .unwrap();
        let view = crate::machine::view(&[1]);
        handle
            .set_sandbox("a".parse().unwrap(), namespace, view)
            .await
            .unwrap();
        std::future::pending::<()>().await;
    };
    tokio::join!(serve, say);
}

#[tokio::test]
async fn answers_go_on_when_the_daemon_is_killed() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let namespace = Arc::new(new_namespace().unwrap());
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "survival::daemon_to_be_killed"])
        .env(DAEMON_VAR, descriptor_path(&namespace))
        .env("DATAPATH_TEST_SOCKET", machine.socket())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the sandbox", async || {
        let observer = machine.process().is_some();
        observer
            && datapath::namespace::within(&namespace, || {
                std::net::TcpStream::connect("127.0.0.11:53")
            })
            .is_ok()
    })
    .await;
    let pid = machine.process().unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(addresses(&namespace, "web"), ["10.1.0.1"]);
    let daemon = machine.daemon();
    daemon
        .handle
        .set_network(records(1, "front", "web", 2))
        .await
        .unwrap();
    daemon.add("a", &[1], &namespace).await;
    daemon.handle.complete().await.unwrap();
    assert_eq!(machine.process(), Some(pid));
    assert_eq!(addresses(&namespace, "tasks.web").len(), 2);
}

#[tokio::test]
async fn everything_is_said_again_to_a_new_process() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let namespace = Arc::new(new_namespace().unwrap());
    let daemon = machine.daemon();
    daemon
        .handle
        .set_network(records(1, "front", "web", 1))
        .await
        .unwrap();
    daemon.add("a", &[1], &namespace).await;
    daemon.handle.complete().await.unwrap();
    for _ in 0..3 {
        let pid = machine.process().unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        wait_until("a new process", async || {
            machine.process().is_some_and(|new| new != pid)
        })
        .await;
        wait_until("its sandbox", async || {
            let status = daemon.handle.status().await;
            status.is_ok_and(|status| status.is_some_and(|status| status.sandboxes.len() == 1))
        })
        .await;
        assert_eq!(addresses(&namespace, "web"), ["10.1.0.1"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_release_takes_over_without_losing_a_question() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let namespace = Arc::new(new_namespace().unwrap());
    let daemon = machine.daemon();
    daemon
        .handle
        .set_network(records(1, "front", "web", 1))
        .await
        .unwrap();
    daemon.add("a", &[1], &namespace).await;
    daemon.stop().await;
    let stop = Arc::new(AtomicBool::new(false));
    let client = {
        let (namespace, stop) = (Arc::clone(&namespace), Arc::clone(&stop));
        // A question without an answer is a panic here: none is asked twice.
        std::thread::spawn(move || {
            let mut count = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let reply = ask(&namespace, &query("web", RecordType::A));
                assert_eq!(data(&reply), ["10.1.0.1"]);
                count += 1;
            }
            count
        })
    };
    for release in 0..3 {
        let before = machine.process().unwrap();
        let program = machine.path(&format!("release{release}"));
        std::fs::copy(PROGRAM, &program).unwrap();
        let mut file = std::fs::File::options()
            .append(true)
            .open(&program)
            .unwrap();
        writeln!(file, "release {release}").unwrap();
        let daemon = machine.daemon_with(&program);
        let status = daemon.handle.status().await.unwrap().unwrap();
        assert_eq!(status.sandboxes.len(), 1);
        wait_until("the successor", async || {
            machine.process().is_some_and(|now| now != before)
        })
        .await;
        wait_until("the predecessor's end", async || {
            test_kill_process(before).is_err()
        })
        .await;
        daemon.stop().await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(client.join().unwrap() > 0);
}
