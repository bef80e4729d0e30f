//! Writing to standard output, where the reader may have gone away.

use std::io::{self, Write as _};

/// Writes a text and a line end.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    write(&format!("{text}\n"))
}

/// Writes a text as it is.
pub(crate) fn write(text: &str) -> io::Result<()> {
    bytes(text.as_bytes())
}

/// Writes bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Tells the user something beside the output; nothing can be done when that fails.
pub(crate) fn note(text: impl std::fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
