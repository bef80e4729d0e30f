//! What is left when the daemon, the shim or both go away: nothing that should not be.

use crate::harness::{Host, in_time, is_inside, read_log, until};
use container::control::Phase;
use container::log::{Follower, Reader, Start, Stream};
use container::state::{Process, State};
use container::{Runtime, Step};
use std::time::Duration;

fn state(host: &Host, id: &str) -> State {
    let dir = host.options.state_dir.join(id);
    container::state::read(&dir, container::state::STATE_FILE)
        .unwrap()
        .expect("a state")
}

fn kill_9(process: Process) {
    assert!(process.exists());
    let status = std::process::Command::new("kill")
        .args(["-9", &process.pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn is_gone(process: Process) -> bool {
    // A zombie whose new parent is slow to reap is as good as gone.
    !process.exists()
        || std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" Z"))
        })
}

#[tokio::test]
async fn containers_outlive_their_daemon() {
    let Some(host) = Host::new() else { return };
    let script = "trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done";
    let container = host.start("c", &host.sh(script)).await;
    let waiting = in_time(host.runtime.create("waiting", &host.sh("exit 6")))
        .await
        .unwrap();
    let (pid, other) = (container.pid(), waiting.pid());
    drop((container, waiting));

    let later = Runtime::new(host.options.clone()).unwrap();
    let mut ids = later.list().unwrap();
    ids.sort();
    assert_eq!(ids, ["c", "waiting"]);
    let container = in_time(later.attach("c"))
        .await
        .unwrap()
        .expect("it is there");
    assert_eq!(container.pid(), pid);
    assert_eq!(container.phase().await.unwrap(), Phase::Running);
    until("output", || {
        read_log(&container.log_dir(), Stream::Stdout) == "up\n"
    })
    .await;
    let status = in_time(container.stop(15, Duration::from_secs(20)))
        .await
        .unwrap();
    assert_eq!(status.code, 4);

    let waiting = in_time(later.attach("waiting"))
        .await
        .unwrap()
        .expect("it is there");
    assert_eq!(
        (waiting.pid(), waiting.phase().await.unwrap()),
        (other, Phase::Created)
    );
    in_time(waiting.start()).await.unwrap();
    assert_eq!(in_time(waiting.wait()).await.unwrap().code, 6);
    assert!(in_time(later.attach("none")).await.unwrap().is_none());
}

#[tokio::test]
async fn exit_while_no_daemon_looks_is_kept() {
    let Some(host) = Host::new() else { return };
    let container = host
        .start("c", &host.sh("sleep 0.05; echo bye; exit 9"))
        .await;
    let shim = state(&host, "c").shim;
    drop(container);
    until("the shim's end", || is_gone(shim)).await;
    let later = Runtime::new(host.options.clone()).unwrap();
    let container = in_time(later.attach("c"))
        .await
        .unwrap()
        .expect("it is there");
    assert_eq!(container.exit_status().unwrap().expect("an exit").code, 9);
    assert_eq!(in_time(container.wait()).await.unwrap().code, 9);
    assert_eq!(read_log(&container.log_dir(), Stream::Stdout), "bye\n");
    assert!(
        host.cgroups("c").is_empty(),
        "the shim has cleared up by itself"
    );
}

#[tokio::test]
async fn container_dies_with_its_shim() {
    let Some(host) = Host::new() else { return };
    let container = host.start("c", &host.sh("sleep 1000 & sleep 1000")).await;
    let State { shim, init } = state(&host, "c");
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let container = container.clone();
        waiters.spawn(async move { container.wait().await.unwrap() });
    }
    tokio::task::yield_now().await;
    kill_9(shim);
    let mut statuses = in_time(waiters.join_all()).await;
    let status = statuses.pop().expect("three");
    assert!(
        statuses.iter().all(|other| *other == status),
        "all are told the same"
    );
    assert_eq!(status.code, 137);
    assert_eq!(status.error.map(|fault| fault.step), Some(Step::ShimDied));
    assert!(is_gone(init));
    assert!(host.cgroups("c").is_empty());
    assert_eq!(container.phase().await.unwrap(), Phase::Exited);
    in_time(container.remove()).await.unwrap();
    assert!(host.runtime.list().unwrap().is_empty());
}

#[tokio::test]
async fn shim_that_died_without_a_daemon_is_cleared_up_on_attach() {
    let Some(host) = Host::new() else { return };
    let container = host.start("c", &host.command(&["sleep", "1000"])).await;
    let created = in_time(host.runtime.create("d", &host.sh("true")))
        .await
        .unwrap();
    drop((container, created));
    let (running, created) = (state(&host, "c"), state(&host, "d"));
    kill_9(running.shim);
    kill_9(created.shim);
    until("the shims' ends", || {
        is_gone(running.shim) && is_gone(created.shim)
    })
    .await;
    let later = Runtime::new(host.options.clone()).unwrap();
    for id in ["c", "d"] {
        let container = in_time(later.attach(id))
            .await
            .unwrap()
            .expect("it is there");
        let status = in_time(container.wait()).await.unwrap();
        assert_eq!(status.error.map(|fault| fault.step), Some(Step::ShimDied));
        assert!(host.cgroups(id).is_empty());
    }
    assert!(is_gone(running.init) && is_gone(created.init));
}

#[tokio::test]
async fn process_that_outlives_its_shim_is_found_and_killed() {
    let Some(host) = Host::new() else { return };
    // The kernel takes the death signal from a process that executes a set-user-id program, so only
    // what the shim wrote down, or its cgroup, leads to it.
    let program = host.image.join("suid/busybox");
    std::fs::create_dir(host.image.join("suid")).unwrap();
    std::fs::copy("/bin/busybox", &program).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(&program, mode).unwrap();
    for has_state in [true, false] {
        let mut spec = host.command(&["/suid/busybox", "sleep", "1000"]);
        spec.user = "web".into();
        let container = host.start("c", &spec).await;
        let State { shim, init } = state(&host, "c");
        if !has_state {
            std::fs::remove_file(host.options.state_dir.join("c/state.json")).unwrap();
        }
        kill_9(shim);
        until("the shim's end", || is_gone(shim)).await;
        assert!(
            !is_gone(init),
            "this tests nothing if the kernel has killed it"
        );
        let status = in_time(container.wait()).await.unwrap();
        assert_eq!(status.code, 137);
        // Known by its cgroup alone, it is out of that a moment before it has ended.
        until("the process's end", || is_gone(init)).await;
        assert!(host.cgroups("c").is_empty());
        in_time(container.remove()).await.unwrap();
    }
}

#[tokio::test]
async fn shim_that_is_flooded_keeps_its_container() {
    let Some(host) = Host::new() else { return };
    let container = host.start("c", &host.command(&["sleep", "1000"])).await;
    let socket = host.options.state_dir.join("c/shim.sock");
    // More connections than it takes. Who comes later waits; nobody takes it for dead.
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(std::os::unix::net::UnixStream::connect(&socket).unwrap());
    }
    let asked = tokio::time::timeout(Duration::from_millis(100), container.phase()).await;
    assert!(asked.is_err(), "it has to wait: {asked:?}");
    drop(held);
    assert_eq!(in_time(container.phase()).await.unwrap(), Phase::Running);
    // Nonsense closes the connection it came over, and nothing else.
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(b"{\"op\":\"fly\"}\n").unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    assert_eq!(in_time(container.phase()).await.unwrap(), Phase::Running);
}

#[tokio::test]
async fn half_made_container_is_cleared_up() {
    let Some(host) = Host::new() else { return };
    // A daemon that ended before it started the shim leaves a directory and nothing else.
    let dir = host.options.state_dir.join("c");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("made"), "").unwrap();
    let container = in_time(host.runtime.attach("c"))
        .await
        .unwrap()
        .expect("it is there");
    let status = in_time(container.wait()).await.unwrap();
    assert_eq!(status.error.map(|fault| fault.step), Some(Step::ShimDied));
    assert_eq!(container.pid(), 0);
    in_time(container.remove()).await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn output_is_followed_as_it_comes() {
    let Some(host) = Host::new() else { return };
    let mut spec = host.sh("for i in $(seq 1 400); do echo line $i; sleep 0.001; done");
    spec.log.file_bytes_max = 2000;
    spec.log.files_max = 10;
    let container = in_time(host.runtime.create("c", &spec)).await.unwrap();
    let log_dir = container.log_dir();
    let reader = Reader::open(&log_dir, Start::Oldest, 0).unwrap();
    let mut follower = Follower::new(&log_dir, reader).unwrap();
    in_time(container.start()).await.unwrap();
    for number in 1..=400 {
        let record = in_time(follower.next()).await.unwrap();
        assert_eq!(
            String::from_utf8(record.text).unwrap(),
            format!("line {number}")
        );
    }
    in_time(container.wait()).await.unwrap();
    assert_eq!(follower.try_next().unwrap(), None);
}

#[tokio::test]
async fn many_containers_at_once() {
    let Some(host) = Host::new() else { return };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (runtime, spec) = (host.runtime.clone(), host.sh(&format!("exit {number}")));
        tasks.spawn(async move {
            let container = runtime.create(&format!("c{number}"), &spec).await.unwrap();
            container.start().await.unwrap();
            let code = container.wait().await.unwrap().code;
            container.remove().await.unwrap();
            (number, code)
        });
    }
    for (number, code) in in_time(tasks.join_all()).await {
        assert_eq!(number, code);
    }
    assert!(host.runtime.list().unwrap().is_empty());
}

#[tokio::test]
async fn full_disk_loses_output_but_no_container() {
    if !is_inside(
        "survival::full_disk_loses_output_but_no_container",
        "mount -t tmpfs -o size=8m tmpfs /mnt && export TMPDIR=/mnt",
    ) {
        return;
    }
    let Some(host) = Host::new() else { return };
    let script = "trap 'echo after; exit 4' TERM; echo before; while :; do sleep 0.01; done";
    let container = host.start("c", &host.sh(script)).await;
    until("output", || {
        !read_log(&container.log_dir(), Stream::Stdout).is_empty()
    })
    .await;
    let filler = host.dir.path().join("filler");
    let full = std::io::copy(
        &mut std::io::repeat(0),
        &mut std::fs::File::create(&filler).unwrap(),
    );
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);

    let error = in_time(host.runtime.create("d", &host.sh("true")))
        .await
        .unwrap_err();
    assert!(
        format!("{error:?}").contains("28"),
        "no space left: {error:?}"
    );
    assert_eq!(host.runtime.list().unwrap(), ["c"]);
    assert!(host.cgroups("d").is_empty());
    let status = in_time(container.stop(15, Duration::from_secs(20)))
        .await
        .unwrap();
    assert_eq!(status.code, 4);
    until("the cgroups' end", || host.cgroups("c").is_empty()).await;

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(host.run(&host.sh("echo again")).await.stdout, "again\n");
}
