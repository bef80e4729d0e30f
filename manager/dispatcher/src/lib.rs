//! Telling workers: sessions, heartbeats, assignments, statuses.
