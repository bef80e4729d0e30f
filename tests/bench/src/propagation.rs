//! How soon all nodes send connections to a new task, and none to one on a node that fell silent.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::story::WEB_PORT;
use harness::{Lab, Probe, Programs, wait_for};
use types::Timestamp;

use crate::client::{Client, RUNNING};
use crate::figures::Figures;
use crate::place::Place;
use crate::swarm;

/// Runs of each measurement.
const NEW_RUNS: usize = 10;
const DEAD_RUNS: usize = 5;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a connection that will come may take: there is one wire, and it is short.
const CONNECT_MAX: Duration = Duration::from_millis(10);
/// The same of one that will not.
const SILENCE_MAX: Duration = Duration::from_millis(100);

/// Pause between two connections of those that are counted.
const PAUSE: Duration = Duration::from_millis(10);

/// How long connections have to succeed, one after the other, before none is lost any more.
const CALM: Duration = Duration::from_secs(3);

/// From the moment a task is RUNNING, as its node says, until every node reaches it.
pub(crate) fn new_endpoint(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let lab = swarm(programs, 1, 2)?;
    start(&lab, "new", "--replicas 0")?;
    let clients = Probe::of_service(&lab, 0, "clients", 3, LIMIT)?;
    let address = virtual_address(&clients[0], "new")?;
    let places = places(&clients)?;
    let mut client = Client::new(lab.node(0))?;
    let mut times = Vec::new();
    for _ in 0..NEW_RUNS {
        let usable: Result<Vec<Timestamp>> = std::thread::scope(|scope| {
            let waits: Vec<_> = places
                .iter()
                .map(|place| scope.spawn(|| first_connection(place, address)))
                .collect();
            lab.node(0).ctl(&["service", "scale", "-d", "new=1"])?;
            let joined = waits.into_iter().map(|wait| match wait.join() {
                Ok(at) => at,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        });
        let usable = usable?;
        let running = running_since(&mut client, "new")?;
        let last = usable.iter().max().context("some nodes were asked")?;
        let took = last.since(running);
        times.push(took.as_secs_f64() * 1000.0);
        lab.node(0).ctl(&["service", "scale", "-d", "new=0"])?;
        client.wait("the task to be gone", |client| {
            Ok(client.tasks("new")?.iter().all(|task| {
                let status = task.status.as_ref();
                status.is_none_or(|status| status.state > RUNNING)
            }))
        })?;
        wait_for("no more connections", LIMIT, || {
            let gone = places.iter().all(|place| {
                let connected = place.run(|| Ok(connect(address, CONNECT_MAX)));
                connected.is_ok_and(|connected| !connected)
            });
            Ok(if gone { Ok(()) } else { Err(String::new()) })
        })?;
    }
    figures.add("endpoint.usable_everywhere", "ms", times);
    Ok(())
}

/// From the moment a node falls silent until the last connection is lost to it.
pub(crate) fn dead_node(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let lab = swarm(programs, 1, 3)?;
    let silent = lab.node(3);
    start(&lab, "web", "--mode global")?;
    Probe::of_service(&lab, 0, "web", 4, LIMIT)?;
    let (mut times, mut known) = (Vec::new(), Vec::new());
    for _ in 0..DEAD_RUNS {
        wait_for("gossip to have met everybody", LIMIT, || {
            let log = std::fs::read_to_string(lab.node(1).dir().join("swarmd.log"))?;
            let mut said = log.lines().filter(|line| line.contains("peers as gossip"));
            let said = said.next_back().unwrap_or_default().to_owned();
            let all_up = said.contains("3") && said.ends_with('0');
            Ok(if all_up { Ok(()) } else { Err(said) })
        })?;
        let clients = Probe::of_service(&lab, 0, "clients", 4, LIMIT)?;
        let client = clients.iter().find(|probe| probe.node == 1);
        let client = client.context("every node has a client")?;
        let address = virtual_address(client, "web")?;
        let place = Place::of_process(client.pid)?;
        wait_calm(&place, address).context("before anything is cut")?;
        let mut control = Client::new(lab.node(0))?;
        let cut = Instant::now();
        silent.plug(false)?;
        let (lost, down) = std::thread::scope(|scope| {
            let lost = scope.spawn(|| wait_calm(&place, address));
            let down = control.wait("the managers to know", |client| {
                Ok(client.nodes_ready()? == 3)
            });
            let down = down.map(|()| cut.elapsed());
            match lost.join() {
                Ok(lost) => (lost, down),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        let lost = lost.context("after the cut")?;
        let lost = lost.context("no connection to a silent node was lost")?;
        times.push(lost.duration_since(cut).as_secs_f64());
        known.push(down?.as_secs_f64());
        silent.plug(true)?;
        Probe::of_service(&lab, 0, "web", 4, LIMIT)?;
    }
    figures.add("silent_node.out_of_rotation", "s", times);
    figures.add("silent_node.known_down", "s", known);
    Ok(())
}

/// A network, somebody to call from on every node, and a service to be called.
fn start(lab: &Lab, name: &str, options: &str) -> Result<()> {
    for command in [
        "network create -d overlay net".to_owned(),
        "service create -d --name clients --mode global --network net web:1".to_owned(),
        format!("service create -d --name {name} {options} --network net web:1"),
    ] {
        let words: Vec<&str> = command.split_whitespace().collect();
        lab.node(0).ctl(&words)?;
    }
    Ok(())
}

fn places(probes: &[Probe]) -> Result<Vec<Place>> {
    let places = probes.iter().map(|probe| Place::of_process(probe.pid));
    places.collect()
}

fn virtual_address(probe: &Probe, service: &str) -> Result<SocketAddr> {
    let found = wait_for("the service's address", LIMIT, || {
        let addresses = probe.addresses_of(service)?;
        Ok(addresses.first().copied().ok_or_else(String::new))
    })?;
    Ok(SocketAddr::new(found, WEB_PORT))
}

/// When the service's task began to run, as its node told.
fn running_since(client: &mut Client, service: &str) -> Result<Timestamp> {
    let mut since = None;
    client.wait("the task to run", |client| {
        let tasks = client.tasks(service)?;
        let statuses = tasks.into_iter().filter_map(|task| task.status);
        let mut running = statuses.filter(|status| status.state == RUNNING);
        since = running.next().map(|status| status.timestamp);
        Ok(since.is_some())
    })?;
    let since = since.context("just found")?;
    Ok(Timestamp::default().plus(Duration::from_nanos(since)))
}

fn connect(address: SocketAddr, limit: Duration) -> bool {
    TcpStream::connect_timeout(&address, limit).is_ok()
}

/// Tries until a connection comes about. Returns when.
fn first_connection(place: &Place, address: SocketAddr) -> Result<Timestamp> {
    place.run(|| {
        let start = Instant::now();
        while !connect(address, CONNECT_MAX) {
            if start.elapsed() > LIMIT {
                bail!("no connection to {address}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Timestamp::now())
    })
}

/// Connects again and again until no connection has been lost for a while. Returns when the last
/// one was lost that was.
fn wait_calm(place: &Place, address: SocketAddr) -> Result<Option<Instant>> {
    place.run(|| {
        let start = Instant::now();
        let mut lost = None;
        while lost.unwrap_or(start).elapsed() < CALM {
            let tried = Instant::now();
            if !connect(address, SILENCE_MAX) {
                lost = Some(tried);
            }
            if start.elapsed() > LIMIT {
                bail!("connections to {address} are still lost");
            }
            std::thread::sleep(PAUSE);
        }
        Ok(lost)
    })
}
