//! What containers say on an encrypted network never passes in clear between nodes, whatever is
//! killed; on another network it does, which shows that the capture sees.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::capture::{Capture, VXLAN_PORT, WIREGUARD_PORT};
use harness::story::{WEB_PORT, write_example_image};
use harness::{Lab, Node, Probe, wait_for};

const NODES: usize = 3;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long one exchange may take before it counts as failed.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Where tasks listen for each other in these tests.
const PORT: u16 = 7777;

/// More than any window of TCP.
const BULK_BYTES: usize = 20_000_000;

/// A text nothing else holds.
fn marker(name: &str) -> String {
    let noise = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    format!("{name}:{}", noise.trim())
}

/// A swarm of one manager and workers, each with the example's image.
fn form(lab: &mut Lab, init: &[&str]) -> Result<()> {
    let archive = lab.dir().join("web.tar");
    write_example_image(&lab.programs().web, "1", &archive)?;
    for index in 0..NODES {
        lab.add_node()?;
        lab.node(index).start_daemon()?;
        lab.node(index)
            .ctl(&["image", "load", &archive.to_string_lossy()])?;
    }
    let first = lab.node(0);
    let advertise = first.address().to_string();
    first.ctl(&[&["init", "--advertise-addr", &advertise], init].concat())?;
    let token = first.ctl(&["join-token", "-q", "worker"])?;
    for node in &lab.nodes()[1..] {
        let (advertise, remote) = (
            node.address().to_string(),
            format!("{}:2377", first.address()),
        );
        let join = [
            "join",
            "--token",
            token.trim(),
            "--advertise-addr",
            &advertise,
            &remote,
        ];
        node.ctl(&join)?;
    }
    Ok(())
}

/// A network and a task of it on every node.
fn spread(lab: &Lab, network: &str, subnet: &str, options: &[&str]) -> Result<Vec<Probe>> {
    let create = ["network", "create", "-d", "overlay", "--subnet", subnet];
    lab.node(0)
        .ctl(&[&create[..], options, &[network]].concat())?;
    let service = [
        "service",
        "create",
        "-d",
        "--mode",
        "global",
        "--restart-delay",
        "0s",
    ];
    lab.node(0).ctl(
        &[
            &service[..],
            &["--name", network, "--network", network, "web:1"],
        ]
        .concat(),
    )?;
    Probe::of_service(lab, 0, network, NODES, WAIT_MAX)
}

/// Identifier of a network's packets.
fn vni(lab: &Lab, network: &str) -> Result<u32> {
    let shown = lab.node(0).ctl_json(&["network", "inspect", network])?;
    let vni = shown[0]["IPAM"]["Config"][0]["VNI"].as_u64();
    Ok(u32::try_from(vni.with_context(|| shown.to_string())?)?)
}

/// A text goes to another task and comes back, by UDP and by TCP.
fn exchange(from: &Probe, to: &Probe, subnet: &str, text: &str) -> Result<()> {
    let to_address = SocketAddr::new(to.address_in(subnet)?, PORT);
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let mut received = vec![0; usize::from(u16::MAX)];

    let bind = |at: SocketAddr| {
        let socket = UdpSocket::bind(at)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(socket)
    };
    let (server, client) = (to.within(|| bind(to_address))?, from.within(|| bind(any))?);
    client.send_to(text.as_bytes(), to_address)?;
    let (length, asker) = server
        .recv_from(&mut received)
        .context("waiting for a datagram")?;
    ensure!(&received[..length] == text.as_bytes(), "another datagram");
    server.send_to(text.as_bytes(), asker)?;
    let length = client
        .recv(&mut received)
        .context("waiting for a datagram back")?;
    ensure!(
        &received[..length] == text.as_bytes(),
        "another datagram back"
    );

    let mut stream = Stream::open(from, to, to_address)?;
    stream.echo(text)
}

/// A TCP connection between two tasks, both ends of it.
struct Stream {
    near: TcpStream,
    far: TcpStream,
}

impl Stream {
    fn open(from: &Probe, to: &Probe, at: SocketAddr) -> Result<Self> {
        let listener = to.within(|| Ok(TcpListener::bind(at)?))?;
        let near = from.connect(at)?;
        let (far, _) = listener.accept()?;
        for end in [&near, &far] {
            end.set_nodelay(true)?;
            end.set_read_timeout(Some(WAIT_MAX))?;
        }
        Ok(Self { near, far })
    }

    /// Sends a text there and back. What the network loses is sent again by the kernel.
    fn echo(&mut self, text: &str) -> Result<()> {
        let mut received = vec![0; text.len()];
        self.near.write_all(text.as_bytes())?;
        self.far
            .read_exact(&mut received)
            .context("waiting for what was sent")?;
        self.far.write_all(&received)?;
        self.near
            .read_exact(&mut received)
            .context("waiting for what was sent back")?;
        ensure!(received == text.as_bytes(), "other bytes came");
        Ok(())
    }
}

/// Each task reaches each other one, at the first try.
fn all_exchange(probes: &[Probe], subnet: &str, text: &str) -> Result<()> {
    for from in probes {
        for to in probes.iter().filter(|to| to.node != from.node) {
            exchange(from, to, subnet, text)
                .with_context(|| format!("node {} to node {}", from.node, to.node))?;
        }
    }
    Ok(())
}

/// The same, sooner or later.
fn eventually_exchange(probes: &[Probe], subnet: &str, text: &str) {
    wait_for("all tasks to reach each other", WAIT_MAX, || {
        Ok(all_exchange(probes, subnet, text).map_err(|error| format!("{error:#}")))
    })
    .unwrap();
}

/// The public keys others are told of a node, the one it sends with first.
fn keys(lab: &Lab, node: &Node) -> Result<Vec<String>> {
    let shown = lab.node(0).ctl_json(&["node", "inspect", node.name()])?;
    let keys = shown[0]["Description"]["WireGuardKeys"].as_array();
    let keys = keys.with_context(|| shown.to_string())?;
    Ok(keys
        .iter()
        .filter_map(|key| Some(key.as_str()?.to_owned()))
        .collect())
}

fn kill_datapath(node: &Node) -> Result<()> {
    let pids = node.pids_of("swarm-datapath")?;
    ensure!(
        pids.len() == 1,
        "datapath processes on {}: {pids:?}",
        node.name()
    );
    node.signal(pids[0], 9)
}

/// What `tshark` tells of a file, line by line; `None`, having said so, where it is not installed.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new("tshark");
    command
        .args(["-n", "-r"])
        .arg(file)
        .args(["-Y", filter, "-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: needs the tshark program (package tshark): {error}");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark {filter}: {said}");
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().map(str::to_owned).collect())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines.dedup();
    lines
}

const SEALED: &str = "10.91.1.0/24";
const OPEN: &str = "10.91.2.0/24";

#[test]
fn an_encrypted_network_shows_nothing_whatever_is_killed() {
    let Some(mut lab) = swarm_e2e::lab_with(&["--wireguard-key-period", "10"]) else {
        return;
    };
    let capture = Capture::start(&lab).unwrap();
    // A daemon that is away for a while has not lost its tasks.
    form(&mut lab, &["--disconnect-grace", "300s"]).unwrap();
    let (secret, known) = (marker("secret"), marker("known"));
    let sealed = spread(&lab, "sealed", SEALED, &["--opt", "encrypted"]).unwrap();
    // From the first moment on: what cannot be sealed yet waits or is lost.
    eventually_exchange(&sealed, SEALED, &secret);
    // Also what does not fit one packet: a datagram in parts, and as much as the kernel hands over
    // at once.
    all_exchange(&sealed, SEALED, &secret.repeat(100)).unwrap();
    let address = sealed[1].address_in(SEALED).unwrap();
    let bulk = format!("/bytes/{BULK_BYTES}");
    let page = sealed[0]
        .get(SocketAddr::new(address, WEB_PORT), &bulk)
        .unwrap();
    assert_eq!(page.len(), BULK_BYTES);
    let at = SocketAddr::new(address, PORT + 1);
    let mut stream = Stream::open(&sealed[0], &sealed[1], at).unwrap();
    stream.echo(&secret).unwrap();

    // The control: the same, asked for without encryption.
    let open = spread(&lab, "open", OPEN, &[]).unwrap();
    eventually_exchange(&open, OPEN, &known);

    // Without the daemon everything goes on, and with the next one.
    let worker = sealed.iter().position(|probe| probe.node != 0).unwrap();
    let node = lab.node(sealed[worker].node);
    node.stop_daemon(9).unwrap();
    all_exchange(&sealed, SEALED, &secret).unwrap();
    stream.echo(&secret).unwrap();
    node.start_daemon().unwrap();
    all_exchange(&sealed, SEALED, &secret).unwrap();
    // The daemon starts the process again.
    for node in lab.nodes() {
        kill_datapath(node).unwrap();
    }
    eventually_exchange(&sealed, SEALED, &secret);
    stream.echo(&secret).unwrap();

    // Keys come and go without a loss, whoever has heard of which already.
    let former = keys(&lab, lab.node(2)).unwrap();
    wait_for("another key to send with", WAIT_MAX, || {
        all_exchange(&sealed, SEALED, &secret).expect("no datagram is lost");
        let keys = keys(&lab, lab.node(2))?;
        Ok(if keys[0] == former[0] {
            Err(format!("{keys:?}"))
        } else {
            Ok(())
        })
    })
    .unwrap();
    all_exchange(&sealed, SEALED, &secret).unwrap();
    stream.echo(&secret).unwrap();

    // Without both nothing leaves.
    node.stop_daemon(9).unwrap();
    kill_datapath(node).unwrap();
    wait_for("the end of what the process carried", WAIT_MAX, || {
        let said = exchange(
            &sealed[worker],
            &sealed[usize::from(worker == 0)],
            SEALED,
            &secret,
        );
        Ok(said.map_or(Ok(()), |()| Err("it is still carried".to_owned())))
    })
    .unwrap();
    node.start_daemon().unwrap();
    // The node may have counted as lost, and its task as well.
    wait_for("all tasks to reach each other again", WAIT_MAX, || {
        let sealed = Probe::of_service(&lab, 0, "sealed", NODES, WAIT_MAX)?;
        Ok(all_exchange(&sealed, SEALED, &secret).map_err(|error| format!("{error:#}")))
    })
    .unwrap();

    wait_for("nodes that are as the store has them", WAIT_MAX, || {
        let verified = lab.node(0).ctl(&["network", "verify"]);
        Ok(verified.map(drop).map_err(|error| format!("{error:#}")))
    })
    .unwrap();

    shows_nothing_sealed(&lab, &capture, (&secret, &known));
}

fn shows_nothing_sealed(lab: &Lab, capture: &Capture, (secret, known): (&str, &str)) {
    let (sealed, open) = (vni(lab, "sealed").unwrap(), vni(lab, "open").unwrap());
    let nodes: Vec<IpAddr> = lab.nodes().iter().map(Node::address).collect();
    let all = |senders: Vec<Ipv4Addr>| senders.into_iter().map(IpAddr::V4).collect::<Vec<_>>();
    assert!(capture.holding(known) > 0, "the capture sees");
    let by_vxlan = |vni| all(capture.senders(VXLAN_PORT, |datagram| datagram.vni() == Some(vni)));
    assert_eq!(by_vxlan(open), nodes, "the capture tells networks apart");
    assert_eq!(capture.holding(secret), 0, "frames with what was said");
    assert_eq!(by_vxlan(sealed), [] as [IpAddr; 0]);
    assert_eq!(all(capture.senders(WIREGUARD_PORT, |_| true)), nodes);

    let file = lab.dir().join("wire.pcap");
    capture.write(&file).unwrap();
    let Some(networks) = tshark(&file, "vxlan", &["vxlan.vni"]) else {
        return;
    };
    // Others' dissectors read our VXLAN down to what containers said.
    assert_eq!(sorted(networks), [open.to_string()]);
    for protocol in ["tcp", "udp"] {
        let filter = format!("vxlan && {protocol}.port == {PORT} && frame contains \"{known}\"");
        let inner = tshark(&file, &filter, &["ip.src"]).unwrap();
        // Outer and inner sender of each.
        assert!(!inner.is_empty(), "{protocol} in VXLAN");
        assert!(
            inner.iter().all(|line| line.contains(",10.91.2.")),
            "{inner:?}"
        );
    }
    // Handshakes, answers to them, data; no dissector stumbles over any.
    let kinds = sorted(tshark(&file, "wg", &["wg.type"]).unwrap());
    assert_eq!(kinds, ["1", "2", "4"]);
    let filter = format!("(udp.port == {WIREGUARD_PORT} && !wg) || (vxlan && _ws.malformed)");
    assert_eq!(
        tshark(&file, &filter, &["frame.number"]).unwrap(),
        [] as [&str; 0]
    );
}

#[test]
fn a_swarm_that_encrypts_all_has_no_open_network() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    let capture = Capture::start(&lab).unwrap();
    form(&mut lab, &["--encrypt-all"]).unwrap();
    let secret = marker("secret");
    let probes = spread(&lab, "plain", SEALED, &[]).unwrap();
    eventually_exchange(&probes, SEALED, &secret);
    // One task, asked at every node: requests and answers pass on the ingress network.
    let publish = format!("published=8081,target={WEB_PORT}");
    let create = [
        "service",
        "create",
        "-d",
        "--name",
        "public",
        "--publish",
        &publish,
        "web:1",
    ];
    lab.node(0).ctl(&create).unwrap();
    for node in lab.nodes() {
        wait_for("an answer at every node", WAIT_MAX, || {
            Ok(lab
                .fetch(node.address(), 8081, "/")
                .map_err(|error| format!("{error:#}")))
        })
        .unwrap();
    }
    // A machine that is switched off has lost its keys, and comes back with others.
    let former = keys(&lab, lab.node(2)).unwrap();
    lab.node_mut(2).power_off();
    lab.node_mut(2).power_on().unwrap();
    lab.node(2).start_daemon().unwrap();
    wait_for("all tasks to reach each other again", WAIT_MAX, || {
        let probes = Probe::of_service(&lab, 0, "plain", NODES, WAIT_MAX)?;
        Ok(all_exchange(&probes, SEALED, &secret).map_err(|error| format!("{error:#}")))
    })
    .unwrap();
    assert_ne!(keys(&lab, lab.node(2)).unwrap()[0], former[0]);

    let nodes: Vec<IpAddr> = lab.nodes().iter().map(Node::address).collect();
    let carried = capture.senders(WIREGUARD_PORT, |_| true);
    assert_eq!(
        carried.into_iter().map(IpAddr::V4).collect::<Vec<_>>(),
        nodes
    );
    assert_eq!(capture.senders(VXLAN_PORT, |_| true), [] as [Ipv4Addr; 0]);
    assert_eq!(capture.holding(&secret), 0);

    // With the last task of a network its ways to other nodes go.
    lab.node(0)
        .ctl(&["service", "rm", "plain", "public"])
        .unwrap();
    for node in lab.nodes() {
        wait_for("the end of all tunnels", WAIT_MAX, || {
            let links = ["-n", node.namespace(), "-o", "link"];
            let links = Command::new("ip").args(links).output()?.stdout;
            let links = String::from_utf8_lossy(&links).into_owned();
            Ok(if links.contains(" sw-t") {
                Err(links)
            } else {
                Ok(())
            })
        })
        .unwrap();
    }
}
