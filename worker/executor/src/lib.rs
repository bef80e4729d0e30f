//! The contract between agent and runtime: controllers and the step that drives one task.
