//! What a container costs: `cargo bench -p swarm-shim`. Prints `name: value unit`. Needs root and
//! `busybox-static`.

use container::{ContainerSpec, Runtime, RuntimeOptions, ShimSource};
use std::path::Path;
use std::time::{Duration, Instant};

/// Containers run one after the other.
const ROUNDS: usize = 60;
/// Containers alive at once.
const MANY: usize = 100;
/// Containers being made at once, as an agent would.
const PARALLEL: usize = 8;

fn main() {
    if !Path::new("/bin/busybox").exists() {
        println!("skipped: busybox-static not installed");
        return;
    }
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).expect("a subreaper");
    let dir = tempfile::tempdir().expect("a directory");
    let image = dir.path().join("image");
    std::fs::create_dir_all(image.join("bin")).expect("an image");
    std::fs::copy("/bin/busybox", image.join("bin/busybox")).expect("busybox");
    let runtime = Runtime::new(RuntimeOptions {
        shim: ShimSource::Path(env!("CARGO_BIN_EXE_swarm-shim").into()),
        state_dir: dir.path().join("state"),
        cgroup_parent: format!("swarm-bench-{}", std::process::id()),
    })
    .expect("a runtime (are you root?)");
    let spec = |args: &[&str]| ContainerSpec {
        layers: vec![image.clone()],
        args: args.iter().map(|arg| String::from(*arg)).collect(),
        ..ContainerSpec::default()
    };
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    executor.expect("an executor").block_on(async {
        one_by_one(&runtime, &spec(&["/bin/busybox", "true"])).await;
        many(&runtime, &spec(&["/bin/busybox", "sleep", "1000"])).await;
    });
    runtime
        .remove_cgroup_parent()
        .expect("the parent cgroup goes");
}

async fn one_by_one(runtime: &Runtime, spec: &ContainerSpec) {
    let mut phases: [Vec<Duration>; 5] = Default::default();
    for round in 0..ROUNDS {
        let id = format!("one-{round}");
        let begin = Instant::now();
        let container = runtime.create(&id, spec).await.expect("created");
        let created = Instant::now();
        container.start().await.expect("started");
        let started = Instant::now();
        container.wait().await.expect("ended");
        let ended = Instant::now();
        container.remove().await.expect("removed");
        let times = [
            created - begin,
            started - created,
            ended - started,
            ended - begin,
            ended.elapsed(),
        ];
        for (phase, time) in phases.iter_mut().zip(times) {
            phase.push(time);
        }
    }
    let names = ["create", "start", "exit", "create to exit", "remove"];
    for (name, mut times) in names.into_iter().zip(phases) {
        times.sort_unstable();
        let at = |part: usize| times[times.len() * part / 10].as_secs_f64() * 1e3;
        println!("{name} median: {:.2} ms", at(5));
        println!("{name} p10: {:.2} ms", at(1));
    }
}

async fn many(runtime: &Runtime, spec: &ContainerSpec) {
    let before = cpu_seconds();
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(PARALLEL));
    for number in 0..MANY {
        let (runtime, spec, permits) = (runtime.clone(), spec.clone(), permits.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire().await.expect("never closed");
            let container = runtime
                .create(&format!("many-{number}"), &spec)
                .await
                .expect("created");
            container.start().await.expect("started");
            container
        });
    }
    let containers = tasks.join_all().await;
    println!(
        "{MANY} containers created and running: {:.3} s",
        begin.elapsed().as_secs_f64()
    );
    // Shims give back what their start took after a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (mut pss, mut private) = (0, 0);
    for container in &containers {
        let (shim_pss, shim_private) = shim_memory(container.pid());
        pss += shim_pss;
        private += shim_private;
    }
    println!("shim pss: {} KiB", pss / MANY);
    println!("shim private: {} KiB", private / MANY);
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for container in containers {
        let permits = permits.clone();
        tasks.spawn(async move {
            let _permit = permits.acquire().await.expect("never closed");
            container.remove().await.expect("removed");
        });
    }
    tasks.join_all().await;
    println!(
        "{MANY} containers removed: {:.3} s",
        begin.elapsed().as_secs_f64()
    );
    let used = cpu_seconds() - before;
    println!(
        "processor time of each from creation to removal: {:.1} ms",
        used * 1e3 / MANY as f64
    );
}

/// Processor time this process and its ended children have used, with all their ended children;
/// shims are its children because it is a subreaper.
fn cpu_seconds() -> f64 {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let (_, fields) = stat.rsplit_once(')').expect("a command name");
    let ticks = |field: usize| -> f64 {
        let word = fields
            .split_ascii_whitespace()
            .nth(field - 3)
            .expect("the field");
        word.parse().expect("a number")
    };
    // User and system time, own and of children, from proc(5), in ticks of 10 ms.
    (14..=17).map(ticks).sum::<f64>() / 100.0
}

/// Proportional and private memory in KiB of the shim that is the parent of a container.
fn shim_memory(pid: i32) -> (usize, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let parent = field(&status, "PPid:");
    let rollup = std::fs::read_to_string(format!("/proc/{parent}/smaps_rollup")).expect("smaps");
    (
        field(&rollup, "Pss:"),
        field(&rollup, "Private_Dirty:") + field(&rollup, "Private_Clean:"),
    )
}

fn field(text: &str, name: &str) -> usize {
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .expect("the field");
    line.split_ascii_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .expect("a number")
}
