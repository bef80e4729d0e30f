//! Limits through version 1 control files.

use super::{Cgroup, Member, device};
use crate::error::{Fault, Result, Step};
use crate::spec::Resources;

/// Sets all limits.
pub(super) fn limit(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    limit_cpu(cgroup, resources)?;
    limit_memory(cgroup, resources)?;
    if let Some(pids_max) = resources.pids_max {
        controller(cgroup, "pids")?.write("pids.max", pids_max, Step::Cgroup)?;
    }
    if let Some(member) = cgroup.member("devices") {
        member.write("devices.deny", "a", Step::Cgroup)?;
        for rule in device::ALLOWED {
            member.write("devices.allow", rule, Step::Cgroup)?;
        }
    }
    Ok(())
}

fn limit_cpu(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    if let Some(cpu) = resources.cpu {
        let member = controller(cgroup, "cpu")?;
        member.write("cpu.cfs_period_us", cpu.period_us, Step::Cgroup)?;
        member.write("cpu.cfs_quota_us", cpu.quota_us, Step::Cgroup)?;
    }
    if let Some(shares) = resources.cpu_shares {
        controller(cgroup, "cpu")?.write("cpu.shares", shares, Step::Cgroup)?;
    }
    Ok(())
}

fn limit_memory(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    if let Some(bytes) = resources.memory_bytes {
        let member = controller(cgroup, "memory")?;
        member.write("memory.limit_in_bytes", bytes, Step::Cgroup)?;
        let both = resources
            .memory_and_swap_bytes
            .unwrap_or(bytes.saturating_mul(2));
        match member.write("memory.memsw.limit_in_bytes", both, Step::Cgroup) {
            // Kernels without swap accounting lack the file; the memory limit holds regardless.
            Err(fault)
                if resources.memory_and_swap_bytes.is_none()
                    && matches!(fault.errno, Some(libc::ENOENT | libc::EOPNOTSUPP)) => {}
            result => result?,
        }
    }
    if let Some(bytes) = resources.memory_reservation_bytes {
        let member = controller(cgroup, "memory")?;
        member.write("memory.soft_limit_in_bytes", bytes, Step::Cgroup)?;
    }
    Ok(())
}

fn controller<'a>(cgroup: &'a Cgroup, name: &str) -> Result<&'a Member> {
    cgroup.member(name).ok_or_else(|| {
        Fault::refuse(
            Step::Cgroup,
            name,
            "this machine has no such controller to limit with",
        )
    })
}
