//! How containers start and end: exit codes, signals, grace periods, programs that cannot be run.

use crate::harness::{Host, in_time, read_log, until};
use container::control::Phase;
use container::log::Stream;
use container::{Error, Step};
use std::time::{Duration, Instant};

#[tokio::test]
async fn exit_code_and_output_are_kept() {
    let Some(host) = Host::new() else { return };
    let run = host.run(&host.sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!(run.status.code, 7, "{run:?}");
    assert_eq!(
        (run.stdout.as_str(), run.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(run.status.signal, None);
    assert!(!run.status.oom_killed);
}

#[tokio::test]
async fn created_container_waits_for_its_start() {
    let Some(host) = Host::new() else { return };
    let container = in_time(host.runtime.create("c", &host.sh("echo ran")))
        .await
        .unwrap();
    assert_eq!(container.phase().await.unwrap(), Phase::Created);
    assert!(container.pid() > 0);
    assert_eq!(read_log(&container.log_dir(), Stream::Stdout), "");
    assert!(matches!(
        in_time(host.runtime.create("c", &host.sh("true"))).await,
        Err(Error::Exists(id)) if id == "c"
    ));
    in_time(container.start()).await.unwrap();
    assert_eq!(in_time(container.wait()).await.unwrap().code, 0);
    assert_eq!(container.phase().await.unwrap(), Phase::Exited);
    assert_eq!(read_log(&container.log_dir(), Stream::Stdout), "ran\n");
    assert!(matches!(
        in_time(container.start()).await,
        Err(Error::Ended(_))
    ));
    assert!(matches!(
        in_time(container.kill()).await,
        Err(Error::Ended(_))
    ));
    // The answer stays the same however often it is asked for.
    assert_eq!(in_time(container.wait()).await.unwrap().code, 0);
}

#[tokio::test]
async fn second_start_is_refused() {
    let Some(host) = Host::new() else { return };
    let container = host.start("c", &host.command(&["sleep", "1000"])).await;
    let error = in_time(container.start()).await.unwrap_err();
    assert!(
        error.to_string().contains("it was started before"),
        "{error}"
    );
    in_time(container.kill()).await.unwrap();
    assert_eq!(in_time(container.wait()).await.unwrap().signal, Some(9));
}

#[tokio::test]
async fn signal_that_is_handled_decides_the_exit() {
    let Some(host) = Host::new() else { return };
    let script = "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.01; done";
    let container = host.start("c", &host.sh(script)).await;
    until("the trap", || {
        read_log(&container.log_dir(), Stream::Stdout) == "up\n"
    })
    .await;
    let status = in_time(container.stop(libc_sigterm(), Duration::from_secs(20)))
        .await
        .unwrap();
    assert_eq!((status.code, status.signal), (5, None));
    assert_eq!(read_log(&container.log_dir(), Stream::Stdout), "up\ngot\n");
}

#[tokio::test]
async fn grace_period_ends_in_a_kill() {
    let Some(host) = Host::new() else { return };
    let container = host
        .start("c", &host.sh("trap '' TERM; echo up; sleep 1000"))
        .await;
    until("the trap", || {
        read_log(&container.log_dir(), Stream::Stdout) == "up\n"
    })
    .await;
    let start = Instant::now();
    let grace = Duration::from_millis(300);
    let status = in_time(container.stop(libc_sigterm(), grace))
        .await
        .unwrap();
    assert_eq!((status.code, status.signal), (137, Some(9)));
    let took = start.elapsed();
    assert!(took >= grace && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn created_container_can_be_stopped_and_removed() {
    let Some(host) = Host::new() else { return };
    let container = in_time(host.runtime.create("c", &host.sh("true")))
        .await
        .unwrap();
    let status = in_time(container.stop(libc_sigterm(), Duration::from_secs(20)))
        .await
        .unwrap();
    assert_eq!(status.code, 137);
    let other = in_time(host.runtime.create("d", &host.sh("true")))
        .await
        .unwrap();
    in_time(other.remove()).await.unwrap();
    assert_eq!(host.runtime.list().unwrap(), ["c"]);
    assert!(host.cgroups("d").is_empty());
}

#[tokio::test]
async fn program_that_cannot_be_executed_is_told_apart() {
    let Some(host) = Host::new() else { return };
    std::fs::write(host.image.join("bin/text"), "no program").unwrap();
    std::fs::write(host.image.join("bin/broken"), "\x7fELF").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(host.image.join("bin/broken"), mode).unwrap();
    for (program, code, words) in [
        ("nonexistent", 127, "No such file"),
        ("/bin/nonexistent", 127, "No such file"),
        ("/bin/sh/x", 127, "Not a directory"),
        ("text", 126, "Permission denied"),
        ("/bin/text", 126, "Permission denied"),
        ("/bin", 126, "Permission denied"),
        ("broken", 126, "Exec format error"),
    ] {
        for init in [false, true] {
            let spec = container::ContainerSpec {
                init,
                ..host.command(&[program])
            };
            let container = in_time(host.runtime.create("c", &spec)).await.unwrap();
            let error = in_time(container.start()).await.unwrap_err();
            let fault = error.fault().expect("a fault").clone();
            assert_eq!(fault.step, Step::Exec, "{program}");
            assert_eq!(fault.subject, program);
            assert!(error.to_string().contains(words), "{error}");
            let status = in_time(container.wait()).await.unwrap();
            assert_eq!(
                (status.code, status.error),
                (code, Some(fault)),
                "{program} init {init}"
            );
            in_time(container.remove()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn init_reaps_passes_signals_on_and_ends_as_the_program_does() {
    let Some(host) = Host::new() else { return };
    let spec = |script: &str| container::ContainerSpec {
        init: true,
        ..host.sh(script)
    };
    let run = host
        .run(&spec("echo $$ $PPID; (sleep 0.05 &) ; exit 3"))
        .await;
    assert_eq!(
        (run.status.code, run.stdout.as_str()),
        (3, "2 1\n"),
        "{run:?}"
    );
    // A program without handlers is only kept from signals as process 1.
    let container = host.start("c", &spec("echo up; sleep 1000")).await;
    until("output", || {
        !read_log(&container.log_dir(), Stream::Stdout).is_empty()
    })
    .await;
    let status = in_time(container.stop(libc_sigterm(), Duration::from_secs(20)))
        .await
        .unwrap();
    assert_eq!(status.code, 143);
}

#[tokio::test]
async fn output_without_newline_and_long_lines_are_kept() {
    let Some(host) = Host::new() else { return };
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo -n end";
    let run = host.run(&host.sh(script)).await;
    assert_eq!(run.stdout.len(), 100_000 + 1 + 4);
    assert!(run.stdout.ends_with("x\nend\n"));
}

#[tokio::test]
async fn much_output_is_rotated_and_never_blocks() {
    let Some(host) = Host::new() else { return };
    let mut spec = host.sh("seq 1 200000");
    spec.log = container::spec::LogOptions {
        file_bytes_max: 64 << 10,
        files_max: 3,
    };
    let run = host.run(&spec).await;
    assert_eq!(run.status.code, 0);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines.last(), Some(&"200000"));
    let first: usize = lines[0].parse().unwrap();
    assert_eq!(lines.len(), 200_000 - first + 1, "no gap");
    assert!(lines.len() > 3000, "{} lines", lines.len());
}

const fn libc_sigterm() -> i32 {
    15
}
