//! Wires the manager's parts together: the member, and the loops of the leader.
//!
//! | owned task | where | ends |
//! |---|---|---|
//! | leadership: starts and stops everything below | [`Member::run`] | its token |
//! | one driver for each planner | `leader` | leadership lost |
//! | roles: takes demoted managers out of the group | `roles` | leadership lost |
//! | whatever else only a leader does, given by the daemon | [`LeaderPart`] | leadership lost |

mod driver;
mod feed;
mod leader;
mod machine;
mod member;
mod proposer;
mod roles;

pub use leader::LeaderPart;
pub use machine::StoreMachine;
pub use member::Member;
pub use proposer::RaftProposer;
