//! The figures measured, what was promised, and what Docker's swarm needed.

use std::collections::BTreeMap;

/// What a figure is held against.
struct Promise {
    name: &'static str,
    /// The promise, in the figure's unit; a rate is to be reached, anything else not exceeded.
    bound: f64,
    /// What Docker's swarm needs, where it does the same.
    docker: Option<Docker>,
    /// Figure of ours that says what the machine gives without us.
    floor: Option<&'static str>,
}

/// Docker 20.10's swarm.
struct Docker {
    /// On a machine of this kind, as measured for this project.
    noted: f64,
    /// Name of the figure in Docker's bench.
    peer: &'static str,
}

const fn promise(name: &'static str, bound: f64, noted: f64, peer: &'static str) -> Promise {
    Promise {
        name,
        bound,
        docker: Some(Docker { noted, peer }),
        floor: None,
    }
}

/// A promise with nothing of Docker's beside it.
const fn own(name: &'static str, bound: f64) -> Promise {
    Promise {
        name,
        bound,
        docker: None,
        floor: None,
    }
}

impl Promise {
    /// The same beside what the machine gives without us.
    const fn above(self, floor: &'static str) -> Self {
        Self {
            floor: Some(floor),
            ..self
        }
    }
}

const PROMISES: &[Promise] = &[
    promise(
        "tasks100.created_to_running",
        1.5,
        12.3,
        "single.nonet.n100.create_to_all_running",
    ),
    promise(
        "tasks100.cpu_per_task",
        25.0,
        220.0,
        "single.nonet.n100.create_cpu",
    ),
    promise(
        "tasks100.removed",
        1.0,
        8.6,
        "single.nonet.n100.service_rm_containers_gone",
    ),
    promise(
        "heal.kill_to_running",
        100.0,
        500.0,
        "heal.delay_0s.kill_to_replacement_running",
    ),
    promise(
        "failover.killed",
        1.0,
        16.1,
        "failover.kill_processes.to_service_create_ok",
    ),
    promise(
        "failover.silent",
        1.0,
        10.6,
        "failover.silent_poweroff.to_service_create_ok",
    ),
    promise(
        "nodefail.killed",
        2.0,
        16.2,
        "nodefail.kill_processes.to_replacements_running",
    ),
    promise(
        "nodefail.silent",
        6.0,
        13.0,
        "nodefail.silent_poweroff.to_replacements_running",
    ),
    promise("join.worker_ready", 0.15, 0.112, "join_worker.ready"),
    promise(
        "store1.create_1_client",
        1500.0,
        1167.0,
        "store.create_sequential",
    ),
    promise(
        "store1.create_8_clients",
        5000.0,
        1973.0,
        "store.create_8_clients",
    ),
    promise(
        "store3.create_1_client",
        500.0,
        198.0,
        "store3.create_sequential_on_leader",
    ),
    promise(
        "store3.create_8_clients",
        1500.0,
        246.0,
        "store3.create_8_clients_on_leader",
    ),
    promise("memory.idle_manager", 25.0, 122.0, "mem.idle_manager"),
    promise("memory.tasks100", 60.0, 448.0, "mem.100_tasks_nonet"),
    promise(
        "cpu.idle_manager",
        0.5,
        0.94,
        "mem.idle_manager.idle_cpu_60s",
    ),
    promise(
        "cpu.idle_tasks100",
        0.5,
        2.86,
        "mem.100_tasks_nonet.idle_cpu_60s",
    ),
    promise(
        "overlay_tasks100.created_to_running",
        2.5,
        20.5,
        "single.overlay_dnsrr.n100.create_to_all_running",
    ),
    promise(
        "overlay_tasks100.cpu_per_task",
        40.0,
        361.0,
        "single.overlay_dnsrr.n100.create_cpu",
    ),
    own("attach.one", 5.0),
    promise("overlay.tcp", 10.7, 10.7, "datapath.overlay.tcp1").above("vxlan.tcp"),
    own("encrypted.tcp", 3.0).above("underlay.tcp"),
    own("encrypted.tcp_to_boringtun.tcp", 3.0).above("boringtun.tcp"),
    own("endpoint.usable_everywhere", 100.0),
    own("silent_node.out_of_rotation", 1.5),
    promise(
        "silent_node.known_down",
        3.0,
        11.9,
        "nodefail.silent_poweroff.to_node_down",
    ),
    own("balancer.load_10000", 0.5),
    own("balancer.change_backend", 2.0),
    own("balancer.change_count", 2.0),
    own("dns.answers", 50_000.0),
    own("dns.p99", 1.0),
    own("memory.datapath100", 6.0),
];

/// Everything measured so far.
#[derive(Default)]
pub(crate) struct Figures {
    ours: BTreeMap<String, (f64, String)>,
    peer: BTreeMap<String, (f64, String)>,
}

impl Figures {
    /// Takes several runs of one figure: the median counts, the extremes are printed beside it.
    pub(crate) fn add(&mut self, name: &str, unit: &str, mut runs: Vec<f64>) {
        if runs.is_empty() {
            return;
        }
        runs.sort_by(f64::total_cmp);
        let median = runs[runs.len() / 2];
        println!("{name}: {median:.4} {unit}");
        if runs.len() > 1 {
            println!("{name}.min: {:.4} {unit}", runs[0]);
            println!("{name}.max: {:.4} {unit}", runs[runs.len() - 1]);
        }
        self.ours.insert(name.to_owned(), (median, unit.to_owned()));
    }

    /// Takes the relation of two figures there are, as another one.
    pub(crate) fn ratio(&mut self, name: &str, to: &str) {
        let value = |of: &str| self.ours.get(of).map(|(value, _)| *value);
        if let (Some(value), Some(to_value)) = (value(name), value(to)) {
            self.add(&format!("{name}_to_{to}"), "times", vec![value / to_value]);
        }
    }

    /// Takes a line of Docker's bench, `name: value unit`.
    pub(crate) fn add_peer(&mut self, line: &str) {
        let Some((name, rest)) = line.split_once(": ") else {
            return;
        };
        let mut words = rest.split(' ');
        if let Some(value) = words.next().and_then(|word| word.parse().ok()) {
            println!("docker.{line}");
            let unit = words.next().unwrap_or("").to_owned();
            self.peer.insert(name.to_owned(), (value, unit));
        }
    }

    /// Each promise with what was measured, on standard error for people; ratios as figures.
    pub(crate) fn summary(&self) {
        eprintln!(
            "# {:<30} {:>10} {:>12} {:>12}",
            "figure", "measured", "promised", "Docker"
        );
        for promise in PROMISES {
            let Some((value, unit)) = self.ours.get(promise.name) else {
                continue;
            };
            let is_rate = unit.ends_with("/s") || unit == "times";
            let kept = if is_rate {
                *value >= promise.bound
            } else {
                *value <= promise.bound
            };
            let measured = self.docker(promise, unit);
            let noted = promise.docker.as_ref().map(|docker| docker.noted);
            let docker = match (measured, noted) {
                (Some(value), _) => format!("{value:>12.3} {unit} (this run)"),
                (None, Some(value)) => format!("{value:>12.3} {unit} (noted)"),
                (None, None) => format!("{:>12} {unit}", "-"),
            };
            let relation = if is_rate { '\u{2265}' } else { '\u{2264}' };
            let verdict = if kept { "" } else { "  MISSED" };
            let floor = promise.floor.and_then(|name| {
                let (value, unit) = self.ours.get(name)?;
                Some(format!("  ({name} {value:.3} {unit})"))
            });
            let floor = floor.unwrap_or_default();
            eprintln!(
                "# {:<30} {value:>10.3} {relation}{:>11} {docker}{floor}{verdict}",
                promise.name, promise.bound
            );
            if let Some(docker) = measured {
                let ratio = if is_rate {
                    value / docker
                } else {
                    docker / value
                };
                println!("ratio.{}: {ratio:.2} times_better", promise.name);
            }
        }
    }

    /// Docker's figure of this run in our unit: its names end in `.median`, its burst of 100
    /// counts processor seconds for all of them, and its memory comes in parts.
    fn docker(&self, promise: &Promise, unit: &str) -> Option<f64> {
        let peer = promise.docker.as_ref()?.peer;
        let figure = |name: String| self.peer.get(&name).map(|(value, _)| *value);
        if unit == "MiB" {
            // Daemons with all they hold, the rest with their share: as ours are counted.
            let parts = [
                "dockerd.rss_sum",
                "containerd.rss_sum",
                "shim.pss_sum",
                "task.pss_sum",
            ];
            return parts
                .iter()
                .map(|part| figure(format!("{peer}.{part}")))
                .sum();
        }
        let median = figure(format!("{peer}.median"));
        let value = median.or_else(|| figure(peer.to_owned()))?;
        Some(match (promise.name, unit) {
            ("tasks100.cpu_per_task" | "overlay_tasks100.cpu_per_task", _) => value * 10.0,
            (_, "ms") => value * 1000.0,
            _ => value,
        })
    }
}
