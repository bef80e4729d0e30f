//! Flags for how the containers of a service find names.

use std::net::IpAddr;

use clap::Args;
use types::ContainerSpec;
use types::container_spec::HostAlias;

use super::update::change;
use crate::parse::host::host;

/// Of `service create`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Names")]
pub(super) struct NameFlags {
    /// Server asked for names its networks do not know [default: the node's]
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
    /// Domain tried after a name, or . for none [default: the node's]
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option of resolv.conf, like ndots:2
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Name the containers know by themselves
    #[arg(long, value_name = "NAME:IP", value_parser = host)]
    host: Vec<HostAlias>,
}

/// Of `service update`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Names")]
pub(super) struct NameChanges {
    /// Ask one more server for names its networks do not know
    #[arg(long, value_name = "IP")]
    dns_add: Vec<IpAddr>,
    /// Ask it no longer
    #[arg(long, value_name = "IP")]
    dns_rm: Vec<IpAddr>,
    /// Try one more domain after a name
    #[arg(long, value_name = "DOMAIN")]
    dns_search_add: Vec<String>,
    /// Try it no longer
    #[arg(long, value_name = "DOMAIN")]
    dns_search_rm: Vec<String>,
    /// Add an option of resolv.conf
    #[arg(long, value_name = "OPTION")]
    dns_option_add: Vec<String>,
    /// Remove one
    #[arg(long, value_name = "OPTION")]
    dns_option_rm: Vec<String>,
    /// Add a name the containers know by themselves
    #[arg(long, value_name = "NAME:IP", value_parser = host)]
    host_add: Vec<HostAlias>,
    /// Remove one
    #[arg(long, value_name = "NAME:IP", value_parser = host)]
    host_rm: Vec<HostAlias>,
}

impl NameFlags {
    pub(super) fn apply(self, container: &mut ContainerSpec) {
        container.dns.nameservers = self.dns;
        container.dns.search = self.dns_search;
        container.dns.options = self.dns_option;
        container.hosts = self.host;
    }
}

impl NameChanges {
    pub(super) fn apply(&self, container: &mut ContainerSpec) {
        let dns = &mut container.dns;
        change(&mut dns.nameservers, &self.dns_rm, &self.dns_add);
        change(&mut dns.search, &self.dns_search_rm, &self.dns_search_add);
        change(&mut dns.options, &self.dns_option_rm, &self.dns_option_add);
        change(&mut container.hosts, &self.host_rm, &self.host_add);
    }
}
