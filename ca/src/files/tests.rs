//! Crashes at every step of a change.
