//! Further programs in a running container: they live as its own do, and are never left behind.

use std::time::Duration;

use crate::harness::{Host, PATIENCE, in_time};
use container::spec::{ContainerSpec, Resources};
use container::{Container, Error, Executed};

async fn exec(container: &Container, script: &str) -> Executed {
    let args = ["sh", "-c", script].map(String::from);
    in_time(container.exec(&args, PATIENCE)).await.unwrap()
}

#[tokio::test]
async fn it_is_confined_as_the_containers_own_program() {
    let Some(host) = Host::new() else { return };
    let script = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; \
        sed -n '/^Cap/p; /^Seccomp:/p; /^NoNewPrivs/p; /^Uid/p; /^Gid/p; /^Groups/p; /^Sig/p' /proc/self/status; \
        sed 's/^[0-9]*://' /proc/self/cgroup | sort; env | sort | grep -v '^_='; pwd; hostname; ls -l /proc/self/fd 2>/dev/null | grep -c socket || true";
    let spec = ContainerSpec {
        user: "1000:1000".into(),
        cwd: "/tmp/here".into(),
        env: vec!["COLOUR=green".into()],
        hostname: "inside".into(),
        ..host.sh(&format!("{script}; sleep 1000"))
    };
    let container = host.start("confined", &spec).await;
    let own = until_logged(&container, "\n0\n").await;
    let further = exec(&container, script).await;
    assert_eq!(further.code, 0, "{}", further.output);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&own), lines(&further.output));
    assert!(
        further.output.contains("COLOUR=green"),
        "{}",
        further.output
    );
    assert!(
        further.output.contains("/tmp/here\ninside\n"),
        "{}",
        further.output
    );
    in_time(container.remove()).await.unwrap();
}

/// What the container has written, once the end of it is there.
async fn until_logged(container: &Container, end: &str) -> String {
    let reading = async {
        loop {
            let text =
                crate::harness::read_log(&container.log_dir(), container::log::Stream::Stdout);
            if text.ends_with(end) {
                return text;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("it writes")
}

#[tokio::test]
async fn its_end_is_told() {
    let Some(host) = Host::new() else { return };
    let container = host.start("ends", &host.command(&["sleep", "1000"])).await;
    assert_eq!(
        exec(&container, "echo out; echo err >&2; exit 7")
            .await
            .code,
        7
    );
    assert_eq!(exec(&container, "kill -9 $$").await.code, 137);
    let output = exec(&container, "echo out; echo err >&2").await.output;
    assert_eq!(output, "out\nerr\n");
    let long = exec(&container, "seq 1 100000").await;
    assert_eq!(
        (long.code, long.output.len()),
        (0, 4096),
        "the rest is read and dropped"
    );
    let missing = in_time(container.exec(&["/no/such".into()], PATIENCE))
        .await
        .unwrap();
    assert_eq!(missing.code, 127);
    assert!(missing.output.contains("/no/such"), "{}", missing.output);
    in_time(container.remove()).await.unwrap();
}

#[tokio::test]
async fn it_has_its_time_and_no_more() {
    let Some(host) = Host::new() else { return };
    let container = host.start("time", &host.command(&["sleep", "1000"])).await;
    let args = ["sh", "-c", "sleep 999 & sleep 998"].map(String::from);
    let ended = in_time(container.exec(&args, Duration::from_millis(200)))
        .await
        .unwrap();
    assert!(ended.timed_out);
    assert_eq!(ended.code, 137);
    let left = exec(&container, "ps | grep -c 'sleep 99[89]$'").await;
    assert_eq!(left.output.trim(), "0", "its children went with it");
    // The container goes on, and the next one has a full time.
    assert!(!exec(&container, "true").await.timed_out);
    in_time(container.remove()).await.unwrap();
}

#[tokio::test]
async fn it_ends_with_its_container() {
    let Some(host) = Host::new() else { return };
    let container = host
        .start("together", &host.command(&["sleep", "1000"]))
        .await;
    let args = ["sleep", "999"].map(String::from);
    let waiting = tokio::join!(container.exec(&args, PATIENCE), async {
        while exec(&container, "ps | grep -c 'sleep 999$'")
            .await
            .output
            .trim()
            == "0"
        {}
        container.kill().await.unwrap();
    });
    // Killed with its container, or told of the container's end: whichever is seen first.
    match waiting.0 {
        Ok(ended) => assert_eq!(ended.code, 137),
        Err(error) => assert!(matches!(error, Error::Ended(_)), "{error:?}"),
    }
    in_time(container.wait()).await.unwrap();
    let after = in_time(container.exec(&args, PATIENCE)).await;
    assert!(matches!(after, Err(Error::Ended(_))), "{after:?}");
    in_time(container.remove()).await.unwrap();
}

#[tokio::test]
async fn it_counts_against_the_containers_limits() {
    let Some(host) = Host::new() else { return };
    let spec = ContainerSpec {
        resources: Resources {
            pids_max: Some(3),
            ..Resources::default()
        },
        ..host.command(&["sleep", "1000"])
    };
    let container = host.start("limits", &spec).await;
    let many = exec(&container, "for n in 1 2 3 4; do sleep 5 & done; echo all").await;
    assert!(!many.output.contains("all"), "{}", many.output);
    in_time(container.remove()).await.unwrap();
}

#[tokio::test]
async fn there_is_a_limit_to_how_many() {
    let Some(host) = Host::new() else { return };
    let container = host.start("many", &host.command(&["sleep", "1000"])).await;
    let args = ["sleep", "2"].map(String::from);
    let all = futures::future::join_all((0..12).map(|_| container.exec(&args, PATIENCE)));
    let all = in_time(all).await;
    let done = all.iter().filter(|ended| ended.is_ok()).count();
    assert!((8..12).contains(&done), "{done}");
    assert!(all.iter().flatten().all(|ended| ended.code == 0));
    in_time(container.remove()).await.unwrap();
}
