//! The table of decisions.
