//! What this machine is: its name, platform, processors and memory.

use executor::Error;
use types::Labels;
use types::node::NodeDescription;
use types::task::{Platform, Resources};

/// Describes the machine as it is now.
pub(crate) fn describe(engine_labels: &Labels) -> Result<NodeDescription, Error> {
    let meminfo = std::fs::read_to_string("/proc/meminfo")
        .map_err(|e| Error::Temporary(format!("read /proc/meminfo: {e}")))?;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let uname = rustix::system::uname();
    Ok(NodeDescription {
        hostname: hostname(),
        platform: Platform {
            architecture: uname.machine().to_string_lossy().into_owned(),
            os: "linux".to_owned(),
        },
        resources: Resources {
            nano_cpus: cpus as u64 * 1_000_000_000,
            memory_bytes: memory_bytes(&meminfo).unwrap_or(0),
        },
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_labels: engine_labels.clone(),
    })
}

/// The machine's host name.
pub(crate) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let meminfo = "MemTotal:       16384256 kB\nMemFree:          123 kB\n";
        assert_eq!(memory_bytes(meminfo), Some(16_384_256 * 1024));
        assert_eq!(memory_bytes("MemFree: 1 kB"), None);
        let described = describe(&Labels::new()).unwrap();
        assert!(described.resources.memory_bytes > 0 && described.resources.nano_cpus > 0);
        assert!(!described.hostname.is_empty());
    }
}
