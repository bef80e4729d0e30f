//! How fast the planners are: `cargo run --release -p swarm-tests --example planning`.
//!
//! Prints `name: value unit`. Times hold the store, the planners and the simulated workers.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::time::Instant;

use swarm_tests::scenario::{Machine, World};
use types::ServiceSpec;
use types::node::NodeState;
use types::service::ServiceMode;

fn service(name: String, replicas: u64) -> ServiceSpec {
    ServiceSpec { name, mode: ServiceMode::Replicated { replicas }, ..ServiceSpec::default() }
}

fn world(nodes: usize) -> World {
    let mut world = World::default();
    for _ in 0..nodes {
        world.add_node(&Machine::default());
    }
    world.settle();
    world
}

fn report(name: &str, since: Instant, per: usize) {
    let elapsed = since.elapsed();
    let each = elapsed.as_secs_f64() * 1e6 / f64::from(u32::try_from(per).expect("few"));
    println!("{name}: {:.1} ms ({each:.1} µs each)", elapsed.as_secs_f64() * 1e3);
}

fn main() {
    // What a manager does per service created, when thousands exist already.
    let mut many = world(5);
    let start = Instant::now();
    for number in 0..10_000 {
        many.create_service(service(format!("s{number}"), 0)).expect("names are numbered");
        many.settle();
    }
    report("10,000 services without replicas, one by one", start, 10_000);

    for count in [100, 10_000] {
        let mut cluster = world(100);
        let id = cluster.create_service(service("web".into(), count)).expect("the first");
        let per = usize::try_from(count).expect("few");
        let start = Instant::now();
        cluster.settle();
        report(&format!("{count} tasks on 100 nodes, created to running"), start, per);

        let start = Instant::now();
        let (node, task) = cluster.workers().running()[per / 2];
        cluster.end_task(task, types::TaskState::Failed, "");
        cluster.settle();
        report(&format!("one of {count} tasks fails"), start, 1);

        let start = Instant::now();
        cluster.set_node_state(node, NodeState::Down);
        cluster.settle();
        report(&format!("one of 100 nodes with {count} tasks goes down"), start, per / 100);

        let start = Instant::now();
        cluster.update_service(id, |spec| {
            spec.update_config.parallelism = 0;
            Arc::make_mut(&mut spec.task).container.image = "v2".into();
        });
        cluster.settle();
        report(&format!("{count} tasks updated all at once"), start, per);

        let start = Instant::now();
        cluster.remove_service(id);
        cluster.advance(std::time::Duration::from_secs(1));
        report(&format!("{count} tasks removed"), start, per);
    }
}
