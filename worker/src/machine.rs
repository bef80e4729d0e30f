//! What the cluster should know of this machine.

use types::Labels;
use types::node::NodeDescription;
use types::task::{Platform, Resources};

/// Release of the daemon.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Operating system and architecture as the kernel names them: `linux`, `x86_64`.
pub(crate) fn platform() -> Platform {
    let name = rustix::system::uname();
    Platform {
        architecture: name.machine().to_string_lossy().into_owned(),
        os: name.sysname().to_string_lossy().to_lowercase(),
    }
}

/// Describes the machine. Reads `/proc`.
///
/// # Errors
/// When the kernel does not tell its memory.
pub(crate) fn describe(
    hostname: String,
    platform: Platform,
    engine_labels: Labels,
) -> Result<NodeDescription, executor::Error> {
    // Counts what this process may use: affinity and cgroup quota.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let meminfo = std::fs::read_to_string("/proc/meminfo");
    let meminfo = meminfo.map_err(|error| executor::Error::fatal(&error))?;
    let memory_bytes = memory_bytes(&meminfo).ok_or_else(|| {
        executor::Error::Fatal("/proc/meminfo does not tell the memory".to_owned())
    })?;
    Ok(NodeDescription {
        hostname,
        platform,
        resources: Resources {
            nano_cpus: processors as u64 * 1_000_000_000,
            memory_bytes,
        },
        engine_version: RELEASE.to_owned(),
        engine_labels,
        network: types::node::NodeNetwork::default(),
        tls: None,
    })
}

/// The `MemTotal` line, in bytes.
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        for (meminfo, expected) in [
            (
                "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
                Some(8_192_000_000),
            ),
            ("MemFree: 1 kB\n", None),
            ("MemTotal: many kB\n", None),
            ("MemTotal: 18446744073709551615 kB\n", None),
        ] {
            assert_eq!(memory_bytes(meminfo), expected, "{meminfo}");
        }
    }

    #[test]
    fn this_machine_describes_itself() {
        let labels = Labels::from([("disk".to_owned(), "ssd".to_owned())]);
        let description = describe("m1".to_owned(), platform(), labels.clone()).unwrap();
        assert_eq!(description.hostname, "m1");
        assert_eq!(description.platform.os, "linux");
        assert_eq!(description.platform.architecture, std::env::consts::ARCH);
        assert!(description.resources.nano_cpus >= 1_000_000_000);
        assert!(description.resources.memory_bytes > 1 << 20);
        assert_eq!(description.engine_labels, labels);
        assert!(!description.engine_version.is_empty());
    }
}
