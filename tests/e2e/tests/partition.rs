//! Cuts between nodes in every pattern while services come, go and change: when all is mended, every
//! node is as the store says, every endpoint reaches every other, and names say who is there.
//!
//! `SWARM_TEST_ROUNDS` (30) and `SWARM_TEST_SEED` (1) choose, `SWARM_TEST_MINUTES` goes on for so
//! long instead.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::story::{MANAGERS, Silent, Story, WEB_PORT, WORKERS};
use harness::{Lab, Probe, wait_for};
use serde_json::Value;
use swarm_e2e::Dice;

const NODES: usize = MANAGERS + WORKERS;
const ROUNDS: usize = 30;
/// How long it may take until all is well again.
const HEAL_MAX: Duration = Duration::from_secs(60);
/// Longest a command may take during a cut.
const COMMAND_MAX: Duration = Duration::from_millis(700);
/// Longest of short cuts, which most are, and of long ones: nodes are held for down by then, and
/// another manager leads.
const CUT_MS_MAX: [usize; 2] = [400, 2500];
/// The networks and a subnet of each.
const NETWORKS: [(&str, &str); 2] = [("front", "10.80.0.0/24"), ("back", "10.81.0.0/24")];
/// Services that come and go.
const PASSING_MAX: usize = 3;

type Pairs = BTreeSet<(usize, usize)>;

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_healed_cluster_is_whole_whatever_was_cut() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    let seed = from_env("SWARM_TEST_SEED").unwrap_or(1);
    let rounds = from_env("SWARM_TEST_ROUNDS").unwrap_or(ROUNDS);
    let minutes: Option<u64> = from_env("SWARM_TEST_MINUTES");
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.form().unwrap();
    story.load_images().unwrap();
    begin(&lab);
    let mut dice = Dice::new(seed);
    let splits = splits();
    let start = Instant::now();
    let is_over = |round| match minutes {
        Some(minutes) => start.elapsed() > Duration::from_secs(60 * minutes),
        None => round == rounds,
    };
    whole(&lab).unwrap();
    let mut changes = 0;
    for round in 0.. {
        if is_over(round) {
            let took = start.elapsed();
            println!("{round} rounds in {took:?}, {changes} changes of services");
            assert!(changes > 0, "no change was ever taken");
            break;
        }
        let (name, pairs) = pattern(&mut dice, &splits);
        for node in lab.nodes() {
            node.remark(&format!("round {round}: {name}")).unwrap();
        }
        let began = Instant::now();
        let taken = cut_and_churn(&lab, &mut dice, &pairs);
        changes += taken;
        let healing = Instant::now();
        whole(&lab).unwrap_or_else(|error| {
            panic!(
                "round {round}, seed {seed}, {name} for {:?}: {error:#}",
                healing - began
            )
        });
        println!(
            "round {round}: {name}: {taken} changes, cut {:?}, whole after {:?}",
            healing - began,
            healing.elapsed()
        );
    }
    let (nodes, _) = verify(&lab).unwrap();
    for node in &nodes {
        println!("{}: repairs {}", node["Node"], node["Details"]["Repairs"]);
    }
}

/// Every way to split the nodes into groups but to leave them together: as the number of each
/// node's group.
fn splits() -> Vec<[usize; NODES]> {
    let mut all = vec![vec![0]];
    for _ in 1..NODES {
        let longer = all.into_iter().flat_map(|groups| {
            let next = groups.iter().max().unwrap_or(&0) + 1;
            (0..=next).map(move |group| [&groups[..], &[group]].concat())
        });
        all = longer.collect();
    }
    let split = all
        .into_iter()
        .filter(|groups| groups.iter().any(|group| *group > 0));
    split.map(|groups| groups.try_into().unwrap()).collect()
}

#[test]
fn splits_are_all_there_are() {
    let all = splits();
    let different: BTreeSet<_> = all.iter().collect();
    // Bell's number of five, less the one that is no split.
    assert_eq!((all.len(), different.len()), (51, 51));
}

/// Which ways are cut: a split into groups, or any ways, each for itself.
fn pattern(dice: &mut Dice, splits: &[[usize; NODES]]) -> (String, Pairs) {
    let all = (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b)));
    let all = all.filter(|(a, b)| a != b);
    if dice.below(4) > 0 {
        let groups = splits[dice.below(splits.len())];
        let pairs = all.filter(|(a, b)| groups[*a] != groups[*b]).collect();
        return (format!("split {groups:?}"), pairs);
    }
    let pairs: Pairs = all.filter(|_| dice.below(3) == 0).collect();
    (format!("ways {pairs:?}"), pairs)
}

/// Services that stay: one on every node, one on both networks, one without a virtual address.
fn begin(lab: &Lab) {
    let ctl = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        lab.node(0).ctl(&words).unwrap()
    };
    // Nodes are missed sooner, so that short cuts move tasks.
    ctl("update --dispatcher-heartbeat 500ms");
    for (name, subnet) in NETWORKS {
        ctl(&format!(
            "network create -d overlay --subnet {subnet} {name}"
        ));
    }
    ctl("service create -d --name all --mode global --restart-delay 0s --network front web:1");
    ctl(
        "service create -d --name both --replicas 2 --restart-delay 0s --network front \
         --network back web:1",
    );
    ctl(
        "service create -d --name turn --replicas 3 --restart-delay 0s --network back \
         --endpoint-mode dnsrr web:1",
    );
}

/// Cuts, changes services meanwhile on whichever side takes it, mends. Now and then a daemon is
/// killed in between. Returns how many changes were taken.
fn cut_and_churn(lab: &Lab, dice: &mut Dice, pairs: &Pairs) -> usize {
    let longest = CUT_MS_MAX[usize::from(dice.below(6) == 0)];
    let duration = Duration::from_millis(100 + dice.below(longest) as u64);
    let victim = (dice.below(5) == 0).then(|| lab.node(dice.below(NODES)));
    // How often it is thrown depends on the time; the rounds after this one do not.
    let seed = dice.below(usize::MAX) as u64;
    for (from, to) in pairs {
        lab.cut(*from, *to).unwrap();
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Managers without a majority keep who asks them waiting.
        let churning = (0..MANAGERS).map(|manager| {
            let (mut dice, is_over) = (Dice::new(seed ^ manager as u64), &is_over);
            scope.spawn(move || {
                let mut taken = 0;
                while !is_over.load(Ordering::Relaxed) {
                    taken += usize::from(change_something(lab, manager, &mut dice));
                }
                taken
            })
        });
        let churning: Vec<_> = churning.collect();
        if let Some(victim) = victim {
            victim.stop_daemon(9).unwrap();
        }
        // The cut lasts as long as it lasts: this is no wait for anything.
        std::thread::sleep(duration);
        if let Some(victim) = victim {
            victim.start_daemon().unwrap();
        }
        for (from, to) in pairs {
            lab.mend(*from, *to).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        churning.into_iter().map(|one| one.join().unwrap()).sum()
    })
}

/// One change of a service that comes and goes. It may be refused, or never get through; one that
/// is given up may be carried out all the same. Returns whether it was taken.
fn change_something(lab: &Lab, manager: usize, dice: &mut Dice) -> bool {
    let name = format!("pass{}", dice.below(PASSING_MAX));
    let (network, _) = NETWORKS[dice.below(NETWORKS.len())];
    let replicas = 1 + dice.below(3);
    let words = match dice.below(5) {
        0 | 1 => format!(
            "service create -d --name {name} --replicas {replicas} --restart-delay 0s \
             --update-delay 0s --update-monitor 0s --network {network} web:1"
        ),
        2 => format!("service scale -d {name}={}", dice.below(4)),
        3 => format!(
            "service update -d --env-add TURN={} {name}",
            dice.below(1000)
        ),
        _ => format!("service rm {name}"),
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = lab.node(manager).ctl_command(&words);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        if start.elapsed() > COMMAND_MAX {
            child.kill().unwrap();
            child.wait().unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until everything is as it should be, in every respect.
fn whole(lab: &Lab) -> Result<()> {
    let asked = |words: &[&str]| lab.node(0).ctl(words);
    wait_for("all nodes to be ready", HEAL_MAX, || {
        let nodes = asked(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        let ready = nodes
            .lines()
            .filter(|line| line.ends_with(" Ready"))
            .count();
        Ok(if ready == NODES { Ok(()) } else { Err(nodes) })
    })?;
    wait_for("all services to be whole", HEAL_MAX, || {
        services(lab).map(|services| services.map(drop))
    })?;
    let mut unchanged = 0;
    let mut stale = Vec::new();
    wait_for("every node to be as the store says", HEAL_MAX, || {
        let (nodes, good) = verify(lab)?;
        let not_told = |node: &&Value| node["Details"]["Stale"] != Value::Array(vec![]);
        stale.extend(nodes.iter().filter(not_told).map(ToString::to_string));
        unchanged = if good { unchanged + 1 } else { 0 };
        // Twice: what was repaired holds.
        Ok(if unchanged == 2 {
            Ok(())
        } else {
            Err(format!("{nodes:?}"))
        })
    })?;
    ensure!(
        stale.is_empty(),
        "managers did not tell of changes: {stale:?}"
    );
    wait_for("everybody to reach everybody", HEAL_MAX, || {
        // A change that was given up may come true yet.
        let probes = match services(lab)? {
            Ok(probes) => probes,
            Err(list) => return Ok(Err(list)),
        };
        for (network, subnet) in NETWORKS {
            meet(lab, network, subnet, &probes)?;
        }
        Ok(Ok(()))
    })
}

/// Every service with its tasks, or what is seen while some are missing.
fn services(lab: &Lab) -> Result<Result<BTreeMap<String, Vec<Probe>>, String>> {
    let list = ["service", "ls", "--format", "{{.Name}} {{.Replicas}}"];
    let list = lab.node(0).ctl(&list)?;
    let Some(counts) = list.lines().map(running).collect::<Option<Vec<_>>>() else {
        return Ok(Err(list));
    };
    let mut probes = BTreeMap::new();
    for (service, count) in counts {
        let tasks = Probe::of_service(lab, 0, &service, count, Duration::ZERO)?;
        probes.insert(service, tasks);
    }
    Ok(Ok(probes))
}

/// `NAME 3/3` or `NAME 3/3 (…)` as name and number; `None` while some are missing.
fn running(line: &str) -> Option<(String, usize)> {
    let mut words = line.split(' ');
    let (name, replicas) = (words.next()?, words.next()?);
    let (running, wanted) = replicas.split_once('/')?;
    (running == wanted).then_some((name.to_owned(), wanted.parse().ok()?))
}

/// What each node says, and whether the command was content.
fn verify(lab: &Lab) -> Result<(Vec<Value>, bool)> {
    let words = ["network", "verify", "--format", "json"];
    let output = lab.node(0).ctl_command(&words).output()?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let nodes = lines.lines().map(serde_json::from_str);
    let nodes: Vec<Value> = nodes.collect::<Result<_, _>>()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(nodes.len() == NODES, "{said}");
    Ok((nodes, output.status.success()))
}

/// One service on a network: its virtual address there, and its tasks' addresses with who answers.
struct Met {
    name: String,
    vip: Option<IpAddr>,
    tasks: BTreeMap<IpAddr, String>,
}

/// Every task on a network asks for every service by name, and calls every address.
fn meet(
    lab: &Lab,
    network: &str,
    subnet: &str,
    probes: &BTreeMap<String, Vec<Probe>>,
) -> Result<()> {
    let id = lab
        .node(0)
        .ctl(&["network", "inspect", "--format", "{{.Id}}", network])?;
    let mut services = Vec::new();
    for (name, tasks) in probes {
        let vip = vip(lab, name, id.trim())?;
        let mut met = BTreeMap::new();
        for task in tasks {
            if let Ok(address) = task.address_in(subnet) {
                met.insert(address, task.task[..12].to_owned());
            }
        }
        if vip.is_some() || !met.is_empty() {
            services.push(Met {
                name: name.clone(),
                vip,
                tasks: met,
            });
        }
    }
    let on_network = probes.values().flatten();
    for one in on_network.filter(|one| one.address_in(subnet).is_ok()) {
        for service in &services {
            meet_one(one, network, service)
                .with_context(|| format!("{} on {network} asks for {}", one.name, service.name))?;
        }
    }
    Ok(())
}

fn meet_one(one: &Probe, network: &str, service: &Met) -> Result<()> {
    let all: Vec<IpAddr> = service.tasks.keys().copied().collect();
    // A task on several networks is answered by the first that knows the name.
    let name = format!("{}.{network}", service.name);
    let found = one.addresses_of(&format!("tasks.{name}"))?;
    ensure!(found == all, "tasks are {all:?}, DNS says {found:?}");
    let leads_to = service.vip.map_or_else(|| all.clone(), |vip| vec![vip]);
    let found = one.addresses_of(&name)?;
    ensure!(found == leads_to, "it has {leads_to:?}, DNS says {found:?}");
    for (address, host) in &service.tasks {
        let who = one.who(SocketAddr::new(*address, WEB_PORT))?;
        ensure!(&who["host"] == host, "{address} is {host}, {who:?} answers");
    }
    let Some(vip) = service.vip else {
        return Ok(());
    };
    // Once for each of its tasks: which one answers is not ours to say.
    for _ in &service.tasks {
        let who = one.who(SocketAddr::new(vip, WEB_PORT))?;
        let is_its = service.tasks.values().any(|host| *host == who["host"]);
        if !is_its {
            bail!("{who:?} answers at {vip}");
        }
    }
    Ok(())
}

/// The virtual address of a service on a network.
fn vip(lab: &Lab, service: &str, network: &str) -> Result<Option<IpAddr>> {
    let inspect = ["service", "inspect", "--format", "json", service];
    let service = lab.node(0).ctl_json(&inspect)?;
    let vips = service["Endpoint"]["VirtualIPs"].as_array();
    let vip = vips
        .into_iter()
        .flatten()
        .find(|vip| vip["NetworkID"] == network);
    let Some(address) = vip.and_then(|vip| vip["Addr"].as_str()) else {
        return Ok(None);
    };
    let address = address.split('/').next().unwrap_or(address);
    Ok(Some(address.parse()?))
}
