//! Where tasks run: filters and spread.
