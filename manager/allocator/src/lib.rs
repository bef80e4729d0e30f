//! What tasks hold: node-independent resources a task needs before it is scheduled.
