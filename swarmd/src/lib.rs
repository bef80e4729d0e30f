//! The daemon on every node: options, listeners, identity, role changes, shutdown.
