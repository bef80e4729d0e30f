//! The network's part in the start of a container: reserved, connected, names answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use datapath_client::{Datapath, NetworkRecords, ProgramSource, SandboxView};
use harness::Programs;
use network::{Network, View};
use tokio_util::sync::CancellationToken;
use types::network::{
    Affinity, EndpointMode, NetworkAttachment, NetworkDriver, NetworkSpec, Subnet, VirtualIp,
};
use types::reach::{NetworkSettings, Peer, Reach, ServiceEndpoint, TaskEndpoint};
use types::{Meta, NetworkId, NodeId, ServiceId, TaskId};

use crate::figures::Figures;
use crate::place::{Place, ip};

/// Containers connected, one after the other; all stay until the end.
const CONTAINERS: u32 = 50;

/// Services on their network and tasks of each, all on another node.
const SERVICES: u32 = 100;
const TASKS: u32 = 3;

/// Numbers of their network, of the node and of the other one.
const NETWORK: u128 = 1;
const OWN: u128 = 1;
const OTHER: u128 = 2;

/// How long a namespace may take to be there.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn one_container(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let name = format!("bench-attach-{}", std::process::id());
    let dir = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&dir)?;
    ip(&format!("netns add {name}"))?;
    let measured = measure(programs, &name, &dir, figures);
    ip(&format!("netns del {name}"))?;
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn measure(programs: &Programs, node: &str, dir: &Path, figures: &mut Figures) -> Result<()> {
    ip(&format!("-n {node} link set lo up"))?;
    ip(&format!("-n {node} link add eth0 type veth peer name eth1"))?;
    ip(&format!("-n {node} addr add 10.77.0.1/24 dev eth0"))?;
    ip(&format!("-n {node} link set eth0 up"))?;
    ip(&format!("-n {node} link set eth1 up"))?;
    let place = Place::named(node)?;
    let options = network::Options::new(dir.join("network"));
    let network = place.run(|| Network::open(options).context("opening the network"))?;
    network.set_view(Arc::new(view()?));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (datapath, service) = Datapath::new(datapath_client::Options {
        program: ProgramSource::Path(programs.swarmd.with_file_name("swarm-datapath")),
        socket: dir.join("datapath.sock"),
    });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_on(service.run(CancellationToken::new()), runtime.handle());
    runtime.block_on(datapath.set_network(NetworkRecords {
        network: NetworkId::from_number(NETWORK),
        name: "net".to_owned(),
        sets: Vec::new(),
    }))?;
    let containers = (0..CONTAINERS).map(|_| Container::new());
    let containers = containers.collect::<Result<Vec<_>>>()?;
    let (mut all, mut names) = (Vec::new(), Vec::new());
    for (number, container) in (0..).zip(&containers) {
        let took = runtime.block_on(connect(&network, &datapath, number, container))?;
        all.push(took.0.as_secs_f64() * 1000.0);
        names.push(took.1.as_secs_f64() * 1000.0);
    }
    // The first one makes the bridge and starts the process.
    figures.add("attach.first", "ms", vec![all.remove(0)]);
    figures.add("attach.one", "ms", all);
    figures.add("attach.names", "ms", names.split_off(1));
    let mut ends = Vec::new();
    for number in 0..CONTAINERS {
        let start = Instant::now();
        runtime.block_on(network.release(task(number)))?;
        ends.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    figures.add("attach.release", "ms", ends);
    runtime.block_on(datapath.end())?;
    Ok(())
}

/// What the daemon does before a container's program starts. Returns how long all of it took, and
/// the part of names.
async fn connect(
    network: &Network,
    datapath: &Datapath,
    number: u32,
    container: &Container,
) -> Result<(Duration, Duration)> {
    let task = task(number);
    let attachment = NetworkAttachment {
        network: NetworkId::from_number(NETWORK),
        addresses: vec![format!("10.0.1.{}/24", number + 10).parse()?],
        aliases: Vec::new(),
    };
    let namespace = container.place()?.file().try_clone()?;
    let start = Instant::now();
    network.reserve(task, vec![attachment], Vec::new()).await?;
    network.attach(task, container.0.id()).await?;
    let connected = start.elapsed();
    let view = SandboxView {
        networks: vec![NetworkId::from_number(NETWORK)],
        dns_port: 53,
        ..SandboxView::default()
    };
    let id = task.as_str().parse()?;
    datapath
        .set_sandbox(id, Arc::new(namespace.into()), view)
        .await?;
    let all = start.elapsed();
    Ok((all, all.saturating_sub(connected)))
}

fn task(number: u32) -> TaskId {
    TaskId::from_number(u128::from(number) + 1_000_000)
}

/// A network with services whose tasks are on another node.
fn view() -> Result<View> {
    let subnet = |range: &str, gateway: &str| -> Result<Subnet> {
        Ok(Subnet {
            subnet: range.parse()?,
            gateway: gateway.parse()?,
            vni: 4096,
        })
    };
    let object = types::Network {
        id: NetworkId::from_number(NETWORK),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: "net".to_owned(),
            driver: NetworkDriver::Overlay,
            ..NetworkSpec::default()
        },
        subnets: vec![subnet("10.0.0.0/16", "10.0.0.1")?],
    };
    let (services, tasks) = others()?;
    let peer = Peer {
        node: NodeId::from_number(OTHER),
        index: 2,
        data_path: vec!["10.77.0.2".parse()?],
        wireguard_keys: Vec::new(),
        alive: true,
    };
    let own: IpAddr = "10.77.0.1".parse()?;
    let reach = Reach {
        settings: Some(NetworkSettings {
            index: 1,
            data_path_port: 4789,
            gossip_keys: Vec::new(),
        }),
        networks: BTreeMap::from([(NetworkId::from_number(NETWORK), Arc::new(object))]),
        tasks,
        services,
        peers: BTreeMap::from([(NodeId::from_number(OTHER), Arc::new(peer))]),
    };
    Ok(View::new(
        NodeId::from_number(OWN),
        vec![own],
        Arc::new(reach),
    ))
}

/// Services of the network, and their tasks.
type Others = (
    BTreeMap<ServiceId, Arc<ServiceEndpoint>>,
    BTreeMap<TaskId, Arc<TaskEndpoint>>,
);

fn others() -> Result<Others> {
    let address = |third: u32, fourth: u32| -> Result<ipnet::IpNet> {
        Ok(format!("10.0.{third}.{fourth}/16").parse()?)
    };
    let (mut services, mut tasks) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..SERVICES {
        let service = ServiceId::from_number(u128::from(number) + 1);
        let endpoint = ServiceEndpoint {
            service,
            name: format!("s{number}"),
            mode: EndpointMode::Vip,
            affinity: Affinity::None,
            ports: Vec::new(),
            virtual_ips: vec![VirtualIp {
                network: NetworkId::from_number(NETWORK),
                address: address(2, number + 1)?,
            }],
            aliases: Vec::new(),
        };
        services.insert(service, Arc::new(endpoint));
        for slot in 0..TASKS {
            let endpoint = TaskEndpoint {
                task: TaskId::from_number(u128::from(number * TASKS + slot) + 1),
                service,
                slot: slot.into(),
                node: NodeId::from_number(OTHER),
                name: format!("s{number}.{slot}"),
                hostname: String::new(),
                attachments: vec![NetworkAttachment {
                    network: NetworkId::from_number(NETWORK),
                    addresses: vec![address(3 + slot, number + 1)?],
                    aliases: Vec::new(),
                }],
                serving: true,
                weight: 1,
            };
            tasks.insert(endpoint.task, Arc::new(endpoint));
        }
    }
    Ok((services, tasks))
}

/// A process in a namespace of its own, as a container's before it is started.
struct Container(Child);

impl Container {
    fn new() -> Result<Self> {
        let process = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .context("running unshare")?;
        let container = Self(process);
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let start = Instant::now();
        let path = format!("/proc/{}/ns/net", container.0.id());
        while std::fs::read_link(&path)? == own {
            ensure!(start.elapsed() < LIMIT, "no namespace after {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(container)
    }

    fn place(&self) -> Result<Place> {
        Place::of_process(self.0.id())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
