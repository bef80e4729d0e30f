//! Tasks on networks: what is inside, who reaches whom, and that nothing is left.

use std::process::Command;
use std::sync::Arc;

use executor::Executor as _;
use types::container_spec::HostAlias;
use types::network::{
    Network, NetworkAttachment, NetworkAttachmentSpec, NetworkSpec, PublishMode, PublishedPort,
    Subnet,
};
use types::reach::{NetworkSettings, Reach};
use types::{Meta, NetworkId, NodeId, Task, TaskState};

use crate::machine::{Machine, drive, in_time, output, sh, until, with};

fn web() -> Network {
    let subnet = |subnet: &str, gateway: &str| Subnet {
        subnet: subnet.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        vni: 4096,
    };
    Network {
        id: NetworkId::from_number(1),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: "web".to_owned(),
            ipv6: true,
            ..NetworkSpec::default()
        },
        subnets: vec![
            subnet("10.0.1.0/24", "10.0.1.1"),
            subnet("fd00:1::/64", "fd00:1::1"),
        ],
    }
}

/// A machine in a swarm with the network `web`, on a network of its own.
fn machine() -> Option<Machine> {
    let mut machine = Machine::new()?;
    machine.isolate();
    tell(&machine);
    Some(machine)
}

fn tell(machine: &Machine) {
    let settings = NetworkSettings {
        index: 1,
        data_path_port: 4789,
        gossip_keys: vec![],
    };
    let reach = Reach {
        settings: Some(settings),
        networks: [(web().id, Arc::new(web()))].into(),
        ..Reach::default()
    };
    machine
        .executor()
        .set_place(NodeId::from_number(3), vec!["192.0.2.1".parse().unwrap()]);
    machine.executor().set_reach(Arc::new(reach));
}

fn on_web(task: Task, addresses: &[&str]) -> Task {
    let mut task = with(task, |spec| {
        let target = web().id.to_string();
        spec.networks = vec![NetworkAttachmentSpec {
            target,
            ..Default::default()
        }];
    });
    task.attachments = vec![NetworkAttachment {
        network: web().id,
        addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        aliases: vec![],
    }];
    task
}

/// Links of the machine's network that are ours.
fn links(machine: &Machine) -> Vec<String> {
    let output = machine.in_network(|| Command::new("ip").args(["-o", "link"]).output());
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(": ").nth(1));
    names
        .filter(|name| name.starts_with("sw-"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_daemon_that_starts_changes_nothing_before_it_knows_what_was_told() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    machine.isolate();
    // As a predecessor left it, and as nobody wants it any more.
    let add = ["link", "add", "sw-in", "type", "bridge"];
    let added = machine.in_network(move || Command::new("ip").args(add).status());
    assert!(added.unwrap().success());
    let executor = machine.executor();
    executor.set_place(NodeId::from_number(3), vec!["192.0.2.1".parse().unwrap()]);
    in_time(executor.retain(&[].into())).await.unwrap();
    assert_eq!(links(&machine), ["sw-in"]);
    executor.set_reach(Arc::default());
    until("what nobody wants to go", || links(&machine).is_empty()).await;
}

#[tokio::test]
async fn a_task_finds_its_addresses_and_names() {
    let Some(machine) = machine() else { return };
    let script = "ip -o addr | grep eth0 | grep -c -e 10.0.1.5/24 -e fd00:1::5/64
        cat /etc/hosts | grep me; cat /etc/resolv.conf; ip route | grep -c default";
    let task = with(
        on_web(sh(1, script), &["10.0.1.5/24", "fd00:1::5/64"]),
        |spec| {
            let container = &mut spec.container;
            container.hostname = "{{.Node.Hostname}}-me".to_owned();
            container.dns.search = vec!["corp.example".to_owned()];
            container.dns.options = vec!["timeout:1".to_owned()];
            container.hosts = vec![HostAlias {
                address: "10.9.9.9".parse().unwrap(),
                name: "not-me".to_owned(),
            }];
        },
    );
    let expected = "2\n10.9.9.9\tnot-me\n10.0.1.5\tm1-me\nfd00:1::5\tm1-me\n\
                    nameserver 127.0.0.11\nsearch corp.example\noptions timeout:1 ndots:0\n1";
    assert_eq!(output(&machine, task).await, expected);
    assert_eq!(links(&machine), Vec::<String>::new());
    // The bridge every node has; names are the machine's there.
    let mut task = sh(
        2,
        "ip -o -4 addr show eth0 | grep -c 172.; ip route | grep -c default",
    );
    task = with(task, |spec| {
        let target = "bridge".to_owned();
        spec.networks = vec![NetworkAttachmentSpec {
            target,
            ..Default::default()
        }];
    });
    assert_eq!(output(&machine, task).await, "1\n1");
}

#[tokio::test]
async fn tasks_reach_each_other_and_survive_a_restart_of_the_daemon() {
    let Some(mut machine) = machine() else { return };
    let mut server = on_web(
        sh(1, "echo hello | nc -l -p 80"),
        &["10.0.1.5/24", "fd00:1::5/64"],
    );
    let controller = machine.controller(&server);
    drive(&*controller, &mut server, TaskState::Running).await;
    machine.reopen();
    tell(&machine);
    let client = on_web(
        sh(2, "until nc -w 1 10.0.1.5 80; do sleep 0.1; done"),
        &["10.0.1.6/24", "fd00:1::6/64"],
    );
    assert_eq!(output(&machine, client).await, "hello");
    // A task that ends by itself is off its networks at once.
    let controller = machine.controller(&server);
    drive(&*controller, &mut server, TaskState::Complete).await;
    until("removal of all links", || links(&machine).is_empty()).await;
    in_time(controller.remove()).await.unwrap();
}

#[tokio::test]
async fn a_network_that_is_not_known_is_waited_for() {
    let Some(machine) = machine() else { return };
    let mut task = on_web(sh(1, "true"), &["10.0.1.5/24"]);
    task.attachments[0].network = NetworkId::from_number(9);
    let spec = Arc::make_mut(&mut task.spec);
    spec.networks[0].target = NetworkId::from_number(9).to_string();
    let controller = machine.controller(&task);
    let error = in_time(controller.prepare()).await.unwrap_err();
    assert!(matches!(error, executor::Error::Temporary(_)), "{error}");
    assert!(
        error.to_string().contains("is not known to this node yet"),
        "{error}"
    );
    in_time(controller.remove()).await.unwrap();
}

#[tokio::test]
async fn a_port_of_the_node_is_given_once() {
    let Some(machine) = machine() else { return };
    let publish = |mut task: Task| {
        task.host_ports = vec![PublishedPort {
            target_port: 80,
            published_port: 8080,
            mode: PublishMode::Host,
            ..PublishedPort::default()
        }];
        task
    };
    let mut first = publish(on_web(sh(1, "echo hello | nc -l -p 80"), &["10.0.1.5/24"]));
    let controller = machine.controller(&first);
    drive(&*controller, &mut first, TaskState::Running).await;
    let second = publish(on_web(sh(2, "true"), &["10.0.1.6/24"]));
    let other = machine.controller(&second);
    let error = in_time(other.prepare()).await.unwrap_err();
    let expected = format!("port 8080/tcp of this node is taken by task {}", first.id);
    assert_eq!(error.to_string(), expected);
    in_time(controller.remove()).await.unwrap();
    // Neither is it taken from a program of the machine, which is named.
    let listener = machine.in_network(|| std::net::TcpListener::bind("0.0.0.0:8080").unwrap());
    let error = in_time(other.prepare()).await.unwrap_err();
    assert!(matches!(error, executor::Error::Fatal(_)), "{error}");
    let program = format!("(pid {}): publish another port", std::process::id());
    assert!(error.to_string().contains(&program), "{error}");
    drop(listener);
    in_time(other.prepare()).await.unwrap();
    in_time(other.remove()).await.unwrap();
}

#[tokio::test]
async fn a_port_the_node_chose_is_reported() {
    let Some(machine) = machine() else { return };
    let mut task = on_web(sh(1, "nc -l -p 80"), &["10.0.1.5/24"]);
    task.host_ports = vec![PublishedPort {
        target_port: 80,
        mode: PublishMode::Host,
        ..PublishedPort::default()
    }];
    let first_free = 32_768;
    let listener = machine.in_network(move || std::net::TcpListener::bind(("0.0.0.0", first_free)));
    let controller = machine.controller(&task);
    drive(&*controller, &mut task, TaskState::Running).await;
    let [port] = &controller.status().unwrap().ports[..] else {
        panic!("one port was asked for")
    };
    assert_eq!(
        (port.target_port, port.published_port),
        (80, first_free + 1)
    );
    drop(listener);
    in_time(controller.remove()).await.unwrap();
}
