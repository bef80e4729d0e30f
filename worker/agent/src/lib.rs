//! Talks to managers: session, assignments, reports; keeps the node's tasks.
