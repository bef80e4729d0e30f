//! Limits and reservations.

use types::task::ResourceRequirements;

use super::{Checked, Invalid};

/// Smallest share of a processor: 0.001 of one.
const NANO_CPUS_MIN: u64 = 1_000_000;
/// Smallest amount of memory: 4 MiB.
const MEMORY_BYTES_MIN: u64 = 4 << 20;

/// Nanoseconds of processor time in a second.
const NANOS: u64 = 1_000_000_000;

/// Processor time and memory, where given, must be enough to start anything (S20.06).
///
/// # Errors
/// The first amount that is too small.
pub fn resources(resources: &ResourceRequirements) -> Checked {
    let limits = &resources.limits;
    let reservations = &resources.reservations;
    cpus("Resources.Limits.NanoCPUs", limits.nano_cpus)?;
    memory("Resources.Limits.MemoryBytes", limits.memory_bytes)?;
    cpus("Resources.Reservations.NanoCPUs", reservations.nano_cpus)?;
    memory(
        "Resources.Reservations.MemoryBytes",
        reservations.memory_bytes,
    )
}

fn cpus(field: &str, nano_cpus: u64) -> Checked {
    if nano_cpus == 0 || nano_cpus >= NANO_CPUS_MIN {
        return Ok(());
    }
    let value = format!("{}.{:09}", nano_cpus / NANOS, nano_cpus % NANOS);
    let value = value.trim_end_matches('0');
    Err(Invalid::new(
        field,
        format!("invalid cpu value {value}: must be at least 0.001"),
    ))
}

fn memory(field: &str, bytes: u64) -> Checked {
    if bytes == 0 || bytes >= MEMORY_BYTES_MIN {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("invalid memory value {bytes}: must be at least 4MiB ({MEMORY_BYTES_MIN} bytes)"),
    ))
}
