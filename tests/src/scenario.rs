//! Scenario scripts: commands against the whole control plane in virtual time.
//!
//! ```text
//! node add 3 [--label k=v] [--cpus 4] [--memory 8G]      node down|up|drain|pause|activate|rm n2
//! node label n2 k=v      node unlabel n2 k      node resources n2 --cpus 1
//! service create web [flags]      service update web [flags]      service scale web 5
//! service rollback web      service rm web
//! task fail web.1      task exit web.1      history 5      leader change
//! settle      advance 5s      tasks [web]      nodes      services
//! ```
//!
//! Every command is echoed after `> `. Commands that change something let everything happen that
//! needs no time, unless they end in ` …`. Images say how a container behaves: `web:2+fail@3s`
//! fails after three seconds, `+exit@3s` completes, `+start@3s` and `+stop@3s` take their time,
//! `+reject` cannot be prepared.

mod audit;
mod service_flags;
mod tables;
mod values;
mod workers;
mod world;

use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use types::node::{Availability, NodeState};
use types::{NodeId, ServiceId, ServiceSpec, Task, TaskId, TaskState};

pub use audit::Audit;
pub use workers::Workers;
pub use world::{Machine, World};

/// Ends a command after which nothing is to happen yet.
const LATER: &str = "…";

/// Runs a script and returns everything it shows.
///
/// # Errors
/// When a command is wrong, with its line number.
pub fn run(script: &str) -> anyhow::Result<String> {
    let mut world = World::default();
    let mut shown = String::new();
    for (number, line) in script.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            writeln!(shown, "{line}")?;
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let output =
            command(&mut world, &words).with_context(|| format!("line {}: {line}", number + 1))?;
        writeln!(shown, "> {line}")?;
        shown.push_str(&output);
    }
    Ok(shown)
}

fn command(world: &mut World, words: &[&str]) -> anyhow::Result<String> {
    let (words, settles) = match words.split_last() {
        Some((&LATER, words)) => (words, false),
        Some(_) | None => (words, true),
    };
    match words {
        ["tasks"] => return Ok(tables::tasks(world.state(), None)),
        ["tasks", service] => return Ok(tables::tasks(world.state(), Some(service))),
        ["nodes"] => return Ok(tables::nodes(world.state())),
        ["services"] => return Ok(tables::services(world.state())),
        ["advance", time] => {
            world.advance(values::duration(time)?);
            return Ok(format!("at {:?}\n", world.elapsed()));
        }
        ["settle"] => {}
        ["history", limit] => world.set_history_limit(limit.parse()?),
        ["leader", "change"] => world.change_leader(),
        ["node", words @ ..] => node(world, words)?,
        ["service", words @ ..] => service(world, words)?,
        ["task", "fail", name] => end(world, name, TaskState::Failed, "task: non-zero exit (1)")?,
        ["task", "exit", name] => end(world, name, TaskState::Complete, "")?,
        _ => bail!("unknown command"),
    }
    if settles {
        world.settle();
    }
    Ok(String::new())
}

fn node(world: &mut World, words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["add", count, flags @ ..] => {
            let machine = machine(flags)?;
            for _ in 0..count.parse::<usize>()? {
                world.add_node(&machine);
            }
        }
        ["down", name] => {
            let id = node_named(world, name)?;
            world.set_node_state(id, NodeState::Down);
        }
        ["up", name] => {
            let id = node_named(world, name)?;
            world.set_node_state(id, NodeState::Ready);
        }
        ["rm", name] => {
            let id = node_named(world, name)?;
            world.remove_node(id);
        }
        ["drain", name] => set_availability(world, name, Availability::Drain)?,
        ["pause", name] => set_availability(world, name, Availability::Pause)?,
        ["activate", name] => set_availability(world, name, Availability::Active)?,
        ["label", name, label] => {
            let (key, value) = values::pair(label)?;
            let id = node_named(world, name)?;
            world.edit_node(id, |node| {
                node.spec.labels.insert(key, value);
            });
        }
        ["unlabel", name, key] => {
            let id = node_named(world, name)?;
            world.edit_node(id, |node| {
                node.spec.labels.remove(*key);
            });
        }
        ["resources", name, flags @ ..] => {
            let resources = machine(flags)?.resources;
            let id = node_named(world, name)?;
            world.edit_node(id, |node| {
                if let Some(description) = &mut node.description {
                    description.resources = resources;
                }
            });
        }
        _ => bail!("unknown command on nodes"),
    }
    Ok(())
}

fn machine(flags: &[&str]) -> anyhow::Result<Machine> {
    let mut machine = Machine::default();
    for pair in flags.chunks(2) {
        match pair {
            ["--label", label] => machine.spec.labels.extend([values::pair(label)?]),
            ["--cpus", cpus] => machine.resources.nano_cpus = values::nano_cpus(cpus)?,
            ["--memory", memory] => machine.resources.memory_bytes = values::bytes(memory)?,
            _ => bail!("unknown flag {pair:?} of a node"),
        }
    }
    Ok(machine)
}

fn set_availability(world: &mut World, name: &str, to: Availability) -> anyhow::Result<()> {
    let id = node_named(world, name)?;
    world.edit_node(id, |node| node.spec.availability = to);
    Ok(())
}

fn node_named(world: &World, name: &str) -> anyhow::Result<NodeId> {
    let node = world.state().nodes().find(|node| node.hostname() == name);
    Ok(node.with_context(|| format!("no node {name}"))?.id)
}

fn service(world: &mut World, words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["create", name, flags @ ..] => {
            let mut spec = ServiceSpec {
                name: (*name).to_owned(),
                ..ServiceSpec::default()
            };
            service_flags::apply(&mut spec, &["--image", "v1"])?;
            service_flags::apply(&mut spec, flags)?;
            world.create_service(spec)?;
        }
        ["update", name, flags @ ..] => {
            let id = service_named(world, name)?;
            let mut result = Ok(());
            world.update_service(id, |spec| result = service_flags::apply(spec, flags));
            result?;
        }
        ["scale", name, replicas] => {
            let id = service_named(world, name)?;
            let mut result = Ok(());
            let flags = ["--replicas", replicas];
            world.update_service(id, |spec| result = service_flags::apply(spec, &flags));
            result?;
        }
        ["rollback", name] => {
            let id = service_named(world, name)?;
            ensure!(world.roll_back_service(id), "{name} has no previous spec");
        }
        ["rm", name] => {
            let id = service_named(world, name)?;
            world.remove_service(id);
        }
        _ => bail!("unknown command on services"),
    }
    Ok(())
}

fn service_named(world: &World, name: &str) -> anyhow::Result<ServiceId> {
    let service = world.state().service_by_name(name);
    Ok(service.with_context(|| format!("no service {name}"))?.id)
}

fn end(world: &mut World, name: &str, state: TaskState, err: &str) -> anyhow::Result<()> {
    let id = running_task(world, name)?;
    ensure!(world.end_task(id, state, err), "{name} does not run");
    Ok(())
}

/// The running task shown under this name.
fn running_task(world: &World, name: &str) -> anyhow::Result<TaskId> {
    let runs = |task: &Task| task.is_runnable() && task.status.state == TaskState::Running;
    let state = world.state();
    let task = state
        .tasks()
        .find(|task| runs(task) && tables::display_name(state, task) == name);
    Ok(task.with_context(|| format!("no running task {name}"))?.id)
}
