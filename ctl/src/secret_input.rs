//! Taking a secret without showing it: from a file or standard input, since what stands on a
//! command line can be read by every process of the machine.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::Error;
use crate::output;

/// A secret is one short line; a larger file is the wrong file.
const LEN_MAX: u64 = 4096;
/// What Ctrl-C types.
const INTERRUPT: char = '\x03';

/// The secret given by value (`-` means standard input) or by file.
pub(crate) fn secret(
    what: &str,
    value: Option<String>,
    file: Option<&Path>,
) -> Result<String, Error> {
    match (value, file) {
        (Some(value), _) if value != "-" => Ok(value),
        (Some(_), _) => standard_input(what),
        (None, Some(path)) if path == Path::new("-") => standard_input(what),
        (None, Some(path)) => {
            let file = std::fs::File::open(path);
            let read = file.and_then(read);
            let text = read.map_err(|source| Error::File {
                path: path.to_owned(),
                source,
            })?;
            one_line(what, &text)
        }
        (None, None) => Err(Error::Usage(format!(
            "a {what} is needed: --{what} TEXT, --{what} - or --{what}-file FILE"
        ))),
    }
}

/// A secret typed at a terminal, where it is not shown, or read from standard input.
pub(crate) fn hidden(what: &str) -> Result<String, Error> {
    let failed = |error| Error::Failed(format!("reading the {what} from standard input: {error}"));
    let input = std::io::stdin();
    if !input.is_terminal() {
        return standard_input(what);
    }
    eprint!("Enter {what}: ");
    let silence = Silence::new().map_err(failed)?;
    let mut line = String::new();
    let read = input.read_line(&mut line);
    drop(silence);
    eprintln!();
    read.map_err(failed)?;
    if line.contains(INTERRUPT) {
        return Err(Error::Interrupted("nothing was done".to_owned()));
    }
    one_line(what, &line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence {
    before: Termios,
}

impl Silence {
    fn new() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        // An interrupt is read as a character, so that it cannot leave the terminal mute.
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // The terminal is gone when this fails.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn standard_input(what: &str) -> Result<String, Error> {
    let input = std::io::stdin();
    if input.is_terminal() {
        output::note(format!("Paste the {what} and press Enter, then Ctrl-D:"));
    }
    let text = read(input).map_err(|error| {
        Error::Failed(format!("reading the {what} from standard input: {error}"))
    })?;
    one_line(what, &text)
}

fn read(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn one_line(what: &str, text: &str) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::Usage(format!("the {what} is empty")));
    }
    if text.contains(char::is_whitespace) {
        return Err(Error::Usage(format!(
            "the {what} must be one word on one line"
        )));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_word() {
        assert_eq!(one_line("token", " SWMTKN-1\n").unwrap(), "SWMTKN-1");
        assert!(one_line("token", "\n").is_err());
        assert!(one_line("token", "a\nb").is_err());
    }

    #[test]
    fn files_are_read_and_missing_ones_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "SWMTKN-1-x\n").unwrap();
        assert_eq!(secret("token", None, Some(&path)).unwrap(), "SWMTKN-1-x");
        let missing = secret("token", None, Some(&dir.path().join("nope"))).unwrap_err();
        assert!(missing.to_string().contains("nope"), "{missing}");
        assert_eq!(secret("token", None, None).unwrap_err().exit_code(), 2);
        assert_eq!(secret("token", Some("x".into()), None).unwrap(), "x");
    }
}
