//! Counts how often the kernel was looked at, and how often it was not as it should be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::plan::Kind;

/// The counts, shared by all who count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    passes: AtomicU64,
    pass_last_us: AtomicU64,
    repairs: [AtomicU64; Kind::ALL.len()],
    refusals: AtomicU64,
}

/// The counts at one moment, since the daemon was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Comparisons of all of the kernel's state with what it should be.
    pub passes: u64,
    /// How long the last one took.
    pub pass_last: Duration,
    /// Differences found that nobody had asked for, by kind.
    pub repairs: BTreeMap<Kind, u64>,
    /// Changes the kernel refused.
    pub refusals: u64,
}

impl Counters {
    pub(crate) fn count_pass(&self, took: Duration) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.pass_last_us.store(micros, Ordering::Relaxed);
    }

    pub(crate) fn count_repair(&self, kind: Kind) {
        self.repairs[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refusal(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Counts {
        let repairs = Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.repairs[kind as usize].load(Ordering::Relaxed)));
        Counts {
            passes: self.passes.load(Ordering::Relaxed),
            pass_last: Duration::from_micros(self.pass_last_us.load(Ordering::Relaxed)),
            repairs: repairs.collect(),
            refusals: self.refusals.load(Ordering::Relaxed),
        }
    }
}
