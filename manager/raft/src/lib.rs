//! How truth is agreed: log, snapshots, membership and transport of the Raft group.
