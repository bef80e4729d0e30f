//! Clusters that are asked from this machine: which there are, and which one is meant.

mod document;
mod shelf;
mod verbs;

pub(crate) use document::{Document, Way};
pub(crate) use shelf::{DEFAULT, Shelf};
pub(crate) use verbs::{Verb, save};
