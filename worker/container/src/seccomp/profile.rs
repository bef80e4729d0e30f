//! What the default profile answers to a system call, depending on the container's capabilities.

use crate::capability::CapabilitySet;

/// What a system call takes to be let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing.
    Free,
    /// It is refused whatever the container may do.
    Never,
    /// Any one of these capabilities.
    Needs(CapabilitySet),
    /// `socket`: any family but `AF_VSOCK`, which reaches the hypervisor.
    Socket,
    /// `personality`: only those that weaken no protection.
    Personality,
    /// `clone`: no new namespaces without `CAP_SYS_ADMIN`.
    Clone,
    /// `clone3`: its flags are in memory, where a filter cannot look. "Not implemented" makes the C
    /// libraries fall back to `clone`.
    Clone3,
}

/// What the filter does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    /// Fail with this error number.
    Refuse(u16),
    /// Allow if the low half of the first argument is not this.
    AllowUnlessFirstIs(u32),
    /// Allow if the low half of the first argument is one of these.
    AllowIfFirstIs(&'static [u32]),
    /// Allow if none of these bits is set in the first argument.
    AllowIfFirstLacks(u32),
}

/// The answer to calls the profile does not let through.
pub(super) const REFUSED: Action = Action::Refuse(libc::EPERM as u16);
/// The answer to calls newer than the table, so that programs fall back to older ones.
pub(super) const UNKNOWN: Action = Action::Refuse(libc::ENOSYS as u16);

/// `AF_VSOCK`.
const VSOCK: u32 = 40;
/// `PER_LINUX`, `PER_LINUX32`, each alone and with `UNAME26`, and the question for the current one.
const PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// `CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}`.
const NAMESPACES: u32 = 0x7e02_0000;

impl Class {
    /// The answer for a container with these capabilities.
    pub(super) fn action(self, capabilities: CapabilitySet) -> Action {
        let is_admin = capabilities.intersects(CapabilitySet::SYS_ADMIN);
        match self {
            Self::Free => Action::Allow,
            Self::Never => REFUSED,
            Self::Needs(any) if capabilities.intersects(any) => Action::Allow,
            Self::Needs(_) => REFUSED,
            Self::Socket => Action::AllowUnlessFirstIs(VSOCK),
            Self::Personality => Action::AllowIfFirstIs(&PERSONALITIES),
            Self::Clone | Self::Clone3 if is_admin => Action::Allow,
            Self::Clone => Action::AllowIfFirstLacks(NAMESPACES),
            Self::Clone3 => UNKNOWN,
        }
    }
}
