//! Networks as users make, see and remove them.
