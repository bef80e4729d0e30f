//! Why a controller could not do what it was asked.

/// A failed request to a [`crate::Controller`] or [`crate::Executor`].
///
/// The text is shown to users as the task's error: one sentence that names the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Passes by itself: the same request is made again later, without limit (S2.06).
    #[error("{0}")]
    Temporary(String),
    /// The task cannot go on: it is rejected or fails (S2.06).
    #[error("{0}")]
    Fatal(String),
}

impl Error {
    /// A lasting error with the whole chain of causes as its text.
    #[must_use]
    pub fn fatal(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Fatal(chain(error))
    }

    /// A passing error with the whole chain of causes as its text.
    #[must_use]
    pub fn temporary(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Temporary(chain(error))
    }
}

/// `what: because: because`, leaving out a cause its parent already ends with.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let because = error.to_string();
        if !text.ends_with(&because) {
            text.push_str(": ");
            text.push_str(&because);
        }
        cause = error.source();
    }
    text
}
