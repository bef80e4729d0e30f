//! Measures the promises in speed and memory on real daemons, beside Docker's figures.
//!
//! Prints `name: value unit` on standard output, one figure a line, and what it is doing on
//! standard error. It judges nothing: the promise stands behind each figure for the reader.

use anyhow::{Result, bail};
use harness::{Lab, LabOptions, Programs};

mod attach;
mod balancer;
mod client;
mod failures;
mod figures;
mod memory;
mod names;
mod peer;
mod place;
mod propagation;
mod store;
mod tasks;
mod throughput;

use figures::Figures;

/// A measurement: its name on the command line, and Docker's tests that match it.
struct Measurement {
    name: &'static str,
    peer_tests: &'static [&'static str],
    run: fn(&Programs, &mut Figures) -> Result<()>,
}

const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        name: "tasks",
        peer_tests: &["single"],
        run: tasks::start_and_remove,
    },
    Measurement {
        name: "heal",
        peer_tests: &["heal"],
        run: tasks::heal,
    },
    Measurement {
        name: "failover",
        peer_tests: &["failover"],
        run: failures::leader,
    },
    Measurement {
        name: "nodefail",
        peer_tests: &["nodefail"],
        run: failures::worker,
    },
    Measurement {
        name: "join",
        peer_tests: &["init"],
        run: failures::join,
    },
    Measurement {
        name: "store",
        peer_tests: &["store"],
        run: store::one_manager,
    },
    Measurement {
        name: "store3",
        peer_tests: &["store3"],
        run: store::three_managers,
    },
    Measurement {
        name: "memory",
        peer_tests: &["mem"],
        run: memory::idle_and_loaded,
    },
    Measurement {
        name: "overlay_tasks",
        peer_tests: &["net"],
        run: tasks::on_overlay,
    },
    Measurement {
        name: "attach",
        peer_tests: &[],
        run: attach::one_container,
    },
    Measurement {
        name: "throughput",
        peer_tests: &["overlay"],
        run: throughput::between_nodes,
    },
    Measurement {
        name: "endpoint",
        peer_tests: &[],
        run: propagation::new_endpoint,
    },
    Measurement {
        name: "silent",
        peer_tests: &[],
        run: propagation::dead_node,
    },
    Measurement {
        name: "names",
        peer_tests: &[],
        run: names::answers,
    },
    Measurement {
        name: "balancer",
        peer_tests: &[],
        run: balancer::load_and_change,
    },
];

fn main() -> Result<()> {
    let mut peer = false;
    let mut names = Vec::new();
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--peer" => peer = true,
            name if MEASUREMENTS.iter().any(|m| m.name == name) => names.push(word),
            other => {
                let known: Vec<&str> = MEASUREMENTS.iter().map(|m| m.name).collect();
                bail!(
                    "unknown measurement {other:?}: known are {}, and --peer",
                    known.join(", ")
                );
            }
        }
    }
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    let mut broken = Vec::new();
    for measurement in MEASUREMENTS {
        if !names.is_empty() && !names.iter().any(|name| name == measurement.name) {
            continue;
        }
        eprintln!("# {}", measurement.name);
        if let Err(error) = (measurement.run)(&programs, &mut figures) {
            eprintln!("# {} broke off: {error:#}", measurement.name);
            broken.push(measurement.name);
        }
        if peer && !measurement.peer_tests.is_empty() {
            peer::run(measurement.peer_tests, &mut figures)?;
        }
    }
    figures.summary();
    if !broken.is_empty() {
        bail!("not measured: {}", broken.join(", "));
    }
    Ok(())
}

/// A swarm of this size with the example's image on each node.
fn swarm(programs: &Programs, managers: usize, workers: usize) -> Result<Lab> {
    let mut lab = Lab::new(LabOptions::new(programs.clone()))?;
    lab.form_swarm(managers, workers)?;
    let archive = lab.dir().join("web.tar");
    harness::story::write_example_image(&programs.web, "1", &archive)?;
    for node in lab.nodes() {
        node.ctl(&["image", "load", &archive.to_string_lossy()])?;
    }
    Ok(lab)
}
