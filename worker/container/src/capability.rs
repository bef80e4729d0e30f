//! Capabilities: their names, Docker's default set, and changes to it.

use crate::error::{Fault, Result, Step};
use crate::spec::CapabilityChanges;

/// A set of capabilities; bit N is the capability with number N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapabilitySet(u64);

/// Names by number, from `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl CapabilitySet {
    pub(crate) const DAC_READ_SEARCH: Self = Self(1 << 2);
    pub(crate) const SYS_MODULE: Self = Self(1 << 16);
    pub(crate) const SYS_RAWIO: Self = Self(1 << 17);
    pub(crate) const SYS_CHROOT: Self = Self(1 << 18);
    pub(crate) const SYS_PTRACE: Self = Self(1 << 19);
    pub(crate) const SYS_PACCT: Self = Self(1 << 20);
    pub(crate) const SYS_ADMIN: Self = Self(1 << 21);
    pub(crate) const SYS_BOOT: Self = Self(1 << 22);
    pub(crate) const SYS_NICE: Self = Self(1 << 23);
    pub(crate) const SYS_TIME: Self = Self(1 << 25);
    pub(crate) const SYS_TTY_CONFIG: Self = Self(1 << 26);
    pub(crate) const SYSLOG: Self = Self(1 << 34);
    pub(crate) const PERFMON: Self = Self(1 << 38);
    pub(crate) const BPF: Self = Self(1 << 39);

    /// Docker's default: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
    /// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
    pub(crate) const DEFAULT: Self = Self(0xa804_25fb);
    /// Every capability with a name.
    pub(crate) const ALL: Self = Self((1 << NAMES.len()) - 1);
    const EMPTY: Self = Self(0);

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    /// The default with changes as Docker applies them: `add ALL` is everything but what is dropped,
    /// `drop ALL` is nothing but what is added; else the drops come first and the additions win.
    pub(crate) fn with_changes(changes: &CapabilityChanges) -> Result<Self> {
        let (adds_all, add) = parse_all(&changes.add)?;
        let (drops_all, drop) = parse_all(&changes.drop)?;
        Ok(match (adds_all, drops_all) {
            (true, _) => Self::ALL.without(drop),
            (false, true) => add,
            (false, false) => Self::DEFAULT.without(drop).union(add),
        })
    }

    /// Those the running kernel has. A newer kernel has more than we have names for; they are left
    /// out of every set and so are dropped.
    pub(crate) fn known_to(last_of_kernel: u32) -> Self {
        Self(Self::ALL.0 & (u64::MAX >> 63u32.saturating_sub(last_of_kernel)))
    }
}

fn parse_all(names: &[String]) -> Result<(bool, CapabilitySet)> {
    let mut set = CapabilitySet::EMPTY;
    let mut all = false;
    for name in names {
        if name.eq_ignore_ascii_case("ALL") {
            all = true;
        } else {
            set = set.union(parse(name)?);
        }
    }
    Ok((all, set))
}

fn parse(name: &str) -> Result<CapabilitySet> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match NAMES.iter().position(|known| *known == short) {
        Some(number) => Ok(CapabilitySet(1 << number)),
        None => Err(Fault::refuse(
            Step::ReadSpec,
            name,
            "there is no such capability",
        )),
    }
}

/// Whether a name is one that [`crate::spec::CapabilityChanges`] takes.
#[must_use]
pub fn is_known(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || parse(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(add: &[&str], drop: &[&str]) -> Option<u64> {
        let owned = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
        let changes = CapabilityChanges {
            add: owned(add),
            drop: owned(drop),
        };
        CapabilitySet::with_changes(&changes)
            .ok()
            .map(CapabilitySet::bits)
    }

    #[test]
    fn changes_apply_as_docker_does() {
        let default = CapabilitySet::DEFAULT.bits();
        let all = CapabilitySet::ALL.bits();
        for (add, drop, expected) in [
            (&[][..], &[][..], Some(default)),
            (&["NET_ADMIN"], &[], Some(default | 1 << 12)),
            (
                &["cap_net_admin"],
                &["Chown"],
                Some((default | 1 << 12) & !1),
            ),
            (&[], &["ALL"], Some(0)),
            (&["CHOWN"], &["ALL"], Some(1)),
            (&["ALL"], &[], Some(all)),
            (&["all"], &["CAP_SYS_ADMIN"], Some(all & !(1 << 21))),
            (&["CHOWN"], &["CHOWN"], Some(default)),
            (&["ALL"], &["ALL", "CHOWN"], Some(all & !1)),
            (&["CAP_CAP_CHOWN"], &[], None),
            (&["FLY"], &[], None),
            (&[""], &[], None),
        ] {
            assert_eq!(changed(add, drop), expected, "+{add:?} -{drop:?}");
        }
    }

    #[test]
    fn default_has_dockers_fourteen() {
        assert_eq!(CapabilitySet::DEFAULT.bits().count_ones(), 14);
        for name in ["CHOWN", "SETFCAP", "AUDIT_WRITE", "NET_RAW", "MKNOD"] {
            assert!(
                CapabilitySet::DEFAULT.intersects(parse(name).unwrap()),
                "{name}"
            );
        }
        for name in [
            "SYS_ADMIN",
            "SYS_PTRACE",
            "NET_ADMIN",
            "BPF",
            "DAC_READ_SEARCH",
        ] {
            assert!(
                !CapabilitySet::DEFAULT.intersects(parse(name).unwrap()),
                "{name}"
            );
        }
    }

    #[test]
    fn an_older_kernel_has_fewer() {
        assert_eq!(CapabilitySet::known_to(37).bits(), (1 << 38) - 1);
        assert_eq!(CapabilitySet::known_to(40), CapabilitySet::ALL);
        assert_eq!(CapabilitySet::known_to(63), CapabilitySet::ALL);
    }
}
