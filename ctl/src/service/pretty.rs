//! A service for people to read, as `service inspect --pretty` shows it.

use std::fmt::Write as _;

use types::container_spec::{Mount, MountKind};
use types::network::{Affinity, EndpointMode, PublishMode};
use types::service::ServiceMode;
use types::task::Resources;
use types::update::{FailureAction, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus};
use types::{ContainerSpec, Service, TaskSpec, Timestamp};

use crate::human::{self, go_duration};

/// The whole text.
pub(super) fn pretty(service: &Service, now: Timestamp) -> String {
    let mut page = Page(String::new());
    let spec = &service.spec;
    page.line(format_args!("\nID:\t\t{}", service.id));
    page.line(format_args!("Name:\t\t{}", spec.name));
    if !spec.labels.is_empty() {
        page.line("Labels:");
        for (key, value) in &spec.labels {
            page.line(format_args!(" {key}={value}"));
        }
    }
    match spec.mode {
        ServiceMode::Replicated { replicas } => {
            page.line("Service Mode:\tReplicated");
            page.line(format_args!(" Replicas:\t{replicas}"));
        }
        ServiceMode::Global {} => page.line("Service Mode:\tGlobal"),
    }
    if let Some(status) = &service.update_status {
        page.update_status(status, now);
    }
    page.placement(&spec.task);
    page.update_config("UpdateConfig", &spec.update_config);
    page.update_config("RollbackConfig", &spec.rollback_config);
    page.container(&spec.task.container);
    page.resources(&spec.task);
    if !spec.task.networks.is_empty() {
        let names: Vec<&str> = spec
            .task
            .networks
            .iter()
            .map(|it| it.target.as_str())
            .collect();
        page.line(format_args!("Networks:\t{}", names.join(" ")));
    }
    page.endpoint(service);
    page.0.trim_start().to_owned()
}

struct Page(String);

impl Page {
    fn line(&mut self, line: impl std::fmt::Display) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn update_status(&mut self, status: &UpdateStatus, now: Timestamp) {
        self.line("UpdateStatus:");
        self.line(format_args!(" State:\t\t{}", update_state(status.state)));
        if status.started_at.is_set() {
            self.line(format_args!(
                " Started:\t{}",
                human::ago(now, status.started_at)
            ));
        }
        if status.completed_at.is_set() {
            self.line(format_args!(
                " Completed:\t{}",
                human::ago(now, status.completed_at)
            ));
        }
        self.line(format_args!(" Message:\t{}", status.message));
    }

    fn endpoint(&mut self, service: &Service) {
        self.line(match service.spec.endpoint.mode {
            EndpointMode::Vip => "Endpoint Mode:\tvip",
            EndpointMode::Dnsrr => "Endpoint Mode:\tdnsrr",
        });
        if service.spec.endpoint.affinity == Affinity::SourceIp {
            self.line("Affinity:\tsource-ip");
        }
        for vip in &service.endpoint.virtual_ips {
            self.line(format_args!(
                " Virtual IP:\t{} on {}",
                vip.address, vip.network
            ));
        }
        if !service.endpoint.ports.is_empty() {
            self.line("Ports:");
        }
        for port in &service.endpoint.ports {
            self.line(format_args!(" PublishedPort = {}", port.published_port));
            self.line(format_args!("  Protocol = {}", port.protocol));
            self.line(format_args!("  TargetPort = {}", port.target_port));
            let mode = match port.mode {
                PublishMode::Ingress => "ingress",
                PublishMode::Host => "host",
            };
            self.line(format_args!("  PublishMode = {mode}"));
        }
    }

    fn placement(&mut self, task: &TaskSpec) {
        let placement = &task.placement;
        self.line("Placement:");
        if !placement.constraints.is_empty() {
            self.line(format_args!(
                " Constraints:\t[{}]",
                placement.constraints.join(" ")
            ));
        }
        if !placement.preferences.is_empty() {
            let preferences: Vec<String> = placement
                .preferences
                .iter()
                .map(|over| format!("spread={over}"))
                .collect();
            self.line(format_args!(" Preferences:\t[{}]", preferences.join(" ")));
        }
        if placement.max_replicas != 0 {
            self.line(format_args!(
                " Max Replicas Per Node:\t{}",
                placement.max_replicas
            ));
        }
    }

    fn update_config(&mut self, title: &str, config: &UpdateConfig) {
        let action = match config.failure_action {
            FailureAction::Pause => "pause",
            FailureAction::Continue => "continue",
            FailureAction::Rollback => "rollback",
        };
        let order = match config.order {
            UpdateOrder::StopFirst => "stop-first",
            UpdateOrder::StartFirst => "start-first",
        };
        self.line(format_args!("{title}:"));
        self.line(format_args!(" Parallelism:\t{}", config.parallelism));
        if !config.delay.is_zero() {
            self.line(format_args!(" Delay:\t\t{}", go_duration(config.delay)));
        }
        self.line(format_args!(" On failure:\t{action}"));
        self.line(format_args!(
            " Monitoring Period: {}",
            go_duration(config.monitor)
        ));
        self.line(format_args!(
            " Max failure ratio: {}",
            config.max_failure_ratio
        ));
        self.line(format_args!(" Update order:      {order}"));
    }

    fn container(&mut self, container: &ContainerSpec) {
        self.line("ContainerSpec:");
        self.line(format_args!(" Image:\t\t{}", container.image));
        let lists = [
            ("Command", &container.command),
            ("Args", &container.args),
            ("Env", &container.env),
            ("Groups", &container.groups),
            ("CapAdd", &container.capability_add),
            ("CapDrop", &container.capability_drop),
            ("DNSSearch", &container.dns.search),
            ("DNSOptions", &container.dns.options),
        ];
        for (title, list) in lists {
            if !list.is_empty() {
                self.line(format_args!(" {title}:\t\t{}", list.join(" ")));
            }
        }
        let words = [
            ("Hostname", &container.hostname),
            ("Dir", &container.dir),
            ("User", &container.user),
            ("StopSignal", &container.stop_signal),
        ];
        for (title, word) in words {
            if !word.is_empty() {
                self.line(format_args!(" {title}:\t\t{word}"));
            }
        }
        if container.read_only {
            self.line(" ReadOnly:\ttrue");
        }
        for server in &container.dns.nameservers {
            self.line(format_args!(" DNS:\t\t{server}"));
        }
        for host in &container.hosts {
            self.line(format_args!(" Host:\t\t{host}"));
        }
        for ulimit in &container.ulimits {
            self.line(format_args!(
                " Ulimit:\t{}={}:{}",
                ulimit.name, ulimit.soft, ulimit.hard
            ));
        }
        if !container.mounts.is_empty() {
            self.line("Mounts:");
            container.mounts.iter().for_each(|mount| self.mount(mount));
        }
    }

    fn mount(&mut self, mount: &Mount) {
        let kind = match mount.kind {
            MountKind::Bind => "bind",
            MountKind::Tmpfs => "tmpfs",
        };
        self.line(format_args!(" Target:\t{}", mount.target));
        if !mount.source.is_empty() {
            self.line(format_args!("  Source:\t{}", mount.source));
        }
        self.line(format_args!("  ReadOnly:\t{}", mount.read_only));
        self.line(format_args!("  Type:\t\t{kind}"));
    }

    fn resources(&mut self, task: &TaskSpec) {
        let limits = &task.resources.limits;
        let most = Resources {
            nano_cpus: limits.nano_cpus,
            memory_bytes: limits.memory_bytes,
        };
        self.line("Resources:");
        self.amounts("Reservations", &task.resources.reservations, 0);
        self.amounts("Limits", &most, limits.pids);
    }

    fn amounts(&mut self, title: &str, amounts: &Resources, pids: u64) {
        if amounts.nano_cpus == 0 && amounts.memory_bytes == 0 && pids == 0 {
            return;
        }
        self.line(format_args!(" {title}:"));
        if amounts.nano_cpus != 0 {
            let text = format!(
                "{}.{:09}",
                amounts.nano_cpus / 1_000_000_000,
                amounts.nano_cpus % 1_000_000_000
            );
            self.line(format_args!(
                "  CPU:\t\t{}",
                text.trim_end_matches('0').trim_end_matches('.')
            ));
        }
        if amounts.memory_bytes != 0 {
            self.line(format_args!(
                "  Memory:\t{}",
                human::memory(amounts.memory_bytes)
            ));
        }
        if pids != 0 {
            self.line(format_args!("  PIDs:\t\t{pids}"));
        }
    }
}

fn update_state(state: UpdateState) -> &'static str {
    match state {
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::{Meta, ServiceId, ServiceSpec, Version};

    use super::*;

    #[test]
    fn the_page_is_dockers() {
        let mut spec = ServiceSpec {
            name: "web".into(),
            ..ServiceSpec::default()
        };
        spec.labels.insert("owner".into(), "ops".into());
        let task = Arc::make_mut(&mut spec.task);
        task.container.image = "web:1".into();
        task.container.env = vec!["A=1".into(), "B=2".into()];
        task.placement.constraints = vec!["node.role==worker".into()];
        task.resources.limits.memory_bytes = 64 << 20;
        task.resources.reservations.nano_cpus = 250_000_000;
        task.container.mounts = vec![Mount {
            source: "/a".into(),
            target: "/b".into(),
            ..Mount::default()
        }];
        let service = Service {
            id: ServiceId::from_number(1),
            meta: Meta::default(),
            spec,
            spec_version: Version::default(),
            previous_spec: None,
            update_status: Some(UpdateStatus {
                state: UpdateState::Completed,
                started_at: Timestamp::from_secs(100),
                completed_at: Timestamp::from_secs(120),
                message: "update completed".into(),
            }),
            endpoint: Default::default(),
        };
        let pace = " Parallelism:\t1
 On failure:\tpause
 Monitoring Period: 5s
 Max failure ratio: 0
 Update order:      stop-first
";
        let expected = format!(
            "\
ID:\t\t0000000000000000000000001
Name:\t\tweb
Labels:
 owner=ops
Service Mode:\tReplicated
 Replicas:\t1
UpdateStatus:
 State:\t\tcompleted
 Started:\tAbout a minute ago
 Completed:\t45 seconds ago
 Message:\tupdate completed
Placement:
 Constraints:\t[node.role==worker]
UpdateConfig:
{pace}RollbackConfig:
{pace}ContainerSpec:
 Image:\t\tweb:1
 Env:\t\tA=1 B=2
Mounts:
 Target:\t/b
  Source:\t/a
  ReadOnly:\tfalse
  Type:\t\tbind
Resources:
 Reservations:
  CPU:\t\t0.25
 Limits:
  Memory:\t64MiB
Endpoint Mode:\tvip
"
        );
        assert_eq!(pretty(&service, Timestamp::from_secs(165)), expected);
    }
}
