//! Between messages and nouns: towards the wire never fails, from it names the wrong field.

mod access;
mod check;
mod cluster;
mod content;
mod network;
mod node;
mod reach;
mod service;
pub mod task;
#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::time::Duration;

use types::{Meta, Timestamp, Version};

use crate::objects;

/// A message whose field does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConvertError {
    /// Name of the field as in the `.proto` file.
    pub field: &'static str,
    /// What is wrong with its value.
    pub problem: String,
}

impl ConvertError {
    /// An error of this field.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
        }
    }
}

/// Reads an id, or anything else with a textual form.
///
/// # Errors
/// When the text is not of that form.
pub fn parse<T: FromStr>(field: &'static str, text: &str) -> Result<T, ConvertError>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| ConvertError::new(field, error.to_string()))
}

/// A sub-message that has to be there.
fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing"))
}

/// An enum's number that has to be known.
fn known<T: TryFrom<i32>>(field: &'static str, number: i32) -> Result<T, ConvertError> {
    T::try_from(number).map_err(|_| ConvertError::new(field, format!("unknown value {number}")))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Both directions between an enum of ours and the generated one.
macro_rules! enums {
    ($ours:ty, $wire:ty, $($variant:ident = $wired:ident),+ $(,)?) => {
        impl From<$ours> for $wire {
            fn from(value: $ours) -> Self {
                match value {
                    $(<$ours>::$variant => Self::$wired,)+
                }
            }
        }
        impl From<$wire> for $ours {
            fn from(value: $wire) -> Self {
                match value {
                    $(<$wire>::$wired => Self::$variant,)+
                }
            }
        }
    };
}
use enums;

impl From<&Meta> for objects::Meta {
    fn from(meta: &Meta) -> Self {
        Self {
            version: meta.version.index,
            created_at: meta.created_at.0,
            updated_at: meta.updated_at.0,
        }
    }
}

impl From<objects::Meta> for Meta {
    fn from(meta: objects::Meta) -> Self {
        Self {
            version: Version {
                index: meta.version,
            },
            created_at: Timestamp(meta.created_at),
            updated_at: Timestamp(meta.updated_at),
        }
    }
}
