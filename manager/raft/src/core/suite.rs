//! The library's own tests of a log and a state machine, on ours.
