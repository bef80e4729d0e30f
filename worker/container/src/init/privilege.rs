//! Gives up what the container's program must not have.

use crate::capability::CapabilitySet;
use crate::error::{During, Fault, Result, Step};
use crate::seccomp;
use crate::spec::{ContainerSpec, Rlimit, Seccomp};
use crate::syscall;
use crate::user::User;
use rustix::io::Errno;
use rustix::process::{Resource, setrlimit};
use rustix::thread::{UnshareFlags, capabilities, set_no_new_privs};

/// More capabilities than this no kernel has: they are bits of a 64-bit mask.
const CAPABILITIES_MAX: u32 = 64;

/// Makes the cgroups this process is in the roots of what the container sees.
pub(super) fn new_cgroup_namespace() -> Result<()> {
    syscall::unshare(UnshareFlags::NEWCGROUP).during(Step::EnterCgroup, "namespace")
}

/// Sets per-process limits. Raising one takes a capability, so this comes before they go.
pub(super) fn set_rlimits(rlimits: &[Rlimit]) -> Result<()> {
    for rlimit in rlimits {
        let resource = resource(&rlimit.name)
            .ok_or_else(|| Fault::refuse(Step::Rlimit, &rlimit.name, "there is no such limit"))?;
        let value = |limit: u64| (limit != u64::MAX).then_some(limit);
        let limit = rustix::process::Rlimit {
            current: value(rlimit.soft),
            maximum: value(rlimit.hard),
        };
        let subject = || format!("{} to {}:{}", rlimit.name, rlimit.soft, rlimit.hard);
        setrlimit(resource, limit).during(Step::Rlimit, subject())?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name.to_ascii_lowercase().as_str() {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Becomes the user, with the capabilities and the system calls the container may use.
///
/// The filter comes first, because without `no_new_privileges` it takes `CAP_SYS_ADMIN` to load one;
/// the default profile lets through all calls that follow.
pub(super) fn drop_to(user: &User, spec: &ContainerSpec) -> Result<()> {
    let keep = CapabilitySet::with_changes(&spec.capabilities)?;
    if spec.no_new_privileges {
        set_no_new_privs(true).during(Step::Privileges, "no_new_privs")?;
    }
    match spec.seccomp {
        Seccomp::Default => {
            syscall::load_seccomp(&seccomp::compile(keep))
                .during(Step::Seccomp, "default profile")?;
        }
        Seccomp::Unconfined => {}
    }
    let last = drop_bounding_set(keep)?;
    syscall::set_groups(&user.groups).during(Step::Privileges, "groups")?;
    // Leaving user 0 empties the effective and permitted sets.
    syscall::set_ids(user.uid, user.gid).during(
        Step::Privileges,
        format!("user {} group {}", user.uid, user.gid),
    )?;
    let subject = "capabilities";
    let now = capabilities(None)
        .during(Step::Privileges, subject)?
        .permitted
        .bits();
    let mask = keep.intersection(CapabilitySet::known_to(last)).bits() & now;
    // Nothing is ever inheritable (CVE-2022-24769, CVE-2022-29162).
    syscall::set_capabilities(mask, mask, 0).during(Step::Privileges, subject)
}

/// Removes all but these from what any program in the container can gain. Returns the number of the
/// kernel's last capability.
fn drop_bounding_set(keep: CapabilitySet) -> Result<u32> {
    for number in 0..CAPABILITIES_MAX {
        let result = if keep.has(number) {
            syscall::is_in_bounding_set(number).map(drop)
        } else {
            syscall::drop_from_bounding_set(number)
        };
        match result {
            Ok(()) => {}
            Err(Errno::INVAL) => return Ok(number.saturating_sub(1)),
            Err(errno) => {
                let subject = format!("bounding capability {number}");
                return Err(Fault::errno(Step::Privileges, subject, errno));
            }
        }
    }
    Ok(CAPABILITIES_MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::resource;

    #[test]
    fn limits_by_name_in_any_case() {
        assert!(matches!(
            resource("NOFILE"),
            Some(rustix::process::Resource::Nofile)
        ));
        assert!(resource("memlock").is_some());
        for name in ["", "RLIMIT_NOFILE", "files"] {
            assert!(resource(name).is_none(), "{name}");
        }
    }
}
