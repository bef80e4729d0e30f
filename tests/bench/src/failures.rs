//! Machines that go: the leader's and a worker's, loudly and silently; and one that comes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Lab, Programs};

use crate::client::{Client, RUNNING, spec};
use crate::figures::Figures;
use crate::swarm;

/// Runs of each measurement: each needs a swarm of its own.
const RUNS: usize = 3;

/// One try at a write without a leader.
const TRY_MAX: Duration = Duration::from_secs(2);

/// Ways a machine can go.
const WAYS: [(&str, bool); 2] = [("killed", false), ("silent", true)];

pub(crate) fn leader(programs: &Programs, figures: &mut Figures) -> Result<()> {
    for (way, silent) in WAYS {
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let mut lab = swarm(programs, 3, 0)?;
            wait_ready(&lab, 3)?;
            let leader = leader_of(&lab)?;
            let mut client = Client::new(lab.node((leader + 1) % 3))?;
            client.create(spec("before", 0))?;
            if silent {
                lab.node(leader).plug(false)?;
            }
            let start = Instant::now();
            lab.node_mut(leader).power_off();
            let mut tries = 0;
            client.wait("a write", |client| {
                tries += 1;
                Ok(client
                    .try_create(spec(&format!("after{tries}"), 0), TRY_MAX)
                    .is_ok())
            })?;
            times.push(start.elapsed().as_secs_f64());
        }
        figures.add(&format!("failover.{way}"), "s", times);
    }
    Ok(())
}

pub(crate) fn worker(programs: &Programs, figures: &mut Figures) -> Result<()> {
    for (way, silent) in WAYS {
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let mut lab = swarm(programs, 1, 2)?;
            wait_ready(&lab, 3)?;
            let mut client = Client::new(lab.node(0))?;
            client.create(spec("f", 12))?;
            client.wait_running("f", 12)?;
            let victim = client.node_id(lab.node(2).name())?;
            if silent {
                lab.node(2).plug(false)?;
            }
            let start = Instant::now();
            lab.node_mut(2).power_off();
            client.wait("the replacements", |client| {
                let tasks = client.tasks("f")?;
                let elsewhere = tasks.iter().filter(|task| {
                    let running = task.status.as_ref().is_some_and(|s| s.state == RUNNING);
                    running && task.node_id != victim
                });
                Ok(elsewhere.count() >= 12)
            })?;
            times.push(start.elapsed().as_secs_f64());
        }
        figures.add(&format!("nodefail.{way}"), "s", times);
    }
    Ok(())
}

pub(crate) fn join(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let mut lab = swarm(programs, 1, 0)?;
    wait_ready(&lab, 1)?;
    let token = lab.node(0).ctl(&["join-token", "-q", "worker"])?;
    let remote = format!("{}:2377", lab.node(0).address());
    let mut times = Vec::new();
    for run in 0..RUNS * 2 {
        let index = lab.add_node()?;
        lab.node(index).start_daemon()?;
        let mut client = Client::new(lab.node(0))?;
        let start = Instant::now();
        let address = lab.node(index).address().to_string();
        let args = [
            "join",
            "--token",
            token.trim(),
            "--advertise-addr",
            &address,
            &remote,
        ];
        lab.node(index).ctl(&args)?;
        client.wait("the node to be ready", |client| {
            Ok(client.nodes_ready()? == run + 2)
        })?;
        times.push(start.elapsed().as_secs_f64());
    }
    figures.add("join.worker_ready", "s", times);
    Ok(())
}

fn wait_ready(lab: &Lab, count: usize) -> Result<()> {
    let mut client = Client::new(lab.node(0))?;
    client.wait("the nodes to be ready", |client| {
        Ok(client.nodes_ready()? == count)
    })
}

/// Number of the machine that leads.
pub(crate) fn leader_of(lab: &Lab) -> Result<usize> {
    let list = ["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"];
    let nodes = lab.node(0).ctl(&list)?;
    let name = nodes.lines().find_map(|line| line.strip_suffix(" Leader"));
    let position = lab
        .nodes()
        .iter()
        .position(|node| Some(node.name()) == name);
    position.with_context(|| format!("no leader in {nodes:?}"))
}
