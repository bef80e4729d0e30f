//! Memory and processor time of a manager that has nothing to do, alone and with 100 tasks.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Node, Programs};

use crate::client::{Client, spec};
use crate::figures::Figures;
use crate::swarm;

/// How long doing nothing is watched.
const IDLE: Duration = Duration::from_secs(30);

/// How long a daemon may settle after work before it counts as idle.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) fn idle_and_loaded(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let lab = swarm(programs, 1, 0)?;
    let node = lab.node(0);
    std::thread::sleep(SETTLE);
    figures.add(
        "cpu.idle_manager",
        "percent_of_a_core",
        vec![idle_cpu(node)?],
    );
    figures.add("memory.idle_manager", "MiB", vec![daemon_mib(node)?]);

    let mut client = Client::new(node)?;
    client.create(spec("m", 100))?;
    client.wait_running("m", 100)?;
    std::thread::sleep(SETTLE);
    figures.add(
        "cpu.idle_tasks100",
        "percent_of_a_core",
        vec![idle_cpu(node)?],
    );
    let daemon = daemon_mib(node)?;
    let by_program = node.memory_by_program()?;
    let mut total = daemon;
    for (program, kib) in by_program {
        // The daemon counts with all it holds (RSS), the rest with their share (PSS).
        if program != "swarmd" && program != "node-init" {
            let mib = mib(kib);
            figures.add(&format!("memory.tasks100.{program}"), "MiB", vec![mib]);
            total += mib;
        }
    }
    figures.add("memory.tasks100.swarmd", "MiB", vec![daemon]);
    figures.add("memory.tasks100", "MiB", vec![total]);
    Ok(())
}

fn idle_cpu(node: &Node) -> Result<f64> {
    let before = node.cpu_time()?;
    std::thread::sleep(IDLE);
    let used = node.cpu_time()?.saturating_sub(before);
    Ok(used.as_secs_f64() / IDLE.as_secs_f64() * 100.0)
}

fn daemon_mib(node: &Node) -> Result<f64> {
    let pid = *node.pids_of("swarmd")?.first().context("the daemon runs")?;
    Ok(mib(node.memory_kib(pid)?))
}

fn mib(kib: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "memory sizes are far below 2^52"
    )]
    let kib = kib as f64;
    kib / 1024.0
}
