//! Limits through version 2 control files, and devices through a BPF program.

use super::hierarchy::Hierarchy;
use super::{Cgroup, device};
use crate::error::{During, Fault, Result, Step};
use crate::spec::Resources;
use crate::syscall;

/// Hands the controllers that the limits need down to the containers' cgroups. The others come
/// along where they can, so that their counters exist.
pub(super) fn enable_controllers(
    hierarchy: &Hierarchy,
    parent: &str,
    resources: &Resources,
) -> Result<()> {
    let missing = hierarchy.hand_down(parent, &["cpu", "memory", "pids"])?;
    let is_needed = |name: &&&str| match **name {
        "cpu" => resources.cpu.is_some() || resources.cpu_shares.is_some(),
        "memory" => {
            resources.memory_bytes.is_some() || resources.memory_reservation_bytes.is_some()
        }
        _ => resources.pids_max.is_some(),
    };
    match missing.iter().find(is_needed) {
        Some(name) => Err(Fault::refuse(
            Step::Cgroup,
            name,
            "the controller cannot be enabled here, and a limit needs it",
        )),
        None => Ok(()),
    }
}

/// Sets all limits.
pub(super) fn limit(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    let Some(member) = cgroup.members.first() else {
        return Ok(());
    };
    let write = |file: &str, value: String| member.write(file, value, Step::Cgroup);
    if let Some(cpu) = resources.cpu {
        write("cpu.max", format!("{} {}", cpu.quota_us, cpu.period_us))?;
    }
    if let Some(shares) = resources.cpu_shares {
        write("cpu.weight", weight_of_shares(shares).to_string())?;
    }
    if let Some(bytes) = resources.memory_bytes {
        write("memory.max", bytes.to_string())?;
        let both = resources
            .memory_and_swap_bytes
            .unwrap_or(bytes.saturating_mul(2));
        match write("memory.swap.max", both.saturating_sub(bytes).to_string()) {
            // Kernels without swap lack the file; the memory limit holds regardless.
            Err(fault)
                if resources.memory_and_swap_bytes.is_none()
                    && fault.errno == Some(libc::ENOENT) => {}
            result => result?,
        }
    }
    if let Some(bytes) = resources.memory_reservation_bytes {
        write("memory.low", bytes.to_string())?;
    }
    if let Some(pids_max) = resources.pids_max {
        write("pids.max", pids_max.to_string())?;
    }
    syscall::attach_device_program(&member.dir, &device::program())
        .during(Step::Cgroup, "device program")
}

/// The version 2 weight (1-10000, usually 100) of version 1 shares (2-262144, usually 1024), by the
/// conversion runc and crun agreed on in 2025, which maps minimum, usual and maximum onto each other.
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18 here")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000 by the range of shares"
            )]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

#[cfg(test)]
mod tests {
    use super::weight_of_shares;

    #[test]
    fn minimum_usual_and_maximum_map_onto_each_other() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (1024, 100),
            (512, 59),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }
}
