//! Gives up what the daemon does not need, before anything secret is in its memory.
//!
//! What containers may be given is not given up: shims and containers inherit the bounding set and
//! `no_new_privs`, so those stay as they are, and a shim gets its capabilities back by being executed.

use std::panic::PanicHookInfo;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// What no part of the daemon needs, in the order of the kernel's numbers.
const UNNEEDED: CapabilitySet = CapabilitySet::LINUX_IMMUTABLE
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::SYS_MODULE)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_PACCT)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::SYS_TIME)
    .union(CapabilitySet::SYS_TTY_CONFIG)
    .union(CapabilitySet::LEASE)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::AUDIT_CONTROL)
    .union(CapabilitySet::MAC_OVERRIDE)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::WAKE_ALARM)
    .union(CapabilitySet::BLOCK_SUSPEND)
    .union(CapabilitySet::AUDIT_READ);

/// Hardens this process; call it while it has one thread. Returns what could not be done, for the log
/// that does not exist yet.
#[must_use]
pub fn harden() -> Vec<String> {
    std::panic::set_hook(Box::new(tell_panic));
    let mut failed = vec![];
    let mut note = |what: &str, done: rustix::io::Result<()>| {
        if let Err(errno) = done {
            failed.push(format!("{what}: {errno}"));
        }
    };
    // What is made without a mode of its own is for the daemon alone.
    umask(Mode::from_raw_mode(0o077));
    note("forbid core dumps", forbid_core_dumps());
    note(
        "hide memory from other users",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    );
    note("drop capabilities", drop_capabilities());
    failed
}

/// The hard limit stays: containers inherit it, and may want dumps of their own.
fn forbid_core_dumps() -> rustix::io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    let limit = Rlimit {
        current: Some(0),
        maximum,
    };
    setrlimit(Resource::Core, limit)
}

fn drop_capabilities() -> rustix::io::Result<()> {
    let now = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: now.effective - UNNEEDED,
            permitted: now.permitted - UNNEEDED,
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// Tells where, and nothing of what a panic says: it may hold a key, a token or a secret.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    tracing::error!(
        place,
        thread = name,
        "a thread panicked; its words are withheld"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containers_and_networks_take_is_kept() {
        for needed in [
            CapabilitySet::SYS_ADMIN,
            CapabilitySet::NET_ADMIN,
            CapabilitySet::SYS_PTRACE,
            CapabilitySet::MKNOD,
            CapabilitySet::SETFCAP,
            CapabilitySet::DAC_OVERRIDE,
            CapabilitySet::KILL,
        ] {
            assert!(!UNNEEDED.intersects(needed), "{needed:?}");
        }
        assert!(UNNEEDED.contains(CapabilitySet::SYS_MODULE | CapabilitySet::SYS_BOOT));
    }
}
