//! The container of a task.

use std::collections::BTreeSet;

use types::ContainerSpec;
use types::container_spec::{DnsConfig, HostAlias, Ulimit};

use super::{
    Checked, Invalid, domain_name, healthcheck, hostname, image_reference, labels, mounts,
    references, stop_signal, text, user,
};

/// Servers the C library asks at most, and we with it (S16.03).
const NAMESERVERS_MAX: usize = 3;

/// Resource limits of processes, by the names of `ulimit`.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Capabilities of Linux, without `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// What to run and how it is confined.
///
/// # Errors
/// The first field that is wrong.
pub fn container_spec(spec: &ContainerSpec) -> Checked {
    image_reference("ContainerSpec.Image", &spec.image)?;
    labels("ContainerSpec.Labels", &spec.labels)?;
    texts("ContainerSpec.Command", &spec.command)?;
    texts("ContainerSpec.Args", &spec.args)?;
    hostname("ContainerSpec.Hostname", &spec.hostname)?;
    env(&spec.env)?;
    dir(&spec.dir)?;
    user("ContainerSpec.User", &spec.user)?;
    groups(&spec.groups)?;
    stop_signal("ContainerSpec.StopSignal", &spec.stop_signal)?;
    mounts("ContainerSpec.Mounts", &spec.mounts)?;
    capabilities("ContainerSpec.CapabilityAdd", &spec.capability_add)?;
    capabilities("ContainerSpec.CapabilityDrop", &spec.capability_drop)?;
    ulimits(&spec.ulimits)?;
    spec.healthcheck.as_ref().map_or(Ok(()), healthcheck)?;
    dns(&spec.dns)?;
    hosts(&spec.hosts)?;
    references(spec)
}

fn texts(field: &str, texts: &[String]) -> Checked {
    texts
        .iter()
        .enumerate()
        .try_for_each(|(index, text)| text::no_nul(format!("{field}[{index}]"), text))
}

fn env(env: &[String]) -> Checked {
    texts("ContainerSpec.Env", env)?;
    for (index, variable) in env.iter().enumerate() {
        if variable
            .split_once('=')
            .is_none_or(|(name, _)| name.is_empty())
        {
            return Err(Invalid::new(
                format!("ContainerSpec.Env[{index}]"),
                format!("{variable:?} is not an environment variable: it must be NAME=value"),
            ));
        }
    }
    Ok(())
}

fn dir(dir: &str) -> Checked {
    if dir.is_empty() || dir.starts_with('/') {
        return text::no_nul("ContainerSpec.Dir", dir);
    }
    Err(Invalid::new(
        "ContainerSpec.Dir",
        format!("the working directory {dir:?} is invalid: it must be an absolute path"),
    ))
}

fn groups(groups: &[String]) -> Checked {
    for (index, group) in groups.iter().enumerate() {
        if group.is_empty() || group.contains([':', '\0']) || group.contains(char::is_whitespace) {
            return Err(Invalid::new(
                format!("ContainerSpec.Groups[{index}]"),
                format!("{group:?} is not the name or number of a group"),
            ));
        }
    }
    Ok(())
}

fn dns(dns: &DnsConfig) -> Checked {
    if dns.nameservers.len() > NAMESERVERS_MAX {
        let count = dns.nameservers.len();
        return Err(Invalid::new(
            "ContainerSpec.DNSConfig.Nameservers",
            format!("{count} servers: name at most {NAMESERVERS_MAX}, more are never asked"),
        ));
    }
    for (index, server) in dns.nameservers.iter().enumerate() {
        if server.is_unspecified() || server.is_multicast() {
            return Err(Invalid::new(
                format!("ContainerSpec.DNSConfig.Nameservers[{index}]"),
                format!("{server} cannot be asked: name the address of one server"),
            ));
        }
    }
    for (index, domain) in dns.search.iter().enumerate() {
        if domain != "." {
            domain_name(&format!("ContainerSpec.DNSConfig.Search[{index}]"), domain)?;
        }
    }
    for (index, option) in dns.options.iter().enumerate() {
        let is_word = !option.is_empty() && option.chars().all(|c| c.is_ascii_graphic());
        if !is_word {
            return Err(Invalid::new(
                format!("ContainerSpec.DNSConfig.Options[{index}]"),
                format!("{option:?} is not an option of resolv.conf: write one like ndots:2"),
            ));
        }
    }
    Ok(())
}

fn hosts(hosts: &[HostAlias]) -> Checked {
    for (index, host) in hosts.iter().enumerate() {
        domain_name(&format!("ContainerSpec.Hosts[{index}]"), &host.name)?;
    }
    Ok(())
}

fn capabilities(field: &str, names: &[String]) -> Checked {
    for (index, given) in names.iter().enumerate() {
        let upper = given.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper != "ALL" && !CAPABILITIES.contains(&name) {
            return Err(Invalid::new(
                format!("{field}[{index}]"),
                format!("{given:?} is not a capability: use a name like CAP_NET_ADMIN, or ALL"),
            ));
        }
    }
    Ok(())
}

fn ulimits(ulimits: &[Ulimit]) -> Checked {
    let mut seen = BTreeSet::new();
    for (index, ulimit) in ulimits.iter().enumerate() {
        let field = format!("ContainerSpec.Ulimits[{index}]");
        let Ulimit { name, soft, hard } = ulimit;
        if !ULIMITS.contains(&name.as_str()) {
            return Err(Invalid::new(
                format!("{field}.Name"),
                format!("{name:?} is not a ulimit: there are {}", ULIMITS.join(", ")),
            ));
        }
        if *soft < -1 || *hard < -1 {
            return Err(Invalid::new(
                field,
                format!("{name}={soft}:{hard} is negative: use -1 for unlimited"),
            ));
        }
        // -1 stands for the largest value there is.
        let order = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
        if order(*soft) > order(*hard) {
            return Err(Invalid::new(
                field,
                format!("{name}={soft}:{hard}: the soft limit must not exceed the hard limit"),
            ));
        }
        if !seen.insert(name) {
            return Err(Invalid::new(
                format!("{field}.Name"),
                format!("{name} is given twice"),
            ));
        }
    }
    Ok(())
}
