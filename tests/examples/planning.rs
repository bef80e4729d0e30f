//! How fast the planners are: `cargo run --release -p swarm-tests --example planning`.
//!
//! Prints `name: value unit`: the time planners took, then all time with store and simulated workers.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use swarm_tests::scenario::{Machine, World};
use types::ServiceSpec;
use types::node::NodeState;
use types::service::ServiceMode;

fn service(name: String, replicas: u64) -> ServiceSpec {
    ServiceSpec {
        name,
        mode: ServiceMode::Replicated { replicas },
        ..ServiceSpec::default()
    }
}

fn world(nodes: usize) -> World {
    let mut world = World::default();
    for _ in 0..nodes {
        world.add_node(&Machine::default());
    }
    world.settle();
    world
}

/// Does something, and prints how long it took.
fn measure(name: &str, world: &mut World, act: impl FnOnce(&mut World)) {
    world.planning = Duration::ZERO;
    let transactions = world.transactions;
    let start = Instant::now();
    act(world);
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    let planning = world.planning.as_secs_f64() * 1e3;
    let transactions = world.transactions - transactions;
    println!("{name}: {planning:.2} ms (of {elapsed:.1} ms, {transactions} transactions)");
}

fn main() {
    // What a manager does per service created, when thousands exist already.
    measure(
        "10,000 services without replicas, one by one",
        &mut world(5),
        |world| {
            for number in 0..10_000 {
                world
                    .create_service(service(format!("s{number}"), 0))
                    .expect("names are numbered");
                world.settle();
            }
        },
    );
    for count in [100, 10_000] {
        of_tasks(count);
    }
}

fn of_tasks(count: u64) {
    let mut world = world(100);
    let world = &mut world;
    let id = world
        .create_service(service("web".into(), count))
        .expect("the first");
    measure(
        &format!("{count} tasks on 100 nodes, created to running"),
        world,
        World::settle,
    );
    let (node, task) = world.workers().running()[0];
    measure(&format!("one of {count} tasks fails"), world, |world| {
        world.end_task(task, types::TaskState::Failed, "");
        world.settle();
    });
    measure(
        &format!("one of 100 nodes with {count} tasks goes down"),
        world,
        |world| {
            world.set_node_state(node, NodeState::Down);
            world.settle();
        },
    );
    measure(
        &format!("{count} tasks updated all at once"),
        world,
        |world| {
            world.update_service(id, |spec| {
                spec.update_config.parallelism = 0;
                Arc::make_mut(&mut spec.task).container.image = "v2".into();
            });
            world.settle();
        },
    );
    measure(&format!("{count} tasks removed"), world, |world| {
        world.remove_service(id);
        world.advance(Duration::from_secs(1));
    });
}
