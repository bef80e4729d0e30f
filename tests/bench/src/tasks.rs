//! A hundred tasks on one node: started, removed; and one killed among three nodes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Programs, eventually};

use crate::client::{Client, RUNNING, on_networks, spec};
use crate::figures::Figures;
use crate::swarm;

/// Runs of each measurement.
const RUNS: usize = 5;

/// How long containers may take to go.
const GONE_MAX: Duration = Duration::from_secs(60);

pub(crate) fn start_and_remove(programs: &Programs, figures: &mut Figures) -> Result<()> {
    bursts(programs, figures, "tasks", &[])
}

/// The same, each task on an overlay.
pub(crate) fn on_overlay(programs: &Programs, figures: &mut Figures) -> Result<()> {
    bursts(programs, figures, "overlay_tasks", &["net"])
}

fn bursts(
    programs: &Programs,
    figures: &mut Figures,
    prefix: &str,
    networks: &[&str],
) -> Result<()> {
    let lab = swarm(programs, 1, 0)?;
    for network in networks {
        lab.node(0)
            .ctl(&["network", "create", "-d", "overlay", network])?;
    }
    let node = lab.node(0);
    let mut client = Client::new(node)?;
    for count in [1_u32, 100] {
        let (mut up, mut cpu, mut down) = (vec![], vec![], vec![]);
        for run in 0..RUNS {
            let name = format!("s{count}x{run}");
            let cpu_before = node.cpu_time()?;
            let start = Instant::now();
            client.create(on_networks(spec(&name, count.into()), networks))?;
            client.wait_running(&name, count.into())?;
            up.push(start.elapsed().as_secs_f64());
            let used = node.cpu_time()?.saturating_sub(cpu_before);
            cpu.push(used.as_secs_f64() * 1000.0 / f64::from(count));

            let start = Instant::now();
            client.remove(&name)?;
            eventually("the containers to be gone", GONE_MAX, || {
                Ok(node.pids_of("web")?.is_empty())
            })?;
            down.push(start.elapsed().as_secs_f64());
            client.wait("the tasks to be forgotten", |client| {
                Ok(client.tasks("")?.is_empty())
            })?;
        }
        figures.add(&format!("{prefix}{count}.created_to_running"), "s", up);
        figures.add(&format!("{prefix}{count}.cpu_per_task"), "ms", cpu);
        figures.add(&format!("{prefix}{count}.removed"), "s", down);
    }
    Ok(())
}

pub(crate) fn heal(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let lab = swarm(programs, 1, 2)?;
    let mut client = Client::new(lab.node(0))?;
    client.create(spec("h", 3))?;
    client.wait_running("h", 3)?;
    let mut times = Vec::new();
    for run in 0..RUNS * 2 {
        let node = lab.node(run % 3);
        let victim = *node.pids_of("web")?.first().context("each node runs one")?;
        let before: Vec<String> = client.tasks("h")?.into_iter().map(|task| task.id).collect();
        let start = Instant::now();
        node.signal(victim, 9)?;
        client.wait("the replacement", |client| {
            Ok(client.tasks("h")?.iter().any(|task| {
                let running = task
                    .status
                    .as_ref()
                    .is_some_and(|status| status.state == RUNNING);
                running && !before.contains(&task.id)
            }))
        })?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        client.wait("all three", |client| {
            let tasks = client.tasks("h")?;
            let running = |task: &&proto::objects::Task| {
                task.status
                    .as_ref()
                    .is_some_and(|status| status.state == RUNNING)
            };
            Ok(tasks.iter().filter(running).count() == 3)
        })?;
    }
    figures.add("heal.kill_to_running", "ms", times);
    Ok(())
}
