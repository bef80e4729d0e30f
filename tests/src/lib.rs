//! Harness and tests of the whole.
