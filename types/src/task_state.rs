//! The states of a task, their order, and who may set each.

use std::fmt;
use std::str::FromStr;

/// How far a task has come. States only ever grow (S2.01); the numbers are Swarm's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum TaskState {
    /// Created.
    #[default]
    New = 0,
    /// Holds all node-independent resources; waits for a node.
    Pending = 64,
    /// A node was chosen.
    Assigned = 192,
    /// The node's agent has it.
    Accepted = 256,
    /// Image, networks and mounts are being made ready.
    Preparing = 320,
    /// Prepared; waits for a desired state beyond READY.
    Ready = 384,
    /// The container is being started.
    Starting = 448,
    /// The container runs.
    Running = 512,
    /// It ended by itself with exit code 0.
    Complete = 576,
    /// It was stopped because it was asked to.
    Shutdown = 640,
    /// It ended with an error from STARTING on.
    Failed = 704,
    /// It could not be prepared, or its node no longer fits.
    Rejected = 768,
    /// Only ever desired: stop, then delete.
    Remove = 800,
    /// Its node is gone; nothing is known of it.
    Orphaned = 832,
}

/// The part of the system that may move a task into a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Creates tasks.
    Orchestrator,
    /// Gives node-independent resources.
    Allocator,
    /// Chooses nodes; also ends tasks that never got one.
    Scheduler,
    /// Runs tasks.
    Agent,
    /// Notices nodes that are gone.
    Dispatcher,
    /// Nobody observes this state; it is only desired.
    Nobody,
}

impl TaskState {
    /// Every state, in order.
    pub const ALL: [Self; 14] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Remove,
        Self::Orphaned,
    ];

    /// Who sets this state. The constraint enforcer, part of the orchestrator, may also reject.
    #[must_use]
    pub fn owner(self) -> Owner {
        match self {
            Self::New => Owner::Orchestrator,
            Self::Pending => Owner::Allocator,
            Self::Assigned => Owner::Scheduler,
            Self::Accepted
            | Self::Preparing
            | Self::Ready
            | Self::Starting
            | Self::Running
            | Self::Complete
            | Self::Shutdown
            | Self::Failed
            | Self::Rejected => Owner::Agent,
            Self::Remove => Owner::Nobody,
            Self::Orphaned => Owner::Dispatcher,
        }
    }

    /// True once the task will never run again (S2.04).
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self >= Self::Complete
    }

    /// The later of two states: how a report is merged into what is known (S2.01, S2.02).
    #[must_use]
    pub fn advance(self, to: Self) -> Self {
        self.max(to)
    }

    /// Swarm's number of the state, as on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The state with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.number() == number)
    }

    /// Lower-case name, as Docker's API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TaskState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("{text:?} is not a task state"))
    }
}

impl serde::Serialize for TaskState {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for TaskState {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_numbers_and_names_agree() {
        for pair in TaskState::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].number() < pair[1].number());
        }
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_number(state.number()), Some(state));
            assert_eq!(state.as_str().parse(), Ok(state));
            for other in TaskState::ALL {
                assert!(state.advance(other) >= state, "a task never goes backwards");
            }
        }
        assert_eq!(TaskState::from_number(1), None);
    }
}
