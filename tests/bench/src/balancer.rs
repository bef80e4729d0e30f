//! Ten thousand services in the packet filter of one namespace: all loaded, then one changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use harness::Programs;
use nft::{Backend, Balancer, Frontend, Service, Services};

use crate::figures::Figures;

/// In a namespace without connections: where there are some, reading them, which the kernel does
/// for all namespaces at once, adds some milliseconds to a change that takes a backend away.
const SERVICES: u32 = 10_000;

/// Backends of each service.
const BACKENDS: u32 = 3;

/// Times all are loaded.
const LOADS: usize = 5;

/// Times one service is changed.
const CHANGES: u32 = 101;

pub(crate) fn load_and_change(_: &Programs, figures: &mut Figures) -> Result<()> {
    let namespace = Namespace::new()?;
    let file = File::open(format!("/run/netns/{}", namespace.0)).context("opening it")?;
    let mut balancer = Balancer::open(file.as_fd(), 1)?;
    balancer.replace(Services::new())?;
    let services: Services = (0..SERVICES)
        .map(|number| (frontend(number), service(number, BACKENDS)))
        .collect();
    let mut loads = Vec::new();
    for _ in 0..LOADS {
        balancer.replace(Services::new())?;
        let start = Instant::now();
        balancer.replace(services.clone())?;
        loads.push(start.elapsed().as_secs_f64());
    }
    let size = balancer.size()?;
    figures.add("balancer.load_10000", "s", loads);
    println!("balancer.elements: {} elements", size.elements);
    println!("balancer.chains: {} chains", size.chains);

    let mut change = |name: &str, to: &dyn Fn(u32) -> Service| -> Result<()> {
        let mut runs = Vec::new();
        for turn in 0..CHANGES {
            let changed = BTreeMap::from([(frontend(7), Some(to(turn)))]);
            let start = Instant::now();
            balancer.change(changed)?;
            runs.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        figures.add(name, "ms", runs);
        Ok(())
    };
    // A task is replaced: as many backends, one of them another.
    change("balancer.change_backend", &|turn| service(turn, BACKENDS))?;
    // A service is scaled: more or fewer.
    change("balancer.change_count", &|turn| service(7, 2 + turn % 3))?;
    let start = Instant::now();
    let difference = balancer.verify()?;
    figures.add("balancer.verify", "s", vec![start.elapsed().as_secs_f64()]);
    if !difference.is_empty() {
        bail!("the kernel holds something else: {difference:?}");
    }
    Ok(())
}

fn address(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

fn frontend(number: u32) -> Frontend {
    const FIRST: u32 = 0x0a60_0000;
    Frontend::address(address(FIRST + number))
}

fn service(number: u32, backends: u32) -> Service {
    const FIRST: u32 = 0x0a80_0000;
    let backend = |index| Backend::new(address(FIRST + number * 4 + index));
    Service::new((0..backends).map(backend))
}

/// A network namespace; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Self> {
        let name = format!("bench-balancer-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        if made.context("running ip")?.success() {
            Ok(Self(name))
        } else {
            bail!("ip cannot make a network namespace")
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
