//! Environment variables: `NAME=value`, `NAME` for the caller's own, and files of them.

use std::path::Path;

use crate::error::Error;

/// The variable as the container gets it; none when the caller does not have it either.
pub(crate) fn variable(
    text: &str,
    own: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("{text:?} must be NAME=value or NAME")),
        Some(_) => Ok(Some(text.to_owned())),
        None if text.is_empty() => Err("an environment variable needs a name".to_owned()),
        None => Ok(own(text).map(|value| format!("{text}={value}"))),
    }
}

/// The variables of a file: one a line, `#` begins a comment line, blanks before are dropped.
pub(crate) fn file(
    path: &Path,
    own: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    lines(&text, own).map_err(|(line, problem)| {
        Error::Usage(format!("{}, line {line}: {problem}", path.display()))
    })
}

fn lines(text: &str, own: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, (usize, String)> {
    let mut variables = vec![];
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.contains(char::is_whitespace) {
            return Err((index + 1, format!("variable {name:?} contains blanks")));
        }
        variables.extend(variable(line, &own).map_err(|problem| (index + 1, problem))?);
    }
    Ok(variables)
}

/// Later ones win over earlier ones of the same name, in the place of the first.
pub(crate) fn merge(variables: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut merged: Vec<String> = vec![];
    for variable in variables {
        let name = name(&variable);
        match merged.iter_mut().find(|known| self::name(known) == name) {
            Some(known) => *known = variable,
            None => merged.push(variable),
        }
    }
    merged
}

/// The part before `=`.
pub(crate) fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn variables() {
        assert_eq!(variable("A=b=c", own), Ok(Some("A=b=c".into())));
        assert_eq!(variable("A=", own), Ok(Some("A=".into())));
        assert_eq!(variable("HOME", own), Ok(Some("HOME=/root".into())));
        assert_eq!(variable("NOPE", own), Ok(None));
        assert!(variable("=x", own).is_err());
        assert!(variable("", own).is_err());
    }

    #[test]
    fn files() {
        let text = "\u{feff}# comment\n\n  A=1 2\nHOME\nNOPE\n  # more\nB=\n";
        assert_eq!(lines(text, own).unwrap(), ["A=1 2", "HOME=/root", "B="]);
        let (line, problem) = lines("A=1\nB C=1\n", own).unwrap_err();
        assert_eq!(
            (line, problem.as_str()),
            (2, "variable \"B C\" contains blanks")
        );
    }

    #[test]
    fn later_ones_win() {
        let given = ["A=1", "B=2", "A=3"].map(String::from);
        assert_eq!(merge(given), ["A=3", "B=2"]);
    }
}
