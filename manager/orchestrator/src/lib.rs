//! Which tasks exist: reconciling services, restarts, updates, history.
