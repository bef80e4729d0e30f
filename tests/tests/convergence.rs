//! Random histories of a cluster: whatever happens, rules hold at every commit, and once it is left
//! in peace it comes to the declared state.
//!
//! A failing seed prints itself; `SEED=n cargo test -p swarm-tests --test convergence` runs it alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use swarm_tests::scenario::{Audit, Machine, World};
use types::node::{Availability, NodeState};
use types::service::ServiceMode;
use types::task::RestartCondition;
use types::update::{FailureAction, UpdateOrder, UpdateState};
use types::{NodeId, ServiceId, ServiceSpec, TaskState};

/// Seeds run by default; `SEEDS=n` runs the first n.
const SEEDS: u64 = 50;
const STEPS: usize = 60;

/// Splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let index =
            usize::try_from(self.roll(of.len().max(1) as u64)).expect("it is below a length");
        of.get(index).copied()
    }

    /// One of some that cannot be none.
    fn one<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        self.pick(&of).expect("there is at least one")
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.roll(one_in) == 0
    }
}

fn image(dice: &mut Dice) -> String {
    let behaviours = [
        "",
        "",
        "",
        "+stop@3s",
        "+start@2s",
        "+fail@4s",
        "+exit@5s",
        "+reject",
    ];
    let behaviour = dice.one(behaviours);
    format!("v{}{behaviour}", dice.roll(4))
}

fn change(spec: &mut ServiceSpec, dice: &mut Dice) {
    match dice.roll(8) {
        0 => drop(spec.labels.insert("a".into(), dice.roll(9).to_string())),
        1 => {
            let task = Arc::make_mut(&mut spec.task);
            task.restart_policy.condition = dice.one([
                RestartCondition::None,
                RestartCondition::OnFailure,
                RestartCondition::Any,
            ]);
            task.restart_policy.max_attempts = dice.roll(3);
            task.restart_policy.delay = Duration::from_secs(dice.roll(6));
        }
        2 => Arc::make_mut(&mut spec.task).force_update += 1,
        3 => {
            let constraints = &mut Arc::make_mut(&mut spec.task).placement.constraints;
            constraints.clear();
            if dice.chance(2) {
                constraints.push(format!("node.labels.zone!={}", dice.roll(3)));
            }
        }
        4 => {
            spec.update_config.parallelism = dice.roll(3);
            spec.update_config.delay = Duration::from_secs(dice.roll(4));
            spec.update_config.failure_action = dice.one([
                FailureAction::Pause,
                FailureAction::Continue,
                FailureAction::Rollback,
            ]);
            spec.update_config.order = dice.one([UpdateOrder::StopFirst, UpdateOrder::StartFirst]);
            Arc::make_mut(&mut spec.task).container.image = image(dice);
        }
        5 if !matches!(spec.mode, ServiceMode::Global {}) => {
            spec.mode = ServiceMode::Replicated {
                replicas: dice.roll(7),
            };
        }
        _ => Arc::make_mut(&mut spec.task).container.image = image(dice),
    }
}

fn new_service(world: &mut World, dice: &mut Dice, number: usize) {
    let mut spec = ServiceSpec {
        name: format!("s{number}"),
        ..ServiceSpec::default()
    };
    let task = Arc::make_mut(&mut spec.task);
    task.container.image = image(dice);
    task.resources.reservations.nano_cpus = dice.roll(3) * 250_000_000;
    spec.mode = if dice.chance(4) {
        ServiceMode::Global {}
    } else {
        ServiceMode::Replicated {
            replicas: dice.roll(7),
        }
    };
    for _ in 0..3 {
        change(&mut spec, dice);
    }
    world.create_service(spec).expect("names are numbered");
}

fn nodes(world: &World) -> Vec<NodeId> {
    world.state().nodes().map(|node| node.id).collect()
}

fn services(world: &World) -> Vec<ServiceId> {
    world.state().services().map(|service| service.id).collect()
}

fn step(world: &mut World, dice: &mut Dice, number: usize) {
    let node = dice.pick(&nodes(world)).expect("there is always a node");
    let service = dice.pick(&services(world));
    match dice.roll(16) {
        0 | 1 if services(world).len() < 6 => new_service(world, dice, number),
        2..=4 => {
            if let Some(service) = service {
                world.update_service(service, |spec| change(spec, dice));
            }
        }
        5 => {
            if let Some(service) = service {
                world.roll_back_service(service);
            }
        }
        6 if dice.chance(3) => {
            if let Some(service) = service {
                world.remove_service(service);
            }
        }
        7 => world.set_node_state(node, NodeState::Down),
        8 => world.set_node_state(node, NodeState::Ready),
        9 => {
            let all = [
                Availability::Active,
                Availability::Pause,
                Availability::Drain,
            ];
            let to = dice.one(all);
            world.edit_node(node, |node| node.spec.availability = to);
        }
        10 => {
            let zone = dice.roll(3).to_string();
            world.edit_node(node, |node| {
                drop(node.spec.labels.insert("zone".into(), zone))
            });
        }
        11 if dice.chance(2) && nodes(world).len() > 2 => world.remove_node(node),
        12 if nodes(world).len() < 6 => drop(world.add_node(&Machine::default())),
        13 => world.change_leader(),
        14 => world.split_leadership(),
        _ => {
            if let Some((_, task)) = dice.pick(&world.workers().running()) {
                world.end_task(task, TaskState::Failed, "task: non-zero exit (1)");
            }
        }
    }
    // Sometimes the next thing happens before anyone has reacted to the last.
    if dice.chance(4) {
        return;
    }
    world.advance(Duration::from_millis(dice.roll(4000)));
    assert_eq!(
        Audit::overcommitted(world.state()),
        [],
        "tasks reserve more than a node has"
    );
}

/// Ends all trouble: every node back, room for everything, every service on a spec that can run.
fn heal(world: &mut World) {
    for _ in 0..3 {
        world.add_node(&Machine::default());
    }
    for node in nodes(world) {
        world.set_node_state(node, NodeState::Ready);
        world.edit_node(node, |node| node.spec.availability = Availability::Active);
    }
    for service in services(world) {
        world.update_service(service, |spec| {
            let task = Arc::make_mut(&mut spec.task);
            task.container.image = "good".into();
            task.placement.constraints.clear();
            task.restart_policy.condition = RestartCondition::Any;
            task.restart_policy.max_attempts = 0;
        });
    }
}

/// Everything in which the containers that run differ from what is declared.
fn divergence(world: &World) -> Vec<String> {
    let state = world.state();
    let mut wrong = Vec::new();
    let mut filled: BTreeMap<ServiceId, Vec<(u64, Option<NodeId>)>> = BTreeMap::new();
    for (node, id) in world.workers().running() {
        let Some(task) = state.task(id) else {
            wrong.push(format!("{id} runs but is not stored"));
            continue;
        };
        if task.spec.container.image != "good" {
            wrong.push(format!(
                "{} still runs {}",
                task.name(),
                task.spec.container.image
            ));
        }
        let position = (task.slot, (task.slot == 0).then_some(node));
        filled.entry(task.service_id).or_default().push(position);
    }
    for service in state.services() {
        let mut found = filled.remove(&service.id).unwrap_or_default();
        found.sort_unstable();
        let running = found.len();
        found.dedup();
        if found.len() != running {
            wrong.push(format!(
                "{}: several run in one slot: {found:?}",
                service.spec.name
            ));
        }
        let wanted = match service.spec.mode {
            ServiceMode::Replicated { replicas } => {
                usize::try_from(replicas).expect("few replicas")
            }
            ServiceMode::Global {} => {
                let nodes = state.nodes();
                nodes
                    .filter(|node| node.spec.availability == Availability::Active)
                    .count()
            }
        };
        if running != wanted {
            wrong.push(format!(
                "{}: {running} of {wanted} run: {found:?}",
                service.spec.name
            ));
        }
        if let Some(update) = &service.update_status
            && !matches!(
                update.state,
                UpdateState::Completed | UpdateState::RollbackCompleted
            )
        {
            wrong.push(format!("{}: {update:?}", service.spec.name));
        }
    }
    if !filled.is_empty() {
        wrong.push(format!("tasks of no service run: {filled:?}"));
    }
    wrong
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let mut world = World::default();
    for _ in 0..3 {
        world.add_node(&Machine::default());
    }
    for number in 0..STEPS {
        step(&mut world, &mut dice, number);
    }
    heal(&mut world);
    world.advance(Duration::from_secs(600));
    assert_eq!(divergence(&world), Vec::<String>::new(), "after healing");

    // Two leaders make the same missing tasks: one of each pair has to go.
    for service in services(&world) {
        world.update_service(service, |spec| {
            if let ServiceMode::Replicated { replicas } = &mut spec.mode {
                *replicas += 1;
            }
        });
    }
    world.split_leadership();
    world.advance(Duration::from_secs(60));
    assert_eq!(
        divergence(&world),
        Vec::<String>::new(),
        "after a moment with two leaders"
    );

    let drained = nodes(&world)[0];
    world.edit_node(drained, |node| node.spec.availability = Availability::Drain);
    world.advance(Duration::from_secs(120));
    let left = world
        .workers()
        .running()
        .into_iter()
        .filter(|(node, _)| *node == drained);
    assert_eq!(left.count(), 0, "a drained node ends empty");
    assert_eq!(
        divergence(&world),
        Vec::<String>::new(),
        "after draining a node"
    );

    for service in services(&world) {
        world.remove_service(service);
    }
    world.advance(Duration::from_secs(60));
    assert_eq!(
        world.state().tasks().count(),
        0,
        "tasks of removed services are deleted"
    );
    assert_eq!(world.workers().running(), []);
}

#[test]
fn random_histories_converge() {
    let number = |name| {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{name} is not a number")),
        )
    };
    let seeds: Vec<u64> = match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let failed: Vec<u64> = seeds
        .into_iter()
        .filter(|seed| {
            let failed = std::panic::catch_unwind(|| run(*seed)).is_err();
            if failed {
                eprintln!("SEED={seed} cargo test -p swarm-tests --test convergence");
            }
            failed
        })
        .collect();
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}
