//! What moves between containers of two nodes, in the clear and encrypted, and what the same wire
//! moves without us: between the machines, over a VXLAN made by hand, over boringtun's own device.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::{Lab, Probe, Programs};
use tunnel::PrivateKey;

use crate::figures::Figures;
use crate::place::{Place, ip, throughput};
use crate::swarm;

/// Runs of each measurement, and how long each takes.
const RUNS: usize = 3;
const RUN: Duration = Duration::from_secs(3);

/// How long the tasks may take to run.
const RUNNING_MAX: Duration = Duration::from_secs(30);

/// Subnets of what is made by hand; the lab's own lie elsewhere.
const VXLAN_SUBNET: &str = "10.97.1";
const BORINGTUN_SUBNET: &str = "10.97.2";

/// The release measured, that of the library the daemon uses.
const BORINGTUN_CLI: &str = "boringtun-cli@0.7.1";

pub(crate) fn between_nodes(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let lab = swarm(programs, 1, 1)?;
    let nodes = [0, 1].map(|index| Place::named(lab.node(index).namespace()));
    let [first, second] = nodes;
    let nodes = [first?, second?];
    measure(figures, "underlay.tcp", &nodes, lab.node(1).address())?;

    let by_hand = VxlanByHand::new(&lab)?;
    measure(figures, "vxlan.tcp", &by_hand.ends, by_hand.address()?)?;
    drop(by_hand);

    for (name, options) in [("overlay", ""), ("encrypted", "--opt encrypted")] {
        let create = format!("network create -d overlay {options} {name}");
        let create: Vec<&str> = create.split_whitespace().collect();
        lab.node(0).ctl(&create)?;
        let create =
            format!("service create -d --name {name} --mode global --network {name} web:1");
        let create: Vec<&str> = create.split_whitespace().collect();
        lab.node(0).ctl(&create)?;
        let mut probes = Probe::of_service(&lab, 0, name, 2, RUNNING_MAX)?;
        probes.sort_by_key(|probe| probe.node);
        let address = probes[1].addresses()?;
        let (_, address, _) = address.first().context("a task has an address")?;
        let ends = [
            Place::of_process(probes[0].pid)?,
            Place::of_process(probes[1].pid)?,
        ];
        measure(figures, &format!("{name}.tcp"), &ends, *address)?;
        lab.node(0).ctl(&["service", "rm", name])?;
    }

    match boringtun_program().and_then(|program| Boringtun::new(&program, &nodes)) {
        Ok(tunnel) => {
            let address = format!("{BORINGTUN_SUBNET}.2").parse()?;
            measure(figures, "boringtun.tcp", &nodes, address)?;
            drop(tunnel);
        }
        Err(error) => eprintln!("# boringtun's own device is not measured: {error:#}"),
    }
    figures.ratio("overlay.tcp", "vxlan.tcp");
    figures.ratio("encrypted.tcp", "boringtun.tcp");
    Ok(())
}

fn measure(figures: &mut Figures, name: &str, ends: &[Place; 2], address: IpAddr) -> Result<()> {
    let address = SocketAddr::new(address, 0);
    // The first finds neighbours and keys.
    throughput(&ends[0], &ends[1], address, Duration::from_millis(200))
        .with_context(|| name.to_owned())?;
    let runs = (0..RUNS).map(|_| throughput(&ends[0], &ends[1], address, RUN));
    figures.add(name, "Gbit/s", runs.collect::<Result<_>>()?);
    Ok(())
}

/// Two namespaces on a VXLAN of the kernel's between the nodes, as anybody would make one.
struct VxlanByHand {
    names: [String; 2],
    ends: [Place; 2],
}

impl VxlanByHand {
    fn new(lab: &Lab) -> Result<Self> {
        let names = [0, 1].map(|index| format!("{}h", lab.node(index).namespace()));
        for (index, name) in names.iter().enumerate() {
            let (own, other) = (lab.node(index), lab.node(1 - index));
            let (node, number) = (own.namespace(), index + 1);
            ip(&format!("netns add {name}"))?;
            for words in [
                "link add hand0 type bridge".to_owned(),
                format!(
                    "link add hand1 type vxlan id 97 dstport 4797 local {} remote {}",
                    own.address(),
                    other.address()
                ),
                "link set hand1 mtu 1450 master hand0 up".to_owned(),
                format!("link add hand2 mtu 1450 type veth peer name eth0 mtu 1450 netns {name}"),
                "link set hand2 master hand0 up".to_owned(),
                "link set hand0 up".to_owned(),
            ] {
                ip(&format!("-n {node} {words}"))?;
            }
            ip(&format!(
                "-n {name} addr add {VXLAN_SUBNET}.{number}/24 dev eth0"
            ))?;
            ip(&format!("-n {name} link set eth0 up"))?;
        }
        let ends = [Place::named(&names[0])?, Place::named(&names[1])?];
        Ok(Self { names, ends })
    }

    fn address(&self) -> Result<IpAddr> {
        Ok(format!("{VXLAN_SUBNET}.2").parse()?)
    }
}

impl Drop for VxlanByHand {
    fn drop(&mut self) {
        for name in &self.names {
            let node = name.trim_end_matches('h');
            for words in [
                format!("netns del {name}"),
                format!("-n {node} link del hand1"),
                format!("-n {node} link del hand0"),
            ] {
                if let Err(error) = ip(&words) {
                    eprintln!("# {error:#}");
                }
            }
        }
    }
}

/// The program of boringtun's own, installed beside the other products of builds.
fn boringtun_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("a program lies in target")?;
    let root = target.join("bench-tools");
    let program = root.join("bin/boringtun-cli");
    if !program.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let installed = Command::new(cargo)
            .args(["install", "--quiet", "--locked", BORINGTUN_CLI, "--root"])
            .arg(&root)
            .status()?;
        ensure!(
            installed.success(),
            "cargo install {BORINGTUN_CLI}: {installed}"
        );
    }
    Ok(program)
}

/// Two of boringtun's tunnels, one on each node.
struct Boringtun(Vec<Child>);

impl Boringtun {
    fn new(program: &std::path::Path, nodes: &[Place; 2]) -> Result<Self> {
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        let mut tunnels = Self(Vec::new());
        for (index, node) in nodes.iter().enumerate() {
            // Its socket is found by the device's name, on the whole machine.
            let device = format!("bt{}x{index}", std::process::id());
            let child = node.run(|| {
                let child = Command::new(program)
                    .args(["--foreground", "--disable-drop-privileges", &device])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn();
                child.context("starting boringtun")
            })?;
            tunnels.0.push(child);
            let (number, other) = (index + 1, 2 - index);
            configure(
                &device,
                &format!(
                    "private_key={}\nlisten_port=51999\npublic_key={}\n\
                     endpoint=10.77.0.{other}:51999\nallowed_ip={BORINGTUN_SUBNET}.{other}/32\n",
                    hex(&*keys[index].to_bytes()),
                    hex(&keys[1 - index].public().0),
                ),
            )?;
            node.run(|| {
                ip(&format!(
                    "addr add {BORINGTUN_SUBNET}.{number}/24 dev {device}"
                ))?;
                ip(&format!("link set {device} mtu 1420 up"))
            })?;
        }
        Ok(tunnels)
    }
}

impl Drop for Boringtun {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Says something on a tunnel's socket, once it is there.
fn configure(device: &str, words: &str) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let path = format!("/var/run/wireguard/{device}.sock");
    let start = Instant::now();
    let mut stream = loop {
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) if start.elapsed() > Duration::from_secs(5) => {
                return Err(error).with_context(|| format!("connecting to {path}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("set=1\n{words}\n").as_bytes())?;
    let mut answer = [0; 256];
    let length = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    if !answer.contains("errno=0") {
        bail!("boringtun answers {answer:?}");
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
