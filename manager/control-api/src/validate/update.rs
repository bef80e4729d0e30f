//! Pace of updates and rollbacks.

use types::update::UpdateConfig;

use super::{Checked, Invalid};

/// The share of failures tolerated is a share (S20.08).
///
/// # Errors
/// When it is not between 0 and 1.
pub fn update_config(field: &str, config: &UpdateConfig) -> Checked {
    let ratio = config.max_failure_ratio;
    if (0.0..=1.0).contains(&ratio) {
        return Ok(());
    }
    Err(Invalid::new(
        format!("{field}.MaxFailureRatio"),
        format!("update-maxfailureratio {ratio} is out of range: it must be between 0 and 1"),
    ))
}
