//! Wires the manager's parts together: the member, and the loops of the leader.
